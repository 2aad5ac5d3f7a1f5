package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vtpu/pipelines"
	"vtpu/pipelines/chart"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
)

// pipelineFlags are those of every command that plans a pipeline.
func pipelineFlags(cmd *cobra.Command, o *pipelines.Options) {
	f := cmd.Flags()
	f.StringArrayVar(&o.Sets, "set", nil, "change a value of the pipeline, such as stages.adamw.lr=3e-4 (may be given several times)")
	f.Int64Var(&o.Steps, "steps", 0, "steps to run, instead of what the file says")
	f.StringVar(&o.Lanes, "lanes", "", "lanes, such as d=2,s=1")
	f.IntVar(&o.LookAhead, "look-ahead", -1, "steps that gather may run ahead")
	f.StringVar(&o.ISA, "isa", "", "instruction set: generic, avx2 or avx512; the best there is if left out")
}

func check(o pipelines.Options) error {
	for _, f := range []struct {
		name        string
		val, lo, hi int64
	}{{"--steps", o.Steps, 0, math.MaxInt64}, {"--every", o.Every, 0, math.MaxInt64}, {"--stop-after", o.StopAfter, 0, math.MaxInt64}, {"--look-ahead", int64(o.LookAhead), -1, 64}} {
		switch {
		case f.val > f.hi:
			return stages.Finding{File: fmt.Sprintf("%s %d", f.name, f.val), Msg: fmt.Sprintf("want at most %d", f.hi)}
		case f.val < f.lo:
			return stages.Finding{File: fmt.Sprintf("%s %d", f.name, f.val), Msg: "want a whole number that is not negative"}
		}
	}
	return nil
}

func (a *app) run() *cobra.Command {
	o := pipelines.Options{LookAhead: -1}
	quiet := false
	var l linkFlags
	cmd := &cobra.Command{
		Use: "run FILE", Short: "Train a pipeline: a file, or a preset by name", Args: args(cobra.ExactArgs(1)),
		Example: "  vtpu run names\n  vtpu run my.yaml --steps 500 --set stages.adamw.lr=3e-4 --lanes d=2,s=1\n  vtpu run my.yaml --resume --out runs/my-1",
		RunE: func(cmd *cobra.Command, p []string) (err error) {
			o.File = p[0]
			if err := check(o); err != nil {
				return err
			}
			done, err := a.link(&o, &l, cmd.Flags().Changed("nats"))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, done()) }()
			var w pipelines.Watcher = &human{w: a.out, quiet: quiet, tty: isTerminal(a.out)}
			if a.json {
				w = &machine{a}
			}
			s, end, err := a.ops(&l)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
			return pipelines.Train(cmd.Context(), o, show(s, w, o.Link))
		},
	}
	pipelineFlags(cmd, &o)
	l.add(cmd, "broker that joins this run to workers")
	f := cmd.Flags()
	f.IntVar(&l.local, "workers", 0, "workers to start in this process for each piece that links leave to workers, beside those that join over the link")
	f.StringVar(&o.Out, "out", "", `run directory; a new one below runs/ if left out, "none" writes nothing`)
	f.StringVar(&o.Record, "record", "", "what each step leaves in the run directory, to be replayed: gradients, inputs or none, instead of what the file says")
	f.BoolVar(&o.Resume, "resume", false, "continue the run in --out, or the newest of this name")
	f.BoolVar(&o.Continue, "continue", false, "as --resume where --out holds a run, otherwise begin one: for whatever restarts a process that has died")
	f.BoolVar(&o.Allow, "allow-changed", false, "resume although the pipeline, the steps, the seed or the data are not those that the run began with")
	f.Int64Var(&o.Every, "every", 0, "steps between two lines of the log; by itself at most some 10,000 lines a run")
	f.Int64Var(&o.StopAfter, "stop-after", 0, "stop after this step and save, as Ctrl-C does")
	f.BoolVar(&o.Tune, "tune", false, "first measure some placements on lanes and use the fastest; it is written to tune.json and changes no bit")
	f.BoolVarP(&quiet, "quiet", "q", false, "print the result only")
	return cmd
}

