package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"vtpu/pipelines/chart"
	"vtpu/pipelines/report"
	"vtpu/smtpool"
	"vtpu/smtpool/lab"
	"vtpu/smtpool/measure"
	"vtpu/smtpool/ports"
	"vtpu/smtpool/probe"
	"vtpu/smtpool/workload"
)

// A part is what one of the smt commands has to say: the same for a terminal, for programs and for the report.
type part struct {
	report.Section
	event string // of the JSON line
	data  any    // its result
	draws []drawing
}

type drawing struct {
	name, alt string
	draw      func(io.Writer) error
}

func (p *part) draw(name, alt string, f func(io.Writer) error) {
	p.draws = append(p.draws, drawing{name, alt, f})
}

func (p *part) say(format string, v ...any) { p.Text = append(p.Text, fmt.Sprintf(format, v...)) }

func (p *part) row(cells ...any) {
	var r []string
	for _, c := range cells {
		r = append(r, fmt.Sprint(c))
	}
	p.Rows = append(p.Rows, r)
}

// resultLine is the JSON of a part.
type resultLine struct {
	Event  string `json:"event"`
	Result any    `json:"result"`
}

// show prints a part and writes its pictures to the files that are wanted.
func (a *app) show(p *part, svgs ...string) error {
	if a.json {
		a.line(resultLine{p.event, p.data})
	} else {
		if p.Label != "" {
			fmt.Fprintln(a.out, p.Label)
		}
		if len(p.Rows) > 0 {
			a.table(append([][]string{p.Head}, p.Rows...))
		}
		for _, t := range p.Text {
			fmt.Fprintln(a.out, t)
		}
	}
	for i, file := range svgs {
		if i < len(p.draws) {
			if err := picture(file, p.draws[i].draw); err != nil {
				return err
			}
		}
	}
	return nil
}

// section is the part for the report, its pictures drawn.
func (p *part) section() (report.Section, error) {
	s := p.Section
	for _, d := range p.draws {
		var b bytes.Buffer
		if err := d.draw(&b); err != nil {
			return s, err
		}
		s.Pictures = append(s.Pictures, report.Picture{Name: d.name, Alt: d.alt, SVG: b.Bytes()})
	}
	return s, nil
}

// figure writes a number: three digits that count.
func figure(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x >= 1000 || x <= -1000:
		return fmt.Sprintf("%.0f", x)
	case x > -0.01 && x < 0.01:
		return fmt.Sprintf("%.3g", x)
	}
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.3f", x), "0"), ".")
}

// interval writes a median with its interval.
func interval(f measure.Figure) string {
	if f.N == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%s [%s, %s]", figure(f.Median), figure(f.Lo), figure(f.Hi))
}

func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

func topologyPart(t *smtpool.Topology) *part {
	p := &part{event: "smt_topology", data: struct {
		*smtpool.Topology
		Pairs    [][2]int `json:"pairs"`
		Capacity int      `json:"capacity"`
	}{t, append([][2]int{}, t.Pairs()...), t.Capacity()}}
	p.Title = "Topology"
	p.Head = []string{"cpu", "core", "socket", "node", "siblings", "shares the last cache with", "kind"}
	for _, c := range t.CPUs {
		kind := c.Kind
		if c.Weight > 0 {
			kind = fmt.Sprintf("weight %d", c.Weight)
		}
		p.row(c.ID, c.Core, c.Socket, c.Node, numbers(c.Siblings), numbers(c.Cluster), kind)
	}
	if t.Model != "" {
		p.say("model: %s (%s, family %d, model %d)", t.Model, t.Vendor, t.Family, t.ModelNo)
	}
	p.say("source: %s", t.Source)
	if t.SMT != "" {
		p.say("SMT: %s, as the system says", t.SMT)
	}
	if t.Hypervisor {
		p.say("guest of a hypervisor: what it tells is a claim")
	}
	if len(t.Offline) > 0 {
		p.say("offline: %s", numbers(t.Offline))
	}
	if len(t.Excluded) > 0 {
		p.say("excluded: %s, by the affinity mask or a cpuset", numbers(t.Excluded))
	}
	if t.Quota > 0 {
		p.say("quota: %g CPUs", t.Quota)
	}
	for _, c := range t.Caches {
		if c.Type != "Instruction" {
			p.say("cache: L%d %s, lines of %d bytes", c.Level, size(int64(c.Size)), c.Line)
		}
	}
	for _, n := range t.Notes {
		p.say("note: %s", n)
	}
	if len(t.Pairs()) == 0 {
		p.say("pairs: none named: no SMT result can be expected here; vtpu smt probe measures")
	} else {
		p.say("pairs: %v, a claim until vtpu smt probe has measured", t.Pairs())
	}
	p.draw("topology", "Logical CPUs in their cores", func(w io.Writer) error { return chart.Cores(w, coresOf(t)) })
	return p
}

