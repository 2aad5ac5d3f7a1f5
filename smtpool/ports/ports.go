// Package ports predicts how fast a loop runs on one thread of a core, what limits it, and what two threads of a core do to each other.
//
// One thread: the largest of the bounds of its resources, as in Facile (Abel, Sharma, Reineke, IISWC 2023): issue slots, ports, dependences, lines of
// the caches, outstanding misses. The bound of the ports is exact: the largest load of any set of ports, over its size.
//
// Two threads: each uses a share of every resource, its demand over its time alone, as in SMiTe (Zhang, Laurenzano, Mars, Tang, MICRO 2014). Both slow
// down at the same pace until nothing is used more than fully; a thread that uses nothing of what is full goes on.
// ws = sum over both threads of time alone / time together; conflict = 1 - ws/2.
//
// Tables say where their facts come from. The latency of memory is an input: measure it.
package ports

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"vtpu/smtpool/ruler"
	"vtpu/smtpool/workload"
)

// A use is so many micro-operations that any of a set of ports can do.
type use struct {
	ports uint32
	n     float64
}

// A cost is what one instruction needs.
type cost struct {
	issue   float64 // slots of the front end, after fusion
	uses    []use
	latency float64 // cycles from an operand to the result
}

// A Machine is a kind of core.
type Machine struct {
	Name    string
	Sources string
	Width   float64 // issue slots a cycle
	Ports   []string
	L1Lines float64 // lines a cycle that the level 1 cache hands out, 8 bytes of each wanted
	L2Lines float64 // lines a cycle from level 2, sustained
	Misses  float64 // outstanding misses of level 1 data cache
	Window  float64 // entries of the reorder buffer; a half for each of two threads
	ops     map[string]cost
}

// A Thread is the body of a loop, for the model.
type Thread struct {
	Name   string
	Units  float64 // units of work an iteration
	Ops    []ruler.Op
	Chain  float64 // cycles of an iteration by dependences alone, not counting memory
	L1, L2 float64 // lines an iteration that level 1 and level 2 hand out
	Misses float64 // loads and prefetches an iteration that go to memory
	Serial float64 // loads an iteration that wait for one another, to memory
}

// A Bound is the time of an iteration by one resource.
type Bound struct {
	Resource string  `json:"resource"`
	Cycles   float64 `json:"cycles"`
	shared   bool    // a sibling uses it too
}

// A Prediction is what the model says of one thread.
type Prediction struct {
	Cycles float64 `json:"cycles"` // an iteration
	Limit  string  `json:"limit"`  // the resource that sets them
	Bounds []Bound `json:"bounds"` // largest first
}

// Alone predicts one thread that has a core to itself. latency is that of memory, in cycles.
func (m *Machine) Alone(t Thread, latency float64) (Prediction, error) {
	return m.predict(t, latency, m.Window)
}

func (m *Machine) predict(t Thread, latency, window float64) (Prediction, error) {
	issue := 0.0
	loads := map[uint32]float64{}
	for _, o := range t.Ops {
		c, ok := m.ops[o.Name]
		if !ok {
			return Prediction{}, fmt.Errorf("ports: %s: no entry for %q", m.Name, o.Name)
		}
		issue += c.issue * float64(o.N)
		for _, u := range c.uses {
			loads[u.ports] += u.n * float64(o.N)
		}
	}
	bs := []Bound{{"issue slots", issue / m.Width, true}}
	for _, set := range unions(loads) {
		n := 0.0
		for ports, k := range loads {
			if ports&^set == 0 {
				n += k
			}
		}
		bs = append(bs, Bound{"ports " + m.names(set), n / float64(bits.OnesCount32(set)), true})
	}
	bs = append(bs, Bound{"dependences", t.Chain, false}, Bound{"memory latency", t.Serial * latency, false},
		Bound{"level 1 cache", t.L1 / m.L1Lines, true}, Bound{"level 2 cache", t.L2 / m.L2Lines, true}, Bound{"outstanding misses", t.Misses * latency / m.Misses, true})
	if t.Misses > 0 && issue > 0 { // the misses that fit into the window at a time
		bs = append(bs, Bound{"reorder window", t.Misses * latency / max(1, window*t.Misses/issue), false})
	}
	slices.SortStableFunc(bs, func(a, b Bound) int { return cmp.Compare(b.Cycles, a.Cycles) })
	return Prediction{Cycles: bs[0].Cycles, Limit: bs[0].Resource, Bounds: bs}, nil
}

