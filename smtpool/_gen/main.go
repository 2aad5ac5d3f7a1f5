// Command gen writes the loops of package smtpool/ruler. Each presses one resource of a core and leaves the others alone. Run it with
// go generate ./smtpool/ruler. Nothing in here waits: a call ends after the iterations that it was asked for.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64,!purego")
	chain("chainAdd", "n times 32 additions, each of which needs the one before: one cycle each.", func(a, b reg.GPVirtual) { ADDQ(b, a) })
	chain("chainMul", "n times 32 multiplications, each of which needs the one before: three cycles each.", func(a, b reg.GPVirtual) { IMULQ(b, a) })
	multiply()
	mask()
	permute()
	fma("fmaZMM", ZMM, 16)
	fma("fmaYMM", YMM, 12)
	loads()
	stores()
	issue()
	stream()
	misses()
	for _, k := range []int{1, 2, 3, 4, 6, 8, 10, 12} {
		chase(k)
	}
	Generate()
}

// loop repeats body n times, n above 0.
func loop(n reg.Register, body func()) {
	Label("loop")
	body()
	DECQ(n)
	JNZ(LabelRef("loop"))
}

func chain(name, doc string, op func(a, b reg.GPVirtual)) {
	TEXT(name, NOSPLIT, "func(n int)")
	Doc(name + " does " + doc)
	n := Load(Param("n"), GP64())
	a, b := GP64(), GP64()
	MOVQ(U32(3), a)
	MOVQ(U32(5), b)
	loop(n, func() {
		for range 32 {
			op(a, b)
		}
	})
	RET()
}

func multiply() {
	TEXT("multiply", NOSPLIT, "func(n int)")
	Doc("multiply does n times 32 64-bit multiplications that need nothing of each other: port 1 of Intel's cores.")
	n := Load(Param("n"), GP64())
	a := GP64()
	MOVQ(U32(3), a)
	var d []reg.GPVirtual
	for range 8 {
		d = append(d, GP64())
	}
	loop(n, func() {
		for i := range 32 {
			IMUL3Q(U32(0x12345), a, d[i%8])
		}
	})
	RET()
}

func mask() {
	TEXT("mask", NOSPLIT, "func(n int)")
	Doc("mask does n times 32 VMOVMSKPS: port 0 of Intel's cores.")
	n := Load(Param("n"), GP64())
	y := YMM()
	VXORPS(y, y, y)
	var d []reg.GPVirtual
	for range 8 {
		d = append(d, GP32())
	}
	loop(n, func() {
		for i := range 32 {
			VMOVMSKPS(y, d[i%8])
		}
	})
	VZEROUPPER()
	RET()
}

func permute() {
	TEXT("permute", NOSPLIT, "func(n int)")
	Doc("permute does n times 32 shuffles that cross the lanes of a register (VPERMD): port 5 of Intel's cores.")
	n := Load(Param("n"), GP64())
	y, idx := YMM(), YMM()
	VXORPS(y, y, y)
	VXORPS(idx, idx, idx)
	var d []reg.VecVirtual
	for range 8 {
		d = append(d, YMM())
	}
	loop(n, func() {
		for i := range 32 {
			VPERMD(y, idx, d[i%8])
		}
	})
	VZEROUPPER()
	RET()
}

func fma(name string, vec func() reg.VecVirtual, accs int) {
	TEXT(name, NOSPLIT, "func(n int)")
	Doc(fmt.Sprintf("%s does n times %d fused multiply-adds on accumulators of their own.", name, 2*accs))
	n := Load(Param("n"), GP64())
	x, y := vec(), vec()
	acc := make([]reg.VecVirtual, accs)
	for i := range acc {
		acc[i] = vec()
	}
	for _, r := range append(acc, x, y) {
		if name == "fmaZMM" {
			VPXORD(r, r, r)
		} else {
			VXORPS(r, r, r)
		}
	}
	loop(n, func() {
		for range 2 {
			for _, a := range acc {
				VFMADD231PS(x, y, a)
			}
		}
	})
	VZEROUPPER()
	RET()
}

