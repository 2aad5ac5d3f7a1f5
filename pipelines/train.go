package pipelines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"vtpu/compute/kernel"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/pool"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/disk"
)

// Options are what the command line adds to a pipeline.
type Options struct {
	File      string   // path or preset
	Sets      []string // key=value
	Steps     int64    // 0: as the file says
	Lanes     string   // d=2,s=1; "": as the file says
	LookAhead int      // -1: as the file says
	ISA       string   // "": the best
	Out       string   // run directory; "": a new one below runs; "none": write nothing
	Resume    bool
	Continue  bool   // Resume, where Out holds a run
	Every     int64  // steps between two lines; 0: as the file says
	Tune      bool   // measure some placements and use the fastest
	StopAfter int64  // stop after this step as Ctrl-C would; 0: never
	Record    string // what each step leaves in the run directory: gradients, inputs, none; "": as the file says
	Allow     bool   // resume although the pipeline, the seed or the data has changed
	Fork      bool   // continue what Fork has made in Out: the pipeline is that of run.json
	Link      *Link  // what joins this process to workers; nil: the parts are computed here
	Live      *Live  // where a live source gets its examples, and what is published; nil: nowhere

	FS   disk.FS // where the run directory is; nil: the operating system's
	Bare bool    // no charts and no report
}

func (o *Options) fs() disk.FS {
	if o.FS == nil {
		return disk.OS{}
	}
	return o.FS
}

// Watcher is told what happens in a run.
type Watcher interface {
	Started(p *Plan, dir string, from int64)
	Stepped(m rundir.Metric) // a step or an evaluation
	Saved(step int64, file string)
	Finished(d Done)
}

// A Noter is a Watcher that is also told what the user should know, before the run starts.
type Noter interface{ Note(msg string) }

// Done is the result of a run. Its JSON is the last line of run --json.
type Done struct {
	Event     string   `json:"event"` // done or stopped
	Name      string   `json:"name"`
	Steps     int64    `json:"steps"`
	FirstLoss float64  `json:"first_loss"`
	LastLoss  float64  `json:"last_loss"`
	EvalLoss  *float64 `json:"eval_loss,omitempty"`
	Accuracy  *float64 `json:"accuracy,omitempty"`
	AUC       float64  `json:"auc,omitempty"`
	Weights   string   `json:"weights_sha256"`
	State     string   `json:"state_sha256"`
	PerSecond float64  `json:"steps_per_s"`
	Lanes     string   `json:"lanes"`
	ISA       string   `json:"isa"`
	Dir       string   `json:"dir,omitempty"`
	Samples   []string `json:"samples,omitempty"`
	Cells     []Cell   `json:"cells,omitempty"`
	Resume    string   `json:"resume,omitempty"`
	LinkBytes float64  `json:"link_bytes_per_step,omitempty"` // sent and received by this process

	Metrics []rundir.Metric    `json:"-"` // of the whole run
	Shares  map[string]float64 `json:"-"` // measured part of the time of each stage
}

// Cell is a scalar of the store, read back at the end of a pipeline that learns nothing.
type Cell struct {
	Name  string  `json:"name"`
	At    string  `json:"at"`
	Value float32 `json:"value"`
}

// RunInfo is run.json: what it takes to repeat the run, and where it ran.
type RunInfo struct {
	Version  string   `json:"version"`
	Name     string   `json:"name"`
	File     string   `json:"file"`
	Dir      string   `json:"dir"` // where relative paths of the pipeline start
	Sets     []string `json:"sets,omitempty"`
	Seed     uint64   `json:"seed"`
	Steps    int64    `json:"steps"`
	Identity string   `json:"identity"`
	Host     string   `json:"host"`
	System   string   `json:"system"`
	Go       string   `json:"go"`
	CPUs     int      `json:"cpus"`
	ISA      string   `json:"isa"`
	Lanes    string   `json:"lanes"`
	Started  string   `json:"started"`
	Run      string   `json:"run,omitempty"`    // its name on a link
	Record   string   `json:"record,omitempty"` // --record
	Pipeline string   `json:"pipeline"`
	Base     *int64   `json:"base,omitempty"`   // step of the checkpoint that the run begins with, where it is not the seed's weights
	Parent   string   `json:"parent,omitempty"` // run that it was forked from

	Vars map[string]string `json:"vars,omitempty"` // environment variables that the pipeline names
}

