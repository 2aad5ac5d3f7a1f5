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
	maxDepth = 1024     // of a packed panel
	maxNR    = 64       // columns of a packed panel
	callRows = 384      // rows that one call of an assembly loop works on: some 30 µs at the usual depth. Go never interrupts assembly.
	callWork = 96 * 768 // rows times k that one call works on where a row has 64 columns: some 50 µs
)

// scratch is the room of one call: a packed panel of B, packed rows of A, and packed panels of B. Calls of several lanes take different ones.
type scratch struct {
	room [maxDepth*maxNR + 16]float32
	b    []float32 // in room, from a cache line on
	a, p []float32
	next []float32 // the panel of B after that in b
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

// roomA makes room for n packed elements of A.
func (s *scratch) roomA(n int) { s.a = atLeast(s.a, n) }

// roomP makes room for n packed elements of B.
func (s *scratch) roomP(n int) { s.p = atLeast(s.p, n) }

// roomNext makes room for another panel of B.
func (s *scratch) roomNext() { s.next = atLeast(s.next, maxDepth*maxNR) }

// atLeast is x, or a new slice from a cache line on where it is too short.
func atLeast(x []float32, n int) []float32 {
	if len(x) < n {
		x = make([]float32, n+16)
		x = x[toLine(&x[0]):]
	}
	return x
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
	case level == 2 && lies(f, m, n, k, lda, ldb):
		gemmLying(f, m, n, k, a, lda, b, start, bias, c, ldc)
	case level == 0 || m*n*k < tiny:
		gemmGeneric(f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
	case level < 2 || n <= 32 || m < large[f].m || m*n*k < large[f].mnk || inPlace(f, m, n, k, ldb):
		gemmDirect(f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
	case f == TN && m >= n:
		gemmColumns(m, n, k, a, lda, b, ldb, start, bias, c, ldc)
	case roomy:
		gemmBeside(f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
	default:
		gemmRows(f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
	}
}

// large is from where on packing is worth it. With few rows, B is read so few times that it may stay where it is, but in NT it must be turned anyway.
var large = [3]struct{ m, mnk int }{NN: {40, 1 << 15}, NT: {12, 1 << 14}, TN: {24, 1 << 17}}

// inPlace says that B may stay where it is for more rows than two tiles have. A roomy core reads it as often as tiles of 12 rows want it: fewer than 40 rows don't pay for
// packing whatever B is, and no more than near where it comes from the second-level cache.
func inPlace(f Form, m, n, k, ldb int) bool {
	if n <= 256 && (n-1)%32 < 16 { // a single register is left over, which takes as many loads as multiplications
		return false
	}
	return roomy && f != NT && (m < 40 || m <= near[f] && 4*k*ldb <= l2)
}

var near = [...]int{NN: 72, TN: 96}

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
	packT(b, ldb, n, k, 2*w.lanes, s.b)
	w.panel[m][vecs][part](1, k, &a[0], 0, 4*ra, 4*sa, &s.b[0], 8*w.lanes, in, 0, ldin, &c[0], 0, 4*ldc, last)
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
		direct := f != NT && (m <= 2*w.rows || level == 2 && inPlace(f, m, n, k, ldb) || spreads(kc, ldb, nr))
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
					packT(b[j*ldb+p:], ldb, nc, kc, nr, s.b)
					bp, bs = &s.b[0], 4*nr
				default:
					packN(b[p*ldb+j:], ldb, nc, kc, vecs, s.b)
					bp, bs = &s.b[0], 4*w.lanes*vecs
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

// gemmRows is for large products. It takes rows of C as many as stay in the second-level cache with the block of k that a panel
// of B is deep, then blocks of k, then panels of 64 or 48 columns of B, packed, in the second-level cache too. Of weights that come from memory,
// the next panel is fetched meanwhile. A stays where it is unless its k lie far apart (TN).
func gemmRows(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	depth, height := cut(m, k, l2)
	far := 4*n*k > 2*l2 // weights from memory: while one panel is multiplied, the next one is fetched. Elsewhere that costs more than it saves.
	s := borrow()
	for i0 := 0; i0 < m; i0 += height {
		rows := min(height, m-i0)
		for p := 0; p < k; p += depth {
			kc := min(depth, k-p)
			if f == TN {
				s.roomA(sizeA(rows, kc))
				packA(rows, kc, a[p*lda+i0:], lda, s.a)
			}
			for j := 0; j < n; {
				nc := panelOf(n - j)
				vecs := (nc + 15) / 16
				t := tiles{k: kc, cols: nc, vecs: vecs, b: &s.b[0], c: &c[i0*ldc+j], ldc: 4 * ldc}
				t.in, t.ldin = from(p == 0, start, bias, c, ldc, i0, j)
				if f == NT {
					packT(b[j*ldb+p:], ldb, nc, kc, 16*vecs, s.b)
					if j+nc < n && far { // 16 elements of four rows of B for every 16 of k
						t.next, t.pair, t.step, t.skip, t.ahead = address(&b[(j+nc)*ldb+p]), 4*ldb, 64, 16*ldb-(kc+15)/16*64, 16*vecs*((kc+15)/16)
					}
				} else {
					packN(b[p*ldb+j:], ldb, nc, kc, vecs, s.b)
				}
				if f == TN {
					t.packed(rows, s.a)
				} else {
					t.run(0, rows, &a[i0*lda+p], 4*lda, false)
				}
				j += nc
			}
		}
	}
	s.back()
}

// lies says that B lies as a packed panel would, and that A may stay where it is too. Only a roomy core asks: elsewhere it was not measured.
func lies(f Form, m, n, k, lda, ldb int) bool {
	return roomy && f != NT && k > 0 && n == ldb && (n == 64 || n == 48) && m >= 24 && (f == NN || 4*k*lda <= l2/2)
}

// gemmLying packs nothing.
func gemmLying(f Form, m, n, k int, a []float32, lda int, b []float32, start start, bias []float32, c []float32, ldc int) {
	depth, _ := cutBeside(m, k, l2)
	for p := 0; p < k; p += depth {
		t := tiles{k: min(depth, k-p), cols: n, vecs: n / 16, b: &b[p*n], c: &c[0], ldc: 4 * ldc}
		t.in, t.ldin = from(p == 0, start, bias, c, ldc, 0, 0)
		if f == TN {
			t.run(0, m, &a[p*lda], 4*lda, true)
		} else {
			t.run(0, m, &a[p], 4*lda, false)
		}
	}
}

// block is a panel of B and what it is multiplied with: rows of C from i on, k from p on, columns from j on.
type block struct{ i, rows, p, kc, j, nc, vecs int }

// at cuts the block that begins there.
func (x *block) at(i, p, j, m, n, k, depth, height int) {
	nc := panelOf(n - j)
	*x = block{i, min(height, m-i), p, min(depth, k-p), j, nc, (nc + 15) / 16}
}

// packBlock packs a panel of B, but for what is there: some columns (NT) or rows.
func packBlock(f Form, x *block, b []float32, ldb int, dst []float32, there int) {
	if f == NT {
		there &^= 15
		packT(b[(x.j+there)*ldb+x.p:], ldb, x.nc-there, x.kc, 16*x.vecs, dst[there:])
		return
	}
	packN(b[(x.p+there)*ldb+x.j:], ldb, x.nc, x.kc-there, x.vecs, dst[16*x.vecs*there:])
}

// gemmBeside is gemmRows where the core has room for loads and stores beside its multiplications: while one panel of B is multiplied, the tiles pack the next one.
func gemmBeside(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	depth, height := cutBeside(m, k, l2)
	s := borrow()
	s.roomNext()
	panel, other := s.b, s.next
	var now, next block
	now.at(0, 0, 0, m, n, k, depth, height)
	packBlock(f, &now, b, ldb, panel, 0)
	for more, whole := true, true; more; whole = next.j == 0 {
		switch {
		case now.j+now.nc < n:
			next.at(now.i, now.p, now.j+now.nc, m, n, k, depth, height)
		case now.p+now.kc < k:
			next.at(now.i, now.p+now.kc, 0, m, n, k, depth, height)
		case now.i+now.rows < m:
			next.at(now.i+now.rows, 0, 0, m, n, k, depth, height)
		default:
			more = false
		}
		if f == TN && whole { // the block of A that all panels meet
			s.roomA(sizeA(now.rows, now.kc))
			packA(now.rows, now.kc, a[now.p*lda+now.i:], lda, s.a)
		}
		t := tiles{k: now.kc, cols: now.nc, vecs: now.vecs, b: &panel[0], c: &c[now.i*ldc+now.j], ldc: 4 * ldc}
		t.in, t.ldin = from(now.p == 0, start, bias, c, ldc, now.i, now.j)
		each := 0 // what a tile packs: columns (NT) or rows
		if more && now.vecs > 2 && now.kc%16 == 0 && next.kc == now.kc && next.nc == 16*now.vecs {
			t.lds, t.dst = 4*ldb, &other[0]
			if f == NT {
				each, t.todo, t.turn, t.src = 4, 4*now.vecs, true, &b[next.j*ldb+next.p]
			} else {
				each, t.todo, t.src = now.kc/16, 16, &b[next.p*ldb+next.j]
			}
		}
		all := t.todo
		if f == TN {
			t.packed(now.rows, s.a)
		} else {
			t.run(0, now.rows, &a[now.i*lda+now.p], 4*lda, false)
		}
		if more && (all == 0 || t.todo > 0) {
			packBlock(f, &next, b, ldb, other, each*(all-t.todo))
		}
		now, panel, other = next, other, panel
	}
	s.back()
}

// groupA is the number of rows of A that are packed together: as many as four tiles of 6 or three of 8 have.
const groupA = 24

// gemmColumns is for large TN products of more rows than columns. It packs as much of B as takes half of the second-level cache, then two groups of A at
// a time meet all of it, packed where k lie far apart.
func gemmColumns(m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	depth, wide, direct := cutColumns(n, k, lda, l2)
	s := borrow()
	for j0 := 0; j0 < n; j0 += wide {
		j1 := min(j0+wide, n)
		for p := 0; p < k; p += depth {
			kc := min(depth, k-p)
			s.roomP(roundUp(j1-j0, 16) * kc)
			for j := j0; j < j1; {
				nc := panelOf(j1 - j)
				packN(b[p*ldb+j:], ldb, nc, kc, (nc+15)/16, s.p[(j-j0)*kc:])
				j += nc
			}
			for i := 0; i < m; i += 2 * groupA {
				rows := min(2*groupA, m-i)
				if !direct {
					s.roomA(sizeA(rows, kc))
					packA(rows, kc, a[p*lda+i:], lda, s.a)
				}
				t := tiles{k: kc, ldc: 4 * ldc}
				for j := j0; j < j1; {
					t.cols = panelOf(j1 - j)
					t.vecs = (t.cols + 15) / 16
					t.b, t.c = &s.p[(j-j0)*kc], &c[i*ldc+j]
					t.in, t.ldin = from(p == 0, start, bias, c, ldc, i, j)
					if direct {
						t.run(0, rows, &a[p*lda+i], 4*lda, true)
					} else {
						t.packed(rows, s.a)
					}
					j += t.cols
				}
			}
		}
	}
	s.back()
}

// panelOf gives the width of the next panel of n columns: four registers, or three where that leaves no rest that would make small tiles.
func panelOf(n int) int {
	vecs := (n + 15) / 16
	if vecs%4 == 0 || vecs < 3 {
		return min(n, 64)
	}
	return min(n, 48)
}

// tiles is a product of rows of A and a packed panel of B.
type tiles struct {
	k, cols, vecs    int
	b, in, c         *float32
	ldin, ldc        int
	next             uintptr // what to fetch for the panel after this one
	pair, step, skip int
	ahead            int      // lines of it
	src, dst         *float32 // what todo tiles pack, one part each, and where to
	lds, todo        int
	turn             bool // columns instead of rows
}

// run multiplies rows lo to hi; a is the first of them, its k in a row, or in columns, step bytes apart.
func (t *tiles) run(lo, hi int, a *float32, step int, columns bool) {
	lda, ska := step, 4
	if columns {
		lda, ska = 4, step
	}
	h := 8
	if t.vecs == 4 {
		h = 6
	}
	i := lo
	for hi-i >= h && t.vecs > 2 {
		blocks := max(min(hi-i, callWork/t.k)/h, 1)
		last := 1<<(t.cols-16*(t.vecs-1)) - 1
		a, in, c := plus(a, (i-lo)*lda), plus(t.in, i*t.ldin), plus(t.c, i*t.ldc)
		switch {
		case !roomy:
			t.fetching(blocks, h, a, step, in, c, last, columns)
		case t.todo > 0:
			blocks = min(blocks, t.todo)
			t.packing(blocks, h, a, step, in, c, last, columns)
		case columns && h == 6:
			tile6x4ColumnsPlainAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last)
		case columns:
			tile8x3ColumnsPlainAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last)
		case h == 6:
			tile6x4RowsPlainAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last)
		default:
			tile8x3RowsPlainAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last)
		}
		i += blocks * h
	}
	w := &widths[2]
	for i < hi { // what is left of a block, or all of a narrow panel
		r := min(hi-i, w.rows)
		blocks := min(hi-i, callRows) / r
		a := plus(a, (i-lo)*lda)
		for j := 0; j < t.cols; j += 32 {
			vecs, last, part := w.shape(min(32, t.cols-j))
			in, c := plus(t.in, 4*j+i*t.ldin), plus(t.c, 4*j+i*t.ldc)
			w.panel[r][vecs][part](blocks, t.k, a, r*lda, lda, ska, plus(t.b, 4*j), 64*t.vecs, in, r*t.ldin, t.ldin, c, r*t.ldc, t.ldc, last)
		}
		i += blocks * r
	}
}

