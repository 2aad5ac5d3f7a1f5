package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"vtpu/stages/tensor"
)

// An Encoder turns frames into bytes. The zero value is ready. It keeps what it needs between calls, so that a frame as large as one before it costs no allocation.
// It is used by one goroutine.
type Encoder struct {
	// Packer shortens the data of each frame if not nil and if that saves an eighth or more.
	Packer Packer

	buf    []byte
	packed []byte
	enc    *msgpack.Encoder
	out    sink
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
	for i := range f.Tensors {
		t := &f.Tensors[i]
		if t.DType == tensor.I32 {
			dst = appendI32(dst, t.I32)
		} else {
			dst = appendF32(dst, t.F32)
		}
		dst = pad(dst, start)
	}
	h, le := dst[start:start+HeaderSize], binary.LittleEndian
	copy(h, magic[:])
	h[4], h[5] = version, byte(f.Kind)
	le.PutUint32(h[8:], uint32(meta))
	le.PutUint32(h[12:], uint32(len(f.Tensors)))
	le.PutUint64(h[16:], uint64(raw))
	le.PutUint64(h[24:], uint64(raw))
	return dst, nil
}

// Seal gives a draft its place in a stream and the checksums: it is a frame then. It costs a look at every byte.
func Seal(draft []byte, seq uint64, prev uint32) {
	le := binary.LittleEndian
	le.PutUint64(draft[32:], seq)
	le.PutUint32(draft[40:], prev)
	le.PutUint32(draft[44:], CRC(draft[HeaderSize:]))
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
	m := writer{e: e.enc}
	h := &f.Head
	ints := [...]struct {
		key string
		v   int64
	}{{"step", h.Step}, {"gathered", h.Gathered}, {"part", int64(h.Part)}, {"parts", int64(h.Parts)}, {"first", int64(h.First)}, {"rows", int64(h.Rows)},
		{"count", int64(h.Count)}, {"targets", int64(h.Targets)}, {"hits", h.Hits}, {"seen", h.Seen}, {"mode", int64(h.Mode)},
		{"epoch", f.Epoch}, {"version", f.Version}, {"base", f.Base}, {"time", f.Time}}
	n := len(ints) + 3 // loss, skip, tensors
	for _, there := range [...]bool{f.Run != "", f.Name != "", len(f.Raw) > 0} {
		if there {
			n++
		}
	}
	m.err = m.e.EncodeMapLen(n)
	for i := range ints {
		m.key(ints[i].key)
		m.int(ints[i].v)
	}
	m.key("loss")
	m.do(m.e.EncodeFloat64(h.Loss))
	m.key("skip")
	m.do(m.e.EncodeBool(h.Skip))
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
	for i := range f.Tensors {
		t := &f.Tensors[i]
		m.do(m.e.EncodeArrayLen(3 + t.Shape.Rank))
		m.key(t.Name)
		m.do(m.e.EncodeUint(uint64(t.Role)))
		m.do(m.e.EncodeUint(uint64(t.DType)))
		for d := range t.Shape.Rank {
			m.do(m.e.EncodeUint32(uint32(t.Shape.Dims[d])))
		}
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
