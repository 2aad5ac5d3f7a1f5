package lab

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"vtpu/smtpool/ruler"
	"vtpu/smtpool/workload"
)

// Rates of three repetitions: a alone, b alone, both.
func TestKeptByHand(t *testing.T) {
	rates := [][][]float64{
		{{10, 0}, {10, 0}, {20, 0}},
		{{0, 100}, {0, 100}, {0, 200}},
		{{9, 70}, {9, 70}, {18, 140}}, // the machine was twice as fast in the last: repetitions are compared with themselves
	}
	k := kept(rates)
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }
	if !near(k.Rate[0].Median, 0.9) || !near(k.Rate[1].Median, 0.7) || !near(k.WS.Median, 1.6) || !near(k.WS.Hi, 1.6) || !near(k.Conflict.Median, 0.2) {
		t.Errorf("%+v", k)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, o := range []Options{{D: 0, S: -1}, {D: 0, S: 0}, {D: 1 << 15, S: 0}} {
		if l, err := Open(o); err == nil {
			l.Close()
			t.Errorf("%+v was accepted", o)
		}
	}
}

// All experiments end, with rows that hang together; what they measure is not judged.
func TestExperimentsRun(t *testing.T) {
	l, err := Open(Options{D: -1, S: -1, Reps: 1, Window: 50 * time.Microsecond, Memory: 1 << 20, Table: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !l.Siblings() && !strings.HasPrefix(l.Label(), NotSMT) {
		t.Errorf("label %q", l.Label())
	}
	r, err := l.Rulers()
	if errors.Is(err, ruler.ErrNone) {
		t.Skip("SKIP:", err)
	}
	if err != nil || len(r.Rows) < len(ruler.Rulers()) || r.Memory != 1<<20 {
		t.Errorf("rulers: %+v, %v", r, err)
	}
	if l.S == nil {
		if _, err := l.Pairs(PairOptions{}); !errors.Is(err, ErrOneCPU) {
			t.Errorf("a pair on one CPU: %v", err)
		}
		t.Skip("SKIP: one CPU")
	}
	p, err := l.Pairs(PairOptions{})
	if errors.Is(err, workload.ErrNone) {
		t.Skip("SKIP:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	controls := 0
	for _, row := range p.Rows {
		if row.Control {
			controls++
		} else if len(row.Steps) != 3 || row.Bound < 1 || row.Bound > 2 {
			t.Errorf("%s: steps %+v, bound %v", row.Name, row.Steps, row.Bound)
		}
		if row.Kept.WS.N != 1 {
			t.Errorf("%s: %+v", row.Name, row.Kept)
		}
	}
	if controls != 4 {
		t.Errorf("%d controls", controls)
	}
	c, err := l.Curve()
	if err != nil || len(c.Points) != len(curveChains) || len(c.Timeline) == 0 {
		t.Errorf("curve %+v, %v", c, err)
	}
	m, err := l.Losses()
	if err != nil || len(m.Loss) != len(m.Names) || len(m.Names) < 8 {
		t.Errorf("losses %+v, %v", m, err)
	}
	if _, err := l.Pairs(PairOptions{N: 1 << 20}); err == nil {
		t.Error("a body of a million operations was accepted")
	}
}

// The S lane never runs more than two steps ahead, and nothing is lost.
func TestPipe(t *testing.T) {
	p := &pipe{}
	gave, took := 0, 0
	give, take := p.give(func() { gave++ }), p.take(func() { took++ })
	if take() != 0 || give() != 1 || give() != 1 || give() != 0 || take() != 1 || give() != 1 || gave != 3 || took != 1 {
		t.Errorf("gave %d, took %d", gave, took)
	}
}
