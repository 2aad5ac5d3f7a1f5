package compute

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// MeanPoolConfig has no choices.
type MeanPoolConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[MeanPoolConfig]{
		Name: "mean_pool", Room: stages.Compute, Pipe: stages.S, Twin: "mean_pool_backward",
		Summary: "Mean over the positions of a sequence: (B,T,C) to (B,C).", Example: "mean_pool: {}",
		Contract: func(MeanPoolConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{float("x", "B T C")}, Out: []stages.Port{float("y", "B C")}}
		},
		New: func(env stages.Env, _ MeanPoolConfig) (stages.Stage, error) {
			return &meanPool{env.Ports["x"].Slot, env.Ports["y"].Slot}, nil
		},
	})
}

type meanPool struct{ x, y stages.Slot }

// Process: y[b] = (x[b,0] + x[b,1] + ...)·(1/T); x (B,T,C), y (B,C).
func (s *meanPool) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y := m.T(s.x), m.T(s.y)
	B, T, C := x.Shape.Dims[0], x.Shape.Dims[1], x.Shape.Dims[2]
	y.Resize(tensor.Of(B, C))
	for b := range B {
		kernel.ColSum(T, C, x.F32[b*T*C:], C, y.F32[b*C:b*C+C], false)
	}
	kernel.Scale(y.F32, y.F32, 1/float32(T))
	return out.Send(m)
}
