package pipelines_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"vtpu/pipelines"
	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/tensorfile"
)

// gpt is GPT-2 in float64 with GPT-2's names and layout, written from the paper and the names alone: the reference of the import.
type gpt struct {
	layers, heads, width, vocab, positions int
	w                                      map[string][]float64
	dims                                   map[string][]int
}

func newGPT(r *rand.Rand) *gpt {
	g := &gpt{layers: 2, heads: 12, width: 24, vocab: 260, positions: 64, w: map[string][]float64{}, dims: map[string][]int{}}
	add := func(name string, std, mean float64, dims ...int) {
		n := 1
		for _, d := range dims {
			n *= d
		}
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(float32(mean + std*r.NormFloat64()))
		}
		g.w[name], g.dims[name] = v, dims
	}
	C := g.width
	add("wte.weight", 0.3, 0, g.vocab, C)
	add("wpe.weight", 0.3, 0, g.positions, C)
	for l := range g.layers {
		h := fmt.Sprintf("h.%d.", l)
		for _, n := range []string{"ln_1", "ln_2"} {
			add(h+n+".weight", 0.1, 1, C)
			add(h+n+".bias", 0.1, 0, C)
		}
		add(h+"attn.c_attn.weight", 0.3, 0, C, 3*C)
		add(h+"attn.c_attn.bias", 0.3, 0, 3*C)
		add(h+"attn.c_proj.weight", 0.3, 0, C, C)
		add(h+"attn.c_proj.bias", 0.3, 0, C)
		add(h+"mlp.c_fc.weight", 0.3, 0, C, 40)
		add(h+"mlp.c_fc.bias", 0.3, 0, 40)
		add(h+"mlp.c_proj.weight", 0.3, 0, 40, C)
		add(h+"mlp.c_proj.bias", 0.3, 0, C)
	}
	add("ln_f.weight", 0.1, 1, C)
	add("ln_f.bias", 0.1, 0, C)
	return g
}

// write writes the weights as a safetensors file with a prefix before each name.
func (g *gpt) write(t *testing.T, prefix string, more ...tensorfile.Entry) string {
	t.Helper()
	es := more
	for name, v := range g.w {
		x := tensor.New(tensor.F32, tensor.Of(g.dims[name]...))
		for i, f := range v {
			x.F32[i] = float32(f)
		}
		es = append(es, tensorfile.Entry{Name: prefix + name, T: x})
	}
	file := filepath.Join(t.TempDir(), "model.safetensors")
	if err := tensorfile.Save(file, es, nil); err != nil {
		t.Fatal(err)
	}
	return file
}

func (g *gpt) norm(x []float64, name string) []float64 {
	var mean, sq float64
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		sq += (v - mean) * (v - mean) / float64(len(x))
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = (v-mean)/math.Sqrt(sq+1e-5)*g.w[name+".weight"][i] + g.w[name+".bias"][i]
	}
	return y
}

// product is x·W + b, W (in,out).
func (g *gpt) product(x []float64, name string) []float64 {
	w, b := g.w[name+".weight"], g.w[name+".bias"]
	y := append([]float64(nil), b...)
	for i, v := range x {
		for j := range y {
			y[j] += v * w[i*len(y)+j]
		}
	}
	return y
}

// logits of each position.
func (g *gpt) logits(tokens []int32) [][]float64 {
	C, hs := g.width, g.width/g.heads
	x := make([][]float64, len(tokens))
	for t, id := range tokens {
		x[t] = make([]float64, C)
		for i := range x[t] {
			x[t][i] = g.w["wte.weight"][int(id)*C+i] + g.w["wpe.weight"][t*C+i]
		}
	}
	for l := range g.layers {
		h := fmt.Sprintf("h.%d.", l)
		qkv := make([][]float64, len(x))
		for t := range x {
			qkv[t] = g.product(g.norm(x[t], h+"ln_1"), h+"attn.c_attn")
		}
		for t := range x {
			ctx := make([]float64, C)
			for head := range g.heads {
				o := head * hs
				e := make([]float64, t+1)
				var sum float64
				for s := range e {
					var dot float64
					for i := range hs {
						dot += qkv[t][o+i] * qkv[s][C+o+i]
					}
					e[s] = math.Exp(dot / math.Sqrt(float64(hs)))
					sum += e[s]
				}
				for s := range e {
					for i := range hs {
						ctx[o+i] += e[s] / sum * qkv[s][2*C+o+i]
					}
				}
			}
			for i, v := range g.product(ctx, h+"attn.c_proj") {
				x[t][i] += v
			}
		}
		for t := range x {
			m := g.product(g.norm(x[t], h+"ln_2"), h+"mlp.c_fc")
			for i, v := range m {
				m[i] = v / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
			}
			for i, v := range g.product(m, h+"mlp.c_proj") {
				x[t][i] += v
			}
		}
	}
	out := make([][]float64, len(x))
	for t := range x {
		y := g.norm(x[t], "ln_f")
		out[t] = make([]float64, g.vocab)
		for id := range out[t] {
			for i, v := range y {
				out[t][id] += v * g.w["wte.weight"][id*C+i]
			}
		}
	}
	return out
}