// unions lists all unions of the sets of ports.
func unions(loads map[uint32]float64) []uint32 {
	seen := map[uint32]bool{}
	var out []uint32
	for p := range loads {
		for _, q := range append(slices.Clone(out), 0) {
			if s := p | q; !seen[s] {
				seen[s] = true
				out = append(out, s)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (m *Machine) names(set uint32) string {
	var s []string
	for i, n := range m.Ports {
		if set>>i&1 == 1 {
			s = append(s, n)
		}
	}
	return strings.Join(s, ",")
}

// A PairPrediction is what the model says of two threads on siblings.
type PairPrediction struct {
	Rate     [2]float64 `json:"rate"` // of each thread, over its rate alone
	WS       float64    `json:"ws"`
	Conflict float64    `json:"conflict"`
	Limit    string     `json:"limit"` // the shared resource that is full, or "nothing shared"
}

// Pair predicts two threads on the two hyperthreads of a core.
func (m *Machine) Pair(a, b Thread, latency float64) (PairPrediction, error) {
	var alone [2]float64
	var half [2]Prediction
	for i, t := range []Thread{a, b} {
		p, err := m.predict(t, latency, m.Window)
		if err != nil {
			return PairPrediction{}, err
		}
		alone[i] = p.Cycles
		if half[i], err = m.predict(t, latency, m.Window/2); err != nil {
			return PairPrediction{}, err
		}
	}
	share := map[string][2]float64{} // of each shared resource, at full speed
	for i, p := range half {
		for _, b := range p.Bounds {
			if b.shared {
				s := share[b.Resource]
				s[i] = b.Cycles / p.Cycles
				share[b.Resource] = s
			}
		}
	}
	// A set of ports that only one thread's operations span still carries what the other does within it.
	for name := range share {
		if set, ok := m.portSet(name); ok {
			s := [2]float64{}
			for i, t := range []Thread{a, b} {
				s[i] = m.load(t, set) / float64(bits.OnesCount32(set)) / half[i].Cycles
			}
			share[name] = s
		}
	}
	for na := range share { // and unions of sets of the two
		for nb := range share {
			sa, ok1 := m.portSet(na)
			sb, ok2 := m.portSet(nb)
			if ok1 && ok2 {
				set := sa | sb
				name := "ports " + m.names(set)
				if _, ok := share[name]; !ok {
					share[name] = [2]float64{m.load(a, set) / float64(bits.OnesCount32(set)) / half[0].Cycles, m.load(b, set) / float64(bits.OnesCount32(set)) / half[1].Cycles}
				}
			}
		}
	}
	x, limit := fill(share)
	p := PairPrediction{Limit: limit}
	for i := range x {
		p.Rate[i] = x[i] * alone[i] / half[i].Cycles
		p.WS += p.Rate[i]
	}
	p.Conflict = 1 - p.WS/2
	return p, nil
}

func (m *Machine) portSet(resource string) (uint32, bool) {
	list, ok := strings.CutPrefix(resource, "ports ")
	if !ok {
		return 0, false
	}
	var set uint32
	for _, n := range strings.Split(list, ",") {
		set |= 1 << slices.Index(m.Ports, n)
	}
	return set, true
}

// load is the number of micro-operations of an iteration that only ports of the set can do.
func (m *Machine) load(t Thread, set uint32) float64 {
	n := 0.0
	for _, o := range t.Ops {
		for _, u := range m.ops[o.Name].uses {
			if u.ports&^set == 0 {
				n += u.n * float64(o.N)
			}
		}
	}
	return n
}

// fill raises the pace of both threads together, up to 1, until a resource is full; then the threads that use it stay and the other goes on.
func fill(share map[string][2]float64) (x [2]float64, limit string) {
	limit = "nothing shared"
	fixed := [2]bool{}
	names := make([]string, 0, len(share))
	for n := range share {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	for !fixed[0] || !fixed[1] {
		pace, at := 1.0, ""
		for _, n := range names {
			used, rest := 0.0, 0.0
			for i, s := range share[n] {
				if fixed[i] {
					used += s * x[i]
				} else {
					rest += s
				}
			}
			if rest > 0 && (1-used)/rest < pace-1e-9 {
				pace, at = (1-used)/rest, n
			}
		}
		if at != "" && limit == "nothing shared" {
			limit = at
		}
		for i := range x {
			if !fixed[i] && (at == "" || share[at][i] > 0) {
				x[i], fixed[i] = pace, true
			}
		}
	}
	return x, limit
}

// OfRuler is the thread of a ruler.
func OfRuler(r ruler.Ruler) Thread {
	t := Thread{Name: r.Name, Units: float64(r.PerIter), Ops: r.Body, Chain: float64(r.Latency)}
	switch r.Memory {
	case "l1":
		t.L1 = float64(r.PerIter)
	case "l2":
		t.L2 = float64(r.PerIter)
	case "lfb":
		t.Misses = float64(r.PerIter)
	case "dram":
		t.Serial = float64(r.PerIter / r.Parallel)
		t.Misses = float64(r.PerIter)
	}
	return t
}

// OfProgram is the thread of a workload with vectors of so many float64. Its table is taken to be far larger than the caches.
func (m *Machine) OfProgram(name string, p *workload.Program, v workload.Vector) Thread {
	width := " ymm"
	if v == 8 {
		width = " zmm"
	}
	n := map[string]int{"dec/jnz": 1}
	var chain [workload.Accs]float64
	ids, chases := 0, map[uint8]int{}
	t := Thread{Name: name, Units: 1}
	for _, o := range p.Ops {
		vec := ""
		switch o.Kind {
		case workload.DAdd, workload.DSub:
			vec = "vadd" + width
		case workload.DMul:
			vec = "vmul" + width
		case workload.DFMA:
			vec = "vfma" + width
		case workload.Gather:
			n["add r,m"]++
			ids++
		case workload.Scatter:
			n["add m,i"]++
			ids++
		case workload.Prefetch:
			n["prefetch"]++
			ids++
		case workload.Ahead: // the row is asked for twice and comes once
			n["prefetch"]++
			n["load r"]++
			n["xor r,r"]++
		case workload.Chase:
			n["load r"]++
			chases[o.Arg]++
		}
		if vec != "" {
			n[vec]++
			chain[o.Arg] += m.ops[vec].latency
		}
	}
	for _, c := range chain {
		t.Chain = max(t.Chain, c)
	}
	for _, c := range chases {
		t.Serial = max(t.Serial, float64(c))
		t.Misses += float64(c)
	}
	if ids > 0 {
		n["load r"] += ids
		n["xor r,r"] += ids
		n["add r,i"]++
		t.Misses += float64(p.Rows())
	}
	for k, c := range n {
		t.Ops = append(t.Ops, ruler.Op{Name: k, N: c})
	}
	slices.SortFunc(t.Ops, func(a, b ruler.Op) int { return cmp.Compare(a.Name, b.Name) })
	return t
}
