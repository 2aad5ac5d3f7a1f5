package kernel

import "fmt"

// needRows checks that ids name rows of n elements of table.
func needRows(table []float32, ids []int32, n int) {
	rows := uint32(min(len(table)/max(n, 1), 1<<31))
	for _, id := range ids {
		if uint32(id) >= rows {
			panic(fmt.Sprintf("kernel: id %d, the table has %d rows of %d", id, rows, n))
		}
	}
}

// ahead says that rows are asked for ahead of their turn.
var ahead = true

// SetPrefetch switches off, or on again, that rows of tables are asked for ahead of their turn, and returns what was set. It is for measurements: it changes no
// bit. As SetISA it must not be called while kernels run.
func SetPrefetch(on bool) (was bool) {
	was, ahead = ahead, on
	return was
}

// GatherRows copies rows of n elements: dst[i] = table[ids[i]]. Rows are asked for ahead of their turn, with plain loads: a gather instruction would take the
// ports that products need.
func GatherRows(dst, table []float32, ids []int32, n int) {
	need("dst", len(dst), len(ids)*n)
	needRows(table, ids, n)
	if !ahead {
		gatherRowsGeneric(dst, table, ids, n)
		return
	}
	gatherRows(dst, table, ids, n)
}

func gatherRowsGeneric(dst, table []float32, ids []int32, n int) {
	for i, id := range ids {
		copy(dst[i*n:i*n+n], table[int(id)*n:int(id)*n+n])
	}
}

// AxpyRows adds to rows of n elements, i ascending: table[ids[i]] = FMA(a, x[i], table[ids[i]]). With a = -lr it is SGD on the rows of a sparse gradient.
func AxpyRows(a float32, x, table []float32, ids []int32, n int) {
	need("x", len(x), len(ids)*n)
	needRows(table, ids, n)
	if !ahead {
		for i, id := range ids {
			Axpy(a, x[i*n:i*n+n], table[int(id)*n:int(id)*n+n])
		}
		return
	}
	axpyRows(a, x, table, ids, n)
}

func axpyRowsGeneric(a float32, x, table []float32, ids []int32, n int) {
	for i, id := range ids {
		axpyGeneric(a, x[i*n:i*n+n], table[int(id)*n:int(id)*n+n])
	}
}

// ScatterAddRows adds rows of n elements, i ascending: table[ids[i]] += src[i].
func ScatterAddRows(table, src []float32, ids []int32, n int) {
	need("src", len(src), len(ids)*n)
	for i, id := range ids {
		addTo(table[int(id)*n:int(id)*n+n], src[i*n:i*n+n])
	}
}

// PrefetchRows asks for rows of n elements that will be read or written soon. It changes nothing.
func PrefetchRows(table []float32, ids []int32, n int) {
	needRows(table, ids, n)
	if ahead {
		prefetch(table, ids, n)
	}
}

// SumRows sums rows of n elements by lists of them, each in its order: dst[i] = 0 + x[order[starts[i]]] + ... + x[order[starts[i+1]-1]]. The lists are not
// empty; there is one more start than there are rows of dst.
func SumRows(dst, x []float32, order, starts []int32, n int) {
	rows := len(starts) - 1
	if rows < 1 {
		return
	}
	need("dst", len(dst), rows*n)
	last := starts[0]
	for _, s := range starts[1:] {
		if s <= last {
			panic(fmt.Sprintf("kernel: a list of rows ends at %d and begins at %d", s, last))
		}
		last = s
	}
	needRows(x, order[starts[0]:last], n)
	sumRows(dst, x, order, starts, n)
}

func sumRowsGeneric(dst, x []float32, order, starts []int32, n int) {
	for i, end := range starts[1:] {
		row := dst[i*n : i*n+n]
		clear(row)
		for _, k := range order[starts[i]:end] {
			for j, v := range x[int(k)*n : int(k)*n+n] {
				row[j] += v
			}
		}
	}
}