// fetching runs tiles that fetch the panel after this one.
func (t *tiles) fetching(blocks, h int, a *float32, step int, in, c *float32, last int, columns bool) {
	if t.ahead <= 0 {
		t.next, t.pair, t.step, t.skip = address(t.b), 0, 0, 0
	}
	switch {
	case columns && h == 6:
		tile6x4ColumnsAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.next, t.pair, t.step, t.skip)
	case columns:
		tile8x3ColumnsAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.next, t.pair, t.step, t.skip)
	case h == 6:
		tile6x4RowsAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.next, t.pair, t.step, t.skip)
	default:
		tile8x3RowsAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.next, t.pair, t.step, t.skip)
	}
	chunks := (t.k + 15) / 16
	t.next += uintptr(blocks * (chunks*t.step + t.skip))
	t.ahead -= 4 * blocks * chunks
}

// packing runs tiles that pack the panel after this one.
func (t *tiles) packing(blocks, h int, a *float32, step int, in, c *float32, last int, columns bool) {
	switch {
	case t.turn && h == 6:
		tile6x4RowsTurnAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.src, t.lds, t.dst)
	case t.turn:
		tile8x3RowsTurnAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.src, t.lds, t.dst)
	case columns && h == 6:
		tile6x4ColumnsCopyAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.src, t.lds, t.dst)
	case columns:
		tile8x3ColumnsCopyAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.src, t.lds, t.dst)
	case h == 6:
		tile6x4RowsCopyAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.src, t.lds, t.dst)
	default:
		tile8x3RowsCopyAVX512(blocks, t.k, a, step, t.b, in, t.ldin, c, t.ldc, last, t.src, t.lds, t.dst)
	}
	if t.todo -= blocks; t.todo == 0 {
		return
	}
	if t.turn {
		t.src, t.dst = plus(t.src, 4*blocks*t.lds), plus(t.dst, 16*blocks)
	} else {
		rows := blocks * (t.k / 16)
		t.src, t.dst = plus(t.src, rows*t.lds), plus(t.dst, rows*64*t.vecs)
	}
}

