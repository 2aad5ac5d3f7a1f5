//go:build amd64 && !purego

package kernel

import (
	"sync/atomic"
	"unsafe"
)

//go:generate go run -C _gen/gemm . -isa avx2 -pkg kernel -out ../../gemm_avx2_amd64.s -stubs ../../gemm_stubs_avx2_amd64.go
//go:generate go run -C _gen/gemm . -isa avx512 -pkg kernel -out ../../gemm_avx512_amd64.s -stubs ../../gemm_stubs_avx512_amd64.go

// panelFunc is a loop over blocks of rows of C, see the generated panel functions.
type panelFunc func(blocks, k int, a *float32, astep, lda, ska int, b *float32, ldb int, in *float32, instep, ldin int, c *float32, cstep, ldc int, last int)

// width is what a product needs to know of an instruction set.
type width struct {
	lanes, rows int                 // float32 in a register; rows of a tile
	panel       [13][3][2]panelFunc // by rows, registers in a row, and whether the last register is used in part
}

var widths = [3]width{
	1: {8, 6, [13][3][2]panelFunc{
		1: {1: {panel1x1AVX2, panel1x1AVX2Masked}, 2: {panel1x2AVX2, panel1x2AVX2Masked}},
		2: {1: {panel2x1AVX2, panel2x1AVX2Masked}, 2: {panel2x2AVX2, panel2x2AVX2Masked}},
		3: {1: {panel3x1AVX2, panel3x1AVX2Masked}, 2: {panel3x2AVX2, panel3x2AVX2Masked}},
		4: {1: {panel4x1AVX2, panel4x1AVX2Masked}, 2: {panel4x2AVX2, panel4x2AVX2Masked}},
		5: {1: {panel5x1AVX2, panel5x1AVX2Masked}, 2: {panel5x2AVX2, panel5x2AVX2Masked}},
		6: {1: {panel6x1AVX2, panel6x1AVX2Masked}, 2: {panel6x2AVX2, panel6x2AVX2Masked}},
	}},
	2: {16, 12, [13][3][2]panelFunc{
		1:  {1: {panel1x1AVX512, panel1x1AVX512Masked}, 2: {panel1x2AVX512, panel1x2AVX512Masked}},
		2:  {1: {panel2x1AVX512, panel2x1AVX512Masked}, 2: {panel2x2AVX512, panel2x2AVX512Masked}},
		3:  {1: {panel3x1AVX512, panel3x1AVX512Masked}, 2: {panel3x2AVX512, panel3x2AVX512Masked}},
		4:  {1: {panel4x1AVX512, panel4x1AVX512Masked}, 2: {panel4x2AVX512, panel4x2AVX512Masked}},
		5:  {1: {panel5x1AVX512, panel5x1AVX512Masked}, 2: {panel5x2AVX512, panel5x2AVX512Masked}},
		6:  {1: {panel6x1AVX512, panel6x1AVX512Masked}, 2: {panel6x2AVX512, panel6x2AVX512Masked}},
		7:  {1: {panel7x1AVX512, panel7x1AVX512Masked}, 2: {panel7x2AVX512, panel7x2AVX512Masked}},
		8:  {1: {panel8x1AVX512, panel8x1AVX512Masked}, 2: {panel8x2AVX512, panel8x2AVX512Masked}},
		9:  {1: {panel9x1AVX512, panel9x1AVX512Masked}, 2: {panel9x2AVX512, panel9x2AVX512Masked}},
		10: {1: {panel10x1AVX512, panel10x1AVX512Masked}, 2: {panel10x2AVX512, panel10x2AVX512Masked}},
		11: {1: {panel11x1AVX512, panel11x1AVX512Masked}, 2: {panel11x2AVX512, panel11x2AVX512Masked}},
		12: {1: {panel12x1AVX512, panel12x1AVX512Masked}, 2: {panel12x2AVX512, panel12x2AVX512Masked}},
	}},
}

// shape tells of a panel of nc columns how many registers a row takes, how many columns the last one has, and whether that is less than it could have.
func (w *width) shape(nc int) (vecs, last, part int) {
	vecs, last = 1, nc
	if nc > w.lanes {
		vecs, last = 2, nc-w.lanes
	}
	if last < w.lanes {
		part = 1
	}
	return vecs, last, part
}

const (
	maxDepth = 512  // of a packed panel
	maxNR    = 32   // columns of a packed panel
	maxSuper = 4096 // k for which A is packed at once
	callRows = 384  // rows that one call of an assembly loop works on: some 30 µs at the usual depth. Go never interrupts assembly.
)

