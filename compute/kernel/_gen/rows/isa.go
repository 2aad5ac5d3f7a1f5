package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is what the generators need to know of an instruction set.
type isa struct {
	name   string
	w      int // float32 in a register
	consts *constants
}

// wide says AVX-512.
func (v isa) wide() bool { return v.w == 16 }

// vec is a new virtual register.
func (v isa) vec() reg.VecVirtual {
	if v.wide() {
		return ZMM()
	}
	return YMM()
}

// regs is the number of registers that hold the 64 virtual lanes of a reduction.
func (v isa) regs() int { return 64 / v.w }

// constants is the table of numbers in read-only memory: 4 bytes each where the instruction can repeat them, else a register full.
type constants struct {
	v    isa
	bits []uint32
}

func (c *constants) symbol(name string) Symbol { return Symbol{Name: name, Static: true} }

func (c *constants) addr(bits uint32) Mem {
	at := len(c.bits)
	for i, b := range c.bits {
		if b == bits {
			at = i
		}
	}
	if at == len(c.bits) {
		c.bits = append(c.bits, bits)
	}
	size := 4
	if !c.v.wide() {
		size = 4 * c.v.w
	}
	return NewDataAddr(c.symbol("numbers"+c.v.name), at*size)
}

// write puts the tables into the file.
func (c *constants) write() {
	GLOBL("numbers"+c.v.name, RODATA|NOPTR)
	for i, b := range c.bits {
		if c.v.wide() {
			DATA(4*i, U32(b))
			continue
		}
		for l := range c.v.w {
			DATA(4*(c.v.w*i+l), U32(b))
		}
	}
	if c.v.wide() {
		GLOBL("iota"+c.v.name, RODATA|NOPTR)
		for i := range c.v.w {
			DATA(4*i, U32(i))
		}
	}
	if !c.v.wide() {
		GLOBL("masks"+c.v.name, RODATA|NOPTR) // 64 times -1, 64 times 0
		for i := range 128 {
			v := uint32(math.MaxUint32)
			if i >= 64 {
				v = 0
			}
			DATA(4*i, U32(v))
		}
	}
}

// num is a number in memory as the first source of an instruction.
type num uint32

func f(x float64) num { return num(math.Float32bits(float32(x))) }

// op emits an instruction whose first source may be a number.
func (v isa) op(plain, repeated func(...Op), a any, rest ...Op) {
	switch a := a.(type) {
	case num:
		ops := append([]Op{v.consts.addr(uint32(a))}, rest...)
		if v.wide() {
			repeated(ops...)
		} else {
			plain(ops...)
		}
	case Op:
		plain(append([]Op{a}, rest...)...)
	default:
		panic(fmt.Sprintf("operand %T", a))
	}
}

// set is a register with a number.
func (v isa) set(n num) reg.VecVirtual {
	r := v.vec()
	if v.wide() {
		VBROADCASTSS(v.consts.addr(uint32(n)), r)
	} else {
		VMOVUPS(v.consts.addr(uint32(n)), r)
	}
	return r
}

