package reclog

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"vtpu/stages/disk"
	"vtpu/stages/wire"
)

// A Report is what Verify found in a stream.
type Report struct {
	About    wire.Frame // the frame that opens the oldest segment
	Segments []SegmentReport
	Frames   int64
	Bytes    int64
	First    int64 // oldest step; -1 where there is none
	Last     int64 // newest step; -1 where there is none
	Ended    bool  // the stream was ended in order; Weights and State are the hashes at its end
	Weights  string
	State    string
	Torn     *Damage // bytes behind the end, of a write that a crash cut short
	Damage   *Damage // nil: all that there is can be trusted
}

// SegmentReport describes one segment.
type SegmentReport struct {
	File   string
	Bytes  int64
	Frames int64
	First  int64 // -1: no step
	Last   int64
	Index  bool // there is an index, and it is right
}

// Verify reads all of a stream. The error is about reading; what is wrong with the stream is in the report.
func Verify(dir string, o ReadOptions) (Report, error) {
	rep := Report{First: -1, Last: -1}
	r, err := Open(dir, o)
	if errors.As(err, &rep.Damage) {
		return rep, nil
	}
	if err != nil {
		return rep, err
	}
	defer r.Close()
	rep.About = *r.About()
	var seg *SegmentReport
	var x index
	done := func() {
		if seg == nil {
			return
		}
		if got, err := readIndex(r.fs, dir, r.segs[len(rep.Segments)-1], seg.Bytes); err == nil {
			seg.Index = len(got.steps) == len(x.steps)
			for i := range got.steps {
				seg.Index = seg.Index && got.steps[i] == x.steps[i]
			}
		}
	}
	for {
		_, off := r.Place()
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.As(err, &rep.Damage) {
			break
		}
		if err != nil {
			return rep, err
		}
		name, end := r.Place()
		if f.Kind == wire.Open {
			done()
			rep.Segments = append(rep.Segments, SegmentReport{File: name, First: -1, Last: -1})
			seg, x = &rep.Segments[len(rep.Segments)-1], index{}
			off = 0
		}
		seg.Frames++
		rep.Frames++
		rep.Bytes += end - off
		seg.Bytes = end
		switch f.Kind {
		case wire.Open:
		case wire.Close:
			rep.Ended, rep.Weights, rep.State = true, f.Name, string(f.Raw)
		default:
			x.add(f.Step, off)
			if seg.First < 0 {
				seg.First = f.Step
			}
			if rep.First < 0 {
				rep.First = f.Step
			}
			seg.Last, rep.Last = f.Step, f.Step
		}
	}
	done()
	rep.Torn = r.Torn()
	return rep, nil
}

// Extent gives the steps that a stream holds whole, from first to next-1; both are 0 where there is no stream. A step is whole when the last of its parts is there. It looks at the newest
// segment and at the openings of the others; damage elsewhere is not seen. With a *Damage comes what is whole before it.
func Extent(dir string, o ReadOptions) (first, next int64, err error) {
	segs, err := segments(o.fs(), dir)
	if err != nil || len(segs) == 0 {
		return 0, 0, err
	}
	r, err := Open(dir, o)
	if errors.Is(err, ErrNoStream) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	first = r.About().Step
	for i := len(r.segs) - 1; i >= 0; i-- {
		w := &Reader{fs: r.fs, dir: dir, segs: r.segs[i:], dec: r.dec, win: r.win[:0], step: -1}
		if err := w.enter(0); err != nil {
			return 0, 0, err
		}
		n, werr := w.whole()
		if cerr := w.Close(); cerr != nil {
			return 0, 0, cerr
		}
		var d *Damage
		switch {
		case werr != nil && !errors.As(werr, &d):
			return 0, 0, werr
		case d != nil && err == nil: // the first that is met is in the newest segment
			err = d
		}
		if n >= 0 {
			return first, n, err
		}
	}
	return first, first, err
}

// whole reads to the end and gives the step after the last whole one; -1 where there is none.
func (r *Reader) whole() (int64, error) {
	next := int64(-1)
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return next, nil
		}
		if err != nil {
			return next, err
		}
		if f.Kind != wire.Open && f.Kind != wire.Close {
			if next = f.Step; f.Part+1 >= f.Parts {
				next++
			}
		}
	}
}

// Broken is appended to the name of a file that keeps what Repair has cut off.
const Broken = ".broken"

// Repair cuts a stream off where its first damage or its torn tail begins. The bytes of that segment from there on are kept beside it as NAME.rec.broken, later segments as a whole
// under their names with .broken. It says what it cut off; nil where the stream is sound.
func Repair(dir string, o ReadOptions) (*Damage, error) {
	rep, err := Verify(dir, o)
	if err != nil {
		return nil, err
	}
	d := rep.Damage
	if d == nil {
		d = rep.Torn
	}
	if d == nil {
		return nil, nil
	}
	return d, cut(o.fs(), dir, filepath.Base(d.Segment), d.Offset)
}

// CutAt cuts a stream off before the first frame of a step, in the manner of Repair. Damage before that place is an error.
func CutAt(dir string, step int64, o ReadOptions) error {
	r, err := Open(dir, o)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		_, off := r.Place()
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if f.Kind != wire.Open && f.Step >= step {
			name, _ := r.Place()
			return cut(r.fs, dir, filepath.Base(name), off)
		}
	}
}

// cut keeps the bytes of a segment from off on, and all later segments, under other names.
func cut(fsys disk.FS, dir, name string, off int64) error {
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	spare := func(n string) string { // a name that is free
		to := n + Broken
		for i := 2; ; i++ {
			taken := false
			for _, m := range names {
				taken = taken || m == to
			}
			if !taken {
				return filepath.Join(dir, to)
			}
			to = fmt.Sprintf("%s%s-%d", n, Broken, i)
		}
	}
	segs, err := segments(fsys, dir)
	if err != nil {
		return err
	}
	for i := len(segs) - 1; i >= 0; i-- { // the newest first: a crash in between leaves a stream that ends somewhere behind the damage
		n := segName(segs[i])
		if n < name {
			break
		}
		_ = fsys.Remove(filepath.Join(dir, n[:len(n)-len(segExt)]+idxExt)) // often there is none
		if n > name || off == 0 {
			if err := fsys.Rename(filepath.Join(dir, n), spare(n)); err != nil {
				return err
			}
			continue
		}
		if err := keepTail(fsys, filepath.Join(dir, n), spare(n), off); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

// keepTail moves the bytes of a file from off on to another file.
func keepTail(fsys disk.FS, name, to string, off int64) (err error) {
	f, err := fsys.Open(name, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	g, err := fsys.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(g, io.NewSectionReader(f, off, size-off)); err != nil {
		return errors.Join(err, g.Close())
	}
	if err := errors.Join(g.Sync(), g.Close()); err != nil {
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return err
	}
	if err := f.Truncate(off); err != nil {
		return err
	}
	return f.Sync()
}
