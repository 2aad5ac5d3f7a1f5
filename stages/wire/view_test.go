package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"vtpu/stages/tensor"
)

// TestBigEndian walks the paths of a machine whose bytes lie the other way round.
func TestBigEndian(t *testing.T) {
	if !little {
		t.Skip("SKIP: this machine is big-endian, its paths are the ordinary ones here")
	}
	little = false
	defer func() { little = true }()
	b := make([]byte, 4)
	if putF32(b, []float32{1}); binary.LittleEndian.Uint32(b) != 0x3f800000 {
		t.Errorf("1 is written as % x", b)
	}
	if putI32(b, []int32{-2}); binary.LittleEndian.Uint32(b) != 0xfffffffe {
		t.Errorf("-2 is written as % x", b)
	}
	b = Buffer(4)
	copyWords(b, []byte{0, 0, 0x80, 0x3f})
	if viewable(b) || viewF32(b)[0] != 1 { // this machine reads it back with its own order
		t.Error("words are not turned to the machine's order")
	}
}

// TestSpread: who copies which share of the tensors changes no byte.
func TestSpread(t *testing.T) {
	f := &Frame{Kind: Gradients}
	for i, n := range []int{1, 63, 0, 40_000, 64, 5, 12_345} {
		x := Tensor{Name: string(rune('a' + i)), Shape: tensor.Of(n), F32: make([]float32, n)}
		for k := range x.F32 {
			x.F32[k] = float32(i*100_000 + k)
		}
		f.Tensors = append(f.Tensors, x)
	}
	var plain, shared Encoder
	want, err := plain.Append(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	for lanes := 1; lanes < 9; lanes++ {
		calls := 0
		shared.Spread = func(n int, f func(lo, hi int)) {
			for i := lanes - 1; i >= 0; i-- {
				f(n*i/lanes, n*(i+1)/lanes)
				calls++
			}
		}
		dirty := bytes.Repeat([]byte{0xaa}, len(want)) // padding must not show what was there
		if got, err := shared.Append(dirty[:0], f); err != nil || !bytes.Equal(got, want) || calls != lanes {
			t.Fatalf("%d shares, %d calls: other bytes (%v)", lanes, calls, err)
		}
	}
}
