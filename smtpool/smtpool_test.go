package smtpool

import (
	"runtime"
	"testing"
)

func TestCPUs(t *testing.T) {
	cpus := CPUs()
	if len(cpus) == 0 {
		t.Fatal("no CPU")
	}
	for i, c := range cpus {
		if i > 0 && c.ID <= cpus[i-1].ID {
			t.Errorf("CPUs are not ascending: %v", cpus)
		}
		if len(c.Siblings) == 0 {
			t.Errorf("CPU %d is not among its siblings", c.ID)
		}
	}
}

func TestPinAndBack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := len(CPUs())
	cpu := CPUs()[before-1].ID
	unpin, err := Pin(cpu)
	if err != nil {
		t.Skip("SKIP: this system does not pin threads:", err)
	}
	if now := CPUs(); len(now) != 1 || now[0].ID != cpu {
		t.Errorf("pinned to %d, allowed %v", cpu, now)
	}
	unpin()
	if len(CPUs()) != before {
		t.Errorf("unpin left %d of %d CPUs", len(CPUs()), before)
	}
	if _, err := Pin(1 << 9); err == nil {
		t.Error("a CPU that does not exist was accepted")
	}
}

func TestPauseReturns(t *testing.T) {
	Pause(1)
	Pause(100)
}
