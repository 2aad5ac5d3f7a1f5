package backward

import (
	"context"

	"vtpu/stages"
)

// FlattenConfig has no choices.
type FlattenConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[FlattenConfig]{
		Name: "flatten_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradient of flatten.",
		Contract: func(FlattenConfig) stages.Contract { return stages.Contract{Reads: []string{"x"}} }, // its shape
		New: func(env stages.Env, _ FlattenConfig) (stages.Stage, error) {
			return &flatten{env.Ports["x"].Slot, env.Ports["y"].Grad, inputGrad(env, "x")}, nil
		},
	})
}

type flatten struct {
	x, dy stages.Slot
	gx    grad
}

// Process: dx (B,...) is dy (B,F).
func (s *flatten) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	s.gx.add(m, m.T(s.x).Shape, m.T(s.dy).F32)
	return out.Send(m)
}
