//go:build amd64 && !purego

package kernel

import "golang.org/x/sys/cpu"

//go:generate go run -C _gen . -isa avx2 -pkg kernel -out ../kernel_avx2_amd64.s -stubs ../stubs_avx2_amd64.go
//go:generate go run -C _gen . -isa avx512 -pkg kernel -out ../kernel_avx512_amd64.s -stubs ../stubs_avx512_amd64.go

// level is the instruction set in use: 0 generic, 1 AVX2 with FMA, 2 AVX-512.
var (
	isa   string
	level int
)

var names = [...]string{"generic", "avx2", "avx512"}

func isas() []string {
	n := 1
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		n = 2
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW {
			n = 3
		}
	}
	return names[:n]
}

func init() {
	all := isas()
	isa = all[len(all)-1]
	use(isa)
}

func use(name string) {
	for i, n := range names {
		if n == name {
			level = i
		}
	}
}

func dot(x, y []float32) float32 {
	if level == 0 || len(x) < lanes {
		return dotGeneric(x, y)
	}
	var s [lanes]float32
	n := len(x) / lanes
	if level == 2 {
		dotAVX512(n, &x[0], &y[0], &s)
	} else {
		dotAVX2(n, &x[0], &y[0], &s)
	}
	y = y[n*lanes:]
	for l, v := range x[n*lanes:] {
		s[l] = FMA(v, y[l], s[l])
	}
	return tree(&s)
}

// maxBlocks keeps one call of an assembly loop below some 10 µs: Go never interrupts assembly.
const maxBlocks = 4096

func axpy(a float32, x, y []float32) {
	w := 8 * level
	if level == 0 || len(x) < w {
		axpyGeneric(a, x, y)
		return
	}
	for len(x) >= w {
		n := min(len(x)/w, maxBlocks)
		if level == 2 {
			axpyAVX512(n, a, &x[0], &y[0])
		} else {
			axpyAVX2(n, a, &x[0], &y[0])
		}
		x, y = x[n*w:], y[n*w:]
	}
	axpyGeneric(a, x, y)
}

func adam(w, g, m, v []float32, p *AdamParams) {
	width := 8 * level
	if level > 0 {
		b1, b2 := 1-p.Beta1, 1-p.Beta2
		step, root := -(p.LR / p.Correct1), Sqrt32(p.Correct2)
		shrink, wd := float32(1), p.WeightDecay
		if p.Decoupled {
			shrink, wd = 1-float32(p.LR*wd), 0
		}
		for len(w) >= width {
			n := min(len(w)/width, maxBlocks/4)
			if level == 2 {
				adamAVX512(n, &w[0], &g[0], &m[0], &v[0], p.Beta1, b1, p.Beta2, b2, step, root, p.Eps, shrink, wd)
			} else {
				adamAVX2(n, &w[0], &g[0], &m[0], &v[0], p.Beta1, b1, p.Beta2, b2, step, root, p.Eps, shrink, wd)
			}
			w, g, m, v = w[n*width:], g[n*width:], m[n*width:], v[n*width:]
		}
	}
	adamGeneric(w, g, m, v, p)
}
