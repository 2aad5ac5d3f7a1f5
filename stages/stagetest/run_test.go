package stagetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// FaultyConfig says which promise the stage breaks.
type FaultyConfig struct {
	Fault string `yaml:"fault"`
}

func init() {
	stages.MustRegister(stages.Spec[FaultyConfig]{
		Name: "faulty", Room: stages.Compute, Twin: "faulty_backward", Summary: "y = w·x, with a fault on demand.",
		Contract: func(FaultyConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{{Name: "x", Shape: "... C"}}, Out: []stages.Port{{Name: "y", Shape: "... C"}},
				Keep: []stages.Port{{Name: "k", Shape: "... C"}}, Params: []stages.Param{{Name: "w", Shape: "C"}}}
		},
		New: func(env stages.Env, c FaultyConfig) (stages.Stage, error) {
			return &faulty{c.Fault, env.Ports["x"].Slot, env.Ports["y"].Slot, env.Ports["k"].Slot, env.Params["w"].T.F32, env.Seed, 0, nil}, nil
		},
	})
	stages.MustRegister(stages.Spec[FaultyConfig]{
		Name: "faulty_backward", Room: stages.Backward, Summary: "Gradient of faulty.",
		Contract: func(FaultyConfig) stages.Contract { return stages.Contract{Reads: []string{"x"}} },
		New: func(env stages.Env, c FaultyConfig) (stages.Stage, error) {
			return &faultyBackward{c.Fault, env.Ports["x"], env.Ports["y"], env.Ports["k"].Slot, env.Params["w"]}, nil
		},
	})
	stages.MustRegister(stages.Spec[FaultyConfig]{
		Name: "faulty_loss", Room: stages.Loss, Twin: "faulty_loss_backward", Summary: "Mean of x·t, with a fault on demand.",
		Contract: func(FaultyConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{{Name: "x", Shape: "..."}, {Name: "t", Shape: "...", NoGrad: true}}}
		},
		New: func(env stages.Env, c FaultyConfig) (stages.Stage, error) {
			return &faultyLoss{c.Fault, env.Ports["x"].Slot, env.Ports["t"].Slot}, nil
		},
	})
	stages.MustRegister(stages.Spec[FaultyConfig]{
		Name: "faulty_loss_backward", Room: stages.Backward, Summary: "Gradient of faulty_loss.",
		Contract: func(FaultyConfig) stages.Contract { return stages.Contract{Reads: []string{"t"}} },
		New: func(env stages.Env, c FaultyConfig) (stages.Stage, error) {
			return &faultyLossBackward{env.Ports["x"], env.Ports["t"].Slot}, nil
		},
	})
	stages.MustRegister(stages.Spec[FaultyConfig]{
		Name: "faulty_update", Room: stages.Update, Summary: "w = w - g, with a fault on demand.",
		Contract: func(FaultyConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradRead, Replicas: stages.One}
		},
		New: func(env stages.Env, c FaultyConfig) (stages.Stage, error) {
			for _, p := range env.All {
				if p.Sparse {
					return nil, errors.New("no sparse gradients")
				}
				if c.Fault == "claim" {
					continue
				}
				if err := p.Claim(env.Name); err != nil {
					return nil, err
				}
			}
			return &faultyUpdate{c.Fault, env.All, 0}, nil
		},
	})
}

type faulty struct {
	fault   string
	x, y, k stages.Slot
	w       []float32
	seed    uint64
	calls   int
	kept    []float32
}

func (s *faulty) Process(ctx context.Context, m *stages.Message, out stages.Outbox) error {
	x, y, k := m.T(s.x), m.T(s.y), m.T(s.k)
	if s.fault != "shape" {
		y.Resize(x.Shape)
	}
	k.Resize(x.Shape)
	for i, v := range x.F32 {
		y.F32[i] = v * s.w[i%len(s.w)]
		k.F32[i] = v
	}
	s.calls++
	switch s.fault {
	case "unwritten":
		if n := len(y.F32); n > 0 {
			y.F32[n-1] = x.F32[n-1] / 0 * 0
		}
	case "input":
		clear(x.F32)
	case "parameter":
		s.w[0]++
	case "bystander":
		clear(m.T(0).F32)
	case "value":
		if len(y.F32) > 2 {
			y.F32[2] += 1e-3
		}
	case "counts":
		if len(y.F32) > 0 {
			y.F32[0] += float32(s.calls)
		}
	case "keeps":
		if s.kept == nil {
			s.kept = y.F32
		} else if len(y.F32) > 0 {
			s.kept[0] = 7
		}
	case "allocates":
		s.kept = make([]float32, 100)
	case "swallows":
		_ = out.Send(m) // swallowing is what is tried
		return nil
	case "twice":
		if err := out.Send(m); err != nil {
			return err
		}
	case "silent":
		return nil
	case "writes after":
		err := out.Send(m)
		m.Hits = 3
		return err
	case "empty":
		y.F32[0] = x.F32[0] * s.w[0]
	case "evaluation":
		if m.Mode != stages.Train && len(y.F32) > 0 {
			return errors.New("not in evaluation")
		}
	}
	return out.Send(m)
}

