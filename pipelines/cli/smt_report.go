package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vtpu/pipelines"
	"vtpu/pipelines/chart"
	"vtpu/pipelines/report"
	"vtpu/smtpool"
	"vtpu/smtpool/lab"
	"vtpu/smtpool/measure"
	"vtpu/smtpool/ports"
	"vtpu/smtpool/probe"
	"vtpu/smtpool/workload"
	"vtpu/stages"
)

// clicksAtScale makes the preset clicks as large as the published model but for the tables, which have a tenth of their rows: what is trained where W6 does not fit
// into memory as often as there are ways. Ids are uniform, so that rows come from beyond the caches.
var clicksAtScale = []string{"data.rows=20000", "data.tables=26", "data.ids=100000", "data.skew=0", "stages.dense#1.units=512", "stages.dense#2.units=256",
	"stages.dense#5.units=512", "stages.dense#6.units=256", "run.eval_every=0"}

// w6Room is the memory that W6 takes in all ways at the same time, of which each has its own tables of 1.7 GB.
const w6Room = 9 << 30

// trainDefault is what is trained where no file is given.
func trainDefault() (file string, sets []string) {
	if room := smtpool.Memory(); room > 0 && room < w6Room {
		return "clicks", clicksAtScale
	}
	return "w6", nil
}

func trainPart(c pipelines.Comparison) *part {
	p := &part{event: "smt_train", data: c}
	p.Title, p.Label = "Training: "+c.Pipeline, c.Label
	p.Head = []string{"way", "lanes", "look-ahead", "prefetch", "cpus", "steps/s", "over one thread naive", "over one thread with prefetch", "weights_sha256"}
	var bars []chart.Bar
	picked, pair := "", ""
	for _, w := range c.Ways {
		if w.Picked {
			picked += fmt.Sprintf("%s (%s), %s times one thread with prefetch", w.Lanes, w.Name, interval(w.Tuned))
		}
		if w.Lanes == "d=1,s=1" {
			pair = interval(w.Tuned)
		}
		pre := "no"
		if w.Prefetch {
			pre = "yes"
		}
		p.row(w.Name, w.Lanes, w.Look, pre, numbers(w.CPUs), interval(w.PerS), interval(w.Naive), interval(w.Tuned), w.Weights[:16])
		b := chart.Bar{Name: w.Name, Measured: w.Naive.Median, Lo: w.Naive.Lo, Hi: w.Naive.Hi}
		if w.Lanes == "d=1,s=1" {
			b.Expected = c.Bound
		}
		bars = append(bars, b)
	}
	if c.Bound > 0 {
		p.say("%.0f %% of the time of one thread is in stages that the pair runs on its S lane: by that balance S and D side by side can be at most %.2f times one thread with prefetch; measured: %s",
			100*c.S, c.Bound, pair)
	}
	if picked != "" {
		p.say("the planner picks %s", picked)
	}
	if c.Same {
		p.say("all ways ended in the same weights and optimizer state after %d steps", c.Steps)
	} else {
		p.say("THE WAYS ENDED IN DIFFERENT WEIGHTS OR STATES: please report this")
	}
	p.say("weights and state: %s; %d steps a measurement, %d repetitions; disturbance: %v", size(c.Bytes), c.Chunk, c.Quality.Repetitions, c.Quality)
	p.draw("train", "Steps a second over one thread, naive", func(w io.Writer) error {
		return chart.Bars(w, "training, over one thread naive", "times", bars)
	})
	return p
}

// trainLimit keeps the report below its eight minutes on a machine that is slow or busy.
const trainLimit = 45 * time.Second

// compare trains in several ways on what the probe found.
func compare(ctx context.Context, first probe.Result, label string, o pipelines.Options, reps int) (pipelines.Comparison, error) {
	c := pipelines.CompareOptions{Options: o, Label: label, Reps: reps, Window: 200 * time.Millisecond, Limit: trainLimit}
	if first.Verdict == probe.Yes {
		c.Siblings = [2]int{first.A, first.B}
	}
	return pipelines.Compare(ctx, c)
}

