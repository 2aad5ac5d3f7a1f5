package wire

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/vmihailenco/msgpack/v5"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// An Encoder turns frames into bytes. The zero value is ready. It keeps what it needs between calls, so that a frame as large as one before it costs no allocation.
// It is used by one goroutine.
type Encoder struct {
	// Packer shortens the data of each frame if not nil and if that saves an eighth or more.
	Packer Packer

	// Spread calls f on ranges that cover 0..n, perhaps at the same time, to copy n elements of large frames; nil: one goroutine copies all. Every tensor is cut in proportion (stages.Of).
	Spread func(n int, f func(lo, hi int))

	// Copy is copy(dst, src), perhaps a faster one for what this core is not going to look at again; nil: copy.
	Copy func(dst, src []float32)

	// Sums makes Draft do what Sum does. It reads the tensors where they are, which have just been copied, not the copy.
	Sums bool

	buf    []byte
	packed []byte
	enc    *msgpack.Encoder
	out    sink
	last   template

	to    []byte // where some copies the tensors
	from  []Tensor
	total int // their elements
	some  func(lo, hi int)
}

// spreadMin is the number of elements above which Spread is asked.
const spreadMin = 1 << 15

// A template is the metadata of the frame before. The frames of a stream differ in numbers alone, which stand in the same places: they are set there, for a tenth of what it takes to
// encode all anew.
type template struct {
	meta      []byte
	run, name string
	raw       bool
	ints      [15]int // offsets of the numbers' bytes
	loss      int
	skip      int
	tensors   []Tensor // without their elements
	dims      []int
}

// fits says whether the template is that of f, but for the numbers.
func (t *template) fits(f *Frame) bool {
	if t.meta == nil || t.raw || len(f.Raw) > 0 || t.run != f.Run || t.name != f.Name || len(t.tensors) != len(f.Tensors) {
		return false
	}
	for i := range f.Tensors {
		a, b := &t.tensors[i], &f.Tensors[i]
		if a.Name != b.Name || a.Role != b.Role || a.DType != b.DType || a.Shape.Rank != b.Shape.Rank {
			return false
		}
	}
	return true
}

// set writes the numbers of f to meta, a copy of the template.
func (t *template) set(meta []byte, f *Frame) {
	ints := numbers(f)
	for i, at := range t.ints {
		binary.BigEndian.PutUint64(meta[at:], uint64(ints[i]))
	}
	binary.BigEndian.PutUint64(meta[t.loss:], math.Float64bits(f.Loss))
	meta[t.skip] = 0xc2
	if f.Skip {
		meta[t.skip] = 0xc3
	}
	k := 0
	for i := range f.Tensors {
		s := &f.Tensors[i].Shape
		for d := range s.Rank {
			binary.BigEndian.PutUint32(meta[t.dims[k]:], uint32(s.Dims[d]))
			k++
		}
	}
}

var intKeys = [15]string{"step", "gathered", "part", "parts", "first", "rows", "count", "targets", "hits", "seen", "mode", "epoch", "version", "base", "time"}

// numbers are the integers of a frame in the order of intKeys.
func numbers(f *Frame) [15]int64 {
	h := &f.Head
	return [15]int64{h.Step, h.Gathered, int64(h.Part), int64(h.Parts), int64(h.First), int64(h.Rows), int64(h.Count), int64(h.Targets), h.Hits, h.Seen, int64(h.Mode),
		f.Epoch, f.Version, f.Base, f.Time}
}

// sink is where msgpack writes.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) { s.b = append(s.b, p...); return len(p), nil }
func (s *sink) WriteByte(c byte) error      { s.b = append(s.b, c); return nil }

// Encode returns the bytes of f, valid until the next call. They begin at a multiple of 64 in memory. Errors are mistakes of the caller: a name that is too long, a shape
// that does not fit its values.
func (e *Encoder) Encode(f *Frame) ([]byte, error) {
	if e.buf == nil {
		e.buf = Buffer(4096)
	}
	b, err := e.Append(e.buf[:0], f)
	if err != nil {
		return nil, err
	}
	if &b[0] != &e.buf[:1][0] { // it has grown: keep the start aligned
		e.buf = Buffer(2 * len(b))
		b = append(e.buf[:0], b...)
	}
	return b, nil
}

// Append appends the bytes of f to dst, whose length should be a multiple of 64 for the tensors to be aligned. It is Draft and Seal.
func (e *Encoder) Append(dst []byte, f *Frame) ([]byte, error) {
	start := len(dst)
	dst, err := e.Draft(dst, f)
	if err != nil {
		return nil, err
	}
	if e.Packer != nil {
		dst = e.pack(dst, start)
	}
	Seal(dst[start:], f.Seq, f.Prev)
	return dst, nil
}

