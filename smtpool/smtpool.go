// Package smtpool knows the logical CPUs and binds threads to them. It is a leaf: nothing of the pipeline is in here.
package smtpool

import (
	"errors"
	"runtime"
)

// ErrNoPin says that this system does not let a thread choose its CPU.
var ErrNoPin = errors.New("smtpool: threads can't be bound to a CPU on this system")

// A CPU is a logical CPU as the operating system tells it. Hypervisors hide or invent topology: Core is a claim, not a measurement.
type CPU struct {
	ID       int   // number of the operating system
	Siblings []int // logical CPUs of the same core, itself included; just itself where nothing is known
}

// CPUs lists the logical CPUs that this process may use, ascending. It never is empty.
func CPUs() []CPU {
	ids := allowed()
	if len(ids) == 0 {
		for i := range runtime.NumCPU() {
			ids = append(ids, i)
		}
	}
	cpus := make([]CPU, len(ids))
	for i, id := range ids {
		cpus[i] = CPU{ID: id, Siblings: siblings(id)}
		if len(cpus[i].Siblings) == 0 {
			cpus[i].Siblings = []int{id}
		}
	}
	return cpus
}

// Pin binds the calling thread to one logical CPU until the returned function is called, which gives it the CPUs it had before. The goroutine must
// hold its thread (runtime.LockOSThread). On an error the thread is as it was.
func Pin(cpu int) (unpin func(), err error) { return pin(cpu) }
