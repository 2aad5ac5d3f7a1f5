// Command gemm writes the assembly of the matrix products in package kernel: one file for AVX2 with FMA, one for AVX-512. Run it with
// go generate ./compute/kernel.
package main

import (
	"flag"
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	which := flag.String("isa", "", "avx2 or avx512")
	flag.Parse()
	ConstraintExpr("amd64,!purego")
	switch *which {
	case "avx2":
		masks := maskTable()
		for rows := 1; rows <= 6; rows++ {
			for vecs := 1; vecs <= 2; vecs++ {
				for _, masked := range []bool{false, true} {
					panel(target{"AVX2", 8, YMM, masked, masks}, rows, vecs)
				}
			}
		}
	case "avx512":
		for rows := 1; rows <= 8; rows++ {
			for vecs := 1; vecs <= 2; vecs++ {
				panel(target{"AVX512", 16, ZMM, true, Mem{}}, rows, vecs)
			}
		}
		packT()
		packN()
		packA()
		peak()
	default:
		fmt.Fprintln(os.Stderr, "gemm: -isa wants avx2 or avx512")
		os.Exit(2)
	}
	Generate()
}

// target is what a generator needs to know of an instruction set.
type target struct {
	name   string
	lanes  int // float32 in a register
	vec    func() reg.VecVirtual
	masked bool // the last register of a row is loaded and stored in part
	masks  Mem  // AVX2: eight times -1, eight times 0
}

func maskTable() Mem {
	t := GLOBL("gemmMasks", RODATA|NOPTR)
	for i := range 16 {
		v := uint32(0xffffffff)
		if i >= 8 {
			v = 0
		}
		DATA(4*i, U32(v))
	}
	return t
}

