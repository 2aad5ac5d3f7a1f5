//go:build amd64 && !purego

package kernel

import "sync/atomic"

//go:generate go run -C _gen/gemm . -isa avx2 -pkg kernel -out ../../gemm_avx2_amd64.s -stubs ../../gemm_stubs_avx2_amd64.go
//go:generate go run -C _gen/gemm . -isa avx512 -pkg kernel -out ../../gemm_avx512_amd64.s -stubs ../../gemm_stubs_avx512_amd64.go

// panelFunc is a loop over blocks of rows of C, see the generated panel functions.
type panelFunc func(blocks, k int, a *float32, astep, lda, ska int, b *float32, ldb int, in *float32, instep, ldin int, c *float32, cstep, ldc int, last int)

// width is what a product needs to know of an instruction set.
type width struct {
	lanes, rows int                // float32 in a register; rows of a tile
	panel       [9][3][2]panelFunc // by rows, registers in a row, and whether the last register is used in part
}

var widths = [3]width{
	1: {8, 6, [9][3][2]panelFunc{
		1: {1: {panel1x1AVX2, panel1x1AVX2Masked}, 2: {panel1x2AVX2, panel1x2AVX2Masked}},
		2: {1: {panel2x1AVX2, panel2x1AVX2Masked}, 2: {panel2x2AVX2, panel2x2AVX2Masked}},
		3: {1: {panel3x1AVX2, panel3x1AVX2Masked}, 2: {panel3x2AVX2, panel3x2AVX2Masked}},
		4: {1: {panel4x1AVX2, panel4x1AVX2Masked}, 2: {panel4x2AVX2, panel4x2AVX2Masked}},
		5: {1: {panel5x1AVX2, panel5x1AVX2Masked}, 2: {panel5x2AVX2, panel5x2AVX2Masked}},
		6: {1: {panel6x1AVX2, panel6x1AVX2Masked}, 2: {panel6x2AVX2, panel6x2AVX2Masked}},
	}},
	2: {16, 8, [9][3][2]panelFunc{
		1: {1: {panel1x1AVX512, panel1x1AVX512}, 2: {panel1x2AVX512, panel1x2AVX512}},
		2: {1: {panel2x1AVX512, panel2x1AVX512}, 2: {panel2x2AVX512, panel2x2AVX512}},
		3: {1: {panel3x1AVX512, panel3x1AVX512}, 2: {panel3x2AVX512, panel3x2AVX512}},
		4: {1: {panel4x1AVX512, panel4x1AVX512}, 2: {panel4x2AVX512, panel4x2AVX512}},
		5: {1: {panel5x1AVX512, panel5x1AVX512}, 2: {panel5x2AVX512, panel5x2AVX512}},
		6: {1: {panel6x1AVX512, panel6x1AVX512}, 2: {panel6x2AVX512, panel6x2AVX512}},
		7: {1: {panel7x1AVX512, panel7x1AVX512}, 2: {panel7x2AVX512, panel7x2AVX512}},
		8: {1: {panel8x1AVX512, panel8x1AVX512}, 2: {panel8x2AVX512, panel8x2AVX512}},
	}},
}

const (
	maxDepth = 512 // of a packed panel
	maxNR    = 32  // columns of a packed panel
	callRows = 128 // rows that one call of an assembly loop works on: some 20 µs at the largest depth. Go never interrupts assembly.
)

// scratch is the room of one call: a packed panel of B and one of A. Calls of several lanes take different ones.
type scratch struct {
	room [maxDepth*maxNR + 16]float32
	b    []float32 // in room, from a cache line on
	a    []float32
}

var pool [16]atomic.Pointer[scratch]

func borrow() *scratch {
	for i := range pool {
		if s := pool[i].Swap(nil); s != nil {
			return s
		}
	}
	s := new(scratch)
	s.b = s.room[toLine(&s.room[0]):]
	return s
}

func (s *scratch) back() {
	for i := range pool {
		if pool[i].CompareAndSwap(nil, s) {
			return
		}
	}
}

// zeros is where a product starts that starts at nothing.
var zeros [maxNR]float32

// tiny is the number of multiplications below which a product is not worth the call.
const tiny = 16