func (a *app) smtTrain() *cobra.Command {
	var f labFlags
	var svg string
	o := pipelines.Options{LookAhead: -1}
	cmd := &cobra.Command{
		Use: "train [FILE]", Short: "Train a pipeline in several ways in turns: one thread naive, one thread with prefetch, S beside D, two cores", Args: args(cobra.MaximumNArgs(1)),
		Long: "Without a file it trains W6, DLRM with 26 tables of 1,000,000 rows, in 7 GiB; where there is less memory, the preset clicks with a tenth of the rows. All ways do\n" +
			"the same steps and must end in the same weights.",
		Example: "  vtpu smt train\n  vtpu smt train clicks --set data.skew=1.2\n  vtpu smt train names --json",
		RunE: func(cmd *cobra.Command, p []string) error {
			if len(p) == 1 {
				o.File = p[0]
			} else {
				file, sets := trainDefault()
				o.File, o.Sets = file, append(append([]string{}, sets...), o.Sets...)
			}
			if err := check(o); err != nil {
				return err
			}
			if _, _, err := pipelines.Load(o.File, o.Sets); err != nil { // before anything is measured
				return err
			}
			l, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			defer l.Close()
			c, err := compare(cmd.Context(), l.First, l.Label(), o, f.reps)
			if err != nil {
				return err
			}
			if err := a.show(trainPart(c), svg); err != nil {
				return err
			}
			if !c.Same {
				return errors.New("the ways ended in different weights")
			}
			return nil
		},
	}
	f.add(cmd)
	svgFlag(cmd, &svg)
	cmd.Flags().StringArrayVar(&o.Sets, "set", nil, "change a value of the pipeline, such as data.ids=200000 (may be given several times)")
	cmd.Flags().IntVar(&o.LookAhead, "look-ahead", -1, "steps that gather may run ahead in the ways with two lanes")
	return cmd
}

func (a *app) smtReport() *cobra.Command {
	var f labFlags
	var out string
	var noTrain bool
	cmd := &cobra.Command{
		Use: "report", Short: "Measure everything and write it into one folder: report.html, report.md, report.json, pictures", Args: args(cobra.NoArgs),
		Long:    "It takes two to five minutes and wants the machine for itself. The folder needs nothing else: take it along from wherever it was made.",
		Example: "  vtpu smt report --out smt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return stages.Finding{File: "--out", Msg: "a folder is needed", Fix: "vtpu smt report --out smt"}
			}
			if _, err := os.Lstat(out); err == nil {
				return stages.Finding{File: "--out " + out, Msg: "is there already", Fix: "name a new folder"}
			}
			room := func() (string, error) { return os.MkdirTemp(filepath.Dir(filepath.Clean(out)), ".smt-report-*") }
			tmp, err := room() // whether it can be written is known at once; while it measures nothing lies about that a kill would leave
			if err != nil {
				return stages.Finding{File: "--out " + out, Msg: err.Error(), Fix: "name a folder below a directory that exists and can be written"}
			}
			if err := os.Remove(tmp); err != nil {
				return &stages.EnvError{Err: fmt.Errorf("write the report: %w", err), Fix: "write to another place"}
			}
			title, text, parts, err := a.everything(cmd.Context(), &f, noTrain)
			if err != nil {
				return err
			}
			if tmp, err = room(); err != nil {
				return &stages.EnvError{Err: fmt.Errorf("write the report: %w", err), Fix: "free some room, or write to another place"}
			}
			defer os.RemoveAll(tmp)
			if err := publish(tmp, out, title, text, parts); err != nil {
				return &stages.EnvError{Err: fmt.Errorf("write the report: %w", err), Fix: "free some room, or write to another place"}
			}
			if a.json {
				a.line(struct {
					Event string `json:"event"`
					Dir   string `json:"dir"`
					Label string `json:"label"`
				}{"smt_report", out, text[0]})
				return nil
			}
			for _, t := range text {
				fmt.Fprintln(a.out, t)
			}
			fmt.Fprintf(a.out, "%s written\n", filepath.Join(out, "report.html"))
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "the folder to make")
	cmd.Flags().BoolVar(&noTrain, "no-train", false, "leave training out")
	return cmd
}

