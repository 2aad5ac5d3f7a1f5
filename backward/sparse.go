package backward

import (
	"math/bits"
	"slices"
	"sync/atomic"

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

	v          int      // rows of the table
	keys, tmp  []uint64 // id, position; each share of the ids has its own part of them
	runs       []run    // what the shares made
	made       atomic.Int32
	u          []int32 // ids in order, each once
	order      []int32 // positions sorted by id, then by position
	starts     []int32 // in order: of each id
	all        []int32 // ids of the present step
	team       *stages.Team
	sorted     func(lo, hi int)
	share      func(lo, hi int)
	rows, from []float32 // what share works on
	per        int
	by         func(i int) float32
}

// run is what became of the ids of a share: n different ones, the first of them at at in order.
type run struct{ at, n, ids int }

// shareRows is the number of rows of a sparse gradient below which it doesn't pay to share them out.
const shareRows = 512

// shareSort is the same for ids to be sorted.
const shareSort = 1024

// Ids are sorted digit by digit, the last one first. Three digits of 11 bits are enough, and the counts of their values stay in the first-level cache.
const (
	maxDigit  = 11
	maxDigits = 3
)

func newTable(env stages.Env, param, ids string, dim int) *table {
	p := env.Params[param]
	t := &table{g: paramGrad(env, param), ids: p.IDs, sparse: p.Sparse, dim: dim, team: env.Team}
	if t.sparse {
		n := env.Ports[ids].Shape.Len()
		t.keys, t.tmp = make([]uint64, n), make([]uint64, n)
		t.u, t.order, t.starts = make([]int32, n), make([]int32, n), make([]int32, n+1)
		t.v = p.T.Shape.Dims[0]
		t.runs = make([]run, env.Team.Lanes())
		t.sorted = t.sortSome
		t.share = t.some
	}
	return t
}

// sort orders the positions of ids by id, stable, without those of negative ids: order, in which starts says where an id begins and ends. It writes the ids
// in that order, each once, to u, and returns their number. Shares are of the ids that a table has, so that each is a part of the order.
func (t *table) sort(ids []int32, u []int32) int {
	t.all = ids
	t.made.Store(0)
	if len(ids) < 2*shareSort {
		t.sortSome(0, t.v)
	} else {
		t.team.Split(t.v, 64, t.sorted)
	}
	t.all = nil
	runs := t.runs[:t.made.Load()]
	slices.SortFunc(runs, func(a, b run) int { return a.at - b.at })
	n, end := 0, 0
	for _, r := range runs {
		copy(u[n:], t.u[r.at:r.at+r.n])
		copy(t.starts[n:], t.starts[r.at:r.at+r.n])
		n += r.n
		end = r.at + r.ids
	}
	t.starts[n] = int32(end)
	return n
}

// sortSome sorts those of the ids that are lo to hi-1.
func (t *table) sortSome(lo, hi int) {
	var counts [maxDigits << maxDigit]int32
	need := max(1, bits.Len(uint(hi-1)))
	digits := (need + maxDigit - 1) / maxDigit
	wide := (need + digits - 1) / digits
	mask := uint32(1)<<wide - 1
	at := 0
	for _, id := range t.all {
		if id >= 0 && int(id) < lo {
			at++
		}
	}
	a := t.keys[at:at]
	c0, c1, c2 := counts[:1<<maxDigit], counts[1<<maxDigit:2<<maxDigit], counts[2<<maxDigit:]
	for i, id := range t.all {
		if int(id) < lo || int(id) >= hi {
			continue
		}
		a = append(a, uint64(id)<<32|uint64(i))
		c0[uint32(id)&mask&(1<<maxDigit-1)]++
		c1[uint32(id)>>wide&mask&(1<<maxDigit-1)]++
		c2[uint32(id)>>(2*wide)&mask&(1<<maxDigit-1)]++
	}
	b := t.tmp[at : at+len(a)]
	for d := range digits {
		c := (*[1 << maxDigit]int32)(counts[d<<maxDigit:])
		sum := int32(0)
		for v := range mask + 1 {
			c[v], sum = sum, sum+c[v]
		}
		shift := 32 + d*wide
		for _, k := range a {
			v := uint32(k>>shift) & mask & (1<<maxDigit - 1)
			b[c[v]] = k
			c[v]++
		}
		a, b = b, a
	}
	n, last := at, int32(-1)
	for i, k := range a {
		t.order[at+i] = int32(uint32(k))
		if id := int32(k >> 32); id != last {
			last, t.u[n], t.starts[n] = id, id, int32(at+i)
			n++
		}
	}
	t.runs[t.made.Add(1)-1] = run{at, n - at, len(a)}
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
		if by == nil && per == 1 && len(ids) > 0 && slices.Min(ids) >= 0 {
			kernel.AxpyRows(1, dy, g.F32, ids, d)
			return
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
