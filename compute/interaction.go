package compute

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// InteractionConfig is what a user may write under interaction.
type InteractionConfig struct {
	Keep bool `yaml:"keep" doc:"Put the first vector itself before the dots."`
}

func init() {
	stages.MustRegister(stages.Spec[InteractionConfig]{
		Name: "interaction", Room: stages.Compute, Pipe: stages.D, Twin: "interaction_backward",
		Summary: "Dot products of all pairs of vectors: x and the vectors of v.", Source: "Naumov et al. 2019, arXiv:1906.00091 (DLRM), section 2.1",
		Example: "interaction: {in: [bottom, emb]}",
		Default: func() InteractionConfig { return InteractionConfig{Keep: true} },
		Contract: func(c InteractionConfig) stages.Contract {
			return stages.Contract{
				In: []stages.Port{float("x", "B D"), float("v", "B N D")}, Out: []stages.Port{float("y", "B P")},
				Keep: []stages.Port{float("all", "B F D"), float("dall", "F D")},
				Derive: func(v map[string]int) error {
					v["F"] = v["N"] + 1
					v["P"] = v["F"] * v["N"] / 2
					if c.Keep {
						v["P"] += v["D"]
					}
					return nil
				},
				Flops: func(v map[string]int) int64 { return int64(v["B"]) * int64(v["F"]) * int64(v["N"]) * int64(v["D"]) },
			}
		},
		New: func(env stages.Env, c InteractionConfig) (stages.Stage, error) {
			s := &interaction{x: env.Ports["x"].Slot, v: env.Ports["v"].Slot, y: env.Ports["y"].Slot, all: env.Ports["all"].Slot,
				p: env.Vars["P"], keep: c.Keep, team: env.Team}
			s.share = s.some
			return s, nil
		},
	})
}

type interaction struct {
	x, v, y, all stages.Slot
	p            int
	keep         bool
	team         *stages.Team
	m            *stages.Message
	share        func(lo, hi int)
}

// shareExamples is the number of examples below which it doesn't pay to share them out.
const shareExamples = 8

// Process: with the vectors u_0 = x, u_1.. = v, y = [x if keep,] u_1·u_0, u_2·u_0, u_2·u_1, ... (i ascending, j < i). x (B,D), v (B,N,D), y (B,P).
func (s *interaction) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	v, y, all := m.T(s.v), m.T(s.y), m.T(s.all)
	B, N, D := v.Shape.Dims[0], v.Shape.Dims[1], v.Shape.Dims[2]
	y.Resize(tensor.Of(B, s.p))
	all.Resize(tensor.Of(B, N+1, D))
	s.m = m
	s.team.Units(B, shareExamples, B*N*N*D >= shareProduct, s.share)
	s.m = nil
	return out.Send(m)
}

// some works on the examples lo to hi-1.
func (s *interaction) some(lo, hi int) {
	x, v, y, all := s.m.T(s.x), s.m.T(s.v), s.m.T(s.y), s.m.T(s.all)
	N, D := v.Shape.Dims[1], v.Shape.Dims[2]
	F := N + 1
	for b := lo; b < hi; b++ {
		u := all.F32[b*F*D : (b+1)*F*D]
		copy(u[:D], x.F32[b*D:b*D+D])
		copy(u[D:], v.F32[b*N*D:(b+1)*N*D])
		row := y.F32[b*s.p : (b+1)*s.p]
		if s.keep {
			copy(row, u[:D])
			row = row[D:]
		}
		kernel.PairDots(F, D, u, row)
	}
}
