package backward

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The elements kept are those that a stable sort by magnitude puts first.
func TestTopKKeepsWhatASortPutsFirst(t *testing.T) {
	s := &topK{high: make([]uint32, 1<<15), low: make([]uint32, 1<<16)}
	special := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 1e-40, float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		g := make([]float32, 1+r.IntN(200))
		for i := range g {
			switch r.IntN(4) {
			case 0:
				g[i] = special[r.IntN(len(special))]
			case 1:
				g[i] = float32(r.IntN(5) - 2) // many are equal
			default:
				g[i] = float32(r.NormFloat64())
			}
		}
		k := TopKConfig{Keep: r.Float64()}.Kept(len(g))
		order := make([]int, len(g))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return int(int64(magnitude(g[b])) - int64(magnitude(g[a]))) })
		want := make([]uint32, len(g))
		for _, i := range order[:k] {
			if magnitude(g[i]) != 0 {
				want[i] = math.Float32bits(g[i])
			}
		}
		s.keep(g, k)
		for i, v := range g {
			if math.Float32bits(v) != want[i] {
				t.Fatalf("seed %d: element %d of %d is %v, want %v", seed, i, len(g), v, math.Float32frombits(want[i]))
			}
		}
	}
}
