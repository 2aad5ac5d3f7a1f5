package backward

import (
	"context"
	"math"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// AttentionConfig is the part of the forward stage's config that its twin needs.
type AttentionConfig struct {
	Heads  int  `yaml:"heads"`
	Causal bool `yaml:"causal"`
	Out    bool `yaml:"proj"`
}

func init() {
	stages.MustRegister(stages.Spec[AttentionConfig]{
		Name: "attention_backward", Room: stages.Backward, Pipe: stages.D, Summary: "Gradients of attention.",
		Contract: func(c AttentionConfig) stages.Contract {
			return stages.Contract{
				Reads: []string{"x", "qkv", "att", "ctx"},
				GradFlops: func(v map[string]int, wanted func(string) bool) int64 {
					rows, C, D := int64(v["B"])*int64(v["T"]), int64(v["C"]), int64(v["D"])
					f := 8 * int64(v["B"]) * int64(kernel.Pairs(v["T"], c.Causal)) * D
					if c.Out {
						f += 2 * rows * C * D // of the output of the heads
						if wanted("proj") {
							f += 2 * rows * C * D
						}
					}
					for _, name := range []string{"x", "qkv"} {
						if wanted(name) {
							f += 6 * rows * C * D
						}
					}
					return f
				},
			}
		},
		New: func(env stages.Env, c AttentionConfig) (stages.Stage, error) {
			a := &attention{x: env.Ports["x"].Slot, dy: env.Ports["y"].Grad, qkv: env.Ports["qkv"].Slot, att: env.Ports["att"].Slot,
				dqkv: env.Ports["dqkv"].Slot, datt: env.Ports["datt"].Slot, dim: env.Vars["D"], heads: c.Heads, causal: c.Causal,
				w: env.Params["qkv"].T.F32, gx: inputGrad(env, "x"), gw: paramGrad(env, "qkv"), gwb: paramGrad(env, "qkv_bias"),
				team: env.Team, product: newLinear(env.Team)}
			a.share = a.examples
			a.g = a.dy
			if c.Out {
				a.ctx, a.dctx, a.p = env.Ports["ctx"].Slot, env.Ports["dctx"].Slot, env.Params["proj"].T.F32
				a.g = a.dctx
				a.gp, a.gpb = paramGrad(env, "proj"), paramGrad(env, "proj_bias")
			}
			return a, nil
		},
	})
}

type attention struct {
	x, dy, qkv, att, ctx, dctx, dqkv, datt stages.Slot
	w, p                                   []float32
	gx, gw, gwb, gp, gpb                   grad
	dim, heads                             int
	causal                                 bool
	g                                      stages.Slot // gradient of the heads' output: dctx, or dy
	team                                   *stages.Team
	product                                *linear
	share                                  func(lo, hi int)
	m                                      *stages.Message // in Process
}

// Process, for each example and head: datt = dctx·vᵀ, dv = attᵀ·dctx, dz = softmax gradient of datt, dq = dz·k, dk = dzᵀ·q; then the gradients
// of the projections. Shapes as in the forward stage.
func (s *attention) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, dy, dqkv, datt := m.T(s.x), m.T(s.dy), m.T(s.dqkv), m.T(s.datt)
	B, T, C := x.Shape.Dims[0], x.Shape.Dims[1], x.Shape.Dims[2]
	D, ld := s.dim, 3*s.dim
	dqkv.Resize(tensor.Shape{Rank: 3, Dims: [tensor.MaxRank]int{B, T, ld}})
	datt.Resize(tensor.Shape{Rank: 3, Dims: [tensor.MaxRank]int{B, T, T}})
	if s.p != nil {
		dctx := m.T(s.dctx)
		dctx.Resize(tensor.Shape{Rank: 3, Dims: [tensor.MaxRank]int{B, T, D}})
		s.product.run(B*T, D, C, dctx.F32, s.gp.flat(m), s.gpb.flat(m), dy.F32, m.T(s.ctx).F32, s.p, false, s.gp.acc, s.gpb.acc)
	}
	s.m = m
	s.team.Units(B, 1, B*T*T*D >= shareProduct, s.share)
	s.m = nil
	s.product.run(B*T, C, ld, s.gx.as(m, x), s.gw.flat(m), s.gwb.flat(m), dqkv.F32, x.F32, s.w, s.gx.acc, s.gw.acc, s.gwb.acc)
	return out.Send(m)
}

// Tape puts Process on a tape.
func (s *attention) Tape(m *stages.Message, t *kernel.Tape) bool {
	if s.x.IsData() {
		return false
	}
	x, dy, qkv, att, dqkv, g := m.T(s.x), m.T(s.dy).F32, m.T(s.qkv).F32, m.T(s.att).F32, m.T(s.dqkv).F32, m.T(s.g).F32
	B, T, C := x.Shape.Dims[0], x.Shape.Dims[1], x.Shape.Dims[2]
	D, H, hs, ld := s.dim, s.heads, s.dim/s.heads, 3*s.dim
	if s.p != nil && !s.product.tape(t, B*T, D, C, g, s.gp.flat(m), s.gpb.flat(m), dy, m.T(s.ctx).F32, s.p, false, s.gp.acc) {
		return false
	}
	for b := range B {
		q, dq := qkv[b*T*ld:], dqkv[b*T*ld:]
		if !t.HeadsBackward(dq, dq[D:], dq[2*D:], g[b*T*D:], q, q[D:], q[2*D:], att[b*H*T*T:], H, T, hs, D, ld, float32(1/math.Sqrt(float64(hs))), s.causal) {
			return false
		}
	}
	return s.product.tape(t, B*T, C, ld, s.gx.as(m, x), s.gw.flat(m), s.gwb.flat(m), dqkv, x.F32, s.w, s.gx.acc, s.gw.acc)
}

// examples is the heads of the examples lo to hi.
func (s *attention) examples(lo, hi int) {
	qkv, att, dqkv, datt, dctx := s.m.T(s.qkv), s.m.T(s.att), s.m.T(s.dqkv), s.m.T(s.datt), s.m.T(s.g)
	T := qkv.Shape.Dims[1]
	D, H, hs, ld := s.dim, s.heads, s.dim/s.heads, 3*s.dim
	scale := float32(1 / math.Sqrt(float64(hs)))
	for b := lo; b < hi; b++ {
		q, dq := qkv.F32[b*T*ld:], dqkv.F32[b*T*ld:]
		a, da := att.F32[b*H*T*T:][:H*T*T], datt.F32[lo*T*T:][:T*T] // a scratch for each share
		kernel.HeadsBackward(dq, dq[D:], dq[2*D:], da, dctx.F32[b*T*D:], q, q[D:], q[2*D:], a, H, T, hs, D, ld, scale, s.causal)
	}
}
