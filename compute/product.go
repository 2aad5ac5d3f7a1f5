package compute

import (
	"context"
	"strconv"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// ProductConfig has no choices.
type ProductConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[ProductConfig]{
		Name: "product", Room: stages.Compute, Pipe: stages.S, Twin: "product_backward",
		Summary: "Product of all inputs, element by element and from left to right: q·k·v.", Example: "product: {in: [q, k, v]}",
		Contract: func(ProductConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{{Name: "x", Shape: "...", Variadic: true}}, Out: []stages.Port{float("y", "...")}}
		},
		New: func(env stages.Env, _ ProductConfig) (stages.Stage, error) {
			p := &product{y: env.Ports["y"].Slot}
			for i := range env.Inputs {
				p.x = append(p.x, env.Ports["x"+strconv.Itoa(i)].Slot)
			}
			return p, nil
		},
	})
}

type product struct {
	x []stages.Slot
	y stages.Slot
}

// Process: y = ((x0·x1)·x2)·..., all (...), each product rounded.
func (s *product) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x0, y := m.T(s.x[0]), m.T(s.y)
	y.ResizeAs(x0)
	copy(y.F32, x0.F32)
	for _, x := range s.x[1:] {
		kernel.Mul(y.F32, y.F32, m.T(x).F32)
	}
	return out.Send(m)
}
