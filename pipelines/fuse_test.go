package pipelines_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/stages/weights"
)

// TestFusedStagesKeepTheBits trains with the stages that take the place of several, and without: weights, losses and evaluation must be the same.
func TestFusedStagesKeepTheBits(t *testing.T) {
	cases := []struct {
		file  string
		sets  []string
		fused bool
	}{
		{"linear", nil, true},
		{"linear", []string{"data.features=37", "stages.batches.batch=7", "data.rows=50"}, true},
		{"linear", []string{"data.features=130", "parts=3", "stages.batches.batch=10", "data.split=0.8"}, true},
		{"linear", []string{"data.features=64", "stages.dense.bias=false"}, true},
		{"linear", []string{"data.features=1"}, true},
		{"weight", nil, true},
		{"linear", []string{"stages.dense.act=relu"}, true},
		{"attention", nil, true},
		{"attention", []string{"parts=3", "data.length=5"}, true},
		{"digits", nil, false},
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c.file, c.sets), func(t *testing.T) {
			run := func(fuse bool) (got []float32, losses []float64) {
				p, _, err := pipelines.Prepare(pipelines.Options{File: c.file, Sets: c.sets, Lanes: "d=1,s=0", Steps: 1 << 40, LookAhead: -1})
				if err != nil {
					t.Fatal(err)
				}
				program := p.Program(nil)
				if fuse && (program.Training != nil) != c.fused {
					t.Fatalf("a stage takes the place of several: %v, want %v", !c.fused, c.fused)
				}
				if !fuse {
					program.Training, program.Early = nil, nil // the places of the cuts are those of Training
				}
				e, err := exec.New(program, p.Placement())
				if err != nil {
					t.Fatal(err)
				}
				if err := e.Run(t.Context(), 20, 1, func(o exec.Outcome) { losses = append(losses, o.Loss) }); err != nil {
					t.Fatal(err)
				}
				if p.Data.Valid.Len() > 0 {
					ev, err := e.Eval(t.Context(), 0)
					if err != nil {
						t.Fatal(err)
					}
					losses = append(losses, ev.Loss)
				}
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				for _, w := range p.Store.All(weights.Weight) {
					got = append(got, w.T.F32...)
				}
				return got, losses
			}
			want, wantLoss := run(false)
			got, loss := run(true)
			if !slices.Equal(got, want) {
				t.Error("other weights")
			}
			if !slices.Equal(loss, wantLoss) {
				t.Errorf("losses %v, want %v", loss, wantLoss)
			}
		})
	}
}

// TestTapesKeepTheBits trains small models on one lane, where most calls of kernels come from tapes, and beside another lane, where none do: through evaluations
// and a way back to the beginning.
func TestTapesKeepTheBits(t *testing.T) {
	names, err := os.ReadFile("names.yaml")
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs("data")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		file    string   // empty: names, with changes
		changes []string // old, new, old, new
		sets    []string
	}{
		{"names", nil, nil},
		{"names", nil, []string{"stages.lines.batch=3"}}, // more shapes than forms
		{"names", nil, []string{"stages.lines.block=40", "stages.embed.positions=40"}},
		{"", []string{"dim: 16", "dim: 32", "units: 16,", "units: 32,", "heads: 4", "heads: 8"}, nil},
		{"", []string{"causal: true", "bias: true", "bias: false", "bias: true", "gain: false", "gain: true"}, nil},
		{"", []string{"causal: true", "causal: false", "act: relu", "act: gelu"}, nil},
		{"w5", nil, nil},
		{"digits", nil, []string{"stages.batches.batch=5"}},
	} {
		if c.file == "" {
			text := strings.NewReplacer(append(c.changes, "data/", data+"/")...).Replace(string(names))
			c.file = filepath.Join(t.TempDir(), "names.yaml")
			if err := os.WriteFile(c.file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(fmt.Sprint(i, filepath.Base(c.file), c.sets), func(t *testing.T) {
			run := func(lanes string) (got []float32, losses []float64) {
				p, e := engine(t, pipelines.Options{File: c.file, Sets: c.sets, Lanes: lanes, Steps: 1 << 40, LookAhead: -1})
				all := append(p.Store.All(weights.Weight), p.Store.All(weights.State)...)
				var begin [][]float32
				for _, w := range all {
					begin = append(begin, slices.Clone(w.T.F32))
				}
				steps := func(n int64) {
					if err := e.Run(t.Context(), e.Version()+n, 1, func(o exec.Outcome) { losses = append(losses, o.Loss) }); err != nil {
						t.Fatal(err)
					}
					if p.Data.Valid.Len() > 0 {
						ev, err := e.Eval(t.Context(), 0)
						if err != nil {
							t.Fatal(err)
						}
						losses = append(losses, ev.Loss)
					}
				}
				steps(70)
				steps(1)
				steps(130)
				for i, w := range all {
					copy(w.T.F32, begin[i])
				}
				p.Store.SetVersion(0)
				e.Seek()
				steps(50)
				for _, w := range all {
					got = append(got, w.T.F32...)
				}
				return got, losses
			}
			want, wantLoss := run("d=1,s=1")
			got, loss := run("d=1,s=0")
			if !slices.Equal(got, want) {
				t.Error("other weights")
			}
			if !slices.Equal(loss, wantLoss) {
				t.Errorf("losses %v, want %v", loss, wantLoss)
			}
		})
	}
}
