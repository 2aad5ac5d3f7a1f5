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

// heavyBytes is the size of weights and state from which on an S lane on a core of its own pays. Below, they fit into the caches of the cores that
// compute, and it costs more to bring them to another core and back than that core saves: on two cores of 2 MiB a perceptron of 100,000 weights takes
// 470 µs a step with an S lane and 377 µs without, an attention layer of 12,000 weights 3.5 and 3.2 ms.
const heavyBytes = 8 << 20

// shareFlops is the arithmetic of a step of one part from which on D lanes share the work inside its stages: each share costs two hops.
const shareFlops = 1 << 23

// place chooses lanes. More lanes than the file asks for parts have nothing to do and are left out, but where there is one part: then D lanes share each
// stage. CPUs go to D lanes first: a part is most of the work, and idle D lanes take a share of the rest.
func place(p *Plan) Lanes {
	top := smtpool.Discover()
	avail := min(len(top.CPUs), runtime.GOMAXPROCS(0))
	sec := p.Pipe.Place
	l := Lanes{Look: sec.LookAhead}
	if p.Data != nil && (p.Data.Live != nil || p.Data.Online != nil) {
		l.Look = 0 // a step must not wait for the examples of the next one
	}
	big := p.Flops() >= laneFlops
	alone := p.Pipe.Parts == 1 && (sec.SLanes.Auto || sec.SLanes.N == 0) // no other part and no S lane
	if sec.DLanes.Auto {
		l.D = 1
		if big {
			l.D = max(1, min(p.Pipe.Parts, avail))
		}
		if alone && p.Flops() >= shareFlops {
			l.D = max(1, min(avail, len(top.Separate()))) // siblings share the ports that products need
		}
	} else {
		l.D = max(1, min(sec.DLanes.N, p.Pipe.Parts))
		if alone {
			l.D = max(1, sec.DLanes.N)
		}
	}
	if sec.SLanes.Auto {
		l.S = 0
		if big && !(alone && l.D > 1) && l.D+1 <= avail && (len(top.Pairs()) > 0 || p.storeBytes() >= heavyBytes) {
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
	seats, ok := top.Place(l.D, l.S)
	if l.Why = seats.Why; !ok { // a cgroup's quota
		l.Spin = 0
		l.Why += ": not pinned, waiting lanes sleep"
		return l
	}
	l.CPUs = append(seats.S, seats.D...)
	return l
}
