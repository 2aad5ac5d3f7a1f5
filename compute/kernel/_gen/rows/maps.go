package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

type vector = reg.VecVirtual

// map1 is dst[i] = f(x[i]).
func (v isa) map1(name, what string, unroll int, f func(x vector) vector) {
	v.text(name, "func(n int, dst, x *float32)", "is dst[i] = "+what+" for n elements.")
	n, dst, x := gp("n"), gp("dst"), gp("x")
	v.loop(n, unroll, func(at func(reg.GPVirtual) operand.Mem, mk *mask) {
		v.store(f(v.load(at(x), mk)), at(dst), mk)
	})
	ret()
}

// map2 is dst[i] = f(x[i], y[i]).
func (v isa) map2(name, what string, f func(x, y vector) vector) {
	v.text(name, "func(n int, dst, x, y *float32)", "is dst[i] = "+what+" for n elements.")
	n, dst, x, y := gp("n"), gp("dst"), gp("x"), gp("y")
	v.loop(n, 4, func(at func(reg.GPVirtual) operand.Mem, mk *mask) {
		v.store(f(v.load(at(x), mk), v.load(at(y), mk)), at(dst), mk)
	})
	ret()
}

// mapA is dst[i] = f(dst[i], x[i], a).
func (v isa) mapA(name, what string, f func(d func() vector, x, a vector) vector) {
	v.text(name, "func(n int, dst, x *float32, a float32)", "is dst[i] = "+what+" for n elements.")
	n, dst, x, a := gp("n"), gp("dst"), gp("x"), v.broadcast("a")
	v.loop(n, 4, func(at func(reg.GPVirtual) operand.Mem, mk *mask) {
		v.store(f(func() vector { return v.load(at(dst), mk) }, v.load(at(x), mk), a), at(dst), mk)
	})
	ret()
}

// mapD gives a function and its derivative: y[i] = f(x[i]), d[i] = f'(x[i]).
func (v isa) mapD(name, what string, f func(x vector) (y, d vector)) {
	v.text(name, "func(n int, y, d, x *float32)", "is y[i] = "+what+", d[i] = the derivative of that at x[i], for n elements.")
	n, y, d, x := gp("n"), gp("y"), gp("d"), gp("x")
	v.loop(n, 1, func(at func(reg.GPVirtual) operand.Mem, mk *mask) {
		fy, fd := f(v.load(at(x), mk))
		v.store(fy, at(y), mk)
		v.store(fd, at(d), mk)
	})
	ret()
}

// mapB is dx[i] = f(dy[i], u[i]), added to dx[i] where acc is not 0.
func (v isa) mapB(name, what string, f func(dy, u vector) vector) {
	v.text(name, "func(n int, dx, dy, u *float32, acc int)", "is dx[i] = "+what+" for n elements, added to dx[i] where acc is not 0.")
	n, dx, dy, u, acc := gp("n"), gp("dx"), gp("dy"), gp("u"), gp("acc")
	v.loop(n, 1, func(at func(reg.GPVirtual) operand.Mem, mk *mask) {
		v.put(f(v.load(at(dy), mk), v.load(at(u), mk)), at(dx), mk, acc)
	})
	ret()
}

// put stores g, or adds it where acc is not 0.
func (v isa) put(g vector, to operand.Mem, mk *mask, acc reg.GPVirtual) {
	set := label("set")
	TESTQ(acc, acc)
	JZ(operand.LabelRef(set))
	VADDPS(g, v.load(to, mk), g)
	Label(set)
	v.store(g, to, mk)
}

