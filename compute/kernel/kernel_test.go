package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// randoms fills a slice whose first element lies off units after a 64-byte boundary or so: kernels must not care.
func randoms(r *rand.Rand, n, off int) []float32 {
	s := make([]float32, n+off)[off:]
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

// spice puts values into s that kernels like to get wrong.
func spice(r *rand.Rand, s []float32) {
	odd := []float32{0, float32(math.Copysign(0, -1)), 1e-40, -3e-42, 1e30, -1e30, float32(math.Inf(1)), float32(math.NaN())}
	for range len(s) / 8 {
		s[r.IntN(len(s))] = odd[r.IntN(len(odd))]
	}
}

// each runs fn with every instruction set of this machine.
func each(t *testing.T, fn func(t *testing.T)) {
	was := ISA()
	defer func() {
		if err := SetISA(was); err != nil {
			t.Fatal(err)
		}
	}()
	for _, name := range ISAs() {
		if err := SetISA(name); err != nil {
			t.Fatal(err)
		}
		t.Run(name, fn)
	}
}

func TestDotAxpyAdamEqualTheirLoops(t *testing.T) {
	each(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for n := range 300 {
			x, y := randoms(r, n, n%5), randoms(r, n, n%3)
			if n%4 == 3 {
				spice(r, x)
				spice(r, y)
			}
			var s [64]float32
			for i := range x {
				s[i%64] = FMA(x[i], y[i], s[i%64])
			}
			for h := 32; h > 0; h /= 2 {
				for l := range h {
					s[l] += s[l+h]
				}
			}
			if got := Dot(x, y); !same(got, s[0]) {
				t.Fatalf("Dot of %d: %x, want %x", n, got, s[0])
			}
			z := append([]float32(nil), y...)
			Axpy(1.7, x, z)
			for i := range z {
				if want := FMA(1.7, x[i], y[i]); !same(z[i], want) {
					t.Fatalf("Axpy of %d, element %d: %x, want %x", n, i, z[i], want)
				}
			}
			p := &AdamParams{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1, Decoupled: n%2 == 0, Correct1: 0.1, Correct2: 0.01}
			w, m, v := randoms(r, n, 1), randoms(r, n, 2), randoms(r, n, 3)
			for i := range v {
				v[i] = abs32(v[i])
				if i%5 == 1 { // averages that become denormal, or are, and one that stays normal
					x[i] = 0
					m[i], v[i] = []float32{0x1p-126, -0x1.1p-126, 1e-42, 0x1.2p-126}[i%4], []float32{0x1p-126, 1e-44, 0x1.1p-126}[i%3]
				}
			}
			w2, m2, v2 := append([]float32(nil), w...), append([]float32(nil), m...), append([]float32(nil), v...)
			Adam(w, x, m, v, p)
			for i := range w2 {
				adamOne(&w2[i], x[i], &m2[i], &v2[i], p)
				if !same(w[i], w2[i]) || !same(m[i], m2[i]) || !same(v[i], v2[i]) {
					t.Fatalf("Adam of %d, element %d: %x %x %x, want %x %x %x", n, i, w[i], m[i], v[i], w2[i], m2[i], v2[i])
				}
			}
		}
	})
}

// adamOne is the loop that Adam gives, for one element.
func adamOne(w *float32, g float32, m, v *float32, p *AdamParams) {
	x, wd := *w, p.WeightDecay
	if p.Decoupled {
		x, wd = float32(x*(1-float32(p.LR*wd))), 0
	}
	d := FMA(wd, x, g)
	*m = FMA(1-p.Beta1, d, float32(p.Beta1**m))
	*v = FMA(float32((1-p.Beta2)*d), d, float32(p.Beta2**v))
	if *m > -0x1p-126 && *m < 0x1p-126 {
		*m = 0
	}
	if *v < 0x1p-126 {
		*v = 0
	}
	root := Sqrt32(p.Correct2)
	*w = FMA(float32(-(p.LR/p.Correct1)*root), *m/(Sqrt32(*v)+float32(p.Eps*root)), x)
}

