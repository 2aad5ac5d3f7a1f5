package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// softmaxRows is the loop that SoftmaxRows gives, for rows whose lengths start at n and grow by step, after cols from 1 again. stats, where not nil, takes the
// sum of each row.
func (v isa) softmaxRows() {
	v.text("softmaxRows", "func(rows, n, step, cols, ld int, y, x *float32, scale float32, stats *float32)",
		"is the softmax of scale·x, row by row. Row 0 has n elements in use, each other row step more than the one before it or, beyond cols, 1; the others up to cols get 0. Rows lie ld elements apart.",
		"The maximum and the sum of row r go to stats[2r], stats[2r+1], where that is not nil. rows > 0, n > 0.")
	rows, n, step, cols, ld, y, x, stats := gp("rows"), gp("n"), gp("step"), gp("cols"), gp("ld"), gp("y"), gp("x"), gp("stats")
	scale := v.broadcast("scale")
	SHLQ(operand.Imm(2), ld)
	i := GP64()
	loop, long, stored, next := label("rows"), label("long"), label("stored"), label("nextrow")
	Label(loop)
	if v.wide() {
		CMPQ(cols, operand.U8(4*v.w))
		JG(operand.LabelRef(long))
		v.softmaxMasked(n, cols, y, x, stats, scale, next)
	} else {
		CMPQ(n, operand.U8(4*v.w))
		JG(operand.LabelRef(long))
		v.softmaxShort(n, cols, y, x, stats, scale, stored)
	}
	Label(long)
	rem := mod64(n)
	tail := v.masksOf(rem)
	acc := v.accumulators()
	low := v.set(num(0xff800000))
	for _, r := range acc {
		VMOVAPS(low, r)
	}
	v.row(i, n, rem, tail, func(a int, at atFn, mk *mask) {
		z := v.mul(v.load(at(x), mk), scale)
		v.greater(z, acc[a], mk)
	})
	m := v.tree(acc, func(a, b vector) { VMAXPS(b, a, a) })
	m = v.copy(m)
	v.zeroAll(acc)
	v.row(i, n, rem, tail, func(a int, at atFn, mk *mask) {
		e := v.expLow(v.sub(v.mul(v.load(at(x), mk), scale), m))
		v.store(e, at(y), mk)
		v.addMasked(e, acc[a], mk)
	})
	s := v.sum(acc)
	putStats(stats, m, s)
	inv := v.scalarDiv(s)
	v.row(i, n, rem, tail, func(_ int, at atFn, mk *mask) {
		v.store(v.mul(v.load(at(y), mk), inv), at(y), mk)
	})
	Label(stored)
	v.clearRest(y, n, cols)
	Label(next)
	nextLength(n, step, cols)
	ADDQ(ld, x)
	ADDQ(ld, y)
	DECQ(rows)
	JNZ(operand.LabelRef(loop))
	ret()
}

// nextLength is the number of elements in use in the next row.
func nextLength(n, step, cols reg.GPVirtual) {
	one := GP64()
	MOVQ(operand.U32(1), one)
	ADDQ(step, n)
	CMPQ(n, cols)
	CMOVQGT(one, n)
}

// putStats stores a row's maximum and sum where they are wanted.
func putStats(stats reg.GPVirtual, m, s vector) {
	skip := label("nostats")
	TESTQ(stats, stats)
	JZ(operand.LabelRef(skip))
	VMOVSS(m.AsX(), operand.Mem{Base: stats})
	VMOVSS(s.AsX(), operand.Mem{Base: stats, Disp: 4})
	ADDQ(operand.Imm(8), stats)
	Label(skip)
}

