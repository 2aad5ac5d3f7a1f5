package gather

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"vtpu/stages"
	"vtpu/stages/reclog"
	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// RecordedConfig is what a user may write under data with source recorded.
type RecordedConfig struct {
	Path string `yaml:"path" required:"true" doc:"Directory of a recorded stream: stream, or a tap, in a run directory."`
}

// ReplayConfig is what a user may write under replay_stream.
type ReplayConfig struct {
	Speed string `yaml:"speed" enum:"max|recorded" doc:"As fast as it goes, or with the pauses of the run that was recorded."`
}

func init() {
	stages.MustRegisterSource(stages.SourceSpec[RecordedConfig]{
		Name: "recorded", Summary: "A stream that a run has recorded: gradients or inputs, for replay_stream.",
		Example: "data: {source: recorded, path: runs/names-1/stream}",
		Load: func(env stages.LoadEnv, c RecordedConfig) (*stages.Dataset, error) {
			return reclog.Dataset(env.Path(c.Path))
		},
	})
	stages.MustRegister(stages.Spec[ReplayConfig]{
		Name: "replay_stream", Room: stages.Gather, Pipe: stages.S,
		Summary: "Bring the steps of a recorded stream again: gradients, which an update applies without data or forward work, or inputs under the names that they had.",
		Example: "replay_stream: {}",
		Default: func() ReplayConfig { return ReplayConfig{Speed: "max"} },
		Data:    replayContract,
		New: func(env stages.Env, c ReplayConfig) (stages.Stage, error) {
			a, _, err := reclog.ReadAbout(env.Data.Stream.Dir, reclog.ReadOptions{})
			if err != nil {
				return nil, err
			}
			s := &replay{dir: env.Data.Stream.Dir, first: env.Data.Stream.First, n: env.Data.Stream.Next - env.Data.Stream.First, paced: c.Speed == "recorded"}
			for _, t := range replayTensors(&a) {
				s.want = append(s.want, t)
				s.slots = append(s.slots, env.Ports[t.port].Slot)
				s.shapes = append(s.shapes, t.shape)
			}
			return s, nil
		},
	})
}

// replayTensor is what a frame of the stream must hold at one place.
type replayTensor struct {
	port, name string
	role       wire.Role
	dtype      tensor.DType
	shape      tensor.Shape // the largest
	exact      bool         // it has no other
	rows       int          // ids are below it
}

// replayTensors lists the tensors of a stream's frames in their order.
func replayTensors(a *reclog.About) (ts []replayTensor) {
	for i, s := range a.Slots {
		t := replayTensor{port: "x" + itoa(i), name: s.Name, shape: tensor.Of(s.Shape...)}
		if s.DType == "int32" {
			t.dtype = tensor.I32
		}
		ts = append(ts, t)
	}
	for i, p := range a.Params {
		if !p.Grad {
			continue
		}
		shape := tensor.Of(p.Shape...)
		t := replayTensor{port: "g" + itoa(i), name: p.Name, shape: shape, exact: true}
		if p.Sparse {
			ts = append(ts, replayTensor{port: "i" + itoa(i), name: p.Name, role: wire.IDs, dtype: tensor.I32, shape: tensor.Of(p.Rows), rows: shape.Dims[0]})
			t.role, t.exact = wire.Rows, false
			t.shape.Dims[0] = p.Rows
		}
		ts = append(ts, t)
	}
	return ts
}

func replayContract(_ ReplayConfig, d *stages.Dataset, parts int) (c stages.Contract, err error) {
	if d.Stream == nil {
		return c, errors.New("replay_stream brings a recorded stream, the data is something else: use source recorded")
	}
	a, _, err := reclog.ReadAbout(d.Stream.Dir, reclog.ReadOptions{})
	if err != nil {
		return c, err
	}
	if err := soundAbout(&a); err != nil {
		return c, fmt.Errorf("%s: %w", d.Stream.Dir, err)
	}
	want := 1
	if a.PerPart {
		want = a.Parts
	}
	if parts != want {
		return c, fmt.Errorf("the stream has %d parts in a step, the pipeline has %d: write parts: %d", want, parts, want)
	}
	c.Replicas = stages.One
	for i := range a.Params {
		p := &a.Params[i]
		c.Params = append(c.Params, stages.Param{Name: p.Name, Full: true, Shape: words1(p.Shape), Sparse: p.Sparse, Frozen: p.Frozen, At: p.Home,
			Init: func(map[string]int) stages.Init { return stages.Init{Kind: p.Init, Value: p.Value} }})
	}
	for _, t := range replayTensors(&a) {
		p := stages.Port{Name: t.port, Shape: words1(t.shape.Slice()), DType: t.dtype, Slot: t.name, NoGrad: true}
		switch {
		case a.What != "gradients":
		case t.role == wire.IDs:
			p.IDsOf, p.Slot = t.name, "ids of d "+t.name
		default:
			p.GradOf, p.Slot = t.name, "d "+t.name
		}
		c.Out = append(c.Out, p)
	}
	return c, nil
}

func words1(dims []int) string { return strings.Trim(fmt.Sprint(dims), "[]") }

