package rng

import (
	"math"
	"slices"
	"sort"
	"testing"
)

// The known answers of the Random123 distribution (kat_vectors, philox4x32 10).
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0)}, [2]uint32{^uint32(0), ^uint32(0)},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := Philox4x32(c.ctr, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.ctr, c.key, got, c.want)
		}
	}
}

func TestProbit(t *testing.T) {
	for _, p := range []float64{1e-9, 1e-4, 0.01, 0.07, 0.075, 0.3, 0.5, 0.7, 0.975, 1 - 1e-6} {
		x := Probit(p)
		if back := 0.5 * math.Erfc(-x/math.Sqrt2); math.Abs(back-p) > 1e-13+1e-11*p {
			t.Errorf("probit(%g) = %g, whose probability is %g", p, x, back)
		}
	}
}

func TestLog(t *testing.T) {
	for _, x := range []float64{1e-300, 1e-10, 0.1, 0.5, 0.70710678, 0.9999, 1, 1.5, 2, 12345, 1e300} {
		if got, want := Log(x), math.Log(x); math.Abs(got-want) > 2e-15*math.Abs(want) {
			t.Errorf("log(%g) = %.17g, want %.17g", x, got, want)
		}
	}
}

func TestNormalMoments(t *testing.T) {
	s := Named(1, "weights")
	const n = 100000
	var m1, m2 float64
	for i := uint32(0); i < n; i++ {
		v := s.Normal(3, i)
		m1 += v
		m2 += v * v
	}
	if m1, m2 = m1/n, m2/n; math.Abs(m1) > 0.02 || math.Abs(m2-1) > 0.03 {
		t.Errorf("mean %g, second moment %g", m1, m2)
	}
}

func TestPermIsAPermutationOfItsCounter(t *testing.T) {
	s := New(7, 1)
	p, q, r := make([]int32, 1000), make([]int32, 1000), make([]int32, 1000)
	s.Perm(p, 0)
	s.Perm(q, 0)
	s.Perm(r, 1)
	same := 0
	for i := range p {
		if p[i] != q[i] {
			t.Fatal("the same counter gave another order")
		}
		if p[i] == r[i] {
			same++
		}
	}
	if same > 20 {
		t.Errorf("two counters agree in %d of 1000 places", same)
	}
	sort.Slice(p, func(i, j int) bool { return p[i] < p[j] })
	for i := range p {
		if p[i] != int32(i) {
			t.Fatal("not a permutation")
		}
	}
}

// TestPermIsFisherYatesWithIntn holds Perm, which shares blocks of draws, to the loop that its documentation names.
func TestPermIsFisherYatesWithIntn(t *testing.T) {
	s := Named(7, "shuffle")
	for n := range 70 {
		want := make([]int32, n)
		for i := range want {
			want[i] = int32(i)
		}
		for i := n - 1; i > 0; i-- {
			j := s.Intn(3, uint32(i), i+1)
			want[i], want[j] = want[j], want[i]
		}
		got := make([]int32, n)
		if s.Perm(got, 3); !slices.Equal(got, want) {
			t.Fatalf("%d elements: %v, want %v", n, got, want)
		}
	}
}
