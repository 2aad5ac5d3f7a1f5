package compute

import (
	"context"
	"fmt"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// EmbedConfig is what a user may write under embed.
type EmbedConfig struct {
	Dim       stages.Dim `yaml:"dim" required:"true" doc:"Width of a row."`
	Rows      stages.Dim `yaml:"rows" doc:"Rows of the table: a number or a fact of the data."`
	Positions int        `yaml:"positions" min:"0" doc:"Learnt positions added to the rows; 0 is none, otherwise at least the length of a sequence."`
	Sparse    bool       `yaml:"sparse" doc:"Make a gradient of the rows used alone; the optimizer then touches only those (as PyTorch's sparse=True)."`
}

func init() {
	stages.MustRegister(stages.Spec[EmbedConfig]{
		Name: "embed", Room: stages.Compute, Pipe: stages.S, Twin: "embed_backward",
		Summary: "Row of a table for each token, plus a row for its position.", Example: "embed: {dim: 128, positions: 64}",
		Default: func() EmbedConfig { return EmbedConfig{Rows: stages.Dim{Fact: "vocab"}} },
		Contract: func(c EmbedConfig) stages.Contract {
			k := stages.Contract{
				In:     []stages.Port{ids("ids", "...")},
				Out:    []stages.Port{float("y", "... D")},
				Vars:   map[string]stages.Dim{"D": c.Dim, "V": c.Rows},
				Params: []stages.Param{{Name: "weight", Shape: "V D", Init: normal(0.02), Sparse: c.Sparse, Doc: "(V,D)"}},
			}
			if c.Positions > 0 {
				k.In[0].Shape = "B T"
				k.Out[0].Shape = "B T D"
				k.Vars["P"] = stages.N(c.Positions)
				k.Params = append(k.Params, stages.Param{Name: "positions", Shape: "P D", Init: normal(0.02), Doc: "(P,D)"})
				k.Derive = func(v map[string]int) error {
					if v["T"] > c.Positions {
						return fmt.Errorf("sequences of %d tokens need positions: %d or more", v["T"], v["T"])
					}
					return nil
				}
			}
			return k
		},
		New: func(env stages.Env, c EmbedConfig) (stages.Stage, error) {
			return &embed{ids: env.Ports["ids"].Slot, y: env.Ports["y"].Slot, w: env.Params["weight"].T.F32, p: values(env, "positions"),
				dim: env.Vars["D"], rows: env.Vars["V"]}, nil
		},
	})
}

// outside says where an id was found that no row of a table belongs to.
func outside(id int32, where string, rows int) error {
	return stages.Finding{Msg: fmt.Sprintf("id %d %s is outside of the table of %d rows", id, where, rows),
		Fix: "ids start at 0, -1 is padding; rows must be above the largest id"}
}

type embed struct {
	ids, y    stages.Slot
	w, p      []float32
	dim, rows int
}

// Process: y[b,t] = weight[ids[b,t]] + positions[t]; ids (B,T), y (B,T,D), weight (V,D), positions (P,D). An id of -1 is padding: its row is 0.
func (s *embed) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	ids, y, d := m.T(s.ids), m.T(s.y), s.dim
	shape := ids.Shape
	shape.Dims[shape.Rank] = d
	shape.Rank++
	y.Resize(shape)
	T := max(ids.Shape.Last(), 1)
	for i, id := range ids.I32 {
		if int(id) >= s.rows || id < -1 {
			per := len(ids.I32) / ids.Shape.Dims[0] // ids of an example
			return outside(id, fmt.Sprintf("at position %d of example %d", i%per, m.First+i/per), s.rows)
		}
		row := y.F32[i*d : i*d+d]
		if id < 0 {
			clear(row)
		} else {
			copy(row, s.w[int(id)*d:int(id)*d+d])
		}
	}
	if s.p != nil {
		for at := 0; at < len(ids.I32); at += T {
			s.addPositions(y.F32[at*d:(at+T)*d], ids.I32[at:at+T])
		}
	}
	return out.Send(m)
}

// addPositions adds the positions to the rows of a sequence, padding left out: all that lies between two pieces of padding at once.
func (s *embed) addPositions(y []float32, ids []int32) {
	d := s.dim
	for t := 0; t < len(ids); t++ {
		from := t
		for t < len(ids) && ids[t] >= 0 {
			t++
		}
		if t > from {
			kernel.AddTo(y[from*d:t*d], s.p[from*d:t*d])
		}
	}
}
