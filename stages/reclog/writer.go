package reclog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"vtpu/stages/disk"
	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// Options say how a stream is written.
type Options struct {
	FS disk.FS // nil: the operating system's

	Name  string // what it is a stream of
	About []byte // description, JSON; at most 1 MiB less some
	Run   string // the run that it belongs to

	Segment int64 // bytes after which a new segment is begun, between two steps; 0 is 64 MiB
	Keep    int64 // bytes of all segments after which the oldest are removed; 0 keeps all
	Sync    Sync
	Zstd    bool // pack the data

	// Background leaves checksums, packing and writing to two goroutines, which Close waits for, so that the disk need not wait for the processor; Append only copies, and waits where
	// the disk does not keep up. What has not reached the operating system when the process is killed is lost: half a second's frames at most, some MiB or, if they are larger, four
	// frames. Flush brings it there.
	Background bool

	// Sum makes Append compute the checksums itself: for a caller that has more time than other processors do. Packed data is left to the background all the same.
	Sum bool

	// Spread shares the copying of large frames out, Copy does it: see wire.Encoder.
	Spread func(n int, f func(lo, hi int))
	Copy   func(dst, src []float32)

	// From is the step that is written next: frames of it and of later steps are cut off when the stream is opened, sound or not. math.MaxInt64 keeps all.
	From  int64
	Every int64 // only every so many steps are written; 0 is 1
}

const (
	defaultSegment = 64 << 20

	// Frames are handed on together: some hundred, in writes that are as large as a disk likes them. A page of 2 MiB is told to it as one piece.
	batchFrames = 128
	batchLeast  = 1 << 19
	batchMost   = 2<<20 - batchSpare
	batchSpare  = 1 << 17 // for the frame that fills a batch

	batches = 4 // one is filled, one is summed, one is written, one waits
)

// A Writer appends frames to a stream. Its methods are called by one goroutine.
type Writer struct {
	o      Options
	fs     disk.FS
	dir    string
	enc    wire.Encoder
	unpack wire.Packer // for what is there already

	now     *batch
	free    chan *batch // background: batches to fill
	full    chan *batch // background: batches to sum
	summed  chan *batch // background: batches to write
	size    int         // of a batch that is handed on
	done    sync.WaitGroup
	flushed chan error // background: the answer to a flush
	handed  int64      // when the last batch was handed on
	ended   bool
	noted   bool // since the last Flush
	at      place
	pack    wire.Encoder // of the one who sums

	s state

	mu  sync.Mutex
	err error // the first error of the background
}

// place is where Append takes the next frame to go. The writing side alone knows; a guess that is wrong costs a copy of the batch.
type place struct {
	size int64 // of the segment
	step int64 // of the newest frame in it; -1: none
	open int64 // bytes of an open frame
	none bool  // no segment has been begun
}

// next is the offset in its segment of a frame of so many bytes.
func (p *place) next(f *wire.Frame, segment int64) int64 {
	if p.none || p.size >= segment && f.Kind != wire.Close && p.step >= 0 && p.step != f.Step {
		p.size, p.none, p.step = p.open, false, -1
	}
	if f.Kind != wire.Close {
		p.step = f.Step
	}
	return p.size
}

// batch are drafts of frames, one after another. They begin as far behind a multiple of block in memory as in the file, so that a direct write takes them from where they are.
type batch struct {
	mem   []byte // begins at a multiple of block
	b     []byte // in mem
	room  int    // its capacity while it is in mem
	from  int64  // offset in the file where it is thought to go
	ends  []int
	steps []int64
	kinds []wire.Kind
	notes notes // in place of drafts
	flush bool  // wanted: everything up to here on the disk
	err   error // of a draft
}

// notes are small frames as they were given, all with tensors of the same names. The background makes drafts of them: to encode a frame of 500 bytes takes as long as a tenth of the step that
// it is of, to copy its numbers a fiftieth.
type notes struct {
	kind   wire.Kind
	like   []wire.Tensor // without elements
	metas  []wire.Meta
	shapes []tensor.Shape
	f32    []float32
	i32    []int32
}

const (
	noteWords = 1 << 8  // elements of a frame up to which it is noted
	noteMost  = 1 << 10 // frames in a batch
)

