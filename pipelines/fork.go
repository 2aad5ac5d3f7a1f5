package pipelines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"vtpu/compute/kernel"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/disk"
	"vtpu/stages/tensorfile"
	"vtpu/stages/weights"
)

// ForkOptions say how a run branches off another.
type ForkOptions struct {
	Dir   string   // run to branch off
	At    int64    // step after which
	Sets  []string // what is different from there on
	Steps int64    // steps in all; 0: as the other run
	Out   string   // run directory; "": a new one below runs
	Run   Options  // what Train is going to be told: looked at before anything is made, and its Record is kept in run.json
}

// Forked is what a fork has done.
type Forked struct {
	Event   string   `json:"event"` // forked
	Dir     string   `json:"dir"`
	At      int64    `json:"at"`
	From    string   `json:"from"` // "checkpoint", or "stream": recorded gradients were applied up to the step
	Weights string   `json:"weights_sha256"`
	Resume  string   `json:"resume"`         // the command that goes on
	Anew    []string `json:"anew,omitempty"` // optimizer state that begins anew: the other run had none of that name and shape
}

// Fork makes the directory of a run that goes on from a step of another run, which is read only. Train with Options.Fork continues it.
func Fork(ctx context.Context, o ForkOptions) (Forked, error) {
	d := Forked{Event: "forked", At: o.At}
	var info RunInfo
	if err := readRun(disk.OS{}, o.Dir, &info); err != nil {
		return d, err
	}
	es, err := stateAt(ctx, o.Dir, o.At, &d)
	if err != nil {
		return d, err
	}
	if o.Steps > 0 {
		info.Steps = o.Steps
	}
	if o.At >= info.Steps {
		return d, stages.Finding{File: fmt.Sprintf("--at %d", o.At), Msg: fmt.Sprintf("the run has %d steps: nothing is left to do", info.Steps), Fix: "give it more with --steps"}
	}
	p, err := info.pipe(o.Sets)
	if err != nil {
		return d, err
	}
	if err := apply(p, o.Run); err != nil {
		return d, err
	}
	if o.Run.Record != "" {
		info.Record = o.Run.Record
	}
	plan, err := NewPlan(p, info.Dir, nil)
	if err != nil {
		return d, err
	}
	if d.Anew, err = plan.adopt(o.Dir, es); err != nil {
		return d, err
	}
	plan.Store.SetVersion(o.At)
	name := o.Out
	if name == "" {
		name = choose(p.Name, false)
	}
	dir, err := rundir.Create(disk.OS{}, name)
	if err != nil {
		return d, err
	}
	host, _ := os.Hostname() // for people only
	abs, aerr := filepath.Abs(o.Dir)
	if aerr != nil {
		abs = o.Dir
	}
	info.Sets = slices.Concat(info.Sets, o.Sets)
	info.Identity, info.Base, info.Parent, info.Run = plan.Identity(), &o.At, abs, ""
	info.Version, info.Host, info.System, info.Go, info.CPUs = Version(), host, runtime.GOOS+"/"+runtime.GOARCH, runtime.Version(), runtime.NumCPU()
	info.ISA, info.Lanes, info.Started = kernel.ISA(), plan.Lanes.String(), time.Now().UTC().Format(time.RFC3339)
	dir.Pinned = []int64{o.At}
	if plan.Data != nil && plan.Data.Online != nil { // the examples that the other run has taken can't be had again
		err = copyStream(filepath.Join(o.Dir, JournalDir), dir.File(JournalDir))
	}
	if plan.Data != nil && plan.Data.Live != nil {
		err = copyStream(filepath.Join(o.Dir, ExamplesDir), dir.File(ExamplesDir))
	}
	err = errors.Join(err, plan.save(dir, o.At)) // before run.json: a directory with it is a run that can go on
	if err == nil {
		err = dir.WriteJSON(rundir.RunFile, info)
	}
	d.Dir, d.Resume = dir.Path, info.resume(dir.Path)
	d.Weights, _ = plan.Store.Hashes()
	return d, errors.Join(err, dir.Close())
}

// copyStream copies the segments of a stream.
func copyStream(from, to string) error {
	names, err := filepath.Glob(filepath.Join(from, "*.rec"))
	if err != nil || len(names) == 0 {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return &stages.EnvError{Err: err}
	}
	for _, n := range names {
		f, err := os.Open(n)
		if err != nil {
			return &stages.EnvError{Err: err}
		}
		err = tensorfile.WriteFile(filepath.Join(to, filepath.Base(n)), func(w io.Writer) error {
			_, err := io.Copy(w, f)
			return err
		})
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// stateAt is what the store of a run held after a step: from the checkpoint of that step, or by a replay.
func stateAt(ctx context.Context, dir string, at int64, d *Forked) ([]tensorfile.Entry, error) {
	steps, err := rundir.Checkpoints(disk.OS{}, dir)
	if err != nil {
		return nil, err
	}
	if slices.Contains(steps, at) {
		d.From = "checkpoint"
		es, err := readSound(disk.OS{}, filepath.Join(dir, rundir.CheckpointName(at)), at)
		return es, err
	}
	none := func(why string) error {
		return stages.Finding{File: fmt.Sprintf("--at %d", at), Msg: fmt.Sprintf("the run has neither a checkpoint of this step nor a stream up to it (%s)", why), Fix: fmt.Sprintf("there are checkpoints of the steps %v", steps)}
	}
	r, err := openRecording(dir)
	var f stages.Finding
	if errors.As(err, &f) {
		return nil, none(f.Msg)
	}
	if err != nil {
		return nil, err
	}
	s := r.data.Stream
	if at < 0 || at > s.Next {
		return nil, none(fmt.Sprintf("the stream holds the steps %d to %d", s.First+1, s.Next))
	}
	plan, err := r.plan(nil, false)
	if err != nil {
		return nil, err
	}
	from := int64(-1) // the newest checkpoint before the step saves work
	for _, c := range steps {
		if c <= at && c >= s.First {
			from = c
		}
	}
	if from, err = r.begin(plan, from); err != nil {
		return nil, err
	}
	if from > at {
		return nil, none(fmt.Sprintf("the oldest checkpoint is of step %d", from))
	}
	e, err := exec.New(plan.Program(func() {}), plan.Lanes.placement())
	if err != nil {
		return nil, err
	}
	for e.Version() < at && err == nil {
		if err = e.Run(ctx, at, at, func(exec.Outcome) {}); err == nil {
			err = ctx.Err()
		}
	}
	d.From = "stream"
	return entries(plan.Store, true), errors.Join(err, e.Close())
}

// adopt takes weights, which must all be there with their shapes, and the optimizer state that fits; it names the state that begins anew.
func (p *Plan) adopt(path string, es []tensorfile.Entry) (anew []string, err error) {
	if err := p.fill(path, es, false); err != nil {
		return nil, err
	}
	for _, w := range p.Store.All(weights.State) {
		i := slices.IndexFunc(es, func(e tensorfile.Entry) bool {
			return e.Name == w.Name && e.T.Shape == w.T.Shape && e.T.DType == w.T.DType
		})
		if i < 0 {
			anew = append(anew, w.Name)
			continue
		}
		copy(w.T.F32, es[i].T.F32)
		copy(w.T.I32, es[i].T.I32)
	}
	return anew, nil
}
