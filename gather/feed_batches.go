package gather

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"vtpu/stages"
	"vtpu/stages/reclog"
	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// FeedConfig is what a user may write under feed_batches.
type FeedConfig struct {
	Batch   int         `yaml:"batch" min:"1" max:"1048576" doc:"Examples in a step; the last step of a feed that ends may have fewer."`
	Sync    reclog.Sync `yaml:"sync" doc:"When the journal is brought to the disk itself: always, before a step uses the examples; never; or every 1s. A killed process loses nothing in any case, a power loss what is not on the disk."`
	Segment int64       `yaml:"segment_mib" min:"1" max:"65536" doc:"MiB after which a new file of the journal is begun."`
	Keep    int64       `yaml:"keep_mib" min:"0" doc:"MiB of journal after which the oldest files are removed; 0 keeps all. A resume needs the examples since the newest checkpoint."`
}

func init() {
	stages.MustRegister(stages.Spec[FeedConfig]{
		Name: "feed_batches", Room: stages.Gather, Pipe: stages.S,
		Summary: "Examples of an online source in the order in which they come, journalled before they are used, so that a resumed run trains on the same.",
		Example: "feed_batches: {batch: 32}",
		Default: func() FeedConfig { return FeedConfig{Batch: 32, Segment: 64} },
		Data: func(c FeedConfig, d *stages.Dataset, parts int) (stages.Contract, error) {
			if d.Online == nil {
				return stages.Contract{}, errors.New("feed_batches are examples of an online source, such as stdin; this data is all there: use batches")
			}
			if parts > c.Batch {
				return stages.Contract{}, errors.New("there are more parts than examples in a batch")
			}
			k := stages.Contract{Replicas: stages.One}
			for i := range d.Table.Cols {
				col := &d.Table.Cols[i]
				k.Out = append(k.Out, stages.Port{Name: col.Name, Shape: words(largest(c.Batch, parts), col.Shape), DType: col.DType, Slot: col.Name, NoGrad: true})
			}
			return k, nil
		},
		New: func(env stages.Env, c FeedConfig) (stages.Stage, error) {
			s := &feed{src: env.Data.Online, batch: c.Batch, at: -1}
			for i := range env.Data.Table.Cols {
				col := &env.Data.Table.Cols[i]
				n := col.Shape.Len()
				t := tensor.New(col.DType, rowsOf(c.Batch, col.Shape))
				s.cols = append(s.cols, feedCol{env.Ports[col.Name].Slot, col, n})
				s.step = append(s.step, &t)
			}
			if env.Record == nil {
				return s, nil
			}
			s.dir = filepath.Join(env.Record.Dir, "journal")
			if env.Record.ReadOnly {
				s.src = nothing{dir: s.dir}
			}
			var err error
			if s.log, err = reclog.OpenJournal(s.dir, reclog.Options{Name: "journal", About: env.Record.About, Run: env.Record.Run, Segment: c.Segment << 20, Keep: c.Keep << 20, Sync: c.Sync,
				FS: env.Record.FS}, env.Record.ReadOnly); err != nil {
				return nil, err
			}
			return s, nil
		},
	})
}

type feedCol struct {
	slot stages.Slot
	col  *stages.Column
	n    int // elements of a row
}

// feed gives a step's examples: from the journal, where it has them, else from the source.
type feed struct {
	src   stages.Online
	batch int
	cols  []feedCol
	step  []*tensor.Tensor // of the present step: a column each
	rows  int              // examples in it
	at    int64            // its number; -1: none

	dir   string
	log   *reclog.Journal // nil: no run directory
	next  int64           // step that the journal does not have
	taken int64           // examples in the journal
	have  int             // examples of step next that an earlier life has taken
	begun bool
	ended bool
	f     wire.Frame
}

// nothing is the source where only the journal is read.
type nothing struct{ dir string }

func (nothing) Begin(context.Context, int64) error { return nil }
func (s nothing) Take(context.Context, []*tensor.Tensor, int, int) (int, error) {
	return 0, stages.Finding{File: s.dir, Msg: "the journal does not hold the examples of this step", Fix: "nothing gives them back: ask for fewer steps"}
}
func (nothing) Ack() error   { return nil }
func (nothing) Close() error { return nil }

// begin finds out what the journal holds.
func (s *feed) begin(ctx context.Context, step int64) error {
	s.begun, s.next = true, step
	if s.log == nil {
		return s.src.Begin(ctx, 0)
	}
	next, err := s.log.Next(func(f *wire.Frame) error { // the last frames say how many examples were taken, and hold those of a step that was not filled
		if s.taken, s.have = f.Version, 0; f.Parts == reclog.Pending {
			if err := s.keep(f, f.Step); err != nil {
				return err
			}
			s.have, s.at = f.Rows, -1
		}
		return nil
	})
	if err != nil {
		return err
	}
	if next == 0 && s.have == 0 {
		return s.src.Begin(ctx, 0)
	}
	if next < step {
		return stages.Finding{File: s.dir, Msg: fmt.Sprintf("the journal ends with step %d, step %d is due", next, step+1), Fix: "go on from an older checkpoint"}
	}
	s.next = next
	return s.src.Begin(ctx, s.taken)
}

