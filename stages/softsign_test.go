package stages_test

import (
	"math"
	"testing"

	"vtpu/stages/stagetest"
	"vtpu/stages/tensor"
)

// The stage of the example keeps what a stage promises: by name, and against a reference in float64.
func TestSoftsign(t *testing.T) {
	stagetest.Run(t, "softsign")
	for _, knee := range []float64{0.5, 1, 3} {
		stagetest.Run(t, stagetest.Case{
			Stage: "softsign", In: []tensor.Tensor{stagetest.Random(1, 2, 5, 3, 2)},
			Config: stagetest.With(func(c *SoftsignConfig) { c.Knee = knee }),
			Reference: func(in [][]float64, _ map[string][]float64) [][]float64 {
				y := make([]float64, len(in[0]))
				for i, v := range in[0] {
					y[i] = v / (knee + math.Abs(v))
				}
				return [][]float64{y}
			},
		})
	}
}