// softmaxShort is a row of at most four registers, which stay in them: what a masked store wrote can't be loaded again at once.
func (v isa) softmaxShort(n, cols, y, x, stats reg.GPVirtual, scale vector, stored string) {
	for count := 1; count <= 4; count++ {
		next := label("short")
		if count < 4 {
			CMPQ(n, operand.U8(count*v.w))
			JG(operand.LabelRef(next))
		}
		last := GP64()
		LEAQ(operand.Mem{Base: n, Disp: -(count - 1) * v.w}, last)
		mk := v.masksOf(last).at(0)
		maskOf := func(a int) *mask {
			if a == count-1 {
				return mk
			}
			return nil
		}
		at := func(base reg.GPVirtual, a int) operand.Mem { return operand.Mem{Base: base, Disp: 4 * v.w * a} }
		e := make([]vector, count)
		top := make([]vector, count)
		for a := range e {
			e[a] = v.mul(v.load(at(x, a), maskOf(a)), scale)
		}
		for a := range e {
			top[a] = v.set(num(0xff800000))
			v.greater(e[a], top[a], maskOf(a))
		}
		m := v.tree(top, func(a, b vector) { VMAXPS(b, a, a) })
		var s []vector
		for a := range e {
			e[a] = v.clean(v.expLow(v.sub(e[a], m)), maskOf(a))
		}
		for a := range e {
			s = append(s, v.copy(e[a]))
		}
		sum := v.sum(s)
		putStats(stats, m, sum)
		inv := v.scalarDiv(sum)
		for a := range e {
			v.store(v.mul(e[a], inv), at(y, a), maskOf(a))
		}
		JMP(operand.LabelRef(stored))
		Label(next)
	}
}

// inUse are the masks of the first n of so many registers' elements, and of the last one's elements below cols.
func (v isa) inUse(count int, n, cols reg.GPVirtual) (used []*mask, last *mask) {
	bits := v.masksOf(n)
	for a := range count {
		used = append(used, bits.at(a))
	}
	return used, v.masksOf(cols).at(count - 1)
}

// softmaxMasked is a row of at most four registers, whatever its length: the rows of a triangle would mispredict branches that look at their lengths. It jumps to
// next at the end.
func (v isa) softmaxMasked(n, cols, y, x, stats reg.GPVirtual, scale vector, next string) {
	for count := 1; count <= 4; count++ {
		more := label("more")
		if count < 4 {
			CMPQ(cols, operand.U8(count*v.w))
			JG(operand.LabelRef(more))
		}
		used, last := v.inUse(count, n, cols)
		at := func(base reg.GPVirtual, a int) operand.Mem { return operand.Mem{Base: base, Disp: 4 * v.w * a} }
		e, top, s := make([]vector, count), make([]vector, count), make([]vector, count)
		for a := range e {
			e[a] = v.mul(v.load(at(x, a), used[a]), scale)
			top[a] = v.set(num(0xff800000))
			v.greater(e[a], top[a], used[a])
		}
		m := v.tree(top, func(a, b vector) { VMAXPS(b, a, a) })
		for a := range e {
			e[a] = v.clean(v.expLow(v.sub(e[a], m)), used[a])
			s[a] = v.copy(e[a])
		}
		sum := v.sum(s)
		putStats(stats, m, sum)
		inv := v.scalarDiv(sum)
		for a := range e {
			var mk *mask
			if a == count-1 {
				mk = last
			}
			v.store(v.clean(v.mul(e[a], inv), used[a]), at(y, a), mk)
		}
		JMP(operand.LabelRef(next))
		Label(more)
	}
}

// softmaxBackwardMasked is a row of softmaxBackward, as softmaxMasked.
func (v isa) softmaxBackwardMasked(n, cols, dx, dy, y reg.GPVirtual, scale vector, next string) {
	for count := 1; count <= 4; count++ {
		more := label("more")
		if count < 4 {
			CMPQ(cols, operand.U8(count*v.w))
			JG(operand.LabelRef(more))
		}
		used, last := v.inUse(count, n, cols)
		at := func(base reg.GPVirtual, a int) operand.Mem { return operand.Mem{Base: base, Disp: 4 * v.w * a} }
		g, p, s := make([]vector, count), make([]vector, count), make([]vector, count)
		for a := range g {
			g[a], p[a], s[a] = v.load(at(dy, a), used[a]), v.load(at(y, a), used[a]), v.zeros()
			VFMADD231PS(g[a], p[a], s[a])
		}
		t := v.sum(s)
		for a := range g {
			var mk *mask
			if a == count-1 {
				mk = last
			}
			v.store(v.clean(v.mul(v.mul(p[a], scale), v.sub(g[a], t)), used[a]), at(dx, a), mk)
		}
		JMP(operand.LabelRef(next))
		Label(more)
	}
}

// scalarDiv is 1/s in all lanes, for an s that is the same in all lanes.
func (v isa) scalarDiv(s vector) vector {
	one := XMM()
	VMOVSS(v.consts.addr(uint32(f(1))), one)
	VDIVSS(s.AsX(), one, one)
	r := v.vec()
	VBROADCASTSS(one, r)
	return r
}