// panel: C (blocks·rows, vecs registers) = In + A (blocks·rows,k) · B (k, vecs registers).
func panel(v target, rows, vecs int) {
	name := fmt.Sprintf("panel%dx%d%s", rows, vecs, v.name)
	if v.masked && v.name == "AVX2" {
		name += "Masked"
	}
	TEXT(name, NOSPLIT, "func(blocks, k int, a *float32, astep, lda, ska int, b *float32, ldb int, in *float32, instep, ldin int, c *float32, cstep, ldc int, last int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s works on blocks of %d rows and %d columns: C[i,j] = FMA(A[i,p], B[p,j], ...) from In[i,j], p ascending. A[i,p] is at", name, rows, vecs*v.lanes),
		"a+i*lda+p*ska, B[p,j] at b+p*ldb+4j, In[i,j] at in+i*ldin+4j, C[i,j] at c+i*ldc+4j; astep, instep and cstep lead to the next block. All in bytes.",
		fmt.Sprintf("last is the number of columns in use of the last %d, where the version heeds it.", v.lanes))
	w := 4 * v.lanes
	blocks := Load(Param("blocks"), GP64())
	lda := Load(Param("lda"), GP64())
	ska := Load(Param("ska"), GP64())
	ldb := Load(Param("ldb"), GP64())
	// The pointers to the present block are in the frame: the loop over k needs the registers.
	frame := AllocLocal(24)
	for i, name := range []string{"a", "in", "c"} {
		MOVQ(Load(Param(name), GP64()), frame.Offset(8*i))
	}

	var k1 reg.OpmaskVirtual
	var ymask reg.VecVirtual
	if v.masked {
		n := Load(Param("last"), GP64())
		if v.lanes == 16 {
			// k1 = (1 << last) - 1
			k1 = K()
			t := GP64()
			XORQ(t, t)
			BTSQ(n, t)
			DECQ(t)
			KMOVW(t.As32(), k1)
		} else {
			ymask = YMM()
			t := GP64()
			LEAQ(v.masks.Offset(32), t)
			SHLQ(Imm(2), n)
			SUBQ(n, t)
			VMOVUPS(Mem{Base: t}, ymask)
		}
	}
	load := func(m Mem, r reg.VecVirtual, j int) {
		switch {
		case !v.masked || j < vecs-1:
			VMOVUPS(m, r)
		case v.lanes == 16:
			VMOVUPS_Z(m, k1, r)
		default:
			VMASKMOVPS(m, ymask, r)
		}
	}
	store := func(r reg.VecVirtual, m Mem, j int) {
		switch {
		case !v.masked || j < vecs-1:
			VMOVUPS(r, m)
		case v.lanes == 16:
			VMOVUPS(r, k1, m)
		default:
			VMASKMOVPS(r, ymask, m)
		}
	}

	Label("block")
	p, ld := GP64(), GP64()
	Load(Param("ldin"), ld)
	MOVQ(frame.Offset(8), p)
	acc := make([][]reg.VecVirtual, rows)
	for i := range acc {
		for j := range vecs {
			r := v.vec()
			load(Mem{Base: p, Disp: w * j}, r, j)
			acc[i] = append(acc[i], r)
		}
		if i < rows-1 {
			ADDQ(ld, p)
		}
	}
	// Three pointers reach eight rows: rows 0..2 from a, 3..5 from a+3lda, 6..7 from a+6lda (x86 scales an index by 1 and 2).
	a := GP64()
	MOVQ(frame, a)
	base := []reg.GPVirtual{a}
	for r := 3; r < rows; r += 3 {
		q := GP64()
		LEAQ(Mem{Base: base[len(base)-1], Index: lda, Scale: 2}, q)
		ADDQ(lda, q)
		base = append(base, q)
	}
	at := func(i int) Mem {
		m := Mem{Base: base[i/3]}
		if i%3 > 0 {
			m.Index, m.Scale = lda, uint8(i%3)
		}
		return m
	}
	if rows > 4 && v.lanes == 16 { // the next block of C comes into the cache while this one is computed
		next := GP64()
		Load(Param("ldc"), ld)
		Load(Param("cstep"), next)
		ADDQ(frame.Offset(16), next)
		for i := range rows {
			for j := range vecs {
				PREFETCHT0(Mem{Base: next, Disp: w * j})
			}
			if i < rows-1 {
				ADDQ(ld, next)
			}
		}
	}
	b, k := GP64(), GP64()
	Load(Param("b"), b)
	Load(Param("k"), k)
	Label("loop")
	var bs []reg.VecVirtual
	for j := range vecs {
		r := v.vec()
		load(Mem{Base: b, Disp: w * j}, r, j)
		bs = append(bs, r)
	}
	for i := range acc {
		x := v.vec()
		VBROADCASTSS(at(i), x)
		for j := range vecs {
			VFMADD231PS(x, bs[j], acc[i][j])
		}
	}
	for _, q := range base {
		ADDQ(ska, q)
	}
	ADDQ(ldb, b)
	DECQ(k)
	JNZ(LabelRef("loop"))
	Load(Param("ldc"), ld)
	MOVQ(frame.Offset(16), p)
	for i := range acc {
		for j := range vecs {
			store(acc[i][j], Mem{Base: p, Disp: w * j}, j)
		}
		if i < rows-1 {
			ADDQ(ld, p)
		}
	}
	for i, step := range []string{"astep", "instep", "cstep"} {
		t := Load(Param(step), GP64())
		ADDQ(t, frame.Offset(8*i))
	}
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// packT: P[p,j] = B[j,p] for 16 columns j.
func packT() {
	TEXT("packTAVX512", NOSPLIT, "func(k int, b *float32, ldb int, n int, dst *float32, ldd int)")
	Pragma("noescape")
	Doc("packTAVX512 transposes n rows of B (at most 16), k elements each, into columns of dst: dst[p,j] = B[j,p] for p < k, j < n; 0 for n <= j < 16.",
		"Strides in bytes.")
	k := Load(Param("k"), GP64())
	b := Load(Param("b"), GP64())
	ldb := Load(Param("ldb"), GP64())
	n := Load(Param("n"), GP64())
	dst := Load(Param("dst"), GP64())
	ldd := Load(Param("ldd"), GP64())

	zero := ZMM()
	VPXORD(zero, zero, zero)
	kmask := K()
	ones := GP64()
	MOVQ(I32(-1), ones)
	KMOVW(ones.As32(), kmask)
	Label("loop")
	CMPQ(k, Imm(16))
	JGE(LabelRef("full"))
	t := GP64()
	XORQ(t, t)
	BTSQ(k, t)
	DECQ(t)
	KMOVW(t.As32(), kmask)
	Label("full")
	rows := make([]reg.VecVirtual, 16)
	p, left := GP64(), GP64()
	MOVQ(b, p)
	MOVQ(n, left)
	for i := range rows {
		rows[i] = ZMM()
		VMOVAPS(zero, rows[i])
	}
	for i := range rows {
		VMOVUPS_Z(Mem{Base: p}, kmask, rows[i])
		if i < 15 {
			DECQ(left)
			JZ(LabelRef("loaded"))
			ADDQ(ldb, p)
		}
	}
	Label("loaded")
	// Interleave neighbours, then pairs, then the 128-bit quarters.
	a := make([]reg.VecVirtual, 16)
	for i := 0; i < 16; i += 2 {
		a[i], a[i+1] = ZMM(), ZMM()
		VUNPCKLPS(rows[i+1], rows[i], a[i])
		VUNPCKHPS(rows[i+1], rows[i], a[i+1])
	}
	c := make([]reg.VecVirtual, 16)
	for i := 0; i < 16; i += 4 {
		for h := range 2 { // a[i+h] has columns 2h, 2h+1 of each quarter for rows i, i+1; a[i+2+h] for rows i+2, i+3
			c[i+2*h], c[i+2*h+1] = ZMM(), ZMM()
			VUNPCKLPD(a[i+2+h], a[i+h], c[i+2*h])
			VUNPCKHPD(a[i+2+h], a[i+h], c[i+2*h+1])
		}
	}
	// c[4g+q] has, in quarter z, column 4z+q of rows 4g..4g+3.
	d := make([]reg.VecVirtual, 16)
	for q := range 4 {
		lo, hi := ZMM(), ZMM()
		VSHUFF32X4(Imm(0x88), c[4+q], c[q], lo) // quarters 0, 2 of rows 0..3, then of 4..7
		VSHUFF32X4(Imm(0xdd), c[4+q], c[q], hi) // quarters 1, 3
		lo2, hi2 := ZMM(), ZMM()
		VSHUFF32X4(Imm(0x88), c[12+q], c[8+q], lo2)
		VSHUFF32X4(Imm(0xdd), c[12+q], c[8+q], hi2)
		d[q], d[8+q], d[4+q], d[12+q] = ZMM(), ZMM(), ZMM(), ZMM()
		VSHUFF32X4(Imm(0x88), lo2, lo, d[q])
		VSHUFF32X4(Imm(0xdd), lo2, lo, d[8+q])
		VSHUFF32X4(Imm(0x88), hi2, hi, d[4+q])
		VSHUFF32X4(Imm(0xdd), hi2, hi, d[12+q])
	}
	for i := range d {
		VMOVUPS(d[i], Mem{Base: dst})
		if i < 15 {
			DECQ(k)
			JZ(LabelRef("done"))
		}
		ADDQ(ldd, dst)
	}
	ADDQ(Imm(64), b)
	DECQ(k)
	JNZ(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// packN: P[p,j] = B[p,j] for 32 columns j.
func packN() {
	TEXT("packNAVX512", NOSPLIT, "func(k int, b *float32, ldb int, n int, dst *float32)")
	Pragma("noescape")
	Doc("packNAVX512 copies k rows of n columns (1 to 32) to rows of 32: dst[p,j] = B[p,j] for j < n, else 0. ldb in bytes.")
	k := Load(Param("k"), GP64())
	b := Load(Param("b"), GP64())
	ldb := Load(Param("ldb"), GP64())
	n := Load(Param("n"), GP64())
	dst := Load(Param("dst"), GP64())
	t := GP64()
	XORQ(t, t)
	BTSQ(n, t)
	DECQ(t)
	k1, k2 := K(), K()
	KMOVW(t.As32(), k1)
	SHRQ(Imm(16), t)
	KMOVW(t.As32(), k2)
	x, y := ZMM(), ZMM()
	Label("loop")
	VMOVUPS_Z(Mem{Base: b}, k1, x)
	VMOVUPS_Z(Mem{Base: b, Disp: 64}, k2, y)
	VMOVUPS(x, Mem{Base: dst})
	VMOVUPS(y, Mem{Base: dst, Disp: 64})
	ADDQ(ldb, b)
	ADDQ(U32(128), dst)
	DECQ(k)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packA: P[p,i] = A[p,i] for 8 columns i.
func packA() {
	TEXT("packAAVX512", NOSPLIT, "func(k int, a *float32, lda int, dst *float32)")
	Pragma("noescape")
	Doc("packAAVX512 copies k rows of 8 columns to rows of 8: dst[p,i] = A[p,i]. lda in bytes.")
	k := Load(Param("k"), GP64())
	a := Load(Param("a"), GP64())
	lda := Load(Param("lda"), GP64())
	dst := Load(Param("dst"), GP64())
	x := YMM()
	Label("loop")
	VMOVUPS(Mem{Base: a}, x)
	VMOVUPS(x, Mem{Base: dst})
	ADDQ(lda, a)
	ADDQ(Imm(32), dst)
	DECQ(k)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// peak: nothing but FMAs.
func peak() {
	TEXT("peakAVX512", NOSPLIT, "func(n int)")
	Doc("peakAVX512 runs n rounds of 24 independent FMAs of 16 elements: 768 floating-point operations a round.")
	n := Load(Param("n"), GP64())
	x := ZMM()
	VPXORD(x, x, x)
	var r []reg.VecVirtual
	for range 24 {
		z := ZMM()
		VPXORD(z, z, z)
		r = append(r, z)
	}
	Label("loop")
	for _, z := range r {
		VFMADD231PS(x, x, z)
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
