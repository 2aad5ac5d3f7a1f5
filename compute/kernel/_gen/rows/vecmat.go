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
