package backward

import (
	"context"
	"math"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// ErrorFeedbackConfig has no choices.
type ErrorFeedbackConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[ErrorFeedbackConfig]{
		Name: "error_feedback", Room: stages.Backward, Pipe: stages.S,
		Summary: "Add what the parts sent to the estimate of the gradient, which takes the gradient's place. It is put in by itself where topk_gradients has feedback.",
		Source:  "Richtárik, Sokolov, Fatkhullin 2021, arXiv:2106.05203, Algorithm 1 (EF21)",
		Contract: func(ErrorFeedbackConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradWrite, Replicas: stages.One}
		},
		New: func(env stages.Env, _ ErrorFeedbackConfig) (stages.Stage, error) {
			s := &errorFeedback{}
			var err error
			s.all, s.estimate, err = estimates(env)
			return s, err
		},
	})
}

// estimates finds the state that error_feedback writes and topk_gradients reads: for each dense gradient an estimate of it, of one dimension, so that the
// elements that change can travel as rows do. EF21 has an estimate for each worker; here all parts share one, as they are drawn from the same data: it takes
// the memory of one gradient whatever their number is, and the noise of a part goes into it divided.
func estimates(env stages.Env) (all []*stages.ParamBinding, es []*weights.Param, err error) {
	for _, p := range env.All {
		if p.Sparse {
			continue
		}
		e, err := env.Store.State(p.Name, "error_feedback", "estimate", tensor.F32, tensor.Of(p.T.Len()))
		if err != nil {
			return nil, nil, err
		}
		all, es = append(all, p), append(es, e)
	}
	return all, es, nil
}

type errorFeedback struct {
	all      []*stages.ParamBinding
	estimate []*weights.Param
	ids      []int32
}

// Process: estimate += g, g = estimate.
func (s *errorFeedback) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	for i, p := range s.all {
		g, e := m.T(p.Grad).F32, s.estimate[i]
		if e.Tracked() {
			s.ids = s.ids[:0]
			for k, v := range g {
				if math.Float32bits(v) != 0 {
					s.ids = append(s.ids, int32(k))
				}
			}
			e.MarkRows(s.ids, m.Step+1)
		}
		kernel.AddTo(e.T.F32, g)
		copy(g, e.T.F32)
	}
	m.Finite = false // the sums have not been looked at
	return out.Send(m)
}
