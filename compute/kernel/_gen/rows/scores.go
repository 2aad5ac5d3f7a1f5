package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// maxHead is the largest head whose transposed keys stay in the frame of a function that does not grow the stack.
const maxHead = 8

// scores is attention's product with the transposed keys (or, backward, values) and the softmax behind it, for at most 16 positions: a row of scores is
// one register and stays there.
func (v isa) scores(backward bool) {
	if backward {
		v.text("scoresBackward", "func(t, hs, n, step, ld, ldg int, datt, grad, v, att *float32, scale float32)",
			"is the loop that ScoresBackward gives, for one head: t at most 16, hs 4 or 8. Row 0 has n elements in use, each other row step more.")
	} else {
		v.text("scores", "func(t, hs, n, step, ld, ldg int, att, q, k *float32, scale float32)",
			"is the loop that Scores gives, for one head: t at most 16, hs 4 or 8. Row 0 has n elements in use, each other row step more; rows of q lie ldg apart.")
	}
	frame := AllocLocal(64*maxHead + 64)
	t, hs, n, step, ld, ldg := gp("t"), gp("hs"), gp("n"), gp("step"), gp("ld"), gp("ldg")
	var y, a, b, att reg.GPVirtual
	if backward {
		y, a, b, att = gp("datt"), gp("grad"), gp("v"), gp("att")
	} else {
		y, a, b = gp("att"), gp("q"), gp("k")
	}
	scale := v.broadcast("scale")
	SHLQ(operand.Imm(2), ldg)
	cols, colBits := K(), v.masksOf(t)
	KMOVW(colBits.bits.As32(), cols)
	// The transpose: element p of every position.
	bt := GP64()
	LEAQ(frame.Offset(63), bt)
	ANDQ(operand.I8(-64), bt)
	index := v.vec()
	VPBROADCASTD(ld.As32(), index)
	VPMULLD(operand.NewDataAddr(operand.Symbol{Name: "iota" + v.name, Static: true}, 0), index, index)
	p, to := GP64(), GP64()
	MOVQ(hs, p)
	MOVQ(bt, to)
	gather := label("gather")
	Label(gather)
	r, k := v.zeros(), K()
	KMOVW(cols, k)
	VGATHERDPS(operand.Mem{Base: b, Index: index, Scale: 4}, k, r)
	VMOVAPS(r, operand.Mem{Base: to})
	ADDQ(operand.Imm(4), b)
	ADDQ(operand.Imm(64), to)
	DECQ(p)
	JNZ(operand.LabelRef(gather))

	width, rows := GP64(), GP64()
	MOVQ(t, width)
	SHLQ(operand.Imm(2), width)
	MOVQ(t, rows)
	loop, multiplied := label("rows"), label("multiplied")
	Label(loop)
	mk := v.masksOf(n).at(0)
	acc := v.zeros()
	multiply := func(from int) {
		for i := range 4 {
			at := v.load(operand.Mem{Base: bt, Disp: 64 * (from + i)}, nil)
			VFMADD231PS_BCST(operand.Mem{Base: a, Disp: 4 * (from + i)}, at, acc)
		}
	}
	multiply(0)
	CMPQ(hs, operand.Imm(4))
	JE(operand.LabelRef(multiplied))
	multiply(4)
	Label(multiplied)
	if backward {
		d := v.clean(acc, mk)
		w := v.load(operand.Mem{Base: att}, mk)
		s := v.zeros()
		VFMADD231PS(d, w, s)
		sum := v.add(v.sum([]vector{s}), v.zeros()) // -0, which may be the sum here, is +0 with the empty lanes
		v.store(v.clean(v.mul(v.mul(w, scale), v.sub(d, sum)), mk), operand.Mem{Base: y}, &mask{k: cols})
		ADDQ(width, att)
	} else {
		e := v.mul(acc, scale)
		top := v.set(num(0xff800000))
		v.greater(e, top, mk)
		m := v.tree([]vector{top}, func(a, b vector) { VMAXPS(b, a, a) })
		e = v.clean(v.expLow(v.sub(e, m)), mk)
		inv := v.scalarDiv(v.sum([]vector{v.copy(e)}))
		v.store(v.clean(v.mul(e, inv), mk), operand.Mem{Base: y}, &mask{k: cols})
	}
	ADDQ(step, n)
	ADDQ(ldg, a)
	ADDQ(width, y)
	DECQ(rows)
	JNZ(operand.LabelRef(loop))
	ret()
}
