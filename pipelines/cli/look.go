package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"vtpu/compute/kernel"
	"vtpu/pipelines"
	"vtpu/pipelines/strict"
	"vtpu/smtpool"
	"vtpu/stages"
	"vtpu/stages/tensorfile"
	"vtpu/stages/weights"
)

func (a *app) lint() *cobra.Command {
	o := pipelines.Options{LookAhead: -1}
	cmd := &cobra.Command{
		Use: "lint FILE...", Short: "Check pipelines without starting them; what passes, run starts", Args: args(cobra.MinimumNArgs(1)),
		Example: "  vtpu lint my.yaml",
		RunE: func(cmd *cobra.Command, files []string) error {
			if err := check(o); err != nil {
				return err
			}
			var all stages.Findings
			for _, f := range files {
				o.File = f
				p, _, err := pipelines.Prepare(o)
				var fs stages.Findings
				var one stages.Finding
				switch {
				case errors.As(err, &fs):
					all = append(all, fs...)
				case errors.As(err, &one):
					all = append(all, one)
				case err != nil:
					return err
				case a.json:
					a.line(lintLine{"lint", f, true, p.ParamCount(), p.Steps, p.Flops(), p.Lanes.String()})
				default:
					store, msgs := p.Bytes()
					fmt.Fprintf(a.out, "%s: ok, %d weights, %d steps, %s a step, %s of memory, lanes %s\n", f, p.ParamCount(), p.Steps,
						flops(p.Flops()), size(store+msgs), p.Lanes)
					a.unread(p)
				}
			}
			return all.Err()
		},
	}
	pipelineFlags(cmd, &o)
	return cmd
}

// unread tells of data that nothing is learnt from.
func (a *app) unread(p *pipelines.Plan) {
	if names := p.Unread(); len(names) > 0 {
		fmt.Fprintf(a.out, "no stage reads %s: nothing is learnt from it\n", strings.Join(names, ", "))
	}
}

type lintLine struct {
	Event  string `json:"event"`
	File   string `json:"file"`
	OK     bool   `json:"ok"`
	Params int    `json:"params"`
	Steps  int64  `json:"steps"`
	Flops  int64  `json:"flops_per_step"`
	Lanes  string `json:"lanes"`
}

