package compute_test

import (
	"math"
	"testing"

	_ "vtpu/backward"
	"vtpu/compute"
	"vtpu/stages"
	"vtpu/stages/stagetest"
	"vtpu/stages/tensor"
)

// The references below are written from the papers in float64, without a look at the kernels.

var acts = map[string]func(float64) float64{
	"none":         func(x float64) float64 { return x },
	"relu":         func(x float64) float64 { return math.Max(x, 0) },
	"squared_relu": func(x float64) float64 { return math.Max(x, 0) * math.Max(x, 0) },
	"gelu":         func(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) },
	"gelu_tanh":    func(x float64) float64 { return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) },
	"tanh":         math.Tanh,
	"sigmoid":      func(x float64) float64 { return 1 / (1 + math.Exp(-x)) },
	"silu":         func(x float64) float64 { return x / (1 + math.Exp(-x)) },
}

func each(x []float64, f func(float64) float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = f(v)
	}
	return y
}

// linear is x (rows,c) times w (oc,c) transposed, plus b.
func linear(x, w, b []float64, c, oc int) []float64 {
	var y []float64
	for r := range len(x) / c {
		for o := range oc {
			s := 0.0
			if b != nil {
				s = b[o]
			}
			for i := range c {
				s += x[r*c+i] * w[o*c+i]
			}
			y = append(y, s)
		}
	}
	return y
}

func TestDense(t *testing.T) {
	var cases []stagetest.Case
	for act, f := range acts {
		for _, d := range []struct{ rows, c, oc int }{{5, 7, 6}, {4, 1, 1}, {6, 70, 1}, {3, 20, 40}} {
			for _, bias := range []bool{true, false} {
				cases = append(cases, stagetest.Case{
					Name: act, Stage: "dense", In: []tensor.Tensor{stagetest.Random(1, 1, d.rows, d.c)},
					Config: stagetest.With(func(c *compute.DenseConfig) { c.Units, c.Bias, c.Act = stages.N(d.oc), bias, act }),
					Reference: func(in [][]float64, p map[string][]float64) [][]float64 {
						return [][]float64{each(linear(in[0], p["weight"], p["bias"], d.c, d.oc), f)}
					},
				})
			}
		}
	}
	stagetest.Run(t, cases...)
}

func TestActivations(t *testing.T) {
	var cases []stagetest.Case
	for act, f := range acts {
		name := act
		c := stagetest.Case{Name: act, Stage: name, In: []tensor.Tensor{stagetest.Random(2, 2, 3, 4, 5)},
			Reference: func(in [][]float64, _ map[string][]float64) [][]float64 { return [][]float64{each(in[0], f)} }}
		switch act {
		case "none":
			continue
		case "gelu_tanh":
			c.Stage, c.Config = "gelu", stagetest.With(func(g *compute.GeluConfig) { g.Approx = "tanh" })
		}
		cases = append(cases, c)
	}
	stagetest.Run(t, cases...)
}

func TestArithmetic(t *testing.T) {
	x, y, z := stagetest.Random(3, 1, 4, 3), stagetest.Random(4, 1, 4, 3), stagetest.Random(5, 1, 4, 3)
	wide := stagetest.Random(6, 1, 4, 5)
	stagetest.Run(t,
		stagetest.Case{Stage: "residual_add", In: []tensor.Tensor{x, y}, Reference: func(in [][]float64, _ map[string][]float64) [][]float64 {
			var o []float64
			for i := range in[0] {
				o = append(o, in[0][i]+in[1][i])
			}
			return [][]float64{o}
		}},
		stagetest.Case{Stage: "scale", In: []tensor.Tensor{x}, Config: stagetest.With(func(c *compute.ScaleConfig) { c.By = -1.7 }),
			Reference: func(in [][]float64, _ map[string][]float64) [][]float64 {
				return [][]float64{each(in[0], func(v float64) float64 { return -1.7 * v })}
			}},
		stagetest.Case{Stage: "product", In: []tensor.Tensor{x, y, z}, Reference: func(in [][]float64, _ map[string][]float64) [][]float64 {
			var o []float64
			for i := range in[0] {
				o = append(o, in[0][i]*in[1][i]*in[2][i])
			}
			return [][]float64{o}
		}},
		stagetest.Case{Stage: "concat", In: []tensor.Tensor{x, wide, y}, Reference: func(in [][]float64, _ map[string][]float64) [][]float64 {
			var o []float64
			for r := range 4 {
				o = append(o, in[0][r*3:r*3+3]...)
				o = append(o, in[1][r*5:r*5+5]...)
				o = append(o, in[2][r*3:r*3+3]...)
			}
			return [][]float64{o}
		}},
		stagetest.Case{Stage: "flatten", In: []tensor.Tensor{stagetest.Random(7, 1, 3, 2, 4)},
			Reference: func(in [][]float64, _ map[string][]float64) [][]float64 {
				return [][]float64{append([]float64(nil), in[0]...)}
			}},
		stagetest.Case{Stage: "mean_pool", In: []tensor.Tensor{stagetest.Random(8, 1, 3, 4, 5)},
			Reference: func(in [][]float64, _ map[string][]float64) [][]float64 {
				o := make([]float64, 15)
				for b := range 3 {
					for tt := range 4 {
						for c := range 5 {
							o[b*5+c] += in[0][(b*4+tt)*5+c] / 4
						}
					}
				}
				return [][]float64{o}
			}},
		stagetest.Case{Stage: "softmax", In: []tensor.Tensor{stagetest.Random(9, 2, 4, 7)},
			Reference: func(in [][]float64, _ map[string][]float64) [][]float64 {
				var o []float64
				for r := range 4 {
					o = append(o, softmax(in[0][r*7:r*7+7])...)
				}
				return [][]float64{o}
			}},
	)
}