// greater is acc = z > acc ? z : acc in the lanes in use, so that a NaN is passed over.
func (v isa) greater(z, acc vector, mk *mask) {
	switch {
	case mk == nil:
		VMAXPS(acc, z, acc)
	case v.wide():
		VMAXPS(acc, z, mk.k, acc)
	default:
		t := v.vec()
		VMAXPS(acc, z, t)
		VBLENDVPS(mk.y, t, acc, acc)
	}
}

func (v isa) addMasked(e, acc vector, mk *mask) {
	switch {
	case mk == nil:
		VADDPS(e, acc, acc)
	case v.wide():
		VADDPS(e, acc, mk.k, acc)
	default:
		t := v.vec()
		VANDPS(e, mk.y, t)
		VADDPS(t, acc, acc)
	}
}

// clearRest sets the elements n to cols of a row to 0.
func (v isa) clearRest(y, n, cols reg.GPVirtual) {
	done := label("cleared")
	left, p := GP64(), GP64()
	MOVQ(cols, left)
	SUBQ(n, left)
	JLE(operand.LabelRef(done))
	LEAQ(operand.Mem{Base: y, Index: n, Scale: 4}, p)
	zero := v.zeros()
	v.loop(left, 1, func(at atFn, mk *mask) { v.store(zero, at(p), mk) })
	Label(done)
}

// softmaxBackward is the loop that SoftmaxBackward gives, with the lengths of rows as in softmaxRows.
func (v isa) softmaxBackward() {
	v.text("softmaxBackward", "func(rows, n, step, cols, ld int, dx, dy, y *float32, scale float32)",
		"is dx = scale·y·(dy - dot(dy, y)), row by row, with rows as in softmaxRows.")
	rows, n, step, cols, ld, dx, dy, y := gp("rows"), gp("n"), gp("step"), gp("cols"), gp("ld"), gp("dx"), gp("dy"), gp("y")
	scale := v.broadcast("scale")
	SHLQ(operand.Imm(2), ld)
	i := GP64()
	loop, long, next := label("rows"), label("long"), label("nextrow")
	Label(loop)
	if v.wide() {
		CMPQ(cols, operand.U8(4*v.w))
		JG(operand.LabelRef(long))
		v.softmaxBackwardMasked(n, cols, dx, dy, y, scale, next)
	}
	Label(long)
	rem := mod64(n)
	tail := v.masksOf(rem)
	acc := v.accumulators()
	v.zeroAll(acc)
	v.row(i, n, rem, tail, func(a int, at atFn, mk *mask) {
		VFMADD231PS(v.load(at(dy), mk), v.load(at(y), mk), acc[a])
	})
	t := v.sum(acc)
	v.row(i, n, rem, tail, func(_ int, at atFn, mk *mask) {
		v.store(v.mul(v.mul(v.load(at(y), mk), scale), v.sub(v.load(at(dy), mk), t)), at(dx), mk)
	})
	v.clearRest(dx, n, cols)
	Label(next)
	nextLength(n, step, cols)
	for _, p := range []reg.GPVirtual{dx, dy, y} {
		ADDQ(ld, p)
	}
	DECQ(rows)
	JNZ(operand.LabelRef(loop))
	ret()
}

// invSqrt is 1/√(s·inv + eps) in all lanes.
func (v isa) invSqrt(s, inv, eps vector) vector {
	t := XMM()
	VMOVAPS(s.AsX(), t)
	VFMADD213SS(eps.AsX(), inv.AsX(), t)
	VSQRTSS(t, t, t)
	one := XMM()
	VMOVSS(v.consts.addr(uint32(f(1))), one)
	VDIVSS(t, one, one)
	r := v.vec()
	VBROADCASTSS(one, r)
	return r
}

// optional loads a parameter's elements, or the number where there is no such parameter.
func (v isa) optional(p reg.GPVirtual, at atFn, mk *mask, none num) vector {
	r := v.set(none)
	skip := label("skip")
	TESTQ(p, p)
	JZ(operand.LabelRef(skip))
	v.loadTo(at(p), mk, r)
	Label(skip)
	return r
}

