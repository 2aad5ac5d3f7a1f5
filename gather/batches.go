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
			if d.Online != nil {
				return stages.Contract{}, errors.New("batches are rows of a table, the data is an online source: use feed_batches")
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
			b.run = (!c.Shuffle || n == 1) && slices.IsSorted(b.train) && n > 0 && int(b.train[n-1]-b.train[0]) == n-1
			b.whole = b.run && env.Parts == 1 && n <= c.Batch
			cols, err := c.columns(env.Data.Table)
			if err != nil {
				return nil, err
			}
			for _, col := range cols {
				p := env.Ports[col.Name]
				b.cols = append(b.cols, column{p.Slot, col, col.Shape.Len(), rowsOf(n, col.Shape), p.Shared && b.run})
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
	rows tensor.Shape // of rows of a step, the first dimension to be filled in
	view bool         // training rows are shown, not copied
}

type batches struct {
	*order
	cols []column

	run   bool // the training rows lie one after another in the table and are read in that order
	whole bool // every step brings all of them
}

// StepsPerEpoch is the number of steps in a walk over the training rows.
func (s *batches) StepsPerEpoch() int64 { return s.n }

// EvalSteps is the number of batches that the validation rows fill.
func (s *batches) EvalSteps() int64 { return s.evalSteps() }

// Process shows or copies this part's rows of each column: (B,...).
func (s *batches) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	var rows []int32
	train := m.Mode == stages.Train
	if s.whole && train {
		rows = s.train
		m.Rows, m.Count = len(rows), len(rows)
	} else {
		rows = s.at(m)
	}
	for i := range s.cols {
		c := &s.cols[i]
		t := m.T(c.slot)
		if c.view && train && len(rows) > 0 {
			c.show(t, int(rows[0]), len(rows))
		} else {
			c.copy(t, rows)
		}
	}
	return out.Send(m)
}

// show makes t a view of n rows from lo on.
func (c *column) show(t *tensor.Tensor, lo, n int) {
	c.rows.Dims[0] = n
	if c.col.DType == tensor.I32 {
		t.ViewI32(&c.rows, c.col.I32[lo*c.n:(lo+n)*c.n])
	} else {
		t.View(&c.rows, c.col.F32[lo*c.n:(lo+n)*c.n])
	}
}

func (c *column) copy(t *tensor.Tensor, rows []int32) {
	n := c.n
	t.Own()
	c.rows.Dims[0] = len(rows)
	t.Resize(c.rows)
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
