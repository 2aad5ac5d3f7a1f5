package kernel

import "math"

var negInf = float32(math.Inf(-1))

// The elementwise functions below write dst[i] = f(x[i]); dst may be x. Their Backward twins write dx[i] = f'(x[i])·dy[i], or add it where acc is
// set; dx may be dy where acc is not.

func check2(dst, x []float32) { need("x", len(x), len(dst)) }

func put(dx []float32, i int, g float32, acc bool) {
	if acc {
		g = dx[i] + g
	}
	dx[i] = g
}

// ReLU is max(x, 0); NaN stays.
func ReLU(dst, x []float32) {
	check2(dst, x)
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
	for i := range dx {
		v := x[i]
		if v < 0 {
			v = 0
		}
		put(dx, i, float32((v+v)*dy[i]), acc)
	}
}

const (
	sqrtHalf   = 0.70710678
	invSqrt2Pi = 0.39894228
	sqrt2Pi    = 0.79788456 // sqrt(2/pi)
	geluC      = 0.044715
)

// GeluErf is x/2·(1 + erf(x/√2)). Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
func GeluErf(dst, x []float32) {
	check2(dst, x)
	for i := range dst {
		v := x[i]
		dst[i] = float32(0.5*v) * (1 + Erf32(float32(v*sqrtHalf)))
	}
}

// GeluErfBackward: the derivative is (1 + erf(x/√2))/2 + x·e^(-x²/2)/√(2π).
func GeluErfBackward(dx, dy, x []float32, acc bool) {
	check2(dx, x)
	check2(dx, dy)
	for i := range dx {
		v := x[i]
		cdf := float32(0.5 * (1 + Erf32(float32(v*sqrtHalf))))
		pdf := float32(invSqrt2Pi * Exp32(float32(float32(-0.5*v)*v)))
		put(dx, i, float32(FMA(v, pdf, cdf)*dy[i]), acc)
	}
}

// GeluTanh is x/2·(1 + tanh(√(2/π)(x + 0.044715x³))), the approximation of GPT-2. Source as GeluErf.
func GeluTanh(dst, x []float32) {
	check2(dst, x)
	for i := range dst {
		v := x[i]
		u := float32(sqrt2Pi * FMA(float32(float32(geluC*v)*v), v, v))
		dst[i] = float32(0.5*v) * (1 + Tanh32(u))
	}
}

// GeluTanhBackward is the derivative of GeluTanh times dy.
func GeluTanhBackward(dx, dy, x []float32, acc bool) {
	check2(dx, x)
	check2(dx, dy)
	for i := range dx {
		v := x[i]
		vv := float32(v * v)
		u := float32(sqrt2Pi * FMA(float32(float32(geluC*v)*v), v, v))
		t := Tanh32(u)
		du := float32(sqrt2Pi * FMA(3*geluC, vv, 1))
		left := float32(0.5 * (1 + t))
		right := float32(float32(float32(0.5*v)*FMA(-t, t, 1)) * du)
		put(dx, i, float32((left+right)*dy[i]), acc)
	}
}

// Tanh is the hyperbolic tangent.
func Tanh(dst, x []float32) {
	check2(dst, x)
	for i := range dst {
		dst[i] = Tanh32(x[i])
	}
}

// TanhBackward takes y = tanh(x): (1 - y²)·dy.
func TanhBackward(dx, dy, y []float32, acc bool) {
	check2(dx, y)
	check2(dx, dy)
	for i := range dx {
		put(dx, i, float32(FMA(-y[i], y[i], 1)*dy[i]), acc)
	}
}

// Sigmoid is 1/(1 + e^-x).
func Sigmoid(dst, x []float32) {
	check2(dst, x)
	for i := range dst {
		dst[i] = Sigmoid32(x[i])
	}
}

// SigmoidBackward takes y = sigmoid(x): y·(1-y)·dy.
func SigmoidBackward(dx, dy, y []float32, acc bool) {
	check2(dx, y)
	check2(dx, dy)
	for i := range dx {
		put(dx, i, float32(float32(y[i]*(1-y[i]))*dy[i]), acc)
	}
}

// SiLU is x·sigmoid(x).
func SiLU(dst, x []float32) {
	check2(dst, x)
	for i := range dst {
		dst[i] = x[i] * Sigmoid32(x[i])
	}
}

// SiLUBackward: with s = sigmoid(x) the derivative is s·(1 + x·(1-s)).
func SiLUBackward(dx, dy, x []float32, acc bool) {
	check2(dx, x)
	check2(dx, dy)
	for i := range dx {
		s := Sigmoid32(x[i])
		put(dx, i, float32(float32(s*FMA(x[i], 1-s, 1))*dy[i]), acc)
	}
}

// Exp is e^x.
func Exp(dst, x []float32) {
	check2(dst, x)
	for i := range dst {
		dst[i] = Exp32(x[i])
	}
}

// Log is the natural logarithm.
func Log(dst, x []float32) {
	check2(dst, x)
	for i := range dst {
		dst[i] = Log32(x[i])
	}
}
