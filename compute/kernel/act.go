package kernel

import "math"

var negInf = float32(math.Inf(-1))

// The elementwise functions below write dst[i] = f(x[i]); dst may be x. Their Backward twins write dx[i] = f'(x[i])·dy[i], or add it where acc is
// set; dx may be dy where acc is not.

func check2(dst, x []float32) { need("x", len(x), len(dst)) }

func check3(dst, x, y []float32) {
	need("x", len(x), len(dst))
	need("y", len(y), len(dst))
}

func put(dx []float32, i int, g float32, acc bool) {
	if acc {
		g = dx[i] + g
	}
	dx[i] = g
}

// ReLU is max(x, 0); NaN stays.
func ReLU(dst, x []float32) {
	check2(dst, x)
	if map1(opReLU, dst, x) {
		return
	}
	for i := range dst {
		v := x[i]
		if v < 0 {
			v = 0
		}
		dst[i] = v
	}
}

// ReLUBackward takes x, or y = ReLU(x): the gradient passes where it is positive.
func ReLUBackward(dx, dy, x []float32, acc bool) {
	check2(dx, x)
	check2(dx, dy)
	if mapB(opReLU, dx, dy, x, acc) {
		return
	}
	for i := range dx {
		g := dy[i]
		if !(x[i] > 0) {
			g = 0
		}
		put(dx, i, g, acc)
	}
}

// SquaredReLU is max(x, 0)². Source: So et al. 2021, arXiv:2109.08668.
func SquaredReLU(dst, x []float32) {
	check2(dst, x)
	if map1(opSquaredReLU, dst, x) {
		return
	}
	for i := range dst {
		v := x[i]
		if v < 0 {
			v = 0
		}
		dst[i] = v * v
	}
}

// SquaredReLUBackward is 2·max(x, 0)·dy.
func SquaredReLUBackward(dx, dy, x []float32, acc bool) {
	check2(dx, x)
	check2(dx, dy)
	if mapB(opSquaredReLU, dx, dy, x, acc) {
		return
	}
	for i := range dx {
		v := x[i]
		if v < 0 {
			v = 0
		}
		put(dx, i, float32((v+v)*dy[i]), acc)
	}
}

// GeluErf is x·Φ(x), with the distribution function Φ of the normal distribution, (1 + erf(x/√2))/2. Source: Hendrycks and Gimpel 2016,
// arXiv:1606.08415.
func GeluErf(dst, x []float32) {
	check2(dst, x)
	if map1(opGeluErf, dst, x) {
		return
	}
	for i := range dst {
		dst[i], _ = geluErf32(x[i])
	}
}

// geluErf32 is GeluErf and its derivative, Φ(x) + x·e^(-x²/2)/√(2π).
func geluErf32(x float32) (y, d float32) {
	cdf, e := normal32(x)
	return float32(x * cdf), FMA(x, float32(e*0.39894228), cdf)
}

// GeluErfD is GeluErf with its derivative: y[i] = GeluErf of x[i], d[i] = the derivative there, at hardly more cost. d may be x.
func GeluErfD(y, d, x []float32) {
	check3(x, y, d)
	if mapD(opGeluErf, y, d, x) {
		return
	}
	for i, v := range x {
		y[i], d[i] = geluErf32(v)
	}
}

// GeluErfBackward is the derivative of GeluErf times dy.
func GeluErfBackward(dx, dy, x []float32, acc bool) {
	check2(dx, x)
	check2(dx, dy)
	if mapB(opGeluErf, dx, dy, x, acc) {
		return
	}
	for i := range dx {
		_, d := geluErf32(x[i])
		put(dx, i, float32(d*dy[i]), acc)
	}
}

// GeluTanh is x/2·(1 + tanh u), u = √(2/π)(x + 0.044715x³), the approximation of GPT-2, in the form x·sigmoid(2u). Source as GeluErf.
func GeluTanh(dst, x []float32) {
	check2(dst, x)
	if map1(opGeluTanh, dst, x) {
		return
	}
	for i := range dst {
		dst[i], _ = geluTanh32(x[i])
	}
}

// geluTanh32 is GeluTanh and its derivative: with s = sigmoid(2u) it is s + x·s·(1-s)·2u'.
func geluTanh32(x float32) (y, d float32) {
	const c, twice = 0.044715, 1.5957691 // twice is 2·√(2/π)
	u := FMA(float32(float32(x*c)*x), x, x)
	s := Sigmoid32(float32(u * twice))
	du := FMA(float32(x*x), 3*c, 1)
	q := float32(s * (1 - s))
	return float32(x * s), FMA(float32(float32(x*twice)*q), du, s)
}

