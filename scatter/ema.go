package scatter

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// EMAConfig is what a user may write under ema.
type EMAConfig struct {
	Decay float64 `yaml:"decay" min:"0" below:"1" doc:"Share of the old average that is kept in a step."`
}

func init() {
	stages.MustRegister(stages.Spec[EMAConfig]{
		Name: "ema", Room: stages.Scatter, Pipe: stages.S,
		Summary: "Exponential moving average of the weights, kept beside them as NAME/ema/average.", Source: "Polyak and Juditsky 1992",
		Example: "ema: {decay: 0.999}",
		Default: func() EMAConfig { return EMAConfig{Decay: 0.999} },
		Contract: func(EMAConfig) stages.Contract {
			return stages.Contract{Replicas: stages.One}
		},
		New: func(env stages.Env, c EMAConfig) (stages.Stage, error) {
			e := &ema{all: env.All, keep: float32(1 - c.Decay)}
			for _, p := range env.All {
				s, err := env.Store.State(p.Name, env.Name, "average", tensor.F32, p.T.Shape)
				if err != nil {
					return nil, err
				}
				e.avg = append(e.avg, s)
			}
			return e, nil
		},
	})
}

type ema struct {
	all  []*stages.ParamBinding
	avg  []*weights.Param
	keep float32
}

// Process: avg = FMA(1-decay, w-avg, avg) after the step's update; the first step copies the weights.
func (s *ema) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	for i, p := range s.all {
		if a := s.avg[i].T.F32; m.Step == 0 {
			copy(a, p.T.F32)
		} else {
			kernel.Lerp(a, p.T.F32, s.keep)
		}
	}
	return out.Send(m)
}
