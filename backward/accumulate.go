package backward

import (
	"context"
	"fmt"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// AccumulateConfig is what a user may write under accumulate.
type AccumulateConfig struct {
	Steps int `yaml:"steps" min:"1" max:"1048576" doc:"Steps whose gradients are averaged before one update."`
}

func init() {
	stages.MustRegister(stages.Spec[AccumulateConfig]{
		Name: "accumulate", Room: stages.Backward, Pipe: stages.S,
		Summary: "Average the gradients of several steps and update once.", Example: "accumulate: {steps: 4}",
		Default: func() AccumulateConfig { return AccumulateConfig{Steps: 1} },
		Contract: func(AccumulateConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradWrite, Replicas: stages.One}
		},
		New: func(env stages.Env, c AccumulateConfig) (stages.Stage, error) {
			a := &accumulate{all: env.All, n: int64(c.Steps)}
			for _, p := range env.All {
				if p.Sparse {
					return nil, fmt.Errorf("%s has a sparse gradient, which can't be accumulated; set sparse: false", p.Name)
				}
				s, err := env.Store.State(p.Name, env.Name, "sum", tensor.F32, p.T.Shape)
				if err != nil {
					return nil, err
				}
				a.sum = append(a.sum, s)
			}
			return a, nil
		},
	})
}

type accumulate struct {
	all []*stages.ParamBinding
	sum []*weights.Param // kept in the store, so that a checkpoint between two updates is complete
	n   int64
}

// Process: sum += g; on every n-th step g = sum·(1/n) goes on and the sum starts again, on the others the head says that no update is due.
func (s *accumulate) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	first, last := m.Step%s.n == 0, m.Step%s.n == s.n-1
	for i, p := range s.all {
		g, sum := m.T(p.Grad).F32, s.sum[i].T.F32
		if first {
			copy(sum, g)
		} else {
			kernel.AddTo(sum, g)
		}
		if last && s.n > 1 {
			kernel.Scale(g, sum, 1/float32(s.n))
		}
	}
	m.Skip = m.Skip || !last
	return out.Send(m)
}
