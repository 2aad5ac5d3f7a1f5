package compute

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// ResidualAddConfig has no choices.
type ResidualAddConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[ResidualAddConfig]{
		Name: "residual_add", Room: stages.Compute, Pipe: stages.S, Twin: "residual_add_backward",
		Summary: "y = x + skip. `residual: [...]` ends in one.", Source: "He et al. 2015, arXiv:1512.03385",
		Example: "residual_add: {in: [branch, trunk]}",
		Contract: func(ResidualAddConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{float("x", "..."), float("skip", "...")}, Out: []stages.Port{float("y", "...")}}
		},
		New: func(env stages.Env, _ ResidualAddConfig) (stages.Stage, error) {
			return &residualAdd{env.Ports["x"].Slot, env.Ports["skip"].Slot, env.Ports["y"].Slot}, nil
		},
	})
}

type residualAdd struct{ x, skip, y stages.Slot }

// Process: y = x + skip, all (...).
func (s *residualAdd) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y := m.T(s.x), m.T(s.y)
	y.ResizeAs(x)
	kernel.Add(y.F32, x.F32, m.T(s.skip).F32)
	return out.Send(m)
}
