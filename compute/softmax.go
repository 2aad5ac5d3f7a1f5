package compute

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// SoftmaxConfig has no choices.
type SoftmaxConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[SoftmaxConfig]{
		Name: "softmax", Room: stages.Compute, Pipe: stages.D, Twin: "softmax_backward",
		Summary: "Softmax over the last dimension.", Example: "softmax: {}",
		Contract: func(SoftmaxConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{float("x", "... C")}, Out: []stages.Port{float("y", "... C")}}
		},
		New: func(env stages.Env, _ SoftmaxConfig) (stages.Stage, error) {
			return &softmax{env.Ports["x"].Slot, env.Ports["y"].Slot}, nil
		},
	})
}

type softmax struct{ x, y stages.Slot }

// Process: y = softmax(x) row by row, both (...,C).
func (s *softmax) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y := m.T(s.x), m.T(s.y)
	y.ResizeAs(x)
	c := x.Last()
	kernel.SoftmaxRows(y.F32, x.F32, x.Rows(), c, c, 1, false)
	return out.Send(m)
}
