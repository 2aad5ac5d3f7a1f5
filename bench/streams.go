package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/rundir"
)

// streamRow says what recording costs, or how much faster than training a replay is. Ratio is the time of a step while recording by that of one without, or that of a training step
// by that of a replayed one.
type streamRow struct {
	Work  string  `json:"work"`
	What  string  `json:"what"`
	Lanes string  `json:"lanes"`
	Plain float64 `json:"plain_seconds"`
	Time  float64 `json:"seconds"`
	Bytes float64 `json:"bytes_a_step,omitempty"`
	Ratio spread  `json:"ratio"`
	CPU   float64 `json:"cpu_seconds,omitempty"`       // of all processors, a step
	Idle  float64 `json:"plain_cpu_seconds,omitempty"` // the same without recording
	Least float64 `json:"at_least,omitempty"`
	Most  float64 `json:"at_most,omitempty"`
}

// recordingSide is vTPU while it records.
type recordingSide struct {
	*own
	dir string
}

// counted adds up the processor time of a side.
type counted struct {
	side
	cpu   float64
	steps int64
}

func (c *counted) run(steps int64) (seconds, loss float64, err error) {
	before := cpuSeconds()
	seconds, loss, err = c.side.run(steps)
	c.cpu += cpuSeconds() - before
	c.steps += steps
	return seconds, loss, err
}

// a step is the processor time of one.
func (c *counted) step() float64 { return c.cpu / float64(max(c.steps, 1)) }

func openRecording(file, lanes string, sets []string, what, dir string) (*recordingSide, error) {
	runtime.GC()
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	p, _, err := pipelines.Prepare(pipelines.Options{File: file, Sets: sets, Lanes: lanes, Steps: forever, LookAhead: -1, Record: what})
	if err != nil {
		return nil, err
	}
	if err := p.StartRecording(dir); err != nil {
		return nil, err
	}
	e, err := exec.New(p.Program(nil), p.Placement())
	if err != nil {
		return nil, err
	}
	return &recordingSide{&own{engine: e}, dir}, nil
}

func (r *recordingSide) close() error {
	return errors.Join(r.own.close(), os.RemoveAll(r.dir))
}

// bytes are those of a directory.
func bytesOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			n += st.Size()
		}
		return err
	})
	return n, err
}

// silent watches a run and says nothing.
type silent struct{}

func (silent) Started(*pipelines.Plan, string, int64) {}
func (silent) Stepped(rundir.Metric)                  {}
func (silent) Saved(int64, string)                    {}
func (silent) Finished(pipelines.Done)                {}

// replaySide is a recorded run that is done again and again.
type replaySide struct {
	dir   string
	steps int64
}

func (r *replaySide) run(int64) (seconds, loss float64, err error) {
	d, err := pipelines.Replay(context.Background(), pipelines.ReplayOptions{Dir: r.dir, From: -1})
	if err != nil {
		return 0, 0, err
	}
	return float64(d.Steps) / d.PerSecond, d.LastLoss, nil
}

func (r *replaySide) close() error { return os.RemoveAll(r.dir) }

// compareStreams measures what recording costs W4 and W5, and how fast W4 is replayed.
func (b *bench) compareStreams() (rows []streamRow, err error) {
	dir, err := os.MkdirTemp(".", ".vtpu-streams-") // not below a temporary directory, which may be in memory
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, w := range works {
		if w.id != "W4" && w.id != "W5" {
			continue
		}
		var sets []string
		if w.usesText() {
			sets = b.sets
		}
		b.say("%s streams", w.id)
		rs, err := b.streamSides(w, sets, dir)
		if err != nil {
			return nil, err
		}
		ts, err := alternate(rs, b.rounds, b.limit)
		if err != nil {
			return nil, err
		}
		plain, idle := median(ts[0]), rs[0].side.(*counted).step()
		for i, what := range []string{"inputs", "gradients"} {
			row := streamRow{Work: w.id, What: "recording " + what, Lanes: rs[0].label, Plain: plain, Time: median(ts[i+1]), Ratio: spreadOf(ratios(ts[i+1], ts[0])), Most: 1.02}
			if what == "gradients" {
				row.Most = 1.05
			}
			c := rs[i+1].side.(*counted)
			row.CPU, row.Idle = c.step(), idle
			r := c.side.(*recordingSide)
			if err := r.engine.Flush(); err != nil {
				return nil, err
			}
			n, err := bytesOf(r.dir)
			if err != nil {
				return nil, err
			}
			row.Bytes = float64(n) / float64(r.engine.Version())
			rows = append(rows, row)
		}
		row := streamRow{Work: w.id, What: "replay of gradients", Lanes: rs[0].label, Plain: plain, Time: median(ts[3]), Ratio: spreadOf(ratios(ts[0], ts[3]))}
		if w.id == "W4" {
			row.Least = 5
		}
		rows = append(rows, row)
		for _, r := range rs {
			b.closed(r.close())
		}
	}
	return rows, nil
}

// streamSides are the sides of a work: without recording, with inputs, with gradients, and a replay.
func (b *bench) streamSides(w work, sets []string, dir string) (rs []*runner, err error) {
	plain, err := pick(w.variants(b.tools.root, sets), b.seconds)
	if err != nil {
		return nil, err
	}
	plain.side = &counted{side: plain.side}
	rs = []*runner{plain}
	for _, what := range []string{"inputs", "gradients"} {
		s, err := openRecording(w.file(b.tools.root), plain.label, sets, what, filepath.Join(dir, w.id+what))
		if err != nil {
			return nil, err
		}
		r := &runner{side: &counted{side: s}, label: what, steps: plain.steps}
		if _, err := r.chunk(); err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	steps := max(plain.steps, 40)
	rec := filepath.Join(dir, w.id+"run")
	o := pipelines.Options{File: w.file(b.tools.root), Sets: sets, Lanes: plain.label, Steps: steps, LookAhead: -1, Record: "gradients", Out: rec}
	if err := pipelines.Train(context.Background(), o, silent{}); err != nil {
		return nil, fmt.Errorf("%s, %s steps: %w", w.id, strconv.FormatInt(steps, 10), err)
	}
	return append(rs, &runner{side: &replaySide{rec, steps}, label: "replay", steps: steps}), nil
}
