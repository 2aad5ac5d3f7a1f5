package compute

import (
	"context"
	"fmt"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// XentConfig is what a user may write under softmax_xent.
type XentConfig struct {
	Accuracy bool `yaml:"accuracy" doc:"Count right predictions while training too; evaluation always does."`
}

func init() {
	stages.MustRegister(stages.Spec[XentConfig]{
		Name: "softmax_xent", Room: stages.Loss, Pipe: stages.D, Twin: "softmax_xent_backward",
		Summary: "Cross-entropy of a softmax over the last dimension against class numbers; a target of -1 is padding.",
		Example: "softmax_xent: {}",
		Contract: func(XentConfig) stages.Contract {
			return stages.Contract{
				In: []stages.Port{{Name: "x", Shape: "... V", Doc: "logits"},
					{Name: "y", Shape: "...", DType: tensor.I32, Slot: "y", NoGrad: true, Doc: "class numbers"}},
				Keep:  []stages.Port{{Name: "probs", Shape: "... V", Grad: "x"}, float("losses", "...")},
				Flops: func(v map[string]int) int64 { return 12 * int64(v["..."]) * int64(v["V"]) },
			}
		},
		New: func(env stages.Env, c XentConfig) (stages.Stage, error) {
			s := &xent{env.Ports["x"].Slot, env.Ports["y"].Slot, env.Ports["probs"].Slot, env.Ports["losses"].Slot, c.Accuracy, env.Team, nil, nil}
			s.share = s.some
			return s, nil
		},
	})
}

type xent struct {
	x, y, probs, losses stages.Slot
	accuracy            bool
	team                *stages.Team
	share               func(lo, hi int)
	m                   *stages.Message // in Process
}

// some is the loss of the rows lo to hi.
func (s *xent) some(lo, hi int) {
	x := s.m.T(s.x)
	v := x.Last()
	kernel.SoftmaxXent(s.m.T(s.losses).F32[lo:hi], s.m.T(s.probs).F32[lo*v:hi*v], x.F32[lo*v:hi*v], s.m.T(s.y).I32[lo:hi], hi-lo, v)
}

// Process: probs = softmax(x), losses = -log probs[y], mean over the step's targets. x, probs (...,V), y, losses (...).
func (s *xent) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y, p, l := m.T(s.x), m.T(s.y), m.T(s.probs), m.T(s.losses)
	v, rows := x.Last(), x.Rows()
	p.ResizeAs(x)
	l.ResizeAs(y)
	for i, t := range y.I32 {
		if int(t) >= v || t < -1 {
			return fmt.Errorf("target %d of example %d is outside of the %d classes", t, m.First+i*m.Rows/max(rows, 1), v)
		}
	}
	s.m = m
	s.team.Units(rows, 1, rows*v >= 2*shareElems, s.share)
	s.m = nil
	m.Loss += float64(kernel.Sum(l.F32)) / m.Mean(rows, true)
	if s.accuracy || m.Mode != stages.Train {
		for i, t := range y.I32 {
			if t < 0 {
				continue
			}
			m.Seen++
			if kernel.ArgMax(x.F32[i*v:i*v+v]) == int(t) {
				m.Hits++
			}
		}
	}
	return out.Send(m)
}
