package backward_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"vtpu/backward"
	"vtpu/stages"
	"vtpu/stages/rng"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// A rig has parameters with gradients in the care of a stage: a matrix, a vector, and where sparse is set a table with a sparse gradient.
type rig struct {
	t      *testing.T
	env    stages.Env
	layout stages.Layout
}

var tableRows, tableDim = 40, 3

func newRig(t *testing.T, sparse bool) *rig {
	r := &rig{t: t, env: stages.Env{Name: "stage", Store: weights.NewStore(), Parts: 3}}
	add := func(name string, dims ...int) *stages.ParamBinding {
		w, err := r.env.Store.Add(name, weights.Weight, tensor.F32, tensor.Of(dims...), weights.Coord{})
		if err != nil {
			t.Fatal(err)
		}
		p := &stages.ParamBinding{Param: w, HasGrad: true}
		r.env.All = append(r.env.All, p)
		return p
	}
	for _, p := range []*stages.ParamBinding{add("a", 10, 7), add("b", 5)} {
		p.Grad = r.layout.AddBody(stages.SlotInfo{Name: "d " + p.Name, Shape: p.T.Shape})
	}
	if sparse {
		p := add("c", tableRows, tableDim)
		p.Sparse = true
		p.Grad = r.layout.AddBody(stages.SlotInfo{Name: "d c", Shape: p.T.Shape})
		p.IDs = r.layout.AddBody(stages.SlotInfo{Name: "ids of d c", DType: tensor.I32, Shape: tensor.Of(tableRows)})
	}
	return r
}

// message makes gradients that depend on the seed; a sparse one has about half of the rows.
func (r *rig) message(seed uint64) *stages.Message {
	m := r.layout.NewMessage()
	m.Attach(r.layout.NewBody())
	r.fill(m, seed)
	return m
}

func (r *rig) fill(m *stages.Message, seed uint64) {
	for k, p := range r.env.All {
		s := rng.New(seed, uint32(k))
		g := m.T(p.Grad)
		if p.Sparse {
			ids := m.T(p.IDs)
			ids.Resize(tensor.Of(tableRows))
			n := 0
			for id := range tableRows {
				if s.Uniform(1, uint32(id)) < 0.5 {
					ids.I32[n] = int32(id)
					n++
				}
			}
			ids.Resize(tensor.Of(n))
			g.Resize(tensor.Of(n, tableDim))
		}
		for i := range g.F32 {
			g.F32[i] = float32(s.Normal(0, uint32(i)))
		}
	}
}

// dense is a gradient with the shape of its parameter.
func dense(m *stages.Message, p *stages.ParamBinding) []float32 {
	g := m.T(p.Grad).F32
	if !p.Sparse {
		return slices.Clone(g)
	}
	d := p.T.Shape.Last()
	full := make([]float32, p.T.Len())
	for r, id := range m.T(p.IDs).I32 {
		copy(full[int(id)*d:], g[r*d:r*d+d])
	}
	return full
}

