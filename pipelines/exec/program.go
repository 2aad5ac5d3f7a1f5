// Package exec runs a plan in one process: lanes, fused neighbours, rings where the lane changes.
//
// A step is cut into three segments. The first (gather) and the last (reduce, clip, update, scatter) see the steps one by one; the middle one
// (forward, loss, backward) works on the parts of a step, on any number of lanes. Stages of a segment are fused: a direct call after another.
// The schedule is fixed by the number of lanes alone, and the sums by the number of parts alone, so no timing can change a bit.
package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"vtpu/stages"
	"vtpu/stages/weights"
)

// A Node is a stage of a program that can be made any number of times.
type Node struct {
	Name string
	New  func(*stages.Team) (stages.Stage, error)
}

// A Program is a checked pipeline, ready to run.
type Program struct {
	Layout *stages.Layout
	Store  *weights.Store
	Parts  int
	// The walk. Gather and Close exist once; Forward and Backward once for each D lane. Loss is the last Forward node, if HasLoss.
	Gather, Forward, Backward, Close []Node
	HasLoss                          bool
	// Aside follows Close and only looks at what a step has left in its message. With an S lane it has its turn there while the D lanes are at the next step.
	Aside []Node
	// Training, where not nil, does what Forward and then Backward do to a part of a training step, with fewer stages.
	Training []Node

	// Early says where in the walk of a part gradients are complete that the last segment may work on at once. Empty where something needs all of them.
	Early []Cut
}

// A Cut is a place in the walk of a part.
type Cut struct {
	After  int // nodes of Training, or else of Forward and Backward, that have been walked
	Params []*stages.ParamBinding
}

// Middle is what a part of a training step walks through: forward, loss and backward, where one stage may take the place of several.
func (p *Program) Middle() []Node {
	if p.Training != nil {
		return p.Training
	}
	return append(append([]Node{}, p.Forward...), p.Backward...)
}

// A Placement says on how many lanes a program runs, and where. With one part and no S lane, D lanes beyond the first share the work inside each stage.
type Placement struct {
	D, S      int   // lanes for parts (at least 1), lanes for gather and update (0, 1 or 2; 0: D lane 0 does it all)
	LookAhead int   // steps that gather may run ahead
	CPUs      []int // logical CPU of each lane, the S lanes first; nil: not pinned
	Spin      int   // looks before a waiting lane parks; 0 where lanes share a CPU

	// Remote computes the parts instead of D lanes of this process, if not nil. D then is the number of parts that may be under way.
	Remote Remote

	// Skip is the number of gather stages at the beginning that training leaves out: Source does their work or, where it is nil, Remote.
	Skip   int
	Source Source
}

// Source gathers in other processes. Gather fills m with what the stages that are skipped would have written; it is called step by step and, in a step, part by
// part, perhaps for steps before which others are still to be committed.
type Source interface {
	Gather(ctx context.Context, m *stages.Message) error
}

// Remote computes parts in other processes: forward, loss and backward. Part is called by one goroutine for each part of a step; when it returns, m has
// the gradients, the loss and what the last segment reads.
type Remote interface {
	Part(ctx context.Context, m *stages.Message) error
	// Returns are the tensors of the body that Part writes: messages that are computed elsewhere have no others. nil: Part needs a whole body.
	Returns() []stages.Slot
}

// A StageError says in which step and stage a run failed.
type StageError struct {
	Step  int64
	Stage string
	Err   error
}

func (e *StageError) Error() string { return fmt.Sprintf("step %d, %s: %v", e.Step+1, e.Stage, e.Err) }
func (e *StageError) Unwrap() error { return e.Err }

// Where is the name of the stage.
func (e *StageError) Where() string { return e.Stage }

var errTwice = errors.New("the stage sent more than one message")

// outbox keeps what a stage sends for the next one, which the same lane calls directly.
type outbox struct{ m *stages.Message }

func (o *outbox) Send(m *stages.Message) error {
	if o.m != nil {
		return errTwice
	}
	o.m = m
	return nil
}

// unit is one instance of a node.
type unit struct {
	stage stages.Stage
	name  string
	nanos int64 // time in Process, in the steps that were measured
}

func instantiate(nodes []Node, team *stages.Team) ([]unit, error) {
	us := make([]unit, 0, len(nodes))
	for _, n := range nodes {
		s, err := n.New(team)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", n.Name, err), closeUnits(us))
		}
		us = append(us, unit{stage: s, name: n.Name})
	}
	return us, nil
}

func closeUnits(us []unit) error {
	var errs []error
	for i := range us {
		if c, ok := us[i].stage.(io.Closer); ok {
			if err := c.Close(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", us[i].name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// measured says whether a step is timed stage by stage: few are, the others run without a look at the clock.
func measured(step int64) bool { return step&1023 == 1023 || step&63 == 63 && step < 1024 }

// walk takes m through fused stages. It returns nil without an error where a stage absorbed the message. It is a loop, not a chain in which Send calls the next
// stage: a core predicts some 16 nested returns, and with the 25 stages of W5 the others took 0.6 of 7.7 µs.
func (e *Engine) walk(us []unit, m *stages.Message, o *outbox) (*stages.Message, error) {
	if measured(m.Step) {
		return e.walkTimed(us, m, o)
	}
	for i := range us {
		o.m = nil
		if err := us[i].stage.Process(e.ctx, m, o); err != nil {
			if inner, ok := err.(*StageError); ok { // of a stage among several that have a tape
				return nil, inner
			}
			return nil, &StageError{m.Step, us[i].name, err}
		}
		if m = o.m; m == nil {
			return nil, nil
		}
	}
	return m, nil
}

func (e *Engine) walkTimed(us []unit, m *stages.Message, o *outbox) (*stages.Message, error) {
	step, t := m.Step, time.Now()
	for i := range us {
		o.m = nil
		err := us[i].stage.Process(e.ctx, m, o)
		now := time.Now()
		us[i].nanos += int64(now.Sub(t))
		t = now
		if err != nil {
			return nil, &StageError{step, us[i].name, err}
		}
		if m = o.m; m == nil {
			return nil, nil
		}
	}
	return m, nil
}
