package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// RMSNorm for rows of 16 elements: a row is a register, and the sums across the registers of four rows are made together.

// fold is the sum over each of four registers, in the order of a reduction in 64 lanes: that of x[q] is in quarter q, four times.
func (v isa) fold(x [4]vector) vector {
	return v.foldBy(x, func(a, b vector) vector { return v.add(a, b) })
}

func (v isa) foldBy(x [4]vector, join func(a, b vector) vector) vector {
	half := func(a, b vector) vector {
		lo, hi := ZMM(), ZMM()
		VSHUFF32X4(operand.U8(0x44), b, a, lo)
		VSHUFF32X4(operand.U8(0xee), b, a, hi)
		return join(lo, hi)
	}
	a, b, even, odd := half(x[0], x[1]), half(x[2], x[3]), ZMM(), ZMM()
	VSHUFF32X4(operand.U8(0x88), b, a, even)
	VSHUFF32X4(operand.U8(0xdd), b, a, odd)
	s := join(even, odd)
	for _, swap := range []uint8{0x4e, 0xb1} {
		t := ZMM()
		VPERMILPS(operand.U8(swap), s, t)
		s = join(s, t)
	}
	return s
}

// picks are the indices of element 0, 1, 2 and 3, 16 times each.
func (v isa) picks() (pick [4]vector) {
	for q := range pick {
		pick[q] = ZMM()
		VPBROADCASTD(v.consts.addr(uint32(q)), pick[q])
	}
	return pick
}

// everyFourth is 0, 4, 8, 12, ...: the indices of what fold made.
func (v isa) everyFourth() vector {
	firsts := ZMM()
	VPSLLD(operand.Imm(2), operand.NewDataAddr(operand.Symbol{Name: "iota" + v.name, Static: true}, 0), firsts)
	return firsts
}

// fours calls body for each four rows, the last ones perhaps fewer; next leads to the four after.
func fours(rows reg.GPVirtual, body func(n int), next func()) {
	SUBQ(operand.Imm(4), rows)
	JL(operand.LabelRef("rest"))
	Label("four")
	body(4)
	next()
	SUBQ(operand.Imm(4), rows)
	JGE(operand.LabelRef("four"))
	Label("rest")
	ADDQ(operand.Imm(4), rows)
	for n := 3; n > 0; n-- {
		CMPQ(rows, operand.Imm(uint64(n)))
		JE(operand.LabelRef(label0("rows", n)))
	}
	ret()
	for n := 3; n > 0; n-- {
		Label(label0("rows", n))
		body(n)
		ret()
	}
}

// gain is a parameter of 16 elements, ones where it is nil.
func (v isa) gain(p reg.GPVirtual) vector {
	w, skip := v.set(f(1)), label("nogain")
	TESTQ(p, p)
	JZ(operand.LabelRef(skip))
	VMOVUPS(operand.Mem{Base: p}, w)
	Label(skip)
	return w
}

func (v isa) rmsNorm16() {
	v.text("rmsNorm16", "func(rows int, y, rstd, x, w *float32, inv, eps float32)", "is RMSNorm for rows of 16 elements; w may be nil, inv is 1/16.")
	rows, y, rstd, x := gp("rows"), gp("y"), gp("rstd"), gp("x")
	w := v.gain(gp("w"))
	inv, eps, one := v.broadcast("inv"), v.broadcast("eps"), v.set(f(1))
	zero := v.zeros()
	pick, firsts := v.picks(), v.everyFourth()
	fours(rows, func(n int) {
		h, sq := [4]vector{}, [4]vector{zero, zero, zero, zero}
		for r := range n {
			h[r] = v.load(line(x, r), nil)
			sq[r] = v.mul(h[r], h[r])
		}
		s := ZMM()
		VPERMPS(v.fold(sq), firsts, s)
		t := s.AsX()
		VFMADD213PS(eps.AsX(), inv.AsX(), t)
		VSQRTPS(t, t)
		VDIVPS(t, one.AsX(), t)
		if n == 4 {
			VMOVUPS(t, operand.Mem{Base: rstd})
		} else {
			for r := range n {
				if r == 0 {
					VMOVSS(t, operand.Mem{Base: rstd})
				} else {
					VEXTRACTPS(operand.U8(r), t, operand.Mem{Base: rstd, Disp: 4 * r})
				}
			}
		}
		for r := range n {
			by := ZMM()
			VPERMPS(s, pick[r], by)
			v.store(v.mul(v.mul(h[r], by), w), line(y, r), nil)
		}
	}, func() {
		ADDQ(operand.U32(256), x)
		ADDQ(operand.U32(256), y)
		ADDQ(operand.Imm(16), rstd)
	})
}

