package pipelines_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/presettest"
	"vtpu/stages/weights"
)

// TestTensorsOnEachOtherKeepTheBits trains with bodies whose tensors lie on each other and with bodies that have room for each by itself.
func TestTensorsOnEachOtherKeepTheBits(t *testing.T) {
	presettest.Short(t)
	files := presets()
	for _, w := range []string{"w3", "w4", "w7"} {
		files = append(files, w)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			run := func(apart bool) (sum []float32, losses []float64, bytes int64) {
				p, e := engineOf(t, pipelines.Options{File: file, Lanes: "d=1,s=0", Steps: 1 << 40, LookAhead: -1}, func(p *pipelines.Plan) {
					if apart {
						p.Layout.Overlay(nil, 0)
					}
				})
				if err := e.Run(t.Context(), 3, 1, func(o exec.Outcome) { losses = append(losses, o.Loss) }); err != nil {
					t.Fatal(err)
				}
				for _, w := range p.Store.All(weights.Weight) {
					sum = append(sum, w.T.F32[:min(len(w.T.F32), 1<<20)]...)
				}
				return sum, losses, p.Layout.BodyBytes()
			}
			want, wantLoss, apart := run(true)
			got, loss, together := run(false)
			if !slices.EqualFunc(got, want, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) || !slices.Equal(loss, wantLoss) {
				t.Errorf("other weights, or losses %v, want %v", loss, wantLoss)
			}
			if together > apart+512 { // each begins at a cache line
				t.Errorf("%d bytes, apart %d", together, apart)
			}
		})
	}
}

// TestGradientsThatArePassedOn: a stage that looks at tensors after the update makes the plan give each gradient a slot of its own. With and without one the
// bits must be the same, whatever the branches look like.
func TestGradientsThatArePassedOn(t *testing.T) {
	const head = "data: {source: synthetic, task: clusters, rows: 30, features: 4, classes: 3}\nstages:\n  - batches: {batch: 7}\n"
	const tail = "  - dense: {units: 3}\n  - softmax_xent: {}\n  - sgd: {lr: 0.1}\n"
	for name, middle := range map[string]string{
		"the branch reads the trunk": "  - dense: {units: 4}\n  - residual: [{dense: {units: 4}}]\n",
		"an activation ends it":      "  - dense: {units: 4, act: relu}\n  - residual: [{dense: {units: 4, act: gelu}}]\n  - residual: [{layernorm: {}}, {dense: {units: 4, act: tanh}}]\n",
		"blocks":                     "  - dense: {units: 4}\n  - residual: [{layernorm: {}}, {dense: {units: 9, act: gelu}}, {dense: {units: 4}}]\n  - residual: [{layernorm: {}}, {dense: {units: 9, act: silu}}, {dense: {units: 4}}]\n",
		"one in the other":           "  - dense: {units: 4}\n  - residual: [{layernorm: {}}, {residual: [{layernorm: {}}, {dense: {units: 4}}]}]\n",
		"one ends the other":         "  - dense: {units: 4}\n  - residual: [{residual: [{dense: {units: 4, act: relu}}]}]\n",
		"the trunk has a late reader": "  - dense: {units: 4, out: a}\n  - dense: {units: 4, out: b}\n  - dense: {units: 4, in: a, out: c}\n  - residual_add: {in: [b, a], out: d}\n" +
			"  - residual_add: {in: [d, c]}\n",
		"the branch has two readers": "  - dense: {units: 4, out: a}\n  - dense: {units: 4, out: b}\n  - residual_add: {in: [b, a], out: c}\n  - residual_add: {in: [b, c], out: d}\n" +
			"  - residual_add: {in: [d, a]}\n",
		"the branch feeds another": "  - dense: {units: 4, out: a}\n  - layernorm: {}\n  - dense: {units: 4, out: b}\n  - dense: {units: 4, in: b, out: c}\n  - residual_add: {in: [b, a], out: d}\n" +
			"  - residual_add: {in: [d, c]}\n",
		"twice the same": "  - dense: {units: 4, out: a}\n  - residual_add: {in: [a, a]}\n",
		"late and early": "  - dense: {units: 4, out: a}\n  - layernorm: {out: b}\n  - dense: {units: 4, out: c}\n  - residual_add: {in: [a, c], out: d}\n  - layernorm: {in: a, out: e}\n" +
			"  - residual_add: {in: [d, e]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "p.yaml")
			run := func(more, out string) pipelines.Done {
				if err := os.WriteFile(file, []byte(head+middle+tail+more+"run: {steps: 12}\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return train(t, pipelines.Options{File: file, LookAhead: -1, Out: out})
			}
			want := run("  - tap: {in: [x]}\n", filepath.Join(dir, "run"))
			if got := run("", "none"); bits(got) != bits(want) {
				t.Errorf("%s, want %s", bits(got), bits(want))
			}
		})
	}
}
