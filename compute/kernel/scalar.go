package kernel

import "math"

const (
	log2e = 1.44269504
	ln2hi = 0.693359375    // few bits: the product with a small whole number is exact
	ln2lo = -2.12194440e-4 // ln 2 - ln2hi
)

// Exp32 is e^x to about 1 ulp: x = k·ln 2 + r with |r| <= ln(2)/2, e^r by a polynomial of degree 6 whose coefficients minimise the largest relative
// error (3e-9), scaled by 2^k in two steps so that the range of float32 is used up, denormals included. The sequence of operations is fixed.
func Exp32(x float32) float32 {
	if x > 89 { // Inf from 88.72284 on
		x = 89
	}
	if x < -104 { // 0 from here on
		x = -104
	}
	r, k := reduce(x)
	p := FMA(expTail(r), r, 1)
	p = FMA(p, r, 1)
	return times2(p, k)
}

// reduce is x = k·ln 2 + r.
func reduce(x float32) (r, k float32) {
	k = FMA(x, log2e, 12582912) - 12582912 // round to nearest even by the trick of 1.5·2^23
	r = FMA(k, -ln2hi, x)
	return FMA(k, -ln2lo, r), k
}

// expTail is (e^r-1-r)/r².
func expTail(r float32) float32 {
	p := FMA(0.00138141792, r, 0.00836892208)
	p = FMA(p, r, 0.0416684079)
	p = FMA(p, r, 0.166665189)
	return FMA(p, r, 0.499999933)
}

// times2 is p·2^k, rounded once: the first product is exact.
func times2(p, k float32) float32 {
	if k != k {
		return p
	}
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

// Tanh32 is the hyperbolic tangent, m/(m+2) with m = e^(2|x|)-1, which is taken without loss for small x.
func Tanh32(x float32) float32 {
	a := abs32(x)
	if a > 10 {
		a = 10
	}
	r, k := reduce(a + a)
	m := FMA(float32(expTail(r)*r), r, r)
	s := times2(1, k)
	m = FMA(m, s, s-1)
	return withSign(m/(m+2), x)
}

// Sigmoid32 is 1/(1+e^-x), without overflow: for x < 0 it is e^x/(1+e^x).
func Sigmoid32(x float32) float32 {
	e := Exp32(withSign(x, -1))
	n := float32(1)
	if negative(x) {
		n = e
	}
	return n / (e + 1)
}

// erfcTail is erfc(a)·e^a²·by with t = 1/(1+c·a), c = 0.3: t times a polynomial in t, whose coefficients minimise the largest relative error (2e-8)
// for a from 0 to 10. Other c measure a in other units. by is a power of two.
func erfcTail(a, c, by float32) float32 {
	t := 1 / FMA(a, c, 1)
	p := FMA(by*-0.12952269, t, by*0.485562164)
	p = FMA(p, t, by*-0.512275921)
	p = FMA(p, t, by*0.547717537)
	p = FMA(p, t, by*-0.0946489933)
	p = FMA(p, t, by*0.214925314)
	p = FMA(p, t, by*0.148339363)
	p = FMA(p, t, by*0.1707152)
	p = FMA(p, t, by*0.169188007)
	return p * t
}

// normal32 is the cumulative distribution function of the normal distribution, (1+erf(x/√2))/2, small values included, and e^(-x²/2).
func normal32(x float32) (cdf, e float32) {
	e = Exp32(float32(float32(x*-0.5) * x))
	cdf = erfcTail(abs32(x), 0.212132034, 0.5) * e // 0.3/√2
	if !negative(x) {
		cdf = 1 - cdf
	}
	return cdf, e
}

// Erf32 is the error function: |x| < 0.84375 its Taylor series, else 1 - erfc(|x|).
func Erf32(x float32) float32 {
	a := abs32(x)
	if a < 0.84375 {
		// Taylor series of erf at 0 to x^19, 2/sqrt(pi) (x - x³/3 + x⁵/10 - ...): the first term left out is below 2e-8 of x.
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
	if a > 4 {
		a = 4 // from here on the result rounds to 1
	}
	// e^-a² in two factors: the rounding error of a² would be multiplied by a² itself.
	z := float32(a * a)
	lo := FMA(a, a, -z)
	e := Exp32(-z)
	e = FMA(-lo, e, e)
	return withSign(1-float32(erfcTail(a, 0.3, 1)*e), x)
}

// withSign is |a| with the sign of b.
func withSign(a, b float32) float32 {
	return math.Float32frombits(math.Float32bits(a)&^(1<<31) | math.Float32bits(b)&(1<<31))
}

func negative(x float32) bool { return math.Float32bits(x)>>31 == 1 }

func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
