package smtpool

import (
	"errors"
	"runtime"
	"testing"
	"time"
)

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

// The kernel's own counters work where there is no PMU.
func TestSoftwareCounters(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := OpenCounters([]Event{{"task clock", 1, 1}})
	if err != nil {
		t.Skip("SKIP: the system refuses perf_event_open:", err)
	}
	defer c.Close()
	spin(5 * time.Millisecond)
	k, err := c.Read()
	if err != nil || len(k) != 1 || k[0].Value < uint64(time.Millisecond) {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestHardwareCounters(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	es := Events(Discover())
	c, err := OpenCounters(es)
	if errors.Is(err, ErrNoPMU) {
		t.Skip("SKIP:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	spin(20 * time.Millisecond)
	k, err := c.Read()
	if err != nil || len(k) != len(es) || k[1].Value == 0 {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestEventsOfCPUs(t *testing.T) {
	for name, c := range map[string]struct {
		t    Topology
		want string
	}{
		"sapphire rapids": {Topology{Vendor: "GenuineIntel", Family: 6, flags: map[string]bool{"amx_tile": true}}, "cycles bound on loads"},
		"skylake":         {Topology{Vendor: "GenuineIntel", Family: 6, ModelNo: 85}, "uops port 5"},
		"zen 4":           {Topology{Vendor: "AuthenticAMD", Family: 25}, "dispatch slots lost to the sibling"},
	} {
		found := false
		for _, e := range Events(&c.t) {
			found = found || e.Name == c.want
		}
		if !found {
			t.Errorf("%s: no event %q", name, c.want)
		}
	}
}