// soundAbout looks at a description that may have been written by anybody.
func soundAbout(a *reclog.About) error {
	if a.What != "gradients" && a.What != "inputs" {
		return fmt.Errorf("a stream of %q can't be replayed, only gradients and inputs", a.What)
	}
	check := func(name string, dims []int) error {
		n := 1
		if len(dims) > tensor.MaxRank {
			return fmt.Errorf("%.100q has the shape %v", name, dims)
		}
		for _, d := range dims {
			if d < 1 || n > (1<<31-1)/d {
				return fmt.Errorf("%.100q has the shape %v", name, dims)
			}
			n *= d
		}
		return nil
	}
	for _, s := range a.Slots {
		if err := check(s.Name, s.Shape); err != nil {
			return err
		}
	}
	for _, p := range a.Params {
		if err := check(p.Name, p.Shape); err != nil {
			return err
		}
		if p.Sparse && (len(p.Shape) != 2 || p.Rows < 1 || p.Rows > p.Shape[0]) {
			return fmt.Errorf("%.100q has %d sparse rows of the shape %v", p.Name, p.Rows, p.Shape)
		}
	}
	if len(a.Slots) == 0 && len(a.Params) == 0 {
		b, _ := json.Marshal(a) // plain fields
		return fmt.Errorf("the stream says nothing of what it holds: %.200s", b)
	}
	return nil
}

// replay reads a stream, frame by frame.
type replay struct {
	dir    string
	first  int64
	n      int64
	want   []replayTensor
	slots  []stages.Slot
	shapes []tensor.Shape

	r     *reclog.Reader
	step  int64 // that comes next
	part  int32
	paced bool
	start time.Time // paced: when the first frame was given, and its time
	began int64
}

// StepsPerEpoch is the number of steps that the stream holds.
func (s *replay) StepsPerEpoch() int64 { return s.n }

// Close closes the stream.
func (s *replay) Close() error {
	if s.r == nil {
		return nil
	}
	return s.r.Close()
}

// Process copies the tensors of the next frame, and its head but for what the walk decides.
func (s *replay) Process(ctx context.Context, m *stages.Message, out stages.Outbox) error {
	if s.r == nil {
		r, err := reclog.Open(s.dir, reclog.ReadOptions{})
		if err != nil {
			return reclog.Finding(s.dir, err)
		}
		s.r, s.step = r, -1
	}
	if m.Step != s.step || m.Part != s.part {
		if m.Step < s.first {
			return stages.Finding{File: s.dir, Msg: fmt.Sprintf("the stream begins at step %d, step %d is wanted", s.first+1, m.Step+1), Fix: "start from a checkpoint of that step or later"}
		}
		if err := s.r.SeekStep(m.Step); err != nil {
			return reclog.Finding(s.dir, err)
		}
		s.step, s.part = m.Step, 0
	}
	f, err := s.next()
	if err != nil {
		return err
	}
	if f.Step != m.Step || f.Part != m.Part || f.Parts != m.Parts {
		return s.bad(f, fmt.Sprintf("part %d of %d of step %d is due", m.Part+1, m.Parts, m.Step+1))
	}
	if len(f.Tensors) != len(s.want) {
		return s.bad(f, fmt.Sprintf("%d tensors, %d are due", len(f.Tensors), len(s.want)))
	}
	for i := range s.want {
		if what := s.take(m.T(s.slots[i]), &f.Tensors[i], &s.want[i]); what != "" {
			return s.bad(f, what)
		}
	}
	m.First, m.Rows, m.Count, m.Targets, m.Skip = f.First, f.Rows, f.Count, f.Targets, f.Skip
	if f.Kind == wire.Gradients { // else the loss is computed again
		m.Loss, m.Hits, m.Seen = f.Loss, f.Hits, f.Seen
	}
	if s.part++; s.part == f.Parts {
		s.step, s.part = s.step+1, 0
	}
	if s.paced {
		if s.start.IsZero() {
			s.start, s.began = time.Now(), f.Time
		}
		t := time.NewTimer(time.Until(s.start.Add(time.Duration(f.Time - s.began))))
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	return out.Send(m)
}

// next is the next frame of data.
func (s *replay) next() (*wire.Frame, error) {
	for {
		f, err := s.r.Next()
		if errors.Is(err, io.EOF) {
			if d := s.r.Torn(); d != nil {
				return nil, reclog.Finding(s.dir, d)
			}
			return nil, stages.Finding{File: s.dir, Msg: fmt.Sprintf("the stream ends before step %d", s.step+1)}
		}
		if err != nil {
			return nil, reclog.Finding(s.dir, err)
		}
		if f.Kind == wire.Gradients || f.Kind == wire.Inputs {
			return f, nil
		}
	}
}

func (s *replay) bad(f *wire.Frame, what string) error {
	return stages.Finding{File: s.dir, Msg: fmt.Sprintf("frame %d (step %d, part %d) does not fit: %s", f.Seq, f.Step+1, f.Part+1, what)}
}

// take copies a tensor of a frame and says what does not fit.
func (s *replay) take(dst *tensor.Tensor, src *wire.Tensor, want *replayTensor) string {
	switch {
	case src.Name != want.name || src.Role != want.role || src.DType != want.dtype || src.Shape.Rank != want.shape.Rank,
		want.exact && src.Shape != want.shape:
		return fmt.Sprintf("tensor %.100q %v %v, want %q %v %v", src.Name, src.DType, src.Shape, want.name, want.dtype, want.shape)
	}
	for d := range src.Shape.Rank {
		if src.Shape.Dims[d] > want.shape.Dims[d] {
			return fmt.Sprintf("tensor %.100q is %v, at most %v is expected", src.Name, src.Shape, want.shape)
		}
	}
	if want.role == wire.IDs {
		last := int32(-1)
		for _, id := range src.I32 {
			if id <= last || int(id) >= want.rows {
				return fmt.Sprintf("row %d of %.100q follows row %d; there are %d", id, src.Name, last, want.rows)
			}
			last = id
		}
	}
	dst.Resize(src.Shape)
	copy(dst.F32, src.F32)
	copy(dst.I32, src.I32)
	return ""
}
