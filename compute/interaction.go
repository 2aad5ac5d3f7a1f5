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
				Keep: []stages.Port{float("all", "B F D"), float("dots", "F F"), float("dall", "F D")},
				Derive: func(v map[string]int) error {
					v["F"] = v["N"] + 1
					v["P"] = v["F"] * v["N"] / 2
					if c.Keep {
						v["P"] += v["D"]
					}
					return nil
				},
				Flops: func(v map[string]int) int64 { return 2 * int64(v["B"]) * int64(v["F"]) * int64(v["F"]) * int64(v["D"]) },
			}
		},
		New: func(env stages.Env, c InteractionConfig) (stages.Stage, error) {
			return &interaction{env.Ports["x"].Slot, env.Ports["v"].Slot, env.Ports["y"].Slot, env.Ports["all"].Slot, env.Ports["dots"].Slot,
				env.Vars["P"], c.Keep}, nil
		},
	})
}

type interaction struct {
	x, v, y, all, dots stages.Slot
	p                  int
	keep               bool
}

// Process: with the vectors u_0 = x, u_1.. = v, y = [x if keep,] u_1·u_0, u_2·u_0, u_2·u_1, ... (i ascending, j < i). x (B,D), v (B,N,D), y (B,P).
func (s *interaction) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, v, y, all, dots := m.T(s.x), m.T(s.v), m.T(s.y), m.T(s.all), m.T(s.dots)
	B, N, D := v.Shape.Dims[0], v.Shape.Dims[1], v.Shape.Dims[2]
	F := N + 1
	y.Resize(tensor.Of(B, s.p))
	all.Resize(tensor.Of(B, F, D))
	for b := range B {
		u := all.F32[b*F*D : (b+1)*F*D]
		copy(u[:D], x.F32[b*D:b*D+D])
		copy(u[D:], v.F32[b*N*D:(b+1)*N*D])
		kernel.Gemm(kernel.NT, F, F, D, u, D, u, D, dots.F32, F, false)
		row := y.F32[b*s.p : (b+1)*s.p]
		if s.keep {
			copy(row, u[:D])
			row = row[D:]
		}
		for i := 1; i < F; i++ {
			copy(row, dots.F32[i*F:i*F+i])
			row = row[i:]
		}
	}
	return out.Send(m)
}
