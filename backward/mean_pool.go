package backward

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// MeanPoolConfig has no choices.
type MeanPoolConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[MeanPoolConfig]{
		Name: "mean_pool_backward", Room: stages.Backward, Pipe: stages.S, Summary: "Gradient of mean_pool.",
		Contract: func(MeanPoolConfig) stages.Contract { return stages.Contract{Reads: []string{"x"}} }, // its shape
		New: func(env stages.Env, _ MeanPoolConfig) (stages.Stage, error) {
			return &meanPool{env.Ports["x"].Slot, env.Ports["y"].Grad, inputGrad(env, "x")}, nil
		},
	})
}

type meanPool struct {
	x, dy stages.Slot
	gx    grad
}

// Process: dx[b,t] = dy[b]·(1/T); dx (B,T,C), dy (B,C).
func (s *meanPool) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, dy := m.T(s.x), m.T(s.dy)
	dx := s.gx.as(m, x)
	if dx == nil {
		return out.Send(m)
	}
	T, C := x.Shape.Dims[1], x.Shape.Dims[2]
	by := 1 / float32(T)
	for r := range x.Rows() {
		d, g := dx[r*C:r*C+C], dy.F32[r/T*C:r/T*C+C]
		if s.gx.acc {
			kernel.Axpy(by, g, d)
		} else {
			kernel.Scale(d, g, by)
		}
	}
	return out.Send(m)
}