func (s *faulty) Close() error {
	if s.fault == "closes once" && s.calls < 0 {
		return errors.New("closed already")
	}
	s.calls = -1 << 30
	return nil
}

type faultyBackward struct {
	fault string
	x, y  stages.Binding
	k     stages.Slot
	w     *stages.ParamBinding
}

func (s *faultyBackward) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, dy := m.T(s.x.Slot), m.T(s.y.Grad)
	if s.fault == "reads" {
		x = m.T(s.k)
	}
	if s.x.HasGrad {
		dx := m.T(s.x.Grad)
		dx.Resize(x.Shape)
		for i, v := range dy.F32 {
			g := v * s.w.T.F32[i%s.w.T.Len()]
			if s.x.Acc && s.fault != "sets" {
				g += dx.F32[i]
			}
			dx.F32[i] = g
		}
	}
	if s.w.HasGrad {
		dw := m.T(s.w.Grad)
		if !s.w.Acc && s.fault != "adds" {
			clear(dw.F32)
		}
		for i, v := range dy.F32 {
			dw.F32[i%len(dw.F32)] += float32(v * x.F32[i])
		}
		if s.fault == "gradient" {
			dw.F32[0] *= 1.001
		}
	} else if s.fault == "needs w" {
		m.T(s.w.Grad).F32[0] = 1
	}
	if s.fault == "output" {
		clear(m.T(s.y.Slot).F32)
	}
	return out.Send(m)
}

type faultyLoss struct {
	fault string
	x, t  stages.Slot
}

func (s *faultyLoss) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, t := m.T(s.x).F32, m.T(s.t).F32
	var sum float64
	for i, v := range x {
		sum += float64(v) * float64(t[i])
	}
	switch s.fault {
	case "own mean":
		m.Loss += sum / float64(max(len(x), 1))
	case "sets loss":
		m.Loss = sum / m.Mean(len(x), false)
	default:
		m.Loss += sum / m.Mean(len(x), false)
	}
	return out.Send(m)
}

type faultyLossBackward struct {
	x stages.Binding
	t stages.Slot
}

func (s *faultyLossBackward) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if t := m.T(s.t); s.x.HasGrad {
		dx := m.T(s.x.Grad)
		dx.Resize(m.T(s.x.Slot).Shape)
		by := float32(1 / m.Mean(t.Len(), false))
		for i, v := range t.F32 {
			g := float32(v * by)
			if s.x.Acc {
				g += dx.F32[i]
			}
			dx.F32[i] = g
		}
	}
	return out.Send(m)
}

type faultyUpdate struct {
	fault string
	all   []*stages.ParamBinding
	speed float32
}

func (s *faultyUpdate) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if s.fault == "state outside of the store" {
		s.speed++
	}
	for _, p := range s.all {
		g := m.T(p.Grad).F32
		for i, v := range g {
			p.T.F32[i] -= v + s.speed
		}
		if s.fault == "gradient" {
			clear(g)
		}
	}
	return out.Send(m)
}

// recorder is a reporter that remembers.
type recorder struct{ said []string }

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// complaints runs all checks and returns what each says.
func complaints(c Case) map[string][]string {
	m := map[string][]string{}
	for _, k := range c.checks() {
		var r recorder
		done := make(chan bool)
		go func() {
			defer close(done)
			k.f(&r)
		}()
		<-done
		if r.said != nil {
			m[k.name] = r.said
		}
	}
	return m
}

// product is the reference of faulty.
func product(in [][]float64, p map[string][]float64) [][]float64 {
	y := slices.Clone(in[0])
	for i := range y {
		y[i] *= p["w"][i%len(p["w"])]
	}
	return [][]float64{y}
}

