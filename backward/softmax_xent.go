package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// XentConfig has nothing that the gradient needs.
type XentConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[XentConfig]{
		Name: "softmax_xent_backward", Room: stages.Backward, Pipe: stages.D, Summary: "Gradient of softmax_xent.",
		Contract: func(XentConfig) stages.Contract { return stages.Contract{Reads: []string{"probs", "y"}} },
		New: func(env stages.Env, _ XentConfig) (stages.Stage, error) {
			return &xent{env.Ports["y"].Slot, env.Ports["probs"].Slot, inputGrad(env, "x")}, nil
		},
	})
}

type xent struct {
	y, probs stages.Slot
	gx       grad
}

// Process: dx = (probs - onehot(y))/n for n targets in the step; 0 where y is -1. probs, dx (...,V), y (...).
func (s *xent) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	p := m.T(s.probs)
	if dx := s.gx.as(m, p); dx != nil {
		rows := p.Rows()
		kernel.SoftmaxXentBackward(dx, p.F32, m.T(s.y).I32, rows, p.Last(), float32(1/m.Mean(rows, true)), s.gx.acc)
	}
	return out.Send(m)
}
