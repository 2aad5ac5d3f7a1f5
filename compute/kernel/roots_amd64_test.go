//go:build amd64 && !purego

package kernel

import (
	"math"
	"testing"
)

// Scaling by 4 changes no step of a root as long as nothing is denormal: all fractions of two neighbouring exponents are all of them.
func TestRootsAreRounded(t *testing.T) {
	all := ISAs()
	if all[len(all)-1] != "avx512" {
		t.Skip("this machine has no AVX-512")
	}
	x, y := make([]float32, 1<<12), make([]float32, 1<<12)
	from := func(bits uint32, step uint32) {
		for i := range x {
			x[i] = math.Float32frombits(bits + uint32(i)*step)
		}
		rootsAVX512(len(x), &y[0], &x[0])
		for i, v := range x {
			if want := Sqrt32(v); math.Float32bits(y[i]) != math.Float32bits(want) && want == want {
				t.Fatalf("the root of %x is %x, want %x", math.Float32bits(v), math.Float32bits(y[i]), math.Float32bits(want))
			}
		}
	}
	for _, e := range []uint32{126, 127, 26, 27, 251} {
		for bits := uint32(0); bits < 1<<23; bits += 1 << 12 {
			from(e<<23+bits, 1)
		}
	}
	for bits := uint32(0); bits < 1<<20; bits += 8191 { // all exponents, both signs, not numbers
		from(bits, 1<<20)
	}
}
