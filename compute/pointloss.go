package compute

import (
	"context"
	"fmt"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// LossConfig is the config of a loss without choices.
type LossConfig struct{}

func init() {
	for _, l := range []struct {
		name, summary string
		f             func(d, x, y []float32) float32
		hits          bool
		fuse          func(walk []stages.Planned) (int, func(*stages.Team) (stages.Stage, error))
	}{
		{"mse", "Mean squared error: the mean of (x-y)² over all elements of the step's targets.", squared, false, fuseSquared},
		{"mae", "Mean absolute error: the mean of |x-y| over all elements of the step's targets.", absolute, false, nil},
		{"bce", "Binary cross-entropy of logits against targets in 0..1, mean over all elements of the step's targets.", nil, true, nil},
	} {
		stages.MustRegister(stages.Spec[LossConfig]{
			Name: l.name, Room: stages.Loss, Pipe: stages.D, Twin: l.name + "_backward", Summary: l.summary, Example: l.name + ": {}",
			Contract: func(LossConfig) stages.Contract { return pointContract() },
			New: func(env stages.Env, _ LossConfig) (stages.Stage, error) {
				f := l.f
				if f == nil {
					f = new(logistic).sum
				}
				return &pointLoss{env.Ports["x"].Slot, env.Ports["y"].Slot, env.Ports["d"].Slot, f, l.hits}, nil
			},
			Fuse: l.fuse,
		})
	}
}

// pointContract: prediction (B,...) against a target of as many elements; (B,1) against (B) is fine.
func pointContract() stages.Contract {
	return stages.Contract{
		In:   []stages.Port{{Name: "x", Shape: "...", Doc: "prediction"}, {Name: "y", Shape: "...", Slot: "y", NoGrad: true, Doc: "target"}},
		Keep: []stages.Port{{Name: "d", Shape: "...", Grad: "x"}},
		Loose: func(in []stages.BoundPort) error {
			if x, y := in[0].Dims, in[1].Dims; x.Len() != y.Len() || x.Dims[0] != y.Dims[0] {
				return fmt.Errorf("the prediction has shape %v, the target %v; as many elements are wanted", x, y)
			}
			return nil
		},
	}
}

// pointLoss compares element by element. f writes to d what the gradient needs and returns the sum of the losses.
type pointLoss struct {
	x, y, d stages.Slot
	f       func(d, x, y []float32) float32
	hits    bool
}

// Process adds this part's share of the mean to the head. x, y, d (B,...).
func (s *pointLoss) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y, d := m.T(s.x), m.T(s.y), m.T(s.d)
	if len(x.F32) != 1 || len(d.F32) != 1 {
		d.ResizeAs(x)
	}
	sum := s.f(d.F32, x.F32, y.F32)
	m.Loss += float64(sum) / m.Mean(len(x.F32), false)
	if s.hits && m.Mode != stages.Train {
		for i, v := range x.F32 {
			if (v > 0) == (y.F32[i] > 0.5) {
				m.Hits++
			}
		}
		m.Seen += int64(len(x.F32))
	}
	return out.Send(m)
}

// Scores gives the predictions of a message and what they should have been, where they are yes or no: an evaluation ranks them.
func (s *pointLoss) Scores(m *stages.Message) (scores, targets []float32) {
	if !s.hits {
		return nil, nil
	}
	return m.T(s.x).F32, m.T(s.y).F32
}

// squared: d = x - y, sum of d² as Dot.
func squared(d, x, y []float32) float32 {
	if len(x) == 1 {
		d[0] = x[0] - y[0]
		return float32(d[0]*d[0]) + 0
	}
	kernel.Sub(d, x, y)
	return kernel.Dot(d, d)
}

// absolute: d = x - y, sum of |d| as kernel.Sum.
func absolute(d, x, y []float32) float32 {
	for i, v := range x {
		d[i] = v - y[i]
		if d[i] < 0 {
			d[i] = -d[i]
		}
	}
	s := kernel.Sum(d)
	kernel.Sub(d, x, y)
	return s
}

// logistic has room for what is known of some elements.
type logistic struct{ e, u, l [64]float32 }

// sum: the loss is max(x,0) - x·y + log(1 + e^-|x|), which can't overflow; d = sigmoid(x) - y.
func (r *logistic) sum(d, x, y []float32) float32 {
	for lo := 0; lo < len(x); lo += len(r.e) {
		hi := min(lo+len(r.e), len(x))
		e, u, l := r.e[:hi-lo], r.u[:hi-lo], r.l[:hi-lo]
		for i, v := range x[lo:hi] {
			if v > 0 {
				v = -v
			}
			e[i] = v
		}
		kernel.Exp(e, e)
		for i, v := range e {
			u[i] = 1 + v
		}
		kernel.Log(l, u)
		for i, v := range x[lo:hi] {
			// log(1+e) for small e: log(u)·e/(u-1) with u = 1+e rounded cancels the rounding (Kahan; Goldberg 1991, Theorem 4).
			s := e[i]
			if u[i] != 1 {
				s = float32(l[i]*e[i]) / (u[i] - 1)
			}
			d[lo+i] = kernel.FMA(-v, y[lo+i], max(v, 0)) + s
		}
	}
	s := kernel.Sum(d)
	kernel.Sigmoid(d, x)
	kernel.Sub(d, d, y)
	return s
}

// fuseSquared finds mse and its gradient, which need one walk over the elements.
func fuseSquared(walk []stages.Planned) (int, func(*stages.Team) (stages.Stage, error)) {
	if len(walk) < 2 || walk[1].Def.Name != "mse_backward" {
		return 0, nil
	}
	x := walk[1].Env.Ports["x"]
	if !x.HasGrad || x.Acc {
		return 0, nil
	}
	return 2, func(*stages.Team) (stages.Stage, error) {
		return &squaredLoss{x.Slot, walk[0].Env.Ports["y"].Slot, x.Grad}, nil
	}
}

// squaredLoss is mse and mse_backward.
type squaredLoss struct{ x, y, dx stages.Slot }

// Process adds this part's share of the mean to the head, and dx = (x-y)·2/n for n target elements in the step. x, y, dx (B,...).
func (s *squaredLoss) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, dx := m.T(s.x), m.T(s.dx)
	dx.ResizeAs(x)
	mean := m.Mean(len(x.F32), false)
	m.Loss += float64(kernel.SquaredError(dx.F32, x.F32, m.T(s.y).F32, float32(2/mean))) / mean
	return out.Send(m)
}