// Version is that of the module, as the Go toolchain recorded it.
func Version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}

// PipelineOf reads the pipeline that the options name: a file, or that of the run directory that Fork has made.
func PipelineOf(o Options) (*Pipeline, error) {
	if o.Fork {
		return PipelineOfRun(o.Out)
	}
	p, _, err := Load(o.File, o.Sets)
	return p, err
}

// PipelineOfRun is the pipeline of a run directory.
func PipelineOfRun(dir string) (*Pipeline, error) {
	var info RunInfo
	if err := readRun(disk.OS{}, dir, &info); err != nil {
		return nil, err
	}
	return info.pipe(nil)
}

// Prepare reads a pipeline, applies the options and plans it.
func Prepare(o Options) (*Plan, string, error) {
	if o.Fork {
		var info RunInfo
		if err := readRun(o.fs(), o.Out, &info); err != nil {
			return nil, "", err
		}
		p, err := info.pipe(nil)
		if err != nil {
			return nil, "", err
		}
		if err := apply(p, o); err != nil {
			return nil, "", err
		}
		plan, err := NewPlan(p, info.Dir, nil)
		return plan, info.Dir, err
	}
	p, dir, err := Load(o.File, o.Sets)
	if err != nil {
		return nil, "", err
	}
	if o.Resume && o.Record == "" { // a run that was begun with --record goes on with it
		name := o.Out
		if name == "" {
			name = choose(p.Name, true)
		}
		var info RunInfo
		if readRun(o.fs(), name, &info) == nil {
			o.Record = info.Record
		}
	}
	if err := apply(p, o); err != nil {
		return nil, "", err
	}
	plan, err := NewPlan(p, dir, nil)
	return plan, dir, err
}