// gemm sets C = start + A·B. It works through C by blocks of k (a panel of B stays in the first-level cache), blocks of rows (those of A stay in the
// second-level cache) and panels of columns. The panel of B is packed where its rows are not contiguous (NT) or fall on each other in the cache.
func gemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	if level == 0 || m*n*k < tiny {
		gemmGeneric(f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
		return
	}
	w := &widths[level]
	nr := 2 * w.lanes
	ra, sa := lda, 1 // strides of A by row and by k
	if f == TN {
		ra, sa = 1, lda
	}
	depth, height := blocking(nr)
	var s *scratch
	for p := 0; p < k; p += depth {
		kc := min(depth, k-p)
		direct := f != NT && (m <= 2*w.rows || spreads(kc, ldb, nr))
		if !direct && s == nil {
			s = borrow()
		}
		for i0 := 0; i0 < m; i0 += height {
			i1 := min(i0+height, m)
			packed := level == 2 && i1-i0 >= 8 && (f == TN && n >= 512 || n >= 256 && 4*m*k > l2/2)
			if packed {
				if s == nil {
					s = borrow()
				}
				s.packA(f, i0, i1, kc, a[i0*ra+p*sa:], lda)
			}
			for j := 0; j < n; j += nr {
				nc := min(nr, n-j)
				vecs := (nc + w.lanes - 1) / w.lanes
				last := nc - (vecs-1)*w.lanes
				part := 0
				if last < w.lanes {
					part = 1
				}
				var bp *float32
				bs := 4 * ldb
				switch {
				case direct:
					bp = &b[p*ldb+j]
				case f == NT:
					bp, bs = s.packT(b[j*ldb+p:], ldb, nc, kc, nr), 4*nr
				default:
					bp, bs = s.packN(b[p*ldb+j:], ldb, nc, kc, nr), 4*nr
				}
				in, ldin := &c[j], ldc
				if p == 0 && start == fromZero {
					in, ldin = &zeros[0], 0
				} else if p == 0 && start == fromBias {
					in, ldin = &bias[j], 0
				}
				for i := i0; i < i1; {
					rows := min(w.rows, i1-i)
					blocks := min(i1-i, callRows) / rows
					ip := in
					if ldin != 0 {
						ip = &c[i*ldc+j]
					}
					if packed && rows == 8 {
						w.panel[8][vecs][part](blocks, kc, &s.a[(i-i0)*kc], 32*kc, 4, 32, bp, bs, ip, 32*ldin, 4*ldin, &c[i*ldc+j], 32*ldc, 4*ldc, last)
						i += 8 * blocks
						continue
					}
					w.panel[rows][vecs][part](blocks, kc, &a[i*ra+p*sa], 4*rows*ra, 4*ra, 4*sa, bp, bs, ip, 4*rows*ldin, 4*ldin, &c[i*ldc+j], 4*rows*ldc, 4*ldc, last)
					i += blocks * rows
				}
			}
		}
	}
	if s != nil {
		s.back()
	}
}

// packA copies rows i0..i1-1 of A in blocks of 8, k slowest in each.
func (s *scratch) packA(f Form, i0, i1, kc int, a []float32, lda int) {
	if need := (i1-i0)*kc + 16; len(s.a) < need { // 16: the last row is written as a whole register
		s.a = make([]float32, need+16)
		s.a = s.a[toLine(&s.a[0]):]
	}
	for i := 0; i+8 <= i1-i0; i += 8 {
		if f == TN {
			packAAVX512(kc, &a[i], 4*lda, &s.a[i*kc])
		} else {
			packTAVX512(kc, &a[i*lda], 4*lda, 8, &s.a[i*kc], 32)
		}
	}
}

// packN copies kc rows of nc columns to rows of nr.
func (s *scratch) packN(b []float32, ldb, nc, kc, nr int) *float32 {
	if level == 2 {
		packNAVX512(kc, &b[0], 4*ldb, nc, &s.b[0])
	} else {
		for p := range kc {
			copy(s.b[p*nr:p*nr+nc], b[p*ldb:p*ldb+nc])
		}
	}
	return &s.b[0]
}

// packT copies nc rows of kc columns, transposed.
func (s *scratch) packT(b []float32, ldb, nc, kc, nr int) *float32 {
	if level == 2 {
		packTAVX512(kc, &b[0], 4*ldb, min(nc, 16), &s.b[0], 128)
		if nc > 16 {
			packTAVX512(kc, &b[16*ldb], 4*ldb, nc-16, &s.b[16], 128)
		}
		return &s.b[0]
	}
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
	return &s.b[0]
}
