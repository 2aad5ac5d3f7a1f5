package kernel

import (
	"math/rand/v2"
	"testing"
)

func TestRowsEqualTheirLoops(t *testing.T) {
	each(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		for _, n := range []int{1, 2, 7, 8, 15, 16, 17, 24, 32, 40, 64, 130, 9000} {
			for _, count := range []int{0, 1, 2, 23, 24, 25, 26, 130, 600} {
				if n > 1000 && count > 30 {
					continue
				}
				rows := 1 + r.IntN(50)
				table := randoms(r, rows*n, r.IntN(4))
				x := randoms(r, count*n, r.IntN(4))
				spice(r, table)
				spice(r, x)
				ids := make([]int32, count)
				for i := range ids {
					ids[i] = int32(r.IntN(rows)) // many twice
				}
				dst := randoms(r, count*n+3, 1)
				end := append([]float32(nil), dst[count*n:]...)
				GatherRows(dst, table, ids, n)
				PrefetchRows(table, ids, n)
				for i, id := range ids {
					for j := range n {
						if !same(dst[i*n+j], table[int(id)*n+j]) {
							t.Fatalf("GatherRows of %d rows of %d: row %d, element %d is %x, want %x", count, n, i, j, dst[i*n+j], table[int(id)*n+j])
						}
					}
				}
				for i, v := range end {
					if !same(dst[count*n+i], v) {
						t.Fatalf("GatherRows of %d rows of %d writes past the last row", count, n)
					}
				}
				want := append([]float32(nil), table...)
				for i, id := range ids {
					for j := range n {
						want[int(id)*n+j] = FMA(-0.3, x[i*n+j], want[int(id)*n+j])
					}
				}
				AxpyRows(-0.3, x, table, ids, n)
				for i := range want {
					if !same(table[i], want[i]) {
						t.Fatalf("AxpyRows of %d rows of %d: element %d is %x, want %x", count, n, i, table[i], want[i])
					}
				}
			}
		}
		for _, bad := range []int32{-1, 5} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("id %d of 5 rows must panic", bad)
					}
				}()
				GatherRows(make([]float32, 32), make([]float32, 80), []int32{0, bad}, 16)
			}()
		}
	})
}

func TestSumRows(t *testing.T) {
	each(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 8))
		for _, n := range []int{1, 7, 8, 15, 16, 24, 32, 40, 64, 130, 9000} {
			for _, lists := range []int{0, 1, 2, 25, 600} {
				if n > 1000 && lists > 30 {
					continue
				}
				rows := 1 + r.IntN(50)
				x := randoms(r, rows*n, r.IntN(4))
				spice(r, x)
				starts := []int32{int32(r.IntN(3))}
				for range lists {
					starts = append(starts, starts[len(starts)-1]+1+int32(r.IntN(4)))
				}
				if lists == 2 { // one list longer than a call takes
					starts[2] += 5000
				}
				order := make([]int32, starts[lists])
				for i := range order {
					order[i] = int32(r.IntN(rows))
				}
				dst := randoms(r, lists*n+3, 1)
				want := append([]float32(nil), dst...)
				for i := range lists {
					for j := range n {
						s := float32(0)
						for _, k := range order[starts[i]:starts[i+1]] {
							s += x[int(k)*n+j]
						}
						want[i*n+j] = s
					}
				}
				SumRows(dst, x, order, starts, n)
				for i := range want {
					if !same(dst[i], want[i]) {
						t.Fatalf("%d lists of rows of %d: element %d is %x, want %x", lists, n, i, dst[i], want[i])
					}
				}
			}
		}
		for _, bad := range []struct{ order, starts []int32 }{{[]int32{0, 5}, []int32{0, 2}}, {[]int32{0, 1}, []int32{0, 0, 2}}, {[]int32{-1, 1}, []int32{0, 1}}} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("order %v with starts %v of 5 rows must panic", bad.order, bad.starts)
					}
				}()
				SumRows(make([]float32, 48), make([]float32, 80), bad.order, bad.starts, 16)
			}()
		}
	})
}