func softmax(x []float64) []float64 {
	m, s := math.Inf(-1), 0.0
	for _, v := range x {
		m = math.Max(m, v)
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = math.Exp(v - m)
		s += y[i]
	}
	for i := range y {
		y[i] /= s
	}
	return y
}

func TestInteraction(t *testing.T) {
	for _, keep := range []bool{true, false} {
		stagetest.Run(t, stagetest.Case{Stage: "interaction", In: []tensor.Tensor{stagetest.Random(1, 1, 3, 4), stagetest.Random(2, 1, 3, 5, 4)},
			Config: stagetest.With(func(c *compute.InteractionConfig) { c.Keep = keep }),
			Reference: func(in [][]float64, _ map[string][]float64) [][]float64 {
				var o []float64
				for b := range 3 {
					u := [][]float64{in[0][b*4 : b*4+4]}
					for n := range 5 {
						u = append(u, in[1][(b*5+n)*4:(b*5+n)*4+4])
					}
					if keep {
						o = append(o, u[0]...)
					}
					for i := range u {
						for j := range i {
							s := 0.0
							for d := range 4 {
								s += u[i][d] * u[j][d]
							}
							o = append(o, s)
						}
					}
				}
				return [][]float64{o}
			}})
	}
}

func TestNorms(t *testing.T) {
	x := stagetest.Random(3, 2, 3, 4, 9)
	norm := func(in []float64, w, b []float64, centre bool) []float64 {
		var o []float64
		for r := range len(in) / 9 {
			row := in[r*9 : r*9+9]
			m, q := 0.0, 0.0
			if centre {
				for _, v := range row {
					m += v / 9
				}
			}
			for _, v := range row {
				q += (v - m) * (v - m) / 9
			}
			for i, v := range row {
				h := (v - m) / math.Sqrt(q+1e-5)
				if w != nil {
					h *= w[i]
				}
				if b != nil {
					h += b[i]
				}
				o = append(o, h)
			}
		}
		return o
	}
	var cases []stagetest.Case
	for _, gain := range []bool{true, false} {
		for _, bias := range []bool{true, false} {
			cases = append(cases, stagetest.Case{Stage: "layernorm", In: []tensor.Tensor{x}, GradTol: 1e-4,
				Config: stagetest.With(func(c *compute.LayerNormConfig) { c.Gain, c.Bias = gain, bias }),
				Reference: func(in [][]float64, p map[string][]float64) [][]float64 {
					return [][]float64{norm(in[0], p["weight"], p["bias"], true)}
				}})
		}
		cases = append(cases, stagetest.Case{Stage: "rmsnorm", In: []tensor.Tensor{x}, GradTol: 1e-4,
			Config: stagetest.With(func(c *compute.RMSNormConfig) { c.Gain = gain }),
			Reference: func(in [][]float64, p map[string][]float64) [][]float64 {
				return [][]float64{norm(in[0], p["weight"], nil, false)}
			}})
	}
	stagetest.Run(t, cases...)
}

