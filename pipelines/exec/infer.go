package exec

import (
	"context"
	"errors"

	"vtpu/stages"
)

// evaluator is a gather stage that can walk the validation data: EvalSteps batches, numbered from 0.
type evaluator interface{ EvalSteps() int64 }

// Evaluation is the result of a walk over the validation data.
type Evaluation struct {
	Loss       float64 // mean over examples or target tokens
	Hits, Seen int64
	Steps      int64
	AUC        float64 // of yes-or-no predictions: the chance that a yes is ranked above a no; 0 where there are none of one kind
}

// scorer is a loss whose predictions are yes or no.
type scorer interface {
	Scores(m *stages.Message) (scores, targets []float32)
}

// ErrNoEval says that there is nothing to evaluate: no loss, or no validation data.
var ErrNoEval = errors.New("no validation data: give data.split a value below 1, or a data source with a validation part")

// borrow takes a message that no step needs now. The pipeline is drained, but messages gathered ahead stay where they are.
func (e *Engine) borrow() (*stages.Message, func()) {
	m := e.prog.Layout.NewMessage()
	if e.place.Remote != nil { // the bodies of its parts have no activations
		if e.spare == nil {
			e.spare = e.prog.Layout.NewBody()
		}
		m.Attach(e.spare)
		return m, func() { m.Detach() }
	}
	b := e.bodies[len(e.bodies)-1]
	e.bodies = e.bodies[:len(e.bodies)-1]
	m.Attach(b)
	return m, func() { e.bodies = append(e.bodies, m.Detach()) }
}

// forward is the chain up to the loss, on lane D0, which is idle.
func (e *Engine) forward(withLoss bool) []unit {
	n := len(e.eval)
	if e.prog.HasLoss && !withLoss {
		n--
	}
	return e.eval[:n]
}

// Eval walks the validation data once and changes nothing. max bounds the number of batches; 0 is all.
func (e *Engine) Eval(ctx context.Context, max int64) (ev Evaluation, err error) {
	if e.broken != nil {
		return ev, e.broken
	}
	defer caught("evaluation", &err)
	e.ctx = ctx
	var n int64
	for i := range e.gather {
		if g, ok := e.gather[i].stage.(evaluator); ok {
			n = g.EvalSteps()
		}
	}
	if n == 0 || !e.prog.HasLoss {
		return ev, ErrNoEval
	}
	if max > 0 && n > max {
		n = max
	}
	m, back := e.borrow()
	defer back()
	var sum, weight float64
	judge, _ := e.eval[len(e.eval)-1].stage.(scorer)
	var scores, targets []float32
	for t := range n {
		if err := ctx.Err(); err != nil {
			return ev, err
		}
		for p := range e.prog.Parts {
			m.Head = stages.Head{Step: t, Gathered: e.version, Part: int32(p), Parts: int32(e.prog.Parts), Mode: stages.Eval}
			for _, us := range [][]unit{e.gather, e.forward(true)} {
				if got, err := e.walk(us, m, &e.out); err != nil {
					return ev, err
				} else if got != m {
					return ev, errors.New("exec: a message was lost in evaluation")
				}
			}
			w := float64(m.Count)
			if m.Targets > 0 {
				w = float64(m.Targets)
			}
			if judge != nil {
				s, y := judge.Scores(m)
				scores, targets = append(scores, s...), append(targets, y...)
			}
			sum += m.Loss * w
			if p == 0 {
				weight += w
			}
			ev.Hits += m.Hits
			ev.Seen += m.Seen
		}
		ev.Steps++
	}
	ev.Loss = sum / weight
	ev.AUC = AUC(scores, targets)
	return ev, nil
}

// Infer runs the forward half, without the loss, on a message that set has filled instead of the first gather stage; get reads the result.
func (e *Engine) Infer(ctx context.Context, set, get func(*stages.Message)) (err error) {
	if e.broken != nil {
		return e.broken
	}
	defer caught("inference", &err)
	e.ctx = ctx
	m, back := e.borrow()
	defer back()
	m.Head = stages.Head{Parts: 1, Rows: 1, Count: 1, Mode: stages.Sample, Gathered: e.version}
	set(m)
	for _, us := range [][]unit{e.gather[min(1, len(e.gather)):], e.forward(false)} {
		got, err := e.walk(us, m, &e.out)
		if err != nil {
			return err
		}
		if got != m {
			return errors.New("exec: a message was lost in inference")
		}
	}
	get(m)
	return nil
}

// Shares is the measured part of the time that each stage took, by name; stages that exist several times are added up.
func (e *Engine) Shares() map[string]float64 {
	sum := map[string]float64{}
	var all float64
	chains := [][]unit{e.gather, e.close, e.aside}
	if e.serial != nil {
		chains = [][]unit{e.serial}
	} else {
		chains = append(chains, e.work...)
	}
	for _, us := range chains {
		for i := range us {
			sum[us[i].name] += float64(us[i].nanos)
			all += float64(us[i].nanos)
		}
	}
	if all == 0 {
		return nil
	}
	for k := range sum {
		sum[k] /= all
	}
	return sum
}
