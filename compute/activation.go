package compute

import (
	"context"

	"vtpu/stages"
)

// ActConfig is the config of an activation without choices.
type ActConfig struct{}

// GeluConfig is what a user may write under gelu.
type GeluConfig struct {
	Approx string `yaml:"approx" enum:"none|tanh" doc:"none is exact (erf), tanh is the approximation of GPT-2."`
}

func init() {
	for _, a := range []struct{ name, summary, source string }{
		{"relu", "max(x, 0), element by element.", ""},
		{"squared_relu", "max(x, 0)², element by element.", "So et al. 2021, arXiv:2109.08668"},
		{"tanh", "Hyperbolic tangent, element by element.", ""},
		{"sigmoid", "1/(1+e^-x), element by element.", ""},
		{"silu", "x·sigmoid(x), element by element.", "Elfwing et al. 2017, arXiv:1702.03118"},
	} {
		stages.MustRegister(stages.Spec[ActConfig]{
			Name: a.name, Room: stages.Compute, Pipe: stages.D, Twin: a.name + "_backward", Summary: a.summary, Source: a.source,
			Example:  a.name + ": {}",
			Contract: func(ActConfig) stages.Contract { return mapContract() },
			New: func(env stages.Env, _ ActConfig) (stages.Stage, error) {
				return &mapStage{env.Ports["x"].Slot, env.Ports["y"].Slot, newMapped(env.Team, Activation(a.name))}, nil
			},
		})
	}
	stages.MustRegister(stages.Spec[GeluConfig]{
		Name: "gelu", Room: stages.Compute, Pipe: stages.D, Twin: "gelu_backward",
		Summary: "Gaussian error linear unit, element by element.", Source: "Hendrycks and Gimpel 2016, arXiv:1606.08415",
		Example:  "gelu: {approx: tanh}",
		Default:  func() GeluConfig { return GeluConfig{Approx: "none"} },
		Contract: func(GeluConfig) stages.Contract { return mapContract() },
		New: func(env stages.Env, c GeluConfig) (stages.Stage, error) {
			name := "gelu"
			if c.Approx == "tanh" {
				name = "gelu_tanh"
			}
			return &mapStage{env.Ports["x"].Slot, env.Ports["y"].Slot, newMapped(env.Team, Activation(name))}, nil
		},
	})
}

func mapContract() stages.Contract {
	return stages.Contract{In: []stages.Port{float("x", "...")}, Out: []stages.Port{float("y", "...")}}
}

// mapStage applies a function to each element.
type mapStage struct {
	x, y stages.Slot
	f    *mapped
}

// Process: y = f(x), both (...).
func (s *mapStage) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y := m.T(s.x), m.T(s.y)
	y.ResizeAs(x)
	s.f.run(y.F32, x.F32)
	return out.Send(m)
}