func (v isa) rmsNormBackward16() {
	v.text("rmsNormBackward16", "func(rows int, dx, dy, x, rstd, w *float32, inv float32, acc int)",
		"is RMSNormBackward for rows of 16 elements, without dw; w may be nil, inv is 1/16.")
	rows, dx, dy, x, rstd := gp("rows"), gp("dx"), gp("dy"), gp("x"), gp("rstd")
	w := v.gain(gp("w"))
	inv, acc := v.broadcast("inv"), gp("acc")
	zero := v.zeros()
	fours(rows, func(n int) {
		g, h, by, p := [4]vector{}, [4]vector{}, [4]vector{}, [4]vector{zero, zero, zero, zero}
		for r := range n {
			by[r] = ZMM()
			VBROADCASTSS(operand.Mem{Base: rstd, Disp: 4 * r}, by[r])
			h[r] = v.mul(by[r], line(x, r))
			g[r] = v.mul(w, line(dy, r))
			p[r] = v.copy(zero)
			VFMADD231PS(h[r], g[r], p[r])
		}
		m := v.mul(v.add(v.fold(p), zero), inv) // a sum of lanes that are all -0 is +0 with the empty ones
		for r := range n {
			mean := ZMM()
			VSHUFF32X4(operand.U8(0x55*r), m, m, mean)
			VFNMADD231PS(h[r], mean, g[r])
			v.put(v.mul(g[r], by[r]), line(dx, r), nil, acc)
		}
	}, func() {
		for _, p := range []reg.GPVirtual{dx, dy, x} {
			ADDQ(operand.U32(256), p)
		}
		ADDQ(operand.Imm(16), rstd)
	})
}

// softmax32 is softmaxRows without a mask for rows of at most 32 elements: two registers, and four rows together.
func (v isa) softmax32() {
	v.text("softmax32", "func(rows, n, ld int, y, x *float32, scale float32, stats *float32)",
		"is the softmax of scale·x for rows of n elements, 1 to 32, ld elements apart, with stats as in softmaxRows.")
	rows, ld, y, x, stats := gp("rows"), gp("ld"), gp("y"), gp("x"), gp("stats")
	scale, one, zero := v.broadcast("scale"), v.set(f(1)), v.zeros()
	SHLQ(operand.Imm(2), ld)
	ms := v.masksOf(gp("n"))
	part := []*mask{ms.at(0), ms.at(1)}
	pick, firsts := v.picks(), v.everyFourth()
	low := v.set(num(0xff800000))
	fours(rows, func(n int) {
		var e [4][2]vector
		top, sum := [4]vector{low, low, low, low}, [4]vector{zero, zero, zero, zero}
		at := GP64()
		MOVQ(x, at)
		for r := range n {
			top[r] = v.copy(low)
			for c := range e[r] {
				e[r][c] = v.mul(v.load(line(at, c), part[c]), scale)
				v.greater(e[r][c], top[r], part[c])
			}
			if r < n-1 {
				ADDQ(ld, at)
			}
		}
		m := v.foldBy(top, func(a, b vector) vector { return v.max(a, b) })
		for r := range n {
			mr := ZMM()
			VSHUFF32X4(operand.U8(0x55*r), m, m, mr)
			for c := range e[r] {
				e[r][c] = v.clean(v.expLow(v.sub(e[r][c], mr)), part[c])
			}
			sum[r] = v.add(e[r][0], e[r][1])
		}
		s, t := ZMM(), ZMM()
		VPERMPS(v.fold(sum), firsts, s)
		skip := label("nostats")
		TESTQ(stats, stats)
		JZ(operand.LabelRef(skip))
		VPERMPS(m, firsts, t)
		a, b := XMM(), XMM()
		VUNPCKLPS(s.AsX(), t.AsX(), a)
		VUNPCKHPS(s.AsX(), t.AsX(), b)
		for i, r := range []vector{a, b} {
			switch to := (operand.Mem{Base: stats, Disp: 16 * i}); n - 2*i {
			case 1:
				VMOVSD(r, to)
			case 2, 3, 4:
				VMOVUPS(r, to)
			}
		}
		ADDQ(operand.Imm(32), stats)
		Label(skip)
		VDIVPS(s.AsX(), one.AsX(), s.AsX())
		MOVQ(y, at)
		for r := range n {
			by := ZMM()
			VPERMPS(s, pick[r], by)
			for c := range e[r] {
				v.store(v.mul(e[r][c], by), line(at, c), part[c])
			}
			if r < n-1 {
				ADDQ(ld, at)
			}
		}
	}, func() {
		LEAQ(operand.Mem{Base: x, Index: ld, Scale: 4}, x)
		LEAQ(operand.Mem{Base: y, Index: ld, Scale: 4}, y)
	})
}