func probePart(rs []probe.Result) *part {
	p := &part{event: "smt_probe", data: rs}
	p.Title = "Sibling probe"
	p.Head = []string{"cpus", "siblings", "one way ns: median", "10%", "90%", "pair / one thread", "the system says", "disturbance"}
	var lines []chart.Line
	for _, r := range rs {
		claim := "nothing"
		if r.Claimed {
			claim = "siblings"
		}
		ratio := "no ruler"
		if r.Ruler {
			ratio = interval(r.PairRatio)
		}
		p.row(fmt.Sprintf("%d, %d", r.A, r.B), r.Verdict, figure(r.OneWayNS.Median), figure(r.OneWayNS.P10), figure(r.OneWayNS.P90), ratio, claim, r.Quality)
		p.say("CPUs %d and %d: %s: %s", r.A, r.B, r.Verdict, r.Why)
		if len(r.Samples) > 1 {
			s := slices.Sorted(slices.Values(r.Samples))
			s = s[:max(2, len(s)*98/100)] // the longest are the system's
			l := chart.Line{Name: fmt.Sprintf("CPUs %d and %d", r.A, r.B)}
			for i, v := range s {
				l.X, l.Y = append(l.X, v), append(l.Y, 100*float64(i+1)/float64(len(r.Samples)))
			}
			lines = append(lines, l)
		}
	}
	p.say("one way: a cache line handed from one CPU to the other, 5-14 ns between siblings, 15 ns and more between cores. pair / one thread: multiplications of both CPUs over " +
		"those of one alone, 1.0 on siblings, which share a multiplier, 2.0 on two cores.")
	if len(lines) > 0 {
		p.draw("probe", "Distribution of the one-way latency of a cache line", func(w io.Writer) error {
			return chart.Curves(w, "a cache line, one way", "ns", "% of the samples", lines)
		})
	}
	return p
}

func rulersPart(r lab.Rulers) *part {
	p := &part{event: "smt_rulers", data: r}
	p.Title, p.Label = "Rulers", r.Label
	p.Head = []string{"ruler", "presses", "measured a cycle", "ns each", "model a cycle", "error", "limit by the model"}
	var bars []chart.Bar
	for _, row := range r.Rows {
		if row.Missing != "" {
			p.row(row.Ruler, row.Resource, row.Missing)
			continue
		}
		model, e := "-", "-"
		switch {
		case row.Input:
			model = "is its input"
		case row.Predicted > 0:
			model, e = figure(row.Predicted), percent(row.Error)
			bars = append(bars, chart.Bar{Name: row.Ruler, Measured: row.PerCycle.Median / row.Predicted, Lo: row.PerCycle.Lo / row.Predicted, Hi: row.PerCycle.Hi / row.Predicted, Expected: 1})
		}
		p.row(row.Ruler, row.Resource, interval(row.PerCycle), figure(1/row.PerNS.Median), model, e, row.Limit)
	}
	p.say("clock: %.2f GHz by a chain of additions; a multiplication takes %.2f cycles by it (3 if the clock is right)", r.Clock, r.Check)
	p.say("memory: a buffer of %s; the last cache is said to have %s", size(int64(r.Memory)), size(int64(r.Cache)))
	if r.Memory < r.Cache {
		p.say("the buffer fits into the last cache as the system tells it (on a guest it is shared with others): \"memory\" here may be that cache")
	}
	p.say("model: %s", r.Model)
	over := ""
	for _, row := range r.Rows {
		if row.Error > lab.ErrorLimit || row.Error < -lab.ErrorLimit {
			over += " " + row.Ruler
		}
	}
	switch {
	case len(bars) == 0:
		p.say("the model says nothing of this CPU")
	case over == "":
		p.say("the model's error is below %.0f %% on every row; the largest is on %s", 100*lab.ErrorLimit, r.Worst)
	default:
		p.say("the model's error is above %.0f %% on:%s", 100*lab.ErrorLimit, over)
	}
	p.say("disturbance: %v", r.Quality)
	if len(bars) > 0 {
		p.draw("rulers", "Measured over predicted throughput of each ruler", func(w io.Writer) error {
			return chart.Bars(w, "one thread: measured over predicted", "measured / predicted", bars)
		})
	}
	return p
}

