// Command small writes the assembly of products whose operands lie in the first-level cache: of a side of at most 16, with AVX-512. Nothing is packed, each
// call is one product. Run it with go generate ./compute/kernel.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64,!purego")
	for rows := 1; rows <= 16; rows++ {
		nt(rows)
	}
	for rows := 1; rows <= 16; rows++ {
		nn(rows)
	}
	for k := 1; k <= 16; k++ {
		tn(k)
	}
	Generate()
}

func gp(param string) reg.GPVirtual { return Load(Param(param), GP64()).(reg.GPVirtual) }

// matrix reaches up to 16 rows with a pointer for each five of them: x86 scales an index by 1, 2 and 4.
type matrix struct {
	base    []reg.GPVirtual
	ld, ld3 reg.GPVirtual
}

// matrixOf makes room for the pointers to rows that lie ld bytes apart; begin sets them.
func matrixOf(rows int, ld reg.GPVirtual) matrix {
	m := matrix{ld: ld}
	if rows > 3 {
		m.ld3 = GP64()
		LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, m.ld3)
	}
	for r := 0; r < rows; r += 5 {
		m.base = append(m.base, GP64())
	}
	return m
}

// begin puts the pointers to the rows from p on.
func (m matrix) begin(load func(reg.GPVirtual)) {
	load(m.base[0])
	for i := 1; i < len(m.base); i++ {
		LEAQ(Mem{Base: m.base[i-1], Index: m.ld, Scale: 4}, m.base[i])
		ADDQ(m.ld, m.base[i])
	}
}

func (m matrix) row(i int) Mem {
	a := Mem{Base: m.base[i/5]}
	switch i % 5 {
	case 1, 2, 4:
		a.Index, a.Scale = m.ld, uint8(i%5)
	case 3:
		a.Index, a.Scale = m.ld3, 1
	}
	return a
}

func (m matrix) advance(bytes int) {
	for _, b := range m.base {
		ADDQ(I32(int32(bytes)), b)
	}
}

// zeros are registers at 0. The instruction that zeroes them counts as a read, so that each use of it would be alive from the beginning of the function.
func zeros() func(reg.VecVirtual) {
	z := ZMM()
	VPXORD(z, z, z)
	return func(r reg.VecVirtual) { VMOVAPS(z, r) }
}

// turn4 transposes the 4 x 4 blocks in the four quarters of x: element j of quarter q of result i is element i of quarter q of x[j].
func turn4(x [4]reg.VecVirtual) (y [4]reg.VecVirtual) {
	var t [4]reg.VecVirtual
	for i := range t {
		t[i], y[i] = ZMM(), ZMM()
	}
	VUNPCKLPS(x[1], x[0], t[0])
	VUNPCKHPS(x[1], x[0], t[1])
	VUNPCKLPS(x[3], x[2], t[2])
	VUNPCKHPS(x[3], x[2], t[3])
	VUNPCKLPD(t[2], t[0], y[0])
	VUNPCKHPD(t[2], t[0], y[1])
	VUNPCKLPD(t[3], t[1], y[2])
	VUNPCKHPD(t[3], t[1], y[3])
	return y
}

// columns makes 16 elements of p of 16 rows of w into registers of columns, four of p at a time: result i has element i of p of each row. p goes on to the
// row after them.
func columns(p, ld, ld3 reg.GPVirtual, zero func(reg.VecVirtual), last bool) [4]reg.VecVirtual {
	rows := [4]Mem{{Base: p}, {Base: p, Index: ld, Scale: 1}, {Base: p, Index: ld, Scale: 2}, {Base: p, Index: ld3, Scale: 1}}
	var c, y [4]reg.VecVirtual
	on := func() { LEAQ(Mem{Base: p, Index: ld, Scale: 4}, p) }
	for r := range rows {
		c[r] = ZMM()
		zero(c[r]) // what is written in part counts as alive before
		VMOVUPS(rows[r], c[r].AsX())
	}
	on()
	for r := range rows {
		VINSERTF32X4(Imm(1), rows[r], c[r].AsY(), c[r].AsY())
	}
	on()
	for r := range rows { // an insert into 64 bytes would be slower than one into 32 and a shuffle
		y[r] = YMM()
		VBROADCASTF32X4(rows[r], y[r])
	}
	on()
	for r := range rows {
		VINSERTF32X4(Imm(1), rows[r], y[r], y[r])
		VINSERTF64X4(Imm(1), y[r], c[r], c[r])
	}
	if !last {
		on()
	}
	return turn4(c)
}

