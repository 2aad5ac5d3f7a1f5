package smtpool

import (
	"testing"
	"time"
)

func TestSteal(t *testing.T) {
	got := parseSteal("cpu  10 0 10 10 0 0 0 7 0 0\ncpu0 1 0 1 1 0 0 0 3 0 0\ncpu12 1 0 1 1 0 0 0 4 0 0\nintr 1 2 3\ncpu1 1\n")
	if len(got) != 2 || got[0] != 30*time.Millisecond || got[12] != 40*time.Millisecond {
		t.Errorf("%v", got)
	}
	if len(Steal()) == 0 {
		t.Error("/proc/stat told nothing of any CPU")
	}
}
