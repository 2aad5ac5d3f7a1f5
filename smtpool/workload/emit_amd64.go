//go:build linux && amd64 && !purego

package workload

import "encoding/binary"

// An emitter writes machine code. It knows the few instructions that programs need; Intel SDM vol. 2, chapter 2 describes the prefixes.
//
// Registers: DI frame, SI ids, DX table, R8 pass, R9 sum, R10 scratch, CX iterations; chains in AX, BX, R11, R12, R13, R15, and, where a program has
// no gather, R9 and R10. Vectors 0..11 are the accumulators, 12 is one, 13 is shrink.
type emitter struct {
	b    []byte
	wide bool
}

var chainRegs = [MaxChains]byte{0, 3, 11, 12, 13, 15, 9, 10}

func (e *emitter) raw(b ...byte) { e.b = append(e.b, b...) }

func (e *emitter) raw32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }

func (e *emitter) program(p *Program) {
	mixed := p.ids > 0            // a chain never has an Ahead without a gather
	e.raw(0x48, 0x8B, 0x0F)       // mov rcx, [rdi]
	e.raw(0x48, 0x8B, 0x77, 8)    // mov rsi, [rdi+8]
	e.raw(0x48, 0x8B, 0x57, 16)   // mov rdx, [rdi+16]
	e.raw(0x4C, 0x8B, 0x47, 24)   // mov r8, [rdi+24]
	for k, r := range chainRegs { // mov reg, [rdi+64+8k]
		if k < 6 || !mixed {
			e.raw(0x48|r>>3<<2, 0x8B, 0x47|r&7<<3, byte(64+8*k))
		}
	}
	if mixed {
		e.raw(0x4C, 0x8B, 0x4F, 32) // mov r9, [rdi+32]
	}
	for i := range byte(Accs) {
		e.vload(i, 256+64*uint32(i))
	}
	e.vload(12, 128)
	e.vload(13, 192)
	for len(e.b)%32 != 0 {
		e.raw(0x90)
	}
	top := len(e.b)
	id := uint32(0)
	for _, o := range p.Ops {
		switch o.Kind {
		case DAdd:
			e.vop(1, 0x58, o.Arg, o.Arg, 12)
		case DMul:
			e.vop(1, 0x59, o.Arg, o.Arg, 13)
		case DSub:
			e.vop(1, 0x5C, o.Arg, o.Arg, 12)
		case DFMA:
			e.vop(2, 0xB8, o.Arg, 12, 13) // 231: acc += v12 * v13
		case Gather:
			e.id(4 * id)
			id++
			e.raw(0x4E, 0x03, 0x0C, 0x12) // add r9, [rdx+r10]
		case Scatter:
			e.id(4 * id)
			id++
			e.raw(0x4A, 0x83, 0x44, 0x12, 8, 1) // add qword [rdx+r10+8], 1
		case Prefetch:
			e.id(4 * (id + ahead))
			id++
			e.raw(0x42, 0x0F, 0x18, 0x0C, 0x12) // prefetcht0 [rdx+r10]
		case Ahead:
			e.id(4 * (id + ahead))
			e.raw(0x42, 0x0F, 0x18, 0x0C, 0x12)
		case Chase: // mov reg, [rdx+reg*8]
			r := chainRegs[o.Arg]
			e.raw(0x48|r>>3<<2|r>>3<<1, 0x8B, 0x04|r&7<<3, 3<<6|r&7<<3|2)
		}
	}
	if id > 0 {
		e.raw(0x48, 0x81, 0xC6) // add rsi, 4*id
		e.raw32(4 * id)
	}
	e.raw(0x48, 0xFF, 0xC9) // dec rcx
	e.raw(0x0F, 0x85)       // jnz top
	e.raw32(uint32(top - len(e.b) - 4))
	for i := range byte(Accs) {
		e.vstore(i, 256+64*uint32(i))
	}
	if mixed {
		e.raw(0x4C, 0x89, 0x4F, 32) // mov [rdi+32], r9
	}
	for k, r := range chainRegs {
		if k < 6 || !mixed {
			e.raw(0x48|r>>3<<2, 0x89, 0x47|r&7<<3, byte(64+8*k))
		}
	}
	e.raw(0xC5, 0xF8, 0x77, 0xC3) // vzeroupper; ret
}

// id loads the offset of a row into R10: mov r10d, [rsi+disp]; xor r10, r8.
func (e *emitter) id(disp uint32) {
	e.raw(0x44, 0x8B, 0x96)
	e.raw32(disp)
	e.raw(0x4D, 0x31, 0xC2)
}

// prefix writes VEX (256 bit) or EVEX (512 bit) for op dst, a, b with b a register or memory at DI; space is 1 for 0F, 2 for 0F38. All are 66-prefixed and
// have W set, which EVEX wants for float64.
func (e *emitter) prefix(space, dst, a, b byte) {
	rx := ^dst >> 3 & 1 << 7
	bx := ^b >> 3 & 1 << 5
	if e.wide {
		e.raw(0x62, rx|1<<6|bx|1<<4|space, 1<<7|^a&15<<3|1<<2|1, 2<<5|1<<3)
		return
	}
	e.raw(0xC4, rx|1<<6|bx|space, 1<<7|^a&15<<3|1<<2|1)
}

func (e *emitter) vop(space, op, dst, a, b byte) {
	e.prefix(space, dst, a, b)
	e.raw(op, 0xC0|dst&7<<3|b&7)
}

func (e *emitter) vmem(op, reg byte, disp uint32) {
	e.prefix(1, reg, 0, 7)
	e.raw(op, 0x80|reg&7<<3|7)
	e.raw32(disp) // EVEX scales displacements of 8 bits, not of 32
}

func (e *emitter) vload(reg byte, disp uint32)  { e.vmem(0x10, reg, disp) } // vmovupd reg, [rdi+disp]
func (e *emitter) vstore(reg byte, disp uint32) { e.vmem(0x11, reg, disp) }
