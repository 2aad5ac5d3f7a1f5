package backward

import (
	"context"
	"strconv"

	"vtpu/stages"
)

// ProductConfig has no choices.
type ProductConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[ProductConfig]{
		Name: "product_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradients of product.",
		Contract: func(ProductConfig) stages.Contract { return stages.Contract{Reads: []string{"x"}} },
		New: func(env stages.Env, _ ProductConfig) (stages.Stage, error) {
			p := &product{dy: env.Ports["y"].Grad}
			for i := range env.Inputs {
				name := "x" + strconv.Itoa(i)
				p.x = append(p.x, env.Ports[name].Slot)
				p.g = append(p.g, inputGrad(env, name))
			}
			return p, nil
		},
	})
}

type product struct {
	x  []stages.Slot
	g  []grad
	dy stages.Slot
}

// Process: dx_i = dy times the other inputs, from left to right, all (...).
func (s *product) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	dy := m.T(s.dy)
	for i, g := range s.g {
		dx := g.as(m, dy)
		if dx == nil {
			continue
		}
		for e := range dy.F32 {
			v := dy.F32[e]
			for j, x := range s.x {
				if j != i {
					v = float32(v * m.T(x).F32[e])
				}
			}
			if g.acc {
				v = dx[e] + v
			}
			dx[e] = v
		}
	}
	return out.Send(m)
}
