package backward_test

import (
	"slices"
	"testing"

	_ "vtpu/compute"
	"vtpu/gather"
	"vtpu/stages"
	"vtpu/stages/stagetest"
	"vtpu/stages/tensor"
)

// The twin of the table that gather reads ahead: dense and sparse, one table and one for each column.
func TestRowsTwin(t *testing.T) {
	const V, D, B, N = 5, 3, 4, 2
	var cases []stagetest.Case
	for _, sparse := range []bool{true, false} {
		for _, perColumn := range []bool{true, false} {
			cases = append(cases, stagetest.Case{Stage: "rows", In: []tensor.Tensor{stagetest.Ints(3, 0, V, B, N)},
				Config: stagetest.With(func(c *gather.RowsConfig) {
					c.Dim, c.Rows, c.Sparse, c.PerColumn = stages.N(D), stages.N(V), sparse, perColumn
				}),
				Reference: func(in [][]float64, p map[string][]float64) [][]float64 {
					var y, ids []float64
					for i, id := range in[0] {
						r := int(id)
						if perColumn {
							r += i % N * V
						}
						y = append(y, p["weight"][r*D:r*D+D]...)
						ids = append(ids, float64(r))
					}
					return [][]float64{y, ids}
				}})
		}
	}
	stagetest.Run(t, cases...)
}

// A sparse gradient is ascending ids without repeats, and the sum of each id's rows in the order in which they occur: float32 sums in
// another order would have other bits.
func TestSparseGradientsAreSortedSumsInOrder(t *testing.T) {
	const D, V = 2, 70000
	for _, c := range []struct {
		name string
		ids  []int32
		want []int32
	}{
		{"repeats", []int32{9, 3, 9, 0, 3, 9, 3, 3}, []int32{0, 3, 9}},
		{"padding", []int32{-1, 4, -1, 4, -1, -1, -1, 2}, []int32{2, 4}},
		{"nothing but padding", []int32{-1, -1, -1, -1, -1, -1, -1, -1}, nil},
		{"one row", []int32{0, 0, 0, 0, 0, 0, 0, 0}, []int32{0}},
		{"ids of one, two and three bytes", []int32{65536, 256, 1, 69999, 255, 65535, 256, 65536}, []int32{1, 255, 256, 65535, 65536, 69999}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := stagetest.New(stagetest.Case{Stage: "rows", In: []tensor.Tensor{tensor.FromI32(tensor.Of(8, 1), make([]int32, 8))},
				Config: stagetest.With(func(g *gather.RowsConfig) { g.Dim, g.Rows = stages.N(D), stages.N(V) })}, stagetest.Want{Params: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Forward(); err != nil {
				t.Fatal(err)
			}
			copy(b.Out("ids").I32, c.ids)
			dy := b.M.T(b.Back.Ports["y"].Grad)
			for i := range dy.F32 {
				dy.F32[i] = []float32{1e8, 1, -1e8, 3, 0.1, 1e-9, 7e7, -2}[i/D] * float32(i%D+1)
			}
			if err := b.Backward(); err != nil {
				t.Fatal(err)
			}
			p := b.Back.Params["weight"]
			ids, g := b.M.T(p.IDs), b.M.T(p.Grad)
			if !slices.Equal(ids.I32, c.want) || g.Shape != tensor.Of(len(c.want), D) {
				t.Fatalf("ids %v and rows of shape %v, want the ids %v", ids.I32, g.Shape, c.want)
			}
			for r, id := range c.want {
				var sum [D]float32
				for i, x := range c.ids {
					if x == id {
						for d := range sum {
							sum[d] += dy.F32[i*D+d]
						}
					}
				}
				for d, want := range sum {
					if got := g.F32[r*D+d]; got != want {
						t.Errorf("row of id %d, element %d: %g, in order the sum is %g", id, d, got, want)
					}
				}
			}
		})
	}
}

// What stands between backward and update keeps what its contract says.
func TestGradientStages(t *testing.T) {
	stagetest.Run(t, "guard", "clip_norm", "clip_value", "accumulate", "error_feedback")
}
