package update

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// A rig has parameters in the care of one optimizer.
type rig struct {
	tb     testing.TB
	env    stages.Env
	layout stages.Layout
	m      *stages.Message
}

func newRig(tb testing.TB) *rig {
	return &rig{tb: tb, env: stages.Env{Name: "opt", Store: weights.NewStore(), Parts: 1, Steps: 40}}
}

// add makes a parameter; rows is the number of rows of its sparse gradient at most, 0 for a dense one.
func (r *rig) add(name string, rows int, dims ...int) *stages.ParamBinding {
	r.tb.Helper()
	w, err := r.env.Store.Add(name, weights.Weight, tensor.F32, tensor.Of(dims...), weights.Coord{})
	if err != nil {
		r.tb.Fatal(err)
	}
	p := &stages.ParamBinding{Param: w, HasGrad: true, Decay: len(dims) > 1, Grad: r.layout.AddBody(stages.SlotInfo{Name: "d " + name, Shape: w.T.Shape})}
	if rows > 0 {
		p.Sparse = true
		p.IDs = r.layout.AddBody(stages.SlotInfo{Name: "ids of d " + name, DType: tensor.I32, Shape: tensor.Of(rows)})
	}
	r.env.All = append(r.env.All, p)
	return p
}

// stage makes the optimizer: change sets its config.
func stage[C any](r *rig, name string, change func(*C)) stages.Stage {
	r.tb.Helper()
	def := stages.Find(name)
	cfg := def.NewConfig()
	if change != nil {
		change(cfg.(*C))
	}
	if err := def.Check(cfg); err != nil {
		r.tb.Fatal(err)
	}
	s, err := def.New(r.env, cfg)
	if err != nil {
		r.tb.Fatal(err)
	}
	return s
}

// message is the one that the rig's steps walk in.
func (r *rig) message() *stages.Message {
	if r.m == nil {
		r.m = r.layout.NewMessage()
		r.m.Attach(r.layout.NewBody())
	}
	return r.m
}

type nowhere struct{}

func (nowhere) Send(*stages.Message) error { return nil }

// step runs the optimizer on the gradients in the message.
func (r *rig) step(s stages.Stage, step int64) {
	r.tb.Helper()
	r.message().Step = step
	if err := s.Process(context.Background(), r.m, nowhere{}); err != nil {
		r.tb.Fatal(err)
	}
}

// first and grad are those of bench/optimizers.py: exact in float32.
func first(i int) float32 { return float32((i*37)%23-11) / 8 }

func grad(t, i int) float32 {
	g := float32((t*31+i*17)%29-14) / 16
	if i%3 == 0 {
		g += 1.0 / 64
	}
	return g
}

