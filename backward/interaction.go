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
			return &interaction{env.Ports["y"].Grad, env.Ports["all"].Slot, env.Ports["dots"].Slot, env.Ports["dall"].Slot,
				inputGrad(env, "x"), inputGrad(env, "v"), c.Keep}, nil
		},
	})
}

type interaction struct {
	dy, all, dots, dall stages.Slot
	gx, gv              grad
	keep                bool
}

// Process: du_i = sum over j != i of dy_ij·u_j, j ascending; dx = du_0 (+ dy of x itself if keep), dv = du_1.. dy (B,P), dx (B,D), dv (B,N,D).
func (s *interaction) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	dy, all, sym, du := m.T(s.dy), m.T(s.all), m.T(s.dots), m.T(s.dall)
	B, F, D := all.Shape.Dims[0], all.Shape.Dims[1], all.Shape.Dims[2]
	P := dy.Last()
	dx := s.gx.at(m, tensor.Of(B, D))
	dv := s.gv.at(m, tensor.Of(B, F-1, D))
	for b := range B {
		row := dy.F32[b*P : (b+1)*P]
		first := row
		if s.keep {
			row = row[D:]
		}
		for i := range F { // the symmetric matrix of dy_ij with a zero diagonal
			sym.F32[i*F+i] = 0
			for j := range i {
				sym.F32[i*F+j], sym.F32[j*F+i] = row[j], row[j]
			}
			row = row[i:]
		}
		kernel.Gemm(kernel.NN, F, D, F, sym.F32, F, all.F32[b*F*D:], D, du.F32, D, false)
		if dx != nil {
			d := dx[b*D : b*D+D]
			if s.keep {
				kernel.AddTo(du.F32[:D], first[:D])
			}
			if s.gx.acc {
				kernel.AddTo(d, du.F32[:D])
			} else {
				copy(d, du.F32[:D])
			}
		}
		if dv != nil {
			d := dv[b*(F-1)*D : (b+1)*(F-1)*D]
			if s.gv.acc {
				kernel.AddTo(d, du.F32[D:F*D])
			} else {
				copy(d, du.F32[D:F*D])
			}
		}
	}
	return out.Send(m)
}
