package tensor

import "reflect"

// Align is the alignment of every tensor in an arena, in bytes: one cache line, one AVX-512 vector.
const Align = 64

const alignElems = Align / 4

// An Arena carves tensors from two slabs, one of float32 and one of int32, each tensor 64-byte aligned. Use: Reserve everything,
// Grow once, then New in any order. A slab is zero when it is made.
type Arena struct {
	f32  []float32
	i32  []int32
	nf   int
	ni   int
	used [2]int
}

func padded(n int) int { return (n + alignElems - 1) / alignElems * alignElems }

// Reserve counts room for a tensor of n elements.
func (a *Arena) Reserve(d DType, n int) {
	if d == I32 {
		a.ni += padded(n)
	} else {
		a.nf += padded(n)
	}
}

// Grow allocates the slabs for all that was reserved.
func (a *Arena) Grow() {
	a.f32 = AlignedF32(a.nf)
	a.i32 = alignedI32(a.ni)
	a.used = [2]int{}
}

// New carves a tensor. It panics when more is taken than was reserved.
func (a *Arena) New(d DType, s Shape) Tensor {
	n := s.Len()
	at := a.used[d]
	a.used[d] += padded(n)
	t := Tensor{DType: d, Shape: s}
	if d == I32 {
		t.I32 = a.i32[at : at+n : at+n]
	} else {
		t.F32 = a.f32[at : at+n : at+n]
	}
	return t
}

// AlignedF32 makes a zeroed slice of n float32 that starts on a 64-byte boundary.
func AlignedF32(n int) []float32 {
	if n == 0 {
		return nil
	}
	s := make([]float32, n+alignElems-1)
	p := reflect.ValueOf(s).Pointer()
	if n >= hugeElems {
		hugePages(p, 4*len(s))
	}
	off := skip(p)
	return s[off : off+n : off+n]
}

// hugeElems is the size from which on an allocation asks for huge pages.
const hugeElems = 1 << 20

func alignedI32(n int) []int32 {
	if n == 0 {
		return nil
	}
	s := make([]int32, n+alignElems-1)
	off := skip(reflect.ValueOf(s).Pointer())
	return s[off : off+n : off+n]
}

// skip is the number of 4-byte elements from p to the next boundary. Go's heap does not move, so the answer stays true.
func skip(p uintptr) int {
	return int((Align-p%Align)%Align) / 4
}