// everything runs all experiments. What this machine can't do is said in its place.
func (a *app) everything(ctx context.Context, f *labFlags, noTrain bool) (title string, text []string, parts []*part, err error) {
	start := time.Now()
	o, err := f.options()
	if err != nil {
		return "", nil, nil, err
	}
	told := func(what string) {
		if !a.json {
			fmt.Fprintf(a.err, "%4.0f s  %s\n", time.Since(start).Seconds(), what)
		}
	}
	told("topology")
	top := smtpool.Discover()
	top.CompareCPUID()
	parts = append(parts, topologyPart(top))
	add := func(title string, p *part, err error) error {
		var env *stages.EnvError
		if err = lacking(err); errors.As(err, &env) {
			parts = append(parts, &part{Section: report.Section{Title: title, Text: []string{"not measured: " + err.Error()}}, event: "smt_missing"})
			return ctx.Err()
		}
		if err == nil {
			parts = append(parts, p)
			err = ctx.Err()
		}
		return err
	}
	told("probe")
	rs, err := probeAll(o)
	if err = add("Sibling probe", probePart(rs), err); err != nil {
		return "", nil, nil, err
	}
	l, err := f.open(ctx)
	if err != nil {
		return "", nil, nil, err
	}
	defer l.Close()
	told("rulers")
	rulers, err := l.Rulers()
	if err = add("Rulers", rulersPart(rulers), err); err != nil {
		return "", nil, nil, err
	}
	told("losses of rulers beside each other")
	losses, err := l.Losses()
	if err = add("Losses of rulers beside each other", lossesPart(losses), err); err != nil {
		return "", nil, nil, err
	}
	told("pairs of workloads")
	pairs, err := l.Pairs(lab.PairOptions{})
	if err = add("Pairs of workloads", pairsPart(pairs), err); err != nil {
		return "", nil, nil, err
	}
	told("curve")
	curve, err := l.Curve()
	if err = add("What the second thread gains", curvePart(curve), err); err != nil {
		return "", nil, nil, err
	}
	told("model")
	cores, from := ports.Machines(), "as measured here"
	latency, lerr := l.TableLatency()
	if lerr != nil {
		latency, from = 700, "assumed"
	}
	rows, err := modelRows(cores, latency, workload.Default.N, workload.Default.D, workload.Default.S)
	if err != nil {
		return "", nil, nil, err
	}
	parts = append(parts, modelPart(rows, cores, latency, from))
	var trained *pipelines.Comparison
	if !noTrain {
		told("training")
		file, sets := trainDefault()
		c, err := compare(ctx, l.First, l.Label(), pipelines.Options{File: file, Sets: sets, LookAhead: -1}, min(f.reps, 30))
		if err != nil {
			return "", nil, nil, err
		}
		trained = &c
		parts = append(parts, trainPart(c))
	}
	told("done")
	return "SMT on " + nameOf(top), summary(l, top, pairs, curve, rulers, trained, start, f.reps), parts, nil
}

func nameOf(t *smtpool.Topology) string {
	if t.Model == "" {
		return "this machine"
	}
	return t.Model
}

