package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/rundir"
	"vtpu/stages/disk"
)

// streamRow says what recording costs, or how much faster than training a replay is. Ratio is the time of a step while recording by that of one without, or that of a training step
// by that of a replayed one. Where the disk alone takes longer for what is recorded than the step does without, the disk is the bound: Ratio then is the time of a step by that.
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
	Disk  float64 `json:"disk_seconds,omitempty"`      // that a bare disk takes for the bytes of a step, in direct writes of diskPiece, in the same rounds
	Bound bool    `json:"disk_bound,omitempty"`        // Disk is above Plain
	Least float64 `json:"at_least,omitempty"`
	Most  float64 `json:"at_most,omitempty"`
}

// recordingSide is vTPU while it records.
type recordingSide struct {
	*own
	dir string
	to  *nowhere // in place of a disk, or nil
}

// step is the number of bytes that a step has written.
func (r *recordingSide) step() (float64, error) {
	if err := r.engine.Flush(); err != nil {
		return 0, err
	}
	n := int64(0)
	if r.to != nil {
		n = r.to.bytes.Load()
	} else {
		var err error
		if n, err = bytesOf(r.dir); err != nil {
			return 0, err
		}
	}
	return float64(n) / float64(r.engine.Version()), nil
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

func openRecording(w work, file, lanes string, sets []string, what, dir string, to *nowhere) (*recordingSide, error) {
	runtime.GC()
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	p, _, err := pipelines.Prepare(pipelines.Options{File: file, Sets: sets, Lanes: lanes, Steps: forever, LookAhead: -1, Record: what})
	if err != nil {
		return nil, err
	}
	var fsys disk.FS
	if to != nil {
		fsys = to
	}
	if err := p.StartRecording(fsys, dir); err != nil {
		return nil, err
	}
	prog := p.Program(nil)
	e, err := exec.New(prog, p.Placement())
	if err != nil {
		return nil, err
	}
	r := &recordingSide{&own{engine: e, store: prog.Store, steps: forever}, dir, to}
	r.goOn(w)
	return r, nil
}

// goOn makes a work whose run has an end begin anew with fresh weights while the steps go on: those of a stream never go back. The rate stays what it is in the first step.
func (o *own) goOn(w work) {
	if o.fresh = w.steps(); o.fresh > 0 && o.begin == nil {
		o.keep()
	}
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

// nowhere is a disk that takes everything at once, and keeps nothing.
type nowhere struct{ bytes atomic.Int64 }

func (d *nowhere) Create(string) (disk.File, error)   { return &dropped{d: d}, nil }
func (*nowhere) Open(string, bool) (disk.File, error) { return nil, fs.ErrNotExist }
func (*nowhere) Remove(string) error                  { return nil }
func (*nowhere) Rename(string, string) error          { return nil }
func (*nowhere) List(string) ([]string, error)        { return nil, nil }
func (*nowhere) MkdirAll(string) error                { return nil }
func (*nowhere) SyncDir(string) error                 { return nil }
func (*nowhere) Lock(string) (io.Closer, error)       { return nil, errors.ErrUnsupported }

// dropped is a file of it.
type dropped struct {
	d *nowhere
	n int64
}

func (f *dropped) Write(p []byte) (int, error) {
	f.n += int64(len(p))
	f.d.bytes.Add(int64(len(p)))
	return len(p), nil
}

func (*dropped) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (f *dropped) Size() (int64, error)            { return f.n, nil }
func (f *dropped) Truncate(n int64) error          { f.n = n; return nil }
func (*dropped) Sync() error                       { return nil }
func (*dropped) Close() error                      { return nil }

// diskPiece is what the disk is measured with.
const diskPiece = 2 << 20

// diskSide is the disk alone: it writes what steps record, in order, and syncs it as a stream is.
type diskSide struct {
	dir   string
	bytes float64 // of a step
	piece []byte
}

func (d *diskSide) run(steps int64) (seconds, loss float64, err error) {
	name := filepath.Join(d.dir, "disk")
	f, err := disk.OS{Direct: true}.Create(name)
	if err != nil {
		return 0, 0, err
	}
	want, n := d.bytes*float64(steps), 0
	start := time.Now()
	for ; float64(n) < want; n += len(d.piece) {
		if _, err := f.Write(d.piece); err != nil {
			return 0, 0, errors.Join(err, f.Close())
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return 0, 0, err
	}
	return time.Since(start).Seconds() * want / float64(n), 0, os.Remove(name)
}

func (*diskSide) close() error { return nil }

// compareStreams measures what recording costs W4 and W5, and how fast they are replayed.
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
		lanes := w.lanes
		for _, replay := range []bool{true, false} { // the second time with an S lane, which does the recording: what it costs is what the D lane loses
			b.say("%s streams, %s", w.id, strings.Join(lanes, " or "))
			more, err := b.streamsOf(w, lanes, sets, dir, replay)
			if err != nil {
				return nil, err
			}
			if rows = append(rows, more...); more[0].Lanes == besideD {
				break
			}
			lanes = []string{besideD}
		}
	}
	return rows, nil
}

// besideD is a D lane with an S lane beside it.
const besideD = "d=1,s=1"

// streamsOf measures a work on the best of some lanes.
func (b *bench) streamsOf(w work, lanes, sets []string, dir string, replay bool) (rows []streamRow, err error) {
	var vs []variant
	for _, l := range lanes {
		vs = append(vs, variant{l, func() (side, error) {
			o, err := openOwn(w.file(b.tools.root), l, sets, 0)
			if err == nil {
				o.goOn(w)
			}
			return o, err
		}})
	}
	plain, err := pick(vs, b.seconds)
	if err != nil {
		return nil, err
	}
	rs := []*runner{plain}
	defer func() {
		for _, r := range rs {
			b.closed(r.close())
		}
	}()
	plain.side = &counted{side: plain.side}
	var sides []*recordingSide
	for _, what := range []string{"inputs", "gradients", "gradients"} {
		var to *nowhere
		if len(sides) == 2 {
			to = &nowhere{}
		}
		s, err := openRecording(w, w.file(b.tools.root), plain.label, sets, what, filepath.Join(dir, fmt.Sprint(w.id, len(sides))), to)
		if err != nil {
			return nil, err
		}
		r := &runner{side: s, label: what, steps: plain.steps}
		sides, rs = append(sides, s), append(rs, r)
		if _, err := r.chunk(); err != nil { // warm, before processor time is counted
			return nil, err
		}
		r.side = &counted{side: s}
	}
	n, err := sides[1].step()
	if err != nil {
		return nil, err
	}
	rs = append(rs, &runner{side: &diskSide{dir, n, disk.Aligned(diskPiece)}, label: "disk", steps: plain.steps})
	if replay {
		steps := max(plain.steps, 40)
		rec := filepath.Join(dir, w.id+"run")
		o := pipelines.Options{File: w.file(b.tools.root), Sets: sets, Lanes: plain.label, Steps: steps, LookAhead: -1, Record: "gradients", Out: rec}
		if err := pipelines.Train(context.Background(), o, silent{}); err != nil {
			return nil, fmt.Errorf("%s, %s steps: %w", w.id, strconv.FormatInt(steps, 10), err)
		}
		rs = append(rs, &runner{side: &replaySide{rec, steps}, label: "replay", steps: steps})
	}
	ts, err := alternate(rs, b.rounds, b.limit, func() {})
	if err != nil {
		return nil, err
	}
	without, bare := median(ts[0]), median(ts[4])/n
	for i, what := range []string{"inputs", "gradients", "gradients, no disk"} {
		row := streamRow{Work: w.id, What: "recording " + what, Lanes: plain.label, Plain: without, Time: median(ts[i+1]), Ratio: spreadOf(ratios(ts[i+1], ts[0])), Most: 1.05}
		if i == 0 {
			row.Most = 1.02
		}
		row.CPU, row.Idle = rs[i+1].side.(*counted).step(), rs[0].side.(*counted).step()
		if row.Bytes, err = sides[i].step(); err != nil {
			return nil, err
		}
		if i < 2 {
			row.Disk = row.Bytes * bare
		}
		if row.Bound = row.Disk > row.Plain; row.Bound {
			row.Ratio = spreadOf(ratios(ts[i+1], ts[4]))
		}
		rows = append(rows, row)
	}
	if replay {
		row := streamRow{Work: w.id, What: "replay of gradients", Lanes: plain.label, Plain: without, Time: median(ts[5]), Ratio: spreadOf(ratios(ts[0], ts[5]))}
		if w.id == "W4" {
			row.Least = 5
		}
		rows = append(rows, row)
	}
	return rows, nil
}
