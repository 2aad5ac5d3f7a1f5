package pipelines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vtpu/compute/kernel"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/disk"
	"vtpu/stages/reclog"
	"vtpu/stages/tensor"
	"vtpu/stages/tensorfile"
	"vtpu/stages/weights"
	"vtpu/stages/wire"
)

// ReplayOptions say how a recorded run is done again.
type ReplayOptions struct {
	Dir    string   // run directory
	Sets   []string // changes beside those of the run: a what-if
	To     int64    // steps; 0: to the end of the stream
	From   int64    // checkpoint to start from; -1: the beginning
	Paced  bool     // with the pauses of the run
	Verify int      // steps whose gradients are computed again, and compared bit by bit
	Every  int64    // steps between two calls of Stepped
	ISA    string   // "": the best

	Stepped func(rundir.Metric) // nil is fine
}

// Replayed is the result of a replay. Its JSON is the last line of replay --json.
type Replayed struct {
	Event     string   `json:"event"` // replayed
	Name      string   `json:"name"`
	What      string   `json:"what"` // gradients or inputs
	From      int64    `json:"from"`
	Steps     int64    `json:"steps"`
	LastLoss  float64  `json:"last_loss"` // as recorded, or computed again from inputs
	Weights   string   `json:"weights_sha256"`
	State     string   `json:"state_sha256"`
	Expected  string   `json:"expected_sha256,omitempty"` // of the weights after that step in the run, if it is known
	Match     *bool    `json:"match,omitempty"`           // nil: nothing to compare with
	WhatIf    []string `json:"what_if,omitempty"`         // what was changed; the weights are those of no run then
	Verified  []int64  `json:"verified_steps,omitempty"`  // steps whose gradients were computed again, with the same bits
	PerSecond float64  `json:"steps_per_s"`
	Recorded  float64  `json:"recorded_steps_per_s,omitempty"` // of the run, by the times in the stream
}

// A Mismatch says that something is not what was recorded.
type Mismatch struct{ Msg string }

func (e *Mismatch) Error() string { return e.Msg }

// recording is a run directory with a stream, opened to be applied.
type recording struct {
	dir   string
	info  RunInfo
	about reclog.About
	data  *stages.Dataset
}

func openRecording(dir string) (*recording, error) {
	r := &recording{dir: dir}
	if err := readRun(disk.OS{}, dir, &r.info); err != nil {
		return nil, err
	}
	stream := filepath.Join(dir, StreamDir)
	var err error
	if r.about, _, err = reclog.ReadAbout(stream, reclog.ReadOptions{}); err != nil {
		return nil, reclog.Finding(dir, err)
	}
	if r.data, err = reclog.Dataset(stream); err != nil {
		return nil, err
	}
	return r, nil
}

// readRun reads run.json.
func readRun(fsys disk.FS, dir string, info *RunInfo) error {
	err := rundir.ReadJSON(fsys, filepath.Join(dir, rundir.RunFile), info)
	var f stages.Finding
	if errors.As(err, &f) && f.Msg == "no such file" {
		return stages.Finding{File: dir, Msg: "holds no run", Fix: "name the directory that a run has printed"}
	}
	return err
}

// pipe is the pipeline of the run with further assignments; variables of the environment are as they were when the run began.
func (info *RunInfo) pipe(sets []string) (*Pipeline, error) {
	p, err := parse(info.File, []byte(info.Pipeline), slices.Concat(info.Sets, sets), func(name string) (string, bool) {
		v, ok := info.Vars[name]
		return v, ok
	})
	if err != nil {
		return nil, err
	}
	p.Run.Steps, p.Run.Epochs = info.Steps, 0
	if info.Record != "" {
		err = p.setRecord(info.Record)
	}
	return p, err
}

