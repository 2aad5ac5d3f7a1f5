package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// Kind says what a frame is for.
type Kind uint8

// The kinds. Name and Raw mean what is said here; a kind that says nothing leaves them empty.
const (
	Open      Kind = 1 + iota // opens a stream: Name is what it is a stream of, Raw describes it (JSON)
	Inputs                    // what gather wrote for a part of a step
	Gradients                 // gradients of a part, or of a step (Parts 1); rows of tables as ids and rows
	Work                      // a part to be computed with the weights of Version: the inputs
	Weights                   // weights: a snapshot (Base -1), or what changed since version Base
	Edge                      // the tensors of a message between two stages: Name is the edge
	Example                   // what came from a source that can't be read twice: Raw, or tensors
	Step                      // ends a step: everything of it is before this frame
	Close                     // ends a stream: Name is the SHA-256 of the weights, Raw that of the state
	Control                   // a word between processes: Name says which
	kinds
)

var kindNames = [...]string{"", "open", "inputs", "gradients", "work", "weights", "edge", "example", "step", "close", "control"}

func (k Kind) String() string {
	if k > 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Role says what a tensor of a frame is.
type Role uint8

// The roles.
const (
	Value Role = iota
	IDs        // row numbers of the tensor after it
	Rows       // rows for the ids before it
)

// Snapshot is the Base of weights that need no others.
const Snapshot = -1

// Meta is what a frame says beside its tensors.
type Meta struct {
	stages.Head

	Run     string
	Epoch   int64
	Version int64
	Base    int64
	Time    int64
	Name    string
	Raw     []byte
}

// A Tensor of a frame. After Decode its slices are views of the frame's bytes where these are aligned for it, else of the decoder's own memory.
type Tensor struct {
	Name  string
	Role  Role
	DType tensor.DType
	Shape tensor.Shape
	F32   []float32
	I32   []int32
}

// Of makes a Tensor that shows t.
func Of(name string, role Role, t *tensor.Tensor) Tensor {
	return Tensor{Name: name, Role: role, DType: t.DType, Shape: t.Shape, F32: t.F32, I32: t.I32}
}

// Tensor is t for those who compute.
func (t *Tensor) Tensor() tensor.Tensor {
	return tensor.Tensor{DType: t.DType, Shape: t.Shape, F32: t.F32, I32: t.I32}
}

func (t *Tensor) len() int {
	if t.DType == tensor.I32 {
		return len(t.I32)
	}
	return len(t.F32)
}

// A Frame is one message on the wire or in a file.
type Frame struct {
	Kind Kind
	Seq  uint64
	Prev uint32 // CRC of the header before
	Meta
	Tensors []Tensor
}

// Sizes and limits of the format.
const (
	HeaderSize = 64
	Align      = 64
	MaxMeta    = 1 << 20
	MaxTensors = 1 << 16
	maxRatio   = 1024
	maxRun     = 256
	maxName    = 4096
	version    = 1
	flagPacked = 1
)

var magic = [4]byte{'v', 'T', 'P', 'U'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC is the checksum of the format.
func CRC(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// ErrShort says that bytes end before the frame does. What is there of it is right as far as one can tell.
var ErrShort = errors.New("the frame is not whole")

// A BadFrame says what is wrong with a frame, and where in it.
type BadFrame struct {
	At  int // offset in the frame
	Msg string
}

func (e *BadFrame) Error() string { return fmt.Sprintf("byte %d of the frame: %s", e.At, e.Msg) }

func bad(at int, format string, args ...any) error {
	return &BadFrame{at, fmt.Sprintf(format, args...)}
}

// A Header is the first 64 bytes of a frame, checked.
type Header struct {
	Kind    Kind
	Packed  bool
	Meta    int   // bytes of metadata
	Tensors int   // number
	Data    int64 // bytes of data in the frame
	Raw     int64 // bytes of data once unpacked
	Seq     uint64
	Prev    uint32
	Body    uint32
	Pack    int64 // bytes of packed data
	CRC     uint32
}

func up(n int64) int64 { return (n + Align - 1) &^ (Align - 1) }

// Size is the length of the whole frame.
func (h *Header) Size() int64 { return HeaderSize + up(int64(h.Meta)) + h.Data }

// ParseHeader reads and checks a header. max is the largest frame, packed or not, that the caller takes; nothing is allocated. ErrShort: fewer than 64 bytes.
func ParseHeader(b []byte, max int64) (h Header, err error) {
	if len(b) < HeaderSize {
		return h, ErrShort
	}
	b = b[:HeaderSize]
	le := binary.LittleEndian
	switch {
	case [4]byte(b[:4]) != magic:
		return h, bad(0, "no frame begins here: the magic is % x", b[:4])
	case b[4] != version:
		return h, bad(4, "version %d of the format, this program knows %d", b[4], version)
	case le.Uint32(b[60:]) != CRC(b[:60]):
		return h, bad(60, "the header's CRC is %08x, the header has %08x", le.Uint32(b[60:]), CRC(b[:60]))
	case b[6]&^flagPacked != 0 || b[7] != 0 || le.Uint32(b[56:]) != 0:
		return h, bad(6, "flags or reserved bytes that this program does not know")
	}
	h = Header{Kind: Kind(b[5]), Packed: b[6]&flagPacked != 0, Meta: int(le.Uint32(b[8:])), Tensors: int(le.Uint32(b[12:])), Seq: le.Uint64(b[32:]),
		Prev: le.Uint32(b[40:]), Body: le.Uint32(b[44:]), CRC: le.Uint32(b[60:])}
	data, raw, pack := le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint64(b[48:])
	switch lim := uint64(max); {
	case h.Kind == 0 || h.Kind >= kinds:
		return h, bad(5, "unknown kind %d", b[5])
	case h.Meta < 1 || h.Meta > MaxMeta:
		return h, bad(8, "%d bytes of metadata, 1 to %d are possible", h.Meta, MaxMeta)
	case h.Tensors > MaxTensors || h.Tensors*minTensor > h.Meta:
		return h, bad(12, "%d tensors in %d bytes of metadata", h.Tensors, h.Meta)
	case data%Align != 0 || raw%Align != 0:
		return h, bad(16, "the data has %d bytes, unpacked %d: not multiples of %d", data, raw, Align)
	case data > lim || raw > lim || HeaderSize+uint64(up(int64(h.Meta)))+data > lim:
		return h, bad(16, "a frame of %d bytes (unpacked %d), at most %d are allowed", data, raw, max)
	case !h.Packed && (raw != data || pack != 0):
		return h, bad(24, "the data is not packed and has %d bytes, unpacked %d", data, raw)
	case h.Packed && (pack == 0 || pack > data || uint64(up(int64(pack))) != data || raw > pack*maxRatio):
		return h, bad(24, "packed data of %d bytes in %d, unpacked %d", pack, data, raw)
	}
	h.Data, h.Raw, h.Pack = int64(data), int64(raw), int64(pack)
	return h, nil
}

// minTensor is the least that a tensor takes in the metadata: array, empty name, role, dtype.
const minTensor = 4

// A Packer shortens data. Pack appends to dst; Unpack appends exactly n bytes to dst or fails.
type Packer interface {
	Pack(dst, src []byte) []byte
	Unpack(dst, src []byte, n int) ([]byte, error)
}
