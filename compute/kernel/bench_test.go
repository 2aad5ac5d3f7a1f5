package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func BenchmarkGemm(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	was := ISA()
	defer func() { _ = SetISA(was) }()
	for _, isa := range ISAs() {
		for _, d := range [][3]int{{8, 16, 16}, {64, 64, 64}, {256, 256, 256}, {512, 512, 512}, {768, 512, 128}} {
			for _, f := range []Form{NN, NT, TN} {
				if isa == "generic" && d[0] > 64 {
					continue
				}
				if err := SetISA(isa); err != nil {
					b.Fatal(err)
				}
				m, n, k := d[0], d[1], d[2]
				x, y, z := randoms(r, m*k, 0), randoms(r, k*n, 0), randoms(r, m*n, 0)
				lda, ldb := k, n
				if f == TN {
					lda = m
				}
				if f == NT {
					ldb = k
				}
				b.Run(fmt.Sprintf("%s/%s/%dx%dx%d", isa, []string{"NN", "NT", "TN"}[f], m, n, k), func(b *testing.B) {
					for b.Loop() {
						Gemm(f, m, n, k, x, lda, y, ldb, z, n, false)
					}
					b.ReportMetric(2*float64(m*n*k)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
				})
			}
		}
	}
}

// BenchmarkElements is the time per element of the kernels that are not products, on rows as in a small GPT (long: 384 rows of 512, short: 8 rows of 16).
func BenchmarkElements(b *testing.B) {
	was := ISA()
	defer func() { _ = SetISA(was) }()
	for _, isa := range ISAs() {
		for _, d := range []struct {
			name    string
			rows, n int
		}{{"long", 384, 512}, {"short", 8, 16}} {
			for _, tw := range twins() {
				if isa == "generic" && d.name == "long" {
					continue
				}
				if err := SetISA(isa); err != nil {
					b.Fatal(err)
				}
				rows, n, of := d.rows, d.n, d.rows*d.n
				if tw.rows == 0 {
					rows, n = 0, of
				}
				if tw.rows == 1 { // causal: a square
					n, of = 16*(1+d.n/128), 0
				}
				r := rand.New(rand.NewPCG(1, 1))
				var s [][]float32
				for _, size := range tw.sizes(rows, n) {
					s = append(s, randoms(r, size, 0))
					of = max(of, size)
				}
				for _, v := range s { // positive: square roots follow
					for i := range v {
						v[i] = abs32(v[i])
					}
				}
				b.Run(fmt.Sprintf("%s/%s/%s", isa, d.name, tw.name), func(b *testing.B) {
					for b.Loop() {
						tw.run(s, rows, n, 0)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(of), "ns/element")
				})
			}
		}
	}
}