// makers give each case of bench/optimizers.py the same settings.
var makers = map[string]func(*rig) stages.Stage{
	"sgd": func(r *rig) stages.Stage { return stage(r, "sgd", func(c *SGDConfig) { c.LR = 0.1 }) },
	"sgd, weight decay": func(r *rig) stages.Stage {
		return stage(r, "sgd", func(c *SGDConfig) { c.LR, c.WeightDecay = 0.1, 0.05 })
	},
	"sgd, momentum": func(r *rig) stages.Stage { return stage(r, "sgd", func(c *SGDConfig) { c.LR, c.Momentum = 0.1, 0.9 }) },
	"sgd, momentum, dampening": func(r *rig) stages.Stage {
		return stage(r, "sgd", func(c *SGDConfig) { c.LR, c.Momentum, c.Dampening = 0.1, 0.8, 0.25 })
	},
	"sgd, nesterov, weight decay": func(r *rig) stages.Stage {
		return stage(r, "sgd", func(c *SGDConfig) { c.LR, c.Momentum, c.Nesterov, c.WeightDecay = 0.1, 0.9, true, 0.05 })
	},
	"adam": func(r *rig) stages.Stage { return stage(r, "adam", func(c *AdamConfig) { c.LR = 0.01 }) },
	"adam, weight decay": func(r *rig) stages.Stage {
		return stage(r, "adam", func(c *AdamConfig) { c.LR, c.Betas, c.Eps, c.WeightDecay = 0.01, []float64{0.85, 0.99}, 1e-6, 0.11 })
	},
	"adamw": func(r *rig) stages.Stage {
		return stage(r, "adamw", func(c *AdamConfig) { c.LR, c.Betas, c.WeightDecay, c.Decay = 0.01, []float64{0.9, 0.99}, 0.1, "all" })
	},
	"adagrad": func(r *rig) stages.Stage { return stage(r, "adagrad", func(c *AdagradConfig) { c.LR = 0.1 }) },
	"adagrad, weight decay": func(r *rig) stages.Stage {
		return stage(r, "adagrad", func(c *AdagradConfig) { c.LR, c.WeightDecay, c.Eps = 0.1, 0.05, 1e-3 })
	},
	"rmsprop": func(r *rig) stages.Stage { return stage(r, "rmsprop", func(c *RMSPropConfig) { c.LR = 0.01 }) },
	"rmsprop, momentum, weight decay": func(r *rig) stages.Stage {
		return stage(r, "rmsprop", func(c *RMSPropConfig) { c.LR, c.Alpha, c.Eps, c.Momentum, c.WeightDecay = 0.01, 0.9, 1e-4, 0.5, 0.05 })
	},
	"lion": func(r *rig) stages.Stage { return stage(r, "lion", func(c *LionConfig) { c.LR = 0.01 }) },
	"lion, weight decay": func(r *rig) stages.Stage {
		return stage(r, "lion", func(c *LionConfig) { c.LR, c.Betas, c.WeightDecay, c.Decay = 0.01, []float64{0.8, 0.95}, 0.1, "all" })
	},
}

type pinned struct {
	Torch   string                          `json:"torch"`
	Weights map[string]map[string][]float64 `json:"weights"`
	Rates   map[string][]float64            `json:"rates"`
}

func pytorch(t *testing.T) (p pinned) {
	b, err := os.ReadFile("testdata/pytorch.json")
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOptimizersAgreeWithPyTorch(t *testing.T) {
	p := pytorch(t)
	if got, want := slices.Sorted(maps.Keys(makers)), slices.Sorted(maps.Keys(p.Weights)); !slices.Equal(got, want) {
		t.Fatalf("cases %q, PyTorch has %q", got, want)
	}
	for name, after := range p.Weights {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w := r.add("w", 0, 3, 4)
			for i := range w.T.F32 {
				w.T.F32[i] = first(i)
			}
			s := makers[name](r)
			for k := range 20 {
				g := r.message().T(w.Grad).F32
				for i := range g {
					g[i] = grad(k, i)
				}
				r.step(s, int64(k))
				for i, want := range after[strconv.Itoa(k+1)] {
					if got := float64(w.T.F32[i]); math.Abs(got-want) > 4e-6*(1+math.Abs(want)) {
						t.Errorf("step %d, weight %d: %v, PyTorch %s has %v", k+1, i, got, p.Torch, want)
					}
				}
			}
		})
	}
}

func TestSchedulesAgreeWithPyTorch(t *testing.T) {
	p := pytorch(t)
	for name, s := range map[string]Schedule{
		"linear to 0":   {Linear: &LinearSchedule{}},
		"linear to 0.1": {Linear: &LinearSchedule{End: 0.1}},
		"cosine to 0.1": {Cosine: &CosineSchedule{Min: 0.1}},
		"step 7 by 0.5": {Step: &StepSchedule{Every: 7, By: 0.5}},
	} {
		if len(p.Rates[name]) != 40 {
			t.Fatalf("%s: PyTorch has %d rates", name, len(p.Rates[name]))
		}
		for k, want := range p.Rates[name] {
			if got := s.rate(0.5, int64(k), 40); math.Abs(got-want) > 1e-12 {
				t.Errorf("%s, step %d: rate %v, PyTorch %s has %v", name, k, got, p.Torch, want)
			}
		}
	}
}

