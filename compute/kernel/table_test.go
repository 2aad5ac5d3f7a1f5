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
