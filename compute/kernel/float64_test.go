package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

const eps32 = 0x1p-24

// The plain loops against float64; TestTwins holds the assembly to the loops.

func TestReductionsAgainstFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	for _, n := range []int{1, 7, 64, 65, 130, 1000, 40000} {
		x, y := randoms(r, n, 1), randoms(r, n, 2)
		var dot, sum, absDot, absSum float64
		for i := range x {
			p := float64(x[i]) * float64(y[i])
			dot, absDot = dot+p, absDot+math.Abs(p)
			sum, absSum = sum+float64(x[i]), absSum+math.Abs(float64(x[i]))
		}
		// An element passes through n/64 additions in its lane and 6 in the tree.
		steps := float64(n/64 + 7)
		if e := math.Abs(float64(Dot(x, y)) - dot); e > steps*eps32*absDot {
			t.Errorf("Dot of %d: error %.3g, want at most %.3g", n, e, steps*eps32*absDot)
		}
		if e := math.Abs(float64(Sum(x)) - sum); e > steps*eps32*absSum {
			t.Errorf("Sum of %d: error %.3g, want at most %.3g", n, e, steps*eps32*absSum)
		}
	}
}

// normRef is a norm and its gradients in float64.
func normRef(x, w, b, dy []float32, rows, n int, eps float64, center bool) (y, dx, dw, db []float64) {
	y, dx, dw, db = make([]float64, rows*n), make([]float64, rows*n), make([]float64, n), make([]float64, n)
	for r := range rows {
		var mean, ss float64
		for i := range n {
			mean += float64(x[r*n+i]) / float64(n)
		}
		if !center {
			mean = 0
		}
		for i := range n {
			d := float64(x[r*n+i]) - mean
			ss += d * d / float64(n)
		}
		s := 1 / math.Sqrt(ss+eps)
		var mg, mh float64
		for i := range n {
			h, g := (float64(x[r*n+i])-mean)*s, float64(dy[r*n+i])
			y[r*n+i] = h * float64(w[i])
			if center {
				y[r*n+i] += float64(b[i])
				mg += g * float64(w[i]) / float64(n)
			}
			mh += g * float64(w[i]) * h / float64(n)
			dw[i] += g * h
			db[i] += g
		}
		for i := range n {
			h, g := (float64(x[r*n+i])-mean)*s, float64(dy[r*n+i])*float64(w[i])
			dx[r*n+i] = s * (g - mg - h*mh)
		}
	}
	return y, dx, dw, db
}

func TestNormsAgainstFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 1))
	near := func(what string, n int, got []float32, want []float64) {
		t.Helper()
		for i := range want {
			if e := math.Abs(float64(got[i]) - want[i]); e > 3e-6*(1+math.Abs(want[i])) {
				t.Fatalf("%s of %d, element %d: %g, want %g", what, n, i, got[i], want[i])
			}
		}
	}
	for _, n := range []int{2, 5, 16, 27, 64, 100, 200} {
		const rows = 5
		x, dy, w, b := randoms(r, rows*n, 1), randoms(r, rows*n, 0), randoms(r, n, 2), randoms(r, n, 3)
		for i := range x {
			x[i] = 3*x[i] + 1
		}
		y, dx, dw, db := make([]float32, rows*n), make([]float32, rows*n), make([]float32, n), make([]float32, n)
		mean, rstd := make([]float32, rows), make([]float32, rows)
		LayerNorm(y, mean, rstd, x, w, b, rows, n, 1e-1)
		LayerNormBackward(dx, dw, db, dy, x, mean, rstd, w, rows, n, false, false)
		ry, rdx, rdw, rdb := normRef(x, w, b, dy, rows, n, 1e-1, true)
		near("layernorm", n, y, ry)
		near("dx of layernorm", n, dx, rdx)
		near("dw of layernorm", n, dw, rdw)
		near("db of layernorm", n, db, rdb)
		RMSNorm(y, rstd, x, w, rows, n, 1e-5)
		RMSNormBackward(dx, dw, dy, x, rstd, w, rows, n, false, false)
		ry, rdx, rdw, _ = normRef(x, w, b, dy, rows, n, 1e-5, false)
		near("rmsnorm", n, y, ry)
		near("dx of rmsnorm", n, dx, rdx)
		near("dw of rmsnorm", n, dw, rdw)
	}
}

func TestSoftmaxBackwardAgainstFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 1))
	for _, n := range []int{1, 3, 16, 65, 300} {
		x, dy := randoms(r, n, 1), randoms(r, n, 2)
		y, dx := make([]float32, n), make([]float32, n)
		SoftmaxRows(y, x, 1, n, n, 0.5, false)
		SoftmaxBackward(dx, dy, y, 1, n, n, 0.5, false)
		var sum, dot float64
		for i := range x {
			sum += math.Exp(0.5 * float64(x[i]))
		}
		for i := range x {
			dot += math.Exp(0.5*float64(x[i])) / sum * float64(dy[i])
		}
		for i := range x {
			want := 0.5 * math.Exp(0.5*float64(x[i])) / sum * (float64(dy[i]) - dot)
			if math.Abs(float64(dx[i])-want) > 3e-7 {
				t.Fatalf("softmax gradient of %d, element %d: %g, want %g", n, i, dx[i], want)
			}
		}
	}
}

// TestGeluTails: far left the gelu is tiny, and right in most of its digits all the same.
func TestGeluTails(t *testing.T) {
	for x := float32(-10); x < 0; x += 0.01 {
		y, d := make([]float32, 1), make([]float32, 1)
		GeluErfD(y, d, []float32{x})
		X := float64(x)
		cdf := math.Erfc(-X/math.Sqrt2) / 2
		if want := X * cdf; math.Abs(float64(y[0])-want) > 8e-6*math.Abs(want) {
			t.Fatalf("gelu(%g) = %g, want %g", x, y[0], want)
		}
		pdf := math.Exp(-X*X/2) / math.Sqrt(2*math.Pi)
		if want := cdf + X*pdf; math.Abs(float64(d[0])-want) > 8e-6*(cdf+math.Abs(X*pdf)) {
			t.Fatalf("gelu'(%g) = %g, want %g", x, d[0], want)
		}
	}
}

// TestAveragesEndAtZero: the averages of an element without gradient don't stay among the denormal numbers.
func TestAveragesEndAtZero(t *testing.T) {
	w, g, m, v := []float32{1}, []float32{0}, []float32{1e-3}, []float32{1e-6}
	p := &AdamParams{LR: 0.01, Beta1: 0.85, Beta2: 0.9, Eps: 1e-8, Correct1: 1, Correct2: 1}
	for range 2000 {
		Adam(w, g, m, v, p)
		for _, a := range []float32{m[0], v[0]} {
			if a != 0 && abs32(a) < 0x1p-126 {
				t.Fatalf("an average is %g", a)
			}
		}
	}
	if m[0] != 0 || v[0] != 0 || w[0] != w[0] {
		t.Errorf("m %g, v %g, w %g after 2000 steps without gradient", m[0], v[0], w[0])
	}
}

// TestExpTakesAllOfItsRange looks at the ends: the largest finite value, the first Inf, denormals, the last value above 0.
func TestExpTakesAllOfItsRange(t *testing.T) {
	each(t, func(t *testing.T) {
		x := []float32{88.72283, 88.72284, 1000, -87.5, -95, -103.2, -103.98, -1000, float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1))}
		y := make([]float32, len(x))
		Exp(y, x)
		for i, v := range x {
			want := math.Exp(float64(v))
			if float32(want) == y[i] || math.IsInf(float64(y[i]), 1) && want > 3.4028e38 {
				continue
			}
			if e := math.Abs(float64(y[i]) - want); e > 1.2e-7*want+0x1p-149 {
				t.Errorf("e^%g = %g, want %g", v, y[i], want)
			}
		}
	})
}
