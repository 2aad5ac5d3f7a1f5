package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/rundir"
	"vtpu/stages/disk"
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
	Disk  float64 `json:"disk_seconds,omitempty"`      // that a bare disk takes for the bytes of a step, in direct writes of diskPiece
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
	if err := p.StartRecording(nil, dir); err != nil {
		return nil, err
	}
	e, err := exec.New(p.Program(nil), p.Placement())
	if err != nil {
		return nil, err
	}
	return &recordingSide{&own{engine: e, steps: forever}, dir}, nil
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
	disk, err := diskTime(dir)
	if err != nil {
		return nil, err
	}
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
		ts, err := alternate(rs, b.rounds, b.limit, func() {})
		if err != nil {
			return nil, err
		}
		more, err := b.recorded(w, rs[:3], ts, disk)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
		row := streamRow{Work: w.id, What: "replay of gradients", Lanes: rs[0].label, Plain: median(ts[0]), Time: median(ts[3]), Ratio: spreadOf(ratios(ts[0], ts[3]))}
		if w.id == "W4" {
			row.Least = 5
		}
		rows = append(rows, row)
		for _, r := range rs {
			b.closed(r.close())
		}
		if rs[0].label == besideD {
			continue
		}
		// The same with an S lane, which does the recording: what it costs is what the D lane loses.
		if rs, err = b.recordingSides(w, besideD, sets, dir); err != nil {
			return nil, err
		}
		if ts, err = alternate(rs, b.rounds, b.limit, func() {}); err != nil {
			return nil, err
		}
		if more, err = b.recorded(w, rs, ts, disk); err != nil {
			return nil, err
		}
		rows = append(rows, more...)
		for _, r := range rs {
			b.closed(r.close())
		}
	}
	return rows, nil
}

// besideD is a D lane with an S lane beside it.
const besideD = "d=1,s=1"

// recorded are the rows of the sides without recording, with inputs and with gradients. disk is what the disk takes for a byte.
func (b *bench) recorded(w work, rs []*runner, ts [][]float64, disk float64) (rows []streamRow, err error) {
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
		row.Disk = row.Bytes * disk
		rows = append(rows, row)
	}
	return rows, nil
}

// diskPiece and diskBytes are what the disk is measured with.
const (
	diskPiece = 1 << 20
	diskBytes = 256 << 20
)

// diskTime is what the disk takes for a byte, in order, written and synced as a stream is.
func diskTime(dir string) (float64, error) {
	name := filepath.Join(dir, "disk")
	f, err := disk.OS{Direct: true}.Create(name)
	if err != nil {
		return 0, err
	}
	p := make([]byte, diskPiece)
	start := time.Now()
	for range diskBytes / diskPiece {
		if _, err := f.Write(p); err != nil {
			return 0, errors.Join(err, f.Close())
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	return time.Since(start).Seconds() / diskBytes, os.Remove(name)
}

// recordingSides are the sides of a work on some lanes: without recording, with inputs, with gradients. The first is calibrated, the others do as many steps.
func (b *bench) recordingSides(w work, lanes string, sets []string, dir string) (rs []*runner, err error) {
	plain, err := pick([]variant{{lanes, func() (side, error) { return openOwn(w.file(b.tools.root), lanes, sets, 0) }}}, b.seconds)
	if err != nil {
		return nil, err
	}
	return b.recordedBeside(w, plain, sets, dir)
}

// recordedBeside puts the recording sides beside a plain one.
func (b *bench) recordedBeside(w work, plain *runner, sets []string, dir string) ([]*runner, error) {
	plain.side = &counted{side: plain.side}
	rs := []*runner{plain}
	for _, what := range []string{"inputs", "gradients"} {
		s, err := openRecording(w.file(b.tools.root), plain.label, sets, what, filepath.Join(dir, w.id+what))
		if err != nil {
			return nil, err
		}
		r := &runner{side: s, label: what, steps: plain.steps}
		if _, err := r.chunk(); err != nil { // warm, before processor time is counted
			return nil, err
		}
		r.side = &counted{side: s}
		rs = append(rs, r)
	}
	return rs, nil
}

// streamSides are the sides of a work on its best lanes: without recording, with inputs, with gradients, and a replay.
func (b *bench) streamSides(w work, sets []string, dir string) (rs []*runner, err error) {
	var vs []variant
	for _, v := range w.variants(b.tools.root, sets) { // a stream goes on, it does not begin anew: neither do they
		vs = append(vs, variant{v.label, func() (side, error) { return openOwn(w.file(b.tools.root), v.label, sets, 0) }})
	}
	plain, err := pick(vs, b.seconds)
	if err != nil {
		return nil, err
	}
	if rs, err = b.recordedBeside(w, plain, sets, dir); err != nil {
		return nil, err
	}
	steps := max(plain.steps, 40)
	rec := filepath.Join(dir, w.id+"run")
	o := pipelines.Options{File: w.file(b.tools.root), Sets: sets, Lanes: plain.label, Steps: steps, LookAhead: -1, Record: "gradients", Out: rec}
	if err := pipelines.Train(context.Background(), o, silent{}); err != nil {
		return nil, fmt.Errorf("%s, %s steps: %w", w.id, strconv.FormatInt(steps, 10), err)
	}
	return append(rs, &runner{side: &replaySide{rec, steps}, label: "replay", steps: steps}), nil
}
