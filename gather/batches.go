package gather

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// BatchesConfig is what a user may write under batches.
type BatchesConfig struct {
	Batch   int  `yaml:"batch" min:"1" max:"16777216" doc:"Rows in a step."`
	Shuffle bool `yaml:"shuffle" doc:"Draw a new order for each epoch, from the seed."`
	Drop    bool `yaml:"drop_last" doc:"Leave out the last rows of an epoch where they don't fill a batch."`

	Columns []string `yaml:"columns" doc:"Columns of the table to read; all if left out."`
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
			cols, err := c.columns(d.Table)
			if err != nil {
				return k, err
			}
			for _, col := range cols {
				k.Out = append(k.Out, stages.Port{Name: col.Name, Shape: words(rows, col.Shape), DType: col.DType, Slot: col.Name, NoGrad: true})
			}
			return k, nil
		},
		New: func(env stages.Env, c BatchesConfig) (stages.Stage, error) {
			b := &batches{order: newOrder(env, c.Batch, c.Shuffle, c.Drop)}
			n := len(b.train)
			b.whole = env.Parts == 1 && n == env.Data.Table.N && n <= c.Batch && (n == 1 || !c.Shuffle && slices.IsSorted(b.train))
			cols, err := c.columns(env.Data.Table)
			if err != nil {
				return nil, err
			}
			for _, col := range cols {
				b.cols = append(b.cols, column{env.Ports[col.Name].Slot, col, col.Shape.Len(), rowsOf(n, col.Shape)})
			}
			return b, nil
		},
	})
}

// columns are those that the config names, or all.
func (c BatchesConfig) columns(t *stages.Table) ([]*stages.Column, error) {
	var cols []*stages.Column
	var names []string
	for i := range t.Cols {
		names = append(names, t.Cols[i].Name)
		if len(c.Columns) == 0 {
			cols = append(cols, &t.Cols[i])
		}
	}
	for i, n := range c.Columns {
		switch col := t.Col(n); {
		case col == nil:
			return nil, fmt.Errorf("the data has no column %q, it has %q", n, names)
		case slices.Contains(c.Columns[:i], n):
			return nil, fmt.Errorf("column %q is listed twice", n)
		default:
			cols = append(cols, col)
		}
	}
	return cols, nil
}

// rowsOf is the shape of n examples.
func rowsOf(n int, row tensor.Shape) tensor.Shape {
	return tensor.Of(append([]int{n}, row.Slice()...)...)
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
	n    int          // elements of a row
	all  tensor.Shape // of the training rows together
}

type batches struct {
	*order
	cols []column

	whole bool // every step brings all training rows in their order, and those are the table
}

// StepsPerEpoch is the number of steps in a walk over the training rows.
func (s *batches) StepsPerEpoch() int64 { return s.n }

// EvalSteps is the number of batches that the validation rows fill.
func (s *batches) EvalSteps() int64 { return s.evalSteps() }

// Process copies this part's rows of each column: (B,...).
func (s *batches) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if s.whole && m.Mode == stages.Train {
		m.Rows, m.Count = len(s.train), len(s.train)
		for i := range s.cols {
			c := &s.cols[i]
			t := m.T(c.slot)
			if t.Shape.Dims[0] != m.Rows {
				t.Resize(c.all)
			}
			if x := t.F32; len(x) == 1 { // copy would be a call
				x[0] = c.col.F32[0]
				continue
			}
			copy(t.F32, c.col.F32)
			copy(t.I32, c.col.I32)
		}
		return out.Send(m)
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