func (v isa) maps() {
	v.map1("exp", "Exp32(x[i])", 1, func(x vector) vector { return v.exp(x) })
	v.map1("log", "Log32(x[i])", 1, func(x vector) vector { return v.log(x) })
	v.map1("tanh", "Tanh32(x[i])", 1, func(x vector) vector { return v.tanh(x) })
	v.map1("erf", "Erf32(x[i])", 1, func(x vector) vector { return v.erf(x) })
	v.map1("sigmoid", "Sigmoid32(x[i])", 1, func(x vector) vector { return v.sigmoid(x) })
	v.map1("silu", "x[i]·Sigmoid32(x[i])", 1, func(x vector) vector { return v.mul(x, v.sigmoid(x)) })
	v.map1("relu", "max(x[i], 0)", 4, func(x vector) vector { return v.max(v.zeros(), x) })
	v.map1("squaredReLU", "max(x[i], 0)²", 4, func(x vector) vector { r := v.max(v.zeros(), x); return v.mul(r, r) })
	v.map1("geluErf", "GeluErf of x[i]", 1, func(x vector) vector { y, _ := v.gelu(x, false); return y })
	v.map1("geluTanh", "GeluTanh of x[i]", 1, func(x vector) vector { return v.mul(x, v.sigmoid(v.geluArg(x))) })

	v.mapD("geluErfD", "GeluErf of x[i]", func(x vector) (vector, vector) { return v.gelu(x, true) })
	v.mapD("geluTanhD", "GeluTanh of x[i]", func(x vector) (vector, vector) { return v.geluTanhD(x) })
	v.mapD("siluD", "SiLU of x[i]", func(x vector) (vector, vector) { return v.siluD(x) })

	v.mapB("reluBackward", "u[i] > 0 ? dy[i] : 0", func(dy, u vector) vector { return v.keepIf(gtOQ, u, v.zeros(), dy) })
	v.mapB("squaredReLUBackward", "2·max(u[i], 0)·dy[i]", func(dy, u vector) vector {
		r := v.max(v.zeros(), u)
		return v.mul(v.add(r, r), dy)
	})
	v.mapB("tanhBackward", "(1 - u[i]²)·dy[i]", func(dy, u vector) vector {
		d := v.set(f(1))
		VFNMADD231PS(u, u, d)
		return v.mul(d, dy)
	})
	v.mapB("sigmoidBackward", "u[i]·(1-u[i])·dy[i]", func(dy, u vector) vector {
		return v.mul(v.mul(u, v.sub(v.set(f(1)), u)), dy)
	})
	v.mapB("siluBackward", "the derivative of SiLU at u[i], times dy[i]", func(dy, u vector) vector {
		_, d := v.siluD(u)
		return v.mul(d, dy)
	})
	v.mapB("geluErfBackward", "the derivative of GeluErf at u[i], times dy[i]", func(dy, u vector) vector {
		_, d := v.gelu(u, true)
		return v.mul(d, dy)
	})
	v.mapB("geluTanhBackward", "the derivative of GeluTanh at u[i], times dy[i]", func(dy, u vector) vector {
		_, d := v.geluTanhD(u)
		return v.mul(d, dy)
	})
	v.mapB("mulBackward", "u[i]·dy[i]", func(dy, u vector) vector { return v.mul(u, dy) })

	v.map2("add", "x[i] + y[i]", func(x, y vector) vector { return v.add(x, y) })
	v.map2("sub", "x[i] - y[i]", func(x, y vector) vector { return v.sub(x, y) })
	v.map2("mul", "x[i]·y[i]", func(x, y vector) vector { return v.mul(x, y) })

	v.mapA("scale", "x[i]·a", func(_ func() vector, x, a vector) vector { return v.mul(x, a) })
	v.mapA("axpy", "FMA(a, x[i], dst[i])", func(d func() vector, x, a vector) vector {
		s := d()
		VFMADD231PS(x, a, s)
		return s
	})
	v.mapA("lerp", "FMA(a, x[i]-dst[i], dst[i])", func(d func() vector, x, a vector) vector {
		s := d()
		VFMADD231PS(v.sub(x, s), a, s)
		return s
	})
	v.mapA("clampAbs", "x[i] within -a..a", func(_ func() vector, x, a vector) vector { return v.max(v.neg(a), v.min(a, x)) })

	v.text("mulAdd", "func(n int, dst, x, y *float32)", "is dst[i] = FMA(x[i], y[i], dst[i]) for n elements.")
	n, dst, x, y := gp("n"), gp("dst"), gp("x"), gp("y")
	v.loop(n, 4, func(at func(reg.GPVirtual) operand.Mem, mk *mask) {
		s := v.load(at(dst), mk)
		VFMADD231PS(v.load(at(x), mk), v.load(at(y), mk), s)
		v.store(s, at(dst), mk)
	})
	ret()
}

// gelu is GeluErf and, where it is wanted, its derivative.
func (v isa) gelu(x vector, deriv bool) (y, d vector) {
	cdf, e := v.normal(x)
	if deriv {
		d = v.copy(cdf)
		v.fma231(x, v.mul(e, f(0.39894228)), d)
	}
	return v.mul(x, cdf), d
}

// geluArg is twice the argument of the tanh: tanh u = 2·sigmoid(2u) - 1.
func (v isa) geluArg(x vector) vector {
	c := v.mul(v.mul(x, f(0.044715)), x)
	v.horner(c, x, x)
	return v.mul(c, f(1.5957691))
}

func (v isa) geluTanhD(x vector) (y, d vector) {
	s := v.sigmoid(v.geluArg(x))
	du := v.set(f(1))
	v.fma231(v.mul(x, x), f(3*0.044715), du)
	q := v.mul(s, v.sub(v.set(f(1)), s)) // derivative of the sigmoid
	d = v.copy(s)
	v.fma231(v.mul(v.mul(x, f(1.5957691)), q), du, d)
	return v.mul(x, s), d
}

func (v isa) siluD(x vector) (y, d vector) {
	s := v.sigmoid(x)
	d = v.set(f(1))
	v.fma231(x, v.sub(v.set(f(1)), s), d)
	return v.mul(x, s), v.mul(s, d)
}

// copyPast stores whole cache lines without reading them first.
func (v isa) copyPast() {
	v.text("copyPast", "func(n int, dst, x *float32)",
		"is dst[i] = x[i] for n elements, past the caches. dst is a multiple of 64 bytes, n is one of 16. n > 0. Another core sees dst after this one's next instruction with LOCK.")
	n, dst, x := gp("n"), gp("dst"), gp("x")
	one, last, lines, whole := label("line"), label("last"), label("lines"), GP64()
	line := func(k int) {
		r := make([]vector, 16/v.w)
		for i := range r {
			r[i] = v.load(operand.Mem{Base: x, Disp: 64*k + 4*v.w*i}, nil)
		}
		for i := range r {
			VMOVNTPS(r[i], operand.Mem{Base: dst, Disp: 64*k + 4*v.w*i})
		}
	}
	step := func(k int, next string) {
		for u := range k {
			line(u)
		}
		ADDQ(operand.U32(64*k), x)
		ADDQ(operand.U32(64*k), dst)
		DECQ(whole)
		JNZ(operand.LabelRef(next))
	}
	MOVQ(n, whole)
	SHRQ(operand.Imm(6), whole)
	JZ(operand.LabelRef(last))
	Label(lines)
	step(4, lines)
	Label(last)
	MOVQ(n, whole)
	SHRQ(operand.Imm(4), whole)
	ANDQ(operand.Imm(3), whole)
	done := label("done")
	JZ(operand.LabelRef(done))
	Label(one)
	step(1, one)
	Label(done)
	ret()
}
