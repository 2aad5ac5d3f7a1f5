package wire

import (
	"encoding/binary"
	"testing"
)

// TestBigEndian walks the paths of a machine whose bytes lie the other way round.
func TestBigEndian(t *testing.T) {
	if !little {
		t.Skip("SKIP: this machine is big-endian, its paths are the ordinary ones here")
	}
	little = false
	defer func() { little = true }()
	if b := appendF32(nil, []float32{1}); binary.LittleEndian.Uint32(b) != 0x3f800000 {
		t.Errorf("1 is written as % x", b)
	}
	if b := appendI32(nil, []int32{-2}); binary.LittleEndian.Uint32(b) != 0xfffffffe {
		t.Errorf("-2 is written as % x", b)
	}
	b := Buffer(4)
	copyWords(b, []byte{0, 0, 0x80, 0x3f})
	if viewable(b) || viewF32(b)[0] != 1 { // this machine reads it back with its own order
		t.Error("words are not turned to the machine's order")
	}
}
