package pipelines

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"vtpu/pipelines/pool"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/reclog"
	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// Live joins a run to a broker: a live source gets its examples there, and metrics and weights are published there.
type Live struct {
	Bus link.Bus
	Log zerolog.Logger
}

// feed is a live source with a journal: an example is written down before it can be learnt from, so that example i is the same after a resume.
type feed struct {
	live *stages.Live
	dir  string
	log  zerolog.Logger

	mu    sync.Mutex
	more  chan struct{} // closed when another example is there
	j     *reclog.Journal
	count int64
	bad   int64
	err   error
	dec   wire.Decoder
	frame wire.Frame

	past past // of the one who calls Example
}

// ExamplesDir is the journal in a run directory.
const ExamplesDir = "examples"

// syncExamples is how often examples are brought to the disk itself: a power loss takes those since, and what was learnt from them.
const syncExamples = time.Second

// maxExample is the largest message of a source in bytes.
const maxExample = 8 << 20

func (r *run) openFeed() (stop func() error, err error) {
	o := r.o.Live
	if o == nil {
		return nil, stages.Finding{File: r.o.File, Msg: "data comes over a broker", Fix: "add --nats nats://host:4222, or --nats embedded"}
	}
	if r.dir == nil {
		return nil, stages.Finding{File: "--out none", Msg: "examples that come once are kept in the run directory, and there is none", Fix: "leave --out away"}
	}
	f := &feed{live: r.plan.Data.Live, dir: r.dir.File(ExamplesDir), log: o.Log, more: make(chan struct{})}
	about, err := json.Marshal(map[string]string{"subject": f.live.Subject, "identity": r.plan.Identity()})
	if err != nil {
		return nil, err
	}
	if f.j, err = reclog.OpenJournal(f.dir, reclog.Options{Name: "examples", About: about, Sync: reclog.Sync{Every: syncExamples}, FS: r.dir.FS}, false); err != nil {
		return nil, err
	}
	f.past = past{live: f.live, dir: f.dir, j: f.j, end: -1}
	if f.count, err = f.j.Next(nil); err != nil {
		return nil, errors.Join(err, f.j.Close())
	}
	unsubscribe, err := o.Bus.Subscribe(f.live.Subject, f.take)
	if err != nil {
		return nil, errors.Join(err, f.j.Close())
	}
	r.feed, f.live.Feed = f, f
	return func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.live.Feed = nil
		if f.err == nil {
			f.err = errors.New("the feed is closed")
		}
		if f.bad > 0 {
			f.log.Warn().Int64("examples", f.bad).Msg("examples that do not fit were dropped")
		}
		return errors.Join(unsubscribe(), f.j.Close())
	}, nil
}

// flush brings the journal to the disk: a checkpoint must not be ahead of it.
func (f *feed) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.j.Flush()
}

// take keeps an example that has come.
func (f *feed) take(data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return
	}
	row, err := f.parse(data)
	if err != nil {
		if f.bad++; f.bad == 1 {
			f.log.Warn().Err(err).Msg("an example that does not fit was dropped")
		}
		return
	}
	if err := f.j.Append(&wire.Frame{Kind: wire.Example, Meta: wire.Meta{Head: stages.Head{Step: f.count}}, Tensors: row}); err != nil {
		f.err = err
	} else {
		f.count++
	}
	close(f.more)
	f.more = make(chan struct{})
}

// parse reads an example: a frame of package wire, or a JSON object.
func (f *feed) parse(data []byte) ([]wire.Tensor, error) {
	if len(data) > maxExample {
		return nil, fmt.Errorf("%d bytes, at most %d are taken", len(data), maxExample)
	}
	row := make([]wire.Tensor, len(f.live.Cols))
	if len(data) > 4 && string(data[:4]) == "vTPU" {
		f.dec.Max = maxExample
		if _, err := f.dec.Decode(data, &f.frame); err != nil {
			return nil, err
		}
		if f.frame.Kind != wire.Example || len(f.frame.Tensors) != len(row) {
			return nil, fmt.Errorf("a frame %v with %d tensors, want %d", f.frame.Kind, len(f.frame.Tensors), len(row))
		}
		for i, c := range f.live.Cols {
			t := f.frame.Tensors[i]
			if t.Name != c.Name || t.DType != c.DType || t.Shape.Len() != c.Shape.Len() {
				return nil, fmt.Errorf("tensor %.50q %v %v, want %s %v %v", t.Name, t.DType, t.Shape, c.Name, c.DType, c.Shape)
			}
			t.Shape, t.Role = c.Shape, wire.Value
			row[i] = t
		}
		return row, f.check(row)
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("neither a JSON object nor a frame: %w", err)
	}
	if err := fill(row, f.live.Cols, fields, true); err != nil {
		return nil, err
	}
	return row, f.check(row)
}

