package main

import (
	"context"
	"math"
	"runtime"
	"runtime/metrics"
	"slices"
	"time"

	"vtpu/pipelines/exec"
)

// pauseRow says how the garbage collector and stop-the-world pauses disturb the steps of W4.
type pauseRow struct {
	What    string  `json:"what"`
	Steps   int     `json:"steps"`
	Cycles  uint64  `json:"gc_cycles"`
	Allocs  float64 `json:"allocations"`      // a step
	Stop    float64 `json:"longest_stopping"` // until all lanes stood still: the longest kernel call bounds it
	Pause   float64 `json:"longest_pause"`    // in all
	Median  float64 `json:"median_step"`
	Slowest float64 `json:"slowest_step"`
}

const (
	gcCycles   = "/gc/cycles/total:gc-cycles"
	gcStopping = "/sched/pauses/stopping/gc:seconds"
	gcPauses   = "/sched/pauses/total/gc:seconds"
)

// collector is what Go's runtime has counted of its collections and pauses.
func collector() (cycles uint64, stopping, pauses *metrics.Float64Histogram) {
	s := []metrics.Sample{{Name: gcCycles}, {Name: gcStopping}, {Name: gcPauses}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Float64Histogram(), s[2].Value.Float64Histogram()
}

// longest is the upper edge of the highest bucket that has grown since.
func longest(now, before *metrics.Float64Histogram) float64 {
	for i := len(now.Counts) - 1; i >= 0; i-- {
		if now.Counts[i] > before.Counts[i] {
			if up := now.Buckets[i+1]; !math.IsInf(up, 1) {
				return up
			}
			return now.Buckets[i]
		}
	}
	return 0
}

// comparePauses runs W4 as it is, and with a collection forced all the time.
func (b *bench) comparePauses() ([]pauseRow, error) {
	b.say("P")
	var w4 work
	for _, w := range works {
		if w.id == "W4" {
			w4 = w
		}
	}
	var rows []pauseRow
	for _, forced := range []bool{false, true} {
		o, err := openOwn(w4.file(b.tools.root), "d=2,s=0", b.sets)
		if err != nil {
			return nil, err
		}
		row, err := pauses(o.engine, forced, 20*b.seconds)
		if err := o.close(); err != nil {
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func pauses(e *exec.Engine, forced bool, seconds float64) (pauseRow, error) {
	row := pauseRow{What: "as it is"}
	if forced {
		row.What = "a collection every 20 ms"
	}
	took := make([]float64, 0, 1<<20)
	var last time.Time
	seen := func(exec.Outcome) {
		now := time.Now()
		took = append(took, now.Sub(last).Seconds())
		last = now
	}
	run := func(n int64) error {
		last = time.Now()
		return e.Run(context.Background(), e.Version()+n, 1, seen)
	}
	if err := run(3); err != nil {
		return row, err
	}
	n := max(10, int64(seconds/slices.Min(took)))
	took = took[:0]
	stop, done := make(chan struct{}), make(chan struct{})
	runtime.GC()
	cycles, stopping, total := collector()
	var a, z runtime.MemStats
	runtime.ReadMemStats(&a)
	go func() {
		defer close(done)
		for forced {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				runtime.GC()
			}
		}
	}()
	err := run(n)
	close(stop)
	<-done
	runtime.ReadMemStats(&z)
	cycles2, stopping2, total2 := collector()
	row.Steps, row.Cycles, row.Stop, row.Pause = len(took), cycles2-cycles, longest(stopping2, stopping), longest(total2, total)
	row.Allocs = float64(z.Mallocs-a.Mallocs) / float64(n)
	slices.Sort(took)
	row.Median, row.Slowest = took[len(took)/2], took[len(took)-1]
	return row, err
}
