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
		for _, also := range []task{fetch, plain, copies, turns} {
			for _, columns := range []bool{false, true} {
				if also == turns && columns {
					continue
				}
				tile(6, 4, columns, also)
				tile(8, 3, columns, also)
			}
		}
		packT()
		packT16()
		for vecs := 1; vecs <= 4; vecs++ {
			packN(vecs)
		}
		packAT(1)
		packAT(2)
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

// packN: P[p,j] = B[p,j] for a number of registers of columns.
func packN(vecs int) {
	TEXT(fmt.Sprintf("packN%dAVX512", vecs), NOSPLIT, "func(k int, b *float32, ldb int, last int, dst *float32)")
	Pragma("noescape")
	Doc(fmt.Sprintf("packN%dAVX512 copies k rows of %d columns, of the last 16 of which the mask last tells those in use; the others become 0. ldb in bytes.", vecs, 16*vecs))
	k := Load(Param("k"), GP64())
	b := Load(Param("b"), GP64())
	ldb := Load(Param("ldb"), GP64())
	t := Load(Param("last"), GP64())
	dst := Load(Param("dst"), GP64())
	mask := K()
	KMOVW(t.(reg.GPVirtual).As32(), mask)
	Label("loop")
	for j := range vecs {
		x := ZMM()
		if j < vecs-1 {
			VMOVUPS(Mem{Base: b, Disp: 64 * j}, x)
		} else {
			VMOVUPS_Z(Mem{Base: b, Disp: 64 * j}, mask, x)
		}
		VMOVUPS(x, Mem{Base: dst, Disp: 64 * j})
	}
	ADDQ(ldb, b)
	ADDQ(U32(uint32(64*vecs)), dst)
	DECQ(k)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// align starts a loop at a multiple of n bytes.
func align(n uint8) {
	Instruction(&ir.Instruction{Opcode: "PCALIGN", Operands: []Op{Imm(uint64(n))}})
}

// task is what a tile does beside its multiplications.
type task string

const (
	fetch  task = ""      // fetches lines
	plain  task = "Plain" // nothing
	copies task = "Copy"  // packs rows of B
	turns  task = "Turn"  // packs B where it lies transposed
)

// tile: the same as panel where B is packed and its rows are full registers. Two registers in a row would take more loads than a core can make beside
// two multiplications a clock: 12 + 2 for 24 of these, where 6 + 4 and 8 + 3 load less for as many.
func tile(rows, vecs int, columns bool, also task) {
	lie, of := "Rows", "A[i,p] is at a+i*step+4p"
	if columns {
		lie, of = "Columns", "A[i,p] is at a+4i+p*step"
	}
	name := fmt.Sprintf("tile%dx%d%s%sAVX512", rows, vecs, lie, also)
	args := "blocks, k int, a *float32, step int, b, in *float32, ldin int, c *float32, ldc int, last int"
	switch also {
	case fetch:
		args += ", next uintptr, nextpair, nextstep, nextblock int"
	case copies, turns:
		args += ", src *float32, lds int, dst *float32"
	}
	TEXT(name, NOSPLIT, "func("+args+")")
	Pragma("noescape")
	lines := []string{fmt.Sprintf("%s works on blocks of %d rows and %d columns, of the last 16 of which the mask last tells those in use: C[i,j] = FMA(A[i,p],", name, rows, 16*vecs),
		fmt.Sprintf("B[p,j], ...) from In[i,j], p ascending. %s; B has k rows of %d; ldin and ldc lead from row to row. All in bytes. With every", of, 16*vecs)}
	switch also {
	case fetch:
		lines = append(lines, "16 of k it fetches four cache lines, nextpair bytes apart, from next on, which goes on by nextstep, and after a block by nextblock.")
	case copies:
		lines = append(lines, fmt.Sprintf("16 of k, a multiple of 16, it copies a row of %d from src on, rows lds apart, to dst on, rows packed.", 16*vecs))
	case turns:
		lines = append(lines, fmt.Sprintf("block it turns four rows of k from src on, a multiple of 16, lds apart, into four columns from dst on, rows of which have %d.", 16*vecs))
	}
	Doc(lines...)
	w := 64
	blocks := Load(Param("blocks"), GP64())
	step := Load(Param("step"), GP64())
	var pair, next, src, lds, dst reg.Register
	switch also {
	case fetch:
		pair = Load(Param("nextpair"), GP64())
		next = Load(Param("next"), GP64())
	case copies, turns:
		src = Load(Param("src"), GP64())
		lds = Load(Param("lds"), GP64())
		dst = Load(Param("dst"), GP64())
	}
	frame := AllocLocal(40) // the present block; rows of C to fetch
	for i, name := range []string{"a", "in", "c"} {
		MOVQ(Load(Param(name), GP64()), frame.Offset(8*i))
	}
	mask := K()
	t := GP64()
	Load(Param("last"), t)
	KMOVW(t.As32(), mask)

	Label("block")
	in, ld := GP64(), GP64()
	Load(Param("ldin"), ld)
	MOVQ(frame.Offset(8), in)
	acc := make([][]reg.VecVirtual, rows)
	for i := range acc {
		for j := range vecs {
			r := ZMM()
			if j < vecs-1 {
				VMOVUPS(Mem{Base: in, Disp: w * j}, r)
			} else {
				VMOVUPS_Z(Mem{Base: in, Disp: w * j}, mask, r)
			}
			acc[i] = append(acc[i], r)
		}
		ADDQ(ld, in)
	}
	MOVQ(in, frame.Offset(8))
	// The next block of C comes into the cache while this one is computed.
	ahead := GP64()
	Load(Param("ldc"), ld)
	IMUL3Q(Imm(uint64(rows)), ld, ahead)
	ADDQ(frame.Offset(16), ahead)
	if also == fetch {
		for range rows {
			for j := range vecs {
				PREFETCHT0(Mem{Base: ahead, Disp: w * j})
			}
			ADDQ(ld, ahead)
		}
	} else {
		MOVQ(ahead, frame.Offset(24))
		MOVQ(U32(uint32(rows)), frame.Offset(32))
	}
	a, b, left := GP64(), GP64(), GP64()
	MOVQ(frame, a)
	Load(Param("b"), b)
	Load(Param("k"), left)
	base := []reg.GPVirtual{a}
	if columns {
		t := GP64()
		LEAQ(Mem{Base: a, Disp: 4 * rows}, t)
		MOVQ(t, frame)
	} else { // a pointer reaches three rows, as in panel
		for r := 3; r < rows; r += 3 {
			q := GP64()
			LEAQ(Mem{Base: base[len(base)-1], Index: step, Scale: 2}, q)
			ADDQ(step, q)
			base = append(base, q)
		}
		t := GP64()
		MOVQ(step, t)
		IMUL3Q(Imm(uint64(rows)), t, t)
		ADDQ(t, frame)
	}
	at := func(i, u int) Mem {
		if columns {
			return Mem{Base: a, Disp: 4 * i}
		}
		m := Mem{Base: base[i/3], Disp: 4 * u}
		if i%3 > 0 {
			m.Index, m.Scale = step, uint8(i%3)
		}
		return m
	}
	times := func(k int) {
		for u := range k {
			bs := make([]reg.VecVirtual, vecs)
			for j := range bs {
				bs[j] = ZMM()
				VMOVUPS(Mem{Base: b, Disp: w * (j + vecs*u)}, bs[j])
			}
			for i := range acc {
				x := ZMM()
				VBROADCASTSS(at(i, u), x)
				for j := range bs {
					VFMADD231PS(x, bs[j], acc[i][j])
				}
			}
			if columns { // every k on lines of its own, which no core guesses
				PREFETCHT0(Mem{Base: a, Index: step, Scale: 8})
				ADDQ(step, a)
			}
		}
		if !columns {
			for _, q := range base {
				ADDQ(Imm(uint64(4*k)), q)
			}
		}
		ADDQ(U32(uint32(w*vecs*k)), b)
	}
	n := GP64()
	Label("chunk")
	if also != fetch { // a row at a time: a core can't wait for all of them and for B
		DECQ(frame.Offset(32))
		JL(LabelRef("fetched"))
		row := GP64()
		MOVQ(frame.Offset(24), row)
		for j := range vecs {
			PREFETCHT0(Mem{Base: row, Disp: w * j})
		}
		ADDQ(Load(Param("ldc"), GP64()), row)
		MOVQ(row, frame.Offset(24))
		Label("fetched")
	}
	switch also {
	case fetch:
		PREFETCHT1(Mem{Base: next})
		PREFETCHT1(Mem{Base: next, Index: pair, Scale: 1})
		PREFETCHT1(Mem{Base: next, Index: pair, Scale: 2})
		far := GP64()
		LEAQ(Mem{Base: next, Index: pair, Scale: 2}, far)
		PREFETCHT1(Mem{Base: far, Index: pair, Scale: 1})
		Load(Param("nextstep"), far)
		ADDQ(far, next)
	case copies:
		for j := range vecs {
			z := ZMM()
			VMOVUPS(Mem{Base: src, Disp: w * j}, z)
			VMOVUPS(z, Mem{Base: dst, Disp: w * j})
		}
		ahead := GP64()
		LEAQ(Mem{Base: src, Index: lds, Scale: 4}, ahead)
		for j := range vecs {
			PREFETCHT1(Mem{Base: ahead, Disp: w * j})
		}
		ADDQ(lds, src)
		ADDQ(U32(uint32(w*vecs)), dst)
	case turns:
		var x [4]reg.VecVirtual
		far := GP64()
		LEAQ(Mem{Base: src, Index: lds, Scale: 2}, far)
		four := []Mem{{Base: src}, {Base: src, Index: lds, Scale: 1}, {Base: far}, {Base: far, Index: lds, Scale: 1}}
		for i := range x {
			x[i] = ZMM()
			VMOVUPS(four[i], x[i])
		}
		ahead := GP64()
		LEAQ(Mem{Base: src, Index: lds, Scale: 4}, ahead)
		LEAQ(Mem{Base: far, Index: lds, Scale: 4}, far)
		PREFETCHT1(Mem{Base: ahead})
		PREFETCHT1(Mem{Base: ahead, Index: lds, Scale: 1})
		PREFETCHT1(Mem{Base: far})
		PREFETCHT1(Mem{Base: far, Index: lds, Scale: 1})
		for i, y := range turn4(x) {
			VMOVUPS(y.AsX(), Mem{Base: dst, Disp: w * vecs * i})
			for q := 1; q < 4; q++ {
				VEXTRACTF32X4(Imm(uint64(q)), y, Mem{Base: dst, Disp: w * vecs * (4*q + i)})
			}
		}
		ADDQ(Imm(64), src)
		ADDQ(U32(uint32(16*w*vecs)), dst)
	}
	MOVQ(U32(16), n)
	CMPQ(left, n)
	CMOVQLT(left, n)
	SUBQ(n, left)
	SUBQ(Imm(4), n)
	JL(LabelRef("ones"))
	align(32)
	Label("fours")
	times(4)
	SUBQ(Imm(4), n)
	JGE(LabelRef("fours"))
	Label("ones")
	ADDQ(Imm(4), n)
	JZ(LabelRef("whole"))
	Label("one")
	times(1)
	DECQ(n)
	JNZ(LabelRef("one"))
	Label("whole")
	TESTQ(left, left)
	JNZ(LabelRef("chunk"))
	c := GP64()
	MOVQ(frame.Offset(16), c)
	Load(Param("ldc"), ld)
	for i := range acc {
		for j := range vecs {
			if j < vecs-1 {
				VMOVUPS(acc[i][j], Mem{Base: c, Disp: w * j})
			} else {
				VMOVUPS(acc[i][j], mask, Mem{Base: c, Disp: w * j})
			}
		}
		ADDQ(ld, c)
	}
	MOVQ(c, frame.Offset(16))
	switch also {
	case fetch:
		Load(Param("nextblock"), ld)
		ADDQ(ld, next)
	case turns: // four rows further, and back by the k of a block
		Load(Param("k"), ld)
		LEAQ(Mem{Base: src, Index: lds, Scale: 4}, src)
		SHLQ(Imm(2), ld)
		SUBQ(ld, src)
		IMUL3Q(U32(uint32(16*vecs)), ld, ld)
		SUBQ(ld, dst)
		ADDQ(Imm(16), dst)
	}
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

// quarters loads four elements of row 4q+r into quarter q of x[r]. Inserts from memory are cheaper than shuffles of registers.
func quarters(rows [16]Mem) (x [4]reg.VecVirtual) {
	for r := range x {
		z := ZMM()
		VMOVUPS(rows[r], z.AsX())
		for q := 1; q < 4; q++ {
			VINSERTF32X4(Imm(uint64(q)), rows[4*q+r], z, z)
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
	for _, y := range turn4(quarters(rows)) {
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

// packAT: P[p,i] = A[p,i] for groups of 24 columns i.
func packAT(groups int) {
	TEXT(fmt.Sprintf("packAT%dAVX512", groups), NOSPLIT, "func(k int, a *float32, lda int, dst *float32, ldd int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("packAT%dAVX512 copies k rows of %d columns to rows of 24, in %d parts that lie ldd apart: dst[q,p,i] = A[p,24q+i]. Strides in bytes.", groups, 24*groups, groups))
	k := Load(Param("k"), GP64())
	a := Load(Param("a"), GP64())
	lda := Load(Param("lda"), GP64())
	dst := Load(Param("dst"), GP64())
	ldd := Load(Param("ldd"), GP64())
	ld3, ahead := GP64(), GP64()
	LEAQ(Mem{Base: ldd, Index: ldd, Scale: 2}, ld3)
	LEAQ(Mem{Base: a, Index: lda, Scale: 8}, ahead)
	Label("loop")
	for i, m := range []Mem{{Base: dst}, {Base: dst, Index: ldd, Scale: 1}, {Base: dst, Index: ldd, Scale: 2}, {Base: dst, Index: ld3, Scale: 1}}[:groups] {
		x, y := ZMM(), YMM()
		VMOVUPS(Mem{Base: a, Disp: 96 * i}, x)
		VMOVUPS(Mem{Base: a, Disp: 96*i + 64}, y)
		VMOVUPS(x, m)
		VMOVUPS(y, m.Offset(64))
	}
	for l := range (24*4*groups + 63) / 64 {
		PREFETCHT0(Mem{Base: ahead, Disp: 64 * l})
	}
	ADDQ(lda, a)
	ADDQ(lda, ahead)
	ADDQ(Imm(96), dst)
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
