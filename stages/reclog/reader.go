package reclog

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"vtpu/stages/disk"
	"vtpu/stages/wire"
)

// ReadOptions say how a stream is read. The zero value reads from the operating system.
type ReadOptions struct {
	FS  disk.FS
	Max int64 // largest frame in bytes; 0 is wire.DefaultMax
}

func (o ReadOptions) fs() disk.FS {
	if o.FS == nil {
		return disk.OS{}
	}
	return o.FS
}

// A Reader reads a stream from a place on, and believes nothing. It is used by one goroutine. A stream may grow while it is read.
type Reader struct {
	fs    disk.FS
	dir   string
	segs  []uint64
	dec   wire.Decoder
	open  wire.Frame // of the first segment
	alone bool       // no other segments are looked for

	cur   int // segment; len(segs) behind the last
	f     disk.File
	size  int64
	off   int64
	seq   uint64
	prev  uint32
	any   bool // prev and seq are those of a frame that was read, or known from an index
	first bool // the next frame is the first of its segment
	step  int64
	ended bool // a close frame was read

	win   []byte // a piece of the file, aligned
	winAt int64
	frame wire.Frame
	torn  *Damage
}

// window is how much is read at once.
const window = 1 << 18

// Open opens a stream at its first frame.
func Open(dir string, o ReadOptions) (*Reader, error) {
	z, err := NewZstd()
	if err != nil {
		return nil, err
	}
	r := &Reader{fs: o.fs(), dir: dir, dec: wire.Decoder{Max: o.Max, Packer: z}, win: wire.Buffer(window)[:0], step: -1}
	if r.segs, err = segments(r.fs, dir); err != nil {
		return nil, err
	}
	if len(r.segs) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoStream)
	}
	if err := r.enter(0); err != nil {
		return nil, err
	}
	f, err := r.Next()
	if errors.Is(err, io.EOF) { // a crash right after the first segment was made
		err = fmt.Errorf("%s: %w", dir, ErrNoStream)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.open = *f
	r.open.Raw = append([]byte(nil), f.Raw...)
	r.open.Tensors = nil
	return r, r.Rewind()
}

// About is the frame that opens the stream: Name and Raw say what it is, Step is the first step in the oldest segment that there is, Seq the number of frames before it.
func (r *Reader) About() *wire.Frame { return &r.open }

// Rewind goes to the first frame.
func (r *Reader) Rewind() error {
	r.any, r.step, r.ended, r.torn = false, -1, false, nil
	return r.enter(0)
}

// enter opens segment i.
func (r *Reader) enter(i int) error {
	if err := r.leave(); err != nil {
		return err
	}
	r.cur, r.off, r.first, r.win = i, 0, true, r.win[:0]
	if i >= len(r.segs) {
		return nil
	}
	f, err := r.fs.Open(r.name(), false)
	if err != nil {
		return err
	}
	r.f = f
	r.size, err = f.Size()
	return err
}

func (r *Reader) leave() error {
	if r.f == nil {
		return nil
	}
	f := r.f
	r.f = nil
	return f.Close()
}

func (r *Reader) name() string { return filepath.Join(r.dir, segName(r.segs[r.cur])) }

// Close closes the files. Closing twice is fine.
func (r *Reader) Close() error { return r.leave() }

// Torn is the torn tail that Next has met at the end of the stream, or nil.
func (r *Reader) Torn() *Damage { return r.torn }

// Ended says whether Next has read a close frame.
func (r *Reader) Ended() bool { return r.ended }

// Place is where the next frame begins.
func (r *Reader) Place() (segment string, offset int64) {
	if r.cur >= len(r.segs) {
		return "", 0
	}
	return r.name(), r.off
}

// bytes makes n bytes at the present offset visible, fewer at the end of the file.
func (r *Reader) bytes(n int64) ([]byte, error) {
	if at := r.off - r.winAt; at >= 0 && at+n <= int64(len(r.win)) {
		return r.win[at:], nil
	}
	left := r.size - r.off
	want := min(max(n, window), left)
	if int64(cap(r.win)) < want {
		r.win = wire.Buffer(int(want))
	}
	r.win, r.winAt = r.win[:want], r.off
	if want == 0 {
		return r.win, nil
	}
	if k, err := r.f.ReadAt(r.win, r.off); err != nil && !(errors.Is(err, io.EOF) && int64(k) == want) {
		r.win = r.win[:0]
		return nil, fmt.Errorf("read %s at %d: %w", r.name(), r.off, err)
	}
	return r.win, nil
}

