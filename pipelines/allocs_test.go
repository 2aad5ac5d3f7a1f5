package pipelines_test

import (
	"runtime"
	"testing"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/presettest"
)

// TestStepsAllocateNothing counts the allocations of steps of every preset and of every work of the benchmark that is small, on one lane and on several.
func TestStepsAllocateNothing(t *testing.T) {
	presettest.Short(t)
	files := presets()
	for _, w := range []string{"w1", "w2", "w3", "w5", "w7"} {
		files = append(files, w)
	}
	for _, file := range files {
		for _, lanes := range []string{"d=1,s=0", "d=2,s=1", "d=2,s=2"} {
			t.Run(file+"/"+lanes, func(t *testing.T) {
				_, e := engine(t, pipelines.Options{File: file, Lanes: lanes, Steps: 1 << 40, LookAhead: -1})
				run := func(n int64) uint64 {
					var a, b runtime.MemStats
					runtime.ReadMemStats(&a)
					if err := e.Run(t.Context(), e.Version()+n, 1<<40, func(exec.Outcome) {}); err != nil {
						t.Fatal(err)
					}
					runtime.ReadMemStats(&b)
					return b.Mallocs - a.Mallocs
				}
				const steps = 70 // one of them is measured stage by stage
				run(5)
				if got := run(steps); got >= steps/2 { // a call of Run may allocate, a step may not
					t.Errorf("%d allocations in %d steps", got, steps)
				}
			})
		}
	}
}
