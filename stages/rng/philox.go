// Package rng is counter-based randomness: every draw is a function of (seed, stream, counter), never of time, thread or order.
package rng

import (
	"math"
	"math/bits"
)

// Philox4x32 is the Philox 4x32-10 bijection of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011: a counter of
// four words and a key of two give four random words.
func Philox4x32(ctr [4]uint32, key [2]uint32) [4]uint32 {
	const m0, m1, w0, w1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
	for r := 0; ; r++ {
		hi0, lo0 := bits.Mul32(m0, ctr[0])
		hi1, lo1 := bits.Mul32(m1, ctr[2])
		ctr = [4]uint32{hi1 ^ ctr[1] ^ key[0], lo1, hi0 ^ ctr[3] ^ key[1], lo0}
		if r == 9 {
			return ctr
		}
		key[0] += w0
		key[1] += w1
	}
}

// A Stream is a named source of draws: two streams of one seed are independent.
type Stream struct {
	key [2]uint32
	id  uint32
}

// New makes the stream with the given id under a seed.
func New(seed uint64, id uint32) Stream {
	return Stream{key: [2]uint32{uint32(seed), uint32(seed >> 32)}, id: id}
}

// Named makes the stream whose id is the FNV-1a hash of name, such as a parameter's or a stage's.
func Named(seed uint64, name string) Stream {
	h := uint32(2166136261)
	for i := 0; i < len(name); i++ {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return New(seed, h)
}

// Block gives four random words for position (a, b): for instance (step, example).
func (s Stream) Block(a uint64, b uint32) [4]uint32 {
	return Philox4x32([4]uint32{uint32(a), uint32(a >> 32), b, s.id}, s.key)
}

// Uint32 is word i of the stream at a.
func (s Stream) Uint32(a uint64, i uint32) uint32 {
	return s.Block(a, i>>2)[i&3]
}

// Uniform is draw i at a in [0,1), a multiple of 2^-24.
func (s Stream) Uniform(a uint64, i uint32) float32 {
	return float32(s.Uint32(a, i)>>8) * (1.0 / (1 << 24))
}

// Intn is draw i at a in [0,n), n in 1..2^32-1, by Lemire's multiply-shift without rejection: the bias is below n/2^32.
func (s Stream) Intn(a uint64, i uint32, n int) int {
	hi, _ := bits.Mul32(s.Uint32(a, i), uint32(n))
	return int(hi)
}

// Normal is draw i at a from N(0,1).
func (s Stream) Normal(a uint64, i uint32) float64 {
	// The middle of one of 2^32 equal cells: never 0, never 1.
	return Probit((float64(s.Uint32(a, i)) + 0.5) * (1.0 / (1 << 32)))
}

// Perm fills p with a permutation of 0..len(p)-1 that depends on (seed, stream, a) alone (Fisher-Yates).
func (s Stream) Perm(p []int32, a uint64) {
	for i := range p {
		p[i] = int32(i)
	}
	var block [4]uint32 // draws i&^3 to i|3: one block serves four
	for i := len(p) - 1; i > 0; i-- {
		if i == len(p)-1 || i&3 == 3 {
			block = s.Block(a, uint32(i)>>2)
		}
		j, _ := bits.Mul32(block[i&3], uint32(i+1)) // Intn(a, i, i+1)
		p[i], p[j] = p[j], p[i]
	}
}

// Probit is the inverse of the normal distribution's cumulative function for p in (0,1), to about 1e-15: Wichura, "Algorithm AS 241: The
// Percentage Points of the Normal Distribution", Applied Statistics 37 (1988), PPND16. Every operation is a correctly rounded float64
// operation in a fixed order, so the bits are the same on every machine.
func Probit(p float64) float64 {
	q := p - 0.5
	if math.Abs(q) <= 0.425 {
		r := math.FMA(-q, q, 0.180625)
		return q * poly(r, &wA) / poly(r, &wB)
	}
	r := p
	if q > 0 {
		r = 1 - p
	}
	r = math.Sqrt(-Log(r))
	var v float64
	if r <= 5 {
		r -= 1.6
		v = poly(r, &wC) / poly(r, &wD)
	} else {
		r -= 5
		v = poly(r, &wE) / poly(r, &wF)
	}
	if q < 0 {
		return -v
	}
	return v
}

func poly(x float64, c *[8]float64) float64 {
	v := c[7]
	for i := 6; i >= 0; i-- {
		v = math.FMA(v, x, c[i])
	}
	return v
}

var (
	wA = [8]float64{3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
		4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3}
	wB = [8]float64{1, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
		2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3}
	wC = [8]float64{1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
		1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4}
	wD = [8]float64{1, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
		1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9}
	wE = [8]float64{6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 2.96560571828504891230e-1,
		2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7}
	wF = [8]float64{1, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
		7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15}
)

// Log is the natural logarithm of a normal positive x, with the same bits on every machine (math.Log is assembly on some): x = 2^k·(1+f),
// f in [√½-1, √2-1], log(1+f) through s = f/(2+f) and the polynomial of FreeBSD's e_log.c.
func Log(x float64) float64 {
	fr, k := math.Frexp(x)
	if fr < math.Sqrt2/2 {
		fr *= 2
		k--
	}
	f := fr - 1
	s := f / (2 + f)
	z := s * s
	r := 1.479819860511658591e-01
	for _, c := range [...]float64{1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
		2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01} {
		r = math.FMA(r, z, c)
	}
	r = float64(r * z)
	hf := float64(0.5*f) * f
	lo := math.FMA(float64(k), 1.90821492927058770002e-10, float64(s*(hf+r)))
	return math.FMA(float64(k), 6.93147180369123816490e-01, -((hf - lo) - f))
}
