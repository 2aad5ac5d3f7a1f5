package tensorfile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"vtpu/stages/disk"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// maxHeader is the largest header of a safetensors file, as its reference implementation has it.
const maxHeader = 100 << 20

// coordKey marks the home of a tensor in the metadata.
const coordKey = "phext:"

// stInfo is one tensor in the header.
type stInfo struct {
	DType   string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// WriteSafetensors writes entries sorted by name, with their homes and meta as metadata. Format: github.com/huggingface/safetensors, "Format".
func WriteSafetensors(w io.Writer, entries []Entry, meta map[string]string) error {
	es := sorted(entries)
	all := map[string]string{"format": "pt"}
	for k, v := range meta {
		all[k] = v
	}
	head := map[string]any{}
	var at int64
	for i, e := range es {
		if i > 0 && es[i-1].Name == e.Name {
			return fmt.Errorf("two tensors are called %s", e.Name)
		}
		n := 4 * int64(e.T.Len())
		d := "F32"
		if e.T.DType == tensor.I32 {
			d = "I32"
		}
		shape := []int64{}
		for _, x := range e.T.Shape.Slice() {
			shape = append(shape, int64(x))
		}
		head[e.Name] = stInfo{d, shape, [2]int64{at, at + n}}
		at += n
		if e.Coord != (weights.Coord{}) {
			all[coordKey+e.Name] = e.Coord.String()
		}
	}
	head["__metadata__"] = all
	b, err := json.Marshal(head) // keys sorted
	if err != nil {
		return err
	}
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	bw := bufio.NewWriterSize(w, 1<<16)
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(len(b)))
	bw.Write(size[:]) // a bufio.Writer keeps its first error for Flush
	bw.Write(b)
	for _, e := range es {
		writeValues(bw, &e.T)
	}
	return bw.Flush()
}

func writeValues(w *bufio.Writer, t *tensor.Tensor) {
	var b [4]byte
	for _, v := range t.F32 {
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
		w.Write(b[:])
	}
	for _, v := range t.I32 {
		binary.LittleEndian.PutUint32(b[:], uint32(v))
		w.Write(b[:])
	}
}

// ReadSafetensors reads F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL; all become float32 or int32.
func ReadSafetensors(path string) ([]Entry, map[string]string, error) {
	return ReadSafetensorsOf(disk.OS{}, path)
}

// ReadSafetensorsOf is ReadSafetensors for a file of a file system.
func ReadSafetensorsOf(fsys disk.FS, path string) ([]Entry, map[string]string, error) {
	b, err := ReadAllOf(fsys, path)
	if err != nil {
		return nil, nil, err
	}
	return parseSafetensors(path, b)
}

