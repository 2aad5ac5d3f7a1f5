package smtpool

import (
	"runtime"
	"slices"
)

// apic is where cpuid says that a logical CPU is.
type apic struct {
	leaf    uint32 // that told: 0x1F, 0xB or 0x8000001E
	id      uint32 // x2APIC id
	core    uint32 // equal on the hyperthreads of a core
	socket  uint32
	threads int // of a core, as the leaf claims
}

// readAPIC decodes the topology leaves of the CPU that get runs on: 0x1F, else 0xB, else AMD's 0x8000001E. Sources: Intel SDM vol. 3A, 10.9;
// AMD64 APM vol. 3, appendix E.4.
func readAPIC(get func(leaf, sub uint32) (a, b, c, d uint32)) (apic, bool) {
	top, _, _, _ := get(0, 0)
	for _, leaf := range []uint32{0x1F, 0xB} {
		if top < leaf {
			continue
		}
		r := apic{leaf: leaf, threads: 1}
		var smt, all uint32
		found := false
		for sub := range uint32(8) {
			a, b, c, d := get(leaf, sub)
			kind := c >> 8 & 0xff
			if kind == 0 || b&0xffff == 0 {
				break
			}
			found = true
			r.id, all = d, a&0x1f // the shift of the last level that is named gives the socket
			if kind == 1 {
				smt, r.threads = a&0x1f, int(b&0xffff)
			}
		}
		if found {
			r.core, r.socket = r.id>>smt, r.id>>all
			return r, true
		}
	}
	if ext, _, _, _ := get(0x80000000, 0); ext >= 0x8000001E {
		a, b, _, _ := get(0x8000001E, 0)
		if a == 0 && b == 0 {
			return apic{}, false
		}
		_, _, c8, _ := get(0x80000008, 0)
		shift := c8 >> 12 & 0xf // bits of the APIC id within a socket
		r := apic{leaf: 0x8000001E, id: a, threads: int(b>>8&0xff) + 1, socket: a >> shift}
		r.core = r.socket<<16 | b&0xff
		return r, true
	}
	return apic{}, false
}

// CPUIDSiblings asks the instruction cpuid on each of the CPUs, by going there, which of them share a core. It reports false where the
// instruction or the leaves are missing or a CPU can't be gone to. leaf is the one that told.
func CPUIDSiblings(cpus []int) (siblings map[int][]int, leaf uint32, ok bool) {
	if !hasCPUID {
		return nil, 0, false
	}
	where := map[int]apic{}
	done := make(chan bool)
	go func() { // a thread of its own: the caller's stays where it is
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ok := true
		for _, id := range cpus {
			unpin, err := pin(id)
			if err != nil {
				ok = false
				break
			}
			var known bool
			where[id], known = readAPIC(cpuid)
			ok = ok && known
			unpin()
		}
		done <- ok
	}()
	if !<-done {
		return nil, 0, false
	}
	return group(where)
}

func group(where map[int]apic) (map[int][]int, uint32, bool) {
	out := map[int][]int{}
	var leaf uint32
	ids := map[uint32]int{}
	for a, x := range where {
		leaf = x.leaf
		ids[x.id]++
		for b, y := range where {
			if x.core == y.core && x.socket == y.socket {
				out[a] = append(out[a], b)
			}
		}
		slices.Sort(out[a])
	}
	for _, n := range ids {
		if n > 1 { // two CPUs with one APIC id: a hypervisor invents
			return nil, leaf, false
		}
	}
	return out, leaf, len(out) > 0
}

// CompareCPUID asks cpuid for the siblings, fills them in where sysfs told nothing, and notes where the two contradict each other.
func (t *Topology) CompareCPUID() {
	var ids []int
	for _, c := range t.CPUs {
		ids = append(ids, c.ID)
	}
	sib, leaf, ok := CPUIDSiblings(ids)
	if !ok {
		if hasCPUID {
			t.note("cpuid tells no topology, or one that contradicts itself")
		}
		return
	}
	t.merge(sib, leaf)
}

func (t *Topology) merge(sib map[int][]int, leaf uint32) {
	if t.Source == "none" {
		t.Source = "cpuid"
		for i := range t.CPUs {
			c := &t.CPUs[i]
			c.Siblings = sib[c.ID]
			c.Core = slices.IndexFunc(t.CPUs, func(o CPU) bool { return o.ID == c.Siblings[0] })
		}
		return
	}
	for _, c := range t.CPUs {
		if !slices.Equal(c.Siblings, sib[c.ID]) {
			t.note("CPU %d: the system names %v as the core's CPUs, cpuid leaf %#x names %v: measure (vtpu smt probe)", c.ID, c.Siblings, leaf, sib[c.ID])
		}
	}
}
