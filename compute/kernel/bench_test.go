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
