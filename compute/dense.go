package compute

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// DenseConfig is what a user may write under dense.
type DenseConfig struct {
	Units stages.Dim `yaml:"units" required:"true" doc:"Outputs: a number, or a fact of the data such as vocab or classes."`
	Bias  bool       `yaml:"bias" doc:"Add a bias to each output."`
	Act   string     `yaml:"act" enum:"none|relu|squared_relu|gelu|gelu_tanh|tanh|sigmoid|silu" doc:"Activation of the output."`
}

func init() {
	stages.MustRegister(stages.Spec[DenseConfig]{
		Name: "dense", Room: stages.Compute, Pipe: stages.D, Twin: "dense_backward",
		Summary: "Linear layer with bias and activation: y = act(x·Wᵀ + b).",
		Example: "dense: {units: 64, act: relu}",
		Default: func() DenseConfig { return DenseConfig{Bias: true, Act: "none"} },
		Contract: func(c DenseConfig) stages.Contract {
			k := stages.Contract{
				In:     []stages.Port{float("x", "... C")},
				Out:    []stages.Port{float("y", "... OC")},
				Vars:   map[string]stages.Dim{"OC": c.Units},
				Params: []stages.Param{{Name: "weight", Shape: "OC C", Init: fanIn("C"), Doc: "(OC,C)"}},
				Flops:  func(v map[string]int) int64 { return 2 * int64(v["..."]) * int64(v["C"]) * int64(v["OC"]) },
			}
			if c.Bias {
				k.Params = append(k.Params, stages.Param{Name: "bias", Shape: "OC", Init: fanIn("C"), Doc: "(OC)"})
			}
			if c.Act != "none" {
				k.Keep = append(k.Keep, stages.Port{Name: "dz", Shape: "... OC", Grad: "y"}) // gradient before the activation
			}
			if c.Act == "squared_relu" {
				k.Keep = append(k.Keep, float("z", "... OC")) // value before the activation
			}
			if withSlope(c.Act) != nil {
				k.Keep = append(k.Keep, float("slope", "... OC")) // derivative of the activation
			}
			return k
		},
		New: func(env stages.Env, c DenseConfig) (stages.Stage, error) {
			d := &dense{x: env.Ports["x"].Slot, y: env.Ports["y"].Slot, z: env.Ports["y"].Slot, oc: env.Vars["OC"],
				w: env.Params["weight"].T.F32, product: newLinear(env.Team)}
			if act := Activation(c.Act); act != nil {
				d.act = newMapped(env.Team, act)
			}
			if z, ok := env.Ports["z"]; ok {
				d.z = z.Slot
			}
			if z, ok := env.Ports["slope"]; ok {
				d.z = z.Slot
				d.act = newMapped(env.Team, nil)
				d.act.both = withSlope(c.Act)
			}
			if c.Bias {
				d.b = env.Params["bias"].T.F32
			}
			d.plain, d.relu = d.oc == 1 && d.b == nil && d.act == nil, c.Act == "relu"
			return d, nil
		},
		Fuse: fuseRegression,
	})
}

// withSlope is the kernel of an activation that gives its derivative along with it, for those whose derivative costs about as much again when it is
// computed by itself; nil for the others. The gradient of those needs the output or, of squared_relu, the input.
func withSlope(act string) func(y, d, x []float32) {
	switch act {
	case "gelu":
		return kernel.GeluErfD
	case "gelu_tanh":
		return kernel.GeluTanhD
	case "silu":
		return kernel.SiLUD
	}
	return nil
}

// Activation is the kernel of that name; nil for none.
func Activation(act string) func(dst, x []float32) {
	switch act {
	case "relu":
		return kernel.ReLU
	case "squared_relu":
		return kernel.SquaredReLU
	case "gelu":
		return kernel.GeluErf
	case "gelu_tanh":
		return kernel.GeluTanh
	case "tanh":
		return kernel.Tanh
	case "sigmoid":
		return kernel.Sigmoid
	case "silu":
		return kernel.SiLU
	}
	return nil
}

type dense struct {
	x, y, z stages.Slot // z is y where the activation works in place, and is overwritten with the derivative where that is kept
	oc      int
	w, b    []float32
	product *linear
	act     *mapped // nil where there is none
	plain   bool    // one output, no bias, no activation
	relu    bool
}

// Tape puts Process on a tape.
func (d *dense) Tape(m *stages.Message, t *kernel.Tape) bool {
	if d.oc == 1 || d.x.IsData() || d.act != nil && !d.relu {
		return false
	}
	x, y := m.T(d.x), m.T(d.y).F32
	return d.product.tape(t, x.Rows(), x.Last(), d.oc, x.F32, d.w, d.b, y) && (!d.relu || t.ReLU(y, y))
}

// Process computes z = x·Wᵀ + b and y = act(z): x (...,C), weight (OC,C), bias (OC), y (...,OC). A layer with one output takes its products as long
// reductions (kernel.MatVec), which is decided by the shape alone.
func (d *dense) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y := m.T(d.x), m.T(d.y)
	if len(x.F32) == 1 && d.plain && len(y.F32) == 1 { // one number, in a shape of ones: what follows is slower than the product
		y.F32[0] = float32(x.F32[0]*d.w[0]) + 0
		return out.Send(m)
	}
	z := m.T(d.z)
	c := x.Last()
	rows := x.Rows()
	y.ResizeLast(x, d.oc)
	if d.z != d.y {
		z.ResizeLast(x, d.oc)
	}
	switch {
	case d.oc == 1:
		kernel.MatVec(rows, c, x.F32, c, d.w, z.F32, false)
		if d.b != nil {
			kernel.AddBias(rows, 1, z.F32, 1, d.b)
		}
	default:
		d.product.run(rows, c, d.oc, x.F32, d.w, d.b, z.F32)
	}
	if d.act != nil {
		d.act.run(y.F32, z.F32)
	}
	return out.Send(m)
}
