// Command gopeers is the peers in Go, for matrix products: gonum's and GoMLX's own backend, both without cgo. It is a module of its own, so that vTPU needs none of
// theirs. The protocol is that of ../peers.py; GOMAXPROCS is the number of threads.
//
//	gopeers gonum|gomlx
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/gomlx/gomlx/backends/simplego"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/tensors"
	"gonum.org/v1/gonum/blas"
	gonum "gonum.org/v1/gonum/blas/gonum"
)

// A product runs steps of C = A·B and returns C and the time.
type product func(form string, m, n, k int, steps int64, a, b []float32) (c []float32, seconds float64, err error)

func withGonum(form string, m, n, k int, steps int64, a, b []float32) ([]float32, float64, error) {
	c := make([]float32, m*n)
	ta, tb, lda, ldb := blas.NoTrans, blas.NoTrans, k, n
	if form[0] == 'T' {
		ta, lda = blas.Trans, m
	}
	if form[1] == 'T' {
		tb, ldb = blas.Trans, k
	}
	var impl gonum.Implementation
	start := time.Now()
	for range steps {
		impl.Sgemm(ta, tb, m, n, k, 1, a, lda, b, ldb, 0, c, n)
	}
	return c, time.Since(start).Seconds(), nil
}

func withGoMLX(form string, m, n, k int, steps int64, a, b []float32) ([]float32, float64, error) {
	backend, err := simplego.New("")
	if err != nil {
		return nil, 0, err
	}
	defer backend.Finalize()
	equation := map[string]string{"NN": "mk,kn->mn", "NT": "mk,nk->mn", "TN": "km,kn->mn"}[form]
	da, db := []int{m, k}, []int{k, n}
	if form[0] == 'T' {
		da = []int{k, m}
	}
	if form[1] == 'T' {
		db = []int{n, k}
	}
	exec, err := graph.NewExec(backend, func(x, y *graph.Node) *graph.Node { return graph.Einsum(equation, x, y) })
	if err != nil {
		return nil, 0, err
	}
	defer exec.Finalize()
	x, y := tensors.FromFlatDataAndDimensions(a, da...), tensors.FromFlatDataAndDimensions(b, db...)
	out, err := exec.Exec1(x, y) // compiles
	if err != nil {
		return nil, 0, err
	}
	start := time.Now()
	for range steps {
		if err := out.FinalizeAll(); err != nil {
			return nil, 0, err
		}
		if out, err = exec.Exec1(x, y); err != nil {
			return nil, 0, err
		}
	}
	seconds := time.Since(start).Seconds()
	c, err := tensors.CopyFlatData[float32](out)
	return c, seconds, err
}

// fill writes the same numbers as the twins in ../c/gemm.c and ../gemm.go.
func fill(n int, seed uint32) []float32 {
	x := make([]float32, n)
	for i := range x {
		seed = seed*1664525 + 1013904223
		x[i] = float32(seed>>28)/8 - 1
	}
	return x
}

func version(of string) string {
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, d := range b.Deps {
			if d.Path == of {
				return d.Version
			}
		}
	}
	return "unknown"
}

func main() {
	peers := map[string]struct {
		path string
		f    product
	}{"gonum": {"gonum.org/v1/gonum", withGonum}, "gomlx": {"github.com/gomlx/gomlx", withGoMLX}}
	if len(os.Args) != 2 || peers[os.Args[1]].f == nil {
		fmt.Fprintln(os.Stderr, "gopeers: want gonum or gomlx")
		os.Exit(2)
	}
	peer := peers[os.Args[1]]
	fmt.Printf("{\"version\": %q}\n", os.Args[1]+" "+version(peer.path))
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var work, form string
		var steps int64
		var m, n, k int
		_, err := fmt.Sscanf(in.Text(), "%s %d", &work, &steps)
		if err == nil && len(work) > 3 {
			form = work[:2]
			_, err = fmt.Sscanf(work[3:], "%d,%d,%d", &m, &n, &k)
		}
		if err != nil || m < 1 || n < 1 || k < 1 {
			fmt.Println(`{"error": "want FORM:M,N,K STEPS"}`)
			continue
		}
		c, seconds, err := peer.f(form, m, n, k, steps, fill(m*k, 1), fill(k*n, 2))
		if err != nil {
			fmt.Printf("{\"error\": %q}\n", err.Error())
			continue
		}
		sum := 0.0
		for i, v := range c {
			sum += float64(v) * float64(i%7+1)
		}
		fmt.Printf("{\"seconds\": %.9f, \"loss\": %.17g}\n", seconds, sum)
	}
}
