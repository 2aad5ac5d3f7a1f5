// Package kernel is the machine room: slices in, slices out. It allocates nothing, starts nothing and knows nothing of the pipeline.
//
// Every kernel has one canonical order of operations, which its documentation gives as the Go loop that it equals, and every
// implementation of it (plain Go, AVX2, AVX-512) has the same bits:
//   - an element of a matrix product starts at 0, at the old value or at the bias, and takes k in ascending order, one FMA each;
//   - a long reduction runs in 64 virtual lanes, element i in lane i mod 64, and ends in a tree that adds lane l+32 to l, then 16, 8, 4, 2, 1;
//   - a sum over rows takes the rows in ascending order;
//   - exp, log, tanh and erf are polynomials with a fixed sequence of FMAs; division and square root are IEEE exact.
//
// Lengths that don't fit are mistakes of the caller and panic.
package kernel

import "fmt"

func need(what string, got, want int) {
	if got < want {
		short(what, got, want)
	}
}

//go:noinline
func short(what string, got, want int) {
	panic(fmt.Sprintf("kernel: %s has %d elements, want %d", what, got, want))
}
