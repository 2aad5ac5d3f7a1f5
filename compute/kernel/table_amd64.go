//go:build amd64 && !purego

package kernel

//go:generate go run -C _gen/table . -isa avx2 -pkg kernel -out ../../table_avx2_amd64.s -stubs ../../table_stubs_avx2_amd64.go
//go:generate go run -C _gen/table . -isa avx512 -pkg kernel -out ../../table_avx512_amd64.s -stubs ../../table_stubs_avx512_amd64.go

// maxRowBytes keeps one call of an assembly loop below some 50 µs even where every row comes from memory.
const maxRowBytes = 32 << 10

// chunk is the number of rows of n elements that one call works on.
func chunk(n int) int { return max(1, maxRowBytes/(4*n)) }

func gatherRows(dst, table []float32, ids []int32, n int) {
	w := 8 * level
	if level == 2 && n%16 != 0 {
		w = 8
	}
	if level == 0 || n%8 != 0 || n == 0 || n > maxRowBytes/4 {
		gatherRowsGeneric(dst, table, ids, n)
		return
	}
	for len(ids) > 0 {
		k := min(len(ids), chunk(n))
		if w == 16 {
			gatherRowsAVX512(k, n/16, &table[0], &ids[0], &dst[0])
		} else {
			gatherRowsAVX2(k, n/8, &table[0], &ids[0], &dst[0])
		}
		ids, dst = ids[k:], dst[k*n:]
		breathe()
	}
}

func axpyRows(a float32, x, table []float32, ids []int32, n int) {
	w := 8 * level
	if level == 2 && n%16 != 0 {
		w = 8
	}
	if level == 0 || n%8 != 0 || n == 0 || n > maxRowBytes/4 {
		axpyRowsGeneric(a, x, table, ids, n)
		return
	}
	for len(ids) > 0 {
		k := min(len(ids), chunk(n))
		if w == 16 {
			axpyRowsAVX512(k, n/16, a, &table[0], &ids[0], &x[0])
		} else {
			axpyRowsAVX2(k, n/8, a, &table[0], &ids[0], &x[0])
		}
		ids, x = ids[k:], x[k*n:]
		breathe()
	}
}

func prefetch(table []float32, ids []int32, n int) {
	if level == 0 || n == 0 {
		return
	}
	for len(ids) > 0 {
		k := min(len(ids), 512)
		prefetchRows(k, 4*n, &table[0], &ids[0])
		ids = ids[k:]
		breathe()
	}
}

func sumRows(dst, x []float32, order, starts []int32, n int) {
	w := 8 * level
	if level == 2 && n%16 != 0 {
		w = 8
	}
	if level == 0 || n%8 != 0 || n == 0 || n > maxRowBytes/4 {
		sumRowsGeneric(dst, x, order, starts, n)
		return
	}
	most := int32(chunk(n))
	for len(starts) > 1 {
		k := 1 // lists of one call: one, or as many as have no more rows than a call works on
		for k < len(starts)-1 && starts[k+1]-starts[0] <= most {
			k++
		}
		switch {
		case starts[k]-starts[0] > 4*most: // one list, very long
			clear(dst[:n])
			for _, r := range order[starts[0]:starts[1]] {
				addTo(dst[:n], x[int(r)*n:int(r)*n+n])
			}
		case w == 16:
			sumRowsAVX512(k, n/16, &starts[0], &order[0], &x[0], &dst[0])
		default:
			sumRowsAVX2(k, n/8, &starts[0], &order[0], &x[0], &dst[0])
		}
		starts, dst = starts[k:], dst[k*n:]
	}
}
