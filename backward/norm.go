package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// NormConfig has nothing that the gradient needs.
type NormConfig struct{}

func init() {
	for _, name := range []string{"layernorm", "rmsnorm"} {
		stages.MustRegister(stages.Spec[NormConfig]{
			Name: name + "_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradients of " + name + ".",
			Contract: func(NormConfig) stages.Contract { return stages.Contract{Reads: []string{"x", "mean", "rstd"}} },
			New: func(env stages.Env, _ NormConfig) (stages.Stage, error) {
				n := &norm{x: env.Ports["x"].Slot, dy: env.Ports["y"].Grad, mean: env.Ports["mean"].Slot, rstd: env.Ports["rstd"].Slot,
					gx: inputGrad(env, "x"), gw: paramGrad(env, "weight"), gb: paramGrad(env, "bias"), layer: name == "layernorm"}
				if p := env.Params["weight"]; p != nil {
					n.w = p.T.F32
				}
				return n, nil
			},
		})
	}
}

type norm struct {
	x, dy, mean, rstd stages.Slot
	w                 []float32
	gx, gw, gb        grad
	layer             bool
}

// Process: see kernel.LayerNormBackward and kernel.RMSNormBackward; x, dx, dy (...,C), mean, rstd (...), dw, db (C).
func (s *norm) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x := m.T(s.x)
	rows, c := x.Rows(), x.Last()
	dx, dw, db := s.gx.as(m, x), s.gw.flat(m), s.gb.flat(m)
	dy, rstd := m.T(s.dy).F32, m.T(s.rstd).F32
	// A tied weight may be used elsewhere while a bias is not, so each is cleared or kept by itself.
	if dw != nil && !s.gw.acc {
		clear(dw)
	}
	if db != nil && !s.gb.acc {
		clear(db)
	}
	if s.layer {
		kernel.LayerNormBackward(dx, dw, db, dy, x.F32, m.T(s.mean).F32, rstd, s.w, rows, c, s.gx.acc, true)
	} else {
		kernel.RMSNormBackward(dx, dw, dy, x.F32, rstd, s.w, rows, c, s.gx.acc, true)
	}
	return out.Send(m)
}

// Tape puts Process on a tape.
func (s *norm) Tape(m *stages.Message, t *kernel.Tape) bool {
	if s.layer || s.x.IsData() || s.gw.on || !s.gx.on {
		return false
	}
	x := m.T(s.x)
	return t.RMSNormBackward(s.gx.as(m, x), m.T(s.dy).F32, x.F32, m.T(s.rstd).F32, s.w, x.Rows(), x.Last(), s.gx.acc)
}