// load makes step the present one.
func (s *feed) load(ctx context.Context, step int64) error {
	if !s.begun {
		if err := s.begin(ctx, step); err != nil {
			return err
		}
	}
	if step < s.next {
		return s.again(step)
	}
	if step > s.next {
		return fmt.Errorf("step %d is wanted, step %d comes next", step+1, s.next+1)
	}
	if s.ended {
		return stages.ErrEnd
	}
	for i, t := range s.step {
		t.Resize(rowsOf(s.batch, s.cols[i].col.Shape))
	}
	had := s.have
	n, err := s.src.Take(ctx, s.step, had, s.batch)
	s.taken, s.have = s.taken+int64(n-had), 0
	switch {
	case errors.Is(err, io.EOF):
		if s.ended = true; n == 0 {
			return stages.ErrEnd
		}
	case err != nil && ctx.Err() != nil && n > had: // interrupted: what was taken is for the next life
		return errors.Join(err, s.note(step, n, reclog.Pending), s.src.Ack())
	case err != nil:
		return err
	}
	if err := s.note(step, n, 1); err != nil {
		return err
	}
	s.at, s.rows, s.next = step, n, step+1
	return s.src.Ack()
}

// note writes n examples to the journal.
func (s *feed) note(step int64, n int, parts int32) error {
	for i, t := range s.step {
		t.Resize(rowsOf(n, s.cols[i].col.Shape))
	}
	if s.log == nil {
		return nil
	}
	f := &s.f
	f.Kind, f.Step, f.Parts, f.Rows, f.Count, f.Version, f.Time = wire.Example, step, parts, n, n, s.taken, time.Now().UnixNano()
	f.Tensors = f.Tensors[:0]
	for i, t := range s.step {
		f.Tensors = append(f.Tensors, wire.Of(s.cols[i].col.Name, wire.Value, t))
	}
	return s.log.Append(f)
}

// again reads a step from the journal.
func (s *feed) again(step int64) error {
	f, err := s.log.Frame(step)
	if err != nil {
		return err
	}
	return s.keep(f, step)
}

// keep makes the examples of a frame those of a step.
func (s *feed) keep(f *wire.Frame, step int64) error {
	bad := f.Step != step || len(f.Tensors) != len(s.cols) || f.Rows < 1 || f.Rows > s.batch
	for i := 0; i < len(s.cols) && !bad; i++ {
		c := &s.cols[i]
		bad = f.Tensors[i].Name != c.col.Name || f.Tensors[i].DType != c.col.DType || f.Tensors[i].Shape != rowsOf(f.Rows, c.col.Shape)
	}
	if bad {
		return stages.Finding{File: s.dir, Msg: fmt.Sprintf("the journal's frame %d (step %d) does not fit step %d of this pipeline", f.Seq, f.Step+1, step+1)}
	}
	for i, t := range s.step {
		t.Resize(f.Tensors[i].Shape)
		copy(t.F32, f.Tensors[i].F32)
		copy(t.I32, f.Tensors[i].I32)
	}
	s.at, s.rows = step, f.Rows
	return nil
}

// Process copies this part's examples of each column: (B,...).
func (s *feed) Process(ctx context.Context, m *stages.Message, out stages.Outbox) error {
	if m.Mode != stages.Train {
		return errors.New("an online source has no validation data")
	}
	if m.Step != s.at {
		if err := s.load(ctx, m.Step); err != nil {
			return err
		}
	}
	c := cut(s.rows, int(m.Part), int(m.Parts))
	m.First, m.Rows, m.Count = c.first, c.n, c.count
	for i := range s.cols {
		col := &s.cols[i]
		t := m.T(col.slot)
		t.Resize(rowsOf(c.n, col.col.Shape))
		lo, hi := c.first*col.n, (c.first+c.n)*col.n
		if t.DType == tensor.I32 {
			copy(t.I32, s.step[i].I32[lo:hi])
		} else {
			copy(t.F32, s.step[i].F32[lo:hi])
		}
	}
	return out.Send(m)
}

// Flush brings the journal to the disk.
func (s *feed) Flush() error {
	if s.log == nil {
		return nil
	}
	return s.log.Flush()
}

// Close ends the feed and the journal.
func (s *feed) Close() error {
	var errs []error
	if s.begun {
		errs = append(errs, s.src.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	return errors.Join(errs...)
}
