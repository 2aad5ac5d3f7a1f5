package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// exactFMA rounds the exact x*y+z to float32 by big.Float, or by float64 arithmetic where the operands are not finite.
func exactFMA(x, y, z float32) float32 {
	if s := float64(x)*float64(y) + float64(z); math.IsNaN(s) || math.IsInf(s, 0) {
		return float32(s)
	}
	p := new(big.Float).SetPrec(200).Mul(big.NewFloat(float64(x)), big.NewFloat(float64(y)))
	p.Add(p, big.NewFloat(float64(z)))
	if p.Sign() == 0 {
		return float32(float64(x)*float64(y) + float64(z)) // the sign of zero
	}
	f, _ := p.Float32()
	return f
}

func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestFMAIsRoundedOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	check := func(x, y, z float32) {
		t.Helper()
		if got, want := FMA(x, y, z), exactFMA(x, y, z); !same(got, want) {
			t.Fatalf("FMA(%x, %x, %x) = %x, want %x", x, y, z, got, want)
		}
	}
	special := []float32{0, float32(math.Copysign(0, -1)), 1, -1, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, 1.1754944e-38,
		-1.1754942e-38, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), 1 + 1.0/(1<<23), 3, 1.0 / 3}
	for _, x := range special {
		for _, y := range special {
			for _, z := range special {
				check(x, y, z)
			}
		}
	}
	for range 300000 {
		x, y := math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32())
		check(x, y, math.Float32frombits(r.Uint32()))
		// Cancelling, and nearly half way.
		check(x, y, -x*y)
		a, b := float32(r.NormFloat64()), float32(r.NormFloat64())
		check(a, b, float32(math.Ldexp(float64(a*b), int(r.IntN(60))-30)))
		check(a, b, -float32(float64(a)*float64(b)))
		// Few bits make ties likely.
		c, d := float32(r.IntN(1<<13)), float32(r.IntN(1<<13))
		check(c, d, float32(math.Ldexp(float64(r.IntN(1<<12)*2+1), int(r.IntN(60))-30)))
		check(c*float32(math.Ldexp(1, -80)), d*float32(math.Ldexp(1, -66)), float32(r.IntN(9))*math.SmallestNonzeroFloat32)
	}
}

func BenchmarkFMA(b *testing.B) {
	x, y, z := float32(1.000001), float32(0.999999), float32(0)
	for b.Loop() {
		z = FMA(x, y, z)
	}
	sink = z
}

var sink float32
