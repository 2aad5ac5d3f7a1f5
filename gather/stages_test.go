package gather

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// numbered is a table whose row i holds x = (i, 10i), cats = i mod 3 and y = -i.
func numbered(n int, split float64) *stages.Dataset {
	x, cats, y := make([]float32, 2*n), make([]int32, n), make([]float32, n)
	for i := range n {
		x[2*i], x[2*i+1], cats[i], y[i] = float32(i), float32(10*i), int32(i%3), -float32(i)
	}
	d := &stages.Dataset{Facts: map[string]int{"rows": n, "cat_rows": 3}, Table: &stages.Table{N: n, Cols: []stages.Column{
		{Name: "x", Shape: tensor.Of(2), F32: x}, {Name: "cats", DType: tensor.I32, Shape: tensor.Of(1), I32: cats, Max: 3}, {Name: "y", F32: y}}}}
	d.SplitBy(split, 5)
	return d
}

// running is a text of the tokens 0..n-1.
func running(n int, split float64) *stages.Dataset {
	d := &stages.Dataset{Text: &stages.Text{BOS: -1}, Facts: map[string]int{"tokens": n}}
	for i := range n {
		d.Text.Tokens = append(d.Text.Tokens, int32(i))
	}
	d.SplitBy(split, 5)
	return d
}

func documents(t testing.TB, text string, split float64) *stages.Dataset {
	t.Helper()
	d, err := parseText("docs.txt", []byte(text), TextConfig{Tokens: "char", Docs: "lines"})
	if err != nil {
		t.Fatal(err)
	}
	d.SplitBy(split, 5)
	return d
}

func with[C any](c C) func(*C) { return func(x *C) { *x = c } }

func TestCutGivesTheFirstPartsOneMore(t *testing.T) {
	for _, c := range []struct {
		count, parts int
		want         []int
	}{{7, 3, []int{3, 2, 2}}, {6, 3, []int{2, 2, 2}}, {2, 4, []int{1, 1, 0, 0}}, {0, 2, []int{0, 0}}, {5, 1, []int{5}}} {
		first := 0
		for p, n := range c.want {
			if got := cut(c.count, p, c.parts); got != (span{first, n, c.count}) {
				t.Errorf("part %d of %d of %d examples is %+v, want first %d and %d", p, c.parts, c.count, got, first, n)
			}
			if n > largest(c.count, c.parts) {
				t.Errorf("%d examples do not fit the largest part of %d in %d", n, c.count, c.parts)
			}
			first += n
		}
	}
}

