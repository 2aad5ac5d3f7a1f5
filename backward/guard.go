package backward

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// GuardConfig has no choices.
type GuardConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[GuardConfig]{
		Name: "guard", Room: stages.Backward, Pipe: stages.S,
		Summary: "Stop the run before an update when the loss or a gradient is NaN or Inf. It is put in by itself.",
		Contract: func(GuardConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradRead, Replicas: stages.One}
		},
		New: func(env stages.Env, _ GuardConfig) (stages.Stage, error) {
			g := &guard{all: env.All, team: env.Team}
			g.some = func(lo, hi int) {
				if !kernel.AllFinite(g.rows[lo:hi]) {
					g.bad.Store(true)
				}
			}
			g.dense = newBlocks(env, g.check)
			return g, nil
		},
	})
}

type guard struct {
	all   []*stages.ParamBinding
	dense *blocks
	m     *stages.Message
	bad   atomic.Bool
	early map[*stages.ParamBinding]bool // come by Piece
	ahead []*stages.ParamBinding

	team *stages.Team
	rows []float32 // a sparse gradient
	some func(lo, hi int)
}

// check looks at a block.
func (s *guard) check(_ int, b *block) {
	if !kernel.AllFinite(b.of(s.m)) {
		s.bad.Store(true)
	}
}

const guardFix = "a smaller lr or clip_norm may help; the weights of the step before are untouched"

// Ahead is of stages.Piecewise.
func (s *guard) Ahead(ps []*stages.ParamBinding) {
	s.ahead, s.early = ps, map[*stages.ParamBinding]bool{}
	for _, p := range ps {
		s.early[p] = true
	}
}

// Open looks at the loss.
func (s *guard) Open(m *stages.Message) error {
	if m.Loss-m.Loss != 0 { // NaN and Inf
		return stages.Finding{Msg: fmt.Sprintf("the loss is %v", m.Loss), Fix: guardFix}
	}
	return nil
}

// Piece looks at a gradient before an update inside backward does. Layers above may have been updated already.
func (s *guard) Piece(m *stages.Message, i, lo, hi int) error {
	if p := s.ahead[i]; !kernel.AllFinite(m.T(p.Grad).F32[lo:hi]) {
		return stages.Finding{Msg: fmt.Sprintf("the gradient of %s is %s", p.Name, s.where(m, p)),
			Fix: "a smaller lr may help; layers above it have been updated in this step, so go on from a checkpoint"}
	}
	return nil
}

// Process looks at the loss and at every element of every gradient that has not come by Piece.
func (s *guard) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if err := s.Open(m); err != nil {
		return err
	}
	fine := m.Finite
	if !fine && s.early == nil && s.dense.shared() {
		s.m = m
		s.bad.Store(false)
		s.dense.run()
		s.m = nil
		fine = !s.bad.Load()
	}
	for _, p := range s.all {
		if fine && !p.Sparse || s.early != nil && s.early[p] {
			continue
		}
		if !s.finite(m.T(p.Grad).F32) {
			return stages.Finding{Msg: fmt.Sprintf("the gradient of %s is %s", p.Name, s.where(m, p)), Fix: guardFix}
		}
	}
	return out.Send(m)
}

// finite looks at one gradient.
func (s *guard) finite(g []float32) bool {
	if !s.team.Shares(len(g), teamGrain) { // the store below is a locked one, which a small gradient would feel
		return kernel.AllFinite(g)
	}
	s.bad.Store(false)
	s.rows = g
	s.team.Split(len(g), teamGrain, s.some)
	s.rows = nil
	return !s.bad.Load()
}

// where names the first bad element by its place in the parameter, as in "NaN at (3,5) of (10,8)".
func (s *guard) where(m *stages.Message, p *stages.ParamBinding) string {
	g := m.T(p.Grad)
	i := slices.IndexFunc(g.F32, func(v float32) bool { return v-v != 0 })
	if i < 0 {
		return "not finite"
	}
	what, shape := g.F32[i], p.T.Shape
	if p.Sparse {
		d := g.Shape.Last()
		i = int(m.T(p.IDs).I32[i/d])*d + i%d
	}
	var at tensor.Shape
	at.Rank = shape.Rank
	for k := shape.Rank - 1; k >= 0; k-- {
		at.Dims[k], i = i%shape.Dims[k], i/shape.Dims[k]
	}
	return fmt.Sprintf("%v at %v of %v", what, at, shape)
}