func scaled(n int64, step float64, units ...string) string {
	v, i := float64(n), 0
	for ; v >= step && i < len(units)-1; i++ {
		v /= step
	}
	if i == 0 {
		return fmt.Sprintf("%d %s", n, units[0])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

func flops(n int64) string { return scaled(n, 1000, "FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP") }
func size(n int64) string  { return scaled(n, 1024, "B", "KiB", "MiB", "GiB", "TiB") }

type planLine struct {
	Event string   `json:"event"`
	Name  string   `json:"name"`
	Kind  string   `json:"kind"`
	Room  string   `json:"room"`
	Pipe  string   `json:"pipe"`
	Lane  string   `json:"lane"`
	In    []string `json:"in"`
	Out   []string `json:"out"`
	Flops int64    `json:"flops"`
}

// edgeLine is what crosses between processes in a step.
type edgeLine struct {
	Event string `json:"event"`
	From  string `json:"from"`
	To    string `json:"to"`
	Over  string `json:"over"`
	Bytes int64  `json:"bytes_per_step"`
}

type weightLine struct {
	Event  string `json:"event"`
	Name   string `json:"name"`
	Shape  []int  `json:"shape"`
	Home   string `json:"home"`
	Writer string `json:"writer"`
}

// stepLine is what a step over a link is to take.
type stepLine struct {
	Event string `json:"event"`
	pipelines.StepTime
}

// predict measures this machine and the link, and tells what a step over it is to take.
func (a *app) predict(ctx context.Context, o pipelines.Options, l *linkFlags, set bool) (err error) {
	l.local = max(l.local, 1)
	if l.URL == "" {
		file, _, err := pipelines.Load(o.File, o.Sets)
		if err == nil && len(file.Links.Kinds()) == 0 {
			return stages.Finding{File: "--measure", Msg: "there is no link to measure", Fix: "--nats embedded, --nats nats://host:4222, or links: {work: gochannel} in the file"}
		}
	}
	if file, err := pipelines.PipelineOf(o); err == nil {
		if legs := file.Links.Legs(); len(legs) > 1 || len(legs) == 1 && legs[0].String() != "forward,loss,backward" {
			return stages.Finding{File: "--measure", Msg: "only a link to workers of forward, loss and backward can be measured, the file moves other edges", Fix: "leave --measure away: plan tells the bytes"}
		}
	}
	done, err := a.link(&o, l, set || l.URL != "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	t, err := pipelines.PredictStep(ctx, o)
	if err != nil {
		return err
	}
	if a.json {
		a.line(stepLine{"step_over_link", t})
		return nil
	}
	fmt.Fprintf(a.out, "measured: forward and backward %.2f GFLOP/s; a message %.0f µs, then %.0f MB/s\n", t.Rate/1e9, t.Latency*1e6, t.Bytes/1e6)
	fmt.Fprintf(a.out, "a step over this link with %d workers, each on a core of its own, would take %.3g ms: %.3g ms compute, %.3g ms wire (%s), %.3g ms gather and update\n", t.Workers,
		t.Step*1e3, t.Compute*1e3, t.Wire*1e3, size(int64(t.Sent)), t.Rest*1e3)
	switch {
	case t.Even == 0:
		fmt.Fprintln(a.out, "the wire decides at any batch: an example takes longer to send than to compute")
	default:
		fmt.Fprintf(a.out, "the wire decides below a batch of %.3g examples (this is %d)\n", t.Even, t.Batch)
	}
	return nil
}

func (a *app) plan() *cobra.Command {
	o := pipelines.Options{LookAhead: -1}
	var l linkFlags
	measure := false
	cmd := &cobra.Command{
		Use: "plan FILE", Short: "Show the whole walk: stages, shapes, gradients, weights and their homes, lanes, memory", Args: args(cobra.ExactArgs(1)),
		Example: "  vtpu plan names\n  vtpu plan names --measure --nats embedded --workers 2",
		RunE: func(cmd *cobra.Command, f []string) error {
			o.File = f[0]
			if err := check(o); err != nil {
				return err
			}
			if !measure && (l.local != 0 || cmd.Flags().Changed("nats")) {
				return stages.Finding{File: "--nats, --workers", Msg: "plan connects to nothing unless it measures", Fix: "add --measure"}
			}
			p, _, err := pipelines.Prepare(o)
			if err != nil {
				return err
			}
			if a.json {
				for _, n := range p.Nodes {
					a.line(planLine{"stage", n.Name, n.Def.Name, n.Def.Room.String(), n.Def.Pipe.String(), p.Where(n), n.In, n.Out, n.Flops})
				}
				for _, w := range p.Store.All(weights.Weight) {
					a.line(weightLine{"weight", w.Name, w.T.Shape.Slice(), w.Coord.String(), w.Writer()})
				}
				edges, err := p.EdgesMoved()
				if err != nil {
					return err
				}
				for _, e := range edges {
					a.line(edgeLine{"edge", e.From, e.To, e.Over, e.Bytes})
				}
				a.line(lintLine{"plan", o.File, true, p.ParamCount(), p.Steps, p.Flops(), p.Lanes.String()})
				if measure {
					return a.predict(cmd.Context(), o, &l, cmd.Flags().Changed("nats"))
				}
				return nil
			}
			t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "STAGE\tKIND\tROOM\tPIPE\tLANE\tREADS\tWRITES\tFLOP A PART")
			for _, n := range p.Nodes {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", n.Name, n.Def.Name, n.Def.Room, n.Def.Pipe, p.Where(n), strings.Join(n.In, ", "), p.Writes(n), n.Flops)
			}
			fmt.Fprintln(t, "\t\t\t\t\t\t\t")
			fmt.Fprintln(t, "WEIGHT\tSHAPE\tHOME\tWRITER\t\t\t\t")
			for _, w := range p.Store.All(weights.Weight) {
				fmt.Fprintf(t, "%s\t%v\t%s\t%s\t\t\t\t\n", w.Name, w.T.Shape, w.Coord, orDash(w.Writer()))
			}
			if err := t.Flush(); err != nil {
				return err
			}
			store, msgs := p.Bytes()
			fmt.Fprintf(a.out, "\nlanes %s, look-ahead %d: %s\n%d steps of %s; %s for weights and state, %s for messages\n", p.Lanes, p.Lanes.Look, p.Lanes.Why,
				p.Steps, flops(p.Flops()), size(store), size(msgs))
			fmt.Fprintln(a.out, "update", p.WhenUpdated())
			if edges, err := p.EdgesMoved(); err != nil {
				return err
			} else if len(edges) > 0 {
				if err := a.edges(p, edges); err != nil {
					return err
				}
			} else if cut, err := p.Cut(); err == nil {
				s := cut.Sizes()
				fmt.Fprintf(a.out, "over a link a step would send %s: %s of parts, %s of weights, %s of gradients\n", size(s.Step(p.Pipe.Parts)),
					size(int64(p.Pipe.Parts)*s.Work), size(s.Weights), size(int64(p.Pipe.Parts)*s.Result))
			}
			if p.PerEpoch > 0 {
				fmt.Fprintf(a.out, "an epoch is %d steps\n", p.PerEpoch)
			}
			a.unread(p)
			if measure {
				return a.predict(cmd.Context(), o, &l, cmd.Flags().Changed("nats"))
			}
			return nil
		},
	}
	pipelineFlags(cmd, &o)
	l.broker(cmd, "with --measure, the broker to measure")
	cmd.Flags().BoolVar(&measure, "measure", false, "measure some steps and the link (about two seconds), and tell what a step over it takes and below which batch the wire decides")
	cmd.Flags().IntVar(&l.local, "workers", 0, "with --measure, workers to reckon with; 1 if left out")
	return cmd
}

// edges tells what the links of the file leave to workers, and what crosses.
func (a *app) edges(p *pipelines.Plan, edges []pipelines.Edge) error {
	fmt.Fprintln(a.out, "\nthe links of the file leave to workers:")
	for _, l := range p.Pipe.Links.Legs() {
		if l.In == "gochannel" || l.Out == "gochannel" {
			fmt.Fprintf(a.out, "  %s, in the process of vtpu run %s --workers N\n", l, p.Pipe.File)
			continue
		}
		fmt.Fprintf(a.out, "  vtpu worker %s --stages %s --nats URL\n", p.Pipe.File, l)
	}
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "EDGE\tOVER\tBYTES A STEP, AT MOST")
	var sum int64
	for _, e := range edges {
		sum += e.Bytes
		fmt.Fprintf(t, "%s → %s\t%s\t%s\n", e.From, e.To, e.Over, size(e.Bytes))
	}
	fmt.Fprintf(t, "together\t\t%s\n", size(sum))
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// listed is one stage or source of list --json.
type listed struct {
	Event   string         `json:"event"` // stage, source or preset
	Name    string         `json:"name"`
	Room    string         `json:"room,omitempty"`
	Pipe    string         `json:"pipe,omitempty"`
	Summary string         `json:"summary"`
	Source  string         `json:"source,omitempty"`
	Example string         `json:"example,omitempty"`
	Keys    []strict.Field `json:"keys,omitempty"`
}

func catalogue() []listed {
	var all []listed
	for _, d := range stages.Registered() {
		if !strings.HasSuffix(d.Name, "_backward") {
			all = append(all, listed{"stage", d.Name, d.Room.String(), d.Pipe.String(), d.Summary, d.Source, d.Example, strict.Fields(d.NewConfig())})
		}
	}
	for _, d := range stages.RegisteredSources() {
		all = append(all, listed{Event: "source", Name: d.Name, Summary: d.Summary, Example: d.Example, Keys: strict.Fields(d.NewConfig())})
	}
	for _, n := range pipelines.PresetNames() {
		all = append(all, listed{Event: "preset", Name: n, Summary: pipelines.PresetSummary(n)})
	}
	return all
}

func (a *app) list() *cobra.Command {
	format := "text"
	cmd := &cobra.Command{
		Use: "list [NAME]", Short: "Stages, data sources and presets; with a name, all keys of it", Args: args(cobra.MaximumNArgs(1)),
		Example: "  vtpu list\n  vtpu list attention\n  vtpu list --format md > stages.md",
		RunE: func(cmd *cobra.Command, p []string) error {
			all := catalogue()
			if len(p) == 1 {
				var one []listed
				var names []string
				for _, l := range all {
					names = append(names, l.Name)
					if l.Name == p[0] {
						one = append(one, l)
					}
				}
				if one == nil {
					return stages.Finding{Msg: fmt.Sprintf("there is no stage, source or preset %q", p[0]), Fix: pipelines.Suggest(p[0], names)}
				}
				all = one
			}
			if a.json {
				format = "json"
			}
			switch format {
			case "json":
				for _, l := range all {
					a.line(l)
				}
			case "md":
				markdown(a.out, all)
			case "text":
				return text(a.out, all, len(p) == 1)
			default:
				return stages.Finding{File: "--format " + format, Msg: "want text, md or json"}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text, md or json")
	return cmd
}

func text(w io.Writer, all []listed, keys bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range all {
		kind := l.Event
		if l.Room != "" {
			kind = l.Room
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", l.Name, kind, l.Summary)
		if !keys {
			continue
		}
		for _, k := range l.Keys {
			printKey(t, "  ", k)
		}
		if l.Source != "" {
			fmt.Fprintf(t, "  source\t\t%s\n", l.Source)
		}
		if l.Example != "" {
			fmt.Fprintf(t, "  example\t\t%s\n", l.Example)
		}
	}
	return t.Flush()
}

func printKey(w io.Writer, indent string, k strict.Field) {
	def := ""
	switch {
	case k.Required:
		def = " (required)"
	case k.Default != "":
		def = " (default " + k.Default + ")"
	}
	fmt.Fprintf(w, "%s%s\t%s\t%s%s\n", indent, k.Name, k.Type, k.Doc, def)
	for _, c := range k.Children {
		printKey(w, indent+"  ", c)
	}
}

func markdown(w io.Writer, all []listed) {
	room := ""
	for _, l := range all {
		kind := l.Event + "s"
		if l.Room != "" {
			kind = l.Room
		}
		if kind != room {
			fmt.Fprintf(w, "# %s\n\n", kind)
			room = kind
		}
		fmt.Fprintf(w, "## %s\n\n%s\n\n", l.Name, l.Summary)
		if l.Source != "" {
			fmt.Fprintf(w, "Source: %s.\n\n", l.Source)
		}
		if l.Example != "" {
			fmt.Fprintf(w, "```yaml\n%s\n```\n\n", l.Example)
		}
		if len(l.Keys) > 0 {
			fmt.Fprint(w, "| key | type | default | meaning |\n|---|---|---|---|\n")
			for _, k := range l.Keys {
				mdKey(w, "", k)
			}
			fmt.Fprintln(w)
		}
	}
}

func mdKey(w io.Writer, prefix string, k strict.Field) {
	def := k.Default
	if k.Required {
		def = "required"
	}
	fmt.Fprintf(w, "| %s%s | %s | %s | %s |\n", prefix, k.Name, strings.ReplaceAll(k.Type, "|", `\|`), def, k.Doc)
	for _, c := range k.Children {
		mdKey(w, prefix+k.Name+".", c)
	}
}

func (a *app) schema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "JSON schema of a pipeline file, for editors", Args: args(cobra.NoArgs),
		Example: "  vtpu schema > vtpu.schema.json",
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				a.line(pipelines.Schema())
				return nil
			}
			b, err := json.MarshalIndent(pipelines.Schema(), "", "  ")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s\n", b)
			return err
		},
	}
}

// ownName is the line of a preset that names it.
var ownName = regexp.MustCompile(`(?m)^name: .*\n`)

func (a *app) fresh() *cobra.Command {
	force := false
	from := "linear"
	cmd := &cobra.Command{
		Use: "new FILE", Short: "Write a pipeline to start from", Args: args(cobra.ExactArgs(1)),
		Example: "  vtpu new my.yaml --from digits",
		RunE: func(_ *cobra.Command, p []string) error {
			b, ok := pipelines.Preset(from)
			if !ok {
				return stages.Finding{File: "--from " + from, Msg: "there is no such preset", Fix: pipelines.Suggest(from, pipelines.PresetNames())}
			}
			b = ownName.ReplaceAll(b, nil) // a file of one's own is named as the file is
			if _, err := os.Stat(p[0]); err == nil && !force {
				return stages.Finding{File: p[0], Msg: "exists already", Fix: "choose another name, or --force"}
			}
			if err := tensorfile.WriteFile(p[0], func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
				return err
			}
			if a.json {
				a.line(struct {
					Event string `json:"event"`
					File  string `json:"file"`
				}{"new", p[0]})
				return nil
			}
			fmt.Fprintf(a.out, "%s written; next: vtpu lint %s, vtpu run %s\n", p[0], p[0], p[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", from, "preset to copy: "+strings.Join(pipelines.PresetNames(), ", "))
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that exists")
	return cmd
}

// checked is one line of doctor.
type checked struct {
	Event string `json:"event"`
	What  string `json:"what"`
	Value string `json:"value"`
	OK    bool   `json:"ok"`
}

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "What this machine offers, and whether the kernels agree on it", Args: args(cobra.NoArgs),
		Example: "  vtpu doctor",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cpus := smtpool.CPUs()
			pairs := 0
			for _, c := range cpus {
				if len(c.Siblings) > 1 {
					pairs++
				}
			}
			sib := "none named by the system: no SMT result can be taken here"
			if pairs > 0 {
				sib = fmt.Sprintf("%d of the CPUs have one, as the system names them (a claim, not a measurement)", pairs)
			}
			lines := []checked{
				{"check", "vtpu", pipelines.Version() + ", " + runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH, true},
				{"check", "CPUs", fmt.Sprintf("%d usable, GOMAXPROCS %d", len(cpus), runtime.GOMAXPROCS(0)), true},
				{"check", "siblings", sib, true},
				{"check", "pinning", pinning(cpus[0].ID), true},
				{"check", "instruction sets", strings.Join(kernel.ISAs(), ", ") + "; in use: " + kernel.ISA(), true},
			}
			same, err := sameBits(cmd.Context())
			if err != nil {
				return err
			}
			v := "all instruction sets give the same bits"
			if !same {
				v = "the instruction sets differ: please report this"
			}
			lines = append(lines, checked{"check", "kernels", v, same})
			for _, l := range lines {
				if a.json {
					a.line(l)
				} else {
					fmt.Fprintf(a.out, "%-18s%s\n", l.What, l.Value)
				}
			}
			if !same {
				return errors.New("the kernels of this machine do not agree")
			}
			return nil
		},
	}
}

func pinning(cpu int) string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unpin, err := smtpool.Pin(cpu)
	if err != nil {
		return "not possible: " + err.Error()
	}
	unpin()
	return "possible"
}

// sameBits trains a small preset with each instruction set.
func sameBits(ctx context.Context) (bool, error) {
	was := kernel.ISA()
	defer func() { _ = kernel.SetISA(was) }() // it was in use a moment ago
	hash := ""
	for _, isa := range kernel.ISAs() {
		w := &last{}
		if err := pipelines.Train(ctx, pipelines.Options{File: "attention", Sets: []string{"data.rows=16"}, ISA: isa, Out: "none", Steps: 2, LookAhead: -1}, w); err != nil {
			return false, err
		}
		if hash != "" && hash != w.done.Weights {
			return false, nil
		}
		hash = w.done.Weights
	}
	return true, nil
}
