package backward

import (
	"context"
	"errors"
	"math"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// HalfConfig is what a user may write under fp16_gradients.
type HalfConfig struct {
	Scale float64 `yaml:"scale" above:"0" doc:"Gradients are multiplied by this before they are rounded, a power of two: small ones are kept, those above 65504/scale stop the run."`
}

func init() {
	stages.MustRegister(stages.Spec[HalfConfig]{
		Name: "fp16_gradients", Room: stages.Backward, Pipe: stages.S,
		Summary: "Round the gradients of each part to 16 bits: half as much goes over a link. It has bits of its own, the same on every link.",
		Source:  "Micikevicius et al. 2018, arXiv:1710.03740, section 3.2 (loss scaling)",
		Example: "fp16_gradients: {scale: 1024}",
		Default: func() HalfConfig { return HalfConfig{Scale: 1024} },
		Check: func(c HalfConfig) error {
			if f, _ := math.Frexp(c.Scale); f != 0.5 || c.Scale > 1<<30 || c.Scale < 1.0/(1<<30) {
				return errors.New("scale is not a power of two between 2^-30 and 2^30")
			}
			return nil
		},
		Contract: func(HalfConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradWrite, Replicas: stages.PerPart}
		},
		New: func(env stages.Env, c HalfConfig) (stages.Stage, error) {
			return &half{env.All, float32(c.Scale)}, nil
		},
	})
}

type half struct {
	all   []*stages.ParamBinding
	scale float32
}

// HalfScale is what gradients are multiplied by before they are rounded: multiplied by it they are binary16 numbers from here on.
func (c HalfConfig) HalfScale() float32 { return float32(c.Scale) }

// Process: g = fp16(g·scale)/scale.
func (s *half) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	back := 1 / s.scale
	for _, p := range s.all {
		g := m.T(p.Grad).F32
		for i, v := range g {
			g[i] = tensor.FromHalf(tensor.Half(v*s.scale)) * back
		}
	}
	return out.Send(m)
}