func TestSchedules(t *testing.T) {
	for k := range int64(50) { // nanoGPT's get_lr, with math.Cos
		want := 0.1
		switch {
		case k < 10:
			want = 1 * float64(k+1) / 11
		case k <= 40:
			want = 0.1 + 0.5*(1+math.Cos(math.Pi*float64(k-10)/30))*0.9
		}
		s := Schedule{Cosine: &CosineSchedule{Warmup: 10, Min: 0.1}}
		if got := s.rate(1, k, 40); math.Abs(got-want) > 1e-12 {
			t.Errorf("cosine, step %d: %v, want %v", k, got, want)
		}
		want = float64(k+1) / 11
		if k >= 10 {
			want = max(1-float64(k-10)/30, 0)
		}
		if got := (Schedule{Linear: &LinearSchedule{Warmup: 10}}).rate(1, k, 40); math.Abs(got-want) > 1e-12 {
			t.Errorf("linear, step %d: %v, want %v", k, got, want)
		}
		for _, s := range []Schedule{{}, {Constant: &ConstantSchedule{}}} {
			if got := s.rate(0.3, k, 40); got != 0.3 {
				t.Errorf("constant, step %d: %v", k, got)
			}
		}
	}
	if got := (Schedule{Step: &StepSchedule{Every: 10}}).rate(1, 25, 40); math.Abs(got-0.01) > 1e-15 {
		t.Errorf("a step schedule without a factor gives %v, want 0.01", got)
	}
	if got := (Schedule{Linear: &LinearSchedule{Warmup: 9}}).rate(1, 9, 5); got != 1 {
		t.Errorf("a warm-up beyond the run: %v", got)
	}
	if err := (Schedule{Linear: &LinearSchedule{}, Step: &StepSchedule{Every: 1}}).check(); err == nil || !strings.Contains(err.Error(), "2 kinds are given") {
		t.Errorf("two schedules at once: %v", err)
	}
	for i := range 2001 {
		if x := float64(i) / 2000; math.Abs(cosPi(x)-math.Cos(math.Pi*x)) > 5e-16 {
			t.Errorf("cosPi(%v) = %v, want %v", x, cosPi(x), math.Cos(math.Pi*x))
		}
	}
}

// The rate of the schedule reaches the weights, scaled for the groups.
func TestGroupsAndDecay(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"embed.weight", "h0.dense.weight", "h0.dense.bias", "h1.dense.weight"} {
		dims := []int{2, 2}
		if strings.HasSuffix(name, "bias") {
			dims = dims[:1]
		}
		for i := range r.add(name, 0, dims...).T.F32 {
			r.env.All[len(r.env.All)-1].T.F32[i] = 1
		}
	}
	rate, none := 0.5, 0.0
	s := stage(r, "sgd", func(c *SGDConfig) {
		c.LR, c.WeightDecay, c.Decay, c.Schedule = 0.25, 0.5, "matrices", Schedule{Step: &StepSchedule{Every: 1, By: 0.5}}
		c.Groups = []Group{{Match: "h?.*", LR: &rate}, {Match: "h1.dense.*", WeightDecay: &none}}
	})
	for _, p := range r.env.All {
		for i := range r.message().T(p.Grad).F32 {
			r.m.T(p.Grad).F32[i] = 1
		}
	}
	r.step(s, 1) // the second step: half of each rate
	for name, want := range map[string]float32{
		"embed.weight":    1 - 0.125*1.5, // decays
		"h0.dense.weight": 1 - 0.25*1.5,
		"h0.dense.bias":   1 - 0.25, // a vector does not decay
		"h1.dense.weight": 1 - 0.25, // the later group
	} {
		for i, got := range r.env.Store.Get(name).T.F32 {
			if got != want {
				t.Errorf("%s[%d] = %v, want %v", name, i, got, want)
			}
		}
	}

	r = newRig(t)
	r.add("a", 0, 2)
	cfg := &SGDConfig{LR: 1, Decay: "all", Groups: []Group{{Match: "b*"}}}
	if _, err := stages.Find("sgd").New(r.env, cfg); err == nil || !strings.Contains(err.Error(), `match "b*" fits no weight; there are a`) {
		t.Errorf("a group that fits nothing: %v", err)
	}
	cfg.Groups[0].Match = "["
	if _, err := stages.Find("sgd").New(newEnv(t), cfg); err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("a group that can't be read: %v", err)
	}
}