// norm is the loop that LayerNorm (center) or RMSNorm gives.
func (v isa) norm(name string, center bool) {
	if center {
		v.text(name, "func(rows, n int, y, mean, rstd, x, w, b *float32, inv, eps float32)",
			"is LayerNorm for rows of n elements; w and b may be nil, inv is 1/n. rows > 0.")
	} else {
		v.text(name, "func(rows, n int, y, rstd, x, w *float32, inv, eps float32)", "is RMSNorm for rows of n elements; w may be nil, inv is 1/n. rows > 0.")
	}
	rows, n, y, rstd, x, w := gp("rows"), gp("n"), gp("y"), gp("rstd"), gp("x"), gp("w")
	var mean, b reg.GPVirtual
	if center {
		mean, b = gp("mean"), gp("b")
	}
	inv, eps := v.broadcast("inv"), v.broadcast("eps")
	i, rem := GP64(), mod64(n)
	tail := v.masksOf(rem)
	loop := label("rows")
	Label(loop)
	acc := v.accumulators()
	v.zeroAll(acc)
	var m vector
	if center {
		v.row(i, n, rem, tail, func(a int, at atFn, mk *mask) { VADDPS(v.load(at(x), mk), acc[a], acc[a]) })
		m = v.mul(v.sum(acc), inv)
		VMOVSS(m.AsX(), operand.Mem{Base: mean})
		ADDQ(operand.Imm(4), mean)
		v.zeroAll(acc)
	}
	v.row(i, n, rem, tail, func(a int, at atFn, mk *mask) {
		d := v.load(at(x), mk)
		if center {
			d = v.clean(v.sub(d, m), mk)
		}
		VFMADD231PS(d, d, acc[a])
	})
	s := v.invSqrt(v.sum(acc), inv, eps)
	VMOVSS(s.AsX(), operand.Mem{Base: rstd})
	ADDQ(operand.Imm(4), rstd)
	v.row(i, n, rem, tail, func(_ int, at atFn, mk *mask) {
		h := v.load(at(x), mk)
		if center {
			h = v.sub(h, m)
		}
		h = v.mul(h, s)
		gain := v.optional(w, at, mk, f(1))
		if center {
			v.horner(h, gain, v.optional(b, at, mk, num(0x80000000))) // b nil: adding -0 changes nothing
		} else {
			h = v.mul(h, gain)
		}
		v.store(h, at(y), mk)
	})
	LEAQ(operand.Mem{Base: x, Index: n, Scale: 4}, x)
	LEAQ(operand.Mem{Base: y, Index: n, Scale: 4}, y)
	DECQ(rows)
	JNZ(operand.LabelRef(loop))
	ret()
}

// normSums is the first walk over a row of layerNormBackward: the gradients of the parameters and the two means. AVX-512 has registers enough for all of it at
// once.
func (v isa) normSums(i, n, rem reg.GPVirtual, tail masks, dw, dy reg.GPVirtual, in map[string]operand.Mem, hat func(at atFn, mk *mask) vector,
	gain func(at atFn, mk *mask) vector, mg, mh, inv vector) {
	db := GP64()
	MOVQ(in["db"], db)
	accH, accG := v.accumulators(), v.accumulators()
	v.zeroAll(accH)
	v.zeroAll(accG)
	v.row(i, n, rem, tail, func(a int, at atFn, mk *mask) {
		g, h := v.load(at(dy), mk), hat(at, mk)
		when := func(p reg.GPVirtual, do func()) {
			skip := label("without")
			TESTQ(p, p)
			JZ(operand.LabelRef(skip))
			do()
			Label(skip)
		}
		when(dw, func() {
			d := v.load(at(dw), mk)
			VFMADD231PS(g, h, d)
			v.store(d, at(dw), mk)
		})
		when(db, func() { v.store(v.add(g, v.load(at(db), mk)), at(db), mk) })
		g = v.mul(g, gain(at, mk))
		VFMADD231PS(h, g, accH[a])
		VADDPS(g, accG[a], accG[a])
	})
	VMULPS(v.sum(accH), inv, mh)
	VMULPS(v.sum(accG), inv, mg)
}

