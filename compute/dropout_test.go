package compute_test

import (
	"testing"

	"vtpu/compute"
	"vtpu/stages"
	"vtpu/stages/stagetest"
	"vtpu/stages/tensor"
)

// A tensor without dimensions is one example of one element.
func TestDropoutOfAScalar(t *testing.T) {
	b, err := stagetest.New(stagetest.Case{Stage: "dropout", In: []tensor.Tensor{tensor.FromF32(tensor.Of(), []float32{3})},
		Config: stagetest.With(func(c *compute.DropoutConfig) { c.P = 0.5 })}, stagetest.Want{Inputs: true})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[float32]int{}
	for step := range int64(40) {
		b.Reset()
		b.M.Step = step
		if err := b.Forward(); err != nil {
			t.Fatal(err)
		}
		seen[b.Out("y").F32[0]]++
	}
	if len(seen) != 2 || seen[0] < 8 || seen[6] < 8 {
		t.Errorf("values and how often they occur: %v, want 0 and 6, about as often", seen)
	}
}

// Two stages, two steps and two seeds drop different elements; p = 0 drops none.
func TestDropoutDrawsAreIndependent(t *testing.T) {
	draw := func(p float64, step int64, change func(*stages.Env)) []bool {
		b, err := stagetest.New(stagetest.Case{Stage: "dropout", In: []tensor.Tensor{stagetest.Random(1, 1, 20, 50)},
			Config: stagetest.With(func(c *compute.DropoutConfig) { c.P = p })}, stagetest.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(&b.Env)
		}
		s, err := b.Def.New(b.Env, &compute.DropoutConfig{P: p})
		if err != nil {
			t.Fatal(err)
		}
		b.M.Step = step
		var o box
		if err := s.Process(t.Context(), b.M, &o); err != nil {
			t.Fatal(err)
		}
		var kept []bool
		for _, v := range b.Out("y").F32 {
			kept = append(kept, v != 0)
		}
		return kept
	}
	alike := func(a, b []bool) (n int) {
		for i := range a {
			if a[i] == b[i] {
				n++
			}
		}
		return n
	}
	base := draw(0.5, 0, nil)
	if n := alike(base, draw(0.5, 0, nil)); n != 1000 {
		t.Errorf("the same draw twice agrees in %d of 1000 elements", n)
	}
	for name, other := range map[string][]bool{
		"the next step":           draw(0.5, 1, nil),
		"a step far away":         draw(0.5, 1<<32, nil),
		"another stage":           draw(0.5, 0, func(e *stages.Env) { e.Name = "other" }),
		"another seed":            draw(0.5, 0, func(e *stages.Env) { e.Seed = 2 }),
		"the next example's draw": append(base[50:1000:1000], base[:50]...),
	} {
		if n := alike(base, other); n < 430 || n > 570 {
			t.Errorf("%s: agrees in %d of 1000 elements, want some 500", name, n)
		}
	}
	for i, kept := range draw(0, 0, nil) {
		if !kept {
			t.Fatalf("p = 0 drops element %d", i)
		}
	}
}

type box struct{}

func (box) Send(*stages.Message) error { return nil }