// plan makes the pipeline that applies the stream: the half of the run's own that follows what was recorded, behind replay_stream.
func (r *recording) plan(sets []string, paced bool) (*Plan, error) {
	p, err := r.info.pipe(sets)
	if err != nil {
		return nil, err
	}
	def, source := stages.Find("replay_stream"), stages.FindSource("recorded")
	if def == nil || source == nil {
		return nil, errors.New("the program lacks the stage replay_stream")
	}
	first := Item{Place: Place{File: p.File}, Def: def, Cfg: def.NewConfig(), Name: "replay_stream"}
	if paced {
		stages.CopyConfig(first.Cfg, &struct {
			Speed string `yaml:"speed"`
		}{"recorded"})
	}
	items := []Item{first}
	for _, it := range p.Items {
		if r.about.What == "gradients" && it.changesParts() { // they were recorded as it left them
			if e, ok := it.Cfg.(estimator); ok && e.EstimateOf("") != "" {
				p.estimated = true
			}
			continue
		}
		switch {
		case it.eachPart() || it.Def.Name == "checkpoint":
			continue
		case r.about.What == "inputs" && it.Def.Data != nil, r.about.What == "gradients" && it.Def.Room < stages.Backward:
			continue
		}
		if r.about.What == "gradients" && it.Def.Contract != nil && len(it.Def.Contract(it.Cfg).In) > 0 {
			continue // a scatter stage that reads what forward would have computed
		}
		if c, ok := it.Cfg.(recorder); ok {
			c.SetRecord("none")
		}
		items = append(items, it)
	}
	p.Items, p.Sample, p.Links = items, nil, noLinks()
	p.Data = &DataSection{Place: Place{File: p.File}, Source: source, Cfg: source.NewConfig(), Split: 1}
	if !r.about.PerPart {
		p.Parts = 1
	}
	if r.about.What == "gradients" { // nothing to compute: one lane reads ahead, one updates; where a step is small the hops would cost more than that saves
		p.Place.DLanes, p.Place.SLanes = AutoInt{N: 1}, AutoInt{N: 0}
		if r.about.Elements() >= 1<<16 {
			p.Place.SLanes.N = 2
		}
	}
	return NewPlan(p, r.info.Dir, r.data)
}

// begin brings a plan to where the replay starts: the weights that the seed gives, or a checkpoint.
func (r *recording) begin(p *Plan, from int64) (int64, error) {
	steps, err := rundir.Checkpoints(disk.OS{}, r.dir)
	if err != nil {
		return 0, err
	}
	first := r.data.Stream.First
	if from < 0 {
		if first == 0 && r.info.Base == nil {
			return 0, nil
		}
		i := slices.IndexFunc(steps, func(s int64) bool { return s >= first && s < r.data.Stream.Next })
		if i < 0 {
			return 0, stages.Finding{File: r.dir, Msg: fmt.Sprintf("the stream begins at step %d, and there is no checkpoint to start from; there are %v", first+1, steps),
				Fix: "keep more of the stream (keep_mib), or write checkpoints more often"}
		}
		from = steps[i]
	}
	if !slices.Contains(steps, from) {
		return 0, stages.Finding{File: r.dir, Msg: fmt.Sprintf("there is no checkpoint of step %d", from), Fix: fmt.Sprintf("there are %v", steps)}
	}
	if from < first || from > r.data.Stream.Next {
		return 0, stages.Finding{File: r.dir, Msg: fmt.Sprintf("the stream holds the steps %d to %d, the checkpoint is of step %d", first+1, r.data.Stream.Next, from)}
	}
	return p.restoreAs(disk.OS{}, filepath.Join(r.dir, rundir.CheckpointName(from)), r.info.Identity)
}

// expected is the hash of the weights after a step of the run: from the frame that ends the stream, or a checkpoint; "" where nobody knows it.
func (r *recording) expected(step int64) (string, error) {
	rd, err := reclog.Open(r.data.Stream.Dir, reclog.ReadOptions{})
	if err != nil {
		return "", reclog.Finding(r.dir, err)
	}
	defer rd.Close()
	if err := rd.SeekStep(step); err != nil {
		return "", reclog.Finding(r.dir, err)
	}
	f, err := rd.Next()
	for err == nil && f.Kind == wire.Open {
		f, err = rd.Next()
	}
	if err == nil && f.Kind == wire.Close && f.Step == step {
		return f.Name, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", reclog.Finding(r.dir, err)
	}
	steps, err := rundir.Checkpoints(disk.OS{}, r.dir)
	if err != nil || !slices.Contains(steps, step) {
		return "", err
	}
	_, meta, err := tensorfile.ReadSafetensors(filepath.Join(r.dir, rundir.CheckpointName(step)))
	return meta["vtpu.weights_sha256"], err
}

// pace is the speed of the run by the times of its first and last recorded step.
func (r *recording) pace() (float64, error) {
	rd, err := reclog.Open(r.data.Stream.Dir, reclog.ReadOptions{})
	if err != nil {
		return 0, err
	}
	defer rd.Close()
	at := func(step int64) (int64, error) {
		if err := rd.SeekStep(step); err != nil {
			return 0, err
		}
		f, err := rd.Next()
		if err != nil {
			return 0, err
		}
		return f.Time, nil
	}
	s := r.data.Stream
	a, err := at(s.First)
	if err != nil || s.Next-s.First < 2 {
		return 0, err
	}
	b, err := at(s.Next - 1)
	if err != nil || b <= a {
		return 0, err
	}
	return float64(s.Next-1-s.First) / (float64(b-a) / 1e9), nil
}

