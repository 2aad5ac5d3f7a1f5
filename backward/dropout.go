package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// DropoutConfig has nothing that the gradient needs.
type DropoutConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[DropoutConfig]{
		Name: "dropout_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradient of dropout.",
		Contract: func(DropoutConfig) stages.Contract { return stages.Contract{Reads: []string{"mask"}} },
		New: func(env stages.Env, _ DropoutConfig) (stages.Stage, error) {
			return &dropout{env.Ports["y"].Grad, env.Ports["mask"].Slot, inputGrad(env, "x")}, nil
		},
	})
}

type dropout struct {
	dy, mask stages.Slot
	gx       grad
}

// Process: dx = dy·mask, all (...).
func (s *dropout) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	dy, mask := m.T(s.dy), m.T(s.mask)
	if dx := s.gx.as(m, dy); dx != nil {
		if s.gx.acc {
			kernel.MulAdd(dx, dy.F32, mask.F32)
		} else {
			kernel.Mul(dx, dy.F32, mask.F32)
		}
	}
	return out.Send(m)
}