// What a message holds is a function of its step, part and mode, whatever was asked before; a step allocates nothing.
func TestPositionIsAFunctionOfTheStep(t *testing.T) {
	docs := documents(t, "anna\nbo\nlucy\nthe longest of them\nal\njo\nkim\n", 0.8)
	for name, open := range map[string]func() *harness{
		"batches": func() *harness {
			return newHarness(t, "batches", with(BatchesConfig{Batch: 4, Shuffle: true}), numbered(11, 0.7), 9, 3)
		},
		"batches in order": func() *harness {
			return newHarness(t, "batches", with(BatchesConfig{Batch: 4}), numbered(11, 0.7), 9, 1)
		},
		"batches, whole": func() *harness {
			return newHarness(t, "batches", with(BatchesConfig{Batch: 11}), numbered(11, 1), 9, 1)
		},
		"batches, short": func() *harness {
			return newHarness(t, "batches", with(BatchesConfig{Batch: 11, Drop: true}), numbered(9, 1), 9, 1)
		},
		"token_batches": func() *harness {
			return newHarness(t, "token_batches", with(TokensConfig{Batch: 5, Block: 3, Order: "random"}), running(60, 0.5), 9, 2)
		},
		"token_batches in order": func() *harness {
			return newHarness(t, "token_batches", with(TokensConfig{Batch: 5, Block: 3, Order: "sequential"}), running(60, 0.5), 9, 2)
		},
		"lines": func() *harness {
			return newHarness(t, "lines", with(LinesConfig{Batch: 3, Block: 5, Shuffle: true}), docs, 9, 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := open(), open()
			type place struct {
				step int64
				part int
				mode stages.Mode
			}
			var places []place
			for step := range int64(9) {
				for part := range a.parts {
					places = append(places, place{step, part, stages.Train})
				}
			}
			for step := range a.stage.(interface{ EvalSteps() int64 }).EvalSteps() {
				for part := range a.parts {
					places = append(places, place{step, part, stages.Eval})
				}
			}
			want := map[place]string{}
			for _, p := range places {
				want[p] = a.step(p.step, p.part, p.mode)
			}
			slices.Reverse(places)
			for k := range places { // backwards, and jumping
				for _, p := range []place{places[k], places[k*7%len(places)]} {
					if got := b.step(p.step, p.part, p.mode); got != want[p] {
						t.Fatalf("%+v: got %s, want %s", p, got, want[p])
					}
				}
			}
			step, ctx := int64(0), context.Background()
			if n := testing.AllocsPerRun(50, func() {
				a.m.Head = stages.Head{Step: step, Parts: int32(a.parts)}
				step++
				if err := a.stage.Process(ctx, a.m, &a.out); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v allocations in a step", n)
			}
		})
	}
}

func TestBatchesWalkEachEpochOnce(t *testing.T) {
	const batch, parts = 4, 3
	for _, drop := range []bool{false, true} {
		d := numbered(11, 1)
		h := newHarness(t, "batches", with(BatchesConfig{Batch: batch, Shuffle: true, Drop: drop}), d, 9, parts)
		steps, rows := int64(3), 11
		if drop {
			steps, rows = 2, 8
		}
		if got := h.stage.(interface{ StepsPerEpoch() int64 }).StepsPerEpoch(); got != steps {
			t.Fatalf("drop_last %v: %d steps in an epoch, want %d", drop, got, steps)
		}
		var orders [3][]int
		for e := range orders {
			for s := range steps {
				count := min(batch, 11-int(s)*batch)
				first := 0
				for p := range parts {
					h.step(int64(e)*steps+s, p, stages.Train)
					if h.m.First != first || h.m.Count != count || h.m.Targets != 0 {
						t.Fatalf("step %d, part %d: first %d, count %d, targets %d", s, p, h.m.First, h.m.Count, h.m.Targets)
					}
					first += h.m.Rows
					x, cats, y := h.T("x"), h.T("cats"), h.T("y")
					if x.Shape != tensor.Of(h.m.Rows, 2) || cats.Shape != tensor.Of(h.m.Rows, 1) || y.Shape != tensor.Of(h.m.Rows) {
						t.Fatalf("%d rows have the shapes %v %v %v", h.m.Rows, x.Shape, cats.Shape, y.Shape)
					}
					for i, v := range y.F32 {
						row := int(-v)
						if x.F32[2*i] != float32(row) || x.F32[2*i+1] != float32(10*row) || cats.I32[i] != int32(row%3) {
							t.Fatalf("row %d has x %v and cats %d", row, x.F32[2*i:2*i+2], cats.I32[i])
						}
						orders[e] = append(orders[e], row)
					}
				}
				if first != count {
					t.Fatalf("the parts hold %d of %d rows", first, count)
				}
			}
			seen := slices.Compact(slices.Sorted(slices.Values(orders[e])))
			if len(orders[e]) != rows || len(seen) != rows {
				t.Fatalf("epoch %d has the rows %v, want %d different ones", e, orders[e], rows)
			}
		}
		if slices.Equal(orders[0], orders[1]) || slices.Equal(orders[1], orders[2]) {
			t.Errorf("epochs have the same order %v", orders)
		}
	}
}

func TestBatchesKeepTrainingAndValidationApart(t *testing.T) {
	d := numbered(20, 0.6)
	h := newHarness(t, "batches", with(BatchesConfig{Batch: 5, Shuffle: true}), d, 9, 1)
	rows := func(steps int64, mode stages.Mode) (out []int32) {
		for s := range steps {
			h.step(s, 0, mode)
			for _, v := range h.T("y").F32 {
				out = append(out, int32(-v))
			}
		}
		return out
	}
	train := rows(h.stage.(*batches).StepsPerEpoch(), stages.Train)
	valid := rows(h.stage.(*batches).EvalSteps(), stages.Eval)
	if !slices.Equal(valid, d.Valid.Rows) {
		t.Errorf("validation walks %v, want %v in this order", valid, d.Valid.Rows)
	}
	slices.Sort(train)
	if !slices.Equal(train, slices.Sorted(slices.Values(d.Train.Rows))) {
		t.Errorf("training walks %v, want %v", train, d.Train.Rows)
	}
}

// A step of all rows copies them each time: the message may have been changed.
func TestBatchesCopyAgain(t *testing.T) {
	for _, batch := range []int{1, 3} {
		d := numbered(batch, 1)
		h := newHarness(t, "batches", with(BatchesConfig{Batch: batch}), d, 9, 1)
		want := h.step(0, 0, stages.Train)
		for _, name := range []string{"x", "y"} {
			for i := range h.T(name).F32 {
				h.T(name).F32[i] = float32(math.NaN())
			}
		}
		if got := h.step(1, 0, stages.Train); got != want {
			t.Errorf("batch %d: got %s, want %s", batch, got, want)
		}
	}
}

func TestBatchesColumns(t *testing.T) {
	h := newHarness(t, "batches", with(BatchesConfig{Batch: 2, Columns: []string{"y", "x"}}), numbered(4, 1), 9, 1)
	if got, want := h.step(1, 0, stages.Train), "first 0 rows 2 count 2 targets 0 x(2,2)=[2 20 3 30][] y(2)=[-2 -3][]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTokenBatches(t *testing.T) {
	const batch, block, parts = 4, 3, 3
	d := running(100, 0.8)
	for _, order := range []string{"random", "sequential"} {
		h := newHarness(t, "token_batches", with(TokensConfig{Batch: batch, Block: block, Order: order}), d, 9, parts)
		seen := map[int32]bool{}
		for s := range int64(40) {
			rows := 0
			for p := range parts {
				h.step(s, p, stages.Train)
				rows += h.m.Rows
				x, y := h.T("x"), h.T("y")
				if h.m.Targets != batch*block || h.m.Count != batch || x.Shape != tensor.Of(h.m.Rows, block) || y.Shape != x.Shape {
					t.Fatalf("targets %d, count %d, shapes %v %v", h.m.Targets, h.m.Count, x.Shape, y.Shape)
				}
				for i, v := range x.I32 {
					if y.I32[i] != v+1 || i%block > 0 && v != x.I32[i-1]+1 || v+1 >= 80 {
						t.Fatalf("%s: x %v, y %v", order, x.I32, y.I32)
					}
				}
				for b := range h.m.Rows {
					at := x.I32[b*block]
					seen[at] = true
					if want := (int32(s)*batch + int32(h.m.First+b)) % 26 * block; order == "sequential" && at != want {
						t.Fatalf("step %d, block %d starts at %d, want %d", s, h.m.First+b, at, want)
					}
				}
			}
			if rows != batch {
				t.Fatalf("%d blocks, want %d", rows, batch)
			}
		}
		if want := map[string]int{"random": 50, "sequential": 26}[order]; len(seen) < want {
			t.Errorf("%s: %d different starts, want %d", order, len(seen), want)
		}
		e := h.stage.(*tokens)
		if e.EvalSteps() != 2 || e.StepsPerEpoch() != 6 {
			t.Fatalf("%d steps of evaluation, want 2; %d in an epoch, want 6", e.EvalSteps(), e.StepsPerEpoch())
		}
		var starts []int32
		for s := range e.EvalSteps() {
			for p := range parts {
				h.step(s, p, stages.Eval)
				for b := range h.m.Rows {
					starts = append(starts, h.T("x").I32[b*block])
				}
			}
		}
		if want := []int32{80, 83, 86, 89, 92, 95}; !slices.Equal(starts, want) {
			t.Errorf("evaluation starts blocks at %v, want %v", starts, want)
		}
	}
}

func TestLines(t *testing.T) {
	d := documents(t, "ab\n\nc\nabcde\n", 1) // a=0 ... e=4, mark 5
	h := newHarness(t, "lines", with(LinesConfig{Batch: 3, Block: 4}), d, 9, 1)
	got := h.step(0, 0, stages.Train)
	want := "first 0 rows 3 count 3 targets 9 " + // 3 + 2 + 4
		"x(3,4)=[][5 0 1 5 5 2 5 5 5 0 1 2] y(3,4)=[][0 1 5 -1 2 5 -1 -1 0 1 2 3]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	h = newHarness(t, "lines", with(LinesConfig{Batch: 3, Block: 4}), d, 9, 2)
	for p, want := range []string{"first 0 rows 2 count 3 targets 9 x(2,3)=[][5 0 1 5 2 5] y(2,3)=[][0 1 5 2 5 -1]",
		"first 2 rows 1 count 3 targets 9 x(1,4)=[][5 0 1 2] y(1,4)=[][0 1 2 3]"} {
		if got := h.step(0, p, stages.Train); got != want {
			t.Errorf("part %d: got %s, want %s", p, got, want)
		}
	}
	h = newHarness(t, "lines", with(LinesConfig{Batch: 1, Block: 16}), d, 9, 1)
	if got, want := h.step(5, 0, stages.Train), "first 0 rows 1 count 1 targets 6 x(1,6)=[][5 0 1 2 3 4] y(1,6)=[][0 1 2 3 4 5]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A part without examples has shapes with 0 rows.
func TestEmptyParts(t *testing.T) {
	d := documents(t, "ab\nc\nde\n", 1)
	h := newHarness(t, "lines", with(LinesConfig{Batch: 2, Block: 4}), d, 9, 2)
	if got, want := h.step(1, 1, stages.Train), "first 1 rows 0 count 1 targets 3 x(0,1)=[][] y(0,1)=[][]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	h = newHarness(t, "batches", with(BatchesConfig{Batch: 3}), numbered(4, 1), 9, 3)
	if got, want := h.step(1, 2, stages.Train), "first 1 rows 0 count 1 targets 0 cats(0,1)=[][] x(0,2)=[][] y(0)=[][]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWrongData(t *testing.T) {
	table, text, docs := numbered(6, 1), running(6, 1), documents(t, "a\nb\n", 1)
	for _, c := range []struct {
		want string
		err  error
	}{
		{"the data is a text", second(tryHarness(t, "batches", with(BatchesConfig{Batch: 2}), text, 1, 1))},
		{"more parts than rows", second(tryHarness(t, "batches", with(BatchesConfig{Batch: 2}), table, 1, 3))},
		{`no column "z", it has ["x" "cats" "y"]`, second(tryHarness(t, "batches", with(BatchesConfig{Batch: 2, Columns: []string{"z"}}), table, 1, 1))},
		{`"x" is listed twice`, second(tryHarness(t, "batches", with(BatchesConfig{Batch: 2, Columns: []string{"x", "x"}}), table, 1, 1))},
		{"the data is a table", second(tryHarness(t, "token_batches", with(TokensConfig{Batch: 2, Block: 2}), table, 1, 1))},
		{"cut into documents", second(tryHarness(t, "token_batches", with(TokensConfig{Batch: 2, Block: 1}), docs, 1, 1))},
		{"a block of 6 needs 7 tokens, there are 6", second(tryHarness(t, "token_batches", with(TokensConfig{Batch: 2, Block: 6}), text, 1, 1))},
		{"more parts than blocks", second(tryHarness(t, "token_batches", with(TokensConfig{Batch: 2, Block: 2}), text, 1, 3))},
		{"docs: lines", second(tryHarness(t, "lines", with(LinesConfig{Batch: 2, Block: 2}), text, 1, 1))},
		{"docs: lines", second(tryHarness(t, "lines", with(LinesConfig{Batch: 2, Block: 2}), table, 1, 1))},
		{"more parts than documents", second(tryHarness(t, "lines", with(LinesConfig{Batch: 1, Block: 2}), docs, 1, 2))},
		{"lists no cell", second(tryHarness(t, "cells", with(CellsConfig{Read: []Cell{}}), nil, 1, 1))},
		{"given twice", second(tryHarness(t, "cells", with(CellsConfig{Read: []Cell{{Name: "q"}, {Name: "q"}}}), nil, 1, 1))},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", c.err, c.want)
		}
	}
}

func second(_ *harness, err error) error { return err }

func TestRows(t *testing.T) {
	ids := tensor.FromI32(tensor.Of(2, 3), []int32{0, 1, 2, 3, 0, 1})
	for _, per := range []bool{false, true} {
		h := newHarness(t, "rows", with(RowsConfig{Dim: stages.N(2), Rows: stages.N(4), PerColumn: per, Sparse: true}), nil, 9, 1, ids)
		w := h.env.Params["weight"].Param
		n := 4
		if per {
			n = 12
		}
		if w.T.Shape != tensor.Of(n, 2) {
			t.Fatalf("the weight is %v, want (%d,2)", w.T.Shape, n)
		}
		for i := range w.T.F32 {
			w.T.F32[i] = float32(i)
		}
		h.step(1, 0, stages.Train) // ahead of the store
		want := []int32{0, 1, 2, 3, 0, 1}
		if per {
			want = []int32{0, 5, 10, 3, 4, 9}
		}
		if !slices.Equal(h.T("ids").I32, want) {
			t.Fatalf("per_column %v: ids %v, want %v", per, h.T("ids").I32, want)
		}
		y := h.T("y")
		for i, id := range want {
			if y.F32[2*i] != float32(2*id) || y.F32[2*i+1] != float32(2*id+1) {
				t.Fatalf("row %d reads %v", id, y.F32[2*i:2*i+2])
			}
		}
		// Rows that changed after the message was gathered are read again, the others are not.
		before := slices.Clone(y.F32)
		for i := range w.T.F32 {
			w.T.F32[i] += 100
		}
		h.m.Gathered = 3
		w.MarkRows([]int32{want[1]}, 4)
		w.MarkRows([]int32{want[2]}, 3)
		if err := h.stage.(stages.Finisher).Finish(h.m); err != nil {
			t.Fatal(err)
		}
		for i, id := range want {
			add := float32(0)
			if id == want[1] {
				add = 100
			}
			if y.F32[2*i] != before[2*i]+add || y.F32[2*i+1] != before[2*i+1]+add {
				t.Errorf("after Finish row %d is %v, was %v", id, y.F32[2*i:2*i+2], before[2*i:2*i+2])
			}
		}
	}
}

func TestRowsOutsideOfTheTable(t *testing.T) {
	for _, id := range []int32{4, -1, math.MaxInt32, math.MinInt32} {
		ids := tensor.FromI32(tensor.Of(2, 2), []int32{0, 1, 2, id})
		h := newHarness(t, "rows", with(RowsConfig{Dim: stages.N(2), Rows: stages.N(4)}), nil, 9, 1, ids)
		h.m.Head = stages.Head{Parts: 1, Rows: 2, Count: 2}
		err := h.stage.Process(context.Background(), h.m, &h.out)
		var f stages.Finding
		if !errors.As(err, &f) || !strings.Contains(f.Msg, "step 1, example 2, column 2") || f.Fix == "" || h.out.n != 0 {
			t.Errorf("id %d: error %v", id, err)
		}
	}
}

func TestCells(t *testing.T) {
	at := func(s string) weights.Coord {
		c, err := weights.ParseCoord(s)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	cfg := with(CellsConfig{Read: []Cell{{Name: "q", At: at("1.1.1/1.1.1/1.1.2"), Value: 3}, {Name: "k", At: at("2.1.1/1.1.1/1.1.1"), Value: 7}}})
	h := newHarness(t, "cells", cfg, nil, 9, 2)
	for _, p := range stages.Find("cells").Contract(&CellsConfig{Read: []Cell{{Name: "q", Value: 3}}}).Params {
		if in := p.Init(nil); !p.Frozen || in != (stages.Init{Kind: "constant", Value: 3}) {
			t.Errorf("cell q is %+v, starts as %+v", p, in)
		}
	}
	q := h.env.Store.At(at("1.1.1/1.1.1/1.1.2"))
	if q == nil || q.Name != "q" {
		t.Fatalf("at q's home is %v", q)
	}
	q.T.F32[0] = 3
	h.env.Store.Get("k").T.F32[0] = 7
	if got, want := h.step(0, 1, stages.Train), "first 1 rows 1 count 2 targets 0 k(1)=[7][] q(1)=[3][]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	q.T.F32[0] = 4
	if err := h.stage.(stages.Finisher).Finish(h.m); err != nil {
		t.Fatal(err)
	}
	if got := h.T("q").F32[0]; got != 4 {
		t.Errorf("after Finish q is %v, want 4", got)
	}
	// Behind a stage that has counted its examples, cells count none.
	h.m.Head = stages.Head{Parts: 2, First: 5, Rows: 4, Count: 9}
	if err := h.stage.Process(context.Background(), h.m, &h.out); err != nil || h.m.First != 5 || h.m.Rows != 4 || h.m.Count != 9 {
		t.Errorf("first %d, rows %d, count %d, error %v", h.m.First, h.m.Rows, h.m.Count, err)
	}
}
