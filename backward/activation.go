package backward

import (
	"context"

	"vtpu/stages"
)

// ActConfig is the config of an activation without choices.
type ActConfig struct{}

// GeluConfig is the config of gelu.
type GeluConfig struct {
	Approx string `yaml:"approx"`
}

func init() {
	for _, name := range []string{"relu", "squared_relu", "tanh", "sigmoid", "silu"} {
		stages.MustRegister(stages.Spec[ActConfig]{
			Name: name + "_backward", Room: stages.Backward, Pipe: stages.D, Summary: "Gradient of " + name + ".",
			Contract: func(ActConfig) stages.Contract { return stages.Contract{Reads: []string{"x", "y"}} },
			New: func(env stages.Env, _ ActConfig) (stages.Stage, error) {
				v := "x"
				if name == "tanh" || name == "sigmoid" {
					v = "y"
				}
				return newMap(env, v, name), nil
			},
		})
	}
	stages.MustRegister(stages.Spec[GeluConfig]{
		Name: "gelu_backward", Room: stages.Backward, Pipe: stages.D, Summary: "Gradient of gelu.",
		Contract: func(GeluConfig) stages.Contract { return stages.Contract{Reads: []string{"x"}} },
		New: func(env stages.Env, c GeluConfig) (stages.Stage, error) {
			if c.Approx == "tanh" {
				return newMap(env, "x", "gelu_tanh"), nil
			}
			return newMap(env, "x", "gelu"), nil
		},
	})
}

func newMap(env stages.Env, v, act string) *mapStage {
	return &mapStage{v: env.Ports[v].Slot, dy: env.Ports["y"].Grad, gx: inputGrad(env, "x"), f: newMapped(env.Team, activation(act))}
}

// mapStage is the gradient of a function of single elements.
type mapStage struct {
	v, dy stages.Slot
	gx    grad
	f     *mapped
}

// Process: dx = f'(x)·dy, all (...).
func (s *mapStage) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	v := m.T(s.v)
	if dx := s.gx.as(m, v); dx != nil {
		s.f.run(dx, m.T(s.dy).F32, v.F32, s.gx.acc)
	}
	return out.Send(m)
}
