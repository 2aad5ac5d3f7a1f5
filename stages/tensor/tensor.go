// Package tensor holds what walks in a message: flat slices with a shape, carved from 64-byte aligned arenas.
package tensor

import "fmt"

// MaxRank is the largest number of dimensions of a tensor.
const MaxRank = 4

// DType says what the elements of a tensor are.
type DType uint8

// The element types: float32 for values, int32 for ids, tokens and class labels.
const (
	F32 DType = iota
	I32
)

// String gives "float32" or "int32".
func (d DType) String() string {
	if d == I32 {
		return "int32"
	}
	return "float32"
}

// A Shape is a list of dimensions, slowest first, as in (B,T,C). It is a value: comparing and copying it allocates nothing.
type Shape struct {
	Rank int
	Dims [MaxRank]int
}

// Of makes a shape. It panics above MaxRank dimensions, which is a mistake in a stage, not in what a user gave.
func Of(dims ...int) Shape {
	if len(dims) > MaxRank {
		panic(fmt.Sprintf("tensor: %d dimensions, at most %d", len(dims), MaxRank))
	}
	s := Shape{Rank: len(dims)}
	for i, d := range dims {
		s.Dims[i] = d
	}
	return s
}

// Len is the number of elements; 1 for a scalar (rank 0).
func (s Shape) Len() int { return s.len() }

// len is Len without a copy or a loop: steps whose shapes change ask for it for each of their tensors.
func (s *Shape) len() int {
	d := &s.Dims
	switch s.Rank {
	case 0:
		return 1
	case 1:
		return d[0]
	case 2:
		return d[0] * d[1]
	case 3:
		return d[0] * d[1] * d[2]
	}
	return d[0] * d[1] * d[2] * d[3]
}

// Last is the size of the fastest dimension; 1 for a scalar.
func (s Shape) Last() int {
	if s.Rank == 0 {
		return 1
	}
	return s.Dims[s.Rank-1]
}

// Rows is the product of all dimensions but the last: the rows of the matrix that a GEMM sees.
func (s Shape) Rows() int {
	n := 1
	for i := 0; i < s.Rank-1; i++ {
		n *= s.Dims[i]
	}
	return n
}

// WithLast is s with its fastest dimension replaced.
func (s Shape) WithLast(n int) Shape {
	if s.Rank == 0 {
		return Of(n)
	}
	s.Dims[s.Rank-1] = n
	return s
}

// Slice gives the dimensions as a fresh slice.
func (s Shape) Slice() []int { return append([]int(nil), s.Dims[:s.Rank]...) }

// String gives (2,3,4).
func (s Shape) String() string {
	b := []byte{'('}
	for i := 0; i < s.Rank; i++ {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%d", s.Dims[i])
	}
	return string(append(b, ')'))
}

// A Tensor is a flat, row-major slice with a shape. Exactly one of F32 and I32 is used, as DType says. Its storage is fixed
// when it is made (Cap elements); Resize changes the shape within it.
type Tensor struct {
	DType DType
	Shape Shape
	F32   []float32 // len = Shape.Len() for float32
	I32   []int32   // len = Shape.Len() for int32

	// Its own storage while it is a view of other data.
	ownF []float32
	ownI []int32
}

// View makes t show v, which must hold s.Len() elements and is only read from then on, until the next Own or View. It is for data that would
// otherwise be copied step after step.
func (t *Tensor) View(s *Shape, v []float32) {
	if t.ownF == nil {
		t.ownF = t.F32
	}
	t.F32 = v
	if !t.Shape.is(s) {
		t.Shape = *s
	}
}

// ViewI32 is View for int32.
func (t *Tensor) ViewI32(s *Shape, v []int32) {
	if t.ownI == nil {
		t.ownI = t.I32
	}
	t.I32 = v
	if !t.Shape.is(s) {
		t.Shape = *s
	}
}

