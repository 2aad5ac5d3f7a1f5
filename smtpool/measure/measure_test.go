package measure

import (
	"math"
	"testing"
	"time"

	"vtpu/smtpool"
)

// Ranks of the 95% interval of a median, as in tables of order statistics (Conover, Practical Nonparametric Statistics).
func TestRank(t *testing.T) {
	for n, want := range map[int]int{1: 1, 5: 1, 6: 1, 9: 2, 10: 2, 20: 6, 30: 10, 50: 18, 100: 40} {
		if got := rank(n, 0.95); got != want {
			t.Errorf("rank(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestOf(t *testing.T) {
	var xs []float64
	for i := range 30 {
		xs = append(xs, float64((i*7)%30+1)) // 1..30 shuffled
	}
	f := Of(append(xs, math.NaN(), math.Inf(1)))
	if f.Median != 15.5 || f.Lo != 10 || f.Hi != 21 || f.N != 30 {
		t.Errorf("%+v", f)
	}
	if f := Of([]float64{2}); f.Median != 2 || f.Lo != 2 || f.Hi != 2 {
		t.Errorf("%+v", f)
	}
	if f := Of(nil); f.N != 0 || f.String() != "not measured" {
		t.Errorf("%+v", f)
	}
}

func TestDefinitions(t *testing.T) {
	// One thread keeps 90% of its rate, the other 70%: ws 1.6, conflict 20%.
	ws := WeightedSpeedup([]float64{9, 70}, []float64{10, 100})
	if math.Abs(ws-1.6) > 1e-12 || math.Abs(Conflict(ws)-0.2) > 1e-12 {
		t.Errorf("ws %v, conflict %v", ws, Conflict(ws))
	}
	if c := Conflict(2); c != 0 {
		t.Errorf("%v", c)
	}
}

func TestAlternateRunsEveryCase(t *testing.T) {
	lanes := []*smtpool.Lane{smtpool.NewLane(-1, 0), smtpool.NewLane(-1, 0)}
	defer lanes[0].Close()
	defer lanes[1].Close()
	n := [2]int{}
	work := func(i int) Loop {
		return func() int {
			n[i]++
			end := time.Now().Add(20 * time.Microsecond)
			for time.Now().Before(end) {
			}
			return 3
		}
	}
	rates, q := Alternate(lanes, []Case{{"a", []Loop{work(0), nil}}, {"both", []Loop{work(0), work(1)}}}, 4, time.Millisecond)
	if len(rates) != 2 || len(rates[0]) != 4 || q.Repetitions != 4 || q.Pinned {
		t.Fatalf("%v, %+v", rates, q)
	}
	for r := range 4 {
		if rates[0][r][0] <= 0 || rates[0][r][1] != 0 || rates[1][r][0] <= 0 || rates[1][r][1] <= 0 {
			t.Errorf("repetition %d: %v, %v", r, rates[0][r], rates[1][r])
		}
	}
	if n[0] < 8 || n[1] < 4 { // a block at least in each window of a repetition
		t.Errorf("blocks %v", n)
	}
	if c := Column(rates[1], 1); len(c) != 4 || c[0] != rates[1][0][1] {
		t.Errorf("%v", c)
	}
}

// Disturbed repetitions are done again, as often as there are repetitions; after that they count.
func TestRepeat(t *testing.T) {
	n, kept := 0, []int{}
	q := Repeat(nil, 4, func(r int) bool { n = r; return r%2 == 1 }, func() { kept = append(kept, n) })
	if len(kept) != 4 || kept[0] != 1 || kept[3] != 7 || q.Repetitions != 4 || q.Discarded != 4 || q.Disturbed != 0 {
		t.Errorf("%v, %+v", kept, q)
	}
	q = Repeat(nil, 3, func(r int) bool { return false }, func() {})
	if q.Repetitions != 3 || q.Discarded != 3 || q.Disturbed != 3 || q.Clean() {
		t.Errorf("%+v", q)
	}
	if s := q.String(); s != "3 of 3 repetitions disturbed, 3 done again" {
		t.Error(s)
	}
}
