package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// fourRows are pointers to rows that are ld bytes apart.
func fourRows(a, ld reg.GPVirtual) []reg.GPVirtual {
	rows := []reg.GPVirtual{a}
	for len(rows) < 4 {
		p := GP64()
		LEAQ(operand.Mem{Base: rows[len(rows)-1], Index: ld, Scale: 1}, p)
		rows = append(rows, p)
	}
	return rows
}

// dot4 is four inner products with one vector, each as dot: its numbers are loaded once, and no product waits for the tree of another.
func (v isa) dot4() {
	v.text("dot4", "func(n int, a *float32, lda int, x, y *float32)",
		"is y[r] = Dot of row r of A and x, for four rows of n elements that lie lda apart.")
	n, a, lda, x, y := gp("n"), gp("a"), gp("lda"), gp("x"), gp("y")
	SHLQ(operand.Imm(2), lda)
	rows := fourRows(a, lda)
	acc := make([][]vector, 4)
	for r := range acc {
		acc[r] = v.accumulators()
		v.zeroAll(acc[r])
	}
	rem := mod64(n)
	v.row(GP64(), n, rem, v.masksOf(rem), func(i int, at atFn, mk *mask) {
		u := v.load(at(x), mk)
		for r := range acc {
			if mk == nil {
				VFMADD231PS(at(rows[r]), u, acc[r][i])
			} else {
				VFMADD231PS(v.load(at(rows[r]), mk), u, acc[r][i])
			}
		}
	})
	for r := range acc {
		VMOVSS(v.sum(acc[r]).AsX(), operand.Mem{Base: y, Disp: 4 * r})
	}
	ret()
}

// axpy4 adds four rows, each times a number: what is added to is loaded and stored once, and the memory of the next
// four rows is fetched meanwhile.
func (v isa) axpy4() {
	v.text("axpy4", "func(n int, y, a *float32, lda int, x *float32)",
		"is y[j] = FMA(x[r], A[r,j], y[j]) for r = 0, 1, 2, 3, for n columns; rows lie lda apart. The four rows after these are asked for: it is the caller's loop that comes to them next.")
	n, y, a, lda, x := gp("n"), gp("y"), gp("a"), gp("lda"), gp("x")
	SHLQ(operand.Imm(2), lda)
	rows := fourRows(a, lda)
	var by []vector
	for r := range rows {
		b := v.vec()
		VBROADCASTSS(operand.Mem{Base: x, Disp: 4 * r}, b)
		by = append(by, b)
	}
	fifth := GP64()
	LEAQ(operand.Mem{Base: rows[3], Index: lda, Scale: 1}, fifth)
	next := fourRows(fifth, lda)
	v.loop(n, 4, func(at atFn, mk *mask) {
		s := v.load(at(y), mk)
		for r, p := range rows {
			VFMADD231PS(v.load(at(p), mk), by[r], s)
			PREFETCHT0(at(next[r]))
		}
		v.store(s, at(y), mk)
	})
	ret()
}

// regress is the walk of linear regression over blocks of four rows, with the four products' trees as one and nothing but registers between the two passes over a
// block. Two or all four of the rows after a block are asked for while it is added up.
func (v isa) regress() {
	v.text("regress", "func(blocks, n int, x *float32, lda int, w, bias, target, y, d, dy *float32, scale float32, dw *float32, acc, ahead int)",
		"is the loop that Regression gives for blocks of four rows of n elements, a multiple of 64, that lie lda apart. bias may be nil; acc is not 0 where dw has a beginning, ahead where four rows are to be asked for.")
	blocks, x, lda, lda3, started, off := gp("blocks"), gp("x"), gp("lda"), GP64(), gp("acc"), GP64()
	SHLQ(operand.Imm(2), lda)
	LEAQ(operand.Mem{Base: lda, Index: lda, Scale: 2}, lda3)
	XORL(off.As32(), off.As32())
	row := func(p reg.GPVirtual, r int) operand.Mem {
		switch r {
		case 0:
			return operand.Mem{Base: p}
		case 3:
			return operand.Mem{Base: p, Index: lda3, Scale: 1}
		}
		return operand.Mem{Base: p, Index: lda, Scale: uint8(r)}
	}
	pick := v.picks()
	firsts := v.everyFourth()
	scale, zero := v.broadcast("scale"), v.zeros()
	Label("block")
	var acc [4][]vector
	for r := range acc {
		acc[r] = v.accumulators()
		for _, a := range acc[r] {
			VMOVAPS(zero, a)
		}
	}
	p, w, k := GP64(), gp("w"), gp("n")
	MOVQ(x, p)
	Label("dots")
	for i := range acc[0] {
		u := v.load(line(w, i), nil)
		for r := range acc {
			VFMADD231PS(row(p, r).Offset(64*i), u, acc[r][i])
		}
	}
	ADDQ(operand.U32(256), p)
	ADDQ(operand.U32(256), w)
	SUBQ(operand.Imm(64), k)
	JNZ(operand.LabelRef("dots"))
	var sums [4]vector
	for r, a := range acc {
		sums[r] = v.add(v.add(a[0], a[2]), v.add(a[1], a[3]))
	}
	all := ZMM()
	VPERMPS(v.fold(sums), firsts, all)
	s, bias := all.AsX(), gp("bias")
	TESTQ(bias, bias)
	JZ(operand.LabelRef("nobias"))
	b := XMM()
	VBROADCASTSS(operand.Mem{Base: bias}, b)
	VADDPS(b, s, s)
	Label("nobias")
	at := func(name string) operand.Mem { return operand.Mem{Base: gp(name), Index: off, Scale: 1} }
	VMOVUPS(s, at("y"))
	VSUBPS(at("target"), s, s)
	VMOVUPS(s, at("d"))
	VMULPS(scale.AsX(), s, s)
	VMOVUPS(s, at("dy"))
	var by [4]vector
	for r := range by {
		by[r] = ZMM()
		VPERMPS(all, pick[r], by[r])
	}
	next, dw := GP64(), gp("dw")
	MOVQ(x, p)
	LEAQ(operand.Mem{Base: x, Index: lda, Scale: 4}, next)
	MOVQ(next, x)
	ahead := gp("ahead")
	sum := func(name string, begin func(m operand.Mem) vector) {
		k := gp("n")
		walk := func(name string, rows int) {
			Label(name)
			for i := range 4 {
				t := begin(line(dw, i))
				for r := range by {
					VFMADD231PS(row(p, r).Offset(64*i), by[r], t)
					if r < rows {
						PREFETCHT0(row(next, r).Offset(64 * i))
					}
				}
				v.store(t, line(dw, i), nil)
			}
			for _, q := range []reg.GPVirtual{p, next, dw} {
				ADDQ(operand.U32(256), q)
			}
			SUBQ(operand.Imm(64), k)
			JNZ(operand.LabelRef(name))
		}
		TESTQ(ahead, ahead)
		JNZ(operand.LabelRef(name + "four"))
		walk(name+"two", 2)
		JMP(operand.LabelRef("on"))
		walk(name+"four", 4)
		JMP(operand.LabelRef("on"))
	}
	TESTQ(started, started)
	JZ(operand.LabelRef("first"))
	sum("add", func(m operand.Mem) vector { return v.load(m, nil) })
	Label("first")
	MOVQ(operand.U32(1), started)
	sum("set", func(operand.Mem) vector { return v.copy(zero) })
	Label("on")
	ADDQ(operand.Imm(16), off)
	DECQ(blocks)
	JNZ(operand.LabelRef("block"))
	ret()
}
