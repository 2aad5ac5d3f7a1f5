package exec

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// Of a step of some microseconds, half is the way to the kernels: stages, shapes, checks, the choice of a loop. All of it depends on nothing but the shapes of
// the step's data, so it is walked once for each of them, and the calls at its end are put on a tape. A tape is for a fused walk on one lane.

// taper is a stage whose Process is calls of kernels that depend on nothing but shapes, on tensors of the body and weights. Tape is called after Process, with
// the same message.
type taper interface {
	Tape(m *stages.Message, t *kernel.Tape) bool
}

const (
	// tapeForms is the number of shapes of the data that have tapes.
	tapeForms = 16
	// tapeBody is the size of a body in bytes above which the way to the kernels doesn't matter.
	tapeBody = 256 << 10
	// tapeCalls is the number of calls that a stage makes, on the average.
	tapeCalls = 4
)

// taped are neighbouring stages that all can be taped.
type taped struct {
	e     *Engine
	units []unit
	out   outbox
	tapes [tapeForms]*kernel.Tape
	state [tapeForms]uint8
}

// States of a tape.
const (
	untried uint8 = iota
	ready
	refused
)

// Process makes the calls on the tape for the form of the body, or walks and makes the tape.
func (s *taped) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	f := m.InForm()
	if f >= 0 && s.state[f] == ready {
		s.tapes[f].Run()
		return out.Send(m)
	}
	got, err := s.e.walk(s.units, m, &s.out)
	if err != nil {
		return err
	}
	if f >= 0 && s.state[f] == untried {
		s.state[f] = ready
		for i := range s.units {
			if !s.units[i].stage.(taper).Tape(m, s.tapes[f]) {
				s.state[f] = refused
				break
			}
		}
	}
	return out.Send(got)
}

// form chooses the form of the body.
type form struct{}

func (form) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	m.Form()
	return out.Send(m)
}

// tapes makes the walk with tapes out of the one without: nil where it would not be shorter.
func (e *Engine) tapes(gather, rest []unit) []unit {
	if e.bodies[0] == nil || e.prog.Layout.BodyBytes() > tapeBody {
		return nil
	}
	walk := append(append([]unit{}, gather...), unit{stage: form{}, name: "form"})
	found := false
	for i := 0; i < len(rest); {
		n := i
		for n < len(rest) {
			if _, ok := rest[n].stage.(taper); !ok {
				break
			}
			n++
		}
		if n < i+2 {
			walk = append(walk, rest[i])
			i++
			continue
		}
		s := &taped{e: e, units: rest[i:n:n]}
		for f := range s.tapes {
			s.tapes[f] = kernel.NewTape(tapeCalls * (n - i))
		}
		walk = append(walk, unit{stage: s, name: rest[i].name})
		i, found = n, true
	}
	if !found {
		return nil
	}
	e.bodies[0].Forms(tapeForms, len(e.prog.Layout.Data))
	return walk
}