func TestScalarFunctions(t *testing.T) {
	for _, f := range []struct {
		name   string
		f      func(float32) float32
		ref    func(float64) float64
		lo, hi float64
		abs    float64 // absolute error allowed
		rel    float64
	}{
		{"exp", Exp32, math.Exp, -104, 88.7, 1.5e-45, 1.3e-7},
		{"log", Log32, math.Log, 1e-44, 3e38, 1e-8, 1.3e-7},
		{"tanh", Tanh32, math.Tanh, -20, 20, 0, 2.5e-7},
		{"sigmoid", Sigmoid32, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, -80, 80, 1e-37, 3e-7},
		{"erf", Erf32, math.Erf, -6, 6, 0, 2.5e-7},
	} {
		worst := 0.0
		for i := range 400001 {
			u := float64(i) / 400000
			x := float32(f.lo + (f.hi-f.lo)*u)
			if f.name == "log" {
				x = float32(f.lo * math.Pow(f.hi/f.lo, u))
			}
			got, want := float64(f.f(x)), f.ref(float64(x))
			if e := math.Abs(got-want) - f.abs; e > 0 && e > worst*math.Abs(want) {
				worst = e / math.Abs(want)
			}
		}
		if worst > f.rel {
			t.Errorf("%s: relative error %.3g, want at most %.3g", f.name, worst, f.rel)
		}
		t.Logf("%s: relative error %.3g", f.name, worst)
		if v := f.f(float32(math.NaN())); v == v {
			t.Errorf("%s(NaN) = %v", f.name, v)
		}
	}
	inf := float32(math.Inf(1))
	for name, ok := range map[string]bool{
		"exp(inf)": Exp32(inf) == inf, "exp(-inf)": Exp32(-inf) == 0, "exp(100)": Exp32(100) == inf, "exp(0)": Exp32(0) == 1,
		"exp(-100) is denormal": Exp32(-100) > 0 && Exp32(-100) < 1e-38,
		"log(0)":                Log32(0) == -inf, "log(-1)": math.IsNaN(float64(Log32(-1))), "log(inf)": Log32(inf) == inf, "log(1)": Log32(1) == 0,
		"tanh(inf)": Tanh32(inf) == 1, "tanh(-inf)": Tanh32(-inf) == -1, "erf(inf)": Erf32(inf) == 1, "erf(-9)": Erf32(-9) == -1,
		"sigmoid(inf)": Sigmoid32(inf) == 1, "sigmoid(-inf)": Sigmoid32(-inf) == 0,
	} {
		if !ok {
			t.Errorf("%s is wrong", name)
		}
	}
}

// numeric checks an elementwise backward kernel against central differences of a float64 function.
func TestActivationsAgainstFloat64(t *testing.T) {
	sig := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	for _, f := range []struct {
		name string
		fw   func(dst, x []float32)
		bw   func(dx, dy, v []float32, acc bool)
		ofY  bool
		ref  func(float64) float64
	}{
		{"relu", ReLU, ReLUBackward, false, func(x float64) float64 { return max(x, 0) }},
		{"squared_relu", SquaredReLU, SquaredReLUBackward, false, func(x float64) float64 { return max(x, 0) * max(x, 0) }},
		{"gelu_erf", GeluErf, GeluErfBackward, false, func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }},
		{"gelu_tanh", GeluTanh, GeluTanhBackward, false, func(x float64) float64 {
			return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		}},
		{"tanh", Tanh, TanhBackward, true, math.Tanh},
		{"sigmoid", Sigmoid, SigmoidBackward, true, sig},
		{"silu", SiLU, SiLUBackward, false, func(x float64) float64 { return x * sig(x) }},
	} {
		var x []float32
		for v := float32(-8.03); v < 8; v += 0.05 {
			x = append(x, v)
		}
		y, dy, dx := make([]float32, len(x)), make([]float32, len(x)), make([]float32, len(x))
		f.fw(y, x)
		Fill(dy, 1.5)
		Fill(dx, 10)
		v := x
		if f.ofY {
			v = y
		}
		f.bw(dx, dy, v, true)
		for i := range x {
			X, h := float64(x[i]), 1e-5
			if e := math.Abs(float64(y[i]) - f.ref(X)); e > 3e-7*max(1, math.Abs(f.ref(X))) {
				t.Errorf("%s(%g) = %g, want %g", f.name, X, y[i], f.ref(X))
			}
			want := 10 + 1.5*(f.ref(X+h)-f.ref(X-h))/(2*h)
			if e := math.Abs(float64(dx[i]) - want); e > 4e-6 {
				t.Errorf("%s'(%g): %g, want %g", f.name, X, dx[i], want)
			}
		}
	}
}