// Draft appends the bytes of f to dst, not packed and without what Seal adds.
func (e *Encoder) Draft(dst []byte, f *Frame) ([]byte, error) {
	raw, err := check(f)
	if err != nil {
		return nil, err
	}
	if e.enc == nil {
		e.enc = msgpack.NewEncoder(&e.out)
	}
	start := len(dst)
	var zero [HeaderSize]byte
	e.out.b = append(dst, zero[:]...)
	if err := e.meta(f); err != nil {
		return nil, err
	}
	dst, e.out.b = e.out.b, nil
	meta := len(dst) - start - HeaderSize
	if meta > MaxMeta {
		return nil, fmt.Errorf("wire: %d bytes of metadata, at most %d are possible", meta, MaxMeta)
	}
	dst = pad(dst, start)
	at := len(dst)
	dst = slices.Grow(dst, int(raw))[:at+int(raw)]
	e.data(dst[at:], f.Tensors)
	h, le := dst[start:start+HeaderSize], binary.LittleEndian
	copy(h, magic[:])
	h[4], h[5] = version, byte(f.Kind)
	le.PutUint32(h[8:], uint32(meta))
	le.PutUint32(h[12:], uint32(len(f.Tensors)))
	le.PutUint64(h[16:], uint64(raw))
	le.PutUint64(h[24:], uint64(raw))
	if e.Sums {
		le.PutUint32(h[44:], sumOf(dst[start+HeaderSize:at], f.Tensors, dst[at:]))
	}
	return dst, nil
}

// sumOf is the checksum of the metadata and of the tensors behind them, of which data is the copy.
func sumOf(meta []byte, ts []Tensor, data []byte) uint32 {
	if !little {
		return crc32.Update(CRC(meta), castagnoli, data)
	}
	c := CRC(meta)
	for i := range ts {
		b := bytesOf(&ts[i])
		c = crc32.Update(c, castagnoli, b)
		if n := len(b) % Align; n > 0 {
			c = crc32.Update(c, castagnoli, zeros[n:])
		}
	}
	return c
}

// data copies tensors, each padded with zeros.
func (e *Encoder) data(to []byte, ts []Tensor) {
	e.to, e.from, e.total = to, ts, 0
	for i := range ts {
		e.total += ts[i].len()
	}
	if e.Spread == nil || e.total < spreadMin {
		e.share(0, e.total)
	} else {
		if e.some == nil {
			e.some = e.share
		}
		e.Spread(e.total, e.some)
	}
	e.to, e.from = nil, nil
}

// share copies what of each tensor corresponds to the share lo to hi of all their elements.
func (e *Encoder) share(lo, hi int) {
	at := 0
	for i := range e.from {
		t := &e.from[i]
		n := t.len()
		from, to := stages.Of(n, lo, hi, max(e.total, 1))
		e.put(e.to[at+4*from:at+4*to], t, from, to)
		at += 4 * n
		next := int(up(int64(at)))
		if hi == e.total {
			clear(e.to[at:next])
		}
		at = next
	}
}

// copyLeast is the number of elements from which on Copy is asked.
const copyLeast = 64

// put writes elements of a tensor to b.
func (e *Encoder) put(b []byte, t *Tensor, from, to int) {
	if e.Copy != nil && to-from >= copyLeast && viewable(b) {
		src := t.F32
		if t.DType == tensor.I32 {
			src = asF32(t.I32)
		}
		e.Copy(viewF32(b), src[from:to])
		return
	}
	if t.DType == tensor.I32 {
		putI32(b, t.I32[from:to])
	} else {
		putF32(b, t.F32[from:to])
	}
}

// Seal gives a draft its place in a stream and the checksums: it is a frame then. It is Sum and Chain.
func Seal(draft []byte, seq uint64, prev uint32) {
	Sum(draft)
	Chain(draft, seq, prev)
}

// Sum gives a draft, packed or not, the checksum of what is behind its header. It costs a look at every byte.
func Sum(draft []byte) { binary.LittleEndian.PutUint32(draft[44:], CRC(draft[HeaderSize:])) }

// Chain gives a draft that Sum has seen its place in a stream.
func Chain(draft []byte, seq uint64, prev uint32) {
	le := binary.LittleEndian
	le.PutUint64(draft[32:], seq)
	le.PutUint32(draft[40:], prev)
	le.PutUint32(draft[60:], CRC(draft[:60]))
}

// pack packs the data of the draft at the end of b, if that saves an eighth or more.
func (e *Encoder) pack(b []byte, start int) []byte {
	h, le := b[start:start+HeaderSize], binary.LittleEndian
	raw := int64(le.Uint64(h[16:]))
	if raw == 0 {
		return b
	}
	from := len(b) - int(raw)
	e.packed = e.Packer.Pack(e.packed[:0], b[from:])
	n := int64(len(e.packed))
	if n == 0 || up(n) > raw-raw/8 || raw > n*maxRatio {
		return b
	}
	h[6] = flagPacked
	le.PutUint64(h[16:], uint64(up(n)))
	le.PutUint64(h[48:], uint64(n))
	return pad(append(b[:from], e.packed...), start)
}

// Pack packs a draft in place and returns what is left of it; without a Packer nothing happens.
func (e *Encoder) Pack(draft []byte) []byte {
	if e.Packer == nil {
		return draft
	}
	return e.pack(draft, 0)
}

