package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// atFn is where the elements of the present register are.
type atFn = func(base reg.GPVirtual) operand.Mem

// mod64 is n mod 64.
func mod64(n reg.GPVirtual) reg.GPVirtual {
	r := GP64()
	MOVQ(n, r)
	ANDQ(operand.U8(63), r)
	return r
}

// long is a reduction that may be cut: with s nil it starts at 0 and returns the result of the tree; else it starts at s, leaves the lanes
// there and returns nothing of use. All cuts but the last are at multiples of 64.
func (v isa) long(name, params, doc string, ptrs []string, start func(r vector), body func(p []vector, s vector, mk *mask), join func(a, b vector)) {
	v.text(name, "func(n int, "+params+" *float32, s *[64]float32) float32", doc, longDoc)
	v.reduction(ptrs, start, func(p []vector, s vector, _ atFn, mk *mask) { body(p, s, mk) }, join)
}

const longDoc = "With s nil the lanes start at their neutral value and the result of the tree is returned; else they start at s and are left there."

// reduction is the body of a long one; body may store as well.
func (v isa) reduction(ptrs []string, start func(r vector), body func(p []vector, s vector, at atFn, mk *mask), join func(a, b vector)) {
	n, state := gp("n"), gp("s")
	var base []reg.GPVirtual
	for _, p := range ptrs {
		base = append(base, gp(p))
	}
	acc := v.accumulators()
	fresh, ready, whole := label("fresh"), label("ready"), label("whole")
	TESTQ(state, state)
	JZ(operand.LabelRef(fresh))
	for a, r := range acc {
		VMOVUPS(operand.Mem{Base: state, Disp: 4 * v.w * a}, r)
	}
	JMP(operand.LabelRef(ready))
	Label(fresh)
	for _, r := range acc {
		start(r)
	}
	Label(ready)
	rem := mod64(n)
	v.row(GP64(), n, rem, v.masksOf(rem), func(a int, at atFn, mk *mask) {
		var p []vector
		for _, b := range base {
			p = append(p, v.load(at(b), mk))
		}
		body(p, acc[a], at, mk)
	})
	TESTQ(state, state)
	JZ(operand.LabelRef(whole))
	for a, r := range acc {
		VMOVUPS(r, operand.Mem{Base: state, Disp: 4 * v.w * a})
	}
	Label(whole)
	r := v.tree(acc, join)
	Store(r.AsX(), ReturnIndex(0))
	ret()
}

func (v isa) reductions() {
	addUp := func(a, b vector) { VADDPS(b, a, a) }
	v.long("dot", "x, y", "is s[i mod 64] = FMA(x[i], y[i], s[i mod 64]) for n elements.", []string{"x", "y"}, v.zero,
		func(p []vector, s vector, _ *mask) { VFMADD231PS(p[0], p[1], s) }, addUp)
	v.long("sum", "x", "is s[i mod 64] += x[i] for n elements.", []string{"x"}, v.zero,
		func(p []vector, s vector, _ *mask) { VADDPS(p[0], s, s) }, addUp)
	v.long("unfit", "x", "is s[i mod 64] |= the bits of x[i]-x[i], as a number, for n elements: all 0 only where every element is finite.", []string{"x"}, v.zero,
		func(p []vector, s vector, _ *mask) { VORPS(v.sub(p[0], p[0]), s, s) }, func(a, b vector) { VORPS(b, a, a) })
}

// squaredError is the sum of squares of differences, and their multiples.
func (v isa) squaredError() {
	v.text("squaredError", "func(n int, dx, x, y *float32, scale float32, s *[64]float32) float32",
		"is d = x[i] - y[i], dx[i] = d·scale, s[i mod 64] = FMA(d, d, s[i mod 64]) for n elements.", longDoc)
	dx, scale := gp("dx"), v.broadcast("scale")
	v.reduction([]string{"x", "y"}, v.zero, func(p []vector, s vector, at atFn, mk *mask) {
		d := v.sub(p[0], p[1])
		VFMADD231PS(d, d, s)
		v.store(v.mul(d, scale), at(dx), mk)
	}, func(a, b vector) { VADDPS(b, a, a) })
}

// colSum: dst[j] = dst[j] + A[0,j] + A[1,j] + ..., with a block of columns in registers.
func (v isa) colSum() {
	v.text("colSum", "func(rows, n int, a *float32, lda int, dst *float32, acc int)",
		"is dst[j] = (acc != 0 ? dst[j] : 0) + A[0,j] + A[1,j] + ... for n columns; lda in elements, rows > 0.")
	rows, n, a, lda, dst, acc := gp("rows"), gp("n"), gp("a"), gp("lda"), gp("dst"), gp("acc")
	SHLQ(operand.Imm(2), lda)
	block := func(vecs int, mk *mask) {
		s := make([]vector, vecs)
		set, down := label("set"), label("down")
		for i := range s {
			s[i] = v.zeros()
		}
		TESTQ(acc, acc)
		JZ(operand.LabelRef(set))
		for i := range s {
			v.loadTo(operand.Mem{Base: dst, Disp: 4 * v.w * i}, mk, s[i])
		}
		Label(set)
		p, r := GP64(), GP64()
		MOVQ(a, p)
		MOVQ(rows, r)
		Label(down)
		for i := range s {
			m := operand.Mem{Base: p, Disp: 4 * v.w * i}
			if mk == nil {
				VADDPS(m, s[i], s[i])
			} else {
				VADDPS(v.load(m, mk), s[i], s[i])
			}
		}
		ADDQ(lda, p)
		DECQ(r)
		JNZ(operand.LabelRef(down))
		for i := range s {
			v.store(s[i], operand.Mem{Base: dst, Disp: 4 * v.w * i}, mk)
		}
	}
	for _, vecs := range []int{8, 4, 1} {
		start, next := label("cols"), label("next")
		Label(start)
		CMPQ(n, operand.U8(vecs*v.w))
		JL(operand.LabelRef(next))
		block(vecs, nil)
		ADDQ(operand.I32(4*v.w*vecs), a)
		ADDQ(operand.I32(4*v.w*vecs), dst)
		SUBQ(operand.I32(v.w*vecs), n)
		JMP(operand.LabelRef(start))
		Label(next)
	}
	done := label("done")
	TESTQ(n, n)
	JZ(operand.LabelRef(done))
	block(1, v.masksOf(n).at(0))
	Label(done)
	ret()
}

// addRows: dst row r += src row r, rows ld apart.
func (v isa) addRows() {
	v.text("addRows", "func(rows, n int, dst *float32, ldd int, src *float32, lds int)",
		"is dst[r,i] += src[r,i] for rows of n elements that are ldd and lds elements apart; rows > 0.")
	rows, n, dst, ldd, src, lds := gp("rows"), gp("n"), gp("dst"), gp("ldd"), gp("src"), gp("lds")
	SHLQ(operand.Imm(2), ldd)
	SHLQ(operand.Imm(2), lds)
	loop := label("rows")
	Label(loop)
	left := GP64()
	MOVQ(n, left)
	v.loop(left, 4, func(at atFn, mk *mask) {
		v.store(v.add(v.load(at(dst), mk), v.load(at(src), mk)), at(dst), mk)
	})
	ADDQ(ldd, dst)
	ADDQ(lds, src)
	DECQ(rows)
	JNZ(operand.LabelRef(loop))
	ret()
}