func TestTanhGradientNearOne(t *testing.T) {
	// 1 - y² for y next to 1 must not lose all digits: FMA(-y, y, 1) is exact up to one rounding.
	x := []float32{7.5}
	y, d := make([]float32, 1), make([]float32, 1)
	Tanh(y, x)
	TanhBackward(d, []float32{1}, y, false)
	if want := 1 - float64(y[0])*float64(y[0]); math.Abs(float64(d[0])-want) > 1e-7*want {
		t.Errorf("got %g, want %g", d[0], want)
	}
}

func TestRowsAgainstFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, cols := range []int{1, 2, 5, 27, 64, 65, 200} {
		rows := 2 * cols
		x := randoms(r, rows*cols, 1)
		y := make([]float32, len(x))
		SoftmaxRows(y, x, rows, cols, cols, 0.7, true)
		for i := range rows {
			n := i%cols + 1
			var sum float64
			for j := range n {
				sum += math.Exp(0.7 * float64(x[i*cols+j]))
			}
			for j := range cols {
				want := 0.0
				if j < n {
					want = math.Exp(0.7*float64(x[i*cols+j])) / sum
				}
				if math.Abs(float64(y[i*cols+j])-want) > 1e-6 {
					t.Fatalf("softmax of %d columns, row %d, column %d: %g, want %g", cols, i, j, y[i*cols+j], want)
				}
			}
		}
		targets := make([]int32, rows)
		for i := range targets {
			targets[i] = int32(r.IntN(cols+1)) - 1
		}
		loss, probs, d := make([]float32, rows), make([]float32, len(x)), make([]float32, len(x))
		SoftmaxXent(loss, probs, x, targets, rows, cols)
		SoftmaxXentBackward(d, probs, targets, rows, cols, 0.5, false)
		for i, tg := range targets {
			var sum float64
			for j := range cols {
				sum += math.Exp(float64(x[i*cols+j]))
			}
			want := 0.0
			if tg >= 0 {
				want = math.Log(sum) - float64(x[i*cols+int(tg)])
			}
			if math.Abs(float64(loss[i])-want) > 2e-6*max(1, want) {
				t.Fatalf("cross-entropy of row %d: %g, want %g", i, loss[i], want)
			}
			for j := range cols {
				g := 0.0
				if tg >= 0 {
					g = math.Exp(float64(x[i*cols+j])) / sum
					if j == int(tg) {
						g--
					}
				}
				if math.Abs(float64(d[i*cols+j])-0.5*g) > 1e-6 {
					t.Fatalf("gradient of row %d, column %d: %g, want %g", i, j, d[i*cols+j], 0.5*g)
				}
			}
		}
	}
}

func TestReductionsAndCopies(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for n := range 131 {
		x := randoms(r, n, n%4)
		var s [64]float32
		for i, v := range x {
			s[i%64] += v
		}
		for h := 32; h > 0; h /= 2 {
			for l := range h {
				s[l] += s[l+h]
			}
		}
		if got := Sum(x); !same(got, s[0]) {
			t.Fatalf("Sum of %d: %x, want %x", n, got, s[0])
		}
		if !AllFinite(x) {
			t.Fatalf("%d finite values are called not finite", n)
		}
		for i := range x {
			for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
				old := x[i]
				x[i] = bad
				if AllFinite(x) {
					t.Fatalf("%v at %d of %d went unseen", bad, i, n)
				}
				x[i] = old
			}
		}
	}
	table := []float32{1, 2, 3, 4, 5, 6}
	dst := make([]float32, 6)
	GatherRows(dst, table, []int32{2, 0, 2}, 2)
	if fmt.Sprint(dst) != "[5 6 1 2 5 6]" {
		t.Error("gather:", dst)
	}
	ScatterAddRows(table, dst, []int32{0, 1, 0}, 2)
	if fmt.Sprint(table) != "[11 14 4 6 5 6]" {
		t.Error("scatter:", table)
	}
}

func TestLengthsAreChecked(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a short slice was accepted")
		}
	}()
	Gemm(NN, 2, 2, 2, make([]float32, 4), 2, make([]float32, 3), 2, make([]float32, 4), 2, false)
}