func lossesPart(l lab.Losses) *part {
	p := &part{event: "smt_losses", data: l}
	p.Title, p.Label = "Losses of rulers beside each other", l.Label
	p.Head = append([]string{"loss of \\ beside"}, l.Names...)
	for i, n := range l.Names {
		r := []any{n}
		for j := range l.Names {
			r = append(r, fmt.Sprintf("%.0f %%", 100*l.Loss[i][j]))
		}
		p.row(r...)
	}
	p.say("a row is what that ruler loses of its rate beside the ruler of the column; %d repetitions a cell", l.Reps)
	p.say("%s", l.Counter)
	if len(l.Model) > 0 {
		worst, at, sum, n := 0.0, "", 0.0, 0
		for i := range l.Names {
			for j := i; j < len(l.Names); j++ {
				e := l.Model[i][j]/l.WS[i][j] - 1
				sum += max(e, -e)
				n++
				if max(e, -e) > worst {
					worst, at = max(e, -e), l.Names[i]+" beside "+l.Names[j]
				}
			}
		}
		if strings.HasPrefix(l.Label, lab.NotSMT) {
			p.say("the model predicts siblings; these are none, so the two can't be compared")
		} else {
			p.say("weighted speedup, model against measurement: %.1f %% off on average, most on %s (%.0f %%)", 100*sum/float64(n), at, 100*worst)
		}
	}
	p.say("probe before and after: %s, %s; disturbance: %v", l.Bracket.Before, l.Bracket.After, l.Quality)
	return p
}

// sure says what the probes around an experiment make of it.
func sure(b lab.Bracket) string {
	if b.Same {
		return fmt.Sprintf("probe before and after: %s, %s", b.Before, b.After)
	}
	return fmt.Sprintf("probe before and after: %s, %s: NOT the same, so these figures are of a moving target", b.Before, b.After)
}

