package compute

import (
	"context"
	"strconv"

	"vtpu/stages"
)

// ConcatConfig has no choices.
type ConcatConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[ConcatConfig]{
		Name: "concat", Room: stages.Compute, Pipe: stages.S, Twin: "concat_backward",
		Summary: "Join tensors along the last dimension.", Example: "concat: {in: [x, emb]}",
		Contract: func(ConcatConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{{Name: "x", Shape: "... C#", Variadic: true}}, Out: []stages.Port{float("y", "... C")},
				Derive: func(v map[string]int) error {
					v["C"] = 0
					for i := 0; v["C"+strconv.Itoa(i)] > 0; i++ {
						v["C"] += v["C"+strconv.Itoa(i)]
					}
					return nil
				}}
		},
		New: func(env stages.Env, _ ConcatConfig) (stages.Stage, error) {
			c := &concat{y: env.Ports["y"].Slot, c: env.Vars["C"]}
			for i := range env.Inputs {
				c.x = append(c.x, env.Ports["x"+strconv.Itoa(i)].Slot)
			}
			return c, nil
		},
	})
}

type concat struct {
	x []stages.Slot
	y stages.Slot
	c int
}

// Process: row r of y (...,C0+C1+...) is row r of x0 (...,C0), then of x1 (...,C1), and so on.
func (s *concat) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x0, y := m.T(s.x[0]), m.T(s.y)
	y.ResizeLast(x0, s.c)
	rows, at := x0.Rows(), 0
	for _, slot := range s.x {
		x := m.T(slot)
		c := x.Last()
		for r := range rows {
			copy(y.F32[r*s.c+at:r*s.c+at+c], x.F32[r*c:r*c+c])
		}
		at += c
	}
	return out.Send(m)
}
