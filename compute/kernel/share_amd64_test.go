//go:build amd64 && !purego

package kernel

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkShare gives the share of the FMA peak of a core that products reach: the peak and the product take turns, in pieces of a fraction of a
// millisecond, and the median of their ratios counts.
func BenchmarkShare(b *testing.B) {
	if level < 2 {
		b.Skip("the peak is measured with AVX-512")
	}
	type product struct {
		f       Form
		m, n, k int
	}
	var all []product
	for _, n := range []int{64, 128, 256, 512, 1024, 2048} {
		all = append(all, product{NN, n, n, n})
	}
	all = append(all, product{NT, 768, 384, 128}, product{NT, 768, 512, 128}, product{NT, 768, 128, 512}, product{NN, 768, 128, 512}, product{TN, 512, 128, 768},
		product{NT, 256, 2304, 768}, product{NT, 256, 3072, 768}, product{NT, 256, 768, 3072}, product{NN, 256, 768, 3072}, product{TN, 3072, 768, 256},
		product{NT, 256, 50257, 768}, product{NN, 256, 768, 50257}, product{TN, 50257, 768, 256},
		product{NT, 64, 64, 32}, product{NN, 64, 32, 64}, product{TN, 64, 32, 64}, product{NT, 128, 384, 128}, product{NT, 64, 768, 768},
		product{NT, 7, 64, 16}, product{NN, 7, 16, 64}, product{TN, 64, 16, 7}, product{NT, 7, 27, 16}, product{NT, 7, 16, 16}, product{TN, 16, 16, 7},
		product{NT, 7, 7, 4}, product{NN, 7, 4, 7}, product{NT, 1, 64, 16}, product{NN, 1, 1000, 300}, product{NT, 64, 128, 784}, product{TN, 128, 784, 64}, product{NN, 100, 100, 100})
	for _, p := range all {
		b.Run(fmt.Sprintf("%s/%dx%dx%d", []string{"NN", "NT", "TN"}[p.f], p.m, p.n, p.k), func(b *testing.B) {
			x, y, z := make([]float32, p.m*p.k), make([]float32, p.k*p.n), make([]float32, p.m*p.n)
			Fill(x, 1)
			Fill(y, 1)
			lda, ldb := p.k, p.n
			if p.f == TN {
				lda = p.m
			}
			if p.f == NT {
				ldb = p.k
			}
			flop := 2 * float64(p.m) * float64(p.n) * float64(p.k)
			times := int(4e7/flop) + 1
			rounds := int(min(max(31, 4e8/flop), 61))
			if flop > 1e9 {
				rounds = 9
			}
			peak := func() float64 {
				t := time.Now()
				peakAVX512(20000)
				return 768 * 20000 / float64(time.Since(t).Nanoseconds())
			}
			for b.Loop() {
				var shares, ns, peaks []float64
				Gemm(p.f, p.m, p.n, p.k, x, lda, y, ldb, z, p.n, false)
				for range rounds {
					p1 := peak()
					t := time.Now()
					for range times {
						Gemm(p.f, p.m, p.n, p.k, x, lda, y, ldb, z, p.n, false)
					}
					d := float64(time.Since(t).Nanoseconds()) / float64(times)
					pk := 2 / (1/p1 + 1/peak())
					shares, ns, peaks = append(shares, flop/d/pk), append(ns, d), append(peaks, pk)
				}
				slices.Sort(shares)
				slices.Sort(ns)
				slices.Sort(peaks)
				b.ReportMetric(100*shares[len(shares)/2], "%peak")
				b.ReportMetric(flop/ns[len(ns)/2], "GFLOP/s")
				b.ReportMetric(ns[len(ns)/2], "ns/product")
				b.ReportMetric(peaks[len(ns)/2], "peak")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
