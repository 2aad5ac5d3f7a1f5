package compute

import (
	"context"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// FlattenConfig has no choices.
type FlattenConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[FlattenConfig]{
		Name: "flatten", Room: stages.Compute, Pipe: stages.S, Twin: "flatten_backward",
		Summary: "One row for each example: (B,...) to (B,F).", Example: "flatten: {}",
		Contract: func(FlattenConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{float("x", "...")}, Out: []stages.Port{float("y", "B F")},
				Derive: func(v map[string]int) error {
					v["B"] = v["...0"]
					v["F"] = v["..."] / max(v["B"], 1)
					return nil
				}}
		},
		New: func(env stages.Env, _ FlattenConfig) (stages.Stage, error) {
			return &flatten{env.Ports["x"].Slot, env.Ports["y"].Slot, env.Vars["F"]}, nil
		},
	})
}

type flatten struct {
	x, y stages.Slot
	f    int
}

// Process copies x (B,...) to y (B,F).
func (s *flatten) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y := m.T(s.x), m.T(s.y)
	y.Resize(tensor.Of(x.Shape.Dims[0], s.f))
	copy(y.F32, x.F32)
	return out.Send(m)
}
