package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// TableConfig has nothing that the gradient of a table needs.
type TableConfig struct{}

func init() {
	for _, name := range []string{"embed", "rows"} {
		stages.MustRegister(stages.Spec[TableConfig]{
			Name: name + "_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradients of " + name + ": of the rows used.",
			Contract: func(TableConfig) stages.Contract { return stages.Contract{Reads: []string{"ids"}} },
			New: func(env stages.Env, _ TableConfig) (stages.Stage, error) {
				d := env.Vars["D"]
				return &embed{ids: env.Ports["ids"].Slot, dy: env.Ports["y"].Grad, t: newTable(env, "weight", "ids", d), gp: paramGrad(env, "positions")}, nil
			},
		})
	}
}

type embed struct {
	ids, dy stages.Slot
	t       *table
	gp      grad
}

// Process: dweight[id] = sum of dy over its occurrences, in order; dpositions[t] = sum of dy[b,t] over b. dy (...,D).
func (s *embed) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	ids, dy, d := m.T(s.ids), m.T(s.dy), s.t.dim
	s.t.add(m, ids.I32, dy.F32, 1, nil)
	if dp := s.gp.flat(m); dp != nil {
		if !s.gp.acc {
			clear(dp)
		}
		T := max(ids.Shape.Last(), 1)
		for at := 0; at < len(ids.I32); at += T {
			addPositions(dp, dy.F32[at*d:(at+T)*d], ids.I32[at:at+T], d)
		}
	}
	return out.Send(m)
}

// addPositions adds the gradients of a sequence to those of its positions, padding left out: all that lies between two pieces of padding at once.
func addPositions(dp, dy []float32, ids []int32, d int) {
	for t := 0; t < len(ids); t++ {
		from := t
		for t < len(ids) && ids[t] >= 0 {
			t++
		}
		if t > from {
			kernel.AddTo(dp[from*d:t*d], dy[from*d:t*d])
		}
	}
}
