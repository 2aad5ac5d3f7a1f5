package gather

import (
	"context"
	"errors"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// BatchesConfig is what a user may write under batches.
type BatchesConfig struct {
	Batch   int  `yaml:"batch" min:"1" max:"16777216" doc:"Rows in a step."`
	Shuffle bool `yaml:"shuffle" doc:"Draw a new order for each epoch, from the seed."`
	Drop    bool `yaml:"drop_last" doc:"Leave out the last rows of an epoch where they don't fill a batch."`
}

func init() {
	stages.MustRegister(stages.Spec[BatchesConfig]{
		Name: "batches", Room: stages.Gather, Pipe: stages.S,
		Summary: "Rows of a table: one output for each column, named as the column.", Example: "batches: {batch: 32}",
		Default: func() BatchesConfig { return BatchesConfig{Batch: 32, Shuffle: true} },
		Data: func(c BatchesConfig, d *stages.Dataset, parts int) (stages.Contract, error) {
			if d.Table == nil {
				return stages.Contract{}, errors.New("batches are rows of a table, the data is a text: use token_batches or lines")
			}
			if parts > c.Batch {
				return stages.Contract{}, errors.New("there are more parts than rows in a batch")
			}
			k := stages.Contract{Replicas: stages.One, Vars: map[string]stages.Dim{}}
			rows := largest(min(c.Batch, d.Table.N), parts)
			for i := range d.Table.Cols {
				col := &d.Table.Cols[i]
				k.Out = append(k.Out, stages.Port{Name: col.Name, Shape: words(rows, col.Shape), DType: col.DType, Slot: col.Name, NoGrad: true})
			}
			return k, nil
		},
		New: func(env stages.Env, c BatchesConfig) (stages.Stage, error) {
			b := &batches{order: newOrder(env, c.Batch, c.Shuffle, c.Drop)}
			b.whole = b.n == 1 && (!c.Shuffle || len(b.train) == 1) && env.Parts == 1
			for i := range env.Data.Table.Cols {
				col := &env.Data.Table.Cols[i]
				b.cols = append(b.cols, column{env.Ports[col.Name].Slot, col, col.Shape.Len()})
			}
			return b, nil
		},
	})
}

// words writes a shape of rows examples for a contract.
func words(rows int, row tensor.Shape) string {
	s := itoa(rows)
	for _, d := range row.Slice() {
		s += " " + itoa(d)
	}
	return s
}

type column struct {
	slot stages.Slot
	col  *stages.Column
	n    int // elements of a row
}

type batches struct {
	*order
	cols []column

	// Where every step brings the same rows in the same order, a message that holds them already needs no copy.
	whole bool
	held  *stages.Message
}

// StepsPerEpoch is the number of steps in a walk over the training rows.
func (s *batches) StepsPerEpoch() int64 { return s.n }

// EvalSteps is the number of batches that the validation rows fill.
func (s *batches) EvalSteps() int64 { return s.evalSteps() }

// Process copies this part's rows of each column: (B,...).
func (s *batches) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if s.whole && m.Mode == stages.Train && m == s.held {
		m.Rows, m.Count = len(s.train), len(s.train)
		return out.Send(m)
	}
	s.held = nil
	if m.Mode == stages.Train {
		s.held = m
	}
	rows := s.at(m)
	for i := range s.cols {
		c := &s.cols[i]
		t, n := m.T(c.slot), c.n
		shape := t.Shape
		shape.Dims[0] = len(rows)
		t.Resize(shape)
		switch {
		case c.col.DType == tensor.I32:
			for k, r := range rows {
				copy(t.I32[k*n:k*n+n], c.col.I32[int(r)*n:int(r)*n+n])
			}
		case n == 1:
			for k, r := range rows {
				t.F32[k] = c.col.F32[r]
			}
		default:
			for k, r := range rows {
				copy(t.F32[k*n:k*n+n], c.col.F32[int(r)*n:int(r)*n+n])
			}
		}
	}
	return out.Send(m)
}