// take notes a frame, if it is like those before.
func (n *notes) take(f *wire.Frame) bool {
	if len(n.metas) == 0 {
		n.kind, n.like = f.Kind, append(n.like[:0], f.Tensors...)
		for i := range n.like {
			n.like[i].F32, n.like[i].I32 = nil, nil
		}
		if n.metas == nil {
			a, b := 0, 0
			for i := range f.Tensors {
				a, b = a+len(f.Tensors[i].F32), b+len(f.Tensors[i].I32)
			}
			n.metas, n.shapes = make([]wire.Meta, 0, noteMost), make([]tensor.Shape, 0, noteMost*len(n.like))
			n.f32, n.i32 = make([]float32, 0, noteMost*a), make([]int32, 0, noteMost*b)
		}
	} else if n.kind != f.Kind || len(n.like) != len(f.Tensors) {
		return false
	} else {
		for i := range f.Tensors {
			if t, l := &f.Tensors[i], &n.like[i]; t.Name != l.Name || t.Role != l.Role || t.DType != l.DType {
				return false
			}
		}
	}
	n.metas = append(n.metas, f.Meta)
	for i := range f.Tensors {
		t := &f.Tensors[i]
		n.shapes, n.f32, n.i32 = append(n.shapes, t.Shape), append(n.f32, t.F32...), append(n.i32, t.I32...)
	}
	return true
}

// small says whether a frame is one to be noted.
func small(f *wire.Frame) bool {
	if len(f.Raw) > 0 {
		return false
	}
	n := 0
	for i := range f.Tensors {
		t := &f.Tensors[i]
		if len(t.F32)+len(t.I32) != t.Shape.Len() { // Draft says what is wrong
			return false
		}
		n += t.Shape.Len()
	}
	return n <= noteWords
}

// draft makes drafts of the notes.
func (b *batch) draft(e *wire.Encoder) error {
	n := &b.notes
	if len(n.metas) == 0 {
		return nil
	}
	b.begin(0, batchLeast)
	k, f32, i32 := 0, n.f32, n.i32
	f := wire.Frame{Kind: n.kind, Tensors: n.like}
	for i := range n.metas {
		f.Meta = n.metas[i]
		for j := range n.like {
			t := &n.like[j]
			t.Shape = n.shapes[k]
			k++
			if m := t.Shape.Len(); t.DType == tensor.I32 {
				t.I32, i32 = i32[:m], i32[m:]
			} else {
				t.F32, f32 = f32[:m], f32[m:]
			}
		}
		if _, err := b.add(e, &f); err != nil {
			return err
		}
	}
	n.metas, n.shapes, n.f32, n.i32 = n.metas[:0], n.shapes[:0], n.f32[:0], n.i32[:0]
	return nil
}

// begin prepares for a first frame, which goes to an offset of the file, and for more of them, size bytes in all.
func (b *batch) begin(offset int64, size int) {
	if len(b.mem) < size+batchSpare {
		b.mem = disk.Aligned(size + batchSpare)
	}
	if b.ends == nil {
		b.ends, b.steps, b.kinds = make([]int, 0, 2*batchFrames), make([]int64, 0, 2*batchFrames), make([]wire.Kind, 0, 2*batchFrames)
	}
	from := int(offset & (disk.Block - 1))
	b.b, b.from = b.mem[from:from], offset
	b.room = cap(b.b)
}

// add appends drafts that draft makes and gives a batch that has outgrown its memory enough of it.
func (b *batch) add(e *wire.Encoder, f *wire.Frame) (n int, err error) {
	old := len(b.b)
	d, err := e.Draft(b.b, f)
	if err != nil {
		return 0, err
	}
	if b.b = d; cap(d) != b.room {
		b.mem = disk.Aligned(len(d) + len(d)/4 + disk.Block)
		b.begin(b.from, 0)
		b.b = append(b.b, d...)
	}
	b.ends, b.steps, b.kinds = append(b.ends, len(b.b)), append(b.steps, f.Step), append(b.kinds, f.Kind)
	return len(d) - old, nil
}

func (b *batch) reset() {
	b.b, b.ends, b.steps, b.kinds, b.flush = b.b[:0], b.ends[:0], b.steps[:0], b.kinds[:0], false
}

