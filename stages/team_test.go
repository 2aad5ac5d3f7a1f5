package stages_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"vtpu/stages"
)

// crew is a team of goroutines.
func crew(lanes int) (t *stages.Team, calls *int) {
	calls = new(int)
	t = stages.NewTeam(lanes, func() {
		*calls++
		var wg sync.WaitGroup
		for l := 1; l < lanes; l++ {
			wg.Go(func() { t.Part(l) })
		}
		t.Part(0)
		wg.Wait()
	})
	t.Ready(true)
	return t, calls
}

func TestTeamCoversEveryElementOnce(t *testing.T) {
	for _, lanes := range []int{1, 2, 3, 7} {
		team, calls := crew(lanes)
		for _, n := range []int{0, 1, 63, 64, 127, 128, 129, 1000, 4096, 100003} {
			seen := make([]atomic.Int32, n)
			*calls = 0
			team.Split(n, 32, func(lo, hi int) {
				if lo > hi || hi > n || lo%64 != 0 {
					t.Errorf("%d lanes, %d elements: share %d to %d", lanes, n, lo, hi)
				}
				for i := lo; i < hi; i++ {
					seen[i].Add(1)
				}
			})
			for i := range seen {
				if got := seen[i].Load(); got != 1 {
					t.Fatalf("%d lanes, %d elements: element %d was worked on %d times", lanes, n, i, got)
				}
			}
			if want := lanes > 1 && n >= 64; (*calls == 1) != want || team.Shares(n, 32) != want {
				t.Errorf("%d lanes, %d elements of grain 32: %d calls, shared %v", lanes, n, *calls, team.Shares(n, 32))
			}
		}
	}
}

func TestTeamWorksAloneWhenItMust(t *testing.T) {
	team, calls := crew(4)
	for name, x := range map[string]*stages.Team{"nil": nil, "not ready": team} {
		x.Ready(false)
		whole := 0
		x.Split(1<<20, 1, func(lo, hi int) {
			if lo == 0 && hi == 1<<20 {
				whole++
			}
		})
		if whole != 1 || *calls != 0 || x.Shares(1<<20, 1) {
			t.Errorf("%s: the whole was done %d times, lanes were called %d times", name, whole, *calls)
		}
	}
}
