// Command gen writes the assembly of package kernel, all but the matrix products: one file for AVX2 with FMA, one for AVX-512. Run it with go generate ./compute/kernel.
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
		fmt.Fprintln(os.Stderr, "gen: -isa wants avx2 or avx512")
		os.Exit(2)
	}
	ConstraintExpr("amd64,!purego")
	v.dot()
	v.axpy()
	v.adam()
	Generate()
}

// dot: s[i mod 64] = FMA(x[i], y[i], s[i mod 64]) for whole blocks of 64.
func (v isa) dot() {
	TEXT("dot"+v.name, NOSPLIT, "func(blocks int, x, y *float32, s *[64]float32)")
	Pragma("noescape")
	Doc("dot" + v.name + " sets s[l] = FMA(x[64b+l], y[64b+l], s[l]), starting from 0, for b in 0..blocks.")
	n := Load(Param("blocks"), GP64())
	x := Load(Param("x"), GP64())
	y := Load(Param("y"), GP64())
	s := Load(Param("s"), GP64())
	regs := 64 / v.lanes
	acc := make([]reg.VecVirtual, regs)
	for i := range acc {
		acc[i] = v.vec()
		v.zero(acc[i])
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("loop")
	for i := range acc {
		t := v.vec()
		VMOVUPS(Mem{Base: x, Disp: 4 * v.lanes * i}, t)
		VFMADD231PS(Mem{Base: y, Disp: 4 * v.lanes * i}, t, acc[i])
	}
	ADDQ(U32(256), x)
	ADDQ(U32(256), y)
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
	for i := range acc {
		VMOVUPS(acc[i], Mem{Base: s, Disp: 4 * v.lanes * i})
	}
	VZEROUPPER()
	RET()
}

func (v isa) zero(r reg.VecVirtual) {
	if v.lanes == 16 {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

// axpy: y[i] = FMA(a, x[i], y[i]) for whole registers.
func (v isa) axpy() {
	TEXT("axpy"+v.name, NOSPLIT, "func(n int, a float32, x, y *float32)")
	Pragma("noescape")
	Doc(fmt.Sprintf("axpy%s is y[i] = FMA(a, x[i], y[i]) for n blocks of %d.", v.name, v.lanes))
	n := Load(Param("n"), GP64())
	a := v.broadcast("a")
	x := Load(Param("x"), GP64())
	y := Load(Param("y"), GP64())
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("loop")
	t := v.vec()
	VMOVUPS(Mem{Base: y}, t)
	VFMADD231PS(Mem{Base: x}, a, t)
	VMOVUPS(t, Mem{Base: y})
	ADDQ(U32(4*v.lanes), x)
	ADDQ(U32(4*v.lanes), y)
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

func (v isa) broadcast(param string) reg.VecVirtual {
	r := v.vec()
	addr, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(addr.Addr, r) // from the stack frame
	return r
}

// adam is adamGeneric for whole registers.
func (v isa) adam() {
	TEXT("adam"+v.name, NOSPLIT, "func(n int, w, grad, m, v *float32, beta1, rest1, beta2, rest2, step, root, eps, shrink, wd float32)")
	Pragma("noescape")
	Doc(fmt.Sprintf("adam%s is the loop of adamGeneric for n blocks of %d.", v.name, v.lanes))
	n := Load(Param("n"), GP64())
	w := Load(Param("w"), GP64())
	g := Load(Param("grad"), GP64())
	m := Load(Param("m"), GP64())
	vv := Load(Param("v"), GP64())
	c := map[string]reg.VecVirtual{}
	for _, name := range []string{"beta1", "rest1", "beta2", "rest2", "step", "root", "eps", "shrink", "wd"} {
		c[name] = v.broadcast(name)
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("loop")
	x, d, mi, vi, t := v.vec(), v.vec(), v.vec(), v.vec(), v.vec()
	VMULPS(Mem{Base: w}, c["shrink"], x) // x = w·shrink
	VMOVUPS(Mem{Base: g}, d)
	VFMADD231PS(c["wd"], x, d) // d = FMA(wd, x, g)
	VMULPS(Mem{Base: m}, c["beta1"], mi)
	VFMADD231PS(c["rest1"], d, mi) // m = FMA(1-beta1, d, beta1·m)
	VMULPS(Mem{Base: vv}, c["beta2"], vi)
	VMULPS(c["rest2"], d, t)
	VFMADD231PS(t, d, vi) // v = FMA((1-beta2)·d, d, beta2·v)
	VMOVUPS(mi, Mem{Base: m})
	VMOVUPS(vi, Mem{Base: vv})
	VSQRTPS(vi, t)
	VDIVPS(c["root"], t, t)
	VADDPS(c["eps"], t, t)
	VDIVPS(t, mi, t) // m / (√v/root + eps)
	VFMADD231PS(c["step"], t, x)
	VMOVUPS(x, Mem{Base: w})
	for _, p := range []reg.Register{w, g, m, vv} {
		ADDQ(U32(4*v.lanes), p)
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}
