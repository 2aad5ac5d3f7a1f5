package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// ClipValueConfig is what a user may write under clip_value.
type ClipValueConfig struct {
	Max float64 `yaml:"max" above:"0" doc:"Largest absolute value of an element that is left unchanged."`
}

func init() {
	stages.MustRegister(stages.Spec[ClipValueConfig]{
		Name: "clip_value", Room: stages.Backward, Pipe: stages.S,
		Summary: "Limit each element of each gradient.", Example: "clip_value: {max: 1}",
		Default: func() ClipValueConfig { return ClipValueConfig{Max: 1} },
		Contract: func(ClipValueConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradWrite, Replicas: stages.One}
		},
		New: func(env stages.Env, c ClipValueConfig) (stages.Stage, error) {
			return &clipValue{env.All, float32(c.Max)}, nil
		},
	})
}

type clipValue struct {
	all []*stages.ParamBinding
	max float32
}

// Process: g = min(max(g, -max), max).
func (s *clipValue) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	for _, p := range s.all {
		kernel.ClampAbs(m.T(p.Grad).F32, s.max)
	}
	return out.Send(m)
}
