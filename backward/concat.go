package backward

import (
	"context"
	"strconv"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// ConcatConfig has no choices.
type ConcatConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[ConcatConfig]{
		Name: "concat_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradients of concat.",
		Contract: func(ConcatConfig) stages.Contract { return stages.Contract{Reads: []string{"x"}} }, // their shapes
		New: func(env stages.Env, _ ConcatConfig) (stages.Stage, error) {
			c := &concat{dy: env.Ports["y"].Grad}
			for i := range env.Inputs {
				name := "x" + strconv.Itoa(i)
				c.x = append(c.x, env.Ports[name].Slot)
				c.g = append(c.g, inputGrad(env, name))
			}
			return c, nil
		},
	})
}

type concat struct {
	x  []stages.Slot
	g  []grad
	dy stages.Slot
}

// Process cuts dy (...,C0+C1+...) into dx0 (...,C0), dx1 (...,C1), ...
func (s *concat) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	dy := m.T(s.dy)
	rows, total, at := dy.Rows(), dy.Last(), 0
	for i, g := range s.g {
		x := m.T(s.x[i])
		c := x.Last()
		if dx := g.as(m, x); dx != nil {
			for r := range rows {
				from, to := dy.F32[r*total+at:r*total+at+c], dx[r*c:r*c+c]
				if g.acc {
					kernel.AddTo(to, from)
				} else {
					copy(to, from)
				}
			}
		}
		at += c
	}
	return out.Send(m)
}
