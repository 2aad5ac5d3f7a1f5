package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// ResidualAddConfig has no choices.
type ResidualAddConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[ResidualAddConfig]{
		Name: "residual_add_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradients of residual_add.",
		Contract: func(ResidualAddConfig) stages.Contract { return stages.Contract{Passes: true} },
		New: func(env stages.Env, _ ResidualAddConfig) (stages.Stage, error) {
			return &residualAdd{env.Ports["y"].Grad, inputGrad(env, "x"), inputGrad(env, "skip")}, nil
		},
	})
}

type residualAdd struct {
	dy    stages.Slot
	gx, g grad
}

// Process: dx = dskip = dy, all (...).
func (s *residualAdd) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	dy := m.T(s.dy)
	s.gx.add(m, dy.Shape, dy.F32)
	s.g.add(m, dy.Shape, dy.F32)
	return out.Send(m)
}

// Tape puts Process on a tape.
func (s *residualAdd) Tape(m *stages.Message, t *kernel.Tape) bool {
	dy := m.T(s.dy)
	return s.gx.tape(m, t, dy) && s.g.tape(m, t, dy)
}

// tape puts add on a tape.
func (g grad) tape(m *stages.Message, t *kernel.Tape, v *tensor.Tensor) bool {
	d := g.at(m, v.Shape)
	switch {
	case d == nil, len(d) == 0, &d[0] == &v.F32[0] && !g.acc:
		return true
	case g.acc:
		return t.Add(d, d, v.F32)
	}
	return t.Copy(d, v.F32)
}

// add sets the gradient to v or adds v to it.
func (g grad) add(m *stages.Message, shape tensor.Shape, v []float32) {
	d := g.at(m, shape)
	switch {
	case d == nil, len(d) == 0, &d[0] == &v[0] && !g.acc: // the plan gave both one slot
	case g.acc:
		kernel.AddTo(d, v)
	default:
		copy(d, v)
	}
}
