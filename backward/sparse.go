package backward

import (
	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// A table gathers the gradient of a table's rows: dense, or as sorted unique ids and their rows. Duplicates of an id are summed in the order in
// which they occur.
type table struct {
	g      grad
	ids    stages.Slot
	sparse bool
	dim    int

	order []int32 // positions sorted by id, then by position
	tmp   []int32
	count [257]int32
}

func newTable(env stages.Env, param, ids string, dim int) table {
	p := env.Params[param]
	t := table{g: paramGrad(env, param), ids: p.IDs, sparse: p.Sparse, dim: dim}
	if t.sparse {
		n := env.Ports[ids].Shape.Len()
		t.order, t.tmp = make([]int32, n), make([]int32, n)
	}
	return t
}

// sort orders the positions of ids by id, stable (least significant byte first), and returns them without those of negative ids.
func (t *table) sort(ids []int32) []int32 {
	a, b := t.order[:0], t.tmp[:len(ids)]
	for i, id := range ids {
		if id >= 0 {
			a = append(a, int32(i))
		}
	}
	b = b[:len(a)]
	for shift := 0; shift < 32; shift += 8 {
		c := &t.count
		clear(c[:])
		for _, i := range a {
			c[ids[i]>>shift&255+1]++
		}
		if c[1] == int32(len(a)) {
			continue // all digits are 0
		}
		for d := range 256 {
			c[d+1] += c[d]
		}
		for _, i := range a {
			d := ids[i] >> shift & 255
			b[c[d]] = i
			c[d]++
		}
		a, b = b, a
	}
	return a
}

// add takes dy (n,dim) for n ids; several ids may share one row of dy, which is row of(i)=i/per.
func (t *table) add(m *stages.Message, ids []int32, dy []float32, per int, by func(i int) float32) {
	if !t.g.on {
		return
	}
	g := m.T(t.g.slot)
	d := t.dim
	row := func(i int) []float32 { return dy[i/per*d : i/per*d+d] }
	if !t.sparse {
		if !t.g.acc {
			clear(g.F32)
		}
		for i, id := range ids {
			if id >= 0 {
				sumRow(g.F32[int(id)*d:int(id)*d+d], row(i), by, i)
			}
		}
		return
	}
	order := t.sort(ids)
	u := m.T(t.ids)
	n := 0
	for at, i := range order {
		if at == 0 || ids[order[at-1]] != ids[i] {
			n++
		}
	}
	u.Resize(tensor.Of(n))
	g.Resize(tensor.Of(n, d))
	n = -1
	for at, i := range order {
		if at == 0 || ids[order[at-1]] != ids[i] {
			n++
			u.I32[n] = ids[i]
			clear(g.F32[n*d : n*d+d])
		}
		sumRow(g.F32[n*d:n*d+d], row(int(i)), by, int(i))
	}
}

func sumRow(dst, src []float32, by func(int) float32, i int) {
	if by == nil {
		kernel.AddTo(dst, src)
	} else {
		kernel.Axpy(by(i), src, dst)
	}
}

// merge adds the sparse gradient (ids2, rows2) to (ids1, rows1) and writes the sum to ids, rows, which must not overlap the others. Both lists of
// ids ascend without repeats. It returns the number of ids.
func merge(ids []int32, rows []float32, ids1 []int32, rows1 []float32, ids2 []int32, rows2 []float32, d int) int {
	n, i, j := 0, 0, 0
	for i < len(ids1) || j < len(ids2) {
		dst := rows[n*d : n*d+d]
		switch {
		case j == len(ids2) || i < len(ids1) && ids1[i] < ids2[j]:
			ids[n] = ids1[i]
			copy(dst, rows1[i*d:i*d+d])
			i++
		case i == len(ids1) || ids2[j] < ids1[i]:
			ids[n] = ids2[j]
			copy(dst, rows2[j*d:j*d+d])
			j++
		default:
			ids[n] = ids1[i]
			kernel.Add(dst, rows1[i*d:i*d+d], rows2[j*d:j*d+d])
			i++
			j++
		}
		n++
	}
	return n
}
