package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
)

// decayed is g' = FMA(wd, w, g).
func (v isa) decayed(wd, w vector, g vector) vector {
	VFMADD231PS(wd, w, g)
	return g
}

// settle is settle32: numbers below the normal range become 0.
func (v isa) settle(a vector) vector {
	if v.wide() {
		k := K()
		VPTESTNMD_BCST(v.consts.addr(0x7f800000), a, k) // no bit of the exponent
		VPXORD(a, a, k, a)
		return a
	}
	e := v.and(a, num(0x7f800000))
	VPCMPEQD(v.zeros(), e, e)
	VPANDN(a, e, e)
	return e
}

// fastSqrt is √a, rounded as the instruction rounds it, of which AVX-512 does 16 lanes in 19 cycles: less where an estimate and Markstein's steps (IBM J.
// Res. Dev. 34(1), 1990, section on square roots) can take its place. They are exact to the last bit while no residual is denormal; other numbers
// take the instruction. Lanes that are not in some are 0. TestRootsAreRounded goes through all fractions.
func (v isa) fastSqrt(a vector, some *mask) vector {
	slow, done, k, g := label("slow"), label("rooted"), K(), v.vec()
	t := v.vec()
	VPSUBD_BCST(v.consts.addr(0x0d000000), a, t)                          // 2^-101
	VPCMPUD_BCST(operand.Imm(5), v.consts.addr(0x71000000), t, some.k, k) // not below 2^125
	h := v.vec()
	VRSQRT14PS(a, h)
	VMULPS(a, h, g)
	KORTESTW(k, k)
	JNZ(operand.LabelRef(slow))
	VMULPS_BCST(v.consts.addr(uint32(f(0.5))), h, h)
	r := v.set(f(0.5))
	VFNMADD231PS(g, h, r)
	VFMADD231PS(g, r, g)
	VFMADD231PS(h, r, h)
	d := v.copy(a)
	VFNMADD231PS(g, g, d)
	VFMADD231PS_Z(d, h, some.k, g)
	JMP(operand.LabelRef(done))
	Label(slow)
	VSQRTPS(a, g)
	Label(done)
	return g
}