func pairsPart(r lab.Pairs) *part {
	p := &part{event: "smt_pair", data: r}
	p.Title, p.Label = "Pairs of workloads", r.Label
	p.Head = []string{"pair", "D keeps", "S keeps", "weighted speedup", "conflict", "model: siblings", "limit by the model", "way", "steps/s", "over naive", "by balance", "disturbance"}
	siblings := !strings.HasPrefix(r.Label, lab.NotSMT)
	var bars []chart.Bar
	add := func(rows []lab.PairRow, far string) {
		for _, w := range rows {
			m := "-"
			if w.Model > 0 {
				m = figure(w.Model)
			}
			p.row(w.Name+far, interval(w.Kept.Rate[0]), interval(w.Kept.Rate[1]), interval(w.Kept.WS), interval(w.Kept.Conflict), m, w.Limit, "", "", "", "", w.Quality)
			b := chart.Bar{Name: w.Name + far, Measured: w.Kept.WS.Median, Lo: w.Kept.WS.Lo, Hi: w.Kept.WS.Hi}
			if siblings && far == "" {
				b.Expected = w.Model
			}
			bars = append(bars, b)
			for i, s := range w.Steps {
				bound := ""
				if i == len(w.Steps)-1 {
					bound = "at most " + figure(w.Bound)
				}
				p.row("", "", "", "", "", "", "", s.Name, interval(s.PerS), interval(s.Naive), bound)
			}
			for i, x := range w.Alone {
				if x.Predicted > 0 {
					p.say("%s%s, program of the %s lane alone: %s cycles an iteration, the model says %s (%s, by %s)", w.Name, far, []string{"D", "S"}[i], figure(x.Cycles), figure(x.Predicted),
						percent(x.Error), x.Limit)
				}
			}
			for i, side := range w.Counts {
				for _, c := range side {
					p.say("%s, %s lane: %s %d", w.Name, []string{"D", "S"}[i], c.Name, c.Value)
				}
			}
		}
	}
	add(r.Rows, "")
	add(r.Far, fmt.Sprintf(" (two cores: with CPU %d)", r.FarCPU))
	p.say("a step is a block of each program; one thread does both, the pair hands steps from the S lane to the D lane. by balance: (tD + tS) / max(tD, tS), which no pair can pass.")
	p.say("weighted speedup = sum over both threads of time alone / time together; conflict = 1 - ws/2")
	p.say("the programs: D is made of additions, multiplications, subtractions, FMAs of float64; S of gathers, scatters, prefetches of random rows")
	p.say("counters: %s", r.Counter)
	p.say("%s", sure(r.Bracket))
	p.draw("pairs", "Weighted speedup of each pair", func(w io.Writer) error {
		return chart.Bars(w, "weighted speedup of two threads ("+labelOf(siblings)+")", "ws: 2 is no conflict, 1 is no gain", bars)
	})
	return p
}

func labelOf(siblings bool) string {
	if siblings {
		return "siblings"
	}
	return lab.NotSMT
}

func curvePart(c lab.Curve) *part {
	p := &part{event: "smt_curve", data: c}
	p.Title, p.Label = "What the second thread gains, over the misses that the first overlaps by itself", c.Label
	siblings := !strings.HasPrefix(c.Label, lab.NotSMT)
	p.Head = []string{"chains", "naive steps/s", "interleaved steps/s", "pair steps/s", "pair over naive", "by balance", "pair over interleaved", "weighted speedup", "model: siblings", "disturbance"}
	pair := chart.Line{Name: "the pair over one thread, naive"}
	tuned := chart.Line{Name: "the pair over one thread, interleaved"}
	bound := chart.Line{Name: "what the balance of the stages allows", Dashed: true}
	for _, q := range c.Points {
		last := q.Steps[len(q.Steps)-1]
		m := "-"
		if q.Model > 0 {
			m = figure(q.Model)
		}
		p.row(q.Chains, interval(q.Steps[0].PerS), interval(q.Steps[1].PerS), interval(last.PerS), interval(last.Naive), "at most "+figure(q.Bound), interval(q.Tuned), interval(q.Kept.WS), m, q.Qual)
		put := func(l *chart.Line, f measure.Figure) {
			l.X, l.Y, l.Lo, l.Hi = append(l.X, float64(q.Chains)), append(l.Y, f.Median), append(l.Lo, f.Lo), append(l.Hi, f.Hi)
		}
		put(&pair, last.Naive)
		put(&tuned, q.Tuned)
		bound.X, bound.Y = append(bound.X, float64(q.Chains)), append(bound.Y, q.Bound)
	}
	p.say("a step is %d misses in so many independent chains, and %d arithmetic operations on vectors, which take as long as the misses do in one chain", c.Misses, c.DOps)
	p.say("interleaved: one thread, each step of the chains followed by its share of the arithmetic, so that the core overlaps the two as far as it looks ahead")
	p.say("%s", sure(c.Bracket))
	p.draw("curve", "Speedup of the pair over the number of independent chains", func(w io.Writer) error {
		return chart.Curves(w, "speedup of the pair ("+labelOf(siblings)+")", "independent chains of misses", "speedup", []chart.Line{pair, tuned, bound})
	})
	p.draw("timeline", "What the two lanes do over time", func(w io.Writer) error {
		var spans []chart.Span
		for _, s := range c.Timeline {
			spans = append(spans, chart.Span{Lane: s.Lane, What: s.What, Begin: s.Begin, End: s.End})
		}
		return chart.Timeline(w, fmt.Sprintf("steps of the pair, one chain (%s)", labelOf(siblings)), spans)
	})
	return p
}