// Replay does a recorded run again from its stream, without its data where gradients were recorded, and compares the weights with those that the run had. A *Mismatch
// says that they differ.
func Replay(ctx context.Context, o ReplayOptions) (d Replayed, err error) {
	d = Replayed{Event: "replayed", WhatIf: o.Sets}
	if o.ISA != "" {
		if err := kernel.SetISA(o.ISA); err != nil {
			return d, stages.Finding{File: "--isa", Msg: err.Error()}
		}
	}
	r, err := openRecording(o.Dir)
	if err != nil {
		return d, err
	}
	to := o.To
	if to == 0 {
		to = r.data.Stream.Next
	}
	if to < 0 || to > r.data.Stream.Next {
		return d, stages.Finding{File: fmt.Sprintf("--to-step %d", to), Msg: fmt.Sprintf("the stream holds the steps %d to %d", r.data.Stream.First+1, r.data.Stream.Next)}
	}
	plan, err := r.plan(o.Sets, o.Paced)
	if err != nil {
		return d, err
	}
	if d.From, err = r.begin(plan, o.From); err != nil {
		return d, err
	}
	if to < d.From {
		return d, stages.Finding{File: fmt.Sprintf("--to-step %d", to), Msg: fmt.Sprintf("the replay starts after step %d", d.From)}
	}
	d.Name, d.What = r.info.Name, r.about.What
	e, err := exec.New(plan.Program(func() {}), plan.Lanes.placement())
	if err != nil {
		return d, err
	}
	defer func() { _ = e.Close() }() // it has only read
	var check *checker
	stops := []int64{to}
	if o.Verify > 0 {
		if check, err = r.checker(); err != nil {
			return d, err
		}
		defer func() { err = also(err, check.close()) }()
		for i := range o.Verify {
			stops = append(stops, d.From+int64(i)*max(to-1-d.From, 0)/int64(max(o.Verify-1, 1)))
		}
		slices.Sort(stops)
		stops = slices.Compact(stops)
	}
	every := o.Every
	if every == 0 {
		every = max(1, (to+maxLines-1)/maxLines)
	}
	seen := func(x exec.Outcome) {
		d.LastLoss = x.Loss
		if o.Stepped != nil && ((x.Step+1)%every == 0 || x.Step == 0 || x.Step+1 == to) {
			o.Stepped(rundir.Metric{Event: "step", Step: x.Step + 1, Loss: x.Loss, Hits: x.Hits, Seen: x.Seen})
		}
	}
	var busy time.Duration
	for _, at := range stops {
		begin := time.Now()
		for e.Version() < at {
			if err := e.Run(ctx, at, every, seen); err != nil {
				return d, err
			}
			if ctx.Err() != nil {
				return d, ctx.Err()
			}
		}
		busy += time.Since(begin)
		if check != nil && at < to {
			if err := check.step(ctx, plan.Store, at); err != nil {
				return d, err
			}
			d.Verified = append(d.Verified, at+1)
		}
	}
	d.Steps = e.Version()
	if busy > 0 {
		d.PerSecond = float64(d.Steps-d.From) / busy.Seconds()
	}
	if d.Recorded, err = r.pace(); err != nil {
		return d, err
	}
	d.Weights, d.State = plan.Store.Hashes()
	if len(o.Sets) > 0 {
		return d, nil
	}
	if d.Expected, err = r.expected(to); err != nil || d.Expected == "" {
		return d, err
	}
	same := d.Expected == d.Weights
	if d.Match = &same; !same {
		return d, &Mismatch{fmt.Sprintf("%s: after step %d the run had the weights %s, the replay has %s", o.Dir, to, d.Expected, d.Weights)}
	}
	return d, nil
}

// checker computes gradients again and compares them with the recorded ones.
type checker struct {
	r     *recording
	plan  *Plan
	close func() error
}

func (r *recording) checker() (*checker, error) {
	if r.about.What != "gradients" {
		return nil, stages.Finding{File: "--verify-gradients", Msg: fmt.Sprintf("the stream holds %s", r.about.What), Fix: "record gradients"}
	}
	p, err := r.info.pipe(nil)
	if err != nil {
		return nil, err
	}
	if _, _, cfg := p.records(); cfg == nil {
		if err := p.setRecord("gradients"); err != nil {
			return nil, err
		}
	}
	plan, err := NewPlan(p, r.info.Dir, nil)
	if err != nil {
		return nil, err
	}
	plan.Recording = &stages.Recording{Dir: r.dir, ReadOnly: true} // the examples of an online source are in the journal
	c := &checker{r: r, plan: plan, close: func() error { return nil }}
	if plan.Data != nil && plan.Data.Live != nil { // no broker: they are in the run directory too
		c.close, err = openPast(r.dir, plan.Data.Live)
	}
	return c, err
}

