package pipelines

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"vtpu/compute/kernel"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/pool"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/weights"
)

// A Link joins a run to workers in other processes.
type Link struct {
	Bus   link.Bus
	Local int // workers to start in this process
	Log   zerolog.Logger
	Times pool.Times
	Last  bool // the bus ends with the run: workers need not wait for another one

	// Joined is told of the coordinator when a run begins; nil is fine.
	Joined func(*pool.Coordinator)
}

// Cut says what crosses the edges gather → forward and backward → update of the plan.
func (p *Plan) Cut() (*pool.Cut, error) {
	c := &pool.Cut{Layout: p.Layout, Store: p.Store, Parts: p.Pipe.Parts}
	in, out := map[stages.Slot]bool{}, map[stages.Slot]bool{}
	params := map[string]*weights.Param{}
	learns := false
	for _, n := range p.Nodes {
		switch room := n.Def.Room; {
		case room == stages.Gather:
		case room == stages.Compute || room == stages.Loss || n.Twin != nil:
			learns = learns || n.Twin != nil
			for _, b := range n.Env.Ports {
				if b.Slot.IsData() {
					in[b.Slot] = true
				}
			}
			if n.Twin == nil || n.Twin.Def.Room != stages.Gather { // a table that gather reads never leaves this process
				for _, b := range n.Env.Params {
					params[b.Name] = b.Param
				}
			}
		default:
			for _, b := range n.Env.Ports {
				if !b.Slot.IsData() {
					out[b.Slot] = true
				}
				if b.HasGrad {
					out[b.Grad] = true
				}
			}
		}
	}
	if !learns {
		return nil, Place{File: p.Pipe.File}.finding("nothing is learnt: there is no work for other processes", "run it without a link")
	}
	c.In = slices.Sorted(maps.Keys(in))
	for _, name := range slices.Sorted(maps.Keys(params)) {
		c.Params = append(c.Params, params[name])
	}
	for _, n := range p.Nodes {
		if n.Def.Name != "guard" {
			continue
		}
		for _, b := range n.Env.All {
			c.Out = append(c.Out, pool.Gradient{Param: b.Param, Slot: b.Grad, Sparse: b.Sparse, IDs: b.IDs})
			delete(out, b.Grad)
			delete(out, b.IDs)
		}
	}
	for _, n := range p.Nodes {
		h, half := n.Cfg.(interface{ HalfScale() float32 })
		k, few := n.Cfg.(interface{ Kept(int) int })
		est, _ := n.Cfg.(estimator)
		if !half && !few {
			continue
		}
		for i := range c.Out {
			g := &c.Out[i]
			if !slices.ContainsFunc(n.Env.All, func(b *stages.ParamBinding) bool { return b.Param == g.Param }) {
				continue
			}
			if half {
				g.Scale = h.HalfScale()
			}
			if n := g.T.Len(); few && !g.Sparse && 2*k.Kept(n) < n { // an index is as long as an element
				g.Kept = k.Kept(n)
			}
			if est != nil {
				if e := p.Store.Get(est.EstimateOf(g.Name)); e != nil {
					c.Params = append(c.Params, e)
					c.Estimates = append(c.Estimates, pool.Estimate{Param: e, Changes: min(p.Pipe.Parts*k.Kept(g.T.Len()), g.T.Len())})
				}
			}
		}
	}
	slices.SortFunc(c.Params, func(a, b *weights.Param) int { return strings.Compare(a.Name, b.Name) })
	c.Extra = slices.Sorted(maps.Keys(out))
	return c, nil
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

func (p *Plan) poolOptions(l *Link) (pool.Options, error) {
	cut, err := p.Cut()
	host, _ := os.Hostname() // for people only
	return pool.Options{Bus: l.Bus, Cut: cut, Identity: p.Identity(), Build: Build(), ISA: kernel.ISA(), AnyISA: p.Pipe.Links.ISA == "any", Log: l.Log,
		Host: host, Times: l.Times, Last: l.Last}, err
}

// join makes this run the coordinator of workers, some of which may be in this process.
func (r *run) join(ctx context.Context, base string, pl *exec.Placement) (stop func() error, err error) {
	l := r.o.Link
	po, err := r.plan.poolOptions(l)
	if err != nil {
		return nil, err
	}
	po.Run, po.Epoch = pool.NewRunID(), uint64(time.Now().UnixNano())
	if r.dir != nil {
		if po.Run, err = r.named(po.Run); err != nil {
			return nil, err
		}
	}
	c, err := pool.NewCoordinator(po)
	if err != nil {
		return nil, err
	}
	if l.Joined != nil {
		l.Joined(c)
	}
	pl.Remote, r.coord = c, c
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	errs := make([]error, l.Local)
	for i := range l.Local {
		plan, err := NewPlan(r.plan.Pipe, base, r.plan.Data)
		if err != nil {
			cancel()
			return nil, errors.Join(err, c.Close())
		}
		wg.Go(func() { _, errs[i] = plan.Work(ctx, l, false) })
	}
	return func() error {
		err := c.Close()
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

// Work computes parts for a coordinator of the same pipeline until ctx ends or, with once, until the run has ended.
func (p *Plan) Work(ctx context.Context, l *Link, once bool) (pool.WorkerCounts, error) {
	po, err := p.poolOptions(l)
	if err != nil {
		return pool.WorkerCounts{}, err
	}
	w, err := exec.NewWorker(p.Program(func() {}))
	if err != nil {
		return pool.WorkerCounts{}, err
	}
	n, err := pool.NewWorker(po, w).Run(ctx, once)
	return n, errors.Join(err, w.Close())
}

// Base is what the subjects of this pipeline begin with on a link.
func (p *Plan) Base() string { return pool.Base(p.Identity()) }