func (r *rig) stage(name string, cfg any) stages.Stage {
	r.t.Helper()
	s, err := r.make(name, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// make makes a stage; cfg nil is the default.
func (r *rig) make(name string, cfg any) (stages.Stage, error) {
	def := stages.Find(name)
	if cfg == nil {
		cfg = def.NewConfig()
	}
	return def.New(r.env, cfg)
}

type sink struct{ got []*stages.Message }

func (s *sink) Send(m *stages.Message) error {
	s.got = append(s.got, m)
	return nil
}

// step gives one message to a stage, which must send it on.
func (r *rig) step(s stages.Stage, m *stages.Message) {
	r.t.Helper()
	var o sink
	if err := s.Process(context.Background(), m, &o); err != nil {
		r.t.Fatal(err)
	}
	if len(o.got) != 1 || o.got[0] != m {
		r.t.Fatalf("%d messages were sent, want the one that came", len(o.got))
	}
}

func TestReduceSumsPartsInTheirOrder(t *testing.T) {
	r := newRig(t, true)
	s := r.stage("reduce", nil)
	for step := range int64(3) { // state must not leak from step to step
		var ms []*stages.Message
		want := make([][]float32, len(r.env.All))
		present := map[int32]bool{}
		for part := range int32(3) {
			m := r.message(uint64(100*step + int64(part)))
			m.Head = stages.Head{Step: step, Part: part, Parts: 3, Rows: 4 + int(part), Loss: 0.25, Hits: int64(part), Seen: 5}
			for k, p := range r.env.All {
				g := dense(m, p)
				if want[k] == nil {
					want[k] = g
				} else {
					for i := range g {
						want[k][i] += g[i] // ((part 0 + part 1) + part 2), in float32
					}
				}
			}
			for _, id := range m.T(r.env.All[2].IDs).I32 {
				present[id] = true
			}
			ms = append(ms, m)
		}
		var o sink
		for i, m := range ms {
			if err := s.Process(context.Background(), m, &o); err != nil {
				t.Fatal(err)
			}
			if wantSent := i / 2; len(o.got) != wantSent {
				t.Fatalf("after part %d, %d messages were sent, want %d", i, len(o.got), wantSent)
			}
			absorbed := s.(*backward.Reduce).Absorbed()
			if i == 0 && len(absorbed) != 0 || i > 0 && (len(absorbed) != 1 || absorbed[0] != m) {
				t.Fatalf("part %d: %d messages were handed back", i, len(absorbed))
			}
		}
		m := o.got[0]
		if m != ms[0] {
			t.Fatal("the sum is not in the message of part 0")
		}
		if m.Loss != 0.75 || m.Hits != 3 || m.Seen != 15 || m.Rows != 15 {
			t.Errorf("head %+v", m.Head)
		}
		for k, p := range r.env.All {
			if got := dense(m, p); !slices.Equal(got, want[k]) {
				t.Errorf("step %d: gradient of %s is not the sum of its parts in their order", step, p.Name)
			}
		}
		ids := m.T(r.env.All[2].IDs).I32
		if len(ids) != len(present) || !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Errorf("ids %v, want the %d that occur, ascending", ids, len(present))
		}
	}
}

func TestReduceRefusesAnotherOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		heads []stages.Head
		want  string
	}{
		{"part 1 first", []stages.Head{{Step: 11, Part: 1}}, "part 1 of step 12 arrived, part 0 is due"},
		{"part left out", []stages.Head{{Step: 11}, {Step: 11, Part: 2}}, "part 2 of step 12 arrived, part 1 is due"},
		{"part of the next step", []stages.Head{{Step: 11}, {Step: 12, Part: 1}}, "part 1 of step 13 arrived, part 1 of step 12 is due"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			s := r.stage("reduce", nil)
			var o sink
			var err error
			for i, h := range c.heads {
				m := r.message(uint64(i))
				m.Head = h
				if err = s.Process(context.Background(), m, &o); err != nil && i < len(c.heads)-1 {
					t.Fatal(err)
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if len(o.got) != 0 {
				t.Error("a sum was sent")
			}
		})
	}
}

// What is not finite in any part, or becomes so in the sum, is found by the guard behind the reduction; the reduction looks first.
func TestGuardBehindReduce(t *testing.T) {
	for bad := range 5 {
		r := newRig(t, true)
		s, g := r.stage("reduce", nil), r.stage("guard", nil)
		var o, end sink
		for part := range int32(3) {
			m := r.message(uint64(part))
			m.Head = stages.Head{Part: part, Parts: 3}
			x := m.T(r.env.All[0].Grad).F32
			switch {
			case bad == int(part):
				x[11] = float32(math.NaN())
			case bad == 3:
				x[11] = math.MaxFloat32
			}
			if err := s.Process(context.Background(), m, &o); err != nil {
				t.Fatal(err)
			}
		}
		if fine := bad == 4; o.got[0].Finite != fine {
			t.Errorf("case %d: finite %v", bad, !fine)
		}
		err := g.Process(context.Background(), o.got[0], &end)
		var f stages.Finding
		if bad == 4 {
			if err != nil {
				t.Error(err)
			}
		} else if !errors.As(err, &f) || !strings.HasPrefix(f.Msg, "the gradient of a is ") {
			t.Errorf("case %d: error %v", bad, err)
		}
	}
}

func TestReduceOfOnePart(t *testing.T) {
	r := newRig(t, true)
	r.env.Parts = 1
	m := r.message(1)
	before := dense(m, r.env.All[0])
	r.step(r.stage("reduce", nil), m)
	if !slices.Equal(before, dense(m, r.env.All[0])) {
		t.Error("a single part was changed")
	}
}

func TestGuardNamesWhatIsNotFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for _, c := range []struct {
		name  string
		spoil func(r *rig, m *stages.Message)
		want  string
	}{
		{"fine", func(*rig, *stages.Message) {}, ""},
		{"large but finite", func(r *rig, m *stages.Message) { m.T(r.env.All[0].Grad).F32[3] = math.MaxFloat32 }, ""},
		{"loss NaN", func(_ *rig, m *stages.Message) { m.Loss = math.NaN() }, "the loss is NaN"},
		{"loss Inf", func(_ *rig, m *stages.Message) { m.Loss = math.Inf(1) }, "the loss is +Inf"},
		{"matrix", func(r *rig, m *stages.Message) { m.T(r.env.All[0].Grad).F32[3*7+5] = nan }, "the gradient of a is NaN at (3,5) of (10,7)"},
		{"vector, last", func(r *rig, m *stages.Message) { m.T(r.env.All[1].Grad).F32[4] = inf }, "the gradient of b is -Inf at (4) of (5)"},
		{"sparse: the row's id is named", func(r *rig, m *stages.Message) {
			p := r.env.All[2]
			m.T(p.IDs).I32[2], m.T(p.Grad).F32[2*tableDim+1] = 17, nan
		}, "the gradient of c is NaN at (17,1) of (40,3)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			m := r.message(1)
			c.spoil(r, m)
			var o sink
			err := r.stage("guard", nil).Process(context.Background(), m, &o)
			if c.want == "" {
				if err != nil || len(o.got) != 1 {
					t.Fatalf("error %v, %d messages", err, len(o.got))
				}
				return
			}
			var f stages.Finding
			if !errors.As(err, &f) || f.Msg != c.want || f.Fix == "" {
				t.Errorf("got %v, want %q and how to mend it", err, c.want)
			}
			if len(o.got) != 0 {
				t.Error("the message went on to the update")
			}
		})
		t.Run(c.name+", inside backward", func(t *testing.T) { // the first two by pieces, the table after them
			r := newRig(t, true)
			m := r.message(1)
			c.spoil(r, m)
			g := r.stage("guard", nil).(stages.Piecewise)
			g.Ahead(r.env.All[:2])
			err := g.Open(m)
			for i, p := range r.env.All[:2] {
				for lo := 0; lo < p.T.Len(); lo += 3 {
					err = cmp.Or(err, g.Piece(m, i, lo, min(lo+3, p.T.Len())))
				}
			}
			if err == nil {
				err = g.Process(context.Background(), m, &sink{})
			}
			var f stages.Finding
			if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &f) || f.Msg != c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestClipNorm(t *testing.T) {
	for _, c := range []float64{0.01, 1, 5, 1e9} {
		r := newRig(t, true)
		m := r.message(4)
		var before [][]float32
		var sum float64
		for _, p := range r.env.All {
			g := dense(m, p)
			before = append(before, g)
			for _, v := range g {
				sum += float64(v) * float64(v)
			}
		}
		norm := math.Sqrt(sum)
		r.step(r.stage("clip_norm", &backward.ClipNormConfig{MaxNorm: c}), m)
		by := math.Min(1, c/(norm+1e-6))
		for k, p := range r.env.All {
			for i, v := range dense(m, p) {
				if want := by * float64(before[k][i]); math.Abs(float64(v)-want) > 1e-6*math.Abs(want) {
					t.Fatalf("max_norm %g: element %d of %s is %g, want %g", c, i, p.Name, v, want)
				}
				if norm <= c && v != before[k][i] {
					t.Fatalf("max_norm %g: the norm is %g, yet the gradient changed", c, norm)
				}
			}
		}
	}
}

func TestClipValue(t *testing.T) {
	r := newRig(t, true)
	m := r.message(5)
	before := m.T(r.env.All[0].Grad)
	want := slices.Clone(before.F32)
	clipped := 0
	for i, v := range want {
		if math.Abs(float64(v)) > 0.5 {
			want[i] = float32(math.Copysign(0.5, float64(v)))
			clipped++
		}
	}
	if clipped == 0 || clipped == len(want) {
		t.Fatalf("%d of %d elements are too large: a poor test", clipped, len(want))
	}
	r.step(r.stage("clip_value", &backward.ClipValueConfig{Max: 0.5}), m)
	if !slices.Equal(before.F32, want) {
		t.Error("elements differ from min(max(g, -0.5), 0.5)")
	}
	for _, v := range m.T(r.env.All[2].Grad).F32 {
		if math.Abs(float64(v)) > 0.5 {
			t.Fatalf("sparse gradient: %g is left", v)
		}
	}
}

func TestAccumulate(t *testing.T) {
	// resume makes the stage anew after that many steps, from what is in the store.
	run := func(t *testing.T, resume int64) (updates []string) {
		r := newRig(t, false)
		cfg := &backward.AccumulateConfig{Steps: 3}
		s := r.stage("accumulate", cfg)
		var sum [][]float32
		for step := range int64(6) {
			if step == resume {
				s = r.stage("accumulate", cfg)
			}
			m := r.message(uint64(step))
			m.Step = step
			if step%3 == 0 {
				sum = make([][]float32, len(r.env.All))
			}
			for k, p := range r.env.All {
				g := dense(m, p)
				if sum[k] == nil {
					sum[k] = g
					continue
				}
				for i := range g {
					sum[k][i] += g[i]
				}
			}
			r.step(s, m)
			if m.Skip != (step%3 != 2) {
				t.Errorf("step %d: skip is %v", step, m.Skip)
			}
			if m.Skip {
				continue
			}
			for k, p := range r.env.All {
				g := m.T(p.Grad).F32
				for i, v := range g {
					if want := sum[k][i] * (1 / float32(3)); v != want {
						t.Fatalf("step %d: element %d of %s is %g, the mean of three is %g", step, i, p.Name, v, want)
					}
				}
				updates = append(updates, fmt.Sprint(g))
			}
		}
		if all := r.env.Store.All(weights.State); len(all) != len(r.env.All) || all[0].Name != "a/stage/sum" {
			t.Errorf("the sums are not state of the store: %v", all)
		}
		return updates
	}
	whole := run(t, -1)
	if len(whole) != 4 {
		t.Fatalf("%d gradients came through, want two of two parameters", len(whole))
	}
	for _, at := range []int64{1, 2, 3, 4} {
		if !slices.Equal(run(t, at), whole) {
			t.Errorf("resumed before step %d, other gradients came through", at)
		}
	}
}

func TestAccumulateKeepsASkip(t *testing.T) {
	r := newRig(t, false)
	m := r.message(1)
	m.Skip = true // an accumulation before this one
	r.step(r.stage("accumulate", nil), m)
	if !m.Skip {
		t.Error("the skip of an earlier stage was taken back")
	}
}

func TestAccumulateRefusesSparseGradients(t *testing.T) {
	r := newRig(t, true)
	_, err := r.make("accumulate", nil)
	if err == nil || !strings.Contains(err.Error(), "c has a sparse gradient") || !strings.Contains(err.Error(), "sparse: false") {
		t.Errorf("error %v", err)
	}
}

// After the first steps nothing is allocated, also where the number of sparse rows changes from step to step.
func TestNoAllocation(t *testing.T) {
	for _, name := range []string{"reduce", "guard", "clip_norm", "clip_value", "accumulate", "topk_gradients", "error_feedback"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, name != "accumulate")
			s := r.stage(name, nil)
			ms := []*stages.Message{r.message(1), r.message(2), r.message(3)}
			o := &sink{got: make([]*stages.Message, 0, 8)}
			var box stages.Outbox = o
			ctx := context.Background()
			step := int64(0)
			one := func() {
				for part, m := range ms {
					m.Head = stages.Head{Step: step, Part: int32(part), Parts: 3}
					r.refill(m, uint64(step)*3+uint64(part))
					o.got = o.got[:0]
					if err := s.Process(ctx, m, box); err != nil {
						t.Fatal(err)
					}
					if x, ok := s.(*backward.Reduce); ok {
						x.Absorbed()
					}
				}
				step++
			}
			for range 3 {
				one()
			}
			if n := testing.AllocsPerRun(20, one); n != 0 {
				t.Errorf("%v allocations in a step", n)
			}
		})
	}
}

// refill sets other gradients without an allocation: the rows id = k, k+3, k+6, ...
func (r *rig) refill(m *stages.Message, k uint64) {
	for _, p := range r.env.All {
		g := m.T(p.Grad)
		if p.Sparse {
			ids := m.T(p.IDs)
			ids.Resize(tensor.Of(tableRows))
			n := 0
			for id := int(k % 5); id < tableRows; id += 1 + int(k%4) {
				ids.I32[n] = int32(id)
				n++
			}
			ids.Resize(tensor.Of(n))
			g.Resize(tensor.Of(n, tableDim))
		}
		for i := range g.F32 {
			g.F32[i] = float32(i%7) + float32(k%11)
		}
	}
}