// packed multiplies packed rows of A.
func (t *tiles) packed(rows int, a []float32) {
	full := rows / groupA * groupA
	for i := 0; i < full; i += groupA {
		t.run(i, i+groupA, &a[i*t.k], 4*groupA, true)
	}
	if full < rows {
		t.run(full, rows, &a[full*t.k], 4*roundUp(rows-full, 16), true)
	}
}

// sizeA is the room that packA takes.
func sizeA(m, kc int) int { return (m/groupA*groupA + roundUp(m%groupA, 16)) * kc }

// packA copies kc rows of m columns of A in groups of 24 columns, k slowest in each. The last group may be less, in whole registers.
func packA(m, kc int, a []float32, lda int, dst []float32) {
	i := 0
	for ; i+2*groupA <= m; i += 2 * groupA {
		packAT2AVX512(kc, &a[i], 4*lda, &dst[i*kc], 4*groupA*kc)
	}
	if i+groupA <= m {
		packAT1AVX512(kc, &a[i], 4*lda, &dst[i*kc], 0)
		i += groupA
	}
	if i < m {
		packN(a[i:], lda, m-i, kc, (m-i+15)/16, dst[i*kc:])
	}
}

// plus is p moved on by some bytes.
func plus(p *float32, bytes int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), bytes)) }