// A modelRow is what the port model says of two threads on siblings of a kind of core.
type modelRow struct {
	Core  string               `json:"core"`
	Pair  string               `json:"pair"`
	Alone [2]float64           `json:"alone_cycles"`
	Limit [2]string            `json:"limit"`
	Both  ports.PairPrediction `json:"both"`
}

// modelRows predicts the standard pairs on cores.
func modelRows(cores []*ports.Machine, latency float64, n int, d, s float64) ([]modelRow, error) {
	mix := workload.Mix{N: n, D: d, S: s}
	type two struct {
		name string
		a, b *workload.Program
	}
	var err error
	make1 := func(m workload.Mix) *workload.Program {
		p, e := workload.New(m)
		if e != nil {
			err = e
		}
		return p
	}
	da, sb := make1(mix), make1(mix.Swap())
	pd, ps := make1(workload.Mix{N: n, D: 1}), make1(workload.Mix{N: n, S: 1})
	if err != nil {
		return nil, err
	}
	chase, err := workload.Chains(1, 0)
	if err != nil {
		return nil, err
	}
	var rows []modelRow
	for _, m := range cores {
		for _, t := range []two{{fmt.Sprintf("%v beside %v", mix, mix.Swap()), da, sb}, {"control: twice " + mix.String(), da, da}, {"control: twice " + mix.Swap().String(), sb, sb},
			{"D only beside S only", pd, ps}, {"control: twice D only", pd, pd}, {"D only beside one chain of misses", pd, chase}} {
			a, b := m.OfProgram("a", t.a, 8), m.OfProgram("b", t.b, 8)
			pa, e1 := m.Alone(a, latency)
			pb, e2 := m.Alone(b, latency)
			both, e3 := m.Pair(a, b, latency)
			for _, e := range []error{e1, e2, e3} {
				if e != nil {
					return nil, e
				}
			}
			rows = append(rows, modelRow{m.Name, t.name, [2]float64{pa.Cycles, pb.Cycles}, [2]string{pa.Limit, pb.Limit}, both})
		}
	}
	return rows, nil
}

func modelPart(rows []modelRow, cores []*ports.Machine, latency float64, from string) *part {
	p := &part{event: "smt_model", data: struct {
		Latency float64    `json:"memory_latency_cycles"`
		Rows    []modelRow `json:"rows"`
	}{latency, rows}}
	p.Title, p.Label = "Port model", "a prediction for siblings, not a measurement"
	p.Head = []string{"core", "pair", "cycles alone: first", "by", "second", "by", "keep", "weighted speedup", "conflict", "limit"}
	var bars []chart.Bar
	for _, r := range rows {
		p.row(r.Core, r.Pair, figure(r.Alone[0]), r.Limit[0], figure(r.Alone[1]), r.Limit[1], percent(r.Both.Rate[0])+", "+percent(r.Both.Rate[1]), figure(r.Both.WS), percent(r.Both.Conflict), r.Both.Limit)
		bars = append(bars, chart.Bar{Name: r.Core + ": " + r.Pair, Measured: r.Both.WS, Lo: r.Both.WS, Hi: r.Both.WS})
	}
	p.say("latency of memory: %.0f cycles (%s)", latency, from)
	for _, m := range cores {
		p.say("%s: %s", m.Name, m.Sources)
	}
	p.say("the model knows issue slots, ports, caches, outstanding misses and the divided reorder window; not the bandwidth of memory, nor how a core takes turns")
	p.draw("model", "Predicted weighted speedup", func(w io.Writer) error {
		return chart.Bars(w, "predicted weighted speedup on siblings", "ws: 2 is no conflict, 1 is no gain", bars)
	})
	return p
}
