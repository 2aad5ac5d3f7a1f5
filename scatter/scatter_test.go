package scatter

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

type sink struct{ got []*stages.Message }

func (s *sink) Send(m *stages.Message) error {
	s.got = append(s.got, m)
	return nil
}

func newEnv(t *testing.T) (stages.Env, *stages.ParamBinding) {
	t.Helper()
	store := weights.NewStore()
	w, err := store.Add("dense.weight", weights.Weight, tensor.F32, tensor.Of(3), weights.Coord{})
	if err != nil {
		t.Fatal(err)
	}
	p := &stages.ParamBinding{Param: w}
	return stages.Env{Name: "s", Store: store, All: []*stages.ParamBinding{p}}, p
}

func make1[C any](t *testing.T, env stages.Env, name string, change func(*C)) stages.Stage {
	t.Helper()
	def := stages.Find(name)
	cfg := def.NewConfig()
	if change != nil {
		change(cfg.(*C))
	}
	s, err := def.New(env, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// walk sends a message of that step through and wants it back.
func walk(t *testing.T, s stages.Stage, m *stages.Message) {
	t.Helper()
	var out sink
	if err := s.Process(context.Background(), m, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.got) != 1 || out.got[0] != m {
		t.Fatalf("sent %v, want the message once", out.got)
	}
}

func at(step int64) *stages.Message { return &stages.Message{Head: stages.Head{Step: step}} }

func TestCommitCountsEveryStep(t *testing.T) {
	env, _ := newEnv(t)
	env.Store.SetVersion(4)
	s := make1[CommitConfig](t, env, "commit", nil)
	walk(t, s, at(4))
	held := at(5)
	held.Skip = true
	walk(t, s, held)
	if v := env.Store.Version(); v != 6 {
		t.Errorf("version %d after 4 and two steps", v)
	}
}

func TestCheckpointAsksOnItsSteps(t *testing.T) {
	env, _ := newEnv(t)
	var asked []int64
	var now int64
	env.Checkpoint = func() { asked = append(asked, now) }
	s := make1(t, env, "checkpoint", func(c *CheckpointConfig) { c.Every = 3 })
	for now = range int64(10) {
		walk(t, s, at(now))
	}
	if !slices.Equal(asked, []int64{2, 5, 8}) { // after the third step, counted from 0, and so on
		t.Errorf("asked in the steps %v", asked)
	}
	env.Checkpoint = nil // nowhere to save to
	walk(t, make1(t, env, "checkpoint", func(c *CheckpointConfig) { c.Every = 1 }), at(0))
	if d := stages.Find("checkpoint").NewConfig().(*CheckpointConfig); d.Every != 100 {
		t.Errorf("by default every %d steps", d.Every)
	}
}

func TestEMAAgainstFloat64(t *testing.T) {
	env, p := newEnv(t)
	s := make1(t, env, "ema", func(c *EMAConfig) { c.Decay = 0.9 })
	avg := env.Store.Get("dense.weight/s/average")
	if avg == nil || avg.Kind != weights.State {
		t.Fatalf("the average is %+v, want state of its own", avg)
	}
	want := make([]float64, 3)
	for step := range int64(30) {
		for i := range p.T.F32 {
			p.T.F32[i] = float32(math.Sin(float64(step)*0.7 + float64(i)))
			if step == 0 {
				want[i] = float64(p.T.F32[i])
			} else {
				want[i] = 0.9*want[i] + (1-0.9)*float64(p.T.F32[i])
			}
		}
		before := slices.Clone(p.T.F32)
		walk(t, s, at(step))
		if !slices.Equal(before, p.T.F32) {
			t.Fatal("the weights changed")
		}
		for i, got := range avg.T.F32 {
			if math.Abs(float64(got)-want[i]) > 1e-6 {
				t.Fatalf("step %d: average %d is %v, want %v", step, i, got, want[i])
			}
		}
	}
	if n := testing.AllocsPerRun(10, func() { _ = s.Process(context.Background(), at(1), nowhere{}) }); n > 1 { // the message of at
		t.Errorf("%v allocations a step", n)
	}
	// The stage made anew on a store that was read back goes on with the average.
	again := make1(t, env, "ema", func(c *EMAConfig) { c.Decay = 0.9 })
	walk(t, again, at(30))
	if env.Store.Get("dense.weight/s/average") != avg {
		t.Error("the average was begun anew")
	}
}

type nowhere struct{}

func (nowhere) Send(*stages.Message) error { return nil }

func TestWriteCell(t *testing.T) {
	env, _ := newEnv(t)
	cell, err := env.Store.Add("s.cell", weights.Weight, tensor.F32, tensor.Of(1), weights.Coord{})
	if err != nil {
		t.Fatal(err)
	}
	var l stages.Layout
	x := l.AddData(stages.SlotInfo{Name: "x", Shape: tensor.Of(1, 1)})
	env.Ports = map[string]stages.Binding{"x": {Slot: x, Shape: tensor.Of(1, 1)}}
	env.Params = map[string]*stages.ParamBinding{"cell": {Param: cell}}
	s := make1[WriteCellConfig](t, env, "write_cell", nil)
	m := l.NewMessage()
	m.Step = 6
	m.T(x).F32[0] = 42
	walk(t, s, m)
	if cell.T.F32[0] != 42 || cell.Writer() != "s" || !cell.Changed(0, 6) || cell.Changed(0, 7) {
		t.Errorf("the cell holds %v, its writer is %q", cell.T.F32[0], cell.Writer())
	}
	m.T(x).Resize(tensor.Of(0, 1)) // a part that got no example
	m.Step = 7
	walk(t, s, m)
	if cell.T.F32[0] != 42 || cell.Changed(0, 7) {
		t.Errorf("a message without rows wrote %v", cell.T.F32[0])
	}

	env.Name = "other"
	if _, err := stages.Find("write_cell").New(env, stages.Find("write_cell").NewConfig()); err == nil || !strings.Contains(err.Error(), "one writer a weight") {
		t.Errorf("two writers of a cell: %v", err)
	}
	cfg := stages.Find("write_cell").NewConfig().(*WriteCellConfig)
	cfg.At = weights.Origin()
	c := stages.Find("write_cell").Contract(cfg)
	if _, err := c.Bind(nil, []tensor.Shape{tensor.Of(1, 1, 1)}); err != nil {
		t.Error(err)
	}
	if _, err := c.Bind(nil, []tensor.Shape{tensor.Of(2)}); err == nil || !strings.Contains(err.Error(), "one number fits into a cell, the input has shape (2)") {
		t.Errorf("two numbers for a cell: %v", err)
	}
}
