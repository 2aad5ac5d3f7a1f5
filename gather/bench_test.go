package gather

import (
	"context"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// BenchmarkOneSample is the gather of the smallest training there is: one row of one number.
func BenchmarkOneSample(b *testing.B) {
	d := &stages.Dataset{Table: &stages.Table{N: 1, Cols: []stages.Column{
		{Name: "x", Shape: tensor.Of(1), F32: []float32{1}}, {Name: "y", Shape: tensor.Of(1), F32: []float32{3}}}}}
	d.SplitBy(1, 1)
	h := newHarness(b, "batches", func(c *BatchesConfig) { c.Batch = 1 }, d, 1, 1)
	ctx := context.Background()
	for i := range b.N {
		h.m.Head = stages.Head{Step: int64(i), Parts: 1}
		if err := h.stage.Process(ctx, h.m, &h.out); err != nil {
			b.Fatal(err)
		}
	}
}
