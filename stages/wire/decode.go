package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/vmihailenco/msgpack/v5"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// A Decoder turns bytes into frames and trusts none of them. The zero value is ready. It is used by one goroutine.
type Decoder struct {
	// Max is the largest frame, packed or not, in bytes; 0 is 1 GiB.
	Max int64
	// Packer unpacks; without it a packed frame is an error.
	Packer Packer

	dec   *msgpack.Decoder
	r     bytes.Reader
	all   []byte            // the present metadata
	text  []byte            // the present string
	names map[string]string // strings seen before, so that they are not made anew
	held  int               // bytes in names
	raw   []byte            // unpacked data
	own   []byte            // tensors that can't be views
}

// DefaultMax is the largest frame where the caller says nothing.
const DefaultMax = 1 << 30

func (d *Decoder) max() int64 {
	if d.Max > 0 {
		return d.Max
	}
	return DefaultMax
}

// Decode reads the frame that b begins with and returns its length. Raw and the tensors are valid as long as b is and until the next call. Errors: ErrShort where b ends
// before the frame does, else a *BadFrame; then f is not to be used. What is allocated is bounded by len(b), times 1024 where the data is packed.
func (d *Decoder) Decode(b []byte, f *Frame) (int, error) {
	h, err := ParseHeader(b, d.max())
	if err != nil {
		return 0, err
	}
	size := h.Size()
	if int64(len(b)) < size {
		return 0, ErrShort
	}
	b = b[:size]
	if got := CRC(b[HeaderSize:]); got != h.Body {
		return 0, bad(44, "the body's CRC is %08x, the body has %08x", h.Body, got)
	}
	meta := b[HeaderSize : HeaderSize+h.Meta]
	from := HeaderSize + int(up(int64(h.Meta)))
	if !zero(b[HeaderSize+h.Meta : from]) {
		return 0, bad(HeaderSize+h.Meta, "the padding is not zero")
	}
	f.Kind, f.Seq, f.Prev = h.Kind, h.Seq, h.Prev
	f.Meta = Meta{}
	if err := d.meta(meta, &h, f); err != nil {
		var b *BadFrame
		if errors.As(err, &b) {
			return 0, err
		}
		return 0, bad(HeaderSize+h.Meta-d.r.Len(), "metadata: %v", err)
	}
	data := b[from:]
	if h.Packed {
		if d.Packer == nil {
			return 0, bad(6, "the data is packed, and nothing to unpack it is at hand")
		}
		if !zero(data[h.Pack:]) {
			return 0, bad(from+int(h.Pack), "the padding is not zero")
		}
		if int64(cap(d.raw)) < h.Raw {
			d.raw = Buffer(int(h.Raw))
		}
		raw, err := d.Packer.Unpack(d.raw[:0], data[:h.Pack], int(h.Raw))
		if err != nil || int64(len(raw)) != h.Raw {
			return 0, bad(from, "the data can't be unpacked to %d bytes: %v", h.Raw, err)
		}
		data = raw
	}
	return int(size), d.views(data, from, f)
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// views gives the tensors their values.
func (d *Decoder) views(data []byte, from int, f *Frame) error {
	copied := !viewable(data)
	if copied && cap(d.own) < len(data) {
		d.own = Buffer(len(data))
	}
	if copied {
		d.own = d.own[:len(data)]
		copyWords(d.own, data)
	}
	at := 0
	for i := range f.Tensors {
		t := &f.Tensors[i]
		n := 4 * t.Shape.Len()
		end := at + int(up(int64(n)))
		if !zero(data[at+n : end]) {
			return bad(from+at+n, "the padding of %.100q is not zero", t.Name)
		}
		v := data[at : at+n]
		if copied {
			v = d.own[at : at+n]
		}
		if t.DType == tensor.I32 {
			t.I32 = viewI32(v)
		} else {
			t.F32 = viewF32(v)
		}
		at = end
	}
	return nil
}

var errNil = errors.New("nil where a value is due")

// meta reads the metadata and checks it against the header.
func (d *Decoder) meta(b []byte, h *Header, f *Frame) error {
	d.all = b
	d.r.Reset(b)
	if d.dec == nil {
		d.dec = msgpack.NewDecoder(&d.r)
		d.names = map[string]string{}
	}
	d.dec.Reset(&d.r)
	n, err := d.dec.DecodeMapLen()
	if err != nil {
		return err
	}
	if n < 0 {
		return errNil
	}
	var seen uint32
	f.Tensors = f.Tensors[:0]
	for range n {
		key, err := d.bytes(32)
		if err != nil {
			return err
		}
		k, ok := keyOf[string(key)] // no allocation
		if !ok {
			return fmt.Errorf("unknown key %q", key)
		}
		if seen&(1<<k) != 0 {
			return fmt.Errorf("key %q stands twice", key)
		}
		seen |= 1 << k
		if err := d.value(k, h, f); err != nil {
			return fmt.Errorf("%s: %w", keyNames[k], err)
		}
	}
	if d.r.Len() > 0 {
		return fmt.Errorf("%d bytes follow the map", d.r.Len())
	}
	if seen&(1<<kTensors) == 0 && h.Tensors > 0 {
		return errors.New("the tensors are missing")
	}
	return nil
}

// The keys of the metadata.
const (
	kStep = iota
	kGathered
	kPart
	kParts
	kFirst
	kRows
	kCount
	kTargets
	kHits
	kSeen
	kMode
	kEpoch
	kVersion
	kBase
	kTime
	kLoss
	kSkip
	kRun
	kName
	kRaw
	kTensors
)

var keyNames = [...]string{"step", "gathered", "part", "parts", "first", "rows", "count", "targets", "hits", "seen", "mode", "epoch", "version", "base", "time",
	"loss", "skip", "run", "name", "raw", "tensors"}

var keyOf = func() map[string]int {
	m := map[string]int{}
	for i, k := range keyNames {
		m[k] = i
	}
	return m
}()

func (d *Decoder) value(k int, h *Header, f *Frame) (err error) {
	switch k {
	case kLoss:
		f.Loss, err = d.dec.DecodeFloat64()
		return err
	case kSkip:
		f.Skip, err = d.dec.DecodeBool()
		return err
	case kRun:
		f.Run, err = d.string(maxRun)
		return err
	case kName:
		f.Name, err = d.string(maxName)
		return err
	case kRaw:
		n, err := d.len(MaxMeta)
		if err != nil {
			return err
		}
		at := len(d.all) - d.r.Len()
		f.Raw = d.all[at : at+n : at+n]
		_, err = d.r.Seek(int64(n), io.SeekCurrent)
		return err
	case kTensors:
		return d.tensors(h, f)
	}
	v, err := d.dec.DecodeInt64()
	if err != nil {
		return err
	}
	// Nothing is cut: a number that its field can't hold is an error.
	lo, hi := int64(math.MinInt64), int64(math.MaxInt64)
	switch k {
	case kPart, kParts, kFirst, kRows, kCount, kTargets:
		lo, hi = 0, math.MaxInt32
	case kStep, kGathered, kHits, kSeen:
		lo = 0
	case kMode:
		lo, hi = 0, int64(stages.Sample)
	}
	if v < lo || v > hi {
		return fmt.Errorf("%d is out of range", v)
	}
	switch k {
	case kStep:
		f.Step = v
	case kGathered:
		f.Gathered = v
	case kPart:
		f.Part = int32(v)
	case kParts:
		f.Parts = int32(v)
	case kFirst:
		f.First = int(v)
	case kRows:
		f.Rows = int(v)
	case kCount:
		f.Count = int(v)
	case kTargets:
		f.Targets = int(v)
	case kHits:
		f.Hits = v
	case kSeen:
		f.Seen = v
	case kMode:
		f.Mode = stages.Mode(v)
	case kEpoch:
		f.Epoch = v
	case kVersion:
		f.Version = v
	case kBase:
		f.Base = v
	case kTime:
		f.Time = v
	}
	return nil
}

// len reads the length of a text or of bytes, which must be there and at most max.
func (d *Decoder) len(max int) (int, error) {
	n, err := d.dec.DecodeBytesLen()
	switch {
	case err != nil:
		return 0, err
	case n < 0:
		return 0, errNil
	case n > max || n > d.r.Len():
		return 0, fmt.Errorf("%d bytes, at most %d are possible and %d are left", n, max, d.r.Len())
	}
	return n, nil
}

// bytes reads a text, valid until the next call.
func (d *Decoder) bytes(max int) ([]byte, error) {
	n, err := d.len(max)
	if err != nil {
		return nil, err
	}
	if cap(d.text) < n {
		d.text = make([]byte, n, 2*n)
	}
	d.text = d.text[:n]
	return d.text, d.dec.ReadFull(d.text)
}

// maxHeld bounds the memory for strings that may come again.
const maxHeld = 1 << 20

// string reads a text that is kept; one that came before is not made again.
func (d *Decoder) string(max int) (string, error) {
	b, err := d.bytes(max)
	if err != nil {
		return "", err
	}
	s, ok := d.names[string(b)]
	if !ok {
		s = string(b)
		if d.held += len(s); d.held > maxHeld {
			clear(d.names)
			d.held = len(s)
		}
		d.names[s] = s
	}
	return s, nil
}

func (d *Decoder) tensors(h *Header, f *Frame) error {
	n, err := d.dec.DecodeArrayLen()
	if err != nil {
		return err
	}
	if n != h.Tensors {
		return bad(12, "the header says %d tensors, the metadata %d", h.Tensors, n)
	}
	var total int64
	for range n {
		var t Tensor
		k, err := d.dec.DecodeArrayLen()
		if err != nil {
			return err
		}
		if k < 3 || k > 3+tensor.MaxRank {
			return fmt.Errorf("an array of %d for a tensor", k)
		}
		if t.Name, err = d.string(maxName); err != nil {
			return err
		}
		var num [2 + tensor.MaxRank]int64
		for i := range k - 1 {
			if num[i], err = d.dec.DecodeInt64(); err != nil {
				return err
			}
			if num[i] < 0 || num[i] > math.MaxInt32 {
				return fmt.Errorf("%.100q: %d is out of range", t.Name, num[i])
			}
		}
		if num[0] > int64(Rows) || num[1] > int64(tensor.I32) {
			return fmt.Errorf("%.100q: role %d, dtype %d", t.Name, num[0], num[1])
		}
		t.Role, t.DType, t.Shape.Rank = Role(num[0]), tensor.DType(num[1]), k-3
		elems := int64(1)
		for i := range k - 3 {
			v := num[2+i]
			if v > 0 && elems > math.MaxInt32/v {
				return fmt.Errorf("%.100q has more than %d elements", t.Name, math.MaxInt32)
			}
			elems *= v
			t.Shape.Dims[i] = int(v)
		}
		if total += up(4 * elems); total > h.Raw {
			return bad(24, "the tensors up to %.100q need %d bytes, the data has %d", t.Name, total, h.Raw)
		}
		f.Tensors = append(f.Tensors, t)
	}
	if total != h.Raw {
		return bad(24, "the tensors need %d bytes, the data has %d", total, h.Raw)
	}
	for i := range f.Tensors {
		if err := roles(f.Tensors, i); err != nil {
			return err
		}
	}
	return nil
}
