package kernel

import (
	"math/rand/v2"
	"testing"
)

// TestCausalProductsLeaveOutZeros: with a mask, the products of attention skip blocks whose weights are 0. On numbers without NaN, Inf and -0 they must equal the
// whole products, bit by bit.
func TestCausalProductsLeaveOutZeros(t *testing.T) {
	was := ISA()
	defer func() { _ = SetISA(was) }()
	r := rand.New(rand.NewPCG(5, 5))
	for _, isa := range ISAs() {
		if err := SetISA(isa); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 2, 31, 32, 33, 63, 64, 65, 100} {
			const hs, ld = 20, 47
			x := func() []float32 { return randoms(r, span(n, hs, ld), 0) }
			q, k, v, g := x(), x(), x(), x()
			att := func(causal bool) []float32 {
				a := make([]float32, n*n)
				if causal {
					Scores(a, q, k, 1, n, hs, ld, 0.2, true)
					return a
				}
				Gemm(NT, n, n, hs, q, ld, k, ld, a, n, false)
				SoftmaxRows(a, a, n, n, n, 0.2, true)
				return a
			}
			a := att(true)
			equal := func(what string, got, want []float32) {
				t.Helper()
				for i := range want {
					if !same(got[i], want[i]) {
						t.Fatalf("%s, %s of %d: element %d is %v, want %v", isa, what, n, i, got[i], want[i])
					}
				}
			}
			equal("weights", a, att(false))
			y, want := make([]float32, len(v)), make([]float32, len(v))
			Attend(y, a, v, n, hs, ld, ld, true)
			Attend(want, a, v, n, hs, ld, ld, false)
			equal("output", y, want)
			AttendBackward(y, a, g, n, hs, ld, ld, true)
			AttendBackward(want, a, g, n, hs, ld, ld, false)
			equal("gradient of values", y, want)
			da, dwant := make([]float32, n*n), make([]float32, n*n)
			ScoresBackward(da, g, v, a, n, hs, ld, ld, 0.2, true)
			Gemm(NT, n, n, hs, g, ld, v, ld, dwant, n, false)
			SoftmaxBackward(dwant, dwant, a, n, n, n, 0.2, true)
			equal("gradient of scores", da, dwant)
		}
	}
}
