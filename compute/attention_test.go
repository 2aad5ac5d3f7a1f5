package compute_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"vtpu/compute"
	"vtpu/stages"
	"vtpu/stages/stagetest"
	"vtpu/stages/tensor"
)

// An inner width of its own, wider and narrower than the input.
func TestAttentionInnerWidth(t *testing.T) {
	const B, T, C = 2, 4, 6
	var cases []stagetest.Case
	for _, d := range []struct{ dim, heads int }{{8, 2}, {3, 1}, {9, 3}} {
		for _, out := range []bool{true, false} {
			cases = append(cases, stagetest.Case{Stage: "attention", In: []tensor.Tensor{stagetest.Random(4, 1, B, T, C)}, GradTol: 1e-4,
				Config: stagetest.With(func(c *compute.AttentionConfig) {
					c.Heads, c.Dim, c.Causal, c.Bias, c.Out = d.heads, d.dim, true, true, out
				}),
				Reference: func(in [][]float64, p map[string][]float64) [][]float64 {
					D, hs := d.dim, d.dim/d.heads
					qkv := linear(in[0], p["qkv"], p["qkv_bias"], C, 3*D)
					y := make([]float64, B*T*D)
					for b := range B {
						for h := range d.heads {
							at := func(t, which, i int) float64 { return qkv[(b*T+t)*3*D+which*D+h*hs+i] }
							for q := range T {
								z := make([]float64, q+1)
								for k := range z {
									for i := range hs {
										z[k] += at(q, 0, i) * at(k, 1, i) / math.Sqrt(float64(hs))
									}
								}
								for k, a := range softmax(z) {
									for i := range hs {
										y[(b*T+q)*D+h*hs+i] += a * at(k, 2, i)
									}
								}
							}
						}
					}
					if out {
						y = linear(y, p["proj"], p["proj_bias"], D, C)
					}
					return [][]float64{y}
				}})
		}
	}
	stagetest.Run(t, cases...)
}

func TestHeadsThatDoNotDivide(t *testing.T) {
	_, err := stagetest.New(stagetest.Case{Stage: "attention", In: []tensor.Tensor{stagetest.Random(1, 1, 2, 3, 64)},
		Config: stagetest.With(func(c *compute.AttentionConfig) { c.Heads = 5 })}, stagetest.Want{})
	if err == nil || !strings.Contains(err.Error(), "5 heads don't divide 64 channels; give heads a divisor of 64, or dim a multiple of 5") {
		t.Errorf("error %v", err)
	}
}

// A sequence that is shorter than the plan allows gives the bits of a plan of its own length.
func TestShorterSequences(t *testing.T) {
	const B, long, short, C = 3, 7, 4, 6
	floats := func(T int) tensor.Tensor { return stagetest.Random(1, 1, B, T, C) }
	tokens := func(T int) tensor.Tensor { return stagetest.Ints(2, -1, 9, B, T) }
	attention := func(heads int, causal, out bool) func(any) {
		return stagetest.With(func(c *compute.AttentionConfig) { c.Heads, c.Causal, c.Out, c.Bias = heads, causal, out, true })
	}
	embed := func(sparse bool) func(any) {
		return stagetest.With(func(c *compute.EmbedConfig) {
			c.Dim, c.Rows, c.Positions, c.Sparse = stages.N(5), stages.N(9), long, sparse
		})
	}
	for _, c := range []struct {
		name, stage string
		config      func(any)
		in          func(T int) tensor.Tensor
	}{
		{"attention", "attention", attention(2, false, true), floats},
		{"causal attention", "attention", attention(3, true, true), floats},
		{"attention without projection", "attention", attention(1, false, false), floats},
		{"embed", "embed", embed(false), tokens},
		{"sparse embed", "embed", embed(true), tokens},
		{"embedding_bag", "embedding_bag", stagetest.With(func(c *compute.BagConfig) { c.Dim, c.Rows, c.Mode = stages.N(5), stages.N(9), "mean" }), tokens},
		{"layernorm", "layernorm", nil, floats},
		{"rmsnorm", "rmsnorm", nil, floats},
		{"mean_pool", "mean_pool", nil, floats},
		{"softmax", "softmax", nil, floats},
		{"dropout", "dropout", stagetest.With(func(c *compute.DropoutConfig) { c.P = 0.4 }), floats},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := func(T int) map[string][]float32 {
				b, err := stagetest.New(stagetest.Case{Stage: c.stage, Config: c.config, In: []tensor.Tensor{c.in(T)}},
					stagetest.Want{Inputs: true, Params: true})
				if err != nil {
					t.Fatal(err)
				}
				if T != short {
					x, in := b.Out(b.Bound.In[0].Name), c.in(short)
					x.Resize(in.Shape)
					copy(x.F32, in.F32)
					copy(x.I32, in.I32)
				}
				if err := b.Forward(); err != nil {
					t.Fatal(err)
				}
				y := b.Out("y")
				dy := b.M.T(b.Back.Ports["y"].Grad)
				dy.Resize(y.Shape)
				copy(dy.F32, stagetest.Random(9, 1, dy.Len()).F32)
				if err := b.Backward(); err != nil {
					t.Fatal(err)
				}
				got := map[string][]float32{"y": y.F32}
				for _, p := range b.Bound.In {
					if p.DType == tensor.F32 {
						got["gradient of "+p.Name] = b.Grad(p.Name)
					}
				}
				for name := range b.Env.Params {
					g := b.Grad(name)
					if name == "positions" { // those of the shorter sequence
						for _, v := range g[short*5:] {
							if v != 0 {
								t.Error("a position that does not occur has a gradient")
								break
							}
						}
					}
					got["gradient of "+name] = g
				}
				return got
			}
			a, b := run(short), run(long)
			for name, v := range a {
				if len(v) == 0 || !slices.Equal(v, b[name]) {
					t.Errorf("%s of %d elements differs from that of a plan of its own length (%d elements)", name, len(b[name]), len(v))
				}
			}
		})
	}
}

