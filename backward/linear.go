package backward

import (
	"vtpu/compute/kernel"
	"vtpu/stages"
)

// Below this much work on one lane, sharing out costs more than it saves.
const (
	shareProduct = 1 << 18 // multiplications of a product
	shareElems   = 1 << 14 // elements of a walk over memory
)

// linear is the gradient of y = x·Wᵀ + b: dx = dy·W, dW = dyᵀ·x, db = column sums of dy; x (rows,C), weight (OC,C), y (rows,OC). A nil slice is left out.
// The columns of dx and the rows of dW are shared out to the lanes of a team.
type linear struct {
	team                    *stages.Team
	rows, c, n              int
	dx, dw, db, dy, x, w    []float32
	accX, accW, accB        bool
	shareInput, shareWeight func(lo, hi int)
}

func newLinear(team *stages.Team) *linear {
	l := &linear{team: team}
	l.shareInput, l.shareWeight = l.input, l.weight
	return l
}

func (l *linear) run(rows, c, n int, dx, dw, db, dy, x, w []float32, accX, accW, accB bool) {
	l.rows, l.c, l.n, l.dx, l.dw, l.db, l.dy, l.x, l.w, l.accX, l.accW, l.accB = rows, c, n, dx, dw, db, dy, x, w, accX, accW, accB
	alone := rows*c*n < shareProduct
	if dx != nil {
		if alone {
			l.input(0, c)
		} else {
			l.team.Split(c, 64, l.shareInput)
		}
	}
	if dw == nil && db == nil {
		return
	}
	if alone {
		l.weight(0, n)
	} else {
		l.team.Split(n, 64, l.shareWeight)
	}
}

// input makes the columns lo to hi of dx.
func (l *linear) input(lo, hi int) {
	kernel.Gemm(kernel.NN, l.rows, hi-lo, l.n, l.dy, l.n, l.w[lo:], l.c, l.dx[lo:], l.c, l.accX)
}

// weight makes the rows lo to hi of dW and of db.
func (l *linear) weight(lo, hi int) {
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
