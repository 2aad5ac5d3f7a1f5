package smtpool

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Discover reads the topology of this machine, as the calling thread may use it.
func Discover() *Topology {
	t := Read(os.DirFS("/"), affinity(), runtime.NumCPU())
	if t.Source == "none" {
		t.CompareCPUID()
	}
	return t
}

func affinity() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var ids []int
	for i := 0; len(ids) < set.Count(); i++ {
		if set.IsSet(i) {
			ids = append(ids, i)
		}
	}
	return ids
}

func pin(cpu int) (func(), error) {
	var old, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return nil, fmt.Errorf("read CPU affinity: %w", err)
	}
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("bind thread to CPU %d: %w", cpu, err)
	}
	return func() { _ = unix.SchedSetaffinity(0, &old) }, nil // the CPUs were allowed a moment ago; if they are not now, the pin stays
}
