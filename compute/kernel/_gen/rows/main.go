// Command rows writes the assembly of package kernel, all but the matrix products: one file for AVX2 with FMA, one for AVX-512. Run it with
// go generate ./compute/kernel.
package main

import (
	"flag"
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	which := flag.String("isa", "", "avx2 or avx512")
	flag.Parse()
	v := isa{consts: &constants{}}
	switch *which {
	case "avx2":
		v.name, v.w = "AVX2", 8
	case "avx512":
		v.name, v.w = "AVX512", 16
	default:
		fmt.Fprintln(os.Stderr, "rows: -isa wants avx2 or avx512")
		os.Exit(2)
	}
	v.consts.v = v
	ConstraintExpr("amd64,!purego")
	v.maps()
	v.reductions()
	v.colSum()
	v.addRows()
	v.softmaxRows()
	v.softmaxBackward()
	v.norm("layerNorm", true)
	v.norm("rmsNorm", false)
	v.normBackward("layerNormBackward", true)
	v.normBackward("rmsNormBackward", false)
	v.optimizers()
	if v.wide() {
		v.scores(false)
		v.scores(true)
		v.softmax32()
		v.rmsNorm16()
		v.rmsNormBackward16()
		v.attend()
		v.attendBackward()
	}
	v.axpy4()
	v.squaredError()
	v.copyPast()
	if v.wide() {
		v.dot4()
		v.regress()
	}
	v.consts.write()
	Generate()
}