// summary is what a hurried reader needs.
func summary(l *lab.Lab, t *smtpool.Topology, p lab.Pairs, c lab.Curve, r lab.Rulers, tr *pipelines.Comparison, start time.Time, reps int) []string {
	text := []string{l.Label(), "The probe: " + l.First.Why + "."}
	guest := ""
	if t.Hypervisor {
		guest = ", a guest of a hypervisor"
	}
	core := "no table of this core"
	if l.Machine != nil {
		core = l.Machine.Name + " (" + l.Found + ")"
	}
	text = append(text, fmt.Sprintf("The machine: %s, %s family %d model %d, %d usable CPUs%s; core: %s.", nameOf(t), t.Vendor, t.Family, t.ModelNo, len(t.CPUs), guest, core))
	best, control := lab.PairRow{}, lab.PairRow{}
	for _, row := range p.Rows {
		if !row.Control && row.Kept.WS.Median > best.Kept.WS.Median {
			best = row
		}
		if row.Control && (control.Name == "" || row.Kept.WS.Median < control.Kept.WS.Median) {
			control = row
		}
	}
	if best.Name != "" {
		limit := ""
		if l.Siblings() && best.Kept.WS.Median < 1.95 && best.Limit != "" {
			limit = "; the limit by the model: " + best.Limit
		}
		text = append(text, fmt.Sprintf("The best complementary pair (%s): weighted speedup %s, conflict %s%s. The worst control (%s): weighted speedup %s.", best.Name,
			interval(best.Kept.WS), interval(best.Kept.Conflict), limit, control.Name, interval(control.Kept.WS)))
	}
	if n := len(c.Points); n > 0 {
		a, z := c.Points[0], c.Points[n-1]
		last := func(p lab.Point) lab.Step { return p.Steps[len(p.Steps)-1] }
		text = append(text, fmt.Sprintf("The pair over one thread, naive: %s with one chain of misses (the balance allows %s), %s with %d chains (%s). Over one thread that interleaves both: %s and %s.",
			interval(last(a).Naive), figure(a.Bound), interval(last(z).Naive), z.Chains, figure(z.Bound), interval(a.Tuned), interval(z.Tuned)))
	}
	if tr != nil {
		for _, w := range tr.Ways {
			if w.Lanes != "d=1,s=0" {
				text = append(text, fmt.Sprintf("Training %s, %s: %s times one thread naive.", tr.Pipeline, w.Name, interval(w.Naive)))
			}
		}
		if tr.Bound > 0 {
			text = append(text, fmt.Sprintf("By the balance of the stages S beside D can be at most %.2f times one thread with prefetch. The same bits in every way: %v.", tr.Bound, tr.Same))
		}
	}
	var q measure.Quality
	for _, row := range p.Rows {
		q = q.Add(row.Quality)
	}
	for _, pt := range c.Points {
		q = q.Add(pt.Qual)
	}
	q = q.Add(r.Quality)
	if n := q.Repetitions; n > 0 && (q.Disturbed*10 > n || q.Stolen > 0.01*q.Seconds) {
		text = append(text, fmt.Sprintf("THE MACHINE WAS NOT QUIET: %d of %d repetitions were disturbed even when done again, %.2f s were stolen. Do not rely on the figures below; measure again.",
			q.Disturbed, n, q.Stolen))
	}
	if len(r.Rows) > 0 {
		worst := 0.0
		for _, row := range r.Rows {
			if row.Ruler == r.Worst {
				worst = row.Error
			}
		}
		if r.Worst != "" {
			text = append(text, fmt.Sprintf("The port model on one thread: its largest error on a ruler is %s, on %s.", percent(worst), r.Worst))
		}
	}
	return append(text, fmt.Sprintf("Made by vtpu %s on %s in %.0f s, %d repetitions; intervals hold the median with 95 %% confidence.", pipelines.Version(),
		start.UTC().Format("2006-01-02 15:04 UTC"), time.Since(start).Seconds(), reps))
}

// publish fills the folder tmp and gives it the name out: a report is whole or not there.
func publish(tmp, out, title string, text []string, parts []*part) error {
	if err := writeReport(tmp, title, text, parts); err != nil {
		return err
	}
	return os.Rename(tmp, out)
}

// writeReport fills a folder.
func writeReport(dir, title string, text []string, parts []*part) error {
	var all []report.Section
	var js, md bytes.Buffer
	fmt.Fprintf(&md, "# %s\n\n", title)
	for _, t := range text {
		fmt.Fprintf(&md, "* %s\n", t)
	}
	for _, p := range parts {
		s, err := p.section()
		if err != nil {
			return err
		}
		all = append(all, s)
		for _, pic := range s.Pictures {
			if err := os.WriteFile(filepath.Join(dir, pic.Name+".svg"), pic.SVG, 0o644); err != nil {
				return err
			}
		}
		line, err := json.Marshal(resultLine{p.event, p.data})
		if err != nil {
			return err
		}
		js.Write(append(line, '\n'))
		fmt.Fprintf(&md, "\n## %s\n\n", s.Title)
		if s.Label != "" {
			fmt.Fprintf(&md, "**%s**\n\n", s.Label)
		}
		if len(s.Rows) > 0 {
			line := func(cells []string) {
				for i := range s.Head {
					c := ""
					if i < len(cells) {
						c = strings.ReplaceAll(cells[i], "|", "/")
					}
					fmt.Fprintf(&md, "| %s ", c)
				}
				md.WriteString("|\n")
			}
			line(s.Head)
			md.WriteString(strings.Repeat("|---", len(s.Head)) + "|\n")
			for _, r := range s.Rows {
				line(r)
			}
			md.WriteString("\n")
		}
		for _, t := range s.Text {
			fmt.Fprintf(&md, "* %s\n", t)
		}
	}
	var page bytes.Buffer
	if err := report.WriteSections(&page, title, text, all); err != nil {
		return err
	}
	for name, b := range map[string][]byte{"report.html": page.Bytes(), "report.json": js.Bytes(), "report.md": md.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}
