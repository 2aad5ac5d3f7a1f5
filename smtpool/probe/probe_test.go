package probe

import (
	"reflect"
	"strings"
	"testing"

	"vtpu/smtpool"
	"vtpu/smtpool/measure"
)

func TestDecideOnRecordedFigures(t *testing.T) {
	good := measure.Quality{Repetitions: 30, Seconds: 1, Pinned: true, Steal: true}
	fig := func(m float64) measure.Figure { return measure.Figure{Median: m, Lo: m - 0.02, Hi: m + 0.02, N: 30} }
	lat := func(m float64) Latency {
		return Latency{Min: m * 0.9, P10: m * 0.95, Median: m, P90: 1.2 * m, Max: 5 * m, N: 200}
	}
	unpinned, stolen, moved := good, good, good
	unpinned.Pinned = false
	stolen.Stolen = 0.3
	moved.Disturbed = 20
	for name, c := range map[string]struct {
		r    Result
		want Verdict
		says string
	}{
		"siblings":                {Result{OneWayNS: lat(7.5), PairRatio: fig(1.01), Ruler: true, Claimed: true, Quality: good}, Yes, "share a multiplier"},
		"hidden siblings":         {Result{OneWayNS: lat(11), PairRatio: fig(1.0), Ruler: true, Quality: good}, Yes, "does not name them"},
		"two cores":               {Result{OneWayNS: lat(41), PairRatio: fig(1.99), Ruler: true, Quality: good}, No, "one core can't"},
		"invented siblings":       {Result{OneWayNS: lat(55), PairRatio: fig(2.0), Ruler: true, Claimed: true, Quality: good}, No, "is wrong"},
		"two near cores":          {Result{OneWayNS: lat(13), PairRatio: fig(1.98), Ruler: true, Quality: good}, No, "short for two cores"},
		"two cores, disturbed":    {Result{OneWayNS: lat(41), PairRatio: fig(1.95), Ruler: true, Quality: moved}, No, "one core can't"},
		"one CPU's time for both": {Result{OneWayNS: lat(900), PairRatio: fig(1.0), Ruler: true, Quality: good}, CannotTell, "same time"},
		"one CPU in turns":        {Result{OneWayNS: lat(86955), PairRatio: fig(2.03), Ruler: true, Quality: moved}, CannotTell, "share a CPU's time"},
		"stolen time":             {Result{OneWayNS: lat(9), PairRatio: fig(1.05), Ruler: true, Quality: stolen}, CannotTell, "disturbed"},
		"in between":              {Result{OneWayNS: lat(30), PairRatio: fig(1.5), Ruler: true, Quality: good}, CannotTell, "neither"},
		"never came back":         {Result{PairRatio: fig(1.0), Ruler: true, Quality: good}, CannotTell, "did not come back"},
		"not pinned":              {Result{OneWayNS: lat(9), PairRatio: fig(1.0), Ruler: true, Quality: unpinned}, CannotTell, "bound"},
		"arm64, far":              {Result{OneWayNS: lat(60), Quality: good}, No, "no one-port ruler"},
		"arm64, near":             {Result{OneWayNS: lat(9), Quality: good}, CannotTell, "confirm"},
		"arm64, between":          {Result{OneWayNS: lat(20), Quality: good}, CannotTell, "no one-port ruler"},
	} {
		Decide(&c.r)
		if c.r.Verdict != c.want || !strings.Contains(c.r.Why, c.says) {
			t.Errorf("%s: %s, %s", name, c.r.Verdict, c.r.Why)
		}
	}
}

func TestLatency(t *testing.T) {
	l := latency([]float64{5, 1, 2, 4, 3})
	if l.Min != 1 || l.Median != 3 || l.Max != 5 || l.N != 5 || l.P10 != 1.4 || l.P90 != 4.6 {
		t.Errorf("%+v", l)
	}
}

func TestCandidates(t *testing.T) {
	top := &smtpool.Topology{}
	for i := range 4 {
		top.CPUs = append(top.CPUs, smtpool.CPU{ID: i, Siblings: []int{i}})
	}
	if c := Candidates(top, 9); !reflect.DeepEqual(c, [][2]int{{0, 1}, {0, 2}, {2, 3}, {1, 3}}) {
		t.Errorf("%v", c)
	}
	top.CPUs[1].Siblings, top.CPUs[3].Siblings = []int{1, 3}, []int{1, 3}
	if c := Candidates(top, 9); !reflect.DeepEqual(c, [][2]int{{1, 3}}) {
		t.Errorf("named siblings come first: %v", c)
	}
	if c := Candidates(&smtpool.Topology{CPUs: top.CPUs[:1]}, 9); c != nil {
		t.Errorf("one CPU: %v", c)
	}
}

// The probe ends with an answer on whatever machine this is, and never calls one CPU a pair.
func TestProbeHere(t *testing.T) {
	top := smtpool.Discover()
	cpus := top.CPUs
	if len(cpus) < 2 {
		t.Skip("SKIP: one CPU: there is nothing to probe")
	}
	r := CPUs(top, cpus[0].ID, cpus[1].ID, 3)
	if r.Why == "" || r.Quality.Pinned && r.OneWayNS.N+r.OneWayNS.Lost == 0 {
		t.Errorf("%+v", r)
	}
	t.Logf("%s: %s", r.Verdict, r.Why)
	one := CPUs(top, cpus[0].ID, cpus[0].ID, 1)
	if one.Verdict == No {
		t.Errorf("a CPU and itself were called two cores: %+v", one)
	}
}
