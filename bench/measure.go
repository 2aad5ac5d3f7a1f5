package main

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// A side is one of those that are compared: it does steps of a work and says how long they took by its own clock.
type side interface {
	run(steps int64) (seconds, loss float64, err error)
	close() error
}

// A variant is a way to run a side, such as a number of threads. Its side is made when its turn comes.
type variant struct {
	label string
	open  func() (side, error)
}

// A runner is a side with its best variant and the steps of a chunk.
type runner struct {
	side
	label string
	steps int64
	loss  float64 // of the last step done
}

// settle is waited after each chunk: worker threads of the other side's libraries spin for a while before they sleep.
const settle = 40 * time.Millisecond

// errMissing says that a peer is not installed.
var errMissing = errors.New("not installed")

// chunk runs the runner's steps and returns the time of one.
func (r *runner) chunk() (float64, error) {
	s, loss, err := r.run(r.steps)
	if err != nil {
		return 0, err
	}
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return 0, fmt.Errorf("the loss became %v: the work is not done as it should be", loss)
	}
	if s <= 0 {
		return 0, fmt.Errorf("%d steps took %v s", r.steps, s)
	}
	r.loss = loss
	time.Sleep(settle)
	return s / float64(r.steps), nil
}

// calibrate finds the steps that take about so many seconds. The steps that it runs are the warm-up.
func (r *runner) calibrate(seconds float64) error {
	r.steps = 1
	if _, err := r.chunk(); err != nil { // the first step makes buffers and threads: it says little
		return err
	}
	for {
		t, err := r.chunk()
		if err != nil {
			return err
		}
		if took := t * float64(r.steps); took < seconds/4 {
			r.steps = int64(float64(r.steps) * min(16, seconds/took))
			continue
		}
		r.steps = max(1, int64(seconds/t+0.5))
		return nil
	}
}

// trials is how many chunks choose between variants.
const trials = 3

// pick tries the variants one after the other and keeps the fastest, warm. At most one of them is open at a time: some are large.
func pick(vs []variant, seconds float64) (*runner, error) {
	try := func(v variant) (*runner, float64, error) {
		s, err := v.open()
		if err != nil {
			return nil, 0, err
		}
		r := &runner{side: s, label: v.label}
		if err := r.calibrate(seconds); err != nil {
			return nil, 0, errors.Join(err, s.close())
		}
		if len(vs) == 1 {
			return r, 0, nil
		}
		var ts []float64
		for range trials {
			t, err := r.chunk()
			if err != nil {
				return nil, 0, errors.Join(err, s.close())
			}
			ts = append(ts, t)
		}
		return r, median(ts), nil
	}
	var last *runner
	best, bestTime := -1, math.Inf(1)
	for i, v := range vs {
		if last != nil {
			if err := last.close(); err != nil {
				return nil, err
			}
		}
		r, t, err := try(v)
		if err != nil {
			return nil, err
		}
		last = r
		if t < bestTime {
			best, bestTime = i, t
		}
	}
	if best == len(vs)-1 {
		return last, nil
	}
	if err := last.close(); err != nil {
		return nil, err
	}
	vs = vs[best : best+1]
	r, _, err := try(vs[0])
	return r, err
}

// alternate lets the sides take turns, never two at a time, and returns the time of a step by side and round. After the time limit it stops, with
// three rounds at least. Before each round it calls before.
func alternate(rs []*runner, rounds int, limit time.Duration, before func()) ([][]float64, error) {
	out := make([][]float64, len(rs))
	start := time.Now()
	for n := range rounds {
		if n >= 3 && time.Since(start) > limit {
			break
		}
		before()
		for i, r := range rs {
			t, err := r.chunk()
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], t)
		}
	}
	return out, nil
}