func newEnv(t *testing.T) stages.Env {
	r := newRig(t)
	r.add("a", 0, 2)
	return r.env
}

func TestWrongConfigs(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  any
		want string
	}{
		{"sgd", &SGDConfig{LR: 1, Nesterov: true}, "nesterov needs a momentum"},
		{"sgd", &SGDConfig{LR: 1, Nesterov: true, Momentum: 0.9, Dampening: 0.1}, "nesterov needs a momentum"},
		{"adam", &AdamConfig{LR: 1, Betas: []float64{0.9}}, "want two numbers, got 1"},
		{"lion", &LionConfig{LR: 1}, "want two numbers, got 0"},
		{"adagrad", &AdagradConfig{LR: 1, Schedule: Schedule{Linear: &LinearSchedule{}, Cosine: &CosineSchedule{}}}, "2 kinds are given"},
	} {
		if err := stages.Find(c.name).Check(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: %v, want %s", c.name, c.cfg, err, c.want)
		}
	}
	env := newEnv(t)
	if _, err := stages.Find("sgd").New(env, &SGDConfig{LR: 1}); err != nil {
		t.Fatal(err)
	}
	env.Name = "other"
	if _, err := stages.Find("sgd").New(env, &SGDConfig{LR: 1}); err == nil || !strings.Contains(err.Error(), "one writer a weight") {
		t.Errorf("two writers: %v", err)
	}
}

// all makes each optimizer with everything that it has.
var all = map[string]func(*rig) stages.Stage{
	"sgd":     makers["sgd, nesterov, weight decay"],
	"plain":   makers["sgd"],
	"decayed": makers["sgd, weight decay"],
	"adam":    makers["adam, weight decay"],
	"adamw":   makers["adamw"],
	"adagrad": makers["adagrad, weight decay"],
	"rmsprop": makers["rmsprop, momentum, weight decay"],
	"lion":    makers["lion, weight decay"],
}

// A held-back step changes nothing, and the optimizer does not count it.
func TestASkippedStepChangesNothing(t *testing.T) {
	for name, mk := range all {
		r := newRig(t)
		p := r.add("w", 0, 5)
		p.T.F32[2] = 3
		s := mk(r)
		r.message().T(p.Grad).F32[1] = 1
		r.step(s, 0)
		w, st := r.env.Store.Hashes()
		r.m.Skip = true
		r.step(s, 1)
		if w2, st2 := r.env.Store.Hashes(); w2 != w || st2 != st || p.Changed(0, 1) {
			t.Errorf("%s: a step that is held back changes something", name)
		}
	}
}

