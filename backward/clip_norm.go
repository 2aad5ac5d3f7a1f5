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
			s := &clipNorm{max: c.MaxNorm}
			s.norms = newBlocks(env, s.square)
			s.scales = newBlocks(env, s.scale)
			s.sums = make([]float32, len(s.norms.list))
			for _, p := range env.All {
				if p.Sparse {
					s.tables = append(s.tables, p)
				}
			}
			return s, nil
		},
	})
}

type clipNorm struct {
	max           float64
	norms, scales *blocks
	sums          []float32              // of the squares of each block
	tables        []*stages.ParamBinding // with sparse gradients
	m             *stages.Message
	by            float32
}

func (s *clipNorm) square(i int, b *block) { s.sums[i] = kernel.SumSq(b.of(s.m)) }

func (s *clipNorm) scale(_ int, b *block) {
	g := b.of(s.m)
	kernel.Scale(g, g, s.by)
}

// Process: n = √Σ g² over all gradients, in blocks of 4096 elements of a parameter, the blocks added in float64 in their order; if n > MaxNorm, g =
// g·MaxNorm/(n+1e-6) as PyTorch's clip_grad_norm_.
func (s *clipNorm) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	s.m = m
	s.norms.run()
	var sum float64
	for _, q := range s.sums {
		sum += float64(q)
	}
	for _, p := range s.tables {
		sum += float64(kernel.SumSq(m.T(p.Grad).F32))
	}
	if n := math.Sqrt(sum); n > s.max {
		s.by = float32(s.max / (n + 1e-6))
		s.scales.run()
		for _, p := range s.tables {
			g := m.T(p.Grad).F32
			kernel.Scale(g, g, s.by)
		}
	}
	s.m = nil
	return out.Send(m)
}
