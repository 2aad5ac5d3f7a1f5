package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// ScaleConfig is the config of scale.
type ScaleConfig struct {
	By float64 `yaml:"by"`
}

func init() {
	stages.MustRegister(stages.Spec[ScaleConfig]{
		Name: "scale_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradient of scale.",
		Contract: func(ScaleConfig) stages.Contract { return stages.Contract{} },
		New: func(env stages.Env, c ScaleConfig) (stages.Stage, error) {
			return &scale{env.Ports["y"].Grad, inputGrad(env, "x"), float32(c.By)}, nil
		},
	})
}

type scale struct {
	dy stages.Slot
	gx grad
	by float32
}

// Process: dx = by·dy, both (...).
func (s *scale) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	dy := m.T(s.dy)
	if dx := s.gx.as(m, dy); dx != nil {
		if s.gx.acc {
			kernel.Axpy(s.by, dy.F32, dx)
		} else {
			kernel.Scale(dx, dy.F32, s.by)
		}
	}
	return out.Send(m)
}
