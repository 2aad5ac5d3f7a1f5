package reclog

import (
	"errors"
	"fmt"
	"io"

	"vtpu/stages"
	"vtpu/stages/wire"
)

// A Journal keeps what comes from a source that can't be read twice: it is written down before it is used, and read from here ever after. It is a stream of frames of the kind example, numbered
// by their steps from 0 on without a gap. One goroutine may append while another one reads.
type Journal struct {
	dir  string
	from ReadOptions
	w    *Writer // nil: only read
	r    *Reader
	at   int64 // step of the frame that r reads next; -1: not known
}

// Pending is the number of Parts of a frame that has the first of its step's examples only: the run ended before there were more. The frame of all of them follows it.
const Pending = 2

// OpenJournal begins or continues the journal in a directory; with readOnly nothing is written. o.From is not heeded: nothing of a journal is cut off but a torn tail.
func OpenJournal(dir string, o Options, readOnly bool) (*Journal, error) {
	j := &Journal{dir: dir, from: ReadOptions{FS: o.FS}, at: -1}
	if readOnly {
		return j, nil
	}
	o.From = KeepAll
	var err error
	if j.w, err = Create(dir, o); err != nil {
		return nil, Finding(dir, err)
	}
	return j, nil
}

// Next is the step that the journal does not have; f, which may be nil, is called with the frames of the newest one and the pending ones behind it.
func (j *Journal) Next(f func(*wire.Frame) error) (next int64, err error) {
	_, next, err = Extent(j.dir, j.from)
	if err != nil {
		return 0, Finding(j.dir, err)
	}
	if f == nil {
		return next, nil
	}
	if err := j.seek(max(next-1, 0)); errors.Is(err, ErrNoStream) {
		return next, nil
	} else if err != nil {
		return 0, Finding(j.dir, err)
	}
	j.at = -1
	for {
		fr, err := j.r.Next()
		if errors.Is(err, io.EOF) {
			return next, nil
		}
		if err == nil && fr.Kind == wire.Example {
			err = f(fr)
		}
		if err != nil {
			return 0, Finding(j.dir, err)
		}
	}
}

// seek makes r read the frames of a step next.
func (j *Journal) seek(step int64) error {
	if j.r != nil && j.at == step {
		return nil
	}
	j.at = -1
	if j.r != nil { // it has followed the stream, and has forgotten the segments behind it
		r := j.r
		j.r = nil
		if err := r.Close(); err != nil {
			return err
		}
	}
	r, err := Open(j.dir, j.from)
	if err != nil {
		return err
	}
	if err := r.SeekStep(step); err != nil {
		return errors.Join(err, r.Close())
	}
	j.r, j.at = r, step
	return nil
}

// Frame reads the whole frame of a step. It is valid until the next call.
func (j *Journal) Frame(step int64) (*wire.Frame, error) {
	if err := j.seek(step); err != nil {
		return nil, Finding(j.dir, err)
	}
	for {
		f, err := j.r.Next()
		if errors.Is(err, io.EOF) || err == nil && f.Step > step {
			j.at = -1
			return nil, stages.Finding{File: j.dir, Msg: fmt.Sprintf("the journal lacks step %d", step+1), Fix: "go on from an older checkpoint"}
		}
		if err != nil {
			j.at = -1
			return nil, Finding(j.dir, err)
		}
		if f.Kind == wire.Example && f.Step == step && f.Part+1 >= f.Parts {
			j.at = step + 1
			return f, nil
		}
	}
}

// Append writes a frame down; if it is Pending, to the disk itself.
func (j *Journal) Append(f *wire.Frame) error {
	if j.w == nil {
		return errors.New("reclog: a journal that is only read")
	}
	err := j.w.Append(f)
	if err == nil && f.Parts == Pending {
		err = j.w.Flush()
	}
	if err != nil {
		return &stages.EnvError{Err: fmt.Errorf("journal: %w", err), Fix: "free some room on the disk and go on with --resume"}
	}
	return nil
}

// Flush brings what was appended to the disk: a checkpoint must not be ahead of it.
func (j *Journal) Flush() error {
	if j.w == nil {
		return nil
	}
	return Finding(j.dir, j.w.Flush())
}

// Close ends reading and writing. Closing twice is fine.
func (j *Journal) Close() error {
	var errs []error
	if j.r != nil {
		errs = append(errs, j.r.Close())
	}
	if j.w != nil {
		errs = append(errs, j.w.Close())
	}
	return errors.Join(errs...)
}
