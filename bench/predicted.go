package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"time"
)

// predictedRow compares what `vtpu plan --measure` says of a step over a NATS link with what such a step takes then.
type predictedRow struct {
	What      string  `json:"what"`
	Unit      string  `json:"unit"` // s or examples
	Predicted float64 `json:"predicted"`
	Measured  float64 `json:"measured"`
	Ratio     spread  `json:"ratio"` // measured over predicted
	Rounds    int     `json:"rounds"`
	Within    float64 `json:"within"` // the ratio is to lie between 2 - Within and Within
}

// prediction is what vtpu plan tells.
type prediction struct {
	Event string
	Step  float64 `json:"step_seconds"`
	Even  float64 `json:"even_batch"`
}

func predict(vtpu string, workers int, args ...string) (p prediction, err error) {
	b, err := launch(vtpu, "broker", "--json")
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	var ready struct{ URL string }
	if err := b.line(&ready); err != nil {
		return p, err
	}
	out, err := exec.Command(vtpu, append([]string{"plan", "--json", "--measure", "--workers", fmt.Sprint(workers), "--nats", ready.URL}, args...)...).Output()
	if err != nil {
		return p, fmt.Errorf("%w: %s", err, out)
	}
	last := bytes.TrimSpace(out)
	last = last[bytes.LastIndexByte(last, '\n')+1:]
	if err := json.Unmarshal(last, &p); err != nil || p.Event != "step_over_link" {
		return p, fmt.Errorf("vtpu plan ends with %s", last)
	}
	return p, nil
}

// crossing is where a ratio is 2, from what it is at some batches: what is above 1 falls by about a power of the batch, whose line is fitted.
func crossing(batch, ratio []float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for i := range batch {
		x, y := math.Log(batch[i]), math.Log(max(ratio[i]-1, 0.01))
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	slope := (n*sxy - sx*sy) / (n*sxx - sx*sx)
	return math.Exp((sx - sy/slope) / n)
}

// even measures the batch at which a step with so many workers takes twice as long as on as many lanes, around a first guess.
func (b *bench) even(vtpu string, workers int, guess float64, args func(batch int) []string) (float64, error) {
	const n, parts = 24, 2
	var bs, rs []float64
	for _, f := range []float64{0.5, 0.8, 1.25, 2} {
		batch := max(int(math.Round(f*guess/parts)), 1) * parts
		if slices.Contains(bs, float64(batch)) {
			continue
		}
		far, err := withWorkers(vtpu, workers, n, args(batch)...)
		if err != nil {
			return 0, err
		}
		near, err := steps(vtpu, n, append(args(batch), "--lanes", fmt.Sprintf("d=%d,s=0", workers))...)
		if err != nil {
			return 0, err
		}
		bs, rs = append(bs, float64(batch)), append(rs, far/near)
	}
	if len(bs) < 2 {
		return 0, fmt.Errorf("a batch of %.1f leaves nothing to measure around", guess)
	}
	return crossing(bs, rs), nil
}

// comparePredictions measures W4's model with one worker and with two: a step at a batch of 120, and the batch below which the wire decides.
func (b *bench) comparePredictions() (rows []predictedRow, err error) {
	b.say("N")
	vtpu, err := b.vtpu()
	if err != nil {
		return nil, err
	}
	const large = 120
	args := func(batch int) []string { return b.w4(batch) }
	var pairs [2][2][][2]float64 // of one and two workers: of the step and of the batch: predicted, measured
	begin := time.Now()
	for k := range max(1, b.rounds/3) {
		if k > 0 && time.Since(begin) > b.limit {
			break
		}
		for i := range pairs {
			p, err := predict(vtpu, i+1, args(large)...)
			if err != nil {
				return nil, err
			}
			took, err := withWorkers(vtpu, i+1, 8, args(large)...)
			if err != nil {
				return nil, err
			}
			at, err := b.even(vtpu, i+1, p.Even, args)
			if err != nil {
				return nil, err
			}
			pairs[i][0] = append(pairs[i][0], [2]float64{p.Step, took})
			pairs[i][1] = append(pairs[i][1], [2]float64{p.Even, at})
		}
	}
	for j, what := range []string{"a step, batch 120", "the batch below which the wire decides"} {
		for i := range pairs {
			var want, got []float64
			for _, x := range pairs[i][j] {
				want, got = append(want, x[0]), append(got, x[1])
			}
			rows = append(rows, predictedRow{fmt.Sprintf("W4, %d workers, %s", i+1, what), []string{"s", "examples"}[j], median(want), median(got), spreadOf(ratios(got, want)), len(want), 1.25})
		}
	}
	return rows, nil
}
