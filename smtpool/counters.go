package smtpool

import (
	"errors"
	"fmt"
)

// ErrNoPMU says that this system counts no such events: most virtual machines have no performance monitoring unit.
var ErrNoPMU = errors.New("smtpool: no hardware counters here")

// An Event is what a hardware counter counts.
type Event struct {
	Name   string
	Type   uint32 // of perf_event_open: 0 hardware, 1 software, 4 raw
	Config uint64
}

// Events that say what a hyperthread suffers from, for the CPU of a topology: cycles and instructions; on Intel's Golden Cove micro-operations by port and the
// cycles that wait for loads (Intel's event list for Sapphire Rapids); on AMD's Zen 4 and 5 the dispatch slots lost to the sibling (PPR 19h, 11h, PMCx1A0).
func Events(t *Topology) []Event {
	es := []Event{{"cycles", 0, 0}, {"instructions", 0, 1}}
	raw := func(name string, config uint64) { es = append(es, Event{name, 4, config}) }
	switch {
	case t.Vendor == "GenuineIntel" && t.Has("amx_tile"):
		raw("uops port 0", 0x01b2)
		raw("uops port 1", 0x02b2)
		raw("uops ports 2,3,10", 0x04b2)
		raw("uops ports 4,9", 0x10b2)
		raw("uops ports 5,11", 0x20b2)
		raw("uops port 6", 0x40b2)
		raw("uops ports 7,8", 0x80b2)
		raw("cycles bound on loads", 0x21a6|5<<24)
	case t.Vendor == "GenuineIntel" && t.Family == 6 && t.ModelNo == 85:
		for p := range uint64(8) {
			raw(fmt.Sprintf("uops port %d", p), 0xa1|1<<p<<8)
		}
		raw("cycles stalled on memory", 0x14a3|20<<24)
	case t.Vendor == "AuthenticAMD" && (t.Family == 25 || t.Family == 26):
		raw("dispatch slots lost to the sibling", 0x60a0|1<<32)
		raw("dispatch slots lost to the back end", 0x1ea0|1<<32)
	}
	return es
}

// A Count is what was counted.
type Count struct {
	Name  string  `json:"name"`
	Value uint64  `json:"value"`
	Share float64 `json:"share"` // of the time that the counter ran: below 1 where there were fewer counters than events, and Value is scaled up
}