// Next reads a frame, which is valid until the next call. At the end of the stream it gives io.EOF, a torn tail being behind the end; a later call looks for more. Damage is a *Damage,
// and then every call gives it again: what follows can't be trusted.
func (r *Reader) Next() (*wire.Frame, error) {
	for {
		if r.cur >= len(r.segs) {
			return nil, io.EOF
		}
		b, err := r.bytes(wire.HeaderSize)
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			if r.cur+1 < len(r.segs) && !r.first {
				if err := r.enter(r.cur + 1); err != nil {
					return nil, err
				}
				continue
			}
			grown, err := r.grown()
			if err != nil {
				return nil, err
			}
			if grown {
				continue
			}
			if r.cur+1 < len(r.segs) {
				return nil, r.damage(false, errNoOpen)
			}
			return nil, io.EOF
		}
		if h, herr := wire.ParseHeader(b, r.max()); herr == nil && h.Size() <= r.size-r.off {
			if b, err = r.bytes(h.Size()); err != nil {
				return nil, err
			}
		}
		n, derr := r.dec.Decode(b, &r.frame)
		if derr != nil {
			return r.broken(derr)
		}
		if err := r.check(&r.frame); err != nil { // a frame that is sound and out of place is no torn tail
			return nil, r.damage(false, err)
		}
		r.pass(&r.frame, b[:n])
		return &r.frame, nil
	}
}

func (r *Reader) max() int64 {
	if r.dec.Max > 0 {
		return r.dec.Max
	}
	return wire.DefaultMax
}

// grown looks whether the stream has been written on since.
func (r *Reader) grown() (bool, error) {
	size, err := r.f.Size()
	if err != nil {
		return false, err
	}
	if size > r.size {
		r.size, r.win, r.torn = size, r.win[:0], nil
		return true, nil
	}
	if r.alone {
		return false, nil
	}
	segs, err := segments(r.fs, r.dir)
	if err != nil {
		return false, err
	}
	if k := len(segs); k > 0 && segs[k-1] > r.segs[len(r.segs)-1] {
		at := r.segs[r.cur]
		for len(segs) > 0 && segs[0] < at {
			segs = segs[1:]
		}
		if len(segs) > 0 && segs[0] == at {
			r.segs, r.cur = segs, 0
			return !r.first, nil
		}
	}
	return false, nil
}

// check holds a frame against its place.
func (r *Reader) check(f *wire.Frame) error {
	switch {
	case r.first && f.Kind != wire.Open:
		return errNoOpen
	case r.first && f.Seq != r.segs[r.cur]:
		return fmt.Errorf("frame %d begins the segment of frame %d", f.Seq, r.segs[r.cur])
	case !r.first && f.Kind == wire.Open:
		return errors.New("a frame of the kind open within a segment")
	case r.any && f.Seq != r.seq:
		return fmt.Errorf("frame %d stands where frame %d should: frames are missing, doubled or moved", f.Seq, r.seq)
	case r.any && f.Prev != r.prev:
		return fmt.Errorf("the frame follows one with the CRC %08x, not %08x: it belongs to another stream", f.Prev, r.prev)
	case r.ended:
		return errors.New("a frame after the one that closed the stream")
	case f.Step < r.step && f.Kind != wire.Close:
		return fmt.Errorf("step %d after step %d", f.Step+1, r.step+1)
	}
	return nil
}

func (r *Reader) pass(f *wire.Frame, b []byte) {
	r.off += int64(len(b))
	r.seq, r.prev, r.any, r.first = f.Seq+1, wire.HeaderCRC(b), true, false
	if f.Kind == wire.Close {
		r.ended = true
	} else if f.Kind != wire.Open {
		r.step = f.Step
	}
}

func (r *Reader) damage(torn bool, err error) *Damage {
	seq := r.seq
	if !r.any {
		seq = r.segs[r.cur]
	}
	return &Damage{Segment: r.name(), Offset: r.off, Seq: seq, Step: r.step, Torn: torn, Err: err}
}

// broken decides what a frame that can't be read is: a torn tail or damage.
func (r *Reader) broken(err error) (*wire.Frame, error) {
	if r.cur == len(r.segs)-1 {
		if grown, gerr := r.grown(); gerr != nil {
			return nil, gerr
		} else if grown {
			return r.Next()
		}
		follows, serr := r.follows()
		if serr != nil {
			return nil, serr
		}
		if !follows {
			r.torn = r.damage(true, err)
			return nil, io.EOF
		}
	}
	return nil, r.damage(false, err)
}

