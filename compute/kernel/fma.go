package kernel

import "math"

// FMA is x*y+z rounded once, as the hardware's fused multiply-add. The product of two float32 is exact in float64; the sum is rounded to
// odd where it is not exact, so that the second rounding, to float32, cannot go wrong (Boldo and Melquiond, "Emulation of a FMA and Correctly Rounded
// Sums", IEEE Transactions on Computers 57, 2008). The common case needs none of that: rounding twice can only differ where the float64 sum
// is exactly half way between two float32, or below the normal range.
func FMA(x, y, z float32) float32 {
	s := float64(x)*float64(y) + float64(z)
	b := math.Float64bits(s)
	if b&(1<<29-1) == 1<<28 || b>>52&0x7ff < 1023-126 {
		return fmaSlow(x, y, z)
	}
	return float32(s)
}

func fmaSlow(x, y, z float32) float32 {
	p := float64(x) * float64(y)
	c := float64(z)
	s := p + c
	if s == 0 { // exact: a cancelled sum has no error
		return float32(s)
	}
	// TwoSum (Knuth): e is the exact error of s. Inf and NaN never come here: their exponent is large and their low bits are 0 or irrelevant.
	t := s - p
	e := (p - (s - t)) + (c - t)
	if e == 0 || e != e {
		return float32(s)
	}
	b := math.Float64bits(s)
	if b&1 == 0 {
		// Even and not exact: step one unit towards the error.
		if (e > 0) == (s > 0) {
			b++
		} else {
			b--
		}
	}
	return float32(math.Float64frombits(b))
}

// Sqrt32 is the square root, correctly rounded: a float64 square root has more than twice the bits, so rounding twice is harmless.
func Sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }
