package pool

import (
	"testing"

	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
	"vtpu/stages/wire"
)

func TestFewElementsOfAGradientThatDoNotFitAreRefused(t *testing.T) {
	s, l := weights.NewStore(), &stages.Layout{}
	p, err := s.Add("w", weights.Weight, tensor.F32, tensor.Of(2, 4), weights.Coord{})
	if err != nil {
		t.Fatal(err)
	}
	g := Gradient{Param: p, Slot: l.AddBody(stages.SlotInfo{Name: "d w", Shape: tensor.Of(2, 4)}), Kept: 3}
	dst := tensor.New(tensor.F32, tensor.Of(2, 4))
	try := func(ids []int32, vs []float32) error {
		a, b := g.pairs(l, ids, vs)
		return g.place(l, []wire.Tensor{a, b}, &dst)
	}
	if err := try([]int32{1, 7}, []float32{5, 6}); err != nil || dst.F32[1] != 5 || dst.F32[7] != 6 || dst.F32[0] != 0 {
		t.Error(err, dst.F32)
	}
	for _, ids := range [][]int32{{-1}, {8}, {2, 2}, {3, 1}, {0, 1, 2, 3}} {
		if try(ids, make([]float32, len(ids))) == nil {
			t.Errorf("indices %v are taken", ids)
		}
	}
	if try([]int32{1}, nil) == nil || g.place(l, nil, &dst) == nil {
		t.Error("a gradient without elements is taken")
	}
	// A gradient of which nothing is left travels too.
	var c coder
	none, back := tensor.New(tensor.F32, tensor.Of(2, 4)), tensor.New(tensor.F32, tensor.Of(2, 4))
	back.F32[3] = 1
	if err := c.pick(0, &g, l, &none); err != nil {
		t.Fatal(err)
	}
	c.frame.Kind, c.frame.Parts = wire.Gradients, 1
	b, err := c.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.decode(b[link.HeadSize:], 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := g.place(l, c.frame.Tensors, &back); err != nil || back.F32[3] != 0 {
		t.Error(err, back.F32)
	}
	full := tensor.FromF32(tensor.Of(2, 4), []float32{1, 2, 3, 4, 0, 0, 0, 0})
	if c.pick(0, &g, l, &full) == nil {
		t.Error("four elements go where three fit")
	}
}
