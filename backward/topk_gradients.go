package backward

import (
	"context"
	"math"

	"vtpu/stages"
	"vtpu/stages/weights"
)

// TopKConfig is what a user may write under topk_gradients.
type TopKConfig struct {
	Keep     float64 `yaml:"keep" above:"0" max:"1" doc:"Share of the elements of each gradient that is kept, at least one."`
	Feedback bool    `yaml:"feedback" doc:"Keep the largest elements of the difference from an estimate of the gradient, which they correct: what is dropped comes back later. Without it, it is lost."`
}

func init() {
	stages.MustRegister(stages.Spec[TopKConfig]{
		Name: "topk_gradients", Room: stages.Backward, Pipe: stages.S,
		Summary: "Keep the largest elements of each part's gradients, the others become 0 and do not go over a link. It has bits of its own, the same on every link.",
		Source:  "Lin et al. 2018, arXiv:1712.01887, section 3; feedback: Richtárik, Sokolov, Fatkhullin 2021, arXiv:2106.05203, Algorithm 1 (EF21), with one estimate for all parts",
		Example: "topk_gradients: {keep: 0.1}",
		Default: func() TopKConfig { return TopKConfig{Keep: 0.1, Feedback: true} },
		Contract: func(TopKConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradWrite, Replicas: stages.PerPart}
		},
		New: func(env stages.Env, c TopKConfig) (stages.Stage, error) {
			s := &topK{all: env.All, c: c, high: make([]uint32, 1<<15), low: make([]uint32, 1<<16)}
			if !c.Feedback {
				return s, nil
			}
			s.share = 1 / float32(env.Parts)
			var err error
			s.all, s.estimate, err = estimates(env)
			return s, err
		},
	})
}

// topK with feedback works without a memory of what was dropped, which would belong to a part, while any worker may compute any part of any step, some of them
// twice. The estimate is the sum of all that was ever sent: whoever has the weights of a version can have its estimate too, as the few elements that changed.
type topK struct {
	all       []*stages.ParamBinding
	c         TopKConfig
	estimate  []*weights.Param // feedback: of each gradient
	share     float32          // of a part in it
	high, low []uint32         // elements by the upper 15 bits of their magnitude, and by the lower 16 below the upper ones of the smallest that is kept
}

// Kept is the number of elements that are kept of n.
func (c TopKConfig) Kept(n int) int { return min(max(int(math.Ceil(c.Keep*float64(n))), 1), n) }

// EstimateOf is the name of the state that feedback keeps of a weight, "" without feedback.
func (c TopKConfig) EstimateOf(weight string) string {
	if !c.Feedback {
		return ""
	}
	return weight + "/error_feedback/estimate"
}

// Process: with feedback, g -= estimate/parts. Then, of each dense gradient of n elements, g[i] = 0 but for the Kept(n) of the largest |g[i]|, of equal ones those with the smallest i. What is not
// finite counts as largest, so that the guard sees it.
func (s *topK) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	for i, p := range s.all {
		if !p.Sparse { // rows that a part has not touched are not there in the first place
			g := m.T(p.Grad).F32
			if s.estimate != nil {
				for k, e := range s.estimate[i].T.F32 {
					g[k] -= float32(s.share * e)
				}
			}
			s.keep(g, s.c.Kept(len(g)))
		}
	}
	return out.Send(m)
}

func magnitude(v float32) uint32 { return math.Float32bits(v) &^ (1 << 31) }

func (s *topK) keep(g []float32, k int) {
	clear(s.high)
	for _, v := range g {
		s.high[magnitude(v)>>16]++
	}
	hi, left := fromTop(s.high, k)
	clear(s.low)
	for _, v := range g {
		if a := magnitude(v); a>>16 == hi {
			s.low[a&0xffff]++
		}
	}
	lo, equal := fromTop(s.low, left)
	least := hi<<16 | lo
	for i, v := range g {
		switch a := magnitude(v); {
		case a > least:
		case a == least && a > 0 && equal > 0:
			equal--
		default:
			g[i] = 0
		}
	}
}

// fromTop finds the class in which the k-th largest element is, and how many of that class are among the k largest.
func fromTop(count []uint32, k int) (class uint32, left int) {
	for i := len(count) - 1; i > 0; i-- {
		if n := int(count[i]); n < k {
			k -= n
		} else {
			return uint32(i), k
		}
	}
	return 0, k
}
