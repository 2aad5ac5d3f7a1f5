package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The functions of scalar.go, a register at a time, with the same sequence of operations.

const (
	log2e = 1.44269504
	ln2hi = 0.693359375
	ln2lo = -2.12194440e-4
	magic = 12582912 // 1.5·2^23
)

// reduced is x = k·ln 2 + r. k is whole; bits hold k + magic. x is used up.
func (v isa) reduced(x reg.VecVirtual) (r, k, bits reg.VecVirtual) {
	bits = v.set(f(magic))
	v.fma231(x, f(log2e), bits)
	k = v.sub(bits, f(magic))
	v.fma231(k, f(-ln2hi), x)
	v.fma231(k, f(-ln2lo), x)
	return x, k, bits
}

// expTail are the coefficients of (e^r-1-r)/r², highest first.
var expTail = []float64{0.00138141792, 0.00836892208, 0.0416684079, 0.166665189, 0.499999933}

// times2 is p·2^k, rounded once.
func (v isa) times2(p, k, bits reg.VecVirtual) reg.VecVirtual {
	if v.wide() {
		d := v.vec()
		VSCALEFPS(k, p, d)
		return d
	}
	n, h := v.vec(), v.vec()
	VPSUBD(v.consts.addr(0x4b400000), bits, n) // the whole number k
	VPSRAD(Imm(1), n, h)
	VPSUBD(h, n, n)
	for _, s := range []reg.VecVirtual{h, n} {
		VPSLLD(Imm(23), s, s)
		VPADDD(v.consts.addr(127<<23), s, s)
	}
	return v.mul(v.mul(p, h), n)
}

// expLow is Exp32 for x that are not above 89; x is used up.
func (v isa) expLow(x reg.VecVirtual) reg.VecVirtual {
	r, k, bits := v.reduced(v.max(f(-104), x))
	p := v.poly(r, append(append([]float64{}, expTail...), 1, 1)...)
	return v.times2(p, k, bits)
}

// exp is Exp32.
func (v isa) exp(x reg.VecVirtual) reg.VecVirtual { return v.expLow(v.min(f(89), x)) }

// log is Log32.
func (v isa) log(x reg.VecVirtual) reg.VecVirtual {
	// Denormals are scaled by 2^23.
	tiny := v.set(f(1.17549435e-38))
	y := v.selectIf(ltOQ, x, tiny, v.mul(x, f(1<<23)), x)
	k := v.vec()
	VPSRLD(Imm(23), y, k)
	kf := v.vec()
	VCVTDQ2PS(k, kf)
	kf = v.sub(kf, f(126))
	kf = v.sub(kf, v.keepIf(ltOQ, x, tiny, v.set(f(23))))
	m := v.or(v.and(y, num(0x007fffff)), num(0x3f000000)) // in [0.5, 1)
	low := v.set(f(0.707106781))
	kf = v.sub(kf, v.keepIf(ltOQ, m, low, v.set(f(1))))
	m = v.add(m, v.keepIf(ltOQ, m, low, m))
	m = v.sub(m, f(1))
	z := v.mul(m, m)
	p := v.poly(m, 7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
		2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
	p = v.mul(v.mul(p, m), z)
	v.fma231(kf, f(ln2lo), p)
	v.fma231(z, f(-0.5), p)
	p = v.add(m, p)
	v.fma231(kf, f(ln2hi), p)
	// x below 0 is NaN, 0 is -Inf, Inf and NaN stay.
	zero := v.zeros()
	p = v.selectIf(ltOQ, x, zero, v.set(num(0x7fc00000)), p)
	p = v.selectIf(eqOQ, x, zero, v.set(num(0xff800000)), p)
	inf := v.set(num(0x7f800000))
	return v.selectIf(ltOQ, x, inf, p, x)
}

// tanh is Tanh32.
func (v isa) tanh(x reg.VecVirtual) reg.VecVirtual {
	a := v.min(f(10), v.abs(x))
	r, k, bits := v.reduced(v.add(a, a))
	q := v.mul(v.poly(r, expTail...), r)
	v.horner(q, r, r) // e^r - 1
	s := v.times2(v.set(f(1)), k, bits)
	v.horner(q, s, v.sub(s, f(1))) // e^2a - 1
	return v.or(v.div(q, v.add(q, f(2))), v.and(x, num(0x80000000)))
}

// sigmoid is Sigmoid32; x stays.
func (v isa) sigmoid(x reg.VecVirtual) reg.VecVirtual {
	e := v.expLow(v.or(x, num(0x80000000)))
	return v.div(v.bySign(x, e, v.set(f(1))), v.add(e, f(1)))
}

// tail are the coefficients of erfc(a)·e^a²/t with t = 1/(1 + 0.3a), highest first.
var tail = []float64{-0.12952269, 0.485562164, -0.512275921, 0.547717537, -0.0946489933, 0.214925314, 0.148339363, 0.1707152, 0.169188007}

// erfcTail is 1/(1 + c·a) times the polynomial of it, by scale.
func (v isa) erfcTail(a reg.VecVirtual, c, scale float64) reg.VecVirtual {
	one := v.set(f(1))
	d := v.copy(one)
	v.fma231(a, f(c), d)
	t := v.div(one, d)
	var by []float64
	for _, c := range tail {
		by = append(by, c*scale)
	}
	return v.mul(v.poly(t, by...), t)
}

// normal gives the cumulative distribution function of the normal distribution and e^(-x²/2); x stays.
func (v isa) normal(x reg.VecVirtual) (cdf, e reg.VecVirtual) {
	e = v.expLow(v.mul(v.mul(x, f(-0.5)), x))
	low := v.mul(v.erfcTail(v.abs(x), 0.212132034, 0.5), e)
	return v.bySign(x, low, v.sub(v.set(f(1)), low)), e
}

// erf is Erf32.
func (v isa) erf(x reg.VecVirtual) reg.VecVirtual {
	a := v.abs(x)
	z := v.mul(x, x)
	near := v.poly(z, erfNear...)
	v.horner(near, x, x)
	h := v.min(f(4), a)
	s := v.mul(h, h)
	lo := v.neg(s)
	v.fma231(h, h, lo) // what the square lost
	e := v.expLow(v.neg(s))
	v.fma231(e, v.neg(lo), e)
	far := v.sub(v.set(f(1)), v.mul(v.erfcTail(h, 0.3, 1), e))
	far = v.or(far, v.and(x, num(0x80000000)))
	return v.selectIf(ltOQ, a, v.set(f(0.84375)), near, far)
}

var erfNear = []float64{1.6365844691e-6, -1.4925650358e-5, 1.2055332982e-4, -8.5483270234e-4, 5.2239776254e-3, -2.6866170645e-2,
	1.1283791671e-1, -3.7612638903e-1, 1.2837916710e-1}
