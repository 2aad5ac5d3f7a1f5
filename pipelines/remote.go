package pipelines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"vtpu/compute/kernel"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/pool"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/link"
)

// A Link joins a run to workers in other processes.
type Link struct {
	Bus   link.Bus
	Over  map[string]link.Bus // by kind, where edges are moved to links of several kinds; what is not here goes over Bus
	Local int                 // workers of each leg to start in this process

	// Stages are what a worker does, as --stages; "" is what the file leaves to workers.
	Stages string

	Log   zerolog.Logger
	Times pool.Times
	Last  bool // the bus ends with the run: workers need not wait for another one

	// Joined is told of the coordinator of each leg when a run begins; nil is fine.
	Joined func(*pool.Coordinator)
}

// Build names the program: its version and the commit that it was built from, where the toolchain has recorded it.
func Build() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return Version()
	}
	s := Version()
	for _, kv := range b.Settings {
		if kv.Key == "vcs.revision" || kv.Key == "vcs.modified" && kv.Value == "true" {
			s += " " + kv.Value[:min(len(kv.Value), 12)]
		}
	}
	return fmt.Sprintf("%s, protocol %d", s, link.Protocol)
}

// crossed is a bus whose two directions are links of different kinds: results go over one, all else over the other.
type crossed struct {
	link.Bus
	results link.Bus
}

func (c crossed) of(subject string) link.Bus {
	if pool.IsResult(subject) {
		return c.results
	}
	return c.Bus
}

func (c crossed) Publish(subject string, data []byte) error {
	return c.of(subject).Publish(subject, data)
}

func (c crossed) Subscribe(subject string, got func([]byte)) (func() error, error) {
	return c.of(subject).Subscribe(subject, got)
}

func (c crossed) MaxPayload() int { return min(c.Bus.MaxPayload(), c.results.MaxPayload()) }

// bus is what joins a leg to the run.
func (l *Link) bus(leg Leg) link.Bus {
	of := func(kind string) link.Bus {
		if b := l.Over[kind]; b != nil {
			return b
		}
		return l.Bus
	}
	in, out := of(leg.In), of(leg.Out)
	if in == out {
		return in
	}
	return crossed{in, out}
}

func (p *Plan) poolOptions(l *Link) (pool.Options, error) { return p.legOptions(l, work) }

func (p *Plan) legOptions(l *Link, leg Leg) (pool.Options, error) {
	cut, err := p.cut(leg)
	host, _ := os.Hostname() // for people only
	return pool.Options{Bus: l.bus(leg), Cut: cut, Stages: leg.String(), Steps: p.Steps, Identity: p.Identity(), Build: Build(), ISA: kernel.ISA(),
		AnyISA: p.Pipe.Links.ISA == "any", Log: l.Log, Host: host, Times: l.Times, Last: l.Last}, err
}

// walked are the nodes of the program that a leg walks.
func (p *Plan) walked(pr *exec.Program, l Leg) (nodes []exec.Node) {
	loss := len(pr.Forward)
	if pr.HasLoss {
		loss--
	}
	if l.From == toGather {
		nodes = append(nodes, pr.Gather...)
		if l.To == toGather {
			return nodes[:len(p.loads())]
		}
	}
	if l.From <= toForward && l.To == toBackward {
		return append(nodes, pr.Middle()...)
	}
	for r, some := range [][]exec.Node{toForward: pr.Forward[:loss], toLoss: pr.Forward[loss:], toBackward: pr.Backward} {
		if l.From <= r && r <= l.To {
			nodes = append(nodes, some...)
		}
	}
	return nodes
}

// chain is what happens to a part between gather and update, where some of it happens in other processes.
type chain struct {
	walks   []func(context.Context, *stages.Message) error
	returns map[stages.Slot]bool // what the legs write
	here    bool                 // some of it happens in this process
}