// HeaderCRC is the CRC that names an encoded frame: what the frame after it has for Prev.
func HeaderCRC(frame []byte) uint32 { return binary.LittleEndian.Uint32(frame[60:]) }

var zeros [Align]byte

// pad appends zeros up to a multiple of Align from start on.
func pad(b []byte, start int) []byte {
	if n := (len(b) - start) % Align; n > 0 {
		b = append(b, zeros[n:]...)
	}
	return b
}

// check looks at what a caller can get wrong and counts the bytes of data.
func check(f *Frame) (raw int64, err error) {
	if f.Kind == 0 || f.Kind >= kinds {
		return 0, fmt.Errorf("wire: %v", f.Kind)
	}
	if len(f.Run) > maxRun || len(f.Name) > maxName {
		return 0, fmt.Errorf("wire: run of %d bytes, name of %d; at most %d and %d are possible", len(f.Run), len(f.Name), maxRun, maxName)
	}
	if len(f.Tensors) > MaxTensors {
		return 0, fmt.Errorf("wire: %d tensors, at most %d are possible", len(f.Tensors), MaxTensors)
	}
	for i := range f.Tensors {
		t := &f.Tensors[i]
		if t.len() != t.Shape.Len() || len(t.Name) > maxName {
			return 0, fmt.Errorf("wire: tensor %.100q has %d elements and the shape %v", t.Name, t.len(), t.Shape)
		}
		if err := roles(f.Tensors, i); err != nil {
			return 0, fmt.Errorf("wire: %w", err)
		}
		raw += up(4 * int64(t.len()))
	}
	return raw, nil
}

// roles says whether the role of tensor i fits its neighbours and its shape.
func roles(ts []Tensor, i int) error {
	t := &ts[i]
	switch t.Role {
	case Value:
		return nil
	case IDs:
		if t.DType == tensor.I32 && t.Shape.Rank == 1 && i+1 < len(ts) && ts[i+1].Role == Rows {
			return nil
		}
	case Rows:
		if i > 0 && ts[i-1].Role == IDs && t.Shape.Rank > 0 && t.Shape.Dims[0] == ts[i-1].Shape.Dims[0] {
			return nil
		}
	}
	return fmt.Errorf("tensor %.100q (%v %v): role %d does not fit", t.Name, t.DType, t.Shape, t.Role)
}

// meta writes the metadata. The sink has no errors.
func (e *Encoder) meta(f *Frame) error {
	t := &e.last
	start := len(e.out.b)
	if t.fits(f) {
		e.out.b = append(e.out.b, t.meta...)
		t.set(e.out.b[start:], f)
		return nil
	}
	m := writer{e: e.enc}
	here := func() int { return len(e.out.b) - start }
	n := len(intKeys) + 3 // loss, skip, tensors
	for _, there := range [...]bool{f.Run != "", f.Name != "", len(f.Raw) > 0} {
		if there {
			n++
		}
	}
	m.err = m.e.EncodeMapLen(n)
	for i, v := range numbers(f) {
		m.key(intKeys[i])
		t.ints[i] = here() + 1 // behind the code
		m.int(v)
	}
	m.key("loss")
	t.loss = here() + 1
	m.do(m.e.EncodeFloat64(f.Loss))
	m.key("skip")
	t.skip = here()
	m.do(m.e.EncodeBool(f.Skip))
	if f.Run != "" {
		m.key("run")
		m.key(f.Run)
	}
	if f.Name != "" {
		m.key("name")
		m.key(f.Name)
	}
	if len(f.Raw) > 0 {
		m.key("raw")
		m.do(m.e.EncodeBytes(f.Raw))
	}
	m.key("tensors")
	m.do(m.e.EncodeArrayLen(len(f.Tensors)))
	t.tensors, t.dims = t.tensors[:0], t.dims[:0]
	for i := range f.Tensors {
		x := &f.Tensors[i]
		m.do(m.e.EncodeArrayLen(3 + x.Shape.Rank))
		m.key(x.Name)
		m.do(m.e.EncodeUint(uint64(x.Role)))
		m.do(m.e.EncodeUint(uint64(x.DType)))
		for d := range x.Shape.Rank {
			t.dims = append(t.dims, here()+1)
			m.do(m.e.EncodeUint32(uint32(x.Shape.Dims[d])))
		}
		t.tensors = append(t.tensors, Tensor{Name: x.Name, Role: x.Role, DType: x.DType, Shape: x.Shape})
	}
	t.run, t.name, t.raw = f.Run, f.Name, len(f.Raw) > 0
	if t.meta = append(t.meta[:0], e.out.b[start:]...); m.err != nil {
		t.meta = nil
	}
	return m.err
}

// writer keeps the first error.
type writer struct {
	e   *msgpack.Encoder
	err error
}

func (w *writer) do(err error) {
	if w.err == nil {
		w.err = err
	}
}
func (w *writer) key(s string) { w.do(w.e.EncodeString(s)) }
func (w *writer) int(v int64)  { w.do(w.e.EncodeInt64(v)) }
