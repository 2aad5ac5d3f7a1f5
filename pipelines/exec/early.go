package exec

import (
	"context"
	"slices"
	"sync"

	"vtpu/stages"
)

// insideName is how the update inside backward is called in errors and in the shares of time.
const insideName = "update inside backward"

const (
	earlyLeast = 1 << 20 // elements below which a cut waits for the next one, where no S lane is: they are in a cache at the end too
	earlyHop   = 1 << 10 // the same on an S lane: a hop would cost more
	earlyPiece = 1 << 14 // elements that guard and update work on while they are in a cache
	earlyGrain = 1 << 16 // elements below which it doesn't pay to share a piece out
)

// early works on gradients as soon as they are complete, while backward goes on: on the S lane that is beside the D lane, or else between two stages, by all
// lanes, while what was computed last is still in the caches. Weights differ from each other by element, so neither order nor place changes a bit.
type early struct {
	cuts   []Cut
	first  []int // of each cut: the number of its first parameter
	stages []stages.Piecewise
	params []*stages.ParamBinding // of all cuts
	team   *stages.Team           // nil on an S lane, as the D lane is busy

	// The present work of the team.
	m    *stages.Message
	at   int
	some func(lo, hi int)
	mu   sync.Mutex
	err  error
}

// insideBackward puts the update between the stages of the backward walk, or the word to the S lane that it is due.
func (e *Engine) insideBackward(cuts []Cut) {
	s := &early{}
	s.some = s.piece
	for i := range e.close {
		if p, ok := e.close[i].stage.(stages.Piecewise); ok {
			s.stages = append(s.stages, p)
		}
	}
	least := earlyHop
	if e.place.S == 0 {
		least = earlyLeast
	}
	var ps []*stages.ParamBinding
	n := 0
	for _, c := range cuts {
		ps = append(ps, c.Params...)
		for _, p := range c.Params {
			n += p.T.Len()
		}
		if n >= least {
			s.first = append(s.first, len(s.params))
			s.params = append(s.params, ps...)
			s.cuts = append(s.cuts, Cut{c.After, ps})
			ps, n = nil, 0
		}
	}
	if len(s.cuts) == 0 || len(s.stages) == 0 {
		return
	}
	for _, p := range s.stages {
		p.Ahead(s.params)
	}
	e.early = s
	if e.place.S == 0 {
		s.team = e.team
	}
	us := e.work[0]
	for k := len(s.cuts) - 1; k >= 0; k-- {
		u := unit{name: insideName, stage: &between{e, k}}
		if e.place.S > 0 {
			u.stage = &due{e, k}
		}
		us = slices.Insert(us, s.cuts[k].After, u)
	}
	e.work[0] = us
}

// update does what is due at cut k.
func (s *early) update(m *stages.Message, k int) error {
	if k == 0 {
		for _, p := range s.stages {
			if err := p.Open(m); err != nil {
				return err
			}
		}
	}
	s.m = m
	for i, p := range s.cuts[k].Params {
		s.at = s.first[k] + i
		s.team.Split(p.T.Len(), earlyGrain, s.some)
		if s.err != nil {
			return s.err
		}
	}
	s.m = nil
	return nil
}

// piece takes elements lo to hi of a parameter through guard and update, some at a time.
func (s *early) piece(lo, hi int) {
	for ; lo < hi; lo += earlyPiece {
		for _, p := range s.stages {
			if err := p.Piece(s.m, s.at, lo, min(lo+earlyPiece, hi)); err != nil {
				s.mu.Lock()
				s.err = err
				s.mu.Unlock()
				return
			}
		}
	}
}

// between is the update as a stage of the walk.
type between struct {
	e *Engine
	k int
}

func (b *between) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if err := b.e.early.update(m, b.k); err != nil {
		return err
	}
	return out.Send(m)
}

// due tells the S lane that a cut has been reached.
type due struct {
	e *Engine
	k int
}

func (d *due) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if !d.e.lanes[0].out.Push(result{m: m, cut: d.k + 1}) {
		return d.e.lost(0)
	}
	return out.Send(m)
}