// Part walks through all of it.
func (c *chain) Part(ctx context.Context, m *stages.Message) error {
	for _, walk := range c.walks {
		if err := walk(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// Returns are the tensors of a body that Part writes; nil where stages of this process want a whole one.
func (c *chain) Returns() []stages.Slot {
	if c.here {
		return nil
	}
	return sorted(c.returns)
}

// here makes the stages of rooms that stay with the run, once for each part.
func (p *Plan) here(from, to int) (walk func(context.Context, *stages.Message) error, stop func() error, err error) {
	pr := p.Program(func() {})
	var all []*exec.Worker
	stop = func() error {
		var errs []error
		for _, w := range all {
			errs = append(errs, w.Close())
		}
		return errors.Join(errs...)
	}
	for range p.Pipe.Parts {
		w, err := exec.NewSegment(pr, p.walked(&pr, Leg{From: from, To: to}))
		if err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		all = append(all, w)
	}
	return func(ctx context.Context, m *stages.Message) error { return all[m.Part].Walk(ctx, m) }, stop, nil
}

// join makes this run the coordinator of workers, some of which may be in this process.
func (r *run) join(ctx context.Context, base string, pl *exec.Placement) (stop func() error, err error) {
	l := r.o.Link
	id := pool.NewRunID()
	if r.dir != nil {
		if id, err = r.named(id); err != nil {
			return nil, err
		}
	}
	var ends []func() error
	end := func() error {
		var errs []error
		for _, stop := range ends {
			errs = append(errs, stop())
		}
		return errors.Join(errs...)
	}
	legs := r.plan.legs()
	epoch := uint64(time.Now().UnixNano())
	marks := &pool.Marks{}
	middle := &chain{returns: map[stages.Slot]bool{}}
	next := toForward            // room that has no place yet
	keep := func(to int) error { // rooms before to stay here
		if next >= to {
			return nil
		}
		walk, stop, err := r.plan.here(next, to-1)
		if err == nil {
			middle.walks, middle.here, ends = append(middle.walks, walk), true, append(ends, stop)
		}
		return err
	}
	for _, leg := range legs {
		po, err := r.plan.legOptions(l, leg)
		if err != nil {
			return nil, errors.Join(err, end())
		}
		po.Run, po.Epoch, po.Cut.Marks = id, epoch, marks
		for _, other := range legs {
			if other != leg {
				po.Others = append(po.Others, other.String())
			}
		}
		if leg.String() != work.String() {
			po.Run = id.Of(leg.String())
		}
		c, err := pool.NewCoordinator(po)
		if err != nil {
			return nil, errors.Join(err, end())
		}
		ends = append(ends, c.Close)
		r.coords = append(r.coords, c)
		if l.Joined != nil {
			l.Joined(c)
		}
		if leg.To == toGather {
			pl.Source, pl.Skip = c, len(r.plan.loads())
			continue
		}
		if leg.From == toGather {
			pl.Skip = slices.IndexFunc(r.plan.Nodes, func(n *Node) bool { return n.room() > toGather }) // all of gather
		} else if err := keep(leg.From); err != nil {
			return nil, errors.Join(err, end())
		}
		middle.walks, next = append(middle.walks, c.Part), leg.To+1
		for _, s := range c.Returns() {
			middle.returns[s] = true
		}
	}
	if len(middle.walks) > 0 {
		if err := keep(toUpdate); err != nil {
			return nil, errors.Join(err, end())
		}
		pl.Remote = middle
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	errs := make([]error, l.Local*len(legs))
	for i := range errs {
		plan, err := NewPlan(r.plan.Pipe, base, r.plan.Data)
		if err != nil {
			cancel()
			wg.Wait()
			return nil, errors.Join(err, end())
		}
		wg.Go(func() { _, errs[i] = plan.work(ctx, l, legs[i%len(legs)], false) })
	}
	return func() error {
		err := end()
		cancel()
		wg.Wait()
		return errors.Join(append(errs, err)...)
	}, nil
}

// named keeps the name of a run on a link in its directory, so that it is the same run after a resume.
func (r *run) named(id pool.RunID) (pool.RunID, error) {
	var info RunInfo
	if err := rundir.ReadJSON(r.dir.FS, r.dir.File(rundir.RunFile), &info); err != nil {
		return id, err
	}
	if info.Run != "" {
		return pool.ParseRunID(info.Run)
	}
	info.Run = id.String()
	return id, r.dir.WriteJSON(rundir.RunFile, info)
}

// Work does for a coordinator of the same pipeline what l.Stages says, until ctx ends or, with once, until the run has ended.
func (p *Plan) Work(ctx context.Context, l *Link, once bool) (pool.WorkerCounts, error) {
	leg, err := p.Leg(l.Stages)
	if err != nil {
		return pool.WorkerCounts{}, err
	}
	return p.work(ctx, l, leg, once)
}

func (p *Plan) work(ctx context.Context, l *Link, leg Leg, once bool) (pool.WorkerCounts, error) {
	po, err := p.legOptions(l, leg)
	if err != nil {
		return pool.WorkerCounts{}, err
	}
	pr := p.Program(func() {})
	w, err := exec.NewWorkerOf(pr, p.walked(&pr, leg), leg.To > toGather)
	if err != nil {
		return pool.WorkerCounts{}, err
	}
	n, err := pool.NewWorker(po, w).Run(ctx, once)
	return n, errors.Join(err, w.Close())
}

// Base is what the subjects of this pipeline begin with on a link.
func (p *Plan) Base() string { return pool.Base(p.Identity()) }
