package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// DenseConfig is the part of the forward stage's config that its twin needs.
type DenseConfig struct {
	Act string `yaml:"act"`
}

func init() {
	stages.MustRegister(stages.Spec[DenseConfig]{
		Name: "dense_backward", Room: stages.Backward, Pipe: stages.D,
		Summary: "Gradients of dense.",
		Contract: func(c DenseConfig) stages.Contract {
			k := stages.Contract{Reads: []string{"x", "z", "slope"}, GradFlops: func(v map[string]int, wanted func(string) bool) (f int64) {
				for _, name := range []string{"x", "weight"} {
					if wanted(name) {
						f += 2 * int64(v["..."]) * int64(v["C"]) * int64(v["OC"])
					}
				}
				return f
			}}
			switch c.Act {
			case "relu", "tanh", "sigmoid":
				k.Reads = append(k.Reads, "y")
			}
			return k
		},
		New: func(env stages.Env, c DenseConfig) (stages.Stage, error) {
			d := &dense{x: env.Ports["x"].Slot, dy: env.Ports["y"].Grad, dz: env.Ports["y"].Grad, v: env.Ports["y"].Slot, oc: env.Vars["OC"],
				w: env.Params["weight"].T.F32, gx: inputGrad(env, "x"), gw: paramGrad(env, "weight"), gb: paramGrad(env, "bias"), product: newLinear(env.Team)}
			if act := activation(c.Act); act != nil {
				d.act = newMapped(env.Team, act)
				d.dz = env.Ports["dz"].Slot
			}
			d.relu = c.Act == "relu"
			if z, ok := env.Ports["z"]; ok {
				d.v = z.Slot
			}
			if z, ok := env.Ports["slope"]; ok {
				d.v, d.act.f = z.Slot, kernel.MulBackward
			}
			return d, nil
		},
	})
}

// activation is the gradient kernel of an activation; nil for none.
func activation(act string) func(dx, dy, v []float32, acc bool) {
	switch act {
	case "relu":
		return kernel.ReLUBackward
	case "squared_relu":
		return kernel.SquaredReLUBackward
	case "gelu":
		return kernel.GeluErfBackward
	case "gelu_tanh":
		return kernel.GeluTanhBackward
	case "tanh":
		return kernel.TanhBackward
	case "sigmoid":
		return kernel.SigmoidBackward
	case "silu":
		return kernel.SiLUBackward
	}
	return nil
}

type dense struct {
	x, dy, dz  stages.Slot
	v          stages.Slot // what the activation's gradient reads: its derivative, z, or y
	oc         int
	w          []float32
	gx, gw, gb grad
	act        *mapped // nil where there is none
	product    *linear
	relu       bool
}

// Tape puts Process on a tape.
func (d *dense) Tape(m *stages.Message, t *kernel.Tape) bool {
	if d.oc == 1 || d.x.IsData() || d.act != nil && !d.relu {
		return false
	}
	x, dz := m.T(d.x), m.T(d.dz).F32
	if d.relu && !t.ReLUBackward(dz, m.T(d.dy).F32, m.T(d.v).F32, false) {
		return false
	}
	return d.product.tape(t, x.Rows(), x.Last(), d.oc, d.gx.as(m, x), d.gw.flat(m), d.gb.flat(m), dz, x.F32, d.w, d.gx.acc, d.gw.acc)
}

// Process: dz = act'·dy, dx = dz·W, dW = dzᵀ·x, db = sum of the rows of dz. dy, dz (...,OC), x, dx (...,C), W, dW (OC,C).
func (d *dense) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, dz := m.T(d.x), m.T(d.dz)
	c, rows := x.Last(), x.Rows()
	if d.act != nil {
		dy := m.T(d.dy)
		dz.ResizeAs(dy)
		d.act.run(dz.F32, dy.F32, m.T(d.v).F32, false)
	}
	if d.oc == 1 {
		d.one(m, rows, c, x, dz.F32)
		return out.Send(m)
	}
	d.product.run(rows, c, d.oc, d.gx.as(m, x), d.gw.flat(m), d.gb.flat(m), dz.F32, x.F32, d.w, d.gx.acc, d.gw.acc, d.gb.acc)
	return out.Send(m)
}

// one is Process for one output, without matrices: the same order of operations as the products of a one-column dz.
func (d *dense) one(m *stages.Message, rows, c int, in *tensor.Tensor, dz []float32) {
	x := in.F32
	if len(x) == 1 && !d.gx.on && d.gw.on && !d.gw.acc && !d.gb.on {
		d.gw.flat(m)[0] = kernel.FMA(dz[0], x[0], 0)
		return
	}
	if dx := d.gx.as(m, in); dx != nil {
		if !d.gx.acc {
			clear(dx)
		}
		for r := range rows {
			kernel.Axpy(dz[r], d.w, dx[r*c:r*c+c])
		}
	}
	if dw := d.gw.flat(m); dw != nil {
		if !d.gw.acc {
			clear(dw)
		}
		if c == 1 {
			for r := range rows {
				dw[0] = kernel.FMA(dz[r], x[r], dw[0])
			}
		} else {
			for r := range rows {
				kernel.Axpy(dz[r], x[r*c:r*c+c], dw)
			}
		}
	}
	if db := d.gb.flat(m); db != nil {
		kernel.ColSum(rows, 1, dz, 1, db, d.gb.acc)
	}
}
