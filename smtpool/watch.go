package smtpool

// A Watch notices what disturbs the calling thread between Start and Stop: that the system took its CPU away, or moved it.
type Watch struct {
	cpu   int
	begin usage
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
}

// Moved says that the thread ended on another CPU than it began on.
func (d Disturbance) Moved() bool { return d.From >= 0 && d.To >= 0 && d.From != d.To }

// Clean says that the thread kept its CPU all the time, as far as the system tells.
func (d Disturbance) Clean() bool { return d.Involuntary == 0 && !d.Moved() }

// usage is what the system counts of a thread.
type usage struct {
	involuntary, voluntary, minor, major int64
	ok                                   bool
}

// StartWatch begins to watch the calling thread. The goroutine must hold its thread.
func StartWatch() Watch { return Watch{cpu: currentCPU(), begin: threadUsage()} }

// Stop returns what happened since StartWatch. It must be called on the same thread.
func (w Watch) Stop() Disturbance {
	u := threadUsage()
	return Disturbance{Involuntary: u.involuntary - w.begin.involuntary, Voluntary: u.voluntary - w.begin.voluntary, From: w.cpu, To: currentCPU(),
		Known: u.ok && w.begin.ok, Faults: u.minor - w.begin.minor, Major: u.major - w.begin.major}
}

// CurrentCPU is the logical CPU that the calling thread runs on, -1 where the system does not tell.
func CurrentCPU() int { return currentCPU() }
