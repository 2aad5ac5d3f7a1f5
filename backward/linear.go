package backward

import (
	"vtpu/compute/kernel"
	"vtpu/stages"
)

// tile is the number of columns of a product that belong together: shares begin at multiples of it.
const tile = 16

// Below this much work on one lane, sharing out costs more than it saves.
const (
	shareProduct = 1 << 18 // multiplications of a product
	shareElems   = 1 << 14 // elements of a walk over memory
)

// linear is the gradient of y = x·Wᵀ + b: dx = dy·W, dW = dyᵀ·x, db = column sums of dy; x (rows,C), weight (OC,C), y (rows,OC). A nil slice is left out.
// The rows of dW are shared out to the lanes of a team, and the columns of dx, or its rows where there are more activations than weights.
type linear struct {
	team                        *stages.Team
	rows, c, n                  int
	dx, dw, db, dy, x, w        []float32
	accX, accW, accB            bool
	byRows, byInputs, byOutputs func(lo, hi int)
}

func newLinear(team *stages.Team) *linear {
	l := &linear{team: team}
	l.byRows, l.byInputs, l.byOutputs = l.some, l.inputs, l.outputs
	return l
}

func (l *linear) run(rows, c, n int, dx, dw, db, dy, x, w []float32, accX, accW, accB bool) {
	l.rows, l.c, l.n, l.dx, l.dw, l.db, l.dy, l.x, l.w, l.accX, l.accW, l.accB = rows, c, n, dx, dw, db, dy, x, w, accX, accW, accB
	worth := rows*c*n >= shareProduct
	switch {
	case dx == nil:
	case !worth:
		l.inputs(0, c)
	case c*n >= rows*(c+n):
		l.team.Units(c, tile, worth, l.byInputs)
	default:
		l.team.Units(rows, 1, worth, l.byRows)
	}
	switch {
	case dw == nil && db == nil:
	case !worth:
		l.outputs(0, n)
	default:
		l.team.Units(n, tile, worth, l.byOutputs)
	}
}

// tape puts run on a tape.
func (l *linear) tape(t *kernel.Tape, rows, c, n int, dx, dw, db, dy, x, w []float32, accX, accW bool) bool {
	return db == nil && (dx == nil || t.Gemm(kernel.NN, rows, c, n, dy, n, w, c, dx, c, nil, accX)) &&
		(dw == nil || t.Gemm(kernel.TN, n, c, rows, dy, n, x, c, dw, c, nil, accW))
}

// some makes the rows lo to hi of dx.
func (l *linear) some(lo, hi int) {
	kernel.Gemm(kernel.NN, hi-lo, l.c, l.n, l.dy[lo*l.n:hi*l.n], l.n, l.w, l.c, l.dx[lo*l.c:hi*l.c], l.c, l.accX)
}

// inputs makes the columns lo to hi of dx.
func (l *linear) inputs(lo, hi int) {
	kernel.Gemm(kernel.NN, l.rows, hi-lo, l.n, l.dy, l.n, l.w[lo:], l.c, l.dx[lo:], l.c, l.accX)
}

// outputs makes the rows lo to hi of dW and of db.
func (l *linear) outputs(lo, hi int) {
	if l.dw != nil {
		kernel.Gemm(kernel.TN, hi-lo, l.c, l.rows, l.dy[lo:], l.n, l.x, l.c, l.dw[lo*l.c:hi*l.c], l.c, l.accW)
	}
	if l.db != nil {
		kernel.ColSum(l.rows, hi-lo, l.dy[lo:], l.n, l.db[lo:hi], l.accB)
	}
}

// mapped applies the gradient of a function to elements, shared out to the lanes of a team.
type mapped struct {
	team      *stages.Team
	f         func(dx, dy, v []float32, acc bool)
	dx, dy, v []float32
	acc       bool
	share     func(lo, hi int)
}

func newMapped(team *stages.Team, f func(dx, dy, v []float32, acc bool)) *mapped {
	s := &mapped{team: team, f: f}
	s.share = func(lo, hi int) { s.f(s.dx[lo:hi], s.dy[lo:hi], s.v[lo:hi], s.acc) }
	return s
}

func (s *mapped) run(dx, dy, v []float32, acc bool) {
	if len(dx) < 2*shareElems {
		s.f(dx, dy, v, acc)
		return
	}
	s.dx, s.dy, s.v, s.acc = dx, dy, v, acc
	s.team.Split(len(dx), shareElems, s.share)
}
