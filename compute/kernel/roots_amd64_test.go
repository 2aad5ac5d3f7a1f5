//go:build amd64 && !purego

package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
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

// Which roots of Adam go through the divider changes no bit.
func TestAdamOnEitherKindOfDivider(t *testing.T) {
	all := ISAs()
	if all[len(all)-1] != "avx512" {
		t.Skip("this machine has no AVX-512")
	}
	was := roomy
	t.Cleanup(func() { roomy = was; use(ISA()) })
	r := rand.New(rand.NewPCG(1, 2))
	odd := []float32{0, float32(math.Copysign(0, -1)), 1e-38, -1e-39, 1e-45, 1e19, -1e25, 3e38, 1e-20, 1e-16}
	for n := range 200 {
		for _, p := range []AdamParams{{LR: 0.01, Beta1: 0.85, Beta2: 0.99, Eps: 1e-8, Correct1: 0.2, Correct2: 0.03},
			{LR: 0.01, Beta1: 0.85, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1, Correct1: 1, Correct2: 1},
			{LR: 0.01, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Decoupled: true, Correct1: 1, Correct2: 1}} {
			var s [3][4][]float32
			for k := range s[0] {
				x := make([]float32, n)
				for i := range x {
					x[i] = r.Float32() - 0.5
					if r.IntN(4) == 0 {
						x[i] = odd[r.IntN(len(odd))]
					}
					if k == 3 {
						x[i] = float32(math.Abs(float64(x[i])))
					}
				}
				for i := range s {
					s[i][k] = slices.Clone(x)
				}
			}
			for i := range s {
				level = 2
				if i == 2 {
					level = 0
				}
				roomy = i == 1
				Adam(s[i][0], s[i][1], s[i][2], s[i][3], &p)
			}
			level = 2
			for i := 1; i < len(s); i++ {
				for k := range s[i] {
					for j, v := range s[i][k] {
						if math.Float32bits(v) != math.Float32bits(s[0][k][j]) {
							t.Fatalf("n %d, %+v, way %d, slice %d: %x at %d, want %x", n, p, i, k, math.Float32bits(v), j, math.Float32bits(s[0][k][j]))
						}
					}
				}
			}
		}
	}
}
