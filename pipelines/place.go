package pipelines

import (
	"fmt"
	"runtime"
	"strconv"

	"vtpu/pipelines/exec"
	"vtpu/smtpool"
)

// AutoInt is a whole number or auto.
type AutoInt struct {
	Auto bool
	N    int
}

// UnmarshalText reads "auto" or a number from 0 to 256.
func (a *AutoInt) UnmarshalText(b []byte) error {
	if string(b) == "auto" {
		*a = AutoInt{Auto: true}
		return nil
	}
	n, err := strconv.Atoi(string(b))
	if err != nil || n < 0 || n > 256 {
		return fmt.Errorf("%q is neither auto nor a whole number from 0 to 256", b)
	}
	*a = AutoInt{N: n}
	return nil
}

// MarshalText is the opposite of UnmarshalText.
func (a AutoInt) MarshalText() ([]byte, error) {
	if a.Auto {
		return []byte("auto"), nil
	}
	return strconv.AppendInt(nil, int64(a.N), 10), nil
}

// Lanes is where a plan runs on this machine.
type Lanes struct {
	D, S int
	Look int
	CPUs []int  // of each lane, S lanes first; nil: not pinned
	Spin int    // looks before a lane parks
	Why  string // one sentence
}

func (l Lanes) String() string { return fmt.Sprintf("d=%d,s=%d", l.D, l.S) }

// Placement is what the executor is told.
func (p *Plan) Placement() exec.Placement { return p.Lanes.placement() }

func (l Lanes) placement() exec.Placement {
	return exec.Placement{D: l.D, S: l.S, LookAhead: l.Look, CPUs: l.CPUs, Spin: l.Spin}
}

// spinLooks is how often a lane looks before it parks: for 130 to 400 µs, as long as PAUSE takes. It must be longer than a lane takes to be woken by the
// system, or the lane that wakes another has parked itself when that one answers.
const spinLooks = 8192

// laneFlops is the arithmetic of a step from which on a second lane pays for its hops: some 20 µs of one core.
const laneFlops = 1 << 20

// place chooses lanes. More lanes than the file asks for parts have nothing to do and are left out.
func place(p *Plan) Lanes {
	cpus := smtpool.CPUs()
	avail := min(len(cpus), runtime.GOMAXPROCS(0))
	sec := p.Pipe.Place
	l := Lanes{Look: sec.LookAhead}
	big := p.Flops() >= laneFlops
	if sec.DLanes.Auto {
		l.D = 1
		if big {
			l.D = max(1, min(p.Pipe.Parts, avail))
		}
	} else {
		l.D = max(1, min(sec.DLanes.N, p.Pipe.Parts))
	}
	if sec.SLanes.Auto {
		l.S = 0
		if big && l.D+1 <= avail {
			l.S = 1
		}
	} else {
		l.S = min(sec.SLanes.N, 2)
	}
	n := l.D + l.S
	if l.D == 1 && l.S == 0 {
		l.Why = "one lane: everything is fused"
		return l
	}
	if n > avail {
		l.Why = fmt.Sprintf("%d lanes share %d CPUs: not pinned, waiting lanes sleep", n, avail)
		return l
	}
	l.Spin = spinLooks
	if sec.Pin == "off" {
		l.Why = "not pinned, as the file says"
		return l
	}
	l.CPUs, l.Why = pair(cpus, l.D, l.S)
	return l
}

// pair gives each S lane the sibling of a D lane where the system names siblings, and CPUs of their own to all others.
func pair(cpus []smtpool.CPU, d, s int) ([]int, string) {
	free := map[int]bool{}
	for _, c := range cpus {
		free[c.ID] = true
	}
	take := func() int {
		for _, c := range cpus {
			if free[c.ID] {
				free[c.ID] = false
				return c.ID
			}
		}
		return -1
	}
	siblings := map[int][]int{}
	for _, c := range cpus {
		siblings[c.ID] = c.Siblings
	}
	out := make([]int, d+s)
	paired := 0
	for i := range d {
		cpu := -1
		// A core of its own for each D lane: a CPU none of whose siblings is taken.
		for _, c := range cpus {
			ok := free[c.ID]
			for _, sib := range c.Siblings {
				if f, known := free[sib]; known && !f {
					ok = false
				}
			}
			if ok {
				cpu = c.ID
				free[cpu] = false
				break
			}
		}
		if cpu < 0 {
			cpu = take()
		}
		out[s+i] = cpu
	}
	for i := range s {
		cpu := -1
		if i < d {
			for _, sib := range siblings[out[s+i]] {
				if free[sib] {
					cpu = sib
					free[cpu] = false
					paired++
					break
				}
			}
		}
		if cpu < 0 {
			cpu = take()
		}
		out[i] = cpu
	}
	if paired > 0 {
		return out, fmt.Sprintf("%d S lanes on siblings of D lanes, as the system names them", paired)
	}
	return out, "lanes on CPUs of their own; the system names no siblings among them"
}
