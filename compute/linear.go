package compute

import (
	"vtpu/compute/kernel"
	"vtpu/stages"
)

// Below this much work on one lane, sharing out costs more than it saves.
const (
	shareProduct = 1 << 18 // multiplications of a product
	shareElems   = 1 << 14 // elements of a walk over memory
)

// tile is the number of columns of a product that belong together.
const tile = 32

// linear is y = x·Wᵀ + b, x (rows,C), weight (OC,C), y (rows,OC). A large weight is shared out to the lanes of a team, each of which reads its rows of it
// alone and makes their outputs; where there are more activations than weights, the rows of x are shared out.
type linear struct {
	team              *stages.Team
	rows, c, n        int
	x, w, b, y        []float32
	byOutputs, byRows func(lo, hi int)
}

func newLinear(team *stages.Team) *linear {
	l := &linear{team: team}
	l.byOutputs, l.byRows = l.outputs, l.some
	return l
}

func (l *linear) run(rows, c, n int, x, w, b, y []float32) {
	l.rows, l.c, l.n, l.x, l.w, l.b, l.y = rows, c, n, x, w, b, y
	worth := rows*c*n >= shareProduct
	if !worth {
		l.outputs(0, n)
		return
	}
	if c*n >= rows*(c+n) {
		l.team.Units(n, tile, worth, l.byOutputs)
	} else {
		l.team.Units(rows, 1, worth, l.byRows)
	}
}

// tape puts run on a tape.
func (l *linear) tape(t *kernel.Tape, rows, c, n int, x, w, b, y []float32) bool {
	return t.Gemm(kernel.NT, rows, n, c, x, c, w, c, y, n, b, false)
}

// some is the rows lo to hi.
func (l *linear) some(lo, hi int) {
	x, y := l.x[lo*l.c:hi*l.c], l.y[lo*l.n:hi*l.n]
	if l.b != nil {
		kernel.GemmBias(kernel.NT, hi-lo, l.n, l.c, x, l.c, l.w, l.c, y, l.n, l.b)
	} else {
		kernel.Gemm(kernel.NT, hi-lo, l.n, l.c, x, l.c, l.w, l.c, y, l.n, false)
	}
}

// outputs is the columns lo to hi of y.
func (l *linear) outputs(lo, hi int) {
	w, y := l.w[lo*l.c:hi*l.c], l.y[lo:]
	if l.b != nil {
		kernel.GemmBias(kernel.NT, l.rows, hi-lo, l.c, l.x, l.c, w, l.c, y, l.n, l.b[lo:hi])
	} else {
		kernel.Gemm(kernel.NT, l.rows, hi-lo, l.c, l.x, l.c, w, l.c, y, l.n, false)
	}
}

// mapped applies a function to elements, shared out to the lanes of a team: f, or both, which overwrites x with its derivative.
type mapped struct {
	team  *stages.Team
	f     func(dst, x []float32)
	both  func(y, d, x []float32)
	y, x  []float32
	share func(lo, hi int)
}

func newMapped(team *stages.Team, f func(dst, x []float32)) *mapped {
	s := &mapped{team: team, f: f}
	s.share = s.some
	return s
}

func (s *mapped) some(lo, hi int) {
	if s.both != nil {
		s.both(s.y[lo:hi], s.x[lo:hi], s.x[lo:hi])
		return
	}
	s.f(s.y[lo:hi], s.x[lo:hi])
}

func (s *mapped) run(y, x []float32) {
	s.y, s.x = y[:len(x)], x
	s.team.Split(len(x), shareElems, s.share)
}
