package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// panelCols is the number of vectors in a transposed panel.
const panelCols = 32

func (v isa) zero() reg.VecVirtual {
	r := v.vec()
	if v.lanes == 16 {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
	return r
}

// fma is acc = FMA(*m, x, acc) with the number at m in every lane.
func (v isa) fma(m Mem, x, acc reg.VecVirtual) {
	if v.lanes == 16 {
		VFMADD231PS_BCST(m, x, acc)
		return
	}
	b := v.vec()
	VBROADCASTSS(m, b)
	VFMADD231PS(b, x, acc)
}

// storeFirst stores the first n lanes, 1 to lanes.
func (v isa) storeFirst(r reg.VecVirtual, n reg.GPVirtual, m Mem) {
	t := GP64()
	if v.lanes == 16 {
		MOVQ(I64(-1), t)
		BZHIQ(n, t, t)
		k := K()
		KMOVW(t.As32(), k)
		VMOVUPS(r, k, m)
		return
	}
	LEAQ(NewDataAddr(Symbol{Name: "firstAVX2", Static: true}, 32), t)
	neg := GP64()
	MOVQ(n, neg)
	NEGQ(neg)
	y := YMM()
	VMOVUPS(Mem{Base: t, Index: neg, Scale: 4}, y)
	VMASKMOVPS(r, y, m)
}

// pairDots is the dots of some vectors with those before them.
func (v isa) pairDots() {
	name := "pairDots" + v.name
	TEXT(name, NOSPLIT, "func(c, to, d int, u, t, y *float32, first int)")
	Pragma("noescape")
	Doc(name+" works on rows c to to-1 of a panel of 32 vectors, counted from its first: row c holds the dots of vector u with the min(c, 32) vectors of t,",
		"which lie transposed, 32 a row. Row c is at y, and first is the number of floats from there to the next row.")
	c := Load(Param("c"), GP64()).(reg.GPVirtual)
	to := Load(Param("to"), GP64()).(reg.GPVirtual)
	row := Load(Param("u"), GP64()).(reg.GPVirtual)
	t := Load(Param("t"), GP64()).(reg.GPVirtual)
	y := Load(Param("y"), GP64()).(reg.GPVirtual)
	step := Load(Param("first"), GP64()).(reg.GPVirtual)
	SHLQ(U8(2), step)
	ld, ld3 := GP64(), GP64()
	Load(Param("d"), ld)
	SHLQ(U8(2), ld)
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	ap, ap4, tp, n, end := GP64(), GP64(), GP64(), GP64(), GP64()

	all := panelCols / v.lanes
	for vecs := 1; vecs <= all; vecs++ {
		counts := []int{2, 1} // rows at once: 6 accumulators or more hide the latency of one
		switch vecs {
		case 1:
			counts = []int{8, 4, 2, 1}
		case 2:
			counts = []int{4, 2, 1}
		}
		for k, R := range counts {
			here, loop, skip := fmt.Sprintf("v%dr%d", vecs, R), fmt.Sprintf("v%dr%dloop", vecs, R), fmt.Sprintf("v%dr%dend", vecs, R)
			Label(here)
			LEAQ(Mem{Base: c, Disp: R}, end)
			CMPQ(end, to)
			JG(LabelRef(skip))
			if vecs < all { // rows that have no more dots than this
				CMPQ(end, U32(vecs*v.lanes+1))
				JG(LabelRef(skip))
			}
			acc := make([][]reg.VecVirtual, R)
			for r := range acc {
				for range vecs {
					acc[r] = append(acc[r], v.zero())
				}
			}
			MOVQ(row, ap)
			if R > 4 {
				LEAQ(Mem{Base: row, Index: ld, Scale: 4}, ap4)
			}
			MOVQ(t, tp)
			Load(Param("d"), n)
			Label(loop)
			var at []Mem
			for _, b := range []reg.GPVirtual{ap, ap4} {
				at = append(at, Mem{Base: b}, Mem{Base: b, Index: ld, Scale: 1}, Mem{Base: b, Index: ld, Scale: 2}, Mem{Base: b, Index: ld3, Scale: 1})
			}
			var cols []reg.VecVirtual
			for i := range vecs {
				x := v.vec()
				VMOVUPS(Mem{Base: tp, Disp: 4 * v.lanes * i}, x)
				cols = append(cols, x)
			}
			for r := range R {
				if vecs == 1 {
					v.fma(at[r], cols[0], acc[r][0])
					continue
				}
				b := v.vec()
				VBROADCASTSS(at[r], b)
				for i := range vecs {
					VFMADD231PS(b, cols[i], acc[r][i])
				}
			}
			ADDQ(U32(4*panelCols), tp)
			ADDQ(U8(4), ap)
			if R > 4 {
				ADDQ(U8(4), ap4)
			}
			DECQ(n)
			JNZ(LabelRef(loop))
			for r := range R {
				for i := range vecs - 1 {
					VMOVUPS(acc[r][i], Mem{Base: y, Disp: 4 * v.lanes * i})
				}
				rem := GP64()
				LEAQ(Mem{Base: c, Disp: r - (vecs-1)*v.lanes}, rem)
				if vecs == all {
					most := GP64()
					MOVQ(U32(v.lanes), most)
					CMPQ(rem, most)
					CMOVQGT(most, rem)
				}
				v.storeFirst(acc[r][vecs-1], rem, Mem{Base: y, Disp: 4 * v.lanes * (vecs - 1)})
				ADDQ(step, y)
				ADDQ(U8(4), step)
				ADDQ(ld, row)
			}
			MOVQ(end, c)
			JMP(LabelRef(here))
			Label(skip)
			if k == len(counts)-1 && vecs == all {
				VZEROUPPER()
				RET()
			}

		}
	}
	if v.lanes == 8 {
		GLOBL("firstAVX2", RODATA|NOPTR)
		for i := range 16 {
			x := U32(0xffffffff)
			if i >= 8 {
				x = 0
			}
			DATA(4*i, x)
		}
	}
}

// pairBlock is the number of vectors whose gradients are made at once.
const pairBlock = 8

// pairDotsBackward is the gradient of pairDots for one register of columns.
func (v isa) pairDotsBackward() {
	name := "pairDotsBackward" + v.name
	TEXT(name, NOSPLIT, "func(f, ld int, dy, u, du0, du *float32)")
	Pragma("noescape")
	Doc(name + fmt.Sprintf(" makes %d columns of the gradients of f vectors, which lie ld floats apart: that of the first goes to du0, the others to du.", v.lanes))
	f := Load(Param("f"), GP64()).(reg.GPVirtual)
	ud := Load(Param("ld"), GP64()).(reg.GPVirtual)
	base := Load(Param("dy"), GP64()).(reg.GPVirtual) // row i0 of dy
	out := Load(Param("du"), GP64()).(reg.GPVirtual)
	SHLQ(U8(2), ud)
	SUBQ(ud, out)
	none := v.zero()
	i0, i3, p0, p4, up, n, q, step := GP64(), GP64(), GP64(), GP64(), GP64(), GP64(), GP64(), GP64()
	XORQ(i0, i0)
	Label("block")
	MOVQ(f, n)
	SUBQ(i0, n)
	for R := range pairBlock {
		CMPQ(n, U8(R))
		JE(LabelRef(fmt.Sprintf("rows%d", R)))
	}
	for R := pairBlock; R > 0; R-- {
		l := func(s string) string { return fmt.Sprintf("rows%d%s", R, s) }
		Label(l(""))
		acc := make([]reg.VecVirtual, R)
		for r := range acc {
			acc[r] = v.zero()
		}
		LEAQ(Mem{Base: i0, Index: i0, Scale: 2}, i3)
		MOVQ(base, p0)
		MOVQ(i0, p4)
		SHLQ(U8(4), p4)
		LEAQ(Mem{Base: base, Index: p4, Scale: 1, Disp: 24}, p4)
		Load(Param("u"), up)
		// dy of row i0+r, column +c: rows grow by one element each.
		at := func(r, c int) Mem {
			b, k, from := p0, r, 0
			if r >= 4 {
				b, k, from = p4, r-4, 6
			}
			m := Mem{Base: b, Disp: 4 * (r*(r-1)/2 - from + c)}
			switch k {
			case 1:
				m.Index, m.Scale = i0, 4
			case 2:
				m.Index, m.Scale = i0, 8
			case 3:
				m.Index, m.Scale = i3, 4
			}
			return m
		}
		x := v.vec()
		MOVQ(i0, n)
		TESTQ(n, n)
		JZ(LabelRef(l("square")))
		Label(l("before"))
		VMOVUPS(Mem{Base: up}, x)
		for r := range R {
			v.fma(at(r, 0), x, acc[r])
		}
		ADDQ(U8(4), p0)
		ADDQ(U8(4), p4)
		ADDQ(ud, up)
		DECQ(n)
		JNZ(LabelRef(l("before")))
		Label(l("square"))
		for c := range R {
			x := v.vec()
			VMOVUPS(Mem{Base: up}, x)
			for r := range R {
				switch {
				case r > c:
					v.fma(at(r, c), x, acc[r])
				case r == c:
					VFMADD231PS(none, x, acc[r])
				default:
					v.fma(at(c, r), x, acc[r])
				}
			}
			ADDQ(ud, up)
		}
		if R == pairBlock {
			LEAQ(Mem{Base: i0, Disp: R}, step)
			MOVQ(f, n)
			SUBQ(step, n)
			JZ(LabelRef(l("store")))
			SHLQ(U8(2), step)
			LEAQ(Mem{Base: p4, Index: i0, Scale: 8, Disp: 88}, q)
			LEAQ(Mem{Base: q, Index: i0, Scale: 8}, q)
			Label(l("after"))
			x := v.vec()
			VMOVUPS(Mem{Base: up}, x)
			for r := range R {
				v.fma(Mem{Base: q, Disp: 4 * r}, x, acc[r])
			}
			ADDQ(step, q)
			ADDQ(U8(4), step)
			ADDQ(ud, up)
			DECQ(n)
			JNZ(LabelRef(l("after")))
		}
		Label(l("store"))
		for r := range R {
			if r == 0 {
				to := GP64()
				MOVQ(out, to)
				TESTQ(i0, i0)
				JNZ(LabelRef(l("other")))
				Load(Param("du0"), to)
				Label(l("other"))
				VMOVUPS(acc[r], Mem{Base: to})
			} else {
				VMOVUPS(acc[r], Mem{Base: out})
			}
			ADDQ(ud, out)
		}
		if R == pairBlock {
			MOVQ(i0, n)
			SHLQ(U8(5), n)
			LEAQ(Mem{Base: base, Index: n, Scale: 1, Disp: 112}, base)
			ADDQ(U8(pairBlock), i0)
			JMP(LabelRef("block"))
		} else if R > 1 {
			JMP(LabelRef("rows0"))
		}
	}
	Label("rows0")
	VZEROUPPER()
	RET()
}

// sumRows sums rows by lists of them.
func (v isa) sumRows() {
	name := "sumRows" + v.name
	TEXT(name, NOSPLIT, "func(n, vecs int, starts, order *int32, x, dst *float32)")
	Pragma("noescape")
	Doc(name + fmt.Sprintf(" is dst[i] = 0 + x[order[starts[i]]] + ... + x[order[starts[i+1]-1]] for n rows of vecs blocks of %d.", v.lanes))
	n := Load(Param("n"), GP64())
	vecs := Load(Param("vecs"), GP64())
	starts := Load(Param("starts"), GP64())
	order := Load(Param("order"), GP64())
	x := Load(Param("x"), GP64())
	dst := Load(Param("dst"), GP64())
	size := GP64()
	IMUL3Q(U32(4*v.lanes), vecs, size)
	off, p, end, at := GP64(), GP64(), GP64(), GP64()
	Label("row")
	XORQ(off, off)
	Label("vec")
	MOVLQSX(Mem{Base: starts}, p)
	MOVLQSX(Mem{Base: starts, Disp: 4}, end)
	acc := v.zero()
	Label("one")
	MOVLQSX(Mem{Base: order, Index: p, Scale: 4}, at)
	IMULQ(size, at)
	ADDQ(x, at)
	VADDPS(Mem{Base: at, Index: off, Scale: 1}, acc, acc)
	INCQ(p)
	CMPQ(p, end)
	JL(LabelRef("one"))
	VMOVUPS(acc, Mem{Base: dst})
	ADDQ(U8(4*v.lanes), dst)
	ADDQ(U8(4*v.lanes), off)
	CMPQ(off, size)
	JL(LabelRef("vec"))
	ADDQ(U8(4), starts)
	DECQ(n)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}
