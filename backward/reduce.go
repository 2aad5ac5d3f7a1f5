package backward

import (
	"context"
	"fmt"
	"sync/atomic"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// ReduceConfig has no choices.
type ReduceConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[ReduceConfig]{
		Name: "reduce", Room: stages.Backward, Pipe: stages.S,
		Summary: "Sum the gradients of a step's parts, in part order. It is put in by itself where parts is above 1.",
		Contract: func(ReduceConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradWrite, Replicas: stages.One}
		},
		New: func(env stages.Env, _ ReduceConfig) (stages.Stage, error) {
			r := &Reduce{all: env.All, parts: int32(env.Parts), team: env.Team}
			for _, p := range env.All {
				if !p.Sparse {
					r.total += p.T.Shape.Len()
				}
			}
			r.some = r.dense
			return r, nil
		},
	})
}

// Reduce sums the parts of a step. It keeps the message of part 0, adds the gradients of the others to it as they arrive in their order, and sends
// it after the last.
type Reduce struct {
	all    []*stages.ParamBinding
	parts  int32
	next   int32
	acc    *stages.Message
	done   []*stages.Message // added, to be handed back
	idBuf  []int32           // grown to what occurs, with room to spare
	rowBuf []float32

	team  *stages.Team
	total int // elements of the dense gradients
	m     *stages.Message
	some  func(lo, hi int)
	bad   atomic.Bool // a sum is not finite
}

// Absorbed returns the messages that were added since the last call and are free now.
func (s *Reduce) Absorbed() []*stages.Message {
	d := s.done
	s.done = s.done[:0]
	return d
}

// Process: gradient += gradient of this part, loss += loss of this part.
func (s *Reduce) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if s.acc != nil && m.Step != s.acc.Step {
		return fmt.Errorf("part %d of step %d arrived, part %d of step %d is due", m.Part, m.Step+1, s.next, s.acc.Step+1)
	}
	if m.Part != s.next {
		return fmt.Errorf("part %d of step %d arrived, part %d is due", m.Part, m.Step+1, s.next)
	}
	s.next++
	if m.Part == 0 {
		s.acc = m
	} else {
		a := s.acc
		a.Loss += m.Loss
		a.Hits += m.Hits
		a.Seen += m.Seen
		a.Rows += m.Rows
		s.m = m
		s.bad.Store(false)
		s.team.Split(s.total, reduceGrain, s.some)
		s.m = nil
		for _, p := range s.all {
			if p.Sparse {
				s.sparse(p, a, m)
			}
		}
		a.Finite = s.next == s.parts && !s.bad.Load()
		s.done = append(s.done, m)
	}
	if s.next < s.parts {
		return nil
	}
	a := s.acc
	s.acc, s.next = nil, 0
	return out.Send(a)
}

const (
	reduceGrain = 8192 // elements below which it doesn't pay to share the sum out
	reduceBlock = 4096 // elements that are summed and looked at while they are in the first-level cache
)

// dense adds of every dense gradient what corresponds to the share lo to hi of all their elements.
func (s *Reduce) dense(lo, hi int) {
	last := s.next == s.parts
	for _, p := range s.all {
		if p.Sparse {
			continue
		}
		a, m := s.acc.T(p.Grad).F32, s.m.T(p.Grad).F32
		for from, to := stages.Of(len(a), lo, hi, s.total); from < to; from += reduceBlock {
			end := min(from+reduceBlock, to)
			kernel.AddTo(a[from:end], m[from:end])
			if last && !kernel.AllFinite(a[from:end]) {
				s.bad.Store(true)
			}
		}
	}
}

func (s *Reduce) sparse(p *stages.ParamBinding, a, m *stages.Message) {
	ia, ga, im, gm := a.T(p.IDs), a.T(p.Grad), m.T(p.IDs), m.T(p.Grad)
	d := p.T.Last()
	n := len(ia.I32) + len(im.I32)
	if len(s.idBuf) < n {
		s.idBuf = make([]int32, 2*n)
	}
	if len(s.rowBuf) < n*d {
		s.rowBuf = make([]float32, 2*n*d)
	}
	n = merge(s.idBuf, s.rowBuf, ia.I32, ga.F32, im.I32, gm.F32, d)
	ia.Resize(tensor.Of(n))
	ga.Resize(tensor.Of(n, d))
	copy(ia.I32, s.idBuf[:n])
	copy(ga.F32, s.rowBuf[:n*d])
}
