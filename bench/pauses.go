package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/metrics"
	rtrace "runtime/trace"
	"slices"
	"time"

	"vtpu/pipelines/exec"
	"vtpu/smtpool"
)

// pauseRow says how the garbage collector and stop-the-world pauses disturb the steps of W4: by the runtime's counters, and by a trace of it.
type pauseRow struct {
	What    string  `json:"what"`
	Steps   int     `json:"steps"`
	Cycles  uint64  `json:"gc_cycles"`
	Median  float64 `json:"median_step"`
	Slowest float64 `json:"slowest_step"`
	Wait    float64 `json:"median_stopping"`  // until all lanes stood still; a kernel's call can't be interrupted
	Stop    float64 `json:"longest_stopping"` // the same, at worst
	Stopped float64 `json:"stopped_share"`    // of the time, in which the world stood still
	Pause   float64 `json:"longest_pause"`    // from the wish to stop to the start, in the trace
	Off     float64 `json:"lanes_off_share"`  // of the lanes' time, in which they were ready to run and did not
	OffLong float64 `json:"longest_off"`
}

const (
	gcCycles   = "/gc/cycles/total:gc-cycles"
	gcStopping = "/sched/pauses/stopping/gc:seconds"
)

// collector is what Go's runtime has counted of its collections and of the time until all threads stood still.
func collector() (cycles uint64, stopping *metrics.Float64Histogram) {
	s := []metrics.Sample{{Name: gcCycles}, {Name: gcStopping}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Float64Histogram()
}

// below is the upper edge of the bucket with the share q of what has been counted since; 0 if that is nothing.
func below(q float64, now, before *metrics.Float64Histogram) float64 {
	var total, sum uint64
	for i, c := range now.Counts {
		total += c - before.Counts[i]
	}
	for i, c := range now.Counts {
		if sum += c - before.Counts[i]; sum > 0 && float64(sum) >= q*float64(total) {
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
	for lanes := 1; lanes <= min(2, len(smtpool.CPUs())); lanes++ {
		for _, forced := range []bool{false, true} {
			o, err := openOwn(w4.file(b.tools.root), fmt.Sprintf("d=%d,s=0", lanes), b.sets, 0)
			if err != nil {
				return nil, err
			}
			row, err := pauses(o.engine, lanes, forced, 20*b.seconds)
			if err := o.close(); err != nil {
				return nil, err
			}
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func pauses(e *exec.Engine, lanes int, forced bool, seconds float64) (pauseRow, error) {
	row := pauseRow{What: fmt.Sprintf("d=%d, as it is", lanes)}
	if forced {
		row.What = fmt.Sprintf("d=%d, a collection every 20 ms", lanes)
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
	cycles, stopping := collector()
	var traced bytes.Buffer
	traced.Grow(64 << 20) // a trace that makes the heap grow would show itself
	if err := rtrace.Start(&traced); err != nil {
		return row, err
	}
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
	rtrace.Stop()
	if err != nil {
		return row, err
	}
	cycles2, stopping2 := collector()
	row.Steps, row.Cycles = len(took), cycles2-cycles
	row.Wait, row.Stop = below(0.5, stopping2, stopping), below(1, stopping2, stopping)
	slices.Sort(took)
	row.Median, row.Slowest = took[len(took)/2], took[len(took)-1]
	st, err := readTrace(&traced, lanes)
	if err != nil {
		return row, fmt.Errorf("the trace: %w", err)
	}
	row.Stopped, row.Pause = st.Stopped/st.Span, st.Longest
	row.Off, row.OffLong = st.Off/st.Span/float64(max(1, st.Lanes)), st.OffLong
	return row, nil
}
