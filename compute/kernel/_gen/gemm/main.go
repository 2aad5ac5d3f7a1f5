// Command gemm writes the assembly of the matrix products in package kernel: one file for AVX2 with FMA, one for AVX-512. Run it with
// go generate ./compute/kernel.
package main

import (
	"flag"
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
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
		for rows := 1; rows <= 12; rows++ {
			for vecs := 1; vecs <= 2; vecs++ {
				for _, masked := range []bool{false, true} {
					panel(target{"AVX512", 16, ZMM, masked, Mem{}}, rows, vecs)
				}
			}
		}
		block(target{"AVX512", 16, ZMM, false, Mem{}}, 12, 2)
		packT()
		packT16()
		packN()
		packAN()
		packAT()
		packAT4()
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
	if v.masked {
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
	// A pointer reaches three rows: 0..2 from a, 3..5 from a+3lda and so on (x86 scales an index by 1 and 2).
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

// align starts a loop at a multiple of n bytes.
func align(n uint8) {
	Instruction(&ir.Instruction{Opcode: "PCALIGN", Operands: []Op{Imm(uint64(n))}})
}

// block: the same as panel where A and B are packed and every column is in use. It runs one chunk of 16 k after the other; with each it asks for two
// lines of memory that the caller will need next.
func block(v target, rows, vecs int) {
	name := fmt.Sprintf("block%dx%d%s", rows, vecs, v.name)
	TEXT(name, NOSPLIT, "func(blocks, k int, a, b, in *float32, ldin int, c *float32, ldc int, next *float32, nextstep, nextpair, nextblock int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s works on blocks of %d rows and %d columns: C[i,j] = FMA(A[i,p], B[p,j], ...) from In[i,j], p ascending. Block after block of A", name, rows, vecs*v.lanes),
		fmt.Sprintf("has k rows of %d; B has k rows of %d. ldin and ldc are in bytes. From next on it fetches two cache lines, nextpair bytes apart, for every", rows, vecs*v.lanes),
		"16 of k, and steps on by nextstep; after a block by nextblock.")
	w := 4 * v.lanes
	blocks := Load(Param("blocks"), GP64())
	a := Load(Param("a"), GP64())
	in := Load(Param("in"), GP64())
	ldin := Load(Param("ldin"), GP64())
	c := Load(Param("c"), GP64())
	ldc := Load(Param("ldc"), GP64())
	next := Load(Param("next"), GP64())
	step := Load(Param("nextstep"), GP64())
	pair := Load(Param("nextpair"), GP64())

	Label("block")
	acc := make([][]reg.VecVirtual, rows)
	for i := range acc {
		for j := range vecs {
			r := v.vec()
			VMOVUPS(Mem{Base: in, Disp: w * j}, r)
			acc[i] = append(acc[i], r)
		}
		ADDQ(ldin, in)
	}
	ahead := GP64() // the next block of C
	IMUL3Q(Imm(uint64(rows)), ldc, ahead)
	ADDQ(c, ahead)
	for range rows {
		PREFETCHT0(Mem{Base: ahead})
		PREFETCHT0(Mem{Base: ahead, Disp: w*vecs - 4})
		ADDQ(ldc, ahead)
	}
	b, left := GP64(), GP64()
	Load(Param("b"), b)
	Load(Param("k"), left)
	Label("chunk")
	PREFETCHT1(Mem{Base: next})
	PREFETCHT1(Mem{Base: next, Index: pair, Scale: 1})
	ADDQ(step, next)
	n := GP64()
	MOVQ(U32(16), n)
	CMPQ(left, n)
	CMOVQLT(left, n)
	SUBQ(n, left)
	align(32)
	Label("loop")
	bs := make([]reg.VecVirtual, vecs)
	for j := range bs {
		bs[j] = v.vec()
		VMOVUPS(Mem{Base: b, Disp: w * j}, bs[j])
	}
	for i := range acc {
		x := v.vec()
		VBROADCASTSS(Mem{Base: a, Disp: 4 * i}, x)
		for j := range bs {
			VFMADD231PS(x, bs[j], acc[i][j])
		}
	}
	ADDQ(Imm(uint64(4*rows)), a)
	ADDQ(I32(int32(w*vecs)), b)
	DECQ(n)
	JNZ(LabelRef("loop"))
	TESTQ(left, left)
	JNZ(LabelRef("chunk"))
	for i := range acc {
		for j := range vecs {
			VMOVUPS(acc[i][j], Mem{Base: c, Disp: w * j})
		}
		ADDQ(ldc, c)
	}
	t := GP64()
	Load(Param("nextblock"), t)
	ADDQ(t, next)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// rowsOf gives 16 rows of a matrix as memory operands: x86 reaches them with two pointers and four strides.
func rowsOf(p, ld reg.GPVirtual) [16]Mem {
	ld3, ld5, ld7, p8 := GP64(), GP64(), GP64(), GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	LEAQ(Mem{Base: ld, Index: ld, Scale: 4}, ld5)
	LEAQ(Mem{Base: ld3, Index: ld, Scale: 4}, ld7)
	LEAQ(Mem{Base: p, Index: ld, Scale: 8}, p8)
	var rows [16]Mem
	for h, base := range []reg.GPVirtual{p, p8} {
		r := rows[8*h:]
		r[0] = Mem{Base: base}
		r[1] = Mem{Base: base, Index: ld, Scale: 1}
		r[2] = Mem{Base: base, Index: ld, Scale: 2}
		r[3] = Mem{Base: base, Index: ld3, Scale: 1}
		r[4] = Mem{Base: base, Index: ld, Scale: 4}
		r[5] = Mem{Base: base, Index: ld5, Scale: 1}
		r[6] = Mem{Base: base, Index: ld3, Scale: 2}
		r[7] = Mem{Base: base, Index: ld7, Scale: 1}
	}
	return rows
}

// turn4 transposes the 4 x 4 blocks in the four quarters of x: element j of quarter q of result i is element i of quarter q of x[j].
func turn4(x [4]reg.VecVirtual) [4]reg.VecVirtual {
	var t, y [4]reg.VecVirtual
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

// quarters loads four elements of rows 4q+r, q < n, at disp into quarter q of x[r]. Inserts from memory are cheaper than shuffles of registers.
func quarters(rows [16]Mem, n, disp int) (x [4]reg.VecVirtual) {
	for r := range x {
		z := ZMM()
		VMOVUPS(rows[r].Offset(disp), z.AsX())
		for q := 1; q < n; q++ {
			VINSERTF32X4(Imm(uint64(q)), rows[4*q+r].Offset(disp), z, z)
		}
		x[r] = z
	}
	return x
}

// packT16: P[p,j] = B[j,p] for 16 columns j, k a multiple of 4.
func packT16() {
	TEXT("packT16AVX512", NOSPLIT, "func(k int, b *float32, ldb int, dst *float32, ldd int)")
	Pragma("noescape")
	Doc("packT16AVX512 transposes 16 rows of B, k elements each (a multiple of 4), into columns of dst: dst[p,j] = B[j,p]. Strides in bytes.")
	k := Load(Param("k"), GP64())
	b := Load(Param("b"), GP64())
	ldb := Load(Param("ldb"), GP64())
	dst := Load(Param("dst"), GP64())
	ldd := Load(Param("ldd"), GP64())
	rows := rowsOf(b.(reg.GPVirtual), ldb.(reg.GPVirtual))
	Label("loop")
	for _, y := range turn4(quarters(rows, 4, 0)) {
		VMOVUPS(y, Mem{Base: dst})
		ADDQ(ldd, dst)
	}
	ADDQ(Imm(16), rows[0].Base)
	ADDQ(Imm(16), rows[8].Base)
	SUBQ(Imm(4), k)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packAN: P[p,i] = A[i,p] for 12 rows i.
func packAN() {
	TEXT("packANAVX512", NOSPLIT, "func(k int, a *float32, lda int, dst *float32)")
	Pragma("noescape")
	Doc("packANAVX512 transposes 12 rows of A, k elements each (a multiple of 4), into rows of 12: dst[p,i] = A[i,p]. lda in bytes. It writes 16 bytes",
		"more.")
	k := Load(Param("k"), GP64())
	a := Load(Param("a"), GP64())
	lda := Load(Param("lda"), GP64())
	dst := Load(Param("dst"), GP64())
	rows := rowsOf(a.(reg.GPVirtual), lda.(reg.GPVirtual))
	Label("loop")
	for i, y := range turn4(quarters(rows, 3, 0)) {
		VMOVUPS(y, Mem{Base: dst, Disp: 48 * i})
	}
	ADDQ(Imm(16), rows[0].Base)
	ADDQ(Imm(16), rows[8].Base)
	ADDQ(U32(192), dst)
	SUBQ(Imm(4), k)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packAT: P[p,i] = A[p,i] for 12 columns i.
func packAT() {
	TEXT("packATAVX512", NOSPLIT, "func(k int, a *float32, lda int, dst *float32)")
	Pragma("noescape")
	Doc("packATAVX512 copies k rows of 12 columns to rows of 12: dst[p,i] = A[p,i]. lda in bytes. It writes 16 bytes more.")
	k := Load(Param("k"), GP64())
	a := Load(Param("a"), GP64())
	lda := Load(Param("lda"), GP64())
	dst := Load(Param("dst"), GP64())
	mask := K()
	t := GP64()
	MOVQ(U32(1<<12-1), t)
	KMOVW(t.As32(), mask)
	x := ZMM()
	Label("loop")
	VMOVUPS_Z(Mem{Base: a}, mask, x)
	VMOVUPS(x, Mem{Base: dst})
	ADDQ(lda, a)
	ADDQ(Imm(48), dst)
	DECQ(k)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packAT4: the same for four times 12 columns.
func packAT4() {
	TEXT("packAT4AVX512", NOSPLIT, "func(k int, a *float32, lda int, dst *float32, ldd int)")
	Pragma("noescape")
	Doc("packAT4AVX512 copies k rows of 48 columns to rows of 12, in four parts that lie ldd apart: dst[q,p,i] = A[p,12q+i]. Strides in bytes.")
	k := Load(Param("k"), GP64())
	a := Load(Param("a"), GP64())
	lda := Load(Param("lda"), GP64())
	dst := Load(Param("dst"), GP64())
	ldd := Load(Param("ldd"), GP64())
	ld3, ahead := GP64(), GP64()
	LEAQ(Mem{Base: ldd, Index: ldd, Scale: 2}, ld3)
	LEAQ(Mem{Base: a, Index: lda, Scale: 8}, ahead)
	mask := K()
	t := GP64()
	MOVQ(U32(1<<12-1), t)
	KMOVW(t.As32(), mask)
	Label("loop")
	for i, m := range []Mem{{Base: dst}, {Base: dst, Index: ldd, Scale: 1}, {Base: dst, Index: ldd, Scale: 2}, {Base: dst, Index: ld3, Scale: 1}} {
		x := ZMM()
		VMOVUPS_Z(Mem{Base: a, Disp: 48 * i}, mask, x)
		VMOVUPS(x, mask, m)
		PREFETCHT0(Mem{Base: ahead, Disp: 64 * i})
	}
	ADDQ(lda, a)
	ADDQ(lda, ahead)
	ADDQ(Imm(48), dst)
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
