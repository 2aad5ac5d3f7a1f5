// Command table writes the assembly of the kernels that work on rows of a table by id. Run it with go generate ./compute/kernel.
package main

import (
	"flag"
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is what a generator needs to know of an instruction set.
type isa struct {
	name  string
	lanes int // float32 in a register
	vec   func() reg.VecVirtual
}

// ahead is how many rows before its turn a row is asked for: a random read takes some 200 ns, a row some 5 ns of work.
const ahead = 24

func main() {
	which := flag.String("isa", "", "avx2 or avx512")
	flag.Parse()
	var v isa
	switch *which {
	case "avx2":
		v = isa{"AVX2", 8, YMM}
	case "avx512":
		v = isa{"AVX512", 16, ZMM}
	default:
		fmt.Fprintln(os.Stderr, "table: -isa wants avx2 or avx512")
		os.Exit(2)
	}
	ConstraintExpr("amd64,!purego")
	v.rows("gatherRows"+v.name, "", fmt.Sprintf("copies rows of vecs blocks of %d: x[i] = table[ids[i]].", v.lanes),
		func(row, x Mem, _ reg.VecVirtual) {
			t := v.vec()
			VMOVUPS(row, t)
			VMOVUPS(t, x)
		})
	v.rows("axpyRows"+v.name, "a", fmt.Sprintf("adds to rows of vecs blocks of %d, i ascending: table[ids[i]] = FMA(a, x[i], table[ids[i]]).", v.lanes),
		func(row, x Mem, a reg.VecVirtual) {
			t := v.vec()
			VMOVUPS(row, t)
			VFMADD231PS(x, a, t)
			VMOVUPS(t, row)
		})
	v.sumRows()
	v.pairDots()
	v.pairDotsBackward()
	if v.lanes == 8 {
		prefetch()
	}
	Generate()
}

// rows is a loop over ids; one works on one register of a row and of x.
func (v isa) rows(name, scalar, doc string, one func(row, x Mem, a reg.VecVirtual)) {
	sig := "func(rows, vecs int, table *float32, ids *int32, x *float32)"
	if scalar != "" {
		sig = "func(rows, vecs int, a float32, table *float32, ids *int32, x *float32)"
	}
	TEXT(name, NOSPLIT, sig)
	Pragma("noescape")
	Doc(name + " " + doc)
	n := Load(Param("rows"), GP64())
	vecs := Load(Param("vecs"), GP64())
	table := Load(Param("table"), GP64())
	ids := Load(Param("ids"), GP64())
	x := Load(Param("x"), GP64())
	a := v.vec()
	if scalar != "" {
		addr, err := Param(scalar).Resolve()
		if err != nil {
			panic(err)
		}
		VBROADCASTSS(addr.Addr, a)
	}
	size := GP64() // bytes of a row
	MOVQ(vecs, size)
	IMUL3Q(U32(4*v.lanes), size, size)
	off, left, row := GP64(), GP64(), GP64()
	Label("row")
	CMPQ(n, U32(ahead))
	JLE(LabelRef("here"))
	MOVLQSX(Mem{Base: ids, Disp: 4 * ahead}, off)
	IMULQ(size, off)
	ADDQ(table, off)
	PREFETCHT0(Mem{Base: off})
	PREFETCHT0(Mem{Base: off, Index: size, Scale: 1, Disp: -1})
	Label("here")
	MOVLQSX(Mem{Base: ids}, row)
	IMULQ(size, row)
	ADDQ(table, row)
	MOVQ(vecs, left)
	Label("vec")
	one(Mem{Base: row}, Mem{Base: x}, a)
	ADDQ(U32(4*v.lanes), row)
	ADDQ(U32(4*v.lanes), x)
	DECQ(left)
	JNZ(LabelRef("vec"))
	ADDQ(U32(4), ids)
	DECQ(n)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// prefetch asks for rows and changes nothing.
func prefetch() {
	TEXT("prefetchRows", NOSPLIT, "func(rows, size int, table *float32, ids *int32)")
	Pragma("noescape")
	Doc("prefetchRows asks for rows of size bytes: the first and the last cache line of each.")
	n := Load(Param("rows"), GP64())
	size := Load(Param("size"), GP64())
	table := Load(Param("table"), GP64())
	ids := Load(Param("ids"), GP64())
	off := GP64()
	Label("loop")
	MOVLQSX(Mem{Base: ids}, off)
	IMULQ(size, off)
	ADDQ(table, off)
	PREFETCHT0(Mem{Base: off})
	PREFETCHT0(Mem{Base: off, Index: size, Scale: 1, Disp: -1})
	ADDQ(U32(4), ids)
	DECQ(n)
	JNZ(LabelRef("loop"))
	RET()
}