func apply(p *Pipeline, o Options) error {
	if o.Steps > 0 {
		p.Run.Steps, p.Run.Epochs = o.Steps, 0
	}
	if o.Record != "" {
		if err := p.setRecord(o.Record); err != nil {
			return err
		}
	}
	if o.LookAhead >= 0 {
		p.Place.LookAhead = o.LookAhead
	}
	if o.ISA != "" {
		if err := kernel.SetISA(o.ISA); err != nil {
			return stages.Finding{File: "--isa", Msg: err.Error()}
		}
	}
	if o.Lanes == "" {
		return nil
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(o.Lanes, ",") {
		k, v, _ := strings.Cut(part, "=")
		var a AutoInt
		if err := a.UnmarshalText([]byte(v)); err != nil || k != "d" && k != "s" || k == "d" && !a.Auto && a.N == 0 {
			return stages.Finding{File: "--lanes " + o.Lanes, Msg: fmt.Sprintf("%q can't be read", part), Fix: "d=2,s=1, or auto for either; at least one D lane"}
		}
		if seen[k] {
			return stages.Finding{File: "--lanes " + o.Lanes, Msg: k + " is given twice", Fix: "one number of lanes for each, such as d=2,s=1"}
		}
		seen[k] = true
		if k == "d" {
			p.Place.DLanes = a
		} else {
			p.Place.SLanes = a
		}
	}
	return nil
}

// maxLines is the number of lines that a log has at most where the file does not say more.
const maxLines = 10000

func (p *Plan) every(o Options) int64 {
	switch {
	case o.Every > 0:
		return o.Every
	case p.Pipe.Run.LogEvery > 0:
		return p.Pipe.Run.LogEvery
	}
	return max(1, (p.Steps+maxLines-1)/maxLines)
}

// runRoot is where run directories go that the user does not name.
const runRoot = "runs"

// choose finds a run directory: the newest of this name to resume, or the next number.
func choose(name string, resume bool) string {
	last := ""
	for i := 1; ; i++ {
		dir := filepath.Join(runRoot, name+"-"+strconv.Itoa(i))
		if _, err := os.Stat(dir); err != nil {
			if resume && last != "" {
				return last
			}
			return dir
		}
		last = dir
	}
}

// run is a run in progress.
type run struct {
	plan   *Plan
	o      Options
	w      Watcher
	e      *exec.Engine
	dir    *rundir.Dir
	log    *rundir.Metrics
	done   Done
	every  int64
	busy   time.Duration // in training steps
	count  int64         // steps of this process
	save   bool          // a checkpoint stage has asked
	last   int64         // step of the newest checkpoint
	feed   *feed         // of a live source
	pub    publisher
	base   *int64              // step of a checkpoint that a new run begins with
	coords []*pool.Coordinator // of what workers do, by leg
}

// Train runs a pipeline to its end, or until ctx is cancelled: then it stops after the step in hand, saves, and Done.Event is "stopped".
func Train(ctx context.Context, o Options, w Watcher) (err error) {
	if o.Continue && o.Out != "" && o.Out != "none" {
		o.Resume = o.Resume || rundir.Holds(o.fs(), o.Out)
	}
	plan, base, err := Prepare(o)
	if err != nil {
		return err
	}
	var choice *Tuned
	if o.Tune {
		switch {
		case o.Lanes != "" || o.LookAhead >= 0:
			return stages.Finding{File: "--tune", Msg: "measures lanes and look-ahead: they can't be given too", Fix: "leave out --lanes and --look-ahead"}
		case o.Link != nil:
			return stages.Finding{File: "--tune", Msg: "measures the lanes of one process, the parts of this run are computed elsewhere"}
		case o.Resume:
			choice = earlier(o, plan)
		}
		if choice != nil {
			plan, err = chosen(plan, o, base, choice)
		} else {
			plan, choice, err = tuned(ctx, plan, o, base)
		}
		if err != nil {
			return err
		}
		if t, ok := w.(TuneWatcher); ok {
			t.Tuned(choice)
		}
	}
	r := &run{plan: plan, o: o, w: w, every: plan.every(o), last: -1}
	if what, _, _ := plan.Pipe.records(); what != "none" && o.Out == "none" {
		return stages.Finding{File: "--out none", Msg: "what is recorded goes to the run directory, and there is none", Fix: "leave --out away, or record nothing with --record none"}
	}
	if o.Resume && o.Out == "none" {
		return stages.Finding{File: "--resume", Msg: "there is nothing to resume from with --out none"}
	}
	if o.Out != "none" {
		if err := r.open(base); err != nil {
			return err
		}
		defer func() { err = also(err, r.close()) }()
		if choice != nil {
			if err := r.dir.WriteJSON(TuneFile, choice); err != nil {
				return err
			}
		}
	}
	if plan.Data != nil && plan.Data.Live != nil {
		stop, err := r.openFeed()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	placement := plan.Lanes.placement()
	if o.Link != nil {
		stop, err := r.join(ctx, base, &placement)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if r.e, err = exec.New(plan.Program(func() { r.save = true; r.e.Pause() }), placement); err != nil {
		return err
	}
	defer func() { err = also(err, r.e.Close()) }()
	stop := context.AfterFunc(ctx, r.e.Stop)
	defer stop()
	w.Started(plan, r.path(), r.e.Version())
	if err := r.loop(ctx); err != nil {
		return err
	}
	return r.finish(ctx)
}

func (r *run) path() string {
	if r.dir == nil {
		return ""
	}
	return r.dir.Path
}

// open takes the run directory and, to resume, reads the newest checkpoint that is whole.
func (r *run) open(base string) (err error) {
	name := r.o.Out
	if name == "" {
		name = choose(r.plan.Pipe.Name, r.o.Resume)
	}
	if r.o.Resume {
		if r.dir, err = rundir.Open(r.o.fs(), name); err != nil {
			return err
		}
		if err := r.restore(); err != nil {
			return errors.Join(err, r.dir.Close())
		}
	} else {
		if r.dir, err = rundir.Create(r.o.fs(), name); err != nil {
			return err
		}
		host, _ := os.Hostname() // for people only
		abs, aerr := filepath.Abs(base)
		if aerr != nil {
			abs = base
		}
		info := RunInfo{Version: Version(), Name: r.plan.Pipe.Name, File: r.o.File, Dir: abs, Sets: r.o.Sets, Vars: r.plan.Pipe.Vars, Seed: r.plan.Pipe.Seed, Steps: r.plan.Steps,
			Identity: r.plan.Identity(), Host: host, System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU(),
			ISA: kernel.ISA(), Lanes: r.plan.Lanes.String(), Started: time.Now().UTC().Format(time.RFC3339), Pipeline: string(r.plan.Pipe.Text), Base: r.base, Record: r.o.Record}
		if r.base != nil {
			r.dir.Pinned = []int64{*r.base}
		}
		if err := r.dir.WriteJSON(rundir.RunFile, info); err != nil {
			return errors.Join(err, r.dir.Close())
		}
	}
	if err := r.plan.StartRecording(r.o.FS, r.dir.Path); err != nil {
		return errors.Join(err, r.dir.Close())
	}
	if r.log, err = r.dir.OpenMetrics(r.plan.Store.Version()); err != nil {
		return errors.Join(err, r.dir.Close())
	}
	return nil
}

// restore brings the store to the newest checkpoint from which the run can go on with everything that it keeps.
func (r *run) restore() error {
	var info RunInfo
	if err := rundir.ReadJSON(r.dir.FS, r.dir.File(rundir.RunFile), &info); err != nil {
		return err
	}
	if info.Steps != r.plan.Steps && !r.o.Allow {
		return stages.Finding{File: r.o.File, Msg: fmt.Sprintf("the run was begun for %d steps, now there are %d: schedules would not fit", info.Steps, r.plan.Steps),
			Fix: fmt.Sprintf("resume with --steps %d", info.Steps)}
	}
	steps, err := r.dir.Checkpoints()
	if err != nil {
		return err
	}
	oldest := int64(0)
	if info.Base != nil {
		oldest, r.dir.Pinned = *info.Base, []int64{*info.Base}
	}
	steps = slices.DeleteFunc(steps, func(s int64) bool { return s < oldest })
	if info.Base != nil && len(steps) == 0 {
		return stages.Finding{File: r.dir.Path, Msg: fmt.Sprintf("the run begins with a checkpoint of step %d, which is not there", oldest), Fix: "make it anew with what made it: vtpu import or vtpu fork"}
	}
	stream, err := keptStream(r.dir)
	if err != nil {
		return err
	}
	newest, have := int64(0), int64(0) // without a checkpoint it begins anew, with the same bits
	if len(steps) > 0 {
		newest = steps[len(steps)-1]
	}
	was := r.recorded(&info)
	if err := r.plan.mayRecord(r.dir, &stream, newest, was == "none"); err != nil {
		return err
	}
	if have, err = r.plan.covered(r.dir, &stream, newest); err != nil {
		return err
	}
	for len(steps) > 0 && steps[len(steps)-1] > have { // a power loss has taken recorded steps: do them again
		steps = steps[:len(steps)-1]
	}
	if have < newest {
		from := "from the beginning"
		if len(steps) > 0 {
			from = fmt.Sprintf("from the checkpoint of step %d", steps[len(steps)-1])
		} else if info.Base != nil {
			return stages.Finding{File: r.dir.Path, Msg: fmt.Sprintf("what is recorded ends with step %d, the oldest checkpoint is newer, and the run does not begin with the seed's weights", have),
				Fix: "go on without recording: --record none"}
		}
		r.note("what is recorded ends with step %d, before the newest checkpoint, of step %d: the run goes on %s, with the same bits", have, newest, from)
	}
	now, _, _ := r.plan.Pipe.records()
	if len(steps) == 0 && info.Identity != r.plan.Identity() {
		if !r.o.Allow {
			return stages.Finding{File: r.dir.Path, Msg: "the run belongs to another pipeline, seed or data", Fix: "resume with the pipeline and the data that the run began with; --allow-changed begins it anew with these"}
		}
		info.changed(r)
		if err := r.dir.WriteJSON(rundir.RunFile, info); err != nil {
			return err
		}
	}
	if len(steps) > 0 {
		newest = steps[len(steps)-1]
		if r.o.Allow && (info.Identity != r.plan.Identity() || info.Steps != r.plan.Steps) {
			err = r.changed(&info, &stream, newest)
		} else {
			_, err = r.plan.restore(r.dir.FS, r.dir.File(rundir.CheckpointName(newest)))
		}
		if err != nil {
			return err
		}
		r.last = newest
		switch {
		case now == "none" && stream.there && was != "none":
			r.note("nothing is recorded any more; the stream keeps %v", &stream)
		case now == "none" || stream.there:
		case newest > 0:
			r.note("recording begins with step %d: a replay starts from the checkpoint of step %d, which is kept", newest+1, newest)
			stream.first = newest
		}
	}
	if stream.there || now != "none" {
		r.dir.Pinned = append(r.dir.Pinned, stream.first)
	}
	if r.o.Record != "" && r.o.Record != info.Record {
		info.Record = r.o.Record
		return r.dir.WriteJSON(rundir.RunFile, info)
	}
	return nil
}

// recorded is what the run recorded in its life before this one.
func (r *run) recorded(info *RunInfo) string {
	p, err := info.pipe(nil)
	if err != nil { // of another version: the plan of today decides
		what, _, _ := r.plan.Pipe.records()
		return what
	}
	what, _, _ := p.records()
	return what
}

func (r *run) note(format string, args ...any) {
	if n, ok := r.w.(Noter); ok {
		n.Note(fmt.Sprintf(format, args...))
	}
}

// also joins two errors, unless the second says what the first has said: a full disk fails every later write too.
func also(err, more error) error {
	if err == nil || more == nil {
		return errors.Join(err, more)
	}
	said := err.Error()
	for line := range strings.Lines(more.Error()) {
		if !strings.Contains(said, strings.TrimSpace(line)) {
			return errors.Join(err, more)
		}
	}
	return err
}

// changed goes on from a checkpoint with a pipeline, a seed or data that are not those that the run began with; run.json then says so.
func (r *run) changed(info *RunInfo, stream *kept, step int64) error {
	if step > r.plan.Steps {
		return stages.Finding{File: r.dir.Path, Msg: fmt.Sprintf("the run has done %d steps, more than the %d that are asked for", step, r.plan.Steps),
			Fix: "give more with --steps, or go back with vtpu fork " + r.dir.Path + " --at"}
	}
	if stream.there {
		return stages.Finding{File: "--allow-changed", Msg: fmt.Sprintf("%s holds %v, recorded with the pipeline as it was: a replay would apply them with the changed one", r.dir.File(StreamDir), stream),
			Fix: fmt.Sprintf("begin a run with a stream of its own from this one: vtpu fork %s --at %d --set ...; or move the stream away", r.dir.Path, step)}
	}
	path := r.dir.File(rundir.CheckpointName(step))
	es, err := readSound(r.dir.FS, path, step)
	if err != nil {
		return err
	}
	if _, err := r.plan.adopt(path, es); err != nil {
		return err
	}
	r.plan.Store.SetVersion(step)
	info.changed(r)
	info.Base = &step
	r.dir.Pinned = []int64{step}
	if err := r.plan.save(r.dir, step); err != nil { // the checkpoint is one of the changed run from now on
		return err
	}
	return r.dir.WriteJSON(rundir.RunFile, info)
}

// changed makes the pipeline of a run that of r.
func (info *RunInfo) changed(r *run) {
	p := r.plan.Pipe
	info.Identity, info.Steps, info.Seed, info.Sets, info.Pipeline, info.Vars = r.plan.Identity(), r.plan.Steps, p.Seed, r.o.Sets, string(p.Text), p.Vars
}

func (r *run) close() error {
	var err error
	if r.log != nil {
		err = r.log.Close()
	}
	return errors.Join(err, r.dir.Close())
}

// next is the step at which training pauses for something: evaluation, checkpoint, end.
func (r *run) next(at int64) int64 {
	to := r.plan.Steps
	for _, every := range []int64{r.plan.Pipe.Run.EvalEvery, r.plan.Pipe.Run.Checkpoint, r.publishEvery()} {
		if every > 0 {
			to = min(to, (at/every+1)*every)
		}
	}
	if s := r.o.StopAfter; s > at {
		to = min(to, s)
	}
	return to
}

func (r *run) loop(ctx context.Context) error {
	d := &r.done
	d.Event = "done"
	told := int64(-1) // step of the last line
	seen := func(o exec.Outcome) {
		told = o.Step
		m := rundir.Metric{Event: "step", Step: o.Step + 1, Loss: o.Loss, Hits: o.Hits, Seen: o.Seen}
		r.metric(m)
	}
	sec := r.plan.Pipe.Run
	for r.e.Version() < r.plan.Steps {
		from := r.e.Version()
		begin := time.Now()
		err := r.e.Run(ctx, r.next(from), r.every, seen)
		r.busy += time.Since(begin)
		at := r.e.Version()
		r.count += at - from
		if err != nil && (r.feed != nil || r.o.Link != nil && at > 0) && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = nil // it was waiting for examples, or for workers: what the store holds is the step before
		}
		if err != nil {
			if r.log != nil {
				err = also(err, r.log.Flush())
			}
			return err
		}
		if err := r.publish(at); err != nil {
			return err
		}
		if r.e.Ended() {
			if at > from && told < at-1 { // the last step is one that counts, and nobody knew
				seen(r.e.Last())
			}
			return nil
		}
		stopped := ctx.Err() != nil || r.o.StopAfter > 0 && at >= r.o.StopAfter
		if sec.EvalEvery > 0 && at%sec.EvalEvery == 0 && at < r.plan.Steps && at > from {
			if err := r.eval(ctx); err != nil {
				return err
			}
		}
		if r.dir != nil && (r.save || sec.Checkpoint > 0 && at%sec.Checkpoint == 0 || stopped && at < r.plan.Steps) {
			if err := r.checkpoint(at); err != nil {
				return err
			}
		}
		r.save = false
		if stopped && at < r.plan.Steps {
			d.Event = "stopped"
			return nil
		}
	}
	return nil
}

func (r *run) metric(m rundir.Metric) {
	if r.log != nil {
		r.log.Add(m)
	} else {
		r.done.Metrics = append(r.done.Metrics, m)
	}
	r.tell(m)
	r.w.Stepped(m)
}

// checkpoint saves the run: metrics first, so that a checkpoint never is ahead of its log.
func (r *run) checkpoint(at int64) error {
	if r.last == at {
		return nil
	}
	if err := r.log.Sync(); err != nil {
		return err
	}
	if err := r.e.Flush(); err != nil { // likewise what is recorded
		return err
	}
	if r.feed != nil {
		if err := r.feed.flush(); err != nil {
			return err
		}
	}
	if err := r.plan.save(r.dir, at); err != nil {
		return err
	}
	r.last = at
	r.w.Saved(at, r.dir.File(rundir.CheckpointName(at)))
	return nil
}

func (r *run) eval(ctx context.Context) error {
	ev, err := r.e.Eval(ctx, r.plan.Pipe.Run.EvalBatches)
	if errors.Is(err, exec.ErrNoEval) || errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return err
	}
	r.done.EvalLoss = &ev.Loss
	if ev.Seen > 0 {
		a := float64(ev.Hits) / float64(ev.Seen)
		r.done.Accuracy = &a
	}
	r.done.AUC = ev.AUC
	m := rundir.Metric{Event: "eval", Step: r.e.Version(), Loss: ev.Loss, Hits: ev.Hits, Seen: ev.Seen, AUC: ev.AUC}
	if r.log != nil && r.log.Last == m {
		return nil // a run that was killed after its last checkpoint has this line already
	}
	r.metric(m)
	return nil
}

// finish evaluates, samples, saves, and draws.
func (r *run) finish(ctx context.Context) error {
	d := &r.done
	p := r.plan
	d.Name, d.Steps, d.Lanes, d.ISA, d.Dir = p.Pipe.Name, r.e.Version(), p.Lanes.String(), kernel.ISA(), r.path()
	for _, c := range r.coords {
		if n := c.Counts(); r.count > 0 {
			d.LinkBytes += float64(n.SentWork.Load()+n.SentWeights.Load()+n.Received.Load()) / float64(r.count)
		}
	}
	if r.busy > 0 {
		d.PerSecond = float64(r.count) / r.busy.Seconds()
	}
	if d.Event == "done" {
		if err := r.eval(ctx); err != nil {
			return err
		}
		if p.Pipe.Sample != nil {
			var err error
			if d.Samples, err = p.Sample(ctx, r.e, *p.Pipe.Sample, p.Pipe.Seed); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
		}
		if r.dir != nil {
			if err := r.checkpoint(r.e.Version()); err != nil {
				return err
			}
		}
	} else {
		d.Resume = r.resumeCommand()
	}
	d.Weights, d.State = p.Store.Hashes()
	if d.Event == "done" {
		if err := r.e.End(d.Steps, d.Weights, d.State); err != nil {
			return err
		}
	}
	d.Shares = r.e.Shares()
	if r.log != nil {
		if err := r.log.Flush(); err != nil {
			return err
		}
		ms, err := rundir.ReadMetrics(r.dir.FS, r.dir.Path)
		if err != nil {
			return err
		}
		d.Metrics = ms
	}
	begun := false
	for _, m := range d.Metrics {
		if m.Event == "step" {
			if !begun { // of step 1, or of the first step after a fork
				d.FirstLoss, begun = m.Loss, true
			}
			d.LastLoss = m.Loss
		}
	}
	for _, n := range p.Nodes {
		if n.Def.Name == "write_cell" {
			for _, b := range n.Bound.Params {
				w := n.Env.Params[b.Name]
				// Read back from the store by its coordinate, as any reader would.
				if got := p.Store.At(w.Coord); got != nil {
					d.Cells = append(d.Cells, Cell{got.Name, got.Coord.String(), got.T.F32[0]})
				}
			}
		}
	}
	if r.dir != nil && !r.o.Bare {
		if err := r.draw(); err != nil {
			return err
		}
	}
	r.w.Finished(*d)
	return nil
}

func (r *run) resumeCommand() string {
	if r.dir == nil {
		return ""
	}
	o := r.o
	var info RunInfo
	if o.Fork && readRun(r.dir.FS, r.dir.Path, &info) == nil { // the command that made the fork names no pipeline
		return info.resume(r.dir.Path)
	}
	return resume(o, r.dir.Path)
}

// resume is the command that goes on with the run in dir, from where it was begun.
func (i *RunInfo) resume(dir string) string {
	return resume(Options{File: i.File, Sets: i.Sets, Record: i.Record, Steps: i.Steps}, dir)
}

func resume(o Options, dir string) string {
	cmd := "vtpu run " + o.File + " --resume --out " + dir
	for _, s := range o.Sets {
		cmd += " --set " + strconv.Quote(s)
	}
	if o.Record != "" {
		cmd += " --record " + o.Record
	}
	if o.Steps > 0 {
		cmd += fmt.Sprintf(" --steps %d", o.Steps)
	}
	return cmd
}
