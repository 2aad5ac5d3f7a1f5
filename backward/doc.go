// Package backward holds the gradients: the twin of each file of package compute (and of gather/rows.go), and what happens to gradients before
// an update: the reduction over parts, the guard, clipping, accumulation.
//
// A twin sees the ports of its forward stage. Where an input or a parameter has a gradient (Binding.HasGrad), the twin sets it, or adds to it
// where another consumer has written it before (Binding.Acc).
package backward

import (
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// grad is where a twin leaves a gradient.
type grad struct {
	slot stages.Slot
	on   bool // somebody wants it
	acc  bool // add to what is there
}

func inputGrad(env stages.Env, port string) grad {
	b := env.Ports[port]
	return grad{b.Grad, b.HasGrad, b.Acc}
}

func paramGrad(env stages.Env, name string) grad {
	p := env.Params[name]
	if p == nil {
		return grad{}
	}
	return grad{p.Grad, p.HasGrad, p.Acc}
}

// at gives the gradient's elements with the shape of the value it belongs to, nil where nobody wants it.
func (g *grad) at(m *stages.Message, s tensor.Shape) []float32 {
	if !g.on {
		return nil
	}
	t := m.T(g.slot)
	if !g.acc {
		t.Resize(s)
	}
	return t.F32
}

// as is at with the shape of x.
func (g *grad) as(m *stages.Message, x *tensor.Tensor) []float32 {
	if !g.on {
		return nil
	}
	t := m.T(g.slot)
	if !g.acc {
		t.ResizeAs(x)
	}
	return t.F32
}

// flat is at for a parameter, whose gradient always has the parameter's shape.
func (g *grad) flat(m *stages.Message) []float32 {
	if !g.on {
		return nil
	}
	return m.T(g.slot).F32
}