func (v isa) optimizers() {
	v.text("adam", "func(n int, w, grad, m, v *float32, beta1, rest1, beta2, rest2, step, eps, shrink, wd float32)", "is the loop of Adam for n elements.")
	{
		n, w, g, m, vv := gp("n"), gp("w"), gp("grad"), gp("m"), gp("v")
		c := map[string]vector{}
		for _, name := range []string{"beta1", "rest1", "beta2", "rest2", "step", "eps", "shrink", "wd"} {
			c[name] = v.broadcast(name)
		}
		at3 := 0
		body := func(decay bool) func(at atFn, mk *mask) {
			return func(at atFn, mk *mask) {
				x, d := v.load(at(w), mk), v.load(at(g), mk)
				if decay {
					x = v.mul(x, c["shrink"])
					d = v.decayed(c["wd"], x, d)
				}
				mi := v.mul(v.load(at(m), mk), c["beta1"])
				VFMADD231PS(c["rest1"], d, mi)
				mi = v.settle(mi)
				v.store(mi, at(m), mk)
				vi := v.mul(v.load(at(vv), mk), c["beta2"])
				VFMADD231PS(v.mul(d, c["rest2"]), d, vi)
				var root vector
				if v.wide() {
					k := K()
					VPTESTMD_BCST(v.consts.addr(0x7f800000), vi, k)
					VMOVAPS_Z(vi, k, vi) // settle
					v.store(vi, at(vv), mk)
					if at3 = (at3 + 1) % 3; at3 == 0 { // the divider takes one root of three: it would be idle between the quotients
						root = v.sqrt(vi)
					} else {
						root = v.fastSqrt(vi, &mask{k: k})
					}
				} else {
					vi = v.settle(vi)
					v.store(vi, at(vv), mk)
					root = v.sqrt(vi)
				}
				VFMADD231PS(c["step"], v.div(mi, v.add(root, c["eps"])), x)
				v.store(x, at(w), mk)
			}
		}
		if v.wide() { // without a decay, g is what g + 0·w is, but for the sign of a 0, which settles
			decay, t := label("decay"), GP64()
			MOVL(param("wd"), t.As32())
			TESTL(t.As32(), t.As32())
			JNZ(operand.LabelRef(decay))
			CMPL(param("shrink"), operand.Imm(0x3f800000))
			JNE(operand.LabelRef(decay))
			v.loop(n, 3, body(false))
			ret()
			Label(decay)
		}
		v.loop(n, 1, body(true))
		ret()
	}
	if v.wide() {
		v.text("roots", "func(n int, y, x *float32)", "is y[i] = √x[i] for n elements, as Adam takes the root.")
		n, y, x := gp("n"), gp("y"), gp("x")
		v.loop(n, 1, func(at atFn, mk *mask) {
			a, k := v.load(at(x), mk), K()
			VPTESTMD(a, a, k)
			v.store(v.fastSqrt(a, &mask{k: k}), at(y), mk)
		})
		ret()
	}
	v.text("sgd", "func(n int, w, grad *float32, step, wd float32)", "is w[i] = FMA(step, FMA(wd, w[i], grad[i]), w[i]) for n elements.")
	{
		n, w, g, step, wd := gp("n"), gp("w"), gp("grad"), v.broadcast("step"), v.broadcast("wd")
		v.loop(n, 2, func(at atFn, mk *mask) {
			x := v.load(at(w), mk)
			VFMADD231PS(step, v.decayed(wd, x, v.load(at(g), mk)), x)
			v.store(x, at(w), mk)
		})
		ret()
	}
	v.text("momentum", "func(n int, w, grad, v *float32, step, mu, keep, wd float32, nesterov int)",
		"is the loop of SGDMomentum, first not set, for n elements.")
	{
		n, w, g, mom, nest := gp("n"), gp("w"), gp("grad"), gp("v"), gp("nesterov")
		step, mu, keep, wd := v.broadcast("step"), v.broadcast("mu"), v.broadcast("keep"), v.broadcast("wd")
		v.loop(n, 1, func(at atFn, mk *mask) {
			x := v.load(at(w), mk)
			d := v.decayed(wd, x, v.load(at(g), mk))
			u := v.mul(d, keep)
			VFMADD231PS(v.load(at(mom), mk), mu, u)
			u = v.settle(u)
			v.store(u, at(mom), mk)
			plain := label("plain")
			TESTQ(nest, nest)
			JZ(operand.LabelRef(plain))
			v.horner(u, mu, d)
			Label(plain)
			VFMADD231PS(step, u, x)
			v.store(x, at(w), mk)
		})
		ret()
	}
	v.text("adagrad", "func(n int, w, grad, h *float32, step, eps, wd float32)", "is the loop of Adagrad for n elements.")
	{
		n, w, g, h, step, eps, wd := gp("n"), gp("w"), gp("grad"), gp("h"), v.broadcast("step"), v.broadcast("eps"), v.broadcast("wd")
		v.loop(n, 1, func(at atFn, mk *mask) {
			x := v.load(at(w), mk)
			d := v.decayed(wd, x, v.load(at(g), mk))
			s := v.load(at(h), mk)
			VFMADD231PS(d, d, s)
			v.store(s, at(h), mk)
			VFMADD231PS(step, v.div(d, v.add(v.sqrt(s), eps)), x)
			v.store(x, at(w), mk)
		})
		ret()
	}
	v.text("rmsprop", "func(n int, w, grad, sq, mom *float32, step, alpha, keep, eps, wd, mu float32)", "is the loop of RMSProp for n elements; mom may be nil.")
	{
		n, w, g, sq, mom := gp("n"), gp("w"), gp("grad"), gp("sq"), gp("mom")
		c := map[string]vector{}
		for _, name := range []string{"step", "alpha", "keep", "eps", "wd", "mu"} {
			c[name] = v.broadcast(name)
		}
		v.loop(n, 1, func(at atFn, mk *mask) {
			x := v.load(at(w), mk)
			d := v.decayed(c["wd"], x, v.load(at(g), mk))
			s := v.mul(v.load(at(sq), mk), c["alpha"])
			VFMADD231PS(v.mul(d, c["keep"]), d, s)
			s = v.settle(s)
			v.store(s, at(sq), mk)
			u := v.div(d, v.add(v.sqrt(s), c["eps"]))
			plain := label("plain")
			TESTQ(mom, mom)
			JZ(operand.LabelRef(plain))
			VFMADD231PS(v.load(at(mom), mk), c["mu"], u)
			VMOVAPS(v.settle(u), u)
			v.store(u, at(mom), mk)
			Label(plain)
			VFMADD231PS(c["step"], u, x)
			v.store(x, at(w), mk)
		})
		ret()
	}
	v.text("lion", "func(n int, w, grad, m *float32, step, b1, c1, b2, c2, wd float32)", "is the loop of Lion for n elements.")
	{
		n, w, g, m := gp("n"), gp("w"), gp("grad"), gp("m")
		c := map[string]vector{}
		for _, name := range []string{"step", "b1", "c1", "b2", "c2", "wd"} {
			c[name] = v.broadcast(name)
		}
		v.loop(n, 1, func(at atFn, mk *mask) {
			gi, mi := v.load(at(g), mk), v.load(at(m), mk)
			u := v.mul(mi, c["b1"])
			VFMADD231PS(gi, c["c1"], u)
			// The sign: 1 with the sign of u where u is above or below 0, else u itself (0 or NaN).
			one := v.or(v.and(u, num(0x80000000)), f(1))
			zero := v.zeros()
			u = v.selectIf(gtOQ, v.abs(u), zero, one, u)
			x := v.load(at(w), mk)
			VFMADD231PS(c["wd"], x, u)
			VFMADD231PS(c["step"], u, x)
			v.store(x, at(w), mk)
			mi = v.mul(mi, c["b2"])
			VFMADD231PS(gi, c["c2"], mi)
			mi = v.settle(mi)
			v.store(mi, at(m), mk)
		})
		ret()
	}
}