// follows says whether a valid frame begins somewhere behind the present offset.
func (r *Reader) follows() (bool, error) {
	at := r.off
	defer func() { r.off = at }()
	for r.off += wire.Align; r.off < r.size; r.off += wire.Align {
		b, err := r.bytes(wire.HeaderSize)
		if err != nil {
			return false, err
		}
		h, herr := wire.ParseHeader(b, r.max())
		if herr != nil || h.Size() > r.size-r.off {
			continue
		}
		if b, err = r.bytes(h.Size()); err != nil {
			return false, err
		}
		if wire.CRC(b[wire.HeaderSize:h.Size()]) == h.Body {
			return true, nil
		}
	}
	return false, nil
}

// index is that of the present segment: from its file, or from a walk through the segment. The walk stops at damage; damaged says so.
func (r *Reader) index(i int) (x *index, err error) {
	if r.cur != i || r.f == nil {
		if err := r.enter(i); err != nil {
			return nil, err
		}
	}
	if i < len(r.segs)-1 {
		if x, err := readIndex(r.fs, r.dir, r.segs[i], r.size); err == nil {
			return x, nil
		}
	}
	w := &Reader{fs: r.fs, dir: r.dir, segs: r.segs[i : i+1], alone: true, dec: wire.Decoder{Max: r.dec.Max, Packer: r.dec.Packer}, win: wire.Buffer(window)[:0], step: -1}
	if err := w.enter(0); err != nil {
		return nil, err
	}
	defer w.Close()
	x = &index{}
	for {
		off := w.off
		f, err := w.Next()
		if errors.Is(err, io.EOF) {
			if w.torn != nil && i < len(r.segs)-1 {
				w.torn.Torn = false
				return nil, w.torn
			}
			x.size, x.next, x.crc = w.off, w.seq, w.prev
			return x, nil
		}
		if err != nil {
			return nil, err
		}
		if f.Kind != wire.Open && f.Kind != wire.Close {
			x.add(f.Step, off)
		}
	}
}

// SeekStep goes to the first frame of a step; the next Next gives it. Where the stream has no such step, it is the first one after it, or the end. Frames before it are not looked at, but
// those that follow are held against each other as ever.
func (r *Reader) SeekStep(step int64) error {
	last := len(r.segs) - 1
	if _, err := r.firstStep(last); err != nil && last > 0 { // a crash right after it was made
		var d *Damage
		if !errors.As(err, &d) {
			return err
		}
		last--
	}
	lo, hi := 0, last
	for lo < hi { // the last segment that begins at or before the step
		mid := (lo + hi + 1) / 2
		first, err := r.firstStep(mid)
		if err != nil {
			return err
		}
		if first <= step {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	r.torn, r.ended, r.step = nil, false, -1
	for i := lo; i <= last; i++ {
		x, err := r.index(i)
		if err != nil {
			return err
		}
		if e, ok := x.find(step); ok {
			if err := r.enter(i); err != nil {
				return err
			}
			r.any, r.first, r.off = false, false, e.off
			return nil
		}
	}
	x, err := r.index(last)
	if err != nil {
		return err
	}
	if err := r.enter(last); err != nil {
		return err
	}
	r.any, r.first, r.off, r.seq, r.prev = true, false, x.size, x.next, x.crc
	return nil
}

// firstStep is what the open frame of segment i says.
func (r *Reader) firstStep(i int) (int64, error) {
	f, err := r.fs.Open(filepath.Join(r.dir, segName(r.segs[i])), false)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	bad := func(err error) error {
		return &Damage{Segment: filepath.Join(r.dir, segName(r.segs[i])), Seq: r.segs[i], Step: -1, Torn: i == len(r.segs)-1, Err: err}
	}
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	b := wire.Buffer(wire.HeaderSize)
	if size < wire.HeaderSize {
		return 0, bad(wire.ErrShort)
	}
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, err
	}
	h, err := wire.ParseHeader(b, r.max())
	if err == nil && h.Size() > size {
		err = wire.ErrShort
	}
	if err != nil {
		return 0, bad(err)
	}
	b = wire.Buffer(int(h.Size()))
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, err
	}
	var o wire.Frame
	if _, err := r.dec.Decode(b, &o); err != nil {
		return 0, bad(err)
	}
	return o.Step, nil
}
