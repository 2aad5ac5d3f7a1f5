// Package update holds the optimizers: one file is one kind of update. An optimizer is the only writer of the parameters in its care; its state
// lives in the store beside them.
package update

import (
	"fmt"
	"math"
)

// Schedule is the learning rate over a run; at most one of its fields is set. Steps are counted from 0.
type Schedule struct {
	Constant *ConstantSchedule `yaml:"constant" doc:"The same rate throughout."`
	Linear   *LinearSchedule   `yaml:"linear" doc:"Warm up, then go down in a straight line."`
	Cosine   *CosineSchedule   `yaml:"cosine" doc:"Warm up, then go down along a half cosine."`
	Step     *StepSchedule     `yaml:"step" doc:"Go down in steps."`
}

// ConstantSchedule has no choices.
type ConstantSchedule struct{}

// LinearSchedule goes from lr to End over the steps that follow the warm-up.
type LinearSchedule struct {
	Warmup int64   `yaml:"warmup" min:"0" doc:"Steps in which the rate rises to lr."`
	End    float64 `yaml:"end" min:"0" doc:"Rate after the last step."`
}

// CosineSchedule goes from lr to Min along a half cosine, as nanoGPT. Source: Loshchilov and Hutter 2017, arXiv:1608.03983.
type CosineSchedule struct {
	Warmup int64   `yaml:"warmup" min:"0" doc:"Steps in which the rate rises to lr."`
	Min    float64 `yaml:"min" min:"0" doc:"Rate at the end."`
}

// StepSchedule multiplies the rate by By every so many steps.
type StepSchedule struct {
	Every int64   `yaml:"every" min:"1" required:"true" doc:"Steps between two changes."`
	By    float64 `yaml:"by" above:"0" doc:"Factor of each change; 0.1 if left out."`
}

func (s Schedule) check() error {
	n := 0
	for _, set := range []bool{s.Constant != nil, s.Linear != nil, s.Cosine != nil, s.Step != nil} {
		if set {
			n++
		}
	}
	if n > 1 {
		return fmt.Errorf("schedule: %d kinds are given, one is possible", n)
	}
	return nil
}

// rate is the learning rate of a step, from 0, of a run of steps. It is computed in float64 with a fixed sequence of exactly rounded operations.
func (s Schedule) rate(lr float64, step, steps int64) float64 {
	var warmup int64
	switch {
	case s.Linear != nil:
		warmup = s.Linear.Warmup
	case s.Cosine != nil:
		warmup = s.Cosine.Warmup
	}
	if step < warmup {
		return lr * (float64(step+1) / float64(warmup+1))
	}
	// Share of the way behind us.
	done := 0.0
	if steps > warmup {
		done = min(float64(step-warmup)/float64(steps-warmup), 1)
	}
	switch {
	case s.Linear != nil:
		return math.FMA(s.Linear.End-lr, done, lr)
	case s.Cosine != nil:
		return math.FMA(float64(0.5*(1+cosPi(done))), lr-s.Cosine.Min, s.Cosine.Min)
	case s.Step != nil:
		by := s.Step.By
		if by == 0 {
			by = 0.1
		}
		return lr * power(by, step/s.Step.Every)
	}
	return lr
}

// power is x^n by repeated squaring: the same products in the same order everywhere.
func power(x float64, n int64) float64 {
	p := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			p *= x
		}
		x *= x
	}
	return p
}

// cosPi is cos(πx) for x in [0,1], by its Taylor series around the nearest of 0, ½ and 1: math.Cos may differ in the last bit between machines.
func cosPi(x float64) float64 {
	switch {
	case x > 0.75:
		return -cosPi(1 - x)
	case x > 0.25: // cos(πx) = -sin(π(x-½))
		t := math.Pi * (x - 0.5)
		return -series(t, t, 2)
	}
	return series(1, math.Pi*x, 1)
}

// series is first·(1 - t²/(k(k+1)) + t⁴/(k(k+1)(k+2)(k+3)) - ...): cos for k = 1, sin for k = 2 and first = t.
func series(first, t, k float64) float64 {
	z := t * t
	p := 1.0
	for n := 19.0; n > 0; n -= 2 { // |t| <= π/4: the 10 terms reach below 1e-17
		p = 1 - float64(z/((k+n-1)*(k+n))*p) // not fused anywhere
	}
	return first * p
}

// powers is power for an x that stays: its squares are made once, and a bit of n chooses between one of them and 1, so that nothing has to be foreseen.
type powers [63][2]float64

func powersOf(x float64) (p powers) {
	for i := range p {
		p[i] = [2]float64{1, x}
		x *= x
	}
	return p
}

// to is x^n.
func (p *powers) to(n int64) float64 {
	r := 1.0
	for i := 0; n > 0; n >>= 1 {
		r *= p[i][n&1]
		i++
	}
	return r
}
