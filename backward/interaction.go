package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// InteractionConfig is the config of interaction.
type InteractionConfig struct {
	Keep bool `yaml:"keep"`
}

func init() {
	stages.MustRegister(stages.Spec[InteractionConfig]{
		Name: "interaction_backward", Room: stages.Backward, Pipe: stages.D, Summary: "Gradients of interaction.",
		Contract: func(InteractionConfig) stages.Contract { return stages.Contract{Reads: []string{"all"}} },
		New: func(env stages.Env, c InteractionConfig) (stages.Stage, error) {
			s := &interaction{dy: env.Ports["y"].Grad, all: env.Ports["all"].Slot, dall: env.Ports["dall"].Slot,
				gx: inputGrad(env, "x"), gv: inputGrad(env, "v"), keep: c.Keep, team: env.Team}
			s.share = s.some
			return s, nil
		},
	})
}

type interaction struct {
	dy, all, dall stages.Slot
	gx, gv        grad
	keep          bool
	team          *stages.Team
	m             *stages.Message
	dx, dv        []float32
	share         func(lo, hi int)
}

// shareExamples is the number of examples below which it doesn't pay to share them out.
const shareExamples = 8

// Process: du_i = sum over j != i of dy_ij·u_j, j ascending; dx = du_0 (+ dy of x itself if keep), dv = du_1.. dy (B,P), dx (B,D), dv (B,N,D).
func (s *interaction) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	all := m.T(s.all)
	B, F, D := all.Shape.Dims[0], all.Shape.Dims[1], all.Shape.Dims[2]
	s.m, s.dx, s.dv = m, s.gx.at(m, tensor.Of(B, D)), s.gv.at(m, tensor.Of(B, F-1, D))
	if s.dx != nil && s.dv != nil && !s.gx.acc && !s.gv.acc {
		s.team.Units(B, shareExamples, B*F*F*D >= shareProduct, s.share)
	} else {
		s.added(B)
	}
	s.m = nil
	return out.Send(m)
}

// of gives what an example's gradients are made of: dy of its dots, dy of x itself (nil where that is not kept), and its vectors.
func (s *interaction) of(b int) (dots, first, u []float32) {
	dy, all := s.m.T(s.dy), s.m.T(s.all)
	P, n := dy.Last(), all.Shape.Dims[1]*all.Shape.Dims[2]
	dots, u = dy.F32[b*P:(b+1)*P], all.F32[b*n:(b+1)*n]
	if s.keep {
		D := all.Shape.Dims[2]
		dots, first = dots[D:], dots[:D]
	}
	return dots, first, u
}

// some makes the gradients of the examples lo to hi-1.
func (s *interaction) some(lo, hi int) {
	all := s.m.T(s.all)
	F, D := all.Shape.Dims[1], all.Shape.Dims[2]
	for b := lo; b < hi; b++ {
		dots, first, u := s.of(b)
		dx := s.dx[b*D : b*D+D]
		kernel.PairDotsBackward(F, D, dots, u, dx, s.dv[b*(F-1)*D:(b+1)*(F-1)*D])
		if s.keep {
			kernel.AddTo(dx, first)
		}
	}
}

// added is some for all examples where a gradient is added to what is there, or not wanted.
func (s *interaction) added(B int) {
	all, du := s.m.T(s.all), s.m.T(s.dall)
	F, D := all.Shape.Dims[1], all.Shape.Dims[2]
	put := func(dst, src []float32, acc bool) {
		if acc {
			kernel.AddTo(dst, src)
		} else {
			copy(dst, src)
		}
	}
	for b := range B {
		dots, first, u := s.of(b)
		kernel.PairDotsBackward(F, D, dots, u, du.F32[:D], du.F32[D:F*D])
		if s.dx != nil {
			if s.keep {
				kernel.AddTo(du.F32[:D], first)
			}
			put(s.dx[b*D:b*D+D], du.F32[:D], s.gx.acc)
		}
		if s.dv != nil {
			put(s.dv[b*(F-1)*D:(b+1)*(F-1)*D], du.F32[D:F*D], s.gv.acc)
		}
	}
}
