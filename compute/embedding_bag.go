package compute

import (
	"context"
	"fmt"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// BagConfig is what a user may write under embedding_bag.
type BagConfig struct {
	Dim    stages.Dim `yaml:"dim" required:"true" doc:"Width of a row."`
	Rows   stages.Dim `yaml:"rows" required:"true" doc:"Rows of the table: a number or a fact of the data."`
	Mode   string     `yaml:"mode" enum:"sum|mean" doc:"Sum of a bag's rows, or their mean."`
	Sparse bool       `yaml:"sparse" doc:"Make a gradient of the rows used alone; the optimizer then touches only those."`
}

func init() {
	stages.MustRegister(stages.Spec[BagConfig]{
		Name: "embedding_bag", Room: stages.Compute, Pipe: stages.S, Twin: "embedding_bag_backward",
		Summary: "Sum or mean of a table's rows for each bag of ids; an id of -1 is no id.", Source: "torch.nn.EmbeddingBag",
		Example: "embedding_bag: {in: cats, dim: 16, rows: cat_rows}",
		Default: func() BagConfig { return BagConfig{Mode: "sum", Sparse: true} },
		Contract: func(c BagConfig) stages.Contract {
			return stages.Contract{
				In: []stages.Port{ids("ids", "B N")}, Out: []stages.Port{float("y", "B D")},
				Vars:   map[string]stages.Dim{"D": c.Dim, "V": c.Rows},
				Params: []stages.Param{{Name: "weight", Shape: "V D", Init: normal(0.02), Sparse: c.Sparse, Doc: "(V,D)"}},
				Flops:  func(v map[string]int) int64 { return int64(v["B"]) * int64(v["N"]) * int64(v["D"]) },
			}
		},
		New: func(env stages.Env, c BagConfig) (stages.Stage, error) {
			return &bag{env.Ports["ids"].Slot, env.Ports["y"].Slot, env.Params["weight"].T.F32, env.Vars["D"], env.Vars["V"], c.Mode == "mean"}, nil
		},
	})
}

type bag struct {
	ids, y    stages.Slot
	w         []float32
	dim, rows int
	mean      bool
}

// Process: y[b] = weight[ids[b,0]] + weight[ids[b,1]] + ..., divided by the number of ids for mean. ids (B,N), y (B,D), weight (V,D).
func (s *bag) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	ids, y, d := m.T(s.ids), m.T(s.y), s.dim
	B, N := ids.Shape.Dims[0], ids.Shape.Dims[1]
	y.Resize(tensor.Of(B, d))
	clear(y.F32)
	for b := range B {
		row, n := y.F32[b*d:b*d+d], 0
		for _, id := range ids.I32[b*N : b*N+N] {
			if int(id) >= s.rows || id < -1 {
				return outside(id, fmt.Sprintf("of example %d", m.First+b), s.rows)
			}
			if id >= 0 {
				kernel.AddTo(row, s.w[int(id)*d:int(id)*d+d])
				n++
			}
		}
		if s.mean && n > 1 {
			kernel.Scale(row, row, 1/float32(n))
		}
	}
	return out.Send(m)
}