// normBackward is the loop that LayerNormBackward (center) or RMSNormBackward gives, adding to dw and db.
func (v isa) normBackward(name string, center bool) {
	if center {
		v.text(name, "func(rows, n int, dx, dw, db, dy, x, mean, rstd, w *float32, inv float32, acc int)",
			"is LayerNormBackward for rows of n elements, adding to dw and db; dx, dw, db and w may be nil, inv is 1/n. rows > 0.")
	} else {
		v.text(name, "func(rows, n int, dx, dw, dy, x, rstd, w *float32, inv float32, acc int)",
			"is RMSNormBackward for rows of n elements, adding to dw; dx, dw and w may be nil, inv is 1/n. rows > 0.")
	}
	n, dy, x, w := gp("n"), gp("dy"), gp("x"), gp("w")
	dx, dw := gp("dx"), gp("dw")
	// What is used once a row stays in the frame: registers are few.
	names := []string{"rows", "rstd", "acc"}
	if center {
		names = append(names, "mean", "db")
	}
	frame := AllocLocal(8 * len(names))
	in := map[string]operand.Mem{}
	for k, name := range names {
		in[name] = frame.Offset(8 * k)
		MOVQ(gp(name), in[name])
	}
	inv := v.broadcast("inv")
	i, rem := GP64(), mod64(n)
	tail := v.masksOf(rem)
	loop, rest := label("rows"), label("rest")
	Label(loop)
	next := func(name string) vector { // the row's number, in all lanes
		p, r := GP64(), v.vec()
		MOVQ(in[name], p)
		VBROADCASTSS(operand.Mem{Base: p}, r)
		ADDQ(operand.Imm(4), p)
		MOVQ(p, in[name])
		return r
	}
	var m vector
	if center {
		m = next("mean")
	}
	s := next("rstd")
	hat := func(at atFn, mk *mask) vector {
		h := v.load(at(x), mk)
		if center {
			h = v.sub(h, m)
		}
		return v.clean(v.mul(h, s), mk)
	}
	gain := func(at atFn, mk *mask) vector { return v.optional(w, at, mk, f(1)) }
	grad := func(at atFn, mk *mask) vector {
		g := v.load(at(dy), mk)
		return v.mul(g, gain(at, mk))
	}
	mg, mh := v.vec(), v.vec()
	if v.wide() && center {
		v.normSums(i, n, rem, tail, dw, dy, in, hat, gain, mg, mh, inv)
		TESTQ(dx, dx)
		JZ(operand.LabelRef(rest))
	} else {
		noGain := label("nogain")
		TESTQ(dw, dw)
		JZ(operand.LabelRef(noGain))
		v.row(i, n, rem, tail, func(_ int, at atFn, mk *mask) {
			d := v.load(at(dw), mk)
			VFMADD231PS(v.load(at(dy), mk), hat(at, mk), d)
			v.store(d, at(dw), mk)
		})
		Label(noGain)
		if center {
			noBias, db := label("nobias"), GP64()
			MOVQ(in["db"], db)
			TESTQ(db, db)
			JZ(operand.LabelRef(noBias))
			v.row(i, n, rem, tail, func(_ int, at atFn, mk *mask) {
				v.store(v.add(v.load(at(dy), mk), v.load(at(db), mk)), at(db), mk)
			})
			Label(noBias)
		}
		TESTQ(dx, dx)
		JZ(operand.LabelRef(rest))
		{
			acc := v.accumulators()
			v.zeroAll(acc)
			v.row(i, n, rem, tail, func(a int, at atFn, mk *mask) { VFMADD231PS(hat(at, mk), grad(at, mk), acc[a]) })
			VMULPS(v.sum(acc), inv, mh)
			if center {
				v.zeroAll(acc)
				v.row(i, n, rem, tail, func(a int, at atFn, mk *mask) { VADDPS(grad(at, mk), acc[a], acc[a]) })
				VMULPS(v.sum(acc), inv, mg)
			}
		}
	}
	acc := GP64()
	MOVQ(in["acc"], acc)
	v.row(i, n, rem, tail, func(_ int, at atFn, mk *mask) {
		d := grad(at, mk)
		if center {
			d = v.sub(d, mg)
		}
		VFNMADD231PS(hat(at, mk), mh, d)
		v.put(v.mul(d, s), at(dx), mk, acc)
	})
	LEAQ(operand.Mem{Base: dx, Index: n, Scale: 4}, dx)
	Label(rest)
	LEAQ(operand.Mem{Base: x, Index: n, Scale: 4}, x)
	LEAQ(operand.Mem{Base: dy, Index: n, Scale: 4}, dy)
	DECQ(in["rows"])
	JNZ(operand.LabelRef(loop))
	ret()
}