// Bags of no, one, two and three ids.
func TestBagsOfDifferentSizes(t *testing.T) {
	b, err := stagetest.New(stagetest.Case{Stage: "embedding_bag",
		In:     []tensor.Tensor{tensor.FromI32(tensor.Of(4, 3), []int32{-1, -1, -1, -1, 2, -1, 1, -1, 0, 2, 2, 1})},
		Config: stagetest.With(func(c *compute.BagConfig) { c.Dim, c.Rows, c.Mode = stages.N(1), stages.N(3), "mean" })}, stagetest.Want{})
	if err != nil {
		t.Fatal(err)
	}
	copy(b.Env.Params["weight"].T.F32, []float32{1, 10, 100})
	if err := b.Forward(); err != nil {
		t.Fatal(err)
	}
	third := 1 / float32(3)
	if want := []float32{0, 100, 5.5, 210 * third}; !slices.Equal(b.Out("y").F32, want) {
		t.Errorf("means %v, want %v", b.Out("y").F32, want)
	}
}

func TestBadIDsAreFindings(t *testing.T) {
	embed := stagetest.With(func(c *compute.EmbedConfig) { c.Dim, c.Rows = stages.N(2), stages.N(27) })
	bag := stagetest.With(func(c *compute.BagConfig) { c.Dim, c.Rows = stages.N(2), stages.N(27) })
	ids := func(at int, id int32, dims ...int) tensor.Tensor {
		x := stagetest.Ints(1, 0, 27, dims...)
		x.I32[at] = id
		return x
	}
	for _, c := range []struct {
		stage  string
		config func(any)
		in     tensor.Tensor
		want   string
	}{
		{"embed", embed, ids(9, 30, 5, 2), "id 30 at position 1 of example 14 is outside of the table of 27 rows"},
		{"embed", embed, ids(4, 27, 5), "id 27 at position 0 of example 14 is outside of the table of 27 rows"},
		{"embed", embed, ids(4, -2, 5), "id -2 at position 0 of example 14 is outside of the table of 27 rows"},
		{"embed", embed, ids(10, 1<<31-1, 3, 2, 2), "id 2147483647 at position 2 of example 12 is outside of the table of 27 rows"},
		{"embedding_bag", bag, ids(8, 99, 5, 2), "id 99 of example 14 is outside of the table of 27 rows"},
		{"embedding_bag", bag, ids(0, -1<<31, 5, 2), "id -2147483648 of example 10 is outside of the table of 27 rows"},
	} {
		b, err := stagetest.New(stagetest.Case{Stage: c.stage, Config: c.config, In: []tensor.Tensor{c.in}}, stagetest.Want{})
		if err != nil {
			t.Fatal(err)
		}
		b.M.First = 10
		err = b.Forward()
		if f := (stages.Finding{}); !errors.As(err, &f) || f.Msg != c.want || f.Fix == "" {
			t.Errorf("%s: error %v, want %q and how to mend it", c.stage, err, c.want)
		}
	}
}
