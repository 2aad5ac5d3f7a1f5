package kernel

import (
	"math/rand/v2"
	"testing"
)

func at(f Form, a []float32, lda, i, p int) float32 {
	if f == TN {
		return a[p*lda+i]
	}
	return a[i*lda+p]
}

func bt(f Form, b []float32, ldb, p, j int) float32 {
	if f == NT {
		return b[j*ldb+p]
	}
	return b[p*ldb+j]
}

// layout is a product's shape and how far apart its rows lie.
type layout struct {
	f             Form
	m, n, k       int
	lda, ldb, ldc int
}

// spread makes a layout with rows that lie by up to extra elements further apart than they must.
func spread(r *rand.Rand, f Form, m, n, k, extra int) layout {
	l := layout{f, m, n, k, k, n, n}
	if f == TN {
		l.lda = m
	}
	if f == NT {
		l.ldb = k
	}
	l.lda, l.ldb, l.ldc = l.lda+r.IntN(extra+1), l.ldb+r.IntN(extra+1), l.ldc+r.IntN(extra+1)
	return l
}

// sizes are the elements that A, B and C must have.
func (l layout) sizes() (a, b, c int) {
	a, b = span(l.m, l.k, l.lda), span(l.k, l.n, l.ldb)
	if l.f == TN {
		a = span(l.k, l.m, l.lda)
	}
	if l.f == NT {
		b = span(l.n, l.k, l.ldb)
	}
	return a, b, span(l.m, l.n, l.ldc)
}

// check multiplies and compares every element of C, also those between the rows, with the loop.
func (l layout) check(t *testing.T, start start, a, b, bias, c []float32) {
	t.Helper()
	want := append([]float32(nil), c...)
	for i := range l.m {
		for j := range l.n {
			var s float32
			switch start {
			case fromC:
				s = c[i*l.ldc+j]
			case fromBias:
				s = bias[j]
			}
			for p := range l.k {
				s = FMA(at(l.f, a, l.lda, i, p), bt(l.f, b, l.ldb, p, j), s)
			}
			want[i*l.ldc+j] = s
		}
	}
	if start == fromBias {
		GemmBias(l.f, l.m, l.n, l.k, a, l.lda, b, l.ldb, c, l.ldc, bias)
	} else {
		Gemm(l.f, l.m, l.n, l.k, a, l.lda, b, l.ldb, c, l.ldc, start == fromC)
	}
	for i := range want {
		if !same(c[i], want[i]) {
			t.Fatalf("%+v, start %d: element %d is %x, want %x", l, start, i, c[i], want[i])
		}
	}
}

// try is check on random numbers, some of them odd.
func (l layout) try(t *testing.T, r *rand.Rand, start start, odd bool) {
	t.Helper()
	na, nb, nc := l.sizes()
	a, b, c, bias := randoms(r, na, r.IntN(4)), randoms(r, nb, r.IntN(4)), randoms(r, nc, r.IntN(4)), randoms(r, l.n, 1)
	if odd {
		for _, s := range [][]float32{a, b, c, bias} {
			if r.IntN(2) == 0 && len(s) > 0 {
				spice(r, s)
			}
		}
	}
	l.check(t, start, a, b, bias, c)
}

func TestGemmEqualsItsLoop(t *testing.T) {
	type dims struct{ m, n, k int }
	var all []dims
	for n := range 131 {
		all = append(all, dims{3, n, 5}, dims{n, 3, 7}, dims{5, 17, n}, dims{n % 29, n, 2}, dims{1, n, 3}, dims{n, n % 37, 1})
	}
	all = append(all, dims{1, 1, 1000}, dims{64, 64, 200}, dims{13, 130, 129}, dims{33, 65, 257}, dims{2, 300, 64})
	each(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for _, d := range all {
			for _, f := range []Form{NN, NT, TN} {
				for _, start := range []start{fromZero, fromC, fromBias} {
					spread(r, f, d.m, d.n, d.k, 2).try(t, r, start, start == fromC)
				}
			}
		}
	})
}

func FuzzGemm(f *testing.F) {
	f.Add(uint64(1), uint8(0), uint8(7), uint8(64), uint8(16))
	f.Add(uint64(2), uint8(4), uint8(61), uint8(97), uint8(33))
	f.Add(uint64(3), uint8(8), uint8(100), uint8(130), uint8(70))
	f.Fuzz(func(t *testing.T, seed uint64, kind, m, n, k uint8) {
		each(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			spread(r, Form(kind%3), int(m), int(n), int(k), 20).try(t, r, start(kind/3%3), kind&128 != 0)
		})
	})
}

// Products that touch memory beyond their operands end this test with a fault.
func TestGemmStaysInItsOperands(t *testing.T) {
	g := guarded(t)
	if g == nil {
		t.Skip("no pages here that can't be touched")
	}
	each(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(8, 8))
		for i := range 400 {
			l := spread(r, Form(i%3), 1+r.IntN(40), 1+r.IntN(70), 1+r.IntN(40), 2)
			switch {
			case i%50 == 0: // packed
				l = spread(r, l.f, 48+r.IntN(5), 513+r.IntN(20), 24+r.IntN(5), 2)
			case i%50 == 25: // whole panels, packed beside the tiles
				l = spread(r, l.f, 97+r.IntN(5), 48*(2+r.IntN(3))+64*r.IntN(3), 16*(2+r.IntN(2)), 2)
			case i%50 == 37 && l.f != NT: // B lies as a panel
				l = spread(r, l.f, 24+r.IntN(30), 48+r.IntN(2)*16, 20+r.IntN(30), 0)
			case i%7 == 0:
				l = spread(r, l.f, 1+r.IntN(2), l.n, l.k, 0)
			}
			g.reset()
			var x [4][]float32
			na, nb, nc := l.sizes()
			for j, n := range []int{na, nb, l.n, nc} {
				x[j] = g.slice(n, i%2 == 0)
				copy(x[j], randoms(r, n, 0))
			}
			l.check(t, start(i/3%3), x[0], x[1], x[2], x[3])
		}
	})
}