// fill reads the columns of a JSON object; with all set each must be there, else those that are missing are zeros.
func fill(row []wire.Tensor, cols []stages.Column, fields map[string]json.RawMessage, all bool) error {
	for i, c := range cols {
		n := c.Shape.Len()
		row[i] = wire.Tensor{Name: c.Name, DType: c.DType, Shape: c.Shape}
		raw, ok := fields[c.Name]
		if !ok && all {
			return fmt.Errorf("field %q is missing", c.Name)
		}
		if bytes.Contains(raw, []byte("null")) { // encoding/json would leave a zero in its place
			return fmt.Errorf("field %q: null is no number", c.Name)
		}
		if c.DType == tensor.I32 {
			row[i].I32 = make([]int32, n)
			if !ok {
				continue
			}
			var err error
			if n == 1 {
				if err = json.Unmarshal(raw, &row[i].I32[0]); err != nil {
					err = json.Unmarshal(raw, &row[i].I32)
				}
			} else {
				err = json.Unmarshal(raw, &row[i].I32)
			}
			if err != nil || len(row[i].I32) != n {
				return fmt.Errorf("field %q: want %d whole numbers", c.Name, n)
			}
			continue
		}
		row[i].F32 = make([]float32, n)
		if !ok {
			continue
		}
		err := json.Unmarshal(raw, &row[i].F32)
		if err != nil && n == 1 {
			err = json.Unmarshal(raw, &row[i].F32[0])
		}
		if err != nil || len(row[i].F32) != n {
			return fmt.Errorf("field %q: want %d numbers", c.Name, n)
		}
	}
	return nil
}

func (f *feed) check(row []wire.Tensor) error {
	for i, c := range f.live.Cols {
		for _, v := range row[i].I32 {
			if v < 0 || int(v) >= c.Max {
				return fmt.Errorf("field %q: %d is not in 0..%d", c.Name, v, c.Max-1)
			}
		}
		for _, v := range row[i].F32 {
			if v != v || math.IsInf(float64(v), 0) {
				return fmt.Errorf("field %q is not finite", c.Name)
			}
		}
	}
	return nil
}

// Example waits for example i and reads it from the journal.
func (f *feed) Example(ctx context.Context, i int64) ([]tensor.Tensor, error) {
	for {
		f.mu.Lock()
		count, err, more := f.count, f.err, f.more
		f.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if i < count {
			break
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return f.past.Example(ctx, i)
}

// past is a live source as its journal has it: a run reads it behind what comes, and a check of recorded gradients needs no broker.
type past struct {
	live *stages.Live
	dir  string
	j    *reclog.Journal
	end  int64 // examples in it; -1: it grows, and its run knows
	row  []tensor.Tensor
}

// openPast makes the journal of a run the feed of a live source; stop closes it.
func openPast(run string, live *stages.Live) (stop func() error, err error) {
	k := &past{live: live, dir: filepath.Join(run, ExamplesDir)}
	if k.j, err = reclog.OpenJournal(k.dir, reclog.Options{}, true); err != nil {
		return nil, err
	}
	if k.end, err = k.j.Next(nil); err != nil {
		return nil, errors.Join(err, k.j.Close())
	}
	live.Feed = k
	return k.j.Close, nil
}

// Example reads example i from the journal.
func (k *past) Example(_ context.Context, i int64) ([]tensor.Tensor, error) {
	if k.end >= 0 && i >= k.end {
		return nil, stages.Finding{File: k.dir, Msg: fmt.Sprintf("the journal holds %d examples, example %d is wanted", k.end, i+1), Fix: "nothing gives the others back: ask for fewer steps with --to-step"}
	}
	fr, err := k.j.Frame(i)
	if err != nil {
		return nil, err
	}
	bad := len(fr.Tensors) != len(k.live.Cols)
	k.row = k.row[:0]
	for c := 0; c < len(k.live.Cols) && !bad; c++ {
		t, want := fr.Tensors[c].Tensor(), &k.live.Cols[c]
		bad = fr.Tensors[c].Name != want.Name || t.DType != want.DType || t.Shape != want.Shape
		k.row = append(k.row, t)
	}
	if bad {
		return nil, stages.Finding{File: k.dir, Msg: fmt.Sprintf("example %d of the journal does not have the columns of the pipeline", i+1),
			Fix: "go on with the pipeline that the run began with, or begin another run with --out"}
	}
	return k.row, nil
}

// publisher sends weights and metrics to whoever listens.
type publisher struct {
	p    *pool.Publisher
	last int64

	told time.Time // of the last metric
	step int64     // its step
}

// metricEvery is the least time between two metrics of steps on the broker.
const metricEvery = 100 * time.Millisecond

// tell publishes a line of the log with the speed since the last one. Of steps, at most some a second.
func (r *run) tell(m rundir.Metric) {
	if r.publishEvery() == 0 {
		return
	}
	t := &r.pub
	now := time.Now()
	since := now.Sub(t.told)
	if m.Event == "step" && since < metricEvery && m.Step < r.plan.Steps {
		return
	}
	x := struct {
		rundir.Metric
		PerSecond float64 `json:"steps_per_s,omitempty"`
	}{Metric: m}
	if m.Event == "step" {
		if !t.told.IsZero() {
			x.PerSecond = float64(m.Step-t.step) / since.Seconds()
		}
		t.told, t.step = now, m.Step
	}
	if b, err := json.Marshal(x); err == nil { // a loss that is no number stops the run
		_ = r.o.Live.Bus.Publish(r.plan.Base()+".metrics", b) // where the broker is away the next one will do
	}
}

func (r *run) publishEvery() int64 {
	if r.o.Live == nil {
		return 0
	}
	return r.plan.Pipe.Links.Publish
}

// publish sends the newest weights and the last loss, at steps where that is due.
func (r *run) publish(at int64) error {
	every := r.publishEvery()
	if every == 0 || at%every != 0 && at != r.plan.Steps || at == r.pub.last {
		return nil
	}
	r.pub.last = at
	if r.pub.p == nil {
		r.pub.p = pool.NewPublisher(r.o.Live.Bus, r.plan.Store, r.plan.Base())
	}
	w, _ := r.plan.Store.Hashes()
	return r.pub.p.Publish(at, w)
}