// scratch is the room of one call: a packed panel of B, the packed rows of A, and a part of C between two blocks of k. Calls of several lanes take
// different ones.
type scratch struct {
	room [maxDepth*maxNR + 16]float32
	b    []float32 // in room, from a cache line on
	a, t []float32
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

// roomT makes room for n elements of C.
func (s *scratch) roomT(n int) {
	if len(s.t) < n {
		s.t = make([]float32, n+16)
		s.t = s.t[toLine(&s.t[0]):]
	}
}

// roomA makes room for n packed elements of A.
func (s *scratch) roomA(n int) {
	if len(s.a) < n+16 { // 16: the last row is written as a whole register
		s.a = make([]float32, n+32)
		s.a = s.a[toLine(&s.a[0]):]
	}
}

// zeros is where a product starts that starts at nothing.
var zeros [maxNR]float32

// tiny is the number of multiplications below which a product is not worth the call.
const tiny = 16

// gemm sets C = start + A·B.
func gemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	if w := &widths[level]; m <= w.rows && n <= 2*w.lanes && k <= cuts[level].depth && m*n*k >= tiny { // never on level 0, which has no rows
		gemmOne(w, f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
		return
	}
	switch {
	case level == 0 || m*n*k < tiny:
		gemmGeneric(f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
	case level == 2 && m >= large.m && (n >= large.n || f == TN && n >= large.tn) && m*n*k >= large.mnk:
		gemmPacked(f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
	default:
		gemmDirect(f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
	}
}

// large is what makes a product worth the packing of A: with few columns, A is read so few times that it stays where it is, unless its k lie far apart
// (TN).
var large = struct{ m, n, tn, mnk int }{48, 513, 64, 1 << 19}

// from is where rows i.. of a panel of C at column j start: at zero, at C or at the bias; and how far apart they lie.
func from(first bool, start start, bias, c []float32, ldc, i, j int) (*float32, int) {
	switch {
	case !first || start == fromC:
		return &c[i*ldc+j], 4 * ldc
	case start == fromBias:
		return &bias[j], 0
	}
	return &zeros[0], 0
}

// gemmOne is for products of one tile.
func gemmOne(w *width, f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	ra, sa := lda, 1
	if f == TN {
		ra, sa = 1, lda
	}
	in, ldin := &c[0], 4*ldc
	switch start {
	case fromZero:
		in, ldin = &zeros[0], 0
	case fromBias:
		in, ldin = &bias[0], 0
	}
	vecs, last, part := w.shape(n)
	if f != NT {
		w.panel[m][vecs][part](1, k, &a[0], 0, 4*ra, 4*sa, &b[0], 4*ldb, in, 0, ldin, &c[0], 0, 4*ldc, last)
		return
	}
	s := borrow()
	w.panel[m][vecs][part](1, k, &a[0], 0, 4*ra, 4*sa, s.packT(b, ldb, n, k, 2*w.lanes), 8*w.lanes, in, 0, ldin, &c[0], 0, 4*ldc, last)
	s.back()
}

// gemmDirect works through C by blocks of k (a panel of B stays in the first-level cache), blocks of rows (those of A stay in the second-level cache) and
// panels of columns. A stays where it is; the panel of B is packed where its rows are not contiguous (NT) or fall on each other in the cache.
func gemmDirect(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	w := &widths[level]
	nr := 2 * w.lanes
	ra, sa := lda, 1 // strides of A by row and by k
	if f == TN {
		ra, sa = 1, lda
	}
	depth, height := cuts[level].depth, cuts[level].height
	var s *scratch
	for p := 0; p < k; p += depth {
		kc := min(depth, k-p)
		direct := f != NT && (m <= 2*w.rows || spreads(kc, ldb, nr))
		if !direct && s == nil {
			s = borrow()
		}
		for i0 := 0; i0 < m; i0 += height {
			i1 := min(i0+height, m)
			for j := 0; j < n; j += nr {
				nc := min(nr, n-j)
				vecs, last, part := w.shape(nc)
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
				for i := i0; i < i1; {
					rows := min(w.rows, i1-i)
					blocks := 1
					if i1-i >= 2*rows {
						blocks = min(i1-i, callRows) / rows
					}
					in, ldin := from(p == 0, start, bias, c, ldc, i, j)
					w.panel[rows][vecs][part](blocks, kc, &a[i*ra+p*sa], 4*rows*ra, 4*ra, 4*sa, bp, bs, in, rows*ldin, ldin, &c[i*ldc+j], 4*rows*ldc, 4*ldc, last)
					i += blocks * rows
				}
			}
		}
	}
	if s != nil {
		s.back()
	}
}

// gemmPacked is for large products. It takes rows of C as many as stay in the second-level cache together with their part of A, packed in blocks of 12;
// then columns of C as many as stay there too; then blocks of k, so that a part of C is complete before the next one is begun; then panels of 32 columns,
// packed, in the first-level cache. While one panel is multiplied, the memory of the next one is fetched.
func gemmPacked(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	const rows, nr = 12, 32
	w := &widths[2]
	depth, height, wide, super := cut(m, n, k, l2)
	s := borrow()
	for i0 := 0; i0 < m; i0 += height {
		i1 := min(i0+height, m)
		for q := 0; q < k; q += super {
			kq := min(super, k-q)
			s.packA(f, i0, i1, q, kq, depth, a, lda)
			h := roundUp(i1-i0, rows)
			if kq > depth {
				s.roomT(h * roundUp(min(wide, n), nr))
			}
			for j0 := 0; j0 < n; j0 += wide {
				j1 := min(j0+wide, n)
				for p := q; p < q+kq; p += depth {
					kc := min(depth, q+kq-p)
					packed := s.a[(p-q)*h:]
					for j := j0; j < j1; j += nr {
						nc := min(nr, n-j)
						pn, jn := p, j+nr // the panel after this one
						if jn >= j1 {
							if pn, jn = p+kc, j0; pn >= q+kq {
								pn, jn = q, j1
							}
						}
						jn = min(jn, n-1)
						var next *float32
						step, pair, skip := 4*ldb, 64, 0 // two lines of a row of B for every 16 of k
						if f == NT {
							s.packT(b[j*ldb+p:], ldb, nc, kc, nr)
							next = &b[pn+jn*ldb]
							// 16 elements of a row of B for every 16 of k, or of two rows, so that the panel is complete with the last block of C
							step, skip = 64, 4*ldb-(kc+15)/16*64
							pair = 16 * 4 * ldb
							if h >= 32*rows {
								pair = 0
							}
						} else {
							s.packN(b[p*ldb+j:], ldb, nc, kc, nr)
							next = &b[pn*ldb+jn]
						}
						in, ldin := from(p == 0, start, bias, c, ldc, i0, j)
						out, ldout := &c[i0*ldc+j], 4*ldc
						if p > q { // between two blocks of k, C lies in panels as B does
							in, ldin = &s.t[(j-j0)*h], 4*nr
						}
						if p+kc < q+kq {
							out, ldout = &s.t[(j-j0)*h], 4*nr
						}
						s.panels(w, i1-i0, kc, nc, packed, in, ldin, out, ldout, next, step, pair, skip)
					}
				}
			}
		}
	}
	s.back()
}

// panels multiplies m packed rows by the packed panel of nc columns.
func (s *scratch) panels(w *width, m, kc, nc int, a []float32, in *float32, ldin int, c *float32, ldc int, next *float32, step, pair, skip int) {
	const rows, nr = 12, 32
	vecs, last, part := w.shape(nc)
	for i := 0; i < m; {
		ap := &a[i*kc]
		in, c := plus(in, i*ldin), plus(c, i*ldc)
		r := min(rows, m-i)
		blocks := min(m-i, callRows) / r
		if r < rows || nc < nr {
			w.panel[r][vecs][part](blocks, kc, ap, 4*rows*kc, 4, 4*rows, &s.b[0], 4*nr, in, r*ldin, ldin, c, r*ldc, ldc, last)
		} else {
			block12x2AVX512(blocks, kc, ap, &s.b[0], in, ldin, c, ldc, next, step, pair, skip)
		}
		i += blocks * r
	}
}

// plus is p moved on by some bytes.
func plus(p *float32, bytes int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), bytes)) }

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// packA copies rows i0..i1-1 of A, elements q..q+kq-1 of k, for every block of k in blocks of 12 rows, k slowest in each.
func (s *scratch) packA(f Form, i0, i1, q, kq, depth int, a []float32, lda int) {
	const rows = 12
	h := roundUp(i1-i0, rows)
	s.roomA(h * kq)
	for p := 0; p < kq; p += depth {
		kc := min(depth, kq-p)
		for i := i0; i < i1; i += rows {
			dst := s.a[p*h+(i-i0)*kc:]
			switch {
			case f == TN && i1-i >= 4*rows:
				packAT4AVX512(kc, &a[(p+q)*lda+i], 4*lda, &dst[0], 4*rows*kc)
				i += 3 * rows
			case i1-i < rows:
				s.packEdge(f, i, i1-i, p+q, kc, a, lda, dst)
			case f == TN:
				packATAVX512(kc, &a[(p+q)*lda+i], 4*lda, &dst[0])
			default:
				if k4 := kc &^ 3; k4 > 0 {
					packANAVX512(k4, &a[i*lda+p+q], 4*lda, &dst[0])
				}
				for t := kc &^ 3; t < kc; t++ {
					for r := range rows {
						dst[t*rows+r] = a[(i+r)*lda+p+q+t]
					}
				}
			}
		}
	}
}

// packEdge packs r rows of A, fewer than 12.
func (s *scratch) packEdge(f Form, i, r, p, kc int, a []float32, lda int, dst []float32) {
	const rows = 12
	if f == TN {
		for t := range kc {
			copy(dst[t*rows:t*rows+r], a[(p+t)*lda+i:])
		}
		return
	}
	for u := range r {
		for t, v := range a[(i+u)*lda+p : (i+u)*lda+p+kc] {
			dst[t*rows+u] = v
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
		for j := 0; j < nc; j += 16 {
			p := 0
			if nc-j >= 16 && kc >= 4 {
				p = kc &^ 3
				packT16AVX512(p, &b[j*ldb], 4*ldb, &s.b[j], 4*nr)
			}
			if p < kc {
				packTAVX512(kc-p, &b[j*ldb+p], 4*ldb, min(nc-j, 16), &s.b[p*nr+j], 4*nr)
			}
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
