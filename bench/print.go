package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// verdict says whether a demand is met; where the quartiles lie on both sides of it, that the measurement can't tell.
func verdict(got spread, must float64) string {
	switch {
	case must == 0:
		return ""
	case got.Q1 >= must:
		return "yes"
	case got.Q3 < must:
		return "no"
	}
	return "open"
}

// atMost is verdict where less is better.
func atMost(got spread, must float64) string {
	return verdict(spread{-got.Median, -got.Q3, -got.Q1}, -must)
}

// times writes a demanded ratio.
func times(must float64) string {
	if must == 0 {
		return ""
	}
	return fmt.Sprintf("%gx", must)
}

// print writes the tables and, below them, where they were measured and what is missing.
func (r result) print(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t ")) }
	if len(r.Works) > 0 {
		row("work", "vTPU", "lanes", "of FMA", "line", "peer", "at", "time", "peer/vTPU [quartiles]", "must be", "takes", "is it?")
		for _, w := range r.Works {
			if w.Ratio == nil {
				row(w.Work, duration(w.Own), w.Lanes, percent(w.Share), nanoseconds(w.Line))
				continue
			}
			row(w.Work, duration(w.Own), w.Lanes, percent(w.Share), nanoseconds(w.Line), w.Peer, w.Setting, duration(w.Time), w.Ratio.String(), times(w.Must), percent(w.Needs), verdict(*w.Ratio, w.Must))
		}
		row("")
	}
	if len(r.Products) > 0 {
		row("product", "of", "vTPU GFLOP/s", "OpenBLAS GFLOP/s", "vTPU/OpenBLAS", "must be", "is it?", "% of FMA peak", "must be", "is it?", "gonum GFLOP/s", "GoMLX GFLOP/s")
		for _, g := range r.Products {
			rate, ratio, least, ok := "", "", "", ""
			bar := 0.0
			if g.Must {
				bar = 1
			}
			if g.Ratio != nil {
				rate, ratio, least, ok = short(g.OpenBLAS), g.Ratio.String(), times(1.2*bar), verdict(*g.Ratio, 1.2*bar)
			}
			share := spread{100 * g.Share.Median, 100 * g.Share.Q1, 100 * g.Share.Q3}
			percent := ""
			if g.Must {
				percent = "90"
			}
			row(g.Product, g.Of, short(g.Own), rate, ratio, least, ok, share.String(), percent, verdict(share, 90*bar), ifKnown(g.Gonum), ifKnown(g.GoMLX))
		}
		row("")
	}
	if len(r.Hops) > 0 {
		row("hop", "one way", "quartiles", "must be", "is it?", "allocations")
		for _, h := range r.Hops {
			least, ok := "", ""
			if h.Must > 0 {
				least, ok = "at most "+duration(h.Must), atMost(h.Time, h.Must)
			}
			row(h.Hop, duration(h.Time.Median), duration(h.Time.Q1)+" to "+duration(h.Time.Q3), least, ok, fmt.Sprintf("%.3g", h.Allocs))
		}
		row("")
	}
	if len(r.Pauses) > 0 {
		row("W4", "steps", "median", "slowest", "collections", "lanes stand still after", "at most", "world stopped", "at most", "lanes ready, not running", "at most")
		for _, p := range r.Pauses {
			row(p.What, fmt.Sprint(p.Steps), duration(p.Median), duration(p.Slowest), fmt.Sprint(p.Cycles), duration(p.Wait), duration(p.Stop),
				fmt.Sprintf("%.3g %%", 100*p.Stopped), duration(p.Pause), fmt.Sprintf("%.3g %%", 100*p.Off), duration(p.OffLong))
		}
		row("")
	}
	if len(r.Streams) > 0 {
		row("streams", "a step", "recorded, replayed", "bytes", "the disk alone", "processor time", "without", "ratio", "must be", "is it?")
		for _, s := range r.Streams {
			least, ok := "", ""
			if s.Most > 0 {
				least, ok = fmt.Sprintf("at most %.2f", s.Most), atMost(s.Ratio, s.Most)
			}
			if s.Least > 0 {
				least, ok = fmt.Sprintf("at least %.0f", s.Least), verdict(s.Ratio, s.Least)
			}
			if s.Bound {
				least += " of the disk's"
			}
			row(s.Work+" "+s.Lanes+" "+s.What, duration(s.Plain), duration(s.Time), fmt.Sprintf("%.0f", s.Bytes), duration(s.Disk), duration(s.CPU), duration(s.Idle), fmt.Sprintf("%.3f [%.3f, %.3f]", s.Ratio.Median, s.Ratio.Q1, s.Ratio.Q3), least, ok)
		}
		row("")
	}
	if len(r.Workers) > 0 {
		row("over a link", "one worker", "two workers", "one/two [quartiles]", "must be", "is it?", "two lanes of one process", "rounds")
		for _, w := range r.Workers {
			row(w.What, duration(w.One), duration(w.Two), w.Ratio.String(), times(w.Must), verdict(w.Ratio, w.Must), w.Lanes.String(), fmt.Sprint(w.Rounds))
		}
		row("")
	}
	if len(r.Links) > 0 {
		row("over a link, as planned", "predicted", "measured", "measured/predicted [quartiles]", "must be", "is it?", "rounds")
		for _, w := range r.Links {
			as := duration
			if w.Unit != "s" {
				as = func(v float64) string { return short(v) + " " + w.Unit }
			}
			ok := "yes"
			if m := w.Ratio.Median; m > w.Within || m < 2-w.Within {
				ok = "no"
			}
			row(w.What, as(w.Predicted), as(w.Measured), w.Ratio.String(), fmt.Sprintf("%.2f to %.2f", 2-w.Within, w.Within), ok, fmt.Sprint(w.Rounds))
		}
		row("")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Works) > 0 {
		fmt.Fprintln(out, "of FMA: of the FMA peak of the cores that the work may use, measured in the same rounds; takes: what the demand would take of it (above 100 %: this machine can't);\n"+
			"line: a cache line from one CPU to the other, in the same rounds")
	}
	m := r.Machine
	fmt.Fprintf(out, "%s, %d CPUs, %s, %s, vTPU with %s\n", m.CPU, m.CPUs, m.OS, m.Go, m.ISA)
	for _, w := range r.Works {
		if w.Work == "W8" {
			fmt.Fprintf(out, "W8: vTPU plans %.2f GiB\n", float64(w.Bytes)/(1<<30))
			break
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m.Peers)) {
		fmt.Fprintf(out, "%s: %s\n", k, m.Peers[k])
	}
	for _, k := range slices.Sorted(maps.Keys(m.Not)) {
		fmt.Fprintf(out, "skipped %s: %s\n", k, m.Not[k])
	}
	return nil
}

// percent is a share, or nothing for one that was not measured.
func percent(share float64) string {
	if share == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}

// nanoseconds writes the quartiles where they differ.
func nanoseconds(s *spread) string {
	switch {
	case s == nil:
		return ""
	case s.Q3 > 1.5*s.Q1:
		return fmt.Sprintf("%.0f-%.0f ns", s.Q1, s.Q3)
	}
	return fmt.Sprintf("%.0f ns", s.Median)
}

// ifKnown is a rate, or nothing for one that was not measured.
func ifKnown(v float64) string {
	if v == 0 {
		return ""
	}
	return short(v)
}
