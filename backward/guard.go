package backward

import (
	"context"
	"fmt"
	"math"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// GuardConfig has no choices.
type GuardConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[GuardConfig]{
		Name: "guard", Room: stages.Backward, Pipe: stages.S,
		Summary: "Stop the run before an update when the loss or a gradient is NaN or Inf. It is put in by itself.",
		Contract: func(GuardConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradRead, Replicas: stages.One}
		},
		New: func(env stages.Env, _ GuardConfig) (stages.Stage, error) { return &guard{env.All}, nil },
	})
}

type guard struct{ all []*stages.ParamBinding }

const guardFix = "a smaller lr or clip_norm may help; the weights of the step before are untouched"

// Process looks at the loss and at every element of every gradient.
func (s *guard) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if m.Loss-m.Loss != 0 { // NaN and Inf
		return stages.Finding{Msg: fmt.Sprintf("the loss is %v", m.Loss), Fix: guardFix}
	}
	for _, p := range s.all {
		g := m.T(p.Grad)
		if !kernel.AllFinite(g.F32) {
			return stages.Finding{Msg: fmt.Sprintf("the gradient of %s is %s", p.Name, where(g.F32)), Fix: guardFix}
		}
	}
	return out.Send(m)
}

func where(g []float32) string {
	for i, v := range g {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprintf("%v at element %d of %d", v, i, len(g))
		}
	}
	return "not finite"
}