func TestAttention(t *testing.T) {
	const B, T, C = 2, 5, 6
	var cases []stagetest.Case
	for _, heads := range []int{1, 2, 3} {
		for _, causal := range []bool{true, false} {
			for _, out := range []bool{true, false} {
				for _, bias := range []bool{true, false} {
					cases = append(cases, stagetest.Case{Stage: "attention", In: []tensor.Tensor{stagetest.Random(4, 1, B, T, C)}, GradTol: 1e-4,
						Config: stagetest.With(func(c *compute.AttentionConfig) { c.Heads, c.Causal, c.Out, c.Bias = heads, causal, out, bias }),
						Reference: func(in [][]float64, p map[string][]float64) [][]float64 {
							qkv := linear(in[0], p["qkv"], p["qkv_bias"], C, 3*C)
							ctx := make([]float64, B*T*C)
							hs := C / heads
							at := func(b, tt, which, h, i int) float64 { return qkv[(b*T+tt)*3*C+which*C+h*hs+i] }
							for b := range B {
								for h := range heads {
									for q := range T {
										n := T
										if causal {
											n = q + 1
										}
										z := make([]float64, n)
										for k := range n {
											for i := range hs {
												z[k] += at(b, q, 0, h, i) * at(b, k, 1, h, i) / math.Sqrt(float64(hs))
											}
										}
										for k, a := range softmax(z) {
											for i := range hs {
												ctx[(b*T+q)*C+h*hs+i] += a * at(b, k, 2, h, i)
											}
										}
									}
								}
							}
							if out {
								ctx = linear(ctx, p["proj"], p["proj_bias"], C, C)
							}
							return [][]float64{ctx}
						}})
				}
			}
		}
	}
	stagetest.Run(t, cases...)
}

func TestTables(t *testing.T) {
	var cases []stagetest.Case
	for _, sparse := range []bool{true, false} {
		for _, positions := range []int{0, 6} {
			cases = append(cases, stagetest.Case{Stage: "embed", In: []tensor.Tensor{stagetest.Ints(5, -1, 7, 4, 5)},
				Config: stagetest.With(func(c *compute.EmbedConfig) {
					c.Dim, c.Rows, c.Positions, c.Sparse = stages.N(3), stages.N(7), positions, sparse
				}),
				Reference: func(in [][]float64, p map[string][]float64) [][]float64 {
					o := make([]float64, len(in[0])*3)
					for i, id := range in[0] {
						for d := range 3 {
							if id >= 0 {
								o[i*3+d] = p["weight"][int(id)*3+d]
								if positions > 0 {
									o[i*3+d] += p["positions"][i%5*3+d]
								}
							}
						}
					}
					return [][]float64{o}
				}})
		}
		for _, mode := range []string{"sum", "mean"} {
			cases = append(cases, stagetest.Case{Stage: "embedding_bag", In: []tensor.Tensor{stagetest.Ints(6, -1, 7, 4, 5)},
				Config: stagetest.With(func(c *compute.BagConfig) { c.Dim, c.Rows, c.Mode, c.Sparse = stages.N(3), stages.N(7), mode, sparse }),
				Reference: func(in [][]float64, p map[string][]float64) [][]float64 {
					o := make([]float64, 12)
					for b := range 4 {
						n := 0.0
						for _, id := range in[0][b*5 : b*5+5] {
							if id >= 0 {
								n++
							}
						}
						if mode == "sum" {
							n = 1
						}
						for _, id := range in[0][b*5 : b*5+5] {
							for d := range 3 {
								if id >= 0 {
									o[b*3+d] += p["weight"][int(id)*3+d] / n
								}
							}
						}
					}
					return [][]float64{o}
				}})
		}
	}
	stagetest.Run(t, cases...)
}