func (v isa) zero(r reg.VecVirtual) {
	if v.wide() {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

func (v isa) zeros() reg.VecVirtual {
	r := v.vec()
	v.zero(r)
	return r
}

// The arithmetic: a new register each; b may be a register, memory or a number.

func (v isa) two(plain, repeated func(...Op), a reg.VecVirtual, b any) reg.VecVirtual {
	d := v.vec()
	v.op(plain, repeated, b, a, d)
	return d
}

func (v isa) mul(a reg.VecVirtual, b any) reg.VecVirtual { return v.two(VMULPS, VMULPS_BCST, a, b) }
func (v isa) add(a reg.VecVirtual, b any) reg.VecVirtual { return v.two(VADDPS, VADDPS_BCST, a, b) }
func (v isa) sub(a reg.VecVirtual, b any) reg.VecVirtual { return v.two(VSUBPS, VSUBPS_BCST, a, b) }
func (v isa) div(a reg.VecVirtual, b any) reg.VecVirtual { return v.two(VDIVPS, VDIVPS_BCST, a, b) }
func (v isa) and(a reg.VecVirtual, b any) reg.VecVirtual { return v.two(VANDPS, VANDPS_BCST, a, b) }
func (v isa) or(a reg.VecVirtual, b any) reg.VecVirtual  { return v.two(VORPS, VORPS_BCST, a, b) }
func (v isa) xor(a reg.VecVirtual, b any) reg.VecVirtual { return v.two(VXORPS, VXORPS_BCST, a, b) }

func (v isa) sqrt(a reg.VecVirtual) reg.VecVirtual {
	d := v.vec()
	VSQRTPS(a, d)
	return d
}

// max is a > b ? a : b, so b where one of them is NaN; b is a register.
func (v isa) max(a any, b reg.VecVirtual) reg.VecVirtual { return v.extreme(VMAXPS, a, b) }
func (v isa) min(a any, b reg.VecVirtual) reg.VecVirtual { return v.extreme(VMINPS, a, b) }

func (v isa) extreme(ins func(...Op), a any, b reg.VecVirtual) reg.VecVirtual {
	var ra reg.VecVirtual
	switch a := a.(type) {
	case num:
		ra = v.set(a)
	case reg.VecVirtual:
		ra = a
	}
	d := v.vec()
	ins(b, ra, d) // the instruction returns its second source (b) where there is a NaN
	return d
}

// fma231 is z = x·y + z; y may be memory or a number.
func (v isa) fma231(x reg.VecVirtual, y any, z reg.VecVirtual) {
	v.op(VFMADD231PS, VFMADD231PS_BCST, y, x, z)
}

// horner is p = p·x + c; c may be memory or a number.
func (v isa) horner(p, x reg.VecVirtual, c any) { v.op(VFMADD213PS, VFMADD213PS_BCST, c, x, p) }

// poly is ((c0·x + c1)·x + c2)...: the first number may not be the only one.
func (v isa) poly(x reg.VecVirtual, c ...float64) reg.VecVirtual {
	p := v.set(f(c[0]))
	for _, c := range c[1:] {
		v.horner(p, x, f(c))
	}
	return p
}

func (v isa) copy(a reg.VecVirtual) reg.VecVirtual {
	d := v.vec()
	VMOVAPS(a, d)
	return d
}

func (v isa) abs(a reg.VecVirtual) reg.VecVirtual { return v.and(a, num(0x7fffffff)) }
func (v isa) neg(a reg.VecVirtual) reg.VecVirtual { return v.xor(a, num(0x80000000)) }

// bySign is yes where the sign bit of s is set, no elsewhere.
func (v isa) bySign(s, yes, no reg.VecVirtual) reg.VecVirtual {
	d := v.vec()
	if v.wide() {
		k := K()
		VPMOVD2M(s, k)
		VBLENDMPS(yes, no, k, d)
	} else {
		VBLENDVPS(s, yes, no, d)
	}
	return d
}

// Predicates of VCMPPS.
const (
	ltOQ = 17
	gtOQ = 30
	eqOQ = 0
)

// keepIf is a where x <predicate> y, +0 elsewhere.
func (v isa) keepIf(pred uint8, x, y, a reg.VecVirtual) reg.VecVirtual {
	d := v.vec()
	if v.wide() {
		k := K()
		VCMPPS(Imm(uint64(pred)), y, x, k)
		VMOVAPS_Z(a, k, d)
	} else {
		m := v.vec()
		VCMPPS(Imm(uint64(pred)), y, x, m)
		VANDPS(a, m, d)
	}
	return d
}

// selectIf is yes where x <predicate> y, no elsewhere.
func (v isa) selectIf(pred uint8, x, y, yes, no reg.VecVirtual) reg.VecVirtual {
	d := v.vec()
	if v.wide() {
		k := K()
		VCMPPS(Imm(uint64(pred)), y, x, k)
		VBLENDMPS(yes, no, k, d)
	} else {
		m := v.vec()
		VCMPPS(Imm(uint64(pred)), y, x, m)
		VBLENDVPS(m, yes, no, d)
	}
	return d
}

// mask says which lanes of a register are in use. A nil mask: all of them.
type mask struct {
	k reg.OpmaskVirtual
	y reg.VecVirtual
}

func (v isa) load(m Mem, mk *mask) reg.VecVirtual {
	d := v.vec()
	v.loadTo(m, mk, d)
	return d
}

// loadTo leaves +0 in the lanes that are not in use.
func (v isa) loadTo(m Mem, mk *mask, d reg.VecVirtual) {
	switch {
	case mk == nil:
		VMOVUPS(m, d)
	case v.wide():
		VMOVUPS_Z(m, mk.k, d)
	default:
		VMASKMOVPS(m, mk.y, d)
	}
}

func (v isa) store(r reg.VecVirtual, m Mem, mk *mask) {
	switch {
	case mk == nil:
		VMOVUPS(r, m)
	case v.wide():
		VMOVUPS(r, mk.k, m)
	default:
		VMASKMOVPS(r, mk.y, m)
	}
}

// clean puts +0 into the lanes that are not in use.
func (v isa) clean(r reg.VecVirtual, mk *mask) reg.VecVirtual {
	if mk == nil {
		return r
	}
	d := v.vec()
	if v.wide() {
		VMOVAPS_Z(r, mk.k, d)
	} else {
		VANDPS(r, mk.y, d)
	}
	return d
}

// masks are those of a number of elements below 64, one mask for each register.
type masks struct {
	v    isa
	bits reg.GPVirtual // AVX-512: a bit for each element
	base reg.GPVirtual // AVX2: where the masks are in the table
}

// masksOf makes the masks for rem elements, 0 to 64. It clobbers nothing.
func (v isa) masksOf(rem reg.GPVirtual) masks {
	m := masks{v: v}
	if v.wide() {
		m.bits = GP64()
		MOVQ(I64(-1), m.bits)
		BZHIQ(rem, m.bits, m.bits)
		return m
	}
	m.base = GP64()
	LEAQ(NewDataAddr(Symbol{Name: "masks" + v.name, Static: true}, 256), m.base)
	t := GP64()
	MOVQ(rem, t)
	SHLQ(Imm(2), t)
	SUBQ(t, m.base)
	return m
}

// at is the mask of register a.
func (m masks) at(a int) *mask {
	if m.v.wide() {
		k := K()
		if a == 0 {
			KMOVW(m.bits.As32(), k)
		} else {
			t := GP64()
			MOVQ(m.bits, t)
			SHRQ(U8(16*a), t)
			KMOVW(t.As32(), k)
		}
		return &mask{k: k}
	}
	y := m.v.vec()
	VMOVUPS(Mem{Base: m.base, Disp: 32 * a}, y)
	return &mask{y: y}
}

// label makes a name that is new in this file.
func label(what string) string {
	labels++
	return fmt.Sprintf("%s%d", what, labels)
}

var labels int

func (v isa) text(name, sig string, doc ...string) {
	TEXT(name+v.name, NOSPLIT, sig)
	Pragma("noescape")
	for i := range doc {
		if i == 0 {
			doc[i] = name + v.name + " " + doc[i]
		}
	}
	Doc(doc...)
}

func gp(param string) reg.GPVirtual { return Load(Param(param), GP64()).(reg.GPVirtual) }

// ret ends a function.
func ret() {
	VZEROUPPER()
	RET()
}

// broadcast is a register full of a parameter.
func (v isa) broadcast(param string) reg.VecVirtual {
	r := v.vec()
	addr, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(addr.Addr, r) // from the stack frame
	return r
}

// loop calls body for n elements, register by register, several in a row where unroll says so; the last call may have a mask. Elements are at p(i).
// It uses up n.
func (v isa) loop(n reg.GPVirtual, unroll int, body func(at atFn, mk *mask)) {
	v.abreast(n, unroll, func(at []atFn, mk *mask) {
		for _, a := range at {
			body(a, mk)
		}
	})
}

// abreast is loop with one call of body for registers that are worked on side by side: unroll of them, or one at the end.
func (v isa) abreast(n reg.GPVirtual, unroll int, body func(at []atFn, mk *mask)) {
	i := GP64()
	XORL(i.As32(), i.As32())
	var at []atFn
	for u := range unroll {
		at = append(at, func(b reg.GPVirtual) Mem { return Mem{Base: b, Index: i, Scale: 4, Disp: 4 * v.w * u} })
	}
	main, one, tail, done := label("main"), label("one"), label("tail"), label("done")
	if unroll > 1 {
		SUBQ(I32(v.w*unroll), n)
		JL(LabelRef(one + "start"))
		Label(main)
		body(at, nil)
		ADDQ(I32(v.w*unroll), i)
		SUBQ(I32(v.w*unroll), n)
		JGE(LabelRef(main))
		Label(one + "start")
		ADDQ(I32(v.w*unroll), n)
	}
	SUBQ(I32(v.w), n)
	JL(LabelRef(tail))
	Label(one)
	body(at[:1], nil)
	ADDQ(I32(v.w), i)
	SUBQ(I32(v.w), n)
	JGE(LabelRef(one))
	Label(tail)
	ADDQ(I32(v.w), n)
	JZ(LabelRef(done))
	body(at[:1], v.masksOf(n).at(0))
	Label(done)
}

// row calls body for the n elements of a row: element i belongs to accumulator i mod 64 / w. tail are the masks of the last n mod 64 elements, rem
// is n mod 64. i is left behind the last block of 64.
func (v isa) row(i, n, rem reg.GPVirtual, tail masks, body func(a int, at func(base reg.GPVirtual) Mem, mk *mask)) {
	at := func(a int) func(reg.GPVirtual) Mem {
		return func(b reg.GPVirtual) Mem { return Mem{Base: b, Index: i, Scale: 4, Disp: 4 * v.w * a} }
	}
	block, last, done := label("block"), label("last"), label("rowdone")
	full := GP64()
	MOVQ(n, full)
	SUBQ(rem, full)
	XORL(i.As32(), i.As32())
	CMPQ(i, full)
	JGE(LabelRef(last))
	Label(block)
	for a := range v.regs() {
		body(a, at(a), nil)
	}
	ADDQ(U8(64), i)
	CMPQ(i, full)
	JL(LabelRef(block))
	Label(last)
	part := make([]string, v.regs())
	for a := range part {
		part[a] = label("part")
	}
	for a := range part {
		if a == len(part)-1 {
			JMP(LabelRef(part[a]))
			break
		}
		CMPQ(rem, U8((a+1)*v.w))
		JL(LabelRef(part[a]))
		body(a, at(a), nil)
	}
	for a := range part {
		Label(part[a])
		CMPQ(rem, U8(a*v.w))
		JE(LabelRef(done))
		body(a, at(a), tail.at(a))
		if a < len(part)-1 {
			JMP(LabelRef(done))
		}
	}
	Label(done)
}

// accumulators are the 64 virtual lanes, at 0.
func (v isa) accumulators() []reg.VecVirtual {
	s := make([]reg.VecVirtual, v.regs())
	for i := range s {
		s[i] = v.vec()
	}
	return s
}

func (v isa) zeroAll(s []reg.VecVirtual) {
	for _, r := range s {
		v.zero(r)
	}
}

// tree ends a reduction: lane l takes in l+32, then 16, 8, 4, 2, 1. The result is in every lane: all of them do what the first does, with the operands
// swapped.
func (v isa) tree(s []reg.VecVirtual, join func(a, b reg.VecVirtual)) reg.VecVirtual {
	for h := v.regs() / 2; h > 0; h /= 2 {
		for i := range h {
			if i+h < len(s) { // fewer registers: the others hold the neutral value
				join(s[i], s[i+h])
			}
		}
	}
	r, t := s[0], v.vec()
	if v.wide() {
		VSHUFF32X4(Imm(0x4e), r, r, t)
		join(r, t)
		VSHUFF32X4(Imm(0xb1), r, r, t)
	} else {
		VPERM2F128(Imm(0x01), r, r, t)
	}
	join(r, t)
	VPERMILPS(Imm(0x4e), r, t)
	join(r, t)
	VPERMILPS(Imm(0xb1), r, t)
	join(r, t)
	return r
}

func (v isa) sum(s []reg.VecVirtual) reg.VecVirtual {
	return v.tree(s, func(a, b reg.VecVirtual) { VADDPS(b, a, a) })
}