// wide says how many panels of 16 columns a product of so many rows makes at once: with two of them, a number of x is read once for two products.
func wide(rows int) int {
	if rows <= 9 {
		return 2
	}
	return 1
}

// nt: the columns of a panel are 16 rows of w, transposed in registers, four of k at a time. The last panel begins 16 before the end: what it makes twice
// has the same bits.
func nt(rows int) {
	name := fmt.Sprintf("smallNT%dAVX512", rows)
	TEXT(name, NOSPLIT, "func(n, k int, x *float32, ldx int, w *float32, ldw int, y *float32, ldy int, bias *float32)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is Y = X·Wᵀ, or Y = bias + X·Wᵀ where bias is not nil, for %d rows of X (k elements, a multiple of 4, not 0) and n rows of W, at", name, rows),
		"least 16. Strides in bytes.")
	frame := AllocLocal(32)
	left, wp, yp, bp := frame, frame.Offset(8), frame.Offset(16), frame.Offset(24)
	for _, p := range []struct {
		name string
		at   Mem
	}{{"n", left}, {"w", wp}, {"y", yp}, {"bias", bp}} {
		MOVQ(gp(p.name), p.at)
	}
	x := matrixOf(rows, gp("ldx"))
	ldw := gp("ldw")
	ldw3 := GP64()
	LEAQ(Mem{Base: ldw, Index: ldw, Scale: 2}, ldw3)
	zero := zeros()
	panel := func(id string, count int) {
		Label("panel" + id)
		acc := make([][]reg.VecVirtual, count)
		for c := range acc {
			acc[c] = make([]reg.VecVirtual, rows)
			for i := range acc[c] {
				acc[c][i] = ZMM()
			}
		}
		b := GP64()
		MOVQ(bp, b)
		TESTQ(b, b)
		JZ(LabelRef("nobias" + id))
		for c := range acc {
			VMOVUPS(Mem{Base: b, Disp: 64 * c}, acc[c][0])
			for _, r := range acc[c][1:] {
				VMOVAPS(acc[c][0], r)
			}
		}
		JMP(LabelRef("started" + id))
		Label("nobias" + id)
		for c := range acc {
			for _, r := range acc[c] {
				zero(r)
			}
		}
		Label("started" + id)
		x.begin(func(r reg.GPVirtual) { Load(Param("x"), r) })
		w, k := GP64(), gp("k")
		MOVQ(wp, w)
		Label("loop" + id)
		p := GP64()
		MOVQ(w, p)
		var cols [][4]reg.VecVirtual
		for c := range count {
			cols = append(cols, columns(p, ldw, ldw3, zero, c == count-1))
		}
		for e := range 4 {
			for i := range rows {
				if count == 1 {
					VFMADD231PS_BCST(x.row(i).Offset(4*e), cols[0][e], acc[0][i])
					continue
				}
				v := ZMM()
				VBROADCASTSS(x.row(i).Offset(4*e), v)
				for c := range acc {
					VFMADD231PS(v, cols[c][e], acc[c][i])
				}
			}
		}
		x.advance(16)
		ADDQ(Imm(16), w)
		SUBQ(Imm(4), k)
		JNZ(LabelRef("loop" + id))
		y, ldy := GP64(), gp("ldy")
		MOVQ(yp, y)
		for i := range rows {
			for c := range acc {
				VMOVUPS(acc[c][i], Mem{Base: y, Disp: 64 * c})
			}
			if i < rows-1 {
				ADDQ(ldy, y)
			}
		}
	}
	// moved leads to the panel that is rest columns further on.
	moved := func(rest reg.GPVirtual, id string) {
		step := GP64()
		MOVQ(rest, step)
		SHLQ(Imm(2), step)
		ADDQ(step, yp)
		CMPQ(bp, Imm(0))
		JE(LabelRef("stay" + id))
		ADDQ(step, bp)
		Label("stay" + id)
		IMULQ(ldw, rest)
		ADDQ(rest, wp)
	}
	if wide(rows) == 2 {
		CMPQ(left, Imm(32))
		JL(LabelRef("panel"))
		panel("two", 2)
		rest := GP64()
		SUBQ(Imm(32), left)
		JZ(LabelRef("done"))
		CMPQ(left, Imm(16))
		JGE(LabelRef("on"))
		MOVQ(left, rest) // the last panel begins 16 before the end
		ADDQ(Imm(16), rest)
		MOVQ(U32(16), left)
		moved(rest, "last")
		JMP(LabelRef("panel"))
		Label("on")
		MOVQ(U32(32), rest)
		moved(rest, "on")
		CMPQ(left, Imm(32))
		JGE(LabelRef("paneltwo"))
	}
	panel("", 1)
	rest := GP64()
	SUBQ(Imm(16), left)
	JZ(LabelRef("done"))
	CMPQ(left, Imm(16))
	JGE(LabelRef("full"))
	MOVQ(left, rest)
	MOVQ(U32(16), left)
	JMP(LabelRef("go"))
	Label("full")
	MOVQ(U32(16), rest)
	Label("go")
	moved(rest, "one")
	JMP(LabelRef("panel"))
	Label("done")
	VZEROUPPER()
	RET()
}

