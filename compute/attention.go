package compute

import (
	"context"
	"fmt"
	"math"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// AttentionConfig is what a user may write under attention.
type AttentionConfig struct {
	Heads  int  `yaml:"heads" min:"1" doc:"Heads; they divide the inner width."`
	Dim    int  `yaml:"dim" min:"0" max:"1048576" doc:"Inner width, of all heads together; 0 is that of the input."`
	Causal bool `yaml:"causal" doc:"A position sees itself and those before it."`
	Bias   bool `yaml:"bias" doc:"Add biases to the projections."`
	Out    bool `yaml:"proj" doc:"Project the output of the heads once more; false: the output has the inner width."`
}

func init() {
	stages.MustRegister(stages.Spec[AttentionConfig]{
		Name: "attention", Room: stages.Compute, Pipe: stages.D, Twin: "attention_backward",
		Summary: "Multi-head self-attention.", Source: "Vaswani et al. 2017, arXiv:1706.03762, section 3.2",
		Example: "attention: {heads: 4, causal: true}",
		Default: func() AttentionConfig { return AttentionConfig{Heads: 1, Out: true} },
		Contract: func(c AttentionConfig) stages.Contract {
			k := stages.Contract{
				In:  []stages.Port{float("x", "B T C")},
				Out: []stages.Port{float("y", "B T D")},
				Keep: []stages.Port{float("qkv", "B T D3"), float("att", "B H T T"),
					float("dqkv", "B T D3"), float("datt", "B T T")}, // scratch of the backward twin
				Params: []stages.Param{{Name: "qkv", Shape: "D3 C", Init: fanIn("C"), Doc: "(3D,C): query, key and value"}},
				Derive: func(v map[string]int) error {
					d := c.Dim
					if d == 0 {
						d = v["C"]
					}
					if d%c.Heads != 0 {
						return fmt.Errorf("%d heads don't divide %d channels; give heads a divisor of %d, or dim a multiple of %d", c.Heads, d, d, c.Heads)
					}
					v["H"], v["D"], v["D3"] = c.Heads, d, 3*d
					return nil
				},
				Flops: func(v map[string]int) int64 {
					rows, C, D := int64(v["B"])*int64(v["T"]), int64(v["C"]), int64(v["D"])
					f := 6*rows*C*D + 4*int64(v["B"])*int64(kernel.Pairs(v["T"], c.Causal))*D
					if c.Out {
						f += 2 * rows * C * D
					}
					return f
				},
			}
			if c.Bias {
				k.Params = append(k.Params, stages.Param{Name: "qkv_bias", Shape: "D3", Init: fanIn("C"), Doc: "(3D)"})
			}
			if c.Out {
				k.Out[0].Shape = "B T C"
				k.Keep = append(k.Keep, float("ctx", "B T D"), float("dctx", "B T D"))
				k.Params = append(k.Params, stages.Param{Name: "proj", Shape: "C D", Init: fanIn("D"), Doc: "(C,D)"})
				if c.Bias {
					k.Params = append(k.Params, stages.Param{Name: "proj_bias", Shape: "C", Init: fanIn("D"), Doc: "(C)"})
				}
			}
			return k
		},
		New: func(env stages.Env, c AttentionConfig) (stages.Stage, error) {
			a := &attention{x: env.Ports["x"].Slot, y: env.Ports["y"].Slot, qkv: env.Ports["qkv"].Slot, att: env.Ports["att"].Slot, ctx: env.Ports["y"].Slot,
				w: values(env, "qkv"), wb: values(env, "qkv_bias"), p: values(env, "proj"), pb: values(env, "proj_bias"),
				dim: env.Vars["D"], heads: c.Heads, causal: c.Causal, team: env.Team, product: newLinear(env.Team)}
			a.share = a.examples
			if c.Out {
				a.ctx = env.Ports["ctx"].Slot
			}
			return a, nil
		},
	})
}

type attention struct {
	x, y, qkv, att, ctx stages.Slot // ctx is y where there is no output projection
	w, wb, p, pb        []float32
	dim, heads          int
	causal              bool
	team                *stages.Team
	product             *linear
	share               func(lo, hi int)
	m                   *stages.Message // in Process
}

// Process: qkv = x·Wᵀ + b; for each example and head att = softmax(q·kᵀ/√hs), ctx = att·v; y = ctx·Pᵀ + pb. x, y (B,T,C), ctx (B,T,D), qkv
// (B,T,3D), att (B,H,T,T), W (3D,C), P (C,D), hs = D/H. Without the output projection y is ctx.
func (s *attention) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y, qkv, att, ctx := m.T(s.x), m.T(s.y), m.T(s.qkv), m.T(s.att), m.T(s.ctx)
	B, T, C := x.Shape.Dims[0], x.Shape.Dims[1], x.Shape.Dims[2]
	D, H, ld := s.dim, s.heads, 3*s.dim
	ctx.Resize(tensor.Shape{Rank: 3, Dims: [tensor.MaxRank]int{B, T, D}})
	qkv.Resize(tensor.Shape{Rank: 3, Dims: [tensor.MaxRank]int{B, T, ld}})
	att.Resize(tensor.Shape{Rank: 4, Dims: [tensor.MaxRank]int{B, H, T, T}})
	s.product.run(B*T, C, ld, x.F32, s.w, s.wb, qkv.F32)
	s.m = m
	s.team.Units(B, 1, B*T*T*D >= shareProduct, s.share)
	s.m = nil
	if s.p != nil {
		y.ResizeAs(x)
		s.product.run(B*T, D, C, ctx.F32, s.p, s.pb, y.F32)
	}
	return out.Send(m)
}

// Tape puts Process on a tape.
func (s *attention) Tape(m *stages.Message, t *kernel.Tape) bool {
	if s.x.IsData() {
		return false
	}
	x, qkv, att, ctx := m.T(s.x), m.T(s.qkv).F32, m.T(s.att).F32, m.T(s.ctx).F32
	B, T, C := x.Shape.Dims[0], x.Shape.Dims[1], x.Shape.Dims[2]
	D, H, hs, ld := s.dim, s.heads, s.dim/s.heads, 3*s.dim
	if !s.product.tape(t, B*T, C, ld, x.F32, s.w, s.wb, qkv) {
		return false
	}
	for b := range B {
		q := qkv[b*T*ld:]
		if !t.Heads(att[b*H*T*T:], ctx[b*T*D:], q, q[D:], q[2*D:], H, T, hs, D, ld, float32(1/math.Sqrt(float64(hs))), s.causal) {
			return false
		}
	}
	return s.p == nil || s.product.tape(t, B*T, D, C, ctx, s.p, s.pb, m.T(s.y).F32)
}

// examples is the heads of the examples lo to hi.
func (s *attention) examples(lo, hi int) {
	qkv, att, ctx := s.m.T(s.qkv), s.m.T(s.att), s.m.T(s.ctx)
	T := qkv.Shape.Dims[1]
	D, H, hs, ld := s.dim, s.heads, s.dim/s.heads, 3*s.dim
	scale := float32(1 / math.Sqrt(float64(hs)))
	for b := lo; b < hi; b++ { // all heads of an example at a time: a row of one softmax doesn't wait for the products of the next
		q := qkv.F32[b*T*ld:]
		kernel.Heads(att.F32[b*H*T*T:][:H*T*T], ctx.F32[b*T*D:], q, q[D:], q[2*D:], H, T, hs, D, ld, scale, s.causal)
	}
}
