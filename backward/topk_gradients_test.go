package backward

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// The elements kept are those that a stable sort by magnitude puts first.
func TestTopKKeepsWhatASortPutsFirst(t *testing.T) {
	s := &topK{high: make([]uint32, 1<<15), low: make([]uint32, 1<<16)}
	special := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 1e-40, float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		g := make([]float32, 1+r.IntN(200))
		for i := range g {
			switch r.IntN(4) {
			case 0:
				g[i] = special[r.IntN(len(special))]
			case 1:
				g[i] = float32(r.IntN(5) - 2) // many are equal
			default:
				g[i] = float32(r.NormFloat64())
			}
		}
		k := TopKConfig{Keep: r.Float64()}.Kept(len(g))
		order := make([]int, len(g))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return int(int64(magnitude(g[b])) - int64(magnitude(g[a]))) })
		want := make([]uint32, len(g))
		for _, i := range order[:k] {
			if magnitude(g[i]) != 0 {
				want[i] = math.Float32bits(g[i])
			}
		}
		s.keep(g, k)
		for i, v := range g {
			if math.Float32bits(v) != want[i] {
				t.Fatalf("seed %d: element %d of %d is %v, want %v", seed, i, len(g), v, math.Float32frombits(want[i]))
			}
		}
	}
}

// The estimate is the sum of all that was sent; where everything is sent it is the gradient.
func TestFeedbackEstimatesTheGradient(t *testing.T) {
	const parts, n, steps = 3, 200, 60
	env := stages.Env{Name: "topk_gradients", Store: weights.NewStore(), Parts: parts}
	w, err := env.Store.Add("w", weights.Weight, tensor.F32, tensor.Of(20, 10), weights.Coord{})
	if err != nil {
		t.Fatal(err)
	}
	var l stages.Layout
	p := &stages.ParamBinding{Param: w, HasGrad: true, Grad: l.AddBody(stages.SlotInfo{Name: "d w", Shape: w.T.Shape})}
	env.All = []*stages.ParamBinding{p}
	for _, keep := range []float64{1, 0.05} {
		few, err := stages.Find("topk_gradients").New(env, &TopKConfig{Keep: keep, Feedback: true})
		if err != nil {
			t.Fatal(err)
		}
		back, err := stages.Find("error_feedback").New(env, &ErrorFeedbackConfig{})
		if err != nil {
			t.Fatal(err)
		}
		e := env.Store.Get((TopKConfig{Feedback: true}).EstimateOf("w"))
		clear(e.T.F32)
		worst := 0.0
		for step := range int64(steps) {
			sum, want, sent := make([]float32, n), make([]float64, n), make([]float64, n)
			m := l.NewMessage()
			m.Attach(l.NewBody())
			m.Head = stages.Head{Step: step, Parts: parts}
			g := m.T(p.Grad).F32
			for range parts {
				r := rand.New(rand.NewPCG(7, 9)) // the same gradient in each part and step
				for i := range g {
					g[i] = float32(r.NormFloat64())
					want[i] += float64(g[i])
				}
				o := stages.Outbox(&last{})
				if err := few.Process(t.Context(), m, o); err != nil {
					t.Fatal(err)
				}
				left := 0
				for i := range g {
					if g[i] != 0 {
						left++
					}
					sum[i] += g[i]
					sent[i] += float64(g[i])
				}
				if left > (TopKConfig{Keep: keep}).Kept(n) {
					t.Fatalf("%d elements are sent", left)
				}
			}
			before := slices.Clone(e.T.F32)
			copy(g, sum)
			if err := back.Process(t.Context(), m, &last{}); err != nil {
				t.Fatal(err)
			}
			worst = 0
			for i := range g {
				if e.T.F32[i] != before[i]+sum[i] || g[i] != e.T.F32[i] {
					t.Fatalf("element %d: estimate %v, gradient %v, want %v", i, e.T.F32[i], g[i], before[i]+sum[i])
				}
				worst = max(worst, math.Abs(float64(g[i])-want[i]))
			}
			if keep == 1 && worst > 1e-5 {
				t.Fatalf("all is sent, and the estimate is off by %v", worst)
			}
		}
		if worst > 1e-4 {
			t.Errorf("keep %v: after %d steps with the same gradient the estimate is off by %v", keep, steps, worst)
		}
	}
}

type last struct{ m *stages.Message }

func (l *last) Send(m *stages.Message) error {
	l.m = m
	return nil
}
