package gather_test

import (
	"testing"

	_ "vtpu/backward"
	"vtpu/gather"
	"vtpu/stages"
	"vtpu/stages/stagetest"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

func TestStages(t *testing.T) {
	table := &stages.Dataset{Facts: map[string]int{"rows": 5}, Table: &stages.Table{N: 5, Cols: []stages.Column{
		{Name: "x", Shape: tensor.Of(2), F32: []float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{Name: "cats", DType: tensor.I32, Shape: tensor.Of(2), I32: []int32{0, 1, 2, 3, 4, 0, 1, 2, 3, 4}, Max: 5},
		{Name: "y", F32: []float32{9, 8, 7, 6, 5}}}}}
	table.SplitBy(1, 1)
	running := &stages.Dataset{Text: &stages.Text{Tokens: []int32{0, 1, 2, 3, 4, 5, 6, 7, 8}, BOS: -1}}
	running.SplitBy(1, 1)
	docs := &stages.Dataset{Text: &stages.Text{Tokens: []int32{0, 1, 2, 0, 1}, Docs: []int{0, 1, 3, 5}, Vocab: []string{"a", "b", "c", "<bos>"}, BOS: 3}}
	docs.SplitBy(1, 1)
	home, err := weights.ParseCoord("2.1.1/1.1.1/1.1.7")
	if err != nil {
		t.Fatal(err)
	}
	stagetest.Run(t,
		stagetest.Case{Stage: "batches", Data: table, Config: stagetest.With(func(c *gather.BatchesConfig) { c.Batch = 2 })},
		stagetest.Case{Name: "batches of the whole table", Stage: "batches", Data: table,
			Config: stagetest.With(func(c *gather.BatchesConfig) { c.Batch, c.Shuffle = 5, false })},
		stagetest.Case{Stage: "token_batches", Data: running,
			Config: stagetest.With(func(c *gather.TokensConfig) { c.Batch, c.Block = 3, 4 })},
		stagetest.Case{Stage: "lines", Data: docs, Config: stagetest.With(func(c *gather.LinesConfig) { c.Batch, c.Block = 2, 2 })},
		stagetest.Case{Stage: "cells", Config: stagetest.With(func(c *gather.CellsConfig) {
			c.Read = []gather.Cell{{Name: "q", At: weights.Origin(), Value: 3}, {Name: "k", At: home, Value: 7}}
		})},
		stagetest.Case{Stage: "rows", In: []tensor.Tensor{stagetest.Ints(1, 0, 4, 3, 2)},
			Config: stagetest.With(func(c *gather.RowsConfig) { c.Dim, c.Rows = stages.N(3), stages.N(4) })},
		stagetest.Case{Name: "rows, a table a column", Stage: "rows", In: []tensor.Tensor{stagetest.Ints(1, 0, 4, 3, 2)},
			Config: stagetest.With(func(c *gather.RowsConfig) { c.Dim, c.Rows, c.PerColumn = stages.N(3), stages.N(4), true })},
		stagetest.Case{Name: "rows, dense gradient", Stage: "rows", In: []tensor.Tensor{stagetest.Ints(1, 0, 4, 3, 2)},
			Config: stagetest.With(func(c *gather.RowsConfig) { c.Dim, c.Rows, c.Sparse = stages.N(3), stages.N(4), false })})
}
