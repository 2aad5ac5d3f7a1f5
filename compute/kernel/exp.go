package kernel

import "math"

const (
	log2e = 1.44269504
	ln2hi = 0.693359375    // few bits: the product with a small whole number is exact
	ln2lo = -2.12194440e-4 // ln 2 - ln2hi
)

// Exp32 is e^x to about 1 ulp: x = k·ln 2 + r with |r| <= ln(2)/2, e^r by a polynomial of degree 6 (Cephes, expf.c), scaled by 2^k in two
// steps so that the range of float32 is used up, denormals included. The sequence of operations is fixed.
func Exp32(x float32) float32 {
	if !(x < 88.72284) { // also NaN
		if x != x {
			return x
		}
		return float32(math.Inf(1))
	}
	if x < -104 {
		return 0
	}
	k := FMA(x, log2e, 12582912) - 12582912 // round to nearest even by the trick of 1.5·2^23
	r := FMA(k, -ln2hi, x)
	r = FMA(k, -ln2lo, r)
	p := FMA(1.9875691500e-4, r, 1.3981999507e-3)
	p = FMA(p, r, 8.3334519073e-3)
	p = FMA(p, r, 4.1665795894e-2)
	p = FMA(p, r, 1.6666665459e-1)
	p = FMA(p, r, 5.0000001201e-1)
	p = FMA(p, float32(r*r), r)
	p = p + 1
	n := int32(k)
	h := n >> 1
	return float32(p*pow2(h)) * pow2(n-h)
}

// pow2 is 2^n for -126 <= n <= 127.
func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// Log32 is the natural logarithm to about 1 ulp (Cephes, logf.c): x = 2^k·m with m in [√½, √2), log m by a polynomial. log 0 is -Inf, of a
// negative number NaN.
func Log32(x float32) float32 {
	switch {
	case x != x || x > math.MaxFloat32:
		return x
	case x == 0:
		return float32(math.Inf(-1))
	case x < 0:
		return float32(math.NaN())
	}
	k := int32(0)
	if x < 1.17549435e-38 {
		x *= 1 << 23
		k = -23
	}
	b := math.Float32bits(x)
	k += int32(b>>23) - 126
	m := math.Float32frombits(b&0x007fffff | 0x3f000000) // in [0.5, 1)
	if m < 0.707106781 {
		k--
		m = m + m
	}
	m -= 1
	z := float32(m * m)
	p := FMA(7.0376836292e-2, m, -1.1514610310e-1)
	p = FMA(p, m, 1.1676998740e-1)
	p = FMA(p, m, -1.2420140846e-1)
	p = FMA(p, m, 1.4249322787e-1)
	p = FMA(p, m, -1.6668057665e-1)
	p = FMA(p, m, 2.0000714765e-1)
	p = FMA(p, m, -2.4999993993e-1)
	p = FMA(p, m, 3.3333331174e-1)
	y := float32(float32(p*m) * z)
	e := float32(k)
	y = FMA(e, ln2lo, y)
	y = FMA(-0.5, z, y)
	y = m + y
	return FMA(e, ln2hi, y)
}

// Tanh32 is the hyperbolic tangent: for |x| < 0.625 the odd polynomial of Cephes (tanhf.c), else 1 - 2/(e^2|x| + 1).
func Tanh32(x float32) float32 {
	a := abs32(x)
	if a < 0.625 {
		z := float32(x * x)
		p := FMA(-5.70498872745e-3, z, 2.06390887954e-2)
		p = FMA(p, z, -5.37397155531e-2)
		p = FMA(p, z, 1.33314422036e-1)
		p = FMA(p, z, -3.33332819422e-1)
		return FMA(float32(p*z), x, x)
	}
	if x != x {
		return x
	}
	r := 1 - 2/(Exp32(a+a)+1)
	if x < 0 {
		return -r
	}
	return r
}

// Sigmoid32 is 1/(1+e^-x), without overflow: for x < 0 it is e^x/(1+e^x).
func Sigmoid32(x float32) float32 {
	if x >= 0 || x != x {
		return 1 / (1 + Exp32(-x))
	}
	e := Exp32(x)
	return e / (1 + e)
}

// Erf32 is the error function, to some 1e-7: |x| < 0.84375 x + x·P(x²), else 1 - e^-x²·Q(1/(1+|x|/2)) by the Chebyshev fit of Numerical Recipes
// (erfcc, section 6.2), both with a fixed sequence of operations.
func Erf32(x float32) float32 {
	a := abs32(x)
	if a < 0.84375 {
		// Taylor series of erf at 0 to x^15, 2/sqrt(pi) (x - x³/3 + x⁵/10 - ...): the first term left out is below 2e-8 of x.
		z := float32(x * x)
		p := FMA(1.6365844691e-6, z, -1.4925650358e-5)
		p = FMA(p, z, 1.2055332982e-4)
		p = FMA(p, z, -8.5483270234e-4)
		p = FMA(p, z, 5.2239776254e-3)
		p = FMA(p, z, -2.6866170645e-2)
		p = FMA(p, z, 1.1283791671e-1)
		p = FMA(p, z, -3.7612638903e-1)
		p = FMA(p, z, 1.2837916710e-1)
		return FMA(p, x, x)
	}
	if x != x {
		return x
	}
	if a > 4 {
		a = 4 // from here on the result rounds to 1
	}
	t := 1 / FMA(0.5, a, 1)
	p := FMA(0.17087277, t, -0.82215223)
	p = FMA(p, t, 1.48851587)
	p = FMA(p, t, -1.13520398)
	p = FMA(p, t, 0.27886807)
	p = FMA(p, t, -0.18628806)
	p = FMA(p, t, 0.09678418)
	p = FMA(p, t, 0.37409196)
	p = FMA(p, t, 1.00002368)
	p = FMA(p, t, -1.26551223)
	// e^-a² in two factors: the rounding error of a² would be multiplied by a² itself.
	z := float32(a * a)
	lo := FMA(a, a, -z)
	e := Exp32(p - z)
	r := FMA(-t, FMA(-lo, e, e), 1)
	if x < 0 {
		return -r
	}
	return r
}

func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
