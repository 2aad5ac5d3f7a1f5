package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// LossConfig is the config of a loss without choices.
type LossConfig struct{}

func init() {
	for _, name := range []string{"mse", "mae", "bce"} {
		stages.MustRegister(stages.Spec[LossConfig]{
			Name: name + "_backward", Room: stages.Backward, Pipe: stages.D, Summary: "Gradient of " + name + ".",
			Contract: func(LossConfig) stages.Contract { return stages.Contract{Reads: []string{"d"}} },
			New: func(env stages.Env, _ LossConfig) (stages.Stage, error) {
				l := &pointLoss{d: env.Ports["d"].Slot, gx: inputGrad(env, "x"), sign: name == "mae", by: 1}
				if name == "mse" {
					l.by = 2
				}
				return l, nil
			},
		})
	}
}

type pointLoss struct {
	d    stages.Slot
	gx   grad
	by   float64
	sign bool
}

// Process: dx = by·d/n for n target elements in the step, with d = x-y (mse, mae by its sign) or sigmoid(x)-y (bce). All (B,...).
func (s *pointLoss) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	d := m.T(s.d)
	dx := s.gx.as(m, d)
	if dx == nil {
		return out.Send(m)
	}
	scale := float32(s.by / m.Mean(len(d.F32), false))
	if s.sign {
		for i, v := range d.F32 {
			switch {
			case v > 0:
				d.F32[i] = 1
			case v < 0:
				d.F32[i] = -1
			}
		}
	}
	if len(dx) == 1 && !s.gx.acc {
		dx[0] = d.F32[0] * scale
	} else if s.gx.acc {
		kernel.Axpy(scale, d.F32, dx)
	} else {
		kernel.Scale(dx, d.F32, scale)
	}
	return out.Send(m)
}