func loads() {
	TEXT("loads", NOSPLIT, "func(n int, buf *uint64)")
	Pragma("noescape")
	Doc("loads does n times 32 loads of 8 bytes from the 256 bytes at buf.")
	n := Load(Param("n"), GP64())
	p := Load(Param("buf"), GP64())
	var d []reg.GPVirtual
	for range 8 {
		d = append(d, GP64())
	}
	loop(n, func() {
		for i := range 32 {
			MOVQ(Mem{Base: p, Disp: 8 * i}, d[i%8])
		}
	})
	RET()
}

func stores() {
	TEXT("stores", NOSPLIT, "func(n int, buf *uint64)")
	Pragma("noescape")
	Doc("stores does n times 32 stores of 8 bytes to the 256 bytes at buf.")
	n := Load(Param("n"), GP64())
	p := Load(Param("buf"), GP64())
	v := GP64()
	XORL(v.As32(), v.As32())
	loop(n, func() {
		for i := range 32 {
			MOVQ(v, Mem{Base: p, Disp: 8 * i})
		}
	})
	RET()
}

func issue() {
	TEXT("issue", NOSPLIT, "func(n int)")
	Doc("issue does n times 60 zeroings, which need a slot of the front end and no port.")
	n := Load(Param("n"), GP64())
	loop(n, func() {
		for i := range 60 {
			r := []reg.GPPhysical{reg.R8L, reg.R9L, reg.R10L, reg.R11L, reg.R12L, reg.R13L}[i%6]
			XORL(r, r)
		}
	})
	RET()
}

func stream() {
	TEXT("stream", NOSPLIT, "func(passes, lines int, buf *uint64)")
	Pragma("noescape")
	Doc("stream reads the first 8 bytes of each of the lines of 64 bytes at buf, passes times. lines must be a multiple of 16, above 0.")
	n := Load(Param("passes"), GP64())
	lines := Load(Param("lines"), GP64())
	buf := Load(Param("buf"), GP64())
	var d []reg.GPVirtual
	for range 4 {
		d = append(d, GP64())
	}
	p, left := GP64(), GP64()
	loop(n, func() {
		MOVQ(buf, p)
		MOVQ(lines, left)
		Label("lines")
		for i := range 16 {
			MOVQ(Mem{Base: p, Disp: 64 * i}, d[i%4])
		}
		ADDQ(U32(1024), p)
		SUBQ(U32(16), left)
		JNZ(LabelRef("lines"))
	})
	RET()
}

func misses() {
	TEXT("misses", NOSPLIT, "func(n int, buf *uint64, mask, seed uint64) (next uint64)")
	Pragma("noescape")
	Doc("misses does n times 8 loads of 8 bytes from pseudo-random lines of buf, none of which needs another: offset = seed & mask, in bytes.",
		"seed is the state of a linear congruential generator, whose upper bits are used; next is where it ends.")
	n := Load(Param("n"), GP64())
	p := Load(Param("buf"), GP64())
	m := Load(Param("mask"), GP64())
	s := Load(Param("seed"), GP64())
	a, off, sum := GP64(), GP64(), GP64()
	MOVQ(U64(6364136223846793005), a)
	XORL(sum.As32(), sum.As32())
	loop(n, func() {
		for range 8 {
			IMULQ(a, s)
			ADDQ(I32(1442695041), s)
			MOVQ(s, off)
			SHRQ(U8(20), off)
			ANDQ(m, off)
			ADDQ(Mem{Base: p, Index: off, Scale: 1}, sum)
		}
	})
	Store(s, ReturnIndex(0))
	RET()
}

func chase(k int) {
	name := fmt.Sprintf("chase%d", k)
	TEXT(name, NOSPLIT, "func(n int, buf *uint64, at *[16]uint64)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s follows %d chains of indices through buf for n steps of 4 each, i = buf[i], from at and back to at.", name, k))
	n := Load(Param("n"), GP64())
	p := Load(Param("buf"), GP64())
	at := Load(Param("at"), GP64())
	i := make([]reg.GPVirtual, k)
	for c := range i {
		i[c] = GP64()
		MOVQ(Mem{Base: at, Disp: 8 * c}, i[c])
	}
	loop(n, func() {
		for range 4 {
			for c := range i {
				MOVQ(Mem{Base: p, Index: i[c], Scale: 8}, i[c])
			}
		}
	})
	at = Load(Param("at"), GP64()) // not held in a register meanwhile
	for c := range i {
		MOVQ(i[c], Mem{Base: at, Disp: 8 * c})
	}
	RET()
}
