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
		Contract: func(XentConfig) stages.Contract {
			return stages.Contract{Reads: []string{"probs", "y"}, GradFlops: func(v map[string]int, _ func(string) bool) int64 { return 2 * int64(v["..."]) * int64(v["V"]) }}
		},
		New: func(env stages.Env, _ XentConfig) (stages.Stage, error) {
			s := &xent{y: env.Ports["y"].Slot, probs: env.Ports["probs"].Slot, gx: inputGrad(env, "x"), team: env.Team}
			s.share = s.some
			return s, nil
		},
	})
}

type xent struct {
	y, probs stages.Slot
	gx       grad
	team     *stages.Team
	share    func(lo, hi int)
	m        *stages.Message // in Process
	scale    float32
}

// some is the gradient of the rows lo to hi.
func (s *xent) some(lo, hi int) {
	p := s.m.T(s.probs)
	v := p.Last()
	kernel.SoftmaxXentBackward(s.m.T(s.gx.slot).F32[lo*v:hi*v], p.F32[lo*v:hi*v], s.m.T(s.y).I32[lo:hi], hi-lo, v, s.scale, s.gx.acc)
}

// Process: dx = (probs - onehot(y))/n for n targets in the step; 0 where y is -1. probs, dx (...,V), y (...).
func (s *xent) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	p := m.T(s.probs)
	if dx := s.gx.as(m, p); dx != nil {
		rows := p.Rows()
		s.m, s.scale = m, float32(1/m.Mean(rows, true))
		s.team.Units(rows, 1, len(dx) >= 2*shareElems, s.share)
		s.m = nil
	}
	return out.Send(m)
}
