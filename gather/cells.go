package gather

import (
	"context"
	"errors"
	"fmt"

	"vtpu/stages"
	"vtpu/stages/weights"
)

// Cell is a scalar of the store.
type Cell struct {
	Name  string        `yaml:"name" required:"true" doc:"Name of the cell and of the slot that it is read into."`
	At    weights.Coord `yaml:"at" required:"true" doc:"Home of the cell in phext space."`
	Value float64       `yaml:"value" doc:"What the cell holds at the start."`
}

// CellsConfig is what a user may write under cells.
type CellsConfig struct {
	Read []Cell `yaml:"read" required:"true" doc:"Cells to read."`
}

func init() {
	stages.MustRegister(stages.Spec[CellsConfig]{
		Name: "cells", Room: stages.Gather, Pipe: stages.S,
		Summary: "Scalars of the store, by their coordinates.", Example: "cells: {read: [{name: q, at: 1.1.1/1.1.1/1.1.1, value: 3}]}",
		Check: func(c CellsConfig) error {
			if len(c.Read) == 0 {
				return errors.New("read lists no cell")
			}
			seen := map[string]bool{}
			for _, x := range c.Read {
				if x.Name == "" || seen[x.Name] {
					return fmt.Errorf("cell name %q is empty or given twice", x.Name)
				}
				seen[x.Name] = true
			}
			return nil
		},
		Contract: func(c CellsConfig) stages.Contract {
			k := stages.Contract{Replicas: stages.One}
			for _, x := range c.Read {
				k.Out = append(k.Out, stages.Port{Name: x.Name, Shape: "1", Slot: x.Name, NoGrad: true})
				k.Params = append(k.Params, stages.Param{Name: x.Name, Shape: "1", Frozen: true, At: x.At.String(),
					Init: func(map[string]int) stages.Init { return stages.Init{Kind: "constant", Value: x.Value} }})
			}
			return k
		},
		New: func(env stages.Env, c CellsConfig) (stages.Stage, error) {
			s := &cells{}
			for _, x := range c.Read {
				s.slots = append(s.slots, env.Ports[x.Name].Slot)
				s.from = append(s.from, env.Params[x.Name].Param)
			}
			return s, nil
		},
	})
}

type cells struct {
	slots []stages.Slot
	from  []*weights.Param
}

// Process reads each cell. Without data, a part counts as one example.
func (s *cells) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	for i, p := range s.from {
		m.T(s.slots[i]).F32[0] = p.T.F32[0]
	}
	if m.Count == 0 {
		m.First, m.Rows, m.Count = int(m.Part), 1, int(m.Parts)
	}
	return out.Send(m)
}

// Finish reads again: a cell may have been written since.
func (s *cells) Finish(m *stages.Message) error {
	for i, p := range s.from {
		m.T(s.slots[i]).F32[0] = p.T.F32[0]
	}
	return nil
}
