package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// SoftmaxConfig has no choices.
type SoftmaxConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[SoftmaxConfig]{
		Name: "softmax_backward", Room: stages.Backward, Pipe: stages.D, Summary: "Gradient of softmax.",
		Contract: func(SoftmaxConfig) stages.Contract { return stages.Contract{Reads: []string{"y"}} },
		New: func(env stages.Env, _ SoftmaxConfig) (stages.Stage, error) {
			return &softmax{env.Ports["y"].Slot, env.Ports["y"].Grad, inputGrad(env, "x")}, nil
		},
	})
}

type softmax struct {
	y, dy stages.Slot
	gx    grad
}

// Process: dx = y·(dy - dy·y) row by row, all (...,C). Where dx has a value already, the gradient is made in dy, which nobody reads afterwards.
func (s *softmax) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	y, dy := m.T(s.y), m.T(s.dy)
	dx := s.gx.as(m, y)
	if dx == nil {
		return out.Send(m)
	}
	to, c := dx, y.Last()
	if s.gx.acc {
		to = dy.F32
	}
	kernel.SoftmaxBackward(to, dy.F32, y.F32, y.Rows(), c, c, 1, false)
	if s.gx.acc {
		kernel.AddTo(dx, to)
	}
	return out.Send(m)
}