func isTerminal(w io.Writer) bool {
	if o, ok := w.(*output); ok {
		w = o.w
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// machine writes JSON lines.
type machine struct{ a *app }

func (m *machine) Started(p *pipelines.Plan, dir string, from int64) {
	m.a.line(struct {
		Event  string `json:"event"`
		Name   string `json:"name"`
		Steps  int64  `json:"steps"`
		From   int64  `json:"from"`
		Params int    `json:"params"`
		Lanes  string `json:"lanes"`
		Dir    string `json:"dir,omitempty"`
	}{"start", p.Pipe.Name, p.Steps, from, p.ParamCount(), p.Lanes.String(), dir})
}

func (m *machine) Note(msg string) {
	m.a.line(struct {
		Event string `json:"event"`
		Msg   string `json:"msg"`
	}{"note", msg})
}

func (m *machine) Tuned(t *pipelines.Tuned) {
	m.a.line(struct {
		Event string `json:"event"`
		*pipelines.Tuned
	}{"tuned", t})
}

func (m *machine) Stepped(x rundir.Metric) { _, _ = m.a.out.Write(rundir.AppendMetric(nil, x)) }

func (m *machine) Saved(step int64, file string) {
	m.a.line(struct {
		Event string `json:"event"`
		Step  int64  `json:"step"`
		File  string `json:"file"`
	}{"checkpoint", step, file})
}

func (m *machine) Finished(d pipelines.Done) { m.a.line(d) }

// human writes lines for people, and a bar on a terminal.
type human struct {
	w      io.Writer
	quiet  bool
	tty    bool
	steps  int64
	from   int64
	begin  time.Time
	last   time.Time
	mean   float64
	seen   bool
	drawn  bool
	lessby time.Duration
}

func (h *human) Started(p *pipelines.Plan, dir string, from int64) {
	h.steps, h.from, h.begin = p.Steps, from, time.Now()
	h.lessby = 2 * time.Second
	if h.tty {
		h.lessby = 100 * time.Millisecond
	}
	if h.quiet {
		return
	}
	fmt.Fprintf(h.w, "%s: %d weights in %d tensors, %d steps, lanes %s\n", p.Pipe.Name, p.ParamCount(), p.TensorCount(), p.Steps, p.Lanes)
	if from > 0 {
		fmt.Fprintf(h.w, "resumed after step %d\n", from)
	}
}

func (h *human) Note(msg string) { fmt.Fprintln(h.w, msg) }

func (h *human) Tuned(t *pipelines.Tuned) {
	if h.quiet {
		return
	}
	one := 0.0
	for _, x := range t.Trials {
		if x.Lanes == "d=1,s=0" {
			one = x.Seconds
		}
	}
	for i, x := range t.Trials {
		mark := ""
		if i == 0 {
			mark = "  chosen"
		}
		fmt.Fprintf(h.w, "lanes %s, look-ahead %d: %s a step (spread %s), %.2f times one lane%s\n", x.Lanes, x.LookAhead, duration(x.Seconds), share(x.Spread), one/x.Seconds, mark)
	}
}

// rate writes steps a second.
func rate(v float64) string {
	if v >= 10 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

func (h *human) clear() {
	if h.drawn {
		fmt.Fprint(h.w, "\r\033[K")
		h.drawn = false
	}
}

func (h *human) Stepped(m rundir.Metric) {
	if h.quiet {
		return
	}
	if m.Event == "eval" {
		h.clear()
		fmt.Fprintf(h.w, "step %d/%d  validation loss %.4f%s\n", m.Step, h.steps, m.Loss, accuracy(m))
		return
	}
	if !h.seen {
		h.mean, h.seen = m.Loss, true
	}
	h.mean += 0.05 * (m.Loss - h.mean)
	now := time.Now()
	if now.Sub(h.last) < h.lessby && m.Step != h.steps || m.Step == h.steps && h.tty {
		return
	}
	h.last = now
	done := float64(m.Step-h.from) / now.Sub(h.begin).Seconds()
	left := time.Duration(float64(h.steps-m.Step) / done * float64(time.Second)).Round(time.Second)
	if !h.tty {
		fmt.Fprintf(h.w, "step %d/%d  loss %.4f  %s steps/s\n", m.Step, h.steps, h.mean, rate(done))
		return
	}
	const width = 30
	n := int(width * m.Step / max(h.steps, 1))
	fmt.Fprintf(h.w, "\r\033[K%s%s %d/%d  loss %.4f  %s steps/s  %s left", strings.Repeat("█", n), strings.Repeat("░", width-n), m.Step, h.steps, h.mean, rate(done), left)
	h.drawn = true
}

func accuracy(m rundir.Metric) string {
	if m.Seen == 0 {
		return ""
	}
	s := fmt.Sprintf("  accuracy %.2f %%", 100*float64(m.Hits)/float64(m.Seen))
	if m.AUC > 0 {
		s += fmt.Sprintf("  AUC %.4f", m.AUC)
	}
	return s
}

func (h *human) Saved(int64, string) {}

func (h *human) Finished(d pipelines.Done) {
	h.clear()
	if !h.quiet {
		if s := pipelines.Curves(d.Metrics)[0]; len(s.X) > 1 {
			fmt.Fprintf(h.w, "\n%s\n\n", chart.Terminal(s, 60, 10))
		}
	}
	if len(d.Metrics) > 0 && d.FirstLoss != 0 {
		fmt.Fprintf(h.w, "loss %.6g at first, %.6g at last", d.FirstLoss, d.LastLoss)
		if d.EvalLoss != nil {
			fmt.Fprintf(h.w, ", validation %.6g", *d.EvalLoss)
		}
		if d.Accuracy != nil {
			fmt.Fprintf(h.w, ", accuracy %.2f %%", 100**d.Accuracy)
		}
		if d.AUC > 0 {
			fmt.Fprintf(h.w, ", AUC %.4f", d.AUC)
		}
		fmt.Fprintln(h.w)
	}
	if len(d.Samples) > 0 {
		fmt.Fprintln(h.w, "samples:")
		for _, s := range d.Samples {
			fmt.Fprintln(h.w, "  "+strings.ReplaceAll(s, "\n", "\n  "))
		}
	}
	for _, c := range d.Cells {
		fmt.Fprintf(h.w, "%s at %s: %v\n", c.Name, c.At, c.Value)
	}
	fmt.Fprintf(h.w, "%d steps, %s a second, lanes %s, %s\n", d.Steps, rate(d.PerSecond), d.Lanes, d.ISA)
	if d.LinkBytes > 0 {
		fmt.Fprintf(h.w, "%s a step went over the link\n", size(int64(d.LinkBytes)))
	}
	if d.Dir != "" {
		fmt.Fprintf(h.w, "written to %s: report.html, loss.svg, metrics.jsonl, a checkpoint\n", d.Dir)
	}
	if d.Event == "stopped" {
		fmt.Fprintf(h.w, "stopped after step %d; go on with: %s\n", d.Steps, orNone(d.Resume))
	}
	fmt.Fprintf(h.w, "state_sha256   %s\nweights_sha256 %s\n", d.State, d.Weights)
}

func orNone(s string) string {
	if s == "" {
		return "nothing was written, there is nothing to go on from"
	}
	return s
}