// panels calls body for each 32 (where two is set) or 16 columns of a matrix of n; the last ones may be fewer, and load and store heed that. body is written
// for full panels and for others: what a masked store wrote can't be loaded again at once, so full panels are stored without a mask.
func panels(n reg.GPVirtual, two bool, body func(which string, count int, load func(Mem, reg.VecVirtual), store func(reg.VecVirtual, Mem))) {
	load, store := func(m Mem, r reg.VecVirtual) { VMOVUPS(m, r) }, func(r reg.VecVirtual, m Mem) { VMOVUPS(r, m) }
	if two {
		SUBQ(Imm(32), n)
		JL(LabelRef("ones"))
		Label("pair")
		body("two", 2, load, store)
		SUBQ(Imm(32), n)
		JGE(LabelRef("pair"))
		Label("ones")
		ADDQ(Imm(32), n)
	}
	SUBQ(Imm(16), n)
	JL(LabelRef("tail"))
	Label("panel")
	body("full", 1, load, store)
	SUBQ(Imm(16), n)
	JGE(LabelRef("panel"))
	Label("tail")
	ADDQ(Imm(16), n)
	JZ(LabelRef("done"))
	k, t := K(), GP64()
	XORL(t.As32(), t.As32())
	BTSQ(n, t)
	DECQ(t)
	KMOVW(t.As32(), k)
	body("part", 1, func(m Mem, r reg.VecVirtual) { VMOVUPS_Z(m, k, r) }, func(r reg.VecVirtual, m Mem) { VMOVUPS(r, k, m) })
	Label("done")
	VZEROUPPER()
	RET()
}

// tile is so many rows of one or two registers.
func tile(rows, count int) [][]reg.VecVirtual {
	t := make([][]reg.VecVirtual, rows)
	for i := range t {
		for range count {
			t[i] = append(t[i], ZMM())
		}
	}
	return t
}

// each walks over the rows of a tile in memory.
func each(t [][]reg.VecVirtual, p, ld reg.GPVirtual, f func(m Mem, r reg.VecVirtual)) {
	for i := range t {
		for c, r := range t[i] {
			f(Mem{Base: p, Disp: 64 * c}, r)
		}
		if ld != nil && i < len(t)-1 {
			ADDQ(ld, p)
		}
	}
}

// multiply is t += a·b for a number in memory and the registers of a row.
func multiply(a Mem, b, t []reg.VecVirtual) {
	if len(b) == 1 {
		VFMADD231PS_BCST(a, b[0], t[0])
		return
	}
	v := ZMM()
	VBROADCASTSS(a, v)
	for c := range b {
		VFMADD231PS(v, b[c], t[c])
	}
}