// GeluTanhD is GeluTanh with its derivative, as GeluErfD.
func GeluTanhD(y, d, x []float32) {
	check3(x, y, d)
	if mapD(opGeluTanh, y, d, x) {
		return
	}
	for i, v := range x {
		y[i], d[i] = geluTanh32(v)
	}
}

// GeluTanhBackward is the derivative of GeluTanh times dy.
func GeluTanhBackward(dx, dy, x []float32, acc bool) {
	check2(dx, x)
	check2(dx, dy)
	if mapB(opGeluTanh, dx, dy, x, acc) {
		return
	}
	for i := range dx {
		_, d := geluTanh32(x[i])
		put(dx, i, float32(d*dy[i]), acc)
	}
}

// MulBackward is d·dy: the gradient of an activation whose derivative d was kept.
func MulBackward(dx, dy, d []float32, acc bool) {
	check2(dx, d)
	check2(dx, dy)
	if mapB(opMul, dx, dy, d, acc) {
		return
	}
	for i := range dx {
		put(dx, i, float32(d[i]*dy[i]), acc)
	}
}

// Tanh is the hyperbolic tangent.
func Tanh(dst, x []float32) {
	check2(dst, x)
	if map1(opTanh, dst, x) {
		return
	}
	for i := range dst {
		dst[i] = Tanh32(x[i])
	}
}

// TanhBackward takes y = tanh(x): (1 - y²)·dy.
func TanhBackward(dx, dy, y []float32, acc bool) {
	check2(dx, y)
	check2(dx, dy)
	if mapB(opTanh, dx, dy, y, acc) {
		return
	}
	for i := range dx {
		put(dx, i, float32(FMA(-y[i], y[i], 1)*dy[i]), acc)
	}
}

// Sigmoid is 1/(1 + e^-x).
func Sigmoid(dst, x []float32) {
	check2(dst, x)
	if map1(opSigmoid, dst, x) {
		return
	}
	for i := range dst {
		dst[i] = Sigmoid32(x[i])
	}
}

// SigmoidBackward takes y = sigmoid(x): y·(1-y)·dy.
func SigmoidBackward(dx, dy, y []float32, acc bool) {
	check2(dx, y)
	check2(dx, dy)
	if mapB(opSigmoid, dx, dy, y, acc) {
		return
	}
	for i := range dx {
		put(dx, i, float32(float32(y[i]*(1-y[i]))*dy[i]), acc)
	}
}

// SiLU is x·sigmoid(x).
func SiLU(dst, x []float32) {
	check2(dst, x)
	if map1(opSiLU, dst, x) {
		return
	}
	for i := range dst {
		dst[i] = float32(x[i] * Sigmoid32(x[i]))
	}
}

// silu32 is SiLU and its derivative: with s = sigmoid(x) it is s·(1 + x·(1-s)).
func silu32(x float32) (y, d float32) {
	s := Sigmoid32(x)
	return float32(x * s), float32(s * FMA(x, 1-s, 1))
}

// SiLUD is SiLU with its derivative, as GeluErfD.
func SiLUD(y, d, x []float32) {
	check3(x, y, d)
	if mapD(opSiLU, y, d, x) {
		return
	}
	for i, v := range x {
		y[i], d[i] = silu32(v)
	}
}

// SiLUBackward is the derivative of SiLU times dy.
func SiLUBackward(dx, dy, x []float32, acc bool) {
	check2(dx, x)
	check2(dx, dy)
	if mapB(opSiLU, dx, dy, x, acc) {
		return
	}
	for i := range dx {
		_, d := silu32(x[i])
		put(dx, i, float32(d*dy[i]), acc)
	}
}

// Exp is e^x.
func Exp(dst, x []float32) {
	check2(dst, x)
	if map1(opExp, dst, x) {
		return
	}
	for i := range dst {
		dst[i] = Exp32(x[i])
	}
}

// Log is the natural logarithm.
func Log(dst, x []float32) {
	check2(dst, x)
	if map1(opLog, dst, x) {
		return
	}
	for i := range dst {
		dst[i] = Log32(x[i])
	}
}

// Erf is the error function.
func Erf(dst, x []float32) {
	check2(dst, x)
	if map1(opErf, dst, x) {
		return
	}
	for i := range dst {
		dst[i] = Erf32(x[i])
	}
}
