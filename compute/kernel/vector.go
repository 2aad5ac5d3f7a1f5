package kernel

import "math"

// lanes is the number of virtual lanes of a reduction.
const lanes = 64

// tree ends a reduction: s[l] += s[l+32], then 16, 8, 4, 2, 1.
func tree(s *[lanes]float32) float32 {
	for h := lanes / 2; h > 0; h /= 2 {
		for l := range h {
			s[l] += s[l+h]
		}
	}
	return s[0]
}

// Dot is the inner product in 64 lanes: s[i mod 64] = FMA(x[i], y[i], s[i mod 64]), then the tree. len(y) >= len(x).
func Dot(x, y []float32) float32 {
	need("y", len(y), len(x))
	if len(x) == 1 {
		return float32(x[0]*y[0]) + 0 // FMA with 0 is the product; the tree adds lanes of +0
	}
	return dot(x, y)
}

func dotGeneric(x, y []float32) float32 {
	var s [lanes]float32
	for len(x) >= lanes {
		a, b := (*[lanes]float32)(x), (*[lanes]float32)(y)
		for l := range s {
			s[l] = FMA(a[l], b[l], s[l])
		}
		x, y = x[lanes:], y[lanes:]
	}
	for l, v := range x {
		s[l] = FMA(v, y[l], s[l])
	}
	return tree(&s)
}

// Sum adds the elements in 64 lanes, then the tree.
func Sum(x []float32) float32 { return sum(x) }

func sumGeneric(x []float32) float32 {
	var s [lanes]float32
	for len(x) >= lanes {
		a := (*[lanes]float32)(x)
		for l := range s {
			s[l] += a[l]
		}
		x = x[lanes:]
	}
	for l, v := range x {
		s[l] += v
	}
	return tree(&s)
}

// SumSq is Dot(x, x).
func SumSq(x []float32) float32 { return Dot(x, x) }

// SquaredError is d = x - y, dx = d·scale, and returns Dot(d, d). dx may be x or y.
func SquaredError(dx, x, y []float32, scale float32) float32 {
	need("x", len(x), len(dx))
	need("y", len(y), len(dx))
	return squaredError(dx, x, y, scale)
}

func squaredErrorGeneric(dx, x, y []float32, scale float32) float32 {
	var s [lanes]float32
	for i := range dx {
		d := x[i] - y[i]
		l := i % lanes
		s[l] = FMA(d, d, s[l])
		dx[i] = d * scale
	}
	return tree(&s)
}

// largest is the largest element; -Inf for none. NaN elements are passed over.
func largest(x []float32) float32 {
	m := negInf
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

// ArgMax is the index of the first of the largest elements; 0 for none. NaN elements are passed over.
func ArgMax(x []float32) int {
	m, at := negInf, 0
	for i, v := range x {
		if v > m {
			m, at = v, i
		}
	}
	return at
}

// CopyPast is copy(dst, src) for what this core is not going to look at again soon: whole cache lines of dst go to memory without being read first. 17 KB to memory that another core has had take
// 0.3 µs, a copy 0.85. Whoever gets dst on another core gets it by a channel, a mutex or an atomic: their instructions with LOCK make such stores seen, as others are anyway.
func CopyPast(dst, src []float32) {
	need("dst", len(dst), len(src))
	dst = dst[:len(src)]
	n := copyPast(dst, src)
	copy(dst[n:], src[n:])
}

// AllFinite says that no element is NaN or Inf.
func AllFinite(x []float32) bool {
	if len(x) == 1 {
		return x[0]-x[0] == 0
	}
	return allFinite(x)
}

func allFiniteGeneric(x []float32) bool {
	// v-v is 0 for finite v and NaN otherwise; NaN survives every addition.
	var s0, s1, s2, s3 float32
	for len(x) >= 4 {
		s0 += x[0] - x[0]
		s1 += x[1] - x[1]
		s2 += x[2] - x[2]
		s3 += x[3] - x[3]
		x = x[4:]
	}
	for _, v := range x {
		s0 += v - v
	}
	return s0+s1+(s2+s3) == 0
}

// Axpy is y[i] = FMA(a, x[i], y[i]).
func Axpy(a float32, x, y []float32) {
	need("y", len(y), len(x))
	if len(x) >= short1 && mapA(opAxpy, y[:len(x)], x, a) {
		return
	}
	axpyGeneric(a, x, y)
}

// short1 is the length from which assembly pays.
const short1 = 4

func axpyGeneric(a float32, x, y []float32) {
	y = y[:len(x)]
	f := float64(a)
	for i, v := range x { // FMA by hand: the compiler does not inline it
		s := f*float64(v) + float64(y[i])
		if b := math.Float64bits(s); b&(1<<29-1) == 1<<28 || b>>52&0x7ff < 1023-126 {
			y[i] = fmaSlow(a, v, y[i])
		} else {
			y[i] = float32(s)
		}
	}
}

// Add is dst[i] = x[i] + y[i]. dst may be x or y.
func Add(dst, x, y []float32) {
	need("x", len(x), len(dst))
	need("y", len(y), len(dst))
	if map2(opAdd, dst, x, y) {
		return
	}
	for i := range dst {
		dst[i] = x[i] + y[i]
	}
}

// Sub is dst[i] = x[i] - y[i]. dst may be x or y.
func Sub(dst, x, y []float32) {
	need("x", len(x), len(dst))
	need("y", len(y), len(dst))
	if map2(opSub, dst, x, y) {
		return
	}
	for i := range dst {
		dst[i] = x[i] - y[i]
	}
}

// Mul is dst[i] = x[i] * y[i]. dst may be x or y.
func Mul(dst, x, y []float32) {
	need("x", len(x), len(dst))
	need("y", len(y), len(dst))
	if map2(opMul, dst, x, y) {
		return
	}
	for i := range dst {
		dst[i] = x[i] * y[i]
	}
}

// MulAdd is dst[i] = FMA(x[i], y[i], dst[i]).
func MulAdd(dst, x, y []float32) {
	need("x", len(x), len(dst))
	need("y", len(y), len(dst))
	if map2(opMulAdd, dst, x, y) {
		return
	}
	for i, d := range dst {
		dst[i] = FMA(x[i], y[i], d)
	}
}

// Scale is dst[i] = x[i] * a. dst may be x.
func Scale(dst, x []float32, a float32) {
	need("x", len(x), len(dst))
	if mapA(opScale, dst, x, a) {
		return
	}
	for i := range dst {
		dst[i] = x[i] * a
	}
}

// AddTo is dst[i] += x[i].
func AddTo(dst, x []float32) {
	need("x", len(x), len(dst))
	addTo(dst, x[:len(dst)])
}

func addTo(dst, x []float32) {
	if len(dst) >= short1 && map2(opAdd, dst, dst, x) {
		return
	}
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] += v
	}
}

// Fill is dst[i] = v.
func Fill(dst []float32, v float32) {
	for i := range dst {
		dst[i] = v
	}
}

// Lerp is dst[i] = FMA(t, x[i]-dst[i], dst[i]).
func Lerp(dst, x []float32, t float32) {
	need("x", len(x), len(dst))
	if mapA(opLerp, dst, x, t) {
		return
	}
	for i, d := range dst {
		dst[i] = FMA(t, x[i]-d, d)
	}
}

// ClampAbs limits x[i] to -lim..lim. NaN stays.
func ClampAbs(x []float32, lim float32) {
	if mapA(opClampAbs, x, x, lim) {
		return
	}
	for i, v := range x {
		if v > lim {
			x[i] = lim
		} else if v < -lim {
			x[i] = -lim
		}
	}
}
