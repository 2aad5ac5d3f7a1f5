package smtpool

import "time"

// A Watch notices what disturbs the calling thread between Start and Stop: that the system took its CPU away, or moved it.
type Watch struct {
	cpu   int
	begin usage
	at    time.Time
}

// A Disturbance is what a Watch saw.
type Disturbance struct {
	Involuntary int64 `json:"involuntary"`     // times that the system took the CPU away
	Voluntary   int64 `json:"voluntary"`       // times that the thread slept
	From        int   `json:"from"`            // logical CPU at the start; -1 where the system does not tell
	To          int   `json:"to"`              // logical CPU at the end
	Known       bool  `json:"known"`           // the system tells at all
	Faults      int64 `json:"faults"`          // page faults that were served without a disk
	Major       int64 `json:"major,omitempty"` // page faults that read a disk

	Wall time.Duration `json:"wall_ns"` // time that passed
	CPU  time.Duration `json:"cpu_ns"`  // time that the thread ran, as the system counts it
}

// Moved says that the thread ended on another CPU than it began on.
func (d Disturbance) Moved() bool { return d.From >= 0 && d.To >= 0 && d.From != d.To }

// Lost is the share of the time that the thread did not run. Where it slept by itself that is no disturbance.
func (d Disturbance) Lost() float64 {
	if d.Wall <= 0 || !d.Known {
		return 0
	}
	return max(0, 1-float64(d.CPU)/float64(d.Wall))
}

// tolerated is the share of the time that may be lost: the runtime's own threads need a moment now and then.
const tolerated = 0.02

// Clean says that the thread stayed on its CPU and kept it nearly all the time, as far as the system tells.
func (d Disturbance) Clean() bool { return !d.Moved() && (d.Involuntary == 0 || d.Lost() <= tolerated) }

// usage is what the system counts of a thread.
type usage struct {
	involuntary, voluntary, minor, major int64
	cpu                                  time.Duration
	ok                                   bool
}

// StartWatch begins to watch the calling thread. The goroutine must hold its thread.
func StartWatch() Watch { return Watch{cpu: currentCPU(), begin: threadUsage(), at: time.Now()} }

// Stop returns what happened since StartWatch. It must be called on the same thread.
func (w Watch) Stop() Disturbance {
	u := threadUsage()
	return Disturbance{Involuntary: u.involuntary - w.begin.involuntary, Voluntary: u.voluntary - w.begin.voluntary, From: w.cpu, To: currentCPU(),
		Known: u.ok && w.begin.ok, Faults: u.minor - w.begin.minor, Major: u.major - w.begin.major, Wall: time.Since(w.at), CPU: u.cpu - w.begin.cpu}
}

// CurrentCPU is the logical CPU that the calling thread runs on, -1 where the system does not tell.
func CurrentCPU() int { return currentCPU() }
