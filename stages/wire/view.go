package wire

import (
	"encoding/binary"
	"math"
	"unsafe"

	"vtpu/stages/tensor"
)

// A view of bytes as numbers needs package unsafe; it is used in this file and nowhere else in wire. It is right where the machine is little-endian, as the format is,
// and the bytes are aligned as Go wants float32 to be; elsewhere values are copied one by one.

var little = func() bool {
	x := uint16(1)
	return *(*byte)(unsafe.Pointer(&x)) == 1
}()

// Buffer makes n bytes that begin at a multiple of 64.
func Buffer(n int) []byte {
	b := make([]byte, n+Align-1)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Align - 1))
	return b[off : off+n : off+n]
}

// viewable says whether numbers at b can be used in place.
func viewable(b []byte) bool {
	return len(b) == 0 || little && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%4 == 0
}

// copyWords copies little-endian words to where views of them can be made.
func copyWords(dst, src []byte) {
	if little {
		copy(dst, src)
		return
	}
	for i := 0; i < len(src); i += 4 {
		binary.NativeEndian.PutUint32(dst[i:], binary.LittleEndian.Uint32(src[i:]))
	}
}

// viewF32 shows b, which viewable or copyWords has prepared, as numbers.
func viewF32(b []byte) []float32 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

func viewI32(b []byte) []int32 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// asF32 shows the bits of v, which must not be empty, as numbers that are only copied.
func asF32(v []int32) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(v))), len(v))
}

// bytesOf shows the elements of a tensor as they are in memory.
func bytesOf(t *Tensor) []byte {
	if t.DType == tensor.I32 {
		return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(t.I32))), 4*len(t.I32))
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(t.F32))), 4*len(t.F32))
}

// putF32 writes numbers to dst, which has room for just these.
func putF32(dst []byte, v []float32) {
	if little && len(v) > 0 {
		copy(dst, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v)))
		return
	}
	for i, x := range v {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
	}
}

func putI32(dst []byte, v []int32) {
	if little && len(v) > 0 {
		copy(dst, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v)))
		return
	}
	for i, x := range v {
		binary.LittleEndian.PutUint32(dst[4*i:], uint32(x))
	}
}