// address is what may be fetched into a cache: nothing is read there, and it may lie behind all that there is.
func address(p *float32) uintptr { return uintptr(unsafe.Pointer(p)) }

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// packN copies kc rows of nc columns to rows of so many registers.
func packN(b []float32, ldb, nc, kc, vecs int, dst []float32) {
	if level < 2 {
		for p, nr := 0, vecs*widths[1].lanes; p < kc; p++ {
			copy(dst[p*nr:p*nr+nc], b[p*ldb:p*ldb+nc])
		}
		return
	}
	last := 1<<(nc-16*(vecs-1)) - 1
	switch vecs {
	case 1:
		packN1AVX512(kc, &b[0], 4*ldb, last, &dst[0])
	case 2:
		packN2AVX512(kc, &b[0], 4*ldb, last, &dst[0])
	case 3:
		packN3AVX512(kc, &b[0], 4*ldb, last, &dst[0])
	default:
		packN4AVX512(kc, &b[0], 4*ldb, last, &dst[0])
	}
}

// packT copies nc rows of kc columns, transposed.
func packT(b []float32, ldb, nc, kc, nr int, dst []float32) {
	if level == 2 {
		for j := 0; j < nc; j += 16 {
			p := 0
			if nc-j >= 16 && kc >= 4 {
				p = kc &^ 3
				packT16AVX512(p, &b[j*ldb], 4*ldb, &dst[j], 4*nr)
			}
			if p < kc {
				packTAVX512(kc-p, &b[j*ldb+p], 4*ldb, min(nc-j, 16), &dst[p*nr+j], 4*nr)
			}
		}
		return
	}
	j := 0
	for ; j+4 <= nc; j += 4 {
		b0, b1, b2, b3 := b[j*ldb:j*ldb+kc], b[(j+1)*ldb:(j+1)*ldb+kc], b[(j+2)*ldb:(j+2)*ldb+kc], b[(j+3)*ldb:(j+3)*ldb+kc]
		for p := range b0 {
			d := (*[4]float32)(dst[p*nr+j:])
			d[0], d[1], d[2], d[3] = b0[p], b1[p], b2[p], b3[p]
		}
	}
	for ; j < nc; j++ {
		for p, v := range b[j*ldb : j*ldb+kc] {
			dst[p*nr+j] = v
		}
	}
}