// Every number of vectors, so that every size of a last block occurs.
func TestPairDotsOfAnyNumber(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for f := range 75 {
		for _, d := range []int{4, 8, 16, 24, 32} {
			u, y, dy := randoms(r, f*d, 1), randoms(r, f*(f-1)/2+1, 2), randoms(r, f*(f-1)/2, 3)
			du0, du := randoms(r, d, 0), randoms(r, max(f-1, 0)*d, 1)
			spice(r, u)
			spice(r, dy)
			each(t, func(t *testing.T) {
				edge := y[len(y)-1]
				PairDots(f, d, u, y)
				PairDotsBackward(f, d, dy, u, du0, du)
				y2, du02, du2 := append([]float32(nil), y...), append([]float32(nil), du0...), append([]float32(nil), du...)
				pairDotsGeneric(f, d, u, y2)
				pairDotsBackwardGeneric(f, d, dy, u, du02, du2)
				for i, s := range [][2][]float32{{y, y2}, {du0, du02}, {du, du2}} {
					for j := range s[0] {
						if !same(s[0][j], s[1][j]) {
							t.Fatalf("%d vectors of %d: result %d, element %d is %x, want %x", f, d, i, j, s[0][j], s[1][j])
						}
					}
				}
				if !same(y[len(y)-1], edge) {
					t.Fatalf("%d vectors of %d: written past the end", f, d)
				}
			})
		}
	}
}

// The gradient is that of the products by which the dots may also be made.
func TestPairDotsIsGemm(t *testing.T) {
	const f, d = 27, 16
	r := rand.New(rand.NewPCG(4, 1))
	u, y, c := randoms(r, f*d, 0), make([]float32, f*(f-1)/2), make([]float32, f*f)
	PairDots(f, d, u, y)
	Gemm(NT, f, f, d, u, d, u, d, c, f, false)
	dy, sym, du, want := randoms(r, len(y), 0), make([]float32, f*f), make([]float32, f*d), make([]float32, f*d)
	at := 0
	for i := range f {
		for j := range i {
			if !same(y[at], c[i*f+j]) {
				t.Fatalf("dot of %d and %d is %x, want %x", i, j, y[at], c[i*f+j])
			}
			sym[i*f+j], sym[j*f+i] = dy[at], dy[at]
			at++
		}
	}
	PairDotsBackward(f, d, dy, u, du[:d], du[d:])
	Gemm(NN, f, d, f, sym, f, u, d, want, d, false)
	for i := range want {
		if !same(du[i], want[i]) {
			t.Fatalf("gradient %d is %x, want %x", i, du[i], want[i])
		}
	}
}

func BenchmarkPairs(b *testing.B) {
	const f, d = 27, 16
	r := rand.New(rand.NewPCG(4, 1))
	u, y, du := randoms(r, f*d, 0), randoms(r, f*(f-1)/2, 0), make([]float32, f*d)
	b.Run("dots", func(b *testing.B) {
		for b.Loop() {
			PairDots(f, d, u, y)
		}
	})
	b.Run("backward", func(b *testing.B) {
		for b.Loop() {
			PairDotsBackward(f, d, y, u, du[:d], du[d:])
		}
	})
}

func BenchmarkRows(b *testing.B) {
	const rows, n, count = 1 << 22, 16, 3328
	table := make([]float32, rows*n)
	for i := range table {
		table[i] = float32(i & 7)
	}
	r := rand.New(rand.NewPCG(1, 1))
	ids := make([]int32, 1<<20)
	for i := range ids {
		ids[i] = int32(r.IntN(rows))
	}
	x := make([]float32, count*n)
	at := 0
	next := func() []int32 {
		at = (at + count) % (len(ids) - count)
		return ids[at : at+count]
	}
	b.Run("gather", func(b *testing.B) {
		for b.Loop() {
			GatherRows(x, table, next(), n)
		}
	})
	b.Run("axpy", func(b *testing.B) {
		for b.Loop() {
			AxpyRows(0.5, x, table, next(), n)
		}
	})
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			gatherRowsGeneric(x, table, next(), n)
		}
	})
}
