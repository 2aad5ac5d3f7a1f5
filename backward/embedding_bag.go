package backward

import (
	"context"

	"vtpu/stages"
)

// BagConfig is the part of the forward stage's config that its twin needs.
type BagConfig struct {
	Mode string `yaml:"mode"`
}

func init() {
	stages.MustRegister(stages.Spec[BagConfig]{
		Name: "embedding_bag_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradient of embedding_bag: of the rows used.",
		Contract: func(BagConfig) stages.Contract { return stages.Contract{Reads: []string{"ids"}} },
		New: func(env stages.Env, c BagConfig) (stages.Stage, error) {
			s := &bag{ids: env.Ports["ids"].Slot, dy: env.Ports["y"].Grad, t: newTable(env, "weight", "ids", env.Vars["D"])}
			if c.Mode == "mean" {
				s.share = make([]float32, env.Ports["ids"].Shape.Dims[0])
				s.by = func(i int) float32 { return s.share[i/s.n] }
			}
			return s, nil
		},
	})
}

type bag struct {
	ids, dy stages.Slot
	t       *table
	n       int                 // ids in a bag
	share   []float32           // mean: 1 / ids of each bag
	by      func(i int) float32 // mean: factor of id i
}

// Process: dweight[id] = sum of dy[b] over the bags b that hold id, divided by the number of ids of the bag for mean. dy (B,D).
func (s *bag) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	ids := m.T(s.ids)
	s.n = max(ids.Shape.Dims[1], 1)
	if s.share != nil {
		for b := range ids.Shape.Dims[0] {
			n := 0
			for _, id := range ids.I32[b*s.n : b*s.n+s.n] {
				if id >= 0 {
					n++
				}
			}
			s.share[b] = 1 / float32(max(n, 1))
		}
	}
	s.t.add(m, ids.I32, m.T(s.dy).F32, s.n, s.by)
	return out.Send(m)
}
