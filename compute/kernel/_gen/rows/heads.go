package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Attention for four heads of four channels at once, at most 16 positions. A register holds, for one position that is looked at, the scores of four
// positions that look, of each head: quarter h, element r. So the sums over positions go from register to register instead of across one.

// turn4 transposes the 4 x 4 blocks in the four quarters of x: element j of quarter q of result i is element i of quarter q of x[j].
func turn4(x [4]vector) (y [4]vector) {
	var t [4]vector
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

// lane is element r of each quarter, four times.
func lane(x vector, r int) vector {
	d := ZMM()
	VPERMILPS(operand.U8(r*0x55), x, d)
	return d
}

func param(name string) operand.Mem {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// line is the i-th register in a buffer.
func line(buf reg.GPVirtual, i int) operand.Mem { return operand.Mem{Base: buf, Disp: 64 * i} }

// heads is both functions; what they share is here.
type heads struct {
	isa
	zero, scale vector
	bufs        []reg.GPVirtual // of 16 registers each
	t, ld, t4   reg.GPVirtual   // positions; bytes between rows; bytes of a row of att
	r0, last    reg.GPVirtual   // first of the positions that look; the end of those that are looked at
	masks       reg.GPVirtual   // of position r0
	att         reg.GPVirtual
	causal, hs  operand.Mem // bytes of the att of a head
	s           reg.GPVirtual
}

func (v isa) newHeads(name, sig string, buffers int, doc ...string) *heads {
	TEXT(name+v.name, 0, sig)
	Pragma("noescape")
	doc[0] = name + v.name + " " + doc[0]
	Doc(doc...)
	h := &heads{isa: v}
	frame := AllocLocal(64*16*buffers + 64 + 8)
	h.hs = frame.Offset(64*16*buffers + 64)
	buf := GP64()
	LEAQ(frame.Offset(63), buf)
	ANDQ(operand.I8(-64), buf)
	h.bufs = append(h.bufs, buf)
	for i := 1; i < buffers; i++ {
		b := GP64()
		LEAQ(operand.Mem{Base: buf, Disp: 1024 * i}, b)
		h.bufs = append(h.bufs, b)
	}
	h.t, h.ld, h.t4, h.r0, h.last, h.masks, h.s = gp("t"), gp("ld"), GP64(), GP64(), GP64(), GP64(), GP64()
	h.att = gp("att")
	SHLQ(operand.Imm(2), h.ld)
	MOVQ(h.t, h.t4)
	SHLQ(operand.Imm(2), h.t4)
	MOVQ(h.t4, h.s)
	IMULQ(h.t, h.s)
	MOVQ(h.s, h.hs)
	XORL(h.r0.As32(), h.r0.As32())
	h.causal = param("causal")
	h.zero = v.zeros()
	h.scale = v.broadcast("scale")
	return h
}

// groups calls body for each four positions that look, the last ones perhaps fewer.
func (h *heads) groups(body func(rows int)) {
	Label("group")
	left := GP64()
	MOVQ(h.t, left)
	SUBQ(h.r0, left)
	for rows := 1; rows < 4; rows++ {
		CMPQ(left, operand.Imm(uint64(rows)))
		JE(operand.LabelRef(label0("rows", rows)))
	}
	for rows := 4; rows > 0; rows-- {
		Label(label0("rows", rows))
		h.begin(rows)
		body(rows)
		if rows == 4 {
			ADDQ(operand.Imm(4), h.r0)
			LEAQ(operand.Mem{Base: h.att, Index: h.t4, Scale: 4}, h.att)
			CMPQ(h.r0, h.t)
			JL(operand.LabelRef("group"))
		}
		ret()
	}
}

func label0(what string, n int) string { return what + string(rune('0'+n)) }

// begin finds how many positions are looked at, and where their masks are.
func (h *heads) begin(rows int) {
	all, set := label("all"), label("set")
	table := operand.NewDataAddr(operand.Symbol{Name: "causal" + h.name, Static: true}, 0)
	t := GP64()
	CMPQ(h.causal, operand.Imm(0))
	JE(operand.LabelRef(all))
	LEAQ(operand.Mem{Base: h.r0, Disp: rows}, h.last)
	LEAQ(table.Offset(2*27), h.masks)
	JMP(operand.LabelRef(set))
	Label(all)
	MOVQ(h.t, h.last)
	LEAQ(table.Offset(2*12), h.masks)
	Label(set)
	MOVQ(h.r0, t)
	ADDQ(t, t)
	SUBQ(t, h.masks)
}

// causalMasks: the entry for s is at 27+s-r0 where a position sees those before it, and at 12+s-r0 where it sees all.
func (v isa) causalMasks() {
	GLOBL("causal"+v.name, 8|16) // RODATA|NOPTR
	for i := range 44 {
		m := uint16(0xffff)
		if d := i - 27; d > 3 {
			m = 0
		} else if d > 0 {
			m = 0x1111 * (0xf << d & 0xf)
		}
		DATA(2*i, operand.U16(m))
	}
}

// loop calls body for s from 0 to below end. Buffers are at line(buf), pointers go on by ld, each from its parameter.
func (h *heads) loop(end reg.GPVirtual, bufs []int, params []string, body func(buf, p []operand.Mem, mk *mask)) {
	XORL(h.s.As32(), h.s.As32())
	off := GP64()
	XORL(off.As32(), off.As32())
	var bs, ps []operand.Mem
	for _, b := range bufs {
		bs = append(bs, operand.Mem{Base: h.bufs[b], Index: off, Scale: 1})
	}
	for _, name := range params {
		ps = append(ps, operand.Mem{Base: gp(name)})
	}
	again := label("s")
	Label(again)
	k := K()
	KMOVW(operand.Mem{Base: h.masks, Index: h.s, Scale: 2}, k)
	body(bs, ps, &mask{k: k})
	ADDQ(operand.Imm(64), off)
	for _, p := range ps {
		ADDQ(h.ld, p.Base)
	}
	INCQ(h.s)
	CMPQ(h.s, end)
	JL(operand.LabelRef(again))
}

// four loads rows of 16; those that are not there are 0.
func (h *heads) four(p reg.GPVirtual, ld reg.GPVirtual, rows int) (x [4]vector) {
	at := GP64()
	MOVQ(p, at)
	for i := range x {
		if i >= rows {
			x[i] = h.zero
			continue
		}
		x[i] = h.load(operand.Mem{Base: at}, nil)
		if i < rows-1 {
			ADDQ(ld, at)
		}
	}
	return x
}

// product is the sum over the four channels of those who look times the row x.
func (h *heads) product(x vector, by [4]vector) vector {
	acc := h.copy(h.zero)
	for j := range by {
		VFMADD231PS(lane(x, j), by[j], acc)
	}
	return acc
}

// tree is the sum over the positions in a buffer, in the order of a reduction in 64 lanes.
func (h *heads) tree(buf reg.GPVirtual) vector {
	short, done, sum := label("short"), label("summed"), ZMM()
	add := func(l, n int) vector { // lane l of the first n
		var f func(l, half int) vector
		f = func(l, half int) vector {
			if half == n {
				return h.load(line(buf, l), nil)
			}
			a, b := f(l, half*2), f(l+half, half*2)
			return h.add(a, b)
		}
		return f(l, 1)
	}
	CMPQ(h.t, operand.Imm(8))
	JLE(operand.LabelRef(short))
	VMOVAPS(add(0, 16), sum)
	JMP(operand.LabelRef(done))
	Label(short)
	VMOVAPS(add(0, 8), sum)
	Label(done)
	return h.add(sum, h.zero) // -0, which may be the sum here, is +0 with the empty lanes
}

// blocks calls body for each four positions that are looked at, the last four perhaps twice: s is four times where they begin.
func (h *heads) blocks(body func(s reg.GPVirtual)) {
	s, end, again := GP64(), GP64(), label("block")
	XORL(s.As32(), s.As32())
	LEAQ(operand.Mem{Base: h.t4, Disp: -16}, end)
	Label(again)
	body(s)
	last := label("lastblock")
	CMPQ(s, end)
	JGE(operand.LabelRef(last))
	ADDQ(operand.Imm(16), s)
	CMPQ(s, end)
	CMOVQGT(end, s)
	JMP(operand.LabelRef(again))
	Label(last)
}

// quarters calls f with the place of the block at s of att for each head and position that looks.
func (h *heads) quarters(s reg.GPVirtual, rows int, f func(head, r int, m operand.Mem)) {
	p, t12 := GP64(), GP64()
	LEAQ(operand.Mem{Base: h.att, Index: s, Scale: 1}, p)
	LEAQ(operand.Mem{Base: h.t4, Index: h.t4, Scale: 2}, t12)
	for head := range 4 {
		for r := range rows {
			m := operand.Mem{Base: p}
			switch r {
			case 1, 2:
				m.Index, m.Scale = h.t4, uint8(r)
			case 3:
				m.Index, m.Scale = t12, 1
			}
			f(head, r, m)
		}
		if head < 3 {
			ADDQ(h.hs, p)
		}
	}
}

func (h *heads) clear(buf reg.GPVirtual) {
	for i := range 16 {
		VMOVAPS(h.zero, line(buf, i))
	}
}

func (v isa) attend() {
	h := v.newHeads("heads", "func(t, causal, ld, ldc int, att, ctx, q, k, v *float32, scale float32)", 1,
		"is the loop that Heads gives for four heads of four channels, t from 4 to 16.")
	buf := h.bufs[0]
	q, ctx := gp("q"), gp("ctx")
	h.groups(func(rows int) {
		h.clear(buf)
		by := turn4(h.four(q, h.ld, rows))
		top := h.set(num(0xff800000))
		h.loop(h.last, []int{0}, []string{"k"}, func(b, p []operand.Mem, mk *mask) {
			z := h.mul(h.product(h.load(p[0], nil), by), h.scale)
			h.greater(z, top, mk)
			VMOVAPS(z, b[0])
		})
		h.loop(h.last, []int{0}, nil, func(b, _ []operand.Mem, mk *mask) {
			VMOVAPS(h.clean(h.expLow(h.sub(h.load(b[0], nil), top)), mk), b[0])
		})
		inv := h.div(h.set(f(1)), h.tree(buf))
		acc := make([]vector, rows)
		for r := range acc {
			acc[r] = h.copy(h.zero)
		}
		h.loop(h.t, []int{0}, []string{"v"}, func(b, p []operand.Mem, mk *mask) {
			w := h.clean(h.mul(inv, b[0]), mk)
			VMOVAPS(w, b[0])
			x := h.load(p[0], nil)
			for r := range acc {
				VFMADD231PS(lane(w, r), x, acc[r])
			}
		})
		ldc := gp("ldc")
		for r := range acc { // past the last one is the first of the next group
			VMOVUPS(acc[r], operand.Mem{Base: ctx})
			LEAQ(operand.Mem{Base: ctx, Index: ldc, Scale: 4}, ctx)
		}
		LEAQ(operand.Mem{Base: q, Index: h.ld, Scale: 4}, q)
		h.blocks(func(s reg.GPVirtual) {
			var x [4]vector
			at := GP64()
			MOVQ(s, at)
			SHLQ(operand.Imm(4), at)
			for i := range x {
				x[i] = h.load(operand.Mem{Base: buf, Index: at, Scale: 1, Disp: 64 * i}, nil)
			}
			y := turn4(x)
			h.quarters(s, rows, func(head, r int, m operand.Mem) {
				if head == 0 {
					VMOVUPS(y[r].AsX(), m)
				} else {
					VEXTRACTF32X4(operand.Imm(uint64(head)), y[r], m)
				}
			})
		})
	})
}

func (v isa) attendBackward() {
	h := v.newHeads("headsBackward", "func(t, causal, ld, ldg int, dq, dk, dv, grad, q, k, v, att *float32, scale float32)", 3,
		"is the loop that HeadsBackward gives for four heads of four channels, t from 4 to 16.")
	att, d, tmp := h.bufs[0], h.bufs[1], h.bufs[2]
	// Sums over those who look start at 0.
	clear, pk, pv := label("clear"), gp("dk"), gp("dv")
	MOVQ(h.t, h.s)
	Label(clear)
	VMOVUPS(h.zero, operand.Mem{Base: pk})
	VMOVUPS(h.zero, operand.Mem{Base: pv})
	ADDQ(h.ld, pk)
	ADDQ(h.ld, pv)
	DECQ(h.s)
	JNZ(operand.LabelRef(clear))
	h.groups(func(rows int) {
		h.clear(d)
		h.clear(tmp)
		h.blocks(func(s reg.GPVirtual) {
			x := [4]vector{h.zero, h.zero, h.zero, h.zero}
			for r := range rows {
				x[r] = ZMM()
			}
			h.quarters(s, rows, func(head, r int, m operand.Mem) {
				if head == 0 {
					VMOVUPS(m, x[r].AsX())
				} else {
					VINSERTF32X4(operand.Imm(uint64(head)), m, x[r], x[r])
				}
			})
			at := GP64()
			MOVQ(s, at)
			SHLQ(operand.Imm(4), at)
			for i, y := range turn4(x) {
				VMOVAPS(y, operand.Mem{Base: att, Index: at, Scale: 1, Disp: 64 * i})
			}
		})
		row := func(name, by string) (x [4]vector) { // the rows of this group
			p, ld := gp(name), h.ld
			if by != "ld" {
				ld = gp(by)
				SHLQ(operand.Imm(2), ld)
			}
			t := GP64()
			MOVQ(h.r0, t)
			IMULQ(ld, t)
			ADDQ(t, p)
			return h.four(p, ld, rows)
		}
		g := row("grad", "ldg")
		by := turn4(g)
		h.loop(h.last, []int{0, 1, 2}, []string{"v"}, func(b, p []operand.Mem, mk *mask) {
			x := h.clean(h.product(h.load(p[0], nil), by), mk)
			VMOVAPS(x, b[1])
			e := h.copy(h.zero)
			VFMADD231PS(b[0], x, e)
			VMOVAPS(h.clean(e, mk), b[2])
		})
		sum := h.tree(tmp)
		q := row("q", "ld")
		dq := make([]vector, rows)
		for r := range dq {
			dq[r] = h.copy(h.zero)
		}
		h.loop(h.t, []int{0, 1}, []string{"k", "dk", "dv"}, func(b, p []operand.Mem, mk *mask) {
			w := h.load(b[0], nil)
			ds := h.clean(h.mul(h.mul(w, h.scale), h.sub(h.load(b[1], nil), sum)), mk)
			k, dk, dv := h.load(p[0], nil), h.load(p[1], nil), h.load(p[2], nil)
			for r := range dq {
				VFMADD231PS(lane(w, r), g[r], dv)
				c := lane(ds, r)
				VFMADD231PS(c, k, dq[r])
				VFMADD231PS(c, q[r], dk)
			}
			VMOVUPS(dk, p[1])
			VMOVUPS(dv, p[2])
		})
		p, t := gp("dq"), GP64()
		MOVQ(h.r0, t)
		IMULQ(h.ld, t)
		ADDQ(t, p)
		for r := range dq {
			VMOVUPS(dq[r], operand.Mem{Base: p})
			if r < rows-1 {
				ADDQ(h.ld, p)
			}
		}
	})
	v.causalMasks()
}
