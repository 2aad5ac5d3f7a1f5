package backward

import (
	"context"
	"math"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// ClipNormConfig is what a user may write under clip_norm.
type ClipNormConfig struct {
	MaxNorm float64 `yaml:"max_norm" above:"0" doc:"Largest L2 norm of all gradients together that is left unchanged."`
}

func init() {
	stages.MustRegister(stages.Spec[ClipNormConfig]{
		Name: "clip_norm", Room: stages.Backward, Pipe: stages.S,
		Summary: "Scale all gradients down to a largest L2 norm.", Source: "Pascanu et al. 2013, arXiv:1211.5063, Algorithm 1",
		Example: "clip_norm: {max_norm: 1}",
		Default: func() ClipNormConfig { return ClipNormConfig{MaxNorm: 1} },
		Contract: func(ClipNormConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradWrite, Replicas: stages.One}
		},
		New: func(env stages.Env, c ClipNormConfig) (stages.Stage, error) {
			return &clipNorm{env.All, c.MaxNorm}, nil
		},
	})
}

type clipNorm struct {
	all []*stages.ParamBinding
	max float64
}

// Process: n = √(sum over the parameters, by name, of SumSq(g)); where n is above max, g = g·max/(n + 1e-6), as torch.nn.utils.clip_grad_norm_.
func (s *clipNorm) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	var sum float64
	for _, p := range s.all {
		sum += float64(kernel.SumSq(m.T(p.Grad).F32))
	}
	if n := math.Sqrt(sum); n > s.max {
		by := float32(s.max / (n + 1e-6))
		for _, p := range s.all {
			g := m.T(p.Grad).F32
			kernel.Scale(g, g, by)
		}
	}
	return out.Send(m)
}
