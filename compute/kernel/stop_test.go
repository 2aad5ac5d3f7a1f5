package kernel

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkStop prints how long the runtime waits until a thread in a kernel stands still: no longer than the kernel's longest call of assembly, which
// nothing can interrupt. It needs two CPUs with nothing else on them.
func BenchmarkStop(b *testing.B) {
	if runtime.NumCPU() < 2 {
		b.Skip("needs two CPUs")
	}
	buf := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i%17) / 16
		}
		return x
	}
	x, y, z, v := buf(1<<22), buf(1<<22), buf(1<<22), buf(1<<22)
	product := func(f Form, m, n, k int) func() {
		lda, ldb := k, n
		if f == NT {
			ldb = k
		} else if f == TN {
			lda = m
		}
		return func() { Gemm(f, m, n, k, x, lda, y, ldb, z, n, false) }
	}
	for _, k := range []struct {
		name string
		do   func()
	}{
		{"NT 384x512x128", product(NT, 384, 512, 128)}, {"NN 384x128x512", product(NN, 384, 128, 512)}, {"TN 512x128x384", product(TN, 512, 128, 384)},
		{"NT 256x3072x768", product(NT, 256, 3072, 768)}, {"NN 256x768x3072", product(NN, 256, 768, 3072)}, {"TN 3072x768x256", product(TN, 3072, 768, 256)},
		{"GeluErf", func() { GeluErf(y, x) }}, {"GeluErfBackward", func() { GeluErfBackward(y, z, x, false) }}, {"Exp", func() { Exp(y, x) }},
		{"Adam", func() {
			Adam(y, x, z, v, &AdamParams{LR: 1e-3, Beta1: .9, Beta2: .99, Correct1: .1, Correct2: .01, Eps: 1e-8})
		}},
		{"SGD", func() { SGD(y, x, 1e-3, 0) }}, {"LayerNorm", func() { LayerNorm(y, z, v, x, x, x, 4096, 768, 1e-5) }},
		{"SoftmaxXent", func() { SoftmaxXent(y, z, x, make([]int32, 64), 64, 50257) }}, {"SoftmaxRows", func() { SoftmaxRows(y, x, 4096, 64, 64, 1, false) }},
	} {
		b.Run(k.name, func(b *testing.B) {
			var end atomic.Bool
			done := make(chan struct{})
			go func() {
				defer close(done)
				for !end.Load() {
					k.do()
				}
			}()
			s := []metrics.Sample{{Name: "/sched/pauses/stopping/other:seconds"}}
			metrics.Read(s)
			before := append([]uint64{}, s[0].Value.Float64Histogram().Counts...)
			var m runtime.MemStats
			for b.Loop() {
				time.Sleep(time.Millisecond)
				runtime.ReadMemStats(&m)
			}
			metrics.Read(s)
			h := s[0].Value.Float64Histogram()
			end.Store(true)
			<-done
			var total, seen uint64
			for i, c := range h.Counts {
				total += c - before[i]
			}
			for _, q := range []float64{.5, .9, 1} {
				seen = 0
				for i, c := range h.Counts {
					if seen += c - before[i]; float64(seen) >= q*float64(total) {
						b.ReportMetric(1e6*h.Buckets[i+1], fmt.Sprintf("µs-%g", q))
						break
					}
				}
			}
		})
	}
}