func TestLosses(t *testing.T) {
	x, y := stagetest.Random(7, 1, 6, 3), stagetest.Random(8, 1, 6, 3)
	col, tgt := stagetest.Random(9, 2, 6, 1), stagetest.Random(10, 1, 6)
	click := stagetest.Ints(11, 0, 2, 6)
	prob := tensor.New(tensor.F32, tensor.Of(6))
	for i, v := range click.I32 {
		prob.F32[i] = float32(v)
	}
	mean := func(in [][]float64, f func(x, y float64) float64) [][]float64 {
		s := 0.0
		for i := range in[0] {
			s += f(in[0][i], in[1][i]) / float64(len(in[0]))
		}
		return [][]float64{{s}}
	}
	mse := func(in [][]float64, _ map[string][]float64) [][]float64 {
		return mean(in, func(x, y float64) float64 { return (x - y) * (x - y) })
	}
	mae := func(in [][]float64, _ map[string][]float64) [][]float64 {
		return mean(in, func(x, y float64) float64 { return math.Abs(x - y) })
	}
	bce := func(in [][]float64, _ map[string][]float64) [][]float64 {
		return mean(in, func(x, y float64) float64 { return math.Max(x, 0) - x*y + math.Log1p(math.Exp(-math.Abs(x))) })
	}
	xent := func(v int) func(in [][]float64, _ map[string][]float64) [][]float64 {
		return func(in [][]float64, _ map[string][]float64) [][]float64 {
			s, n := 0.0, 0.0
			for r, c := range in[1] {
				if c >= 0 {
					s -= math.Log(softmax(in[0][r*v : r*v+v])[int(c)])
					n++
				}
			}
			return [][]float64{{s / n}}
		}
	}
	tokens := stagetest.Ints(12, -1, 5, 2, 4)
	n := 0
	for _, v := range tokens.I32 {
		if v >= 0 {
			n++
		}
	}
	stagetest.Run(t,
		stagetest.Case{Stage: "mse", In: []tensor.Tensor{x, y}, Reference: mse},
		stagetest.Case{Name: "mse of a column", Stage: "mse", In: []tensor.Tensor{col, tgt}, Reference: mse},
		stagetest.Case{Stage: "mae", In: []tensor.Tensor{x, y}, Reference: mae},
		stagetest.Case{Stage: "bce", In: []tensor.Tensor{col, prob}, Reference: bce},
		stagetest.Case{Name: "classes", Stage: "softmax_xent", In: []tensor.Tensor{stagetest.Random(13, 2, 6, 5), stagetest.Ints(14, 0, 5, 6)}, Reference: xent(5)},
		stagetest.Case{Name: "tokens", Stage: "softmax_xent", In: []tensor.Tensor{stagetest.Random(15, 2, 2, 4, 5), tokens}, Tokens: n, Reference: xent(5)},
	)
}

func TestDropout(t *testing.T) {
	c := stagetest.Case{Stage: "dropout", In: []tensor.Tensor{stagetest.Random(16, 1, 8, 50)},
		Config: stagetest.With(func(c *compute.DropoutConfig) { c.P = 0.3 }), GradTol: 2e-3}
	stagetest.Run(t, c)
	b, err := stagetest.New(c, stagetest.Want{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Forward(); err != nil {
		t.Fatal(err)
	}
	zero := 0
	x, y := c.In[0].F32, append([]float32(nil), b.Out("y").F32...)
	for i, v := range y {
		switch {
		case v == 0:
			zero++
		case math.Abs(float64(v)-float64(x[i])/0.7) > 1e-6*math.Abs(float64(x[i])):
			t.Fatalf("element %d is %g, want 0 or %g", i, v, x[i]/0.7)
		}
	}
	if zero < 80 || zero > 160 {
		t.Errorf("%d of 400 elements were dropped, want some 120", zero)
	}
	// The draw belongs to the example, not to the part that it came in: rows 5.. as a part of their own are dropped alike.
	b.Reset()
	in := b.M.T(b.Env.Ports["x"].Slot)
	copy(in.F32, in.F32[5*50:])
	in.Resize(tensor.Of(3, 50))
	b.M.First, b.M.Rows = 5, 3
	if err := b.Forward(); err != nil {
		t.Fatal(err)
	}
	for i, v := range b.Out("y").F32 {
		if v != y[5*50+i] {
			t.Fatalf("as a part, element %d is %g, in the whole step it was %g", i, v, y[5*50+i])
		}
	}
	b.Reset()
	b.M.Mode = stages.Eval
	if err := b.Forward(); err != nil {
		t.Fatal(err)
	}
	for i, v := range b.Out("y").F32 {
		if v != x[i] {
			t.Fatal("evaluation drops")
		}
	}
}

func TestIDsOutsideOfATableAreNamed(t *testing.T) {
	for _, stage := range []string{"embed", "embedding_bag"} {
		in := stagetest.Ints(17, 0, 5, 3, 2)
		in.I32[5] = 9
		b, err := stagetest.New(stagetest.Case{Stage: stage, In: []tensor.Tensor{in}, Config: func(c any) {
			switch c := c.(type) {
			case *compute.EmbedConfig:
				c.Dim, c.Rows = stages.N(2), stages.N(5)
			case *compute.BagConfig:
				c.Dim, c.Rows = stages.N(2), stages.N(5)
			}
		}}, stagetest.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Forward(); err == nil || err.Error() == "" {
			t.Errorf("%s accepted an id outside of its table", stage)
		} else {
			t.Log(err)
		}
	}
}