func TestEachFaultIsFound(t *testing.T) {
	const (
		both     = "gradient/inputs=true,params=true,acc=false"
		acc      = "gradient/inputs=true,params=true,acc=true"
		onlyW    = "gradient/inputs=false,params=true,acc=false"
		noReason = ""
	)
	for _, x := range []struct {
		stage, fault string
		check, says  string // a check that must complain, and words of its complaint
	}{
		{"faulty", "", "", noReason},
		{"faulty", "unwritten", "contract", "output y: element 23 was not written"},
		{"faulty", "input", "contract", "input x was changed"},
		{"faulty", "parameter", "contract", "parameter w, which it has not claimed, was changed"},
		{"faulty", "bystander", "contract", "a tensor of other stages (0) was changed"},
		{"faulty", "shape", "rows", "output y has the shape"},
		{"faulty", "value", "values", "element 2"},
		{"faulty", "counts", "repeats", "other bytes the second time"},
		{"faulty", "keeps", "ownership", "other bytes the second time"},
		{"faulty", "allocates", "allocations", "1 allocations in a step"},
		{"faulty", "swallows", "ends", "Process returned <nil>"},
		{"faulty", "twice", "contract", "sent 2 messages"},
		{"faulty", "silent", "contract", "sent 0 messages"},
		{"faulty", "silent", "ends", "neither failed nor sent"},
		{"faulty", "writes after", "ownership", "changed the message after Send"},
		{"faulty", "empty", "rows", "panics on 0 examples"},
		{"faulty", "evaluation", "modes", "not in evaluation"},
		{"faulty", "closes once", "ends", "closed already"},
		{"faulty", "reads", "reads", "faulty_backward reads values of ports that are not among its Reads [x]"},
		{"faulty", "sets", acc, "gradient of x"},
		{"faulty", "adds", both, "gradient of w"},
		{"faulty", "adds", onlyW, "gradient of w"},
		{"faulty", "gradient", both, "gradient of w: element 0"},
		{"faulty", "needs w", "contract", "a tensor of other stages (0) was changed"},
		{"faulty", "output", "contract", "output y was changed"},
		{"faulty_loss", "", "", noReason},
		{"faulty_loss", "own mean", "parts", "use Head.Mean"},
		{"faulty_loss", "sets loss", "parts", "use Head.Mean and add"},
		{"faulty_update", "", "", noReason},
		{"faulty_update", "claim", "contract", "parameter a.bias, which it has not claimed, was changed"},
		{"faulty_update", "gradient", "contract", "the gradient of a.bias was changed"},
		{"faulty_update", "state outside of the store", "ownership", "outside of the store"},
	} {
		c := Case{Stage: x.stage, Config: With(func(c *FaultyConfig) { c.Fault = x.fault })}
		if x.stage == "faulty" {
			c.In, c.Reference = []tensor.Tensor{Random(1, 1, 3, 2, 4)}, product
		}
		got := complaints(c)
		if x.fault == "" {
			if len(got) > 0 {
				t.Errorf("%s without a fault: %v", x.stage, got)
			}
			continue
		}
		if !strings.Contains(strings.Join(got[x.check], "\n"), x.says) {
			t.Errorf("%s with the fault %q: %s says %q, want %q; complaints of %v", x.stage, x.fault, x.check, got[x.check], x.says,
				slices.Sorted(maps.Keys(got)))
		}
	}
}

func TestRunByName(t *testing.T) { Run(t, "faulty", "faulty_loss", "faulty_update") }

func TestNewSaysWhatIsMissing(t *testing.T) {
	for _, x := range []struct {
		c    Case
		says string
	}{
		{Case{Stage: "nothing"}, `stagetest: no stage "nothing" is registered; import its package`},
		{Case{Stage: "faulty_backward"}, "stagetest: faulty_backward is a twin: it is tested with faulty"},
		{Case{Stage: "faulty", In: []tensor.Tensor{Ints(1, 0, 2, 3)}}, "stagetest: input x is float32, the case gives int32"},
		{Case{Stage: "faulty", In: []tensor.Tensor{}}, "wants 1 inputs, got 0"},
	} {
		if _, err := New(x.c, Want{}); err == nil || err.Error() != x.says {
			t.Errorf("%v: %v, want %s", x.c.Stage, err, x.says)
		}
	}
}

func TestBenchByHand(t *testing.T) {
	b, err := New(Case{Stage: "faulty", In: []tensor.Tensor{tensor.FromF32(tensor.Of(2, 1), []float32{3, 4})}}, full)
	if err != nil {
		t.Fatal(err)
	}
	w := b.Env.Params["w"].T.F32
	w[0] = 2
	if err := b.Forward(); err != nil {
		t.Fatal(err)
	}
	dy := b.M.T(b.Back.Ports["y"].Grad).F32
	dy[0], dy[1] = 10, 100
	if err := b.Backward(); err != nil {
		t.Fatal(err)
	}
	if y := b.Out("y").F32; y[0] != 6 || y[1] != 8 {
		t.Errorf("y is %v, want [6 8]", y)
	}
	if dx, dw := b.Grad("x"), b.Grad("w"); dx[0] != 20 || dx[1] != 200 || dw[0] != 430 {
		t.Errorf("dx is %v, dw is %v, want [20 200] and [430]", dx, dw)
	}
	if b.Grad("nothing") != nil {
		t.Error("a gradient that nobody wants is nil")
	}
}