func gptVariables(t *testing.T) {
	for k, v := range map[string]string{"WIDTH": "24", "HIDDEN": "40", "LAYERS": "2", "VOCAB": "260", "POSITIONS": "64"} {
		t.Setenv(k, v)
	}
}

// A file with GPT-2's names gives the logits of a GPT-2.
func TestGPT2Import(t *testing.T) {
	gptVariables(t)
	g := newGPT(rand.New(rand.NewPCG(21, 22)))
	wte := tensor.New(tensor.F32, tensor.Of(260, 24))
	for i, v := range g.w["wte.weight"] {
		wte.F32[i] = float32(v)
	}
	masks := []tensorfile.Entry{{Name: "transformer.h.0.attn.bias", T: tensor.New(tensor.F32, tensor.Of(1, 1, 4, 4))},
		{Name: "transformer.h.1.attn.masked_bias", T: tensor.New(tensor.F32, tensor.Of(1))}, {Name: "lm_head.weight", T: wte}}
	tokens := []int32{72, 101, 259, 0, 32, 72, 7, 200, 13}
	want := g.logits(tokens)
	for _, file := range []string{g.write(t, ""), g.write(t, "transformer.", masks...)} {
		o := pipelines.Options{File: "gpt2-124m", LookAhead: -1, Out: filepath.Join(t.TempDir(), "run")}
		if _, _, err := pipelines.Import(o, file); err != nil {
			t.Fatal(err)
		}
		t.Setenv("WIDTH", "48") // a run keeps the variables that it began with
		p, e, err := pipelines.OpenRun(o.Out, -1)
		t.Setenv("WIDTH", "24")
		if err != nil {
			t.Fatal(err)
		}
		err = e.Infer(t.Context(), func(m *stages.Message) {
			x := m.T(p.TokenIn)
			x.Resize(tensor.Of(1, len(tokens)))
			copy(x.I32, tokens)
		}, func(m *stages.Message) {
			z := m.T(p.Logits).F32
			for at := range want {
				for id, w := range want[at] {
					if got := float64(z[at*260+id]); math.Abs(got-w) > 2e-4 {
						t.Fatalf("position %d, token %d: logit %.6f, want %.6f", at, id, got, w)
					}
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		texts, err := p.Sample(t.Context(), e, pipelines.SampleSection{Count: 1, Tokens: 8, Temperature: 0, Prompt: "He"}, 1)
		if err != nil || len(texts) != 1 || !strings.HasPrefix(texts[0], "He") {
			t.Errorf("samples %q, %v", texts, err)
		}
		// The likeliest token after the prompt is that of the reference.
		last := g.logits([]int32{'H', 'e'})[1]
		best := 0
		for id, v := range last {
			if v > last[best] {
				best = id
			}
		}
		if len(texts) == 1 && !strings.HasPrefix(texts[0][2:], p.Data.Text.Vocab[best]) {
			t.Errorf("the sample goes on with %q, want %q", texts[0][2:], p.Data.Text.Vocab[best])
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGPT2ImportFindings(t *testing.T) {
	gptVariables(t)
	g := newGPT(rand.New(rand.NewPCG(23, 24)))
	other := tensor.New(tensor.F32, tensor.Of(260, 24))
	vector := func(n int) tensor.Tensor { return tensor.New(tensor.F32, tensor.Of(n)) }
	for want, e := range map[string]tensorfile.Entry{
		"not the embedding":                 {Name: "lm_head.weight", T: other},
		"h.0.attn.extra is none of GPT-2's": {Name: "h.0.attn.extra", T: vector(1)},
		"cls.weight is none of GPT-2's":     {Name: "cls.weight", T: vector(1)},
		"want a matrix of floats":           {Name: "h.5.mlp.c_fc.weight", T: vector(3)},
	} {
		_, _, err := pipelines.Import(pipelines.Options{File: "gpt2-124m", LookAhead: -1, Out: filepath.Join(t.TempDir(), "run")}, g.write(t, "", e))
		if err == nil || !strings.Contains(err.Error(), want) || stages.ExitCode(err) != stages.ExitUser {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	t.Setenv("LAYERS", "3")
	_, _, err := pipelines.Import(pipelines.Options{File: "gpt2-124m", LookAhead: -1, Out: filepath.Join(t.TempDir(), "run")}, g.write(t, ""))
	if err == nil || !strings.Contains(err.Error(), "tensor h2.attention.qkv is missing") {
		t.Errorf("error %v", err)
	}
}
