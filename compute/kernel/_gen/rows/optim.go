package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
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

// roots are the square roots of several registers, rounded as the instruction rounds them. Of those that are fast, an estimate and Markstein's steps (IBM J. Res.
// Dev. 34(1), 1990, section on square roots) take its place, which leave the divider alone. They are exact to the last bit while no residual is denormal: where
// a number is too small or too large for that, all take the instruction. TestRootsAreRounded goes through all fractions. Lanes that are not in some hold 0.
// What belongs to each register goes on side by side, or a core would look too far ahead to find work.
func (v isa) roots(a []vector, some []*mask, fast []bool, c rootConsts) []vector {
	slow, done := label("slow"), label("rooted")
	bad, g, h, r, d := K(), make([]vector, len(a)), make([]vector, len(a)), make([]vector, len(a)), make([]vector, len(a))
	var fasts []int
	for i := range a {
		g[i] = v.vec()
		if fast[i] {
			fasts = append(fasts, i)
		}
	}
	for n, i := range fasts {
		t := v.vec()
		VPSUBD(c.low, a[i], t)
		if n == 0 {
			VPCMPUD(operand.Imm(5), c.span, t, some[i].k, bad) // not below
		} else {
			k := K()
			VPCMPUD(operand.Imm(5), c.span, t, some[i].k, k)
			KORW(k, bad, bad)
		}
	}
	for _, i := range fasts {
		h[i] = v.vec()
		VRSQRT14PS(a[i], h[i])
	}
	for i := range a {
		if !fast[i] {
			VSQRTPS(a[i], g[i])
		}
	}
	for _, i := range fasts {
		VMULPS(a[i], h[i], g[i])
	}
	if len(fasts) > 0 {
		KORTESTW(bad, bad)
		JNZ(operand.LabelRef(slow))
	}
	for _, i := range fasts {
		VMULPS(c.half, h[i], h[i])
	}
	for _, i := range fasts {
		r[i] = v.copy(c.half)
		VFNMADD231PS(g[i], h[i], r[i])
	}
	for _, i := range fasts {
		VFMADD231PS(g[i], r[i], g[i])
	}
	for _, i := range fasts {
		VFMADD231PS(h[i], r[i], h[i])
	}
	for _, i := range fasts {
		d[i] = v.copy(a[i])
		VFNMADD231PS(g[i], g[i], d[i])
	}
	for _, i := range fasts {
		VFMADD231PS_Z(d[i], h[i], some[i].k, g[i])
	}
	if len(fasts) > 0 {
		JMP(operand.LabelRef(done))
		Label(slow)
		for _, i := range fasts {
			VSQRTPS(a[i], g[i])
		}
		Label(done)
	}
	return g
}

// rootConsts are what roots wants in registers: numbers from memory would take as many loads as all else.
type rootConsts struct{ low, span, half, normal vector }

func (v isa) newRootConsts() rootConsts {
	return rootConsts{v.set(num(0x0d000000)), v.set(num(0x71000000)), v.set(f(0.5)), v.set(num(0x7f800000))} // from 2^-101 to below 2^125
}

// adamBody is Adam for registers side by side. The divider takes the quotients, and some of the roots: it would be idle between them. Without a decay,
// g is what g + 0·w is, but for the sign of a 0, which settles.
func (v isa) adamBody(c map[string]vector, w, g, m, vv reg.GPVirtual, decay bool, at []atFn, mk *mask, fast []bool, rc rootConsts) {
	x, d, mi, vi := make([]vector, len(at)), make([]vector, len(at)), make([]vector, len(at)), make([]vector, len(at))
	some := make([]*mask, len(at))
	load := func(a operand.Mem) any { // a register, or memory as it is
		if mk == nil {
			return operand.Op(a)
		}
		return operand.Op(v.load(a, mk))
	}
	for i, at := range at {
		d[i] = v.load(at(g), mk)
		if decay {
			x[i] = v.mul(c["shrink"], load(at(w)))
			d[i] = v.decayed(c["wd"], x[i], d[i])
		}
		vi[i] = v.mul(c["beta2"], load(at(vv)))
	}
	for i := range at {
		VFMADD231PS(v.mul(d[i], c["rest2"]), d[i], vi[i])
	}
	for i, at := range at {
		k := K()
		VPTESTMD(rc.normal, vi[i], k)
		VMOVAPS_Z(vi[i], k, vi[i]) // settle
		v.store(vi[i], at(vv), mk)
		some[i] = &mask{k: k}
	}
	for i, at := range at {
		mi[i] = v.mul(c["beta1"], load(at(m)))
	}
	for i := range at {
		VFMADD231PS(c["rest1"], d[i], mi[i])
	}
	root := v.roots(vi, some, fast, rc)
	for i, at := range at {
		k := K()
		VPTESTMD(rc.normal, mi[i], k)
		VMOVAPS_Z(mi[i], k, mi[i])
		v.store(mi[i], at(m), mk)
	}
	for i := range at {
		mi[i] = v.div(mi[i], v.add(root[i], c["eps"]))
	}
	for i, at := range at {
		if !decay {
			x[i] = v.load(at(w), mk)
		}
		VFMADD231PS(c["step"], mi[i], x[i])
		v.store(x[i], at(w), mk)
	}
}