func parseSafetensors(path string, b []byte) ([]Entry, map[string]string, error) {
	if len(b) < 8 {
		return nil, nil, bad(path, "truncated: %d bytes are too few for a safetensors file", len(b))
	}
	n := binary.LittleEndian.Uint64(b)
	if n > maxHeader || n > uint64(len(b)-8) {
		return nil, nil, bad(path, "not a safetensors file, or truncated: the header claims %d bytes, the file has %d", n, len(b))
	}
	dec := json.NewDecoder(bytes.NewReader(b[8 : 8+n]))
	data := b[8+n:]
	meta := map[string]string{}
	type named struct {
		name string
		stInfo
	}
	var infos []named
	seen := map[string]bool{}
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, nil, bad(path, "the header is not a JSON object")
	}
	for dec.More() {
		tok, err := dec.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return nil, nil, bad(path, "the header is not JSON: %v", err)
		}
		if seen[name] {
			return nil, nil, bad(path, "the header has %q twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			if err := dec.Decode(&meta); err != nil {
				return nil, nil, bad(path, "the metadata is not a map of texts: %v", err)
			}
			continue
		}
		var i stInfo
		if err := dec.Decode(&i); err != nil {
			return nil, nil, bad(path, "tensor %q: %v", name, err)
		}
		infos = append(infos, named{name, i})
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, bad(path, "the header is not JSON: %v", err)
	}
	slices.SortFunc(infos, func(a, b named) int {
		if a.Offsets[0] != b.Offsets[0] {
			if a.Offsets[0] < b.Offsets[0] {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	var end int64
	var es []Entry
	for _, i := range infos {
		per, ok := stSize[i.DType]
		if !ok {
			return nil, nil, bad(path, "tensor %q has the type %q, which can't be read", i.name, i.DType)
		}
		lo, hi := i.Offsets[0], i.Offsets[1]
		if lo != end || hi < lo || hi > int64(len(data)) {
			return nil, nil, bad(path, "tensor %q lies at %d..%d, want it to begin at %d and to end by %d (truncated?)", i.name, lo, hi, end, len(data))
		}
		end = hi
		s, err := shapeOf(i.Shape, per, hi-lo)
		if err != nil {
			return nil, nil, bad(path, "tensor %q: %v", i.name, err)
		}
		if int64(s.Len())*int64(per) != hi-lo {
			return nil, nil, bad(path, "tensor %q has the shape %v and %d bytes, want %d", i.name, s, hi-lo, s.Len()*per)
		}
		t, err := convert(stKind[i.DType], s, data[lo:hi], binary.LittleEndian)
		if err != nil {
			return nil, nil, bad(path, "tensor %q: %v", i.name, err)
		}
		e := Entry{Name: i.name, T: t}
		if c, ok := meta[coordKey+i.name]; ok {
			if e.Coord, err = weights.ParseCoord(c); err != nil {
				return nil, nil, bad(path, "tensor %q: %v", i.name, err)
			}
			delete(meta, coordKey+i.name)
		}
		es = append(es, e)
	}
	if end != int64(len(data)) {
		return nil, nil, bad(path, "%d bytes follow the last tensor", int64(len(data))-end)
	}
	return sorted(es), meta, nil
}

var stSize = map[string]int{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}

var stKind = map[string]string{"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "bf", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1", "BOOL": "b1"}

// convert reads values of a NumPy-like kind; floats become float32, all others int32.
func convert(kind string, s tensor.Shape, b []byte, o binary.ByteOrder) (tensor.Tensor, error) {
	d := tensor.I32
	if kind[0] == 'f' || kind == "bf" {
		d = tensor.F32
	}
	t := tensor.New(d, s)
	n := s.Len()
	whole := func(i int, v int64) error {
		if v < math.MinInt32 || v > math.MaxInt32 {
			return fmt.Errorf("element %d is %d, which does not fit into 32 bits", i, v)
		}
		t.I32[i] = int32(v)
		return nil
	}
	for i := range n {
		var err error
		switch kind {
		case "f8":
			t.F32[i] = float32(math.Float64frombits(o.Uint64(b[8*i:])))
		case "f4":
			t.F32[i] = math.Float32frombits(o.Uint32(b[4*i:]))
		case "f2":
			t.F32[i] = half(o.Uint16(b[2*i:]))
		case "bf":
			t.F32[i] = math.Float32frombits(uint32(o.Uint16(b[2*i:])) << 16)
		case "i8":
			err = whole(i, int64(o.Uint64(b[8*i:])))
		case "u8":
			v := o.Uint64(b[8*i:])
			err = whole(i, int64(min(v, 1<<62)))
		case "i4":
			t.I32[i] = int32(o.Uint32(b[4*i:]))
		case "u4":
			err = whole(i, int64(o.Uint32(b[4*i:])))
		case "i2":
			t.I32[i] = int32(int16(o.Uint16(b[2*i:])))
		case "u2":
			t.I32[i] = int32(o.Uint16(b[2*i:]))
		case "i1":
			t.I32[i] = int32(int8(b[i]))
		case "u1", "b1":
			t.I32[i] = int32(b[i])
		}
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

// half is IEEE binary16 as float32.
func half(h uint16) float32 {
	sign, exp, man := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0xff<<23 | man<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
	}
	v := float32(man) * (1.0 / (1 << 24))
	if sign != 0 {
		v = -v
	}
	return v
}
