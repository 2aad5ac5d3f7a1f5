package compute

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// ScaleConfig is what a user may write under scale.
type ScaleConfig struct {
	By float64 `yaml:"by" required:"true" doc:"Factor."`
}

func init() {
	stages.MustRegister(stages.Spec[ScaleConfig]{
		Name: "scale", Room: stages.Compute, Pipe: stages.S, Twin: "scale_backward",
		Summary: "y = by·x.", Example: "scale: {by: 0.5}",
		Contract: func(ScaleConfig) stages.Contract { return mapContract() },
		New: func(env stages.Env, c ScaleConfig) (stages.Stage, error) {
			return &scale{env.Ports["x"].Slot, env.Ports["y"].Slot, float32(c.By)}, nil
		},
	})
}

type scale struct {
	x, y stages.Slot
	by   float32
}

// Process: y = by·x, both (...).
func (s *scale) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y := m.T(s.x), m.T(s.y)
	y.ResizeAs(x)
	kernel.Scale(y.F32, x.F32, s.by)
	return out.Send(m)
}