// adam is the loop of Adam. fast says which of the registers in a row take their root without the divider, beside how many of them are worked on at a time;
// only AVX-512 has such roots.
func (v isa) adam(name string, fast []bool, beside int) {
	v.text(name, "func(n int, w, grad, m, v *float32, beta1, rest1, beta2, rest2, step, eps, shrink, wd float32)", "is the loop of Adam for n elements.")
	n, w, g, m, vv := gp("n"), gp("w"), gp("grad"), gp("m"), gp("v")
	c := map[string]vector{}
	for _, name := range []string{"beta1", "rest1", "beta2", "rest2", "step", "eps", "shrink", "wd"} {
		c[name] = v.broadcast(name)
	}
	if !v.wide() {
		v.loop(n, 1, func(at atFn, mk *mask) {
			x := v.mul(v.load(at(w), mk), c["shrink"])
			d := v.decayed(c["wd"], x, v.load(at(g), mk))
			mi := v.mul(v.load(at(m), mk), c["beta1"])
			VFMADD231PS(c["rest1"], d, mi)
			mi = v.settle(mi)
			v.store(mi, at(m), mk)
			vi := v.mul(v.load(at(vv), mk), c["beta2"])
			VFMADD231PS(v.mul(d, c["rest2"]), d, vi)
			vi = v.settle(vi)
			v.store(vi, at(vv), mk)
			VFMADD231PS(c["step"], v.div(mi, v.add(v.sqrt(vi), c["eps"])), x)
			v.store(x, at(w), mk)
		})
		ret()
		return
	}
	decay, t := label("decay"), GP64()
	MOVL(param("wd"), t.As32())
	TESTL(t.As32(), t.As32())
	JNZ(operand.LabelRef(decay))
	CMPL(param("shrink"), operand.Imm(0x3f800000))
	JNE(operand.LabelRef(decay))
	rc := v.newRootConsts()
	run := func(decays bool) {
		v.abreast(n, len(fast), func(at []atFn, mk *mask) {
			for i := 0; i < len(at); i += beside {
				few := min(beside, len(at)-i)
				v.adamBody(c, w, g, m, vv, decays, at[i:i+few], mk, fast[i:i+few], rc)
			}
		})
		ret()
	}
	run(false)
	Label(decay)
	rc = v.newRootConsts()
	run(true)
}

// adamTensors is adam without a decay for several tensors, of which each may be short.
func (v isa) adamTensors(fast []bool) {
	v.text("adamTensors", "func(count int, t *[]float32, beta1, rest1, beta2, rest2, step, eps float32)",
		"is the loop of Adam without a decay for count tensors, more than 0: t is W, G, M and V of the first, with those of the others behind.")
	count, t := gp("count"), gp("t")
	c := map[string]vector{}
	for _, name := range []string{"beta1", "rest1", "beta2", "rest2", "step", "eps"} {
		c[name] = v.broadcast(name)
	}
	rc := v.newRootConsts()
	next := label("tensor")
	Label(next)
	var p [4]reg.GPVirtual // of W, G, M, V
	for i := range p {
		p[i] = GP64()
		MOVQ(operand.Mem{Base: t, Disp: 24 * i}, p[i])
	}
	n := GP64()
	MOVQ(operand.Mem{Base: t, Disp: 8}, n)
	v.abreast(n, len(fast), func(at []atFn, mk *mask) { v.adamBody(c, p[0], p[1], p[2], p[3], false, at, mk, fast[:len(at)], rc) })
	ADDQ(operand.Imm(4*24), t)
	DECQ(count)
	JNZ(operand.LabelRef(next))
	ret()
}

func (v isa) optimizers() {
	v.adam("adam", []bool{true, true, false}, 1)
	if v.wide() {
		dividing := []bool{true, false, false}
		v.adam("adamDividing", dividing, len(dividing))
		v.adamTensors(dividing)
	}
	if v.wide() {
		v.text("roots", "func(n int, y, x *float32)", "is y[i] = √x[i] for n elements, as Adam takes the root.")
		n, y, x := gp("n"), gp("y"), gp("x")
		c := v.newRootConsts()
		v.loop(n, 1, func(at atFn, mk *mask) {
			a, k := v.load(at(x), mk), K()
			VPTESTMD(a, a, k)
			v.store(v.roots([]vector{a}, []*mask{{k: k}}, []bool{true}, c)[0], at(y), mk)
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
