package pipelines

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"vtpu/compute/kernel"
	"vtpu/pipelines/exec"
	"vtpu/stages"
	"vtpu/stages/rng"
	"vtpu/stages/tensor"
)

// sampler draws texts from a model that reads and predicts tokens.
type sampler struct {
	plan  *Plan
	e     *exec.Engine
	s     SampleSection
	r     rng.Stream
	block int
	probs []float32
	order []int32
}

// defaultTokens is the length of a sample of a running text.
const defaultTokens = 200

// Sample draws texts; the i-th is a function of the weights, the seed and i alone.
func (p *Plan) Sample(ctx context.Context, e *exec.Engine, s SampleSection, seed uint64) ([]string, error) {
	if !p.Samples {
		return nil, stages.Finding{File: p.Pipe.File, Msg: "samples can be drawn only from a model that reads and predicts tokens"}
	}
	v := len(p.Data.Text.Vocab)
	d := &sampler{plan: p, e: e, s: s, r: rng.Named(seed, "sample"), block: p.Layout.Info(p.TokenIn).Shape.Last(), probs: make([]float32, v), order: make([]int32, v)}
	prompt, err := p.Data.Text.Encode(s.Prompt)
	if err != nil {
		return nil, stages.Finding{File: "prompt", Msg: err.Error()}
	}
	var out []string
	for i := range s.Count {
		text, err := d.draw(ctx, i, prompt)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

func (d *sampler) draw(ctx context.Context, i int, prompt []int32) (string, error) {
	text := d.plan.Data.Text
	var toks []int32
	limit := d.s.Tokens
	if text.BOS >= 0 {
		toks = append(toks, text.BOS)
		if limit == 0 || limit > d.block {
			limit = d.block
		}
	} else if limit == 0 {
		limit = defaultTokens
	}
	toks = append(toks, prompt...)
	if len(toks) == 0 { // a running text needs something to go on from: a line break, or else the first token
		toks = []int32{int32(max(slices.Index(text.Vocab, "\n"), 0))}
	}
	start := len(toks) - len(prompt)
	for len(toks)-start < limit {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		in := toks[max(0, len(toks)-d.block):]
		var next int32
		err := d.e.Infer(ctx, func(m *stages.Message) {
			x := m.T(d.plan.TokenIn)
			x.Resize(tensor.Of(1, len(in)))
			copy(x.I32, in)
		}, func(m *stages.Message) {
			z := m.T(d.plan.Logits)
			v := z.Shape.Last()
			next = d.pick(z.F32[(len(in)-1)*v:len(in)*v], i, len(toks))
		})
		if err != nil {
			return "", fmt.Errorf("sample %d: %w", i+1, err)
		}
		if next == text.BOS {
			break
		}
		toks = append(toks, next)
	}
	var b strings.Builder
	for _, t := range toks[start:] {
		b.WriteString(text.Vocab[t])
	}
	return b.String(), nil
}

// pick draws a token from logits: temperature, the k likeliest, then the place where a uniform draw falls in the sums of the probabilities.
func (d *sampler) pick(z []float32, i, at int) int32 {
	if d.s.Temperature == 0 {
		return int32(kernel.ArgMax(z))
	}
	p := d.probs
	kernel.SoftmaxRows(p, z, 1, len(z), len(z), float32(1/d.s.Temperature), false)
	if k := d.s.TopK; k > 0 && k < len(p) {
		for j := range d.order {
			d.order[j] = int32(j)
		}
		slices.SortStableFunc(d.order, func(a, b int32) int {
			switch {
			case p[a] > p[b]:
				return -1
			case p[a] < p[b]:
				return 1
			}
			return 0
		})
		for _, j := range d.order[k:] {
			p[j] = 0
		}
	}
	var total float32
	for _, v := range p {
		total += v
	}
	u := d.r.Uniform(uint64(i), uint32(at)) * total
	var sum float32
	last := int32(0)
	for j, v := range p {
		if v == 0 {
			continue
		}
		last = int32(j)
		if sum += v; u < sum {
			break
		}
	}
	return last
}
