package main

import (
	"strings"
	"testing"
	"time"
)

// fixed is a side whose steps take a known time.
type fixed struct {
	step  float64
	order *[]float64
}

func (f fixed) run(steps int64) (seconds, loss float64, err error) {
	*f.order = append(*f.order, f.step)
	return f.step * float64(steps), 1, nil
}

func (fixed) close() error { return nil }

func TestAlternate(t *testing.T) {
	var order []float64
	rs := []*runner{{side: fixed{1e-3, &order}, steps: 10}, {side: fixed{4e-3, &order}, steps: 5}}
	rounds := 0
	ts, err := alternate(rs, 3, time.Minute, func() {
		if len(order) != 2*rounds {
			t.Errorf("round %d begins after %d turns", rounds, len(order))
		}
		rounds++
	})
	if err != nil || rounds != 3 || len(ts[0]) != 3 {
		t.Fatalf("%d rounds, %d times (%v), want 3", rounds, len(ts[0]), err)
	}
	for i, want := range []float64{1e-3, 4e-3, 1e-3, 4e-3, 1e-3, 4e-3} {
		if order[i] != want {
			t.Fatalf("turns %v, want the sides by turns", order)
		}
	}
	if r := spreadOf(ratios(ts[1], ts[0])); r.Median < 3.999 || r.Median > 4.001 {
		t.Errorf("ratio %v, want 4", r)
	}
}

// A demand that takes more than the machine has is plain from the table.
func TestPrintWorks(t *testing.T) {
	steady, moved := spread{27, 26, 28}, spread{100, 27, 160}
	ratio := spread{3, 2.9, 3.1}
	r := result{Works: []workRow{
		{Work: "W4", Own: 19e-3, Lanes: "d=2,s=0", Peer: "torch", Setting: "2 threads", Time: 50e-3, Ratio: &ratio, Must: 4, Share: 0.8, Needs: 1.34, Line: &steady},
		{Work: "W7", Own: 19e-3, Lanes: "d=2,s=0", Line: &moved},
		{Work: "W5", Own: 6e-6, Lanes: "d=1,s=0", Share: 0.24},
	}}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{
		"W4 19.0 ms d=2,s=0 80 % 27 ns torch 2 threads 50.0 ms 3.00 [2.90, 3.10] 4x 134 % no",
		"W7 19.0 ms d=2,s=0 27-160 ns",
		"W5 6.00 µs d=1,s=0 24 %",
	} {
		if got := strings.Join(strings.Fields(lines[i+1]), " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
