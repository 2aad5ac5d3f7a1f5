package main

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/exp/trace"
)

// stalls is what a trace of Go's runtime says of the pauses in a run and of its lanes.
type stalls struct {
	Stops   int     // of the world
	Stopped float64 // seconds in all
	Longest float64 // seconds
	Off     float64 // seconds that lanes were ready to run and did not, or were stopped
	OffLong float64 // longest of these
	Lanes   int
	Span    float64 // seconds from the first event to the last
}

// readTrace reads a trace, in which the goroutines that run longest are the lanes. A lane that waits for another one (parked, or blocked on a channel) is not
// held off by the runtime, so only the time in which it could have run counts.
func readTrace(r io.Reader, lanes int) (s stalls, err error) {
	type seen struct {
		state   trace.GoState
		since   trace.Time
		ran     float64
		off     float64
		offLong float64
	}
	rd, err := trace.NewReader(r)
	if err != nil {
		return s, err
	}
	gs := map[trace.GoID]*seen{}
	stops := map[string]trace.Time{} // by the range's name: one stop at a time
	var begin, now trace.Time
	for {
		e, err := rd.ReadEvent()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, err
		}
		if begin == 0 {
			begin = e.Time()
		}
		now = e.Time()
		switch e.Kind() {
		case trace.EventRangeBegin:
			if n := e.Range().Name; strings.HasPrefix(n, "stop-the-world") {
				stops[n] = e.Time()
			}
		case trace.EventRangeEnd:
			n := e.Range().Name
			if at, ok := stops[n]; ok && strings.HasPrefix(n, "stop-the-world") {
				d := e.Time().Sub(at).Seconds()
				s.Stops++
				s.Stopped += d
				s.Longest = max(s.Longest, d)
				delete(stops, n)
			}
		case trace.EventStateTransition:
			t := e.StateTransition()
			if t.Resource.Kind != trace.ResourceGoroutine {
				continue
			}
			id := t.Resource.Goroutine()
			g := gs[id]
			if g == nil {
				g = &seen{}
				gs[id] = g
			}
			from, to := t.Goroutine()
			if d := e.Time().Sub(g.since).Seconds(); g.since != 0 && from == g.state {
				switch from {
				case trace.GoRunning:
					g.ran += d
				case trace.GoRunnable:
					g.off += d
					g.offLong = max(g.offLong, d)
				}
			}
			g.state, g.since = to, e.Time()
		}
	}
	s.Span = now.Sub(begin).Seconds()
	for range lanes { // the goroutines that ran longest
		var most *seen
		var id trace.GoID
		for i, g := range gs {
			if most == nil || g.ran > most.ran || g.ran == most.ran && i < id {
				most, id = g, i
			}
		}
		if most == nil {
			break
		}
		s.Lanes++
		s.Off += most.off
		s.OffLong = max(s.OffLong, most.offLong)
		delete(gs, id)
	}
	return s, nil
}
