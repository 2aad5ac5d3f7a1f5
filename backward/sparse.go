package backward

import (
	"math/bits"

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

	digits     int      // sorting: of an id
	bits       int      // of a digit
	keys, tmp  []uint64 // id, position
	counts     []int32  // of each digit's values
	order      []int32  // positions sorted by id, then by position
	starts     []int32  // in order: of each id
	team       *stages.Team
	share      func(lo, hi int)
	rows, from []float32 // what share works on
	per        int
	by         func(i int) float32
}

// shareRows is the number of rows of a sparse gradient below which it doesn't pay to share them out.
const shareRows = 512

// maxDigit is the number of bits of a digit at most: the counts of all its values stay in the first-level cache.
const maxDigit = 11

func newTable(env stages.Env, param, ids string, dim int) *table {
	p := env.Params[param]
	t := &table{g: paramGrad(env, param), ids: p.IDs, sparse: p.Sparse, dim: dim, team: env.Team}
	if t.sparse {
		n := env.Ports[ids].Shape.Len()
		t.keys, t.tmp = make([]uint64, n), make([]uint64, n)
		t.order, t.starts = make([]int32, n), make([]int32, n+1)
		need := max(1, bits.Len(uint(max(0, p.T.Shape.Dims[0]-1))))
		t.digits = (need + maxDigit - 1) / maxDigit
		t.bits = (need + t.digits - 1) / t.digits
		t.counts = make([]int32, t.digits<<t.bits)
		t.share = t.some
	}
	return t
}

// sort orders the positions of ids by id, stable, without those of negative ids: order, in which starts says where an id begins and ends. It returns the
// ids in that order, each once, in u, and their number. Ids are sorted digit by digit, the last one first.
func (t *table) sort(ids []int32, u []int32) int {
	a, b := t.keys[:0], t.tmp[:len(ids)]
	c, wide, mask := t.counts, t.bits, uint32(1)<<t.bits-1
	clear(c)
	for i, id := range ids {
		if id < 0 {
			continue
		}
		a = append(a, uint64(id)<<32|uint64(i))
		for d := range t.digits {
			c[d<<wide|int(uint32(id)>>(d*wide)&mask)]++
		}
	}
	b = b[:len(a)]
	for d := range t.digits {
		c := c[d<<wide : (d+1)<<wide]
		sum := int32(0)
		for v, n := range c {
			c[v] = sum
			sum += n
		}
		shift := 32 + d*wide
		for _, k := range a {
			v := uint32(k>>shift) & mask
			b[c[v]] = k
			c[v]++
		}
		a, b = b, a
	}
	n, last := 0, int32(-1)
	for at, k := range a {
		t.order[at] = int32(uint32(k))
		if id := int32(k >> 32); id != last {
			last, u[n], t.starts[n] = id, id, int32(at)
			n++
		}
	}
	t.starts[n] = int32(len(a))
	return n
}

// add takes dy (n,dim) for n ids; several ids may share one row of dy, which is row of(i)=i/per.
func (t *table) add(m *stages.Message, ids []int32, dy []float32, per int, by func(i int) float32) {
	if !t.g.on {
		return
	}
	g := m.T(t.g.slot)
	d := t.dim
	if !t.sparse {
		if !t.g.acc {
			clear(g.F32)
		}
		for i, id := range ids {
			if id >= 0 {
				sumRow(g.F32[int(id)*d:int(id)*d+d], dy[i/per*d:i/per*d+d], by, i)
			}
		}
		return
	}
	u := m.T(t.ids)
	u.Resize(tensor.Of(min(len(ids), u.Cap()))) // no more than the table has rows
	n := t.sort(ids, u.I32)
	u.Resize(tensor.Of(n))
	g.Resize(tensor.Of(n, d))
	t.rows, t.from, t.per, t.by = g.F32, dy, per, by
	t.team.Split(n, shareRows, t.share)
	t.rows, t.from, t.by = nil, nil, nil
}

// some makes the rows lo to hi-1 of a sparse gradient.
func (t *table) some(lo, hi int) {
	d := t.dim
	if t.per == 1 && t.by == nil {
		kernel.SumRows(t.rows[lo*d:hi*d], t.from, t.order, t.starts[lo:hi+1], d)
		return
	}
	for r := lo; r < hi; r++ {
		row := t.rows[r*d : r*d+d]
		clear(row)
		for _, i := range t.order[t.starts[r]:t.starts[r+1]] {
			k := int(i) / t.per * d
			sumRow(row, t.from[k:k+d], t.by, int(i))
		}
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