// A sparse gradient with all rows does what a dense one does, to the bit; with some rows it leaves the others and their state alone.
func TestSparseGradientsTouchTheirRowsAlone(t *testing.T) {
	const rows, dim = 40, 3
	for name, mk := range all {
		d, s := newRig(t), newRig(t)
		pd, ps := d.add("table", 0, rows, dim), s.add("table", rows, rows, dim)
		ps.LedgerRows()
		for i := range pd.T.F32 {
			pd.T.F32[i], ps.T.F32[i] = first(i), first(i)
		}
		od, os := mk(d), mk(s)
		give := func(step int, ids []int32) {
			t.Helper()
			g := s.message().T(ps.Grad)
			g.Resize(tensor.Of(len(ids), dim))
			s.m.T(ps.IDs).Resize(tensor.Of(len(ids)))
			copy(s.m.T(ps.IDs).I32, ids)
			for r, id := range ids {
				for c := range dim {
					g.F32[r*dim+c] = grad(step, int(id)*dim+c)
				}
			}
			s.step(os, int64(step))
		}
		every := make([]int32, rows)
		for i := range every {
			every[i] = int32(i)
		}
		for step := range 3 {
			for i := range d.message().T(pd.Grad).F32 {
				d.m.T(pd.Grad).F32[i] = grad(step, i)
			}
			d.step(od, int64(step))
			give(step, every)
		}
		wd, sd := d.env.Store.Hashes()
		ws, ss := s.env.Store.Hashes()
		if wd != ws || sd != ss {
			t.Errorf("%s: all rows sparse differ from dense", name)
		}
		before := map[string][]float32{}
		for _, k := range []weights.Kind{weights.Weight, weights.State} {
			for _, p := range s.env.Store.All(k) {
				before[p.Name] = slices.Clone(p.T.F32)
			}
		}
		give(3, []int32{7, 12, 39})
		for n, was := range before {
			now := s.env.Store.Get(n).T.F32
			for i := range was {
				row := i / dim
				if touched := row == 7 || row == 12 || row == 39; !touched && math.Float32bits(now[i]) != math.Float32bits(was[i]) {
					t.Errorf("%s: %s[%d] of a row without a gradient changed", name, n, i)
				}
			}
		}
		if slices.Equal(before["table"][7*dim:8*dim], ps.T.F32[7*dim:8*dim]) {
			t.Errorf("%s: row 7 did not change", name)
		}
		if !ps.Changed(7, 3) || ps.Changed(8, 3) {
			t.Errorf("%s: the ledger says that row 7 changed: %v, row 8: %v", name, ps.Changed(7, 3), ps.Changed(8, 3))
		}
		give(4, nil) // no row at all
	}
}

// Idle lanes may share an update: the bits stay.
func TestATeamChangesNoBit(t *testing.T) {
	for name, mk := range all {
		var want string
		for lanes := 1; lanes <= 3; lanes++ {
			r := newRig(t)
			var team *stages.Team
			team = stages.NewTeam(lanes, func() {
				var wg sync.WaitGroup
				for l := range lanes {
					wg.Go(func() { team.Part(l) })
				}
				wg.Wait()
			})
			team.Ready(true)
			r.env.Team = team
			for i, n := range []int{9000, 7, 20011} {
				p := r.add(fmt.Sprint("w", i), 0, n)
				for j := range p.T.F32 {
					p.T.F32[j] = first(j)
				}
			}
			s := mk(r)
			for step := range 3 {
				for _, p := range r.env.All {
					for j := range r.message().T(p.Grad).F32 {
						r.m.T(p.Grad).F32[j] = grad(step, j)
					}
				}
				r.step(s, int64(step))
			}
			w, st := r.env.Store.Hashes()
			if got := w + st; want == "" {
				want = got
			} else if got != want {
				t.Errorf("%s: %d lanes give other bits than one", name, lanes)
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	for name, mk := range all {
		r := newRig(t)
		r.add("w", 0, 100)
		r.add("table", 10, 20, 4)
		s := mk(r)
		m := r.message()
		m.T(r.env.All[1].IDs).Resize(tensor.Of(2))
		copy(m.T(r.env.All[1].IDs).I32, []int32{3, 9})
		m.T(r.env.All[1].Grad).Resize(tensor.Of(2, 4))
		if n := testing.AllocsPerRun(20, func() { r.step(s, 1) }); n != 0 {
			t.Errorf("%s: %v allocations a step", name, n)
		}
	}
}