// state is what the writing side knows: the Writer's goroutine or, without one, the caller.
type state struct {
	f     disk.File
	first uint64 // of the segment
	seq   uint64
	prev  uint32
	x     index
	old   []segment // full segments, the oldest first
	total int64     // their bytes
	last  time.Time // of the newest sync
	dirty bool
	open  []byte // draft of the open frame, for the next segment
	oenc  wire.Encoder
}

type segment struct {
	seq  uint64
	size int64
}

// Create begins a stream in a directory that holds none, or continues one: frames of steps before o.From stay, later ones and a torn tail are cut off. A stream that ends
// before o.From-1 is not continued by Create: see End. Damage before o.From is a *Damage and nothing is changed.
func Create(dir string, o Options) (*Writer, error) {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	if o.Segment <= 0 {
		o.Segment = defaultSegment
	}
	w := &Writer{o: o, fs: o.FS, dir: dir, now: &batch{}, size: batchLeast}
	w.enc.Spread, w.enc.Copy, w.enc.Sums = o.Spread, o.Copy, w.sums()
	z, err := NewZstd()
	if err != nil {
		return nil, err
	}
	if w.unpack = z; o.Zstd {
		w.pack.Packer = z
	}
	if err := w.fs.MkdirAll(dir); err != nil {
		return nil, err
	}
	if err := w.resume(); err != nil {
		return nil, err
	}
	if err := w.expect(); err != nil {
		return nil, errors.Join(err, w.closeFile())
	}
	w.s.last = time.Now()
	if o.Background {
		w.free, w.full, w.flushed = make(chan *batch, batches), make(chan *batch, batches), make(chan error, 1)
		for range batches - 1 {
			w.free <- &batch{}
		}
		if w.summed = w.full; !w.sums() {
			w.summed = make(chan *batch, batches)
			w.done.Go(w.sum)
		}
		processors(w.threads())
		w.done.Go(w.background)
	}
	return w, nil
}

// sums says whether Append computes checksums.
func (w *Writer) sums() bool { return w.o.Background && w.o.Sum && !w.o.Zstd }

// threads is the number of goroutines of the background.
func (w *Writer) threads() int {
	if w.sums() {
		return 1
	}
	return 2
}

var procs sync.Mutex

// processors changes how many goroutines run at once. A writer needs a place of its own there: lanes that compute or look for work hold theirs for milliseconds, and would have to be
// interrupted for it. Two D lanes on two CPUs lose 5 % to a writer of gradients with it, and 10 % and more without.
func processors(n int) {
	procs.Lock()
	defer procs.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
}

// resume finds the place to go on from and cuts off what stands behind it.
func (w *Writer) resume() (err error) {
	segs, err := segments(w.fs, w.dir)
	if err != nil {
		return err
	}
	if err := w.litter(); err != nil {
		return err
	}
	// Segments that hold nothing from before From go, and one that a crash left without its first frame.
	for len(segs) > 0 {
		last := segs[len(segs)-1]
		cut, x, serr := w.scan(segs)
		if serr != nil {
			return serr
		}
		if cut == 0 {
			if err := w.drop(last); err != nil {
				return err
			}
			segs = segs[:len(segs)-1]
			continue
		}
		if len(segs) > 1 {
			if err := w.joined(segs[len(segs)-2:]); err != nil {
				return err
			}
		}
		s := &w.s
		if s.f, err = w.fs.Open(filepath.Join(w.dir, segName(last)), true); err != nil {
			return err
		}
		size, err := s.f.Size()
		if err == nil && size > cut {
			if err = s.f.Truncate(cut); err == nil {
				err = s.f.Sync() // later writes must not bring the old tail back
			}
		}
		if err != nil {
			return errors.Join(err, s.f.Close())
		}
		s.first, s.seq, s.prev, s.x = last, x.next, x.crc, *x
		s.dirty = true // what a killed process wrote has perhaps not been synced
		for _, seq := range segs[:len(segs)-1] {
			n, err := w.settle(seq)
			if err != nil {
				return errors.Join(err, s.f.Close())
			}
			s.old = append(s.old, segment{seq, n})
			s.total += n
		}
		// An index that is there belongs to the segment as it was.
		_ = w.fs.Remove(w.idxFile(last))
		return w.fs.SyncDir(w.dir)
	}
	return nil
}

