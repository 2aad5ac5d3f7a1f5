package tensor

import (
	"reflect"
	"testing"
)

func TestArenaAlignsEveryTensor(t *testing.T) {
	shapes := []Shape{Of(1), Of(3, 5), Of(), Of(64), Of(2, 3, 4, 5), Of(17)}
	var a Arena
	for _, s := range shapes {
		a.Reserve(F32, s.Len())
		a.Reserve(I32, s.Len())
	}
	a.Grow()
	for _, s := range shapes {
		f, i := a.New(F32, s), a.New(I32, s)
		for _, p := range []uintptr{reflect.ValueOf(f.F32).Pointer(), reflect.ValueOf(i.I32).Pointer()} {
			if p%Align != 0 {
				t.Errorf("%v starts at %#x, not on a %d-byte boundary", s, p, Align)
			}
		}
		if f.Len() != s.Len() || f.Cap() != s.Len() || i.Len() != s.Len() {
			t.Errorf("%v: len %d, cap %d", s, f.Len(), f.Cap())
		}
		f.F32[0] = 1 // must not be seen by a later tensor
	}
}

func TestShape(t *testing.T) {
	s := Of(2, 3, 4)
	if s.Len() != 24 || s.Rows() != 6 || s.Last() != 4 || s.String() != "(2,3,4)" || s.WithLast(7) != Of(2, 3, 7) {
		t.Errorf("shape %v: %d %d %d", s, s.Len(), s.Rows(), s.Last())
	}
	if e := Of(); e.Len() != 1 || e.Rows() != 1 || e.Last() != 1 {
		t.Error("a scalar has one element")
	}
}

func TestResizeStaysWithinStorage(t *testing.T) {
	x := New(F32, Of(4, 8))
	x.Resize(Of(2, 8))
	if x.Len() != 16 || x.Cap() != 32 {
		t.Errorf("len %d cap %d", x.Len(), x.Cap())
	}
	defer func() {
		if recover() == nil {
			t.Error("growing past the storage must panic")
		}
	}()
	x.Resize(Of(5, 8))
}