// step computes the step after at with the weights of s.
func (c *checker) step(ctx context.Context, s *weights.Store, at int64) (err error) {
	for _, w := range c.plan.Store.All(weights.Weight) {
		from := s.Get(w.Name)
		if from == nil {
			return fmt.Errorf("weight %s is not in the stream", w.Name)
		}
		copy(w.T.F32, from.T.F32)
	}
	for _, w := range c.plan.Store.All(weights.State) { // error_feedback's estimate is read by the parts
		if from := s.Get(w.Name); from != nil && from.T.Shape == w.T.Shape {
			copy(w.T.F32, from.T.F32)
		}
	}
	c.plan.Store.SetVersion(at)
	rd, err := reclog.Open(c.r.data.Stream.Dir, reclog.ReadOptions{})
	if err != nil {
		return reclog.Finding(c.r.dir, err)
	}
	defer rd.Close()
	if err := rd.SeekStep(at); err != nil {
		return reclog.Finding(c.r.dir, err)
	}
	pr := c.plan.Program(nil)
	var guard *Node
	for _, n := range c.plan.Nodes {
		if n.Def.Name == "guard" {
			guard = n
		}
	}
	cmp := exec.Node{Name: "compare", New: func(*stages.Team) (stages.Stage, error) {
		return &compare{rd: rd, all: guard.Env.All, dir: c.r.dir}, nil
	}}
	var reduce []exec.Node
	for _, n := range pr.Close {
		if n.Name == "reduce" {
			reduce = append(reduce, n)
		}
	}
	if c.r.about.PerPart {
		pr.Close = append([]exec.Node{cmp}, reduce...)
	} else {
		pr.Close = append(slices.Clone(reduce), cmp)
	}
	e, err := exec.New(pr, exec.Placement{D: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	done := false
	if err := e.Run(ctx, at+1, 1, func(x exec.Outcome) { done = x.Step == at }); err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if !done { // the data ended before it
		return &Mismatch{fmt.Sprintf("step %d was recorded, and the data does not reach it", at+1)}
	}
	return nil
}

// compare is a stage that holds gradients against recorded ones.
type compare struct {
	rd  *reclog.Reader
	all []*stages.ParamBinding
	dir string
}

// Process reads the next frame.
func (s *compare) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	f, err := s.rd.Next()
	if err != nil {
		return reclog.Finding(s.dir, err)
	}
	if f.Step != m.Step || f.Part != m.Part && f.Parts > 1 || math.Float64bits(f.Loss) != math.Float64bits(m.Loss) {
		return &Mismatch{fmt.Sprintf("step %d: the recorded loss is %v, computed again it is %v", m.Step+1, f.Loss, m.Loss)}
	}
	i := 0
	for _, p := range s.all {
		for _, slot := range []struct {
			on bool
			s  stages.Slot
		}{{p.Sparse, p.IDs}, {true, p.Grad}} {
			if !slot.on {
				continue
			}
			if i >= len(f.Tensors) {
				return &Mismatch{fmt.Sprintf("step %d: the frame has no gradient of %s", m.Step+1, p.Name)}
			}
			got := f.Tensors[i].Tensor()
			if at := differs(m.T(slot.s), &got); f.Tensors[i].Name != p.Name || at >= 0 {
				return &Mismatch{fmt.Sprintf("step %d: the gradient of %s is not what was recorded, element %d of %v", m.Step+1, p.Name, at, m.T(slot.s).Shape)}
			}
			i++
		}
	}
	return out.Send(m)
}

// differs gives the first element in which two tensors have other bits, the length of the shorter one if it is all of a beginning, and -1 where they are equal.
func differs(a, b *tensor.Tensor) int {
	n := min(a.Len(), b.Len())
	for i := range n {
		if a.DType == tensor.I32 && b.DType == tensor.I32 {
			if a.I32[i] != b.I32[i] {
				return i
			}
		} else if a.DType != b.DType || math.Float32bits(a.F32[i]) != math.Float32bits(b.F32[i]) {
			return i
		}
	}
	if a.Shape != b.Shape {
		return n
	}
	return -1
}

// WhatIfLabel says in words what a what-if has changed.
func (d *Replayed) WhatIfLabel() string {
	var b bytes.Buffer
	b.WriteString("what if: " + strings.Join(d.WhatIf, ", "))
	b.WriteString("; the gradients are still those of the run as it was, so that these are the weights of no run")
	return b.String()
}