func nn(rows int) {
	name := fmt.Sprintf("smallNN%dAVX512", rows)
	TEXT(name, NOSPLIT, "func(n, k int, x *float32, ldx int, w *float32, ldw int, y *float32, ldy int, acc int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is Y = X·W, or Y += X·W where acc is not 0, for %d rows of X (k elements, not 0) and n columns of W. Strides in bytes.", name, rows))
	n, w, y := gp("n"), gp("w"), gp("y")
	x := matrixOf(rows, gp("ldx"))
	ldw := gp("ldw")
	zero := zeros()
	panels(n, rows <= 13, func(which string, count int, load func(Mem, reg.VecVirtual), store func(reg.VecVirtual, Mem)) {
		acc := tile(rows, count)
		add, p := GP64(), GP64()
		Load(Param("acc"), add)
		TESTQ(add, add)
		JZ(LabelRef("zero" + which))
		MOVQ(y, p)
		each(acc, p, gp("ldy"), load)
		JMP(LabelRef("started" + which))
		Label("zero" + which)
		each(acc, nil, nil, func(_ Mem, r reg.VecVirtual) { zero(r) })
		Label("started" + which)
		x.begin(func(r reg.GPVirtual) { Load(Param("x"), r) })
		k, b := gp("k"), GP64()
		MOVQ(w, b)
		Label("loop" + which)
		row := tile(1, count)
		each(row, b, nil, load)
		for i := range acc {
			multiply(x.row(i), row[0], acc[i])
		}
		x.advance(4)
		ADDQ(ldw, b)
		DECQ(k)
		JNZ(LabelRef("loop" + which))
		MOVQ(y, p)
		each(acc, p, gp("ldy"), func(m Mem, r reg.VecVirtual) { store(r, m) })
		ADDQ(U32(uint32(64*count)), w)
		ADDQ(U32(uint32(64*count)), y)
	})
}

// tn keeps the rows of B in registers and makes eight rows of C at a time, or four of two registers.
func tn(k int) {
	name := fmt.Sprintf("smallTN%dAVX512", k)
	TEXT(name, NOSPLIT, "func(m, n int, a *float32, lda int, b *float32, ldb int, c *float32, ldc int, acc int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s is C = Aᵀ·B, or C += Aᵀ·B where acc is not 0, for %d rows of A (m columns, not 0) and of B (n columns). Strides in bytes.", name, k))
	n, b, c := gp("n"), gp("b"), gp("c")
	a := matrixOf(k, gp("lda"))
	zero := zeros()
	panels(n, k <= 10, func(which string, count int, load func(Mem, reg.VecVirtual), store func(reg.VecVirtual, Mem)) {
		p := GP64()
		MOVQ(b, p)
		bs := tile(k, count)
		each(bs, p, gp("ldb"), load)
		a.begin(func(r reg.GPVirtual) { Load(Param("a"), r) })
		left, to := gp("m"), GP64()
		MOVQ(c, to)
		rows := func(many int) {
			from, add := GP64(), GP64()
			id := fmt.Sprintf("%s%d", which, many)
			s := tile(many, count)
			Load(Param("acc"), add)
			TESTQ(add, add)
			JZ(LabelRef("zero" + id))
			MOVQ(to, from)
			each(s, from, gp("ldc"), load)
			JMP(LabelRef("started" + id))
			Label("zero" + id)
			each(s, nil, nil, func(_ Mem, r reg.VecVirtual) { zero(r) })
			Label("started" + id)
			for t := range bs {
				for i := range s {
					multiply(a.row(t).Offset(4*i), bs[t], s[i])
				}
			}
			ldc := gp("ldc")
			each(s, to, ldc, func(m Mem, r reg.VecVirtual) { store(r, m) })
			ADDQ(ldc, to)
			a.advance(4 * many)
		}
		block := 8 / count
		SUBQ(Imm(uint64(block)), left)
		JL(LabelRef("few" + which))
		Label("block" + which)
		rows(block)
		SUBQ(Imm(uint64(block)), left)
		JGE(LabelRef("block" + which))
		Label("few" + which)
		ADDQ(Imm(uint64(block)), left)
		JZ(LabelRef("end" + which))
		Label("one" + which)
		rows(1)
		DECQ(left)
		JNZ(LabelRef("one" + which))
		Label("end" + which)
		ADDQ(U32(uint32(64*count)), b)
		ADDQ(U32(uint32(64*count)), c)
	})
}
