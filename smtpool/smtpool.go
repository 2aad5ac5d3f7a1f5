// Package smtpool knows the logical CPUs and binds threads to them: topology, pinned lanes, pairs of lanes on the two hyperthreads of a core, polite
// waiting, and what disturbed a lane. It is a leaf: nothing of the pipeline is in here, and it is useful alone. The packages below it measure:
// probe (are two CPUs siblings?), ruler (loops that press one resource), workload (complementary loops), ports (a model of them), measure (statistics).
//
// A pair is worth what it does not fight about. With ws = sum over both threads of time alone / time together, conflict = 1 - ws/2.
package smtpool

import (
	"errors"
)

// ErrNoPin says that this system does not let a thread choose its CPU.
var ErrNoPin = errors.New("smtpool: threads can't be bound to a CPU on this system")

// CPUs lists the logical CPUs that this process may use, ascending. It never is empty.
func CPUs() []CPU { return Discover().CPUs }

// Pin binds the calling thread to one logical CPU until the returned function is called, which gives it the CPUs it had before. The goroutine must
// hold its thread (runtime.LockOSThread). On an error the thread is as it was.
func Pin(cpu int) (unpin func(), err error) { return pin(cpu) }