// expect looks ahead to where the first frame goes.
func (w *Writer) expect() error {
	s := &w.s
	w.at = place{size: s.x.size, step: -1, none: s.f == nil}
	if n := len(s.x.steps); n > 0 {
		w.at.step = s.x.steps[n-1].step
	}
	open, err := w.draftOpen(0)
	w.at.open = int64(len(open))
	return err
}

// draftOpen is the frame that begins a segment, as long for every step.
func (w *Writer) draftOpen(step int64) ([]byte, error) {
	f := wire.Frame{Kind: wire.Open, Meta: wire.Meta{Run: w.o.Run, Name: w.o.Name, Raw: w.o.About}}
	f.Step = step
	b, err := w.s.oenc.Draft(w.s.open[:0], &f)
	if err == nil {
		w.s.open = b
	}
	return b, err
}

// litter removes what an interrupted index left.
func (w *Writer) litter() error {
	names, err := w.fs.List(w.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasSuffix(n, idxExt+".tmp") {
			if err := w.fs.Remove(filepath.Join(w.dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Writer) idxFile(seq uint64) string {
	return filepath.Join(w.dir, strings.TrimSuffix(segName(seq), segExt)+idxExt)
}

func (w *Writer) drop(seq uint64) error {
	_ = w.fs.Remove(w.idxFile(seq)) // often there is none
	return w.fs.Remove(filepath.Join(w.dir, segName(seq)))
}

// joined says whether the newest segment goes on where the one before it ends.
func (w *Writer) joined(segs []uint64) error {
	r := &Reader{fs: w.fs, alone: true, dir: w.dir, segs: segs, dec: wire.Decoder{Packer: w.unpack}, win: wire.Buffer(window)[:0], step: -1}
	defer r.Close()
	before, err := r.index(0)
	if err != nil {
		return err
	}
	r.any, r.seq, r.prev = true, before.next, before.crc
	if err := r.enter(1); err != nil {
		return err
	}
	_, err = r.Next()
	return err
}

// settle gives the size of a full segment and makes it durable: whoever wrote it may have been killed, or had another policy.
func (w *Writer) settle(seq uint64) (n int64, err error) {
	f, err := w.fs.Open(filepath.Join(w.dir, segName(seq)), true)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if !w.o.Sync.Never {
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return f.Size()
}

// scan walks through the last segment up to step From or a torn tail and returns where that is; 0: nothing of the segment stays.
func (w *Writer) scan(segs []uint64) (cut int64, x *index, err error) {
	last := len(segs) - 1
	r := &Reader{fs: w.fs, alone: true, dir: w.dir, segs: segs[last:], dec: wire.Decoder{Packer: w.unpack}, win: wire.Buffer(window)[:0], step: -1}
	if err := r.enter(0); err != nil {
		return 0, nil, err
	}
	defer r.Close()
	x = &index{}
	whole := int64(-1) // newest step of which all parts are there
	for {
		off := r.off
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			if off == 0 || r.off == 0 {
				return 0, nil, nil
			}
			break
		}
		var d *Damage
		if errors.As(err, &d) && x.size > 0 && whole >= w.o.From-max(w.o.Every, 1) {
			break // all that stays is before it: the rest is what a power loss made of frames that nobody had synced
		}
		if err != nil {
			return 0, nil, err
		}
		if f.Kind == wire.Open {
			if f.Step >= w.o.From {
				return 0, nil, nil
			}
		} else if f.Kind == wire.Close || f.Step >= w.o.From {
			break
		} else {
			x.add(f.Step, off)
			if f.Part+1 >= f.Parts {
				whole = f.Step
			}
		}
		x.size, x.next, x.crc = r.off, f.Seq+1, r.prev
	}
	return x.size, x, nil
}

// Append adds a frame; it sets Seq and Prev. Steps must not go down. The frame and its tensors are the caller's again when Append returns. After an error the writer is of no more use,
// and the stream ends with a whole frame or a torn tail.
func (w *Writer) Append(f *wire.Frame) error {
	if w.ended {
		return errors.New("reclog: append to a stream that is closed")
	}
	if w.free != nil && !w.sums() && !w.o.Sync.Always && small(f) {
		return w.note(f)
	}
	if len(w.now.notes.metas) > 0 {
		if err := w.hand(); err != nil {
			return err
		}
	}
	b := w.now
	offset := w.at.next(f, w.o.Segment)
	if len(b.ends) == 0 {
		b.begin(offset, w.size)
	}
	n, err := b.add(&w.enc, f)
	if err != nil {
		return err
	}
	w.at.size += int64(n)
	if w.full == nil {
		w.finish(b)
		err := w.write(b)
		b.reset()
		return err
	}
	switch {
	case w.o.Sync.Always:
		return w.Flush()
	case len(b.b) >= w.size:
		w.size = min(max(len(b.b)/len(b.ends)*batchFrames, batchLeast), batchMost)
		return w.hand()
	case !w.o.Sync.Never && now(f)-w.handed >= int64(w.o.Sync.every()/2):
		return w.hand()
	}
	return nil
}

// note is Append for a small frame. Where the frames after it go nobody knows until the next Flush.
func (w *Writer) note(f *wire.Frame) error {
	w.noted = true
	if len(w.now.ends) > 0 || !w.now.notes.take(f) {
		if err := w.hand(); err != nil {
			return err
		}
		w.now.notes.take(f)
	}
	if len(w.now.notes.metas) >= noteMost || !w.o.Sync.Never && now(f)-w.handed >= int64(w.o.Sync.every()/2) {
		return w.hand()
	}
	return nil
}

// now is the time of a frame, if it says one, so that the clock need not be asked again.
func now(f *wire.Frame) int64 {
	if f.Time > 0 {
		return f.Time
	}
	return time.Now().UnixNano()
}

// hand gives the present batch to the background and takes another.
func (w *Writer) hand() error {
	w.full <- w.now
	w.now = <-w.free
	w.handed = time.Now().UnixNano()
	return w.failed()
}

func (w *Writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Flush brings everything that was appended to the disk, or to the operating system where the policy is never.
func (w *Writer) Flush() error {
	if w.ended {
		return w.failed()
	}
	if w.full == nil {
		return w.flush()
	}
	w.now.flush = true
	err := errors.Join(w.hand(), <-w.flushed)
	if w.noted { // the background waits
		w.noted = false
		err = errors.Join(err, w.expect())
	}
	return err
}

// Close ends the writing: all is brought to the disk. End before it says that the stream is complete. Closing twice is fine.
func (w *Writer) Close() error {
	if w.ended {
		return nil
	}
	err := w.Flush()
	w.ended = true
	if w.full != nil {
		close(w.full)
		w.done.Wait()
		processors(-w.threads())
	}
	if cerr := w.closeFile(); err == nil {
		err = cerr
	}
	return err
}

func (w *Writer) closeFile() (err error) {
	if w.s.f != nil {
		err = w.s.f.Close()
		w.s.f = nil
	}
	return err
}

// End appends the frame that says that the stream is complete, with the hashes of weights and state.
func (w *Writer) End(step int64, weights, state string) error {
	f := wire.Frame{Kind: wire.Close, Meta: wire.Meta{Run: w.o.Run, Name: weights, Raw: []byte(state)}}
	f.Step = step
	return w.Append(&f)
}

// sum is the life of the goroutine that packs and sums what the other one writes meanwhile.
func (w *Writer) sum() {
	defer close(w.summed)
	var e wire.Encoder // of notes
	for b := range w.full {
		b.err = b.draft(&e)
		w.finish(b)
		w.summed <- b
	}
}

// finish packs the drafts of a batch, if that is wanted, and sums them.
func (w *Writer) finish(b *batch) {
	from, to := 0, 0
	for i, end := range b.ends {
		d := b.b[from:end]
		from = end
		if w.pack.Packer != nil {
			d = w.pack.Pack(d)
			copy(b.b[to:], d)
			d = b.b[to : to+len(d)]
		}
		wire.Sum(d)
		to += len(d)
		b.ends[i] = to
	}
	b.b = b.b[:to]
}

// background is the life of the goroutine that writes: a batch summed, a batch free.
func (w *Writer) background() {
	tick := time.NewTicker(w.o.Sync.every())
	defer tick.Stop()
	var failed error
	for {
		var b *batch
		select {
		case b = <-w.summed:
			if b == nil {
				return
			}
		case <-tick.C: // nothing came for a while: what is written need not wait for the next frame
			if failed == nil && !w.o.Sync.Never {
				failed = w.flush()
			}
			continue
		}
		if failed == nil {
			failed = b.err
		}
		if failed == nil {
			failed = w.write(b)
		}
		if failed == nil && b.flush {
			failed = w.flush()
		}
		if failed != nil {
			w.mu.Lock()
			if w.err == nil {
				w.err = failed
			}
			w.mu.Unlock()
		}
		if b.flush {
			w.flushed <- failed
		}
		b.reset()
		w.free <- b
	}
}

// write gives the drafts of a batch their places and writes them.
func (w *Writer) write(b *batch) error {
	s := &w.s
	from, at := 0, 0 // written up to from
	put := func(to int) error {
		if to == from {
			return nil
		}
		n := to - from
		s.dirty = true
		k, err := s.f.Write(b.b[from:to])
		if err != nil {
			// What was written of it is a torn tail; take it away if the disk still lets us.
			_ = s.f.Truncate(s.x.size - int64(n))
			return fmt.Errorf("write %s (%d of %d bytes): %w", segName(s.first), k, n, err)
		}
		from = to
		return nil
	}
	for i, end := range b.ends {
		step := b.steps[i]
		if s.f == nil || s.x.size >= w.o.Segment && b.kinds[i] != wire.Close && w.newStep(step) {
			if err := put(at); err != nil {
				return err
			}
			if err := w.rotate(step); err != nil {
				return err
			}
		}
		d := b.b[at:end]
		wire.Chain(d, s.seq, s.prev)
		s.seq++
		s.prev = wire.HeaderCRC(d)
		if b.kinds[i] != wire.Close {
			s.x.add(step, s.x.size)
		}
		s.x.size += int64(len(d))
		at = end
	}
	if err := put(at); err != nil {
		return err
	}
	switch p := w.o.Sync; {
	case p.Never || !s.dirty:
	case p.Always:
		return w.flush()
	default:
		if now := time.Now(); now.Sub(s.last) >= p.every() {
			return w.flush()
		}
	}
	return nil
}

func (w *Writer) newStep(step int64) bool {
	n := len(w.s.x.steps)
	return n > 0 && w.s.x.steps[n-1].step != step
}

// flush syncs what was written, unless the policy is never.
func (w *Writer) flush() error {
	s := &w.s
	if s.f == nil || !s.dirty {
		return nil
	}
	var err error
	if w.o.Sync.Never {
		if d, ok := s.f.(interface{ Flush() error }); ok {
			err = d.Flush()
		}
	} else {
		err = s.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", segName(s.first), err)
	}
	s.dirty, s.last = false, time.Now()
	return nil
}

// rotate ends the present segment, if there is one, and begins the next with its open frame.
func (w *Writer) rotate(step int64) error {
	s := &w.s
	if s.f != nil {
		if err := w.flush(); err != nil {
			return err
		}
		if err := s.f.Close(); err != nil {
			return err
		}
		s.x.next, s.x.crc = s.seq, s.prev
		if err := writeIndex(w.fs, w.dir, s.first, &s.x); err != nil {
			return err
		}
		s.old = append(s.old, segment{s.first, s.x.size})
		s.total += s.x.size
	}
	s.f, s.first, s.x = nil, s.seq, index{steps: s.x.steps[:0]}
	if _, err := w.draftOpen(step); err != nil {
		return err
	}
	wire.Seal(s.open, s.seq, s.prev)
	nf, err := w.fs.Create(filepath.Join(w.dir, segName(s.first)))
	if err != nil {
		return err
	}
	s.f, s.dirty = nf, true
	if _, err := nf.Write(s.open); err != nil {
		return fmt.Errorf("write %s: %w", segName(s.first), err)
	}
	s.seq++
	s.prev = wire.HeaderCRC(s.open)
	s.x.size = int64(len(s.open))
	if !w.o.Sync.Never {
		if err := w.flush(); err != nil {
			return err
		}
		if err := w.fs.SyncDir(w.dir); err != nil {
			return err
		}
	}
	return w.retain()
}

// retain removes the oldest segments while there is more than Keep allows.
func (w *Writer) retain() error {
	s := &w.s
	for w.o.Keep > 0 && len(s.old) > 0 && s.total+w.o.Segment > w.o.Keep {
		if err := w.drop(s.old[0].seq); err != nil {
			return err
		}
		s.total -= s.old[0].size
		s.old = append(s.old[:0], s.old[1:]...)
	}
	return nil
}

// KeepAll is the From of a stream of which nothing is cut off but a torn tail.
const KeepAll = math.MaxInt64
