//go:build amd64 && !purego

package kernel

import (
	"sync/atomic"

	"golang.org/x/sys/cpu"
)

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

const (
	kBlock = 256 // depth of a packed panel: 32 KiB with 32 columns
	maxNR  = 32
	maxMR  = 8
)

// scratch is the room of one call: a packed panel of B and a tile of C. Calls of several lanes take different ones.
type scratch struct {
	b [kBlock * maxNR]float32
	c [maxMR * maxNR]float32
}

var pool [16]atomic.Pointer[scratch]

func borrow() *scratch {
	for i := range pool {
		if s := pool[i].Swap(nil); s != nil {
			return s
		}
	}
	return new(scratch)
}

func (s *scratch) back() {
	for i := range pool {
		if pool[i].CompareAndSwap(nil, s) {
			return
		}
	}
}

// tiny is the number of multiplications below which a product is not worth its packing.
const tiny = 64

// gemm works through tiles of C: blocks of k, panels of B with NR columns, MR rows at a time. B is packed where its rows are not contiguous in n (NT)
// or too short for a whole panel.
func gemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	if level == 0 || m*n*k < tiny {
		gemmGeneric(f, m, n, k, a, lda, b, ldb, c, ldc)
		return
	}
	if k == 0 {
		return
	}
	s := borrow()
	ra, sa := lda, 1 // strides of A by row and by k
	if f == TN {
		ra, sa = 1, lda
	}
	for p := 0; p < k; p += kBlock {
		kc := min(kBlock, k-p)
		for j := 0; j < n; {
			// The last columns may fill the narrow registers better; the order of operations is the same in both.
			level, nr := level, 16
			if level == 2 && n-j <= 16 {
				level = 1
			} else if level == 2 {
				nr = 32
			}
			nc := min(nr, n-j)
			bp, bs := &s.b[0], nr
			switch {
			case f == NT:
				s.packT(b[j*ldb+p:], ldb, nc, kc, nr)
			case nc < nr:
				s.pack(b[p*ldb+j:], ldb, nc, kc, nr)
			default:
				bp, bs = &b[p*ldb+j], ldb
			}
			for i := 0; i < m; {
				mc := tileRows(level, m-i)
				ap := &a[i*ra+p*sa]
				if nc == nr {
					tile(level, mc, kc, ap, 4*ra, 4*sa, bp, 4*bs, &c[i*ldc+j], 4*ldc)
				} else {
					for r := range mc {
						copy(s.c[r*nr:r*nr+nc], c[(i+r)*ldc+j:(i+r)*ldc+j+nc])
					}
					tile(level, mc, kc, ap, 4*ra, 4*sa, bp, 4*bs, &s.c[0], 4*nr)
					for r := range mc {
						copy(c[(i+r)*ldc+j:(i+r)*ldc+j+nc], s.c[r*nr:r*nr+nc])
					}
				}
				i += mc
			}
			j += nc
		}
	}
	s.back()
}

// pack copies kc rows of nc columns; what lies beyond them in the panel is whatever it was and is computed for nothing.
func (s *scratch) pack(b []float32, ldb, nc, kc, nr int) {
	for p := range kc {
		copy(s.b[p*nr:p*nr+nc], b[p*ldb:p*ldb+nc])
	}
}

// packT copies nc rows of kc columns, transposed.
func (s *scratch) packT(b []float32, ldb, nc, kc, nr int) {
	j := 0
	for ; j+4 <= nc; j += 4 {
		b0, b1, b2, b3 := b[j*ldb:j*ldb+kc], b[(j+1)*ldb:(j+1)*ldb+kc], b[(j+2)*ldb:(j+2)*ldb+kc], b[(j+3)*ldb:(j+3)*ldb+kc]
		for p := range b0 {
			d := (*[4]float32)(s.b[p*nr+j:])
			d[0], d[1], d[2], d[3] = b0[p], b1[p], b2[p], b3[p]
		}
	}
	for ; j < nc; j++ {
		for p, v := range b[j*ldb : j*ldb+kc] {
			s.b[p*nr+j] = v
		}
	}
}

func tileRows(level, left int) int {
	switch {
	case level == 2 && left >= 8:
		return 8
	case level == 1 && left >= 6:
		return 6
	case left >= 4:
		return 4
	case left >= 2:
		return 2
	}
	return 1
}

func tile(level, rows, k int, a *float32, lda, ska int, b *float32, ldb int, c *float32, ldc int) {
	if level == 2 {
		switch rows {
		case 8:
			gemm8AVX512(k, a, lda, ska, b, ldb, c, ldc)
		case 4:
			gemm4AVX512(k, a, lda, ska, b, ldb, c, ldc)
		case 2:
			gemm2AVX512(k, a, lda, ska, b, ldb, c, ldc)
		default:
			gemm1AVX512(k, a, lda, ska, b, ldb, c, ldc)
		}
		return
	}
	switch rows {
	case 6:
		gemm6AVX2(k, a, lda, ska, b, ldb, c, ldc)
	case 4:
		gemm4AVX2(k, a, lda, ska, b, ldb, c, ldc)
	case 2:
		gemm2AVX2(k, a, lda, ska, b, ldb, c, ldc)
	default:
		gemm1AVX2(k, a, lda, ska, b, ldb, c, ldc)
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