// Own ends a view: t has its own storage again, as a vector; Resize it before use.
func (t *Tensor) Own() {
	if t.ownF != nil {
		t.F32, t.ownF = t.ownF, nil
		t.Shape = Of(len(t.F32))
	}
	if t.ownI != nil {
		t.I32, t.ownI = t.ownI, nil
		t.Shape = Of(len(t.I32))
	}
}

// New makes a tensor of its own, outside of any arena, with all elements zero.
func New(d DType, s Shape) Tensor {
	var a Arena
	a.Reserve(d, s.Len())
	a.Grow()
	return a.New(d, s)
}

// FromF32 wraps v, which must hold s.Len() elements.
func FromF32(s Shape, v []float32) Tensor {
	if len(v) != s.Len() {
		panic(fmt.Sprintf("tensor: %d elements for shape %v", len(v), s))
	}
	return Tensor{DType: F32, Shape: s, F32: v}
}

// FromI32 wraps v, which must hold s.Len() elements.
func FromI32(s Shape, v []int32) Tensor {
	if len(v) != s.Len() {
		panic(fmt.Sprintf("tensor: %d elements for shape %v", len(v), s))
	}
	return Tensor{DType: I32, Shape: s, I32: v}
}

// Len is the number of elements.
func (t *Tensor) Len() int {
	if t.DType == I32 {
		return len(t.I32)
	}
	return len(t.F32)
}

// Cap is the largest number of elements that Resize accepts.
func (t *Tensor) Cap() int {
	if t.DType == I32 {
		return cap(t.I32)
	}
	return cap(t.F32)
}

// Resize gives the tensor a new shape within its storage; elements keep their place in the flat slice. It allocates nothing and
// panics when the storage is too small.
func (t *Tensor) Resize(s Shape) {
	if !t.Shape.is(&s) {
		t.resize(&s)
	}
}

// ResizeAs is Resize to the shape of x. In a small step a copy of the shape would cost more than the work.
func (t *Tensor) ResizeAs(x *Tensor) {
	if !t.Shape.is(&x.Shape) {
		t.resize(&x.Shape)
	}
}

// ResizeLast is Resize to the shape of x with n for its last dimension.
func (t *Tensor) ResizeLast(x *Tensor, n int) {
	a, b, r := &t.Shape.Dims, &x.Shape.Dims, x.Shape.Rank
	switch {
	case t.Shape.Rank == r && r == 2 && a[1] == n && a[0] == b[0]:
	case t.Shape.Rank == r && r == 3 && a[2] == n && a[1] == b[1] && a[0] == b[0]:
	default:
		t.Resize(x.Shape.WithLast(n))
	}
}

// is compares word by word: a comparison of the structs is a call.
func (s *Shape) is(o *Shape) bool {
	return s.Rank == o.Rank && s.Dims[0] == o.Dims[0] && s.Dims[1] == o.Dims[1] && s.Dims[2] == o.Dims[2] && s.Dims[3] == o.Dims[3]
}

func (t *Tensor) resize(s *Shape) {
	n := s.len()
	t.Shape = *s
	if t.DType == I32 {
		t.I32 = t.I32[:n]
	} else {
		t.F32 = t.F32[:n]
	}
}

// Last is the size of the fastest dimension: Shape.Last without a copy of the shape.
func (t *Tensor) Last() int {
	if t.Shape.Rank == 0 {
		return 1
	}
	return t.Shape.Dims[t.Shape.Rank-1]
}

// Rows is the product of all dimensions but the last.
func (t *Tensor) Rows() int {
	d := &t.Shape.Dims
	switch t.Shape.Rank {
	case 0, 1:
		return 1
	case 2:
		return d[0]
	case 3:
		return d[0] * d[1]
	}
	return d[0] * d[1] * d[2]
}

// Row is row r of a float32 tensor seen as a matrix of Shape.Last() columns.
func (t *Tensor) Row(r int) []float32 {
	c := t.Last()
	return t.F32[r*c : r*c+c : r*c+c]
}
