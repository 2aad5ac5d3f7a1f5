package compute

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// ResidualAddConfig has no choices.
type ResidualAddConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[ResidualAddConfig]{
		Name: "residual_add", Room: stages.Compute, Pipe: stages.S, Twin: "residual_add_backward",
		Summary: "y = x + skip. `residual: [...]` ends in one.", Source: "He et al. 2015, arXiv:1512.03385",
		Example: "residual_add: {in: [branch, trunk]}",
		Contract: func(ResidualAddConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{float("x", "..."), float("skip", "...")}, Out: []stages.Port{float("y", "...")}}
		},
		New: func(env stages.Env, _ ResidualAddConfig) (stages.Stage, error) {
			s := &residualAdd{x: env.Ports["x"].Slot, skip: env.Ports["skip"].Slot, y: env.Ports["y"].Slot, team: env.Team}
			s.share = s.some
			return s, nil
		},
	})
}

type residualAdd struct {
	x, skip, y stages.Slot
	team       *stages.Team
	share      func(lo, hi int)
	m          *stages.Message // in Process
}

func (s *residualAdd) some(lo, hi int) {
	kernel.Add(s.m.T(s.y).F32[lo:hi], s.m.T(s.x).F32[lo:hi], s.m.T(s.skip).F32[lo:hi])
}

// Process: y = x + skip, all (...).
func (s *residualAdd) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y := m.T(s.x), m.T(s.y)
	y.ResizeAs(x)
	s.m = m
	s.team.Split(len(y.F32), shareElems, s.share)
	s.m = nil
	return out.Send(m)
}

// Tape puts Process on a tape.
func (s *residualAdd) Tape(m *stages.Message, t *kernel.Tape) bool {
	return !s.x.IsData() && !s.skip.IsData() && t.Add(m.T(s.y).F32, m.T(s.x).F32, m.T(s.skip).F32)
}
