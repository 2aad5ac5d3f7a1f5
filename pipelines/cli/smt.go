package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"vtpu/pipelines/chart"
	"vtpu/smtpool"
	"vtpu/smtpool/lab"
	"vtpu/smtpool/ports"
	"vtpu/smtpool/probe"
	"vtpu/smtpool/ruler"
	"vtpu/smtpool/workload"
	"vtpu/stages"
)

// smt is the family of commands about hyperthreads.
func (a *app) smt() *cobra.Command {
	cmd := &cobra.Command{
		Use: "smt", Short: "Measure what two hyperthreads of one core do for each other, and whether there are any",
		Long: "Two logical CPUs are siblings if they are hyperthreads of one core. Hypervisors hide and invent them, so vtpu measures. Where there are none,\n" +
			"every figure is labelled \"not an SMT result\" and the same commands measure two cores.\n" +
			"ws = sum over both threads of time alone / time together; conflict = 1 - ws/2.",
		Example: "  vtpu smt topology\n  vtpu smt topology --svg cores.svg",
		Args:    func(cmd *cobra.Command, p []string) error { return unknown(cmd, p) },
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.smtTopology(), a.smtProbe(), a.smtRulers(), a.smtPair(), a.smtModel(), a.smtTrain(), a.smtReport())
	return cmd
}

// svgFlag is the flag that asks for a picture.
func svgFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "svg", "", "write a picture to this file")
}

// picture writes an SVG, if one is wanted: to a new file that then takes the name, so that none is half-written.
func picture(file string, draw func(io.Writer) error) (err error) {
	if file == "" {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".svg-*")
	if err != nil {
		return stages.Finding{File: "--svg " + file, Msg: err.Error(), Fix: "name a file in a directory that exists and can be written"}
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	if err = draw(f); err == nil {
		err = f.Chmod(0o644)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return &stages.EnvError{Err: fmt.Errorf("write %s: %w", file, err), Fix: "free some room, or write to another place"}
	}
	return nil
}

// table prints columns; the first row is the head.
func (a *app) table(rows [][]string) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(r, "\t"), "\t"))
	}
	_ = w.Flush() // a.out keeps the error
}

func (a *app) smtTopology() *cobra.Command {
	var svg string
	cmd := &cobra.Command{
		Use: "topology", Short: "The logical CPUs that this process may use, and their siblings as the system and cpuid name them", Args: args(cobra.NoArgs),
		Example: "  vtpu smt topology",
		RunE: func(*cobra.Command, []string) error {
			t := smtpool.Discover()
			t.CompareCPUID()
			return a.show(topologyPart(t), svg)
		},
	}
	svgFlag(cmd, &svg)
	return cmd
}

// labFlags are those of the commands that measure.
type labFlags struct {
	cpus   string
	reps   int
	window time.Duration
	memory int
}

func (f *labFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.cpus, "cpus", "", "the two logical CPUs, D lane first, such as 0,4; the first siblings that the probe finds if left out")
	cmd.Flags().IntVar(&f.reps, "reps", 30, "alternated repetitions, 1 to 1000")
	cmd.Flags().DurationVar(&f.window, "window", 4*time.Millisecond, "length of a measurement, 100µs to 1s")
	cmd.Flags().IntVar(&f.memory, "memory", 256, "MiB of the buffer that stands for memory, 1 to 8192; several times the last cache reaches memory for sure")
}

func (f *labFlags) options() (lab.Options, error) {
	o := lab.Options{D: -1, S: -1, Reps: f.reps, Window: f.window, Memory: f.memory << 20}
	switch {
	case f.reps < 1 || f.reps > 1000:
		return o, stages.Finding{File: fmt.Sprintf("--reps %d", f.reps), Msg: "want 1 to 1000"}
	case f.window < 100*time.Microsecond || f.window > time.Second:
		return o, stages.Finding{File: fmt.Sprintf("--window %v", f.window), Msg: "want 100µs to 1s"}
	case f.memory < 1 || f.memory > 8192:
		return o, stages.Finding{File: fmt.Sprintf("--memory %d", f.memory), Msg: "want 1 to 8192 MiB"}
	}
	if f.cpus != "" {
		var rest string
		if n, _ := fmt.Sscanf(f.cpus+" end", "%d,%d %s", &o.D, &o.S, &rest); n != 3 || rest != "end" || o.D < 0 || o.S < 0 {
			return o, stages.Finding{File: "--cpus " + f.cpus, Msg: "want two numbers with a comma between", Fix: "vtpu smt topology lists them"}
		}
	}
	return o, nil
}

// open makes the lab, with errors as the command reports them.
func (f *labFlags) open(ctx context.Context) (*lab.Lab, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	o.Stop = ctx.Done()
	l, err := lab.Open(o)
	if err != nil {
		return nil, stages.Finding{File: "--cpus " + f.cpus, Msg: strings.TrimPrefix(err.Error(), "lab: "), Fix: "vtpu smt topology lists the CPUs"}
	}
	return l, nil
}

// lacking turns what a machine lacks into an error of the environment.
func lacking(err error) error {
	switch {
	case errors.Is(err, ruler.ErrNone), errors.Is(err, workload.ErrNone):
		return &stages.EnvError{Err: err, Fix: "run it on an amd64 machine with Linux; topology and probe work here"}
	case errors.Is(err, lab.ErrStopped):
		return context.Canceled
	case errors.Is(err, lab.ErrOneCPU):
		return &stages.EnvError{Err: err, Fix: "allow a second CPU (taskset, cpuset); topology, probe, rulers and model work with one"}
	}
	return err
}

// measuring is a command that opens a lab and shows a part.
func (a *app) measuring(use, short, example string, flags func(*cobra.Command), do func(*lab.Lab) (*part, error)) *cobra.Command {
	var f labFlags
	var svg string
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: args(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error {
		l, err := f.open(cmd.Context())
		if err != nil {
			return err
		}
		defer l.Close()
		p, err := do(l)
		if err != nil {
			return lacking(err)
		}
		return a.show(p, svg)
	}}
	f.add(cmd)
	svgFlag(cmd, &svg)
	if flags != nil {
		flags(cmd)
	}
	return cmd
}

func (a *app) smtProbe() *cobra.Command {
	var f labFlags
	var svg string
	cmd := &cobra.Command{
		Use: "probe", Short: "Measure whether two logical CPUs are hyperthreads of one core: yes, no or cannot tell, with the figures", Args: args(cobra.NoArgs),
		Example: "  vtpu smt probe\n  vtpu smt probe --cpus 0,1 --json",
		RunE: func(*cobra.Command, []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			rs, err := probeAll(o)
			if err != nil {
				return err
			}
			return a.show(probePart(rs), svg)
		},
	}
	f.add(cmd)
	svgFlag(cmd, &svg)
	return cmd
}

// probeAll probes the pair that is named, or all candidates.
func probeAll(o lab.Options) ([]probe.Result, error) {
	t := smtpool.Discover()
	pairs := probe.Candidates(t, 16)
	if o.D >= 0 {
		for _, id := range []int{o.D, o.S} {
			if !slices.ContainsFunc(t.CPUs, func(c smtpool.CPU) bool { return c.ID == id }) {
				return nil, stages.Finding{File: "--cpus", Msg: fmt.Sprintf("CPU %d is not one that this process may use", id), Fix: "vtpu smt topology lists them"}
			}
		}
		if o.D == o.S {
			return nil, stages.Finding{File: "--cpus", Msg: fmt.Sprintf("CPU %d twice", o.D), Fix: "name two different ones"}
		}
		pairs = [][2]int{{o.D, o.S}}
	}
	if len(pairs) == 0 {
		return nil, lacking(lab.ErrOneCPU)
	}
	var rs []probe.Result
	for _, c := range pairs {
		rs = append(rs, probe.CPUs(t, c[0], c[1], o.Reps))
	}
	return rs, nil
}

func (a *app) smtRulers() *cobra.Command {
	var losses bool
	return a.measuring("rulers", "Measure loops that press one resource of a core each, and what the port model says of them", "  vtpu smt rulers\n  vtpu smt rulers --losses",
		func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&losses, "losses", false, "what each ruler loses beside each other one, instead")
		},
		func(l *lab.Lab) (*part, error) {
			if losses {
				r, err := l.Losses()
				if err != nil {
					return nil, err
				}
				return lossesPart(r), nil
			}
			r, err := l.Rulers()
			if err != nil {
				return nil, err
			}
			return rulersPart(r), nil
		})
}

func (a *app) smtPair() *cobra.Command {
	var o lab.PairOptions
	var curve bool
	var line string
	cmd := a.measuring("pair", "Measure complementary workloads on the two lanes, their controls, and three baselines",
		"  vtpu smt pair\n  vtpu smt pair --curve --svg curve.svg --timeline lanes.svg\n  vtpu smt pair --ops 500 --d 70 --s 30",
		func(cmd *cobra.Command) {
			cmd.Flags().IntVar(&o.N, "ops", workload.Default.N, "operations of a program's loop, 1 to 4096")
			cmd.Flags().Float64Var(&o.D, "d", workload.Default.D, "share of compute-bound operations of the D lane's program; the S lane's has the shares swapped")
			cmd.Flags().Float64Var(&o.S, "s", workload.Default.S, "share of memory-bound operations of the D lane's program")
			cmd.Flags().BoolVar(&curve, "curve", false, "the speedup over the number of independent chains of misses, instead")
			cmd.Flags().StringVar(&line, "timeline", "", "with --curve: write a picture of what the lanes do to this file")
		},
		func(l *lab.Lab) (*part, error) {
			if curve {
				c, err := l.Curve()
				if err != nil {
					return nil, err
				}
				p := curvePart(c)
				return p, picture(line, p.draws[1].draw)
			}
			if line != "" {
				return nil, stages.Finding{File: "--timeline " + line, Msg: "a timeline is drawn with --curve", Fix: "add --curve"}
			}
			r, err := l.Pairs(o)
			if err != nil {
				return nil, err
			}
			return pairsPart(r), nil
		})
	inner := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, p []string) error {
		if err := checkMix(o.N, o.D, o.S); err != nil {
			return err
		}
		return inner(cmd, p)
	}
	return cmd
}

// checkMix finds mistakes in --ops, --d and --s.
func checkMix(n int, d, s float64) error {
	if _, err := workload.New(workload.Mix{N: n, D: d, S: s}); err != nil {
		return stages.Finding{File: fmt.Sprintf("--ops %d --d %g --s %g", n, d, s), Msg: strings.TrimPrefix(err.Error(), "workload: ")}
	}
	return nil
}

func (a *app) smtModel() *cobra.Command {
	var core, svg string
	var n int
	var d, s, latency float64
	cmd := &cobra.Command{
		Use: "model", Short: "What the port model says of pairs of workloads on the siblings of this core, or of another", Args: args(cobra.NoArgs),
		Example: "  vtpu smt model\n  vtpu smt model --core all --latency 800",
		RunE: func(*cobra.Command, []string) error {
			if err := checkMix(n, d, s); err != nil {
				return err
			}
			if !(latency >= 0) || latency > 1e6 {
				return stages.Finding{File: fmt.Sprintf("--latency %g", latency), Msg: "want cycles, 0 to 1000000"}
			}
			var cores []*ports.Machine
			var names []string
			for _, m := range ports.Machines() {
				name := strings.ToLower(strings.ReplaceAll(m.Name, " ", "-"))
				names = append(names, name)
				if core == "all" || core == name {
					cores = append(cores, m)
				}
			}
			if core == "" {
				m, why := ports.Detect(smtpool.Discover())
				if m == nil {
					return &stages.EnvError{Err: errors.New(why), Fix: "name one with --core: " + strings.Join(names, ", ") + ", all"}
				}
				cores = []*ports.Machine{m}
			}
			if cores == nil {
				return stages.Finding{File: "--core " + core, Msg: "there is no table of that core", Fix: strings.Join(names, ", ") + ", all"}
			}
			from := "given"
			if latency == 0 {
				latency, from = 700, "assumed; --latency sets it, vtpu smt rulers measures it"
			}
			rows, err := modelRows(cores, latency, n, d, s)
			if err != nil {
				return err
			}
			return a.show(modelPart(rows, cores, latency, from), svg)
		},
	}
	cmd.Flags().StringVar(&core, "core", "", "golden-cove, sunny-cove, skylake-sp, zen-4, zen-5 or all; this machine's if left out")
	cmd.Flags().IntVar(&n, "ops", workload.Default.N, "operations of a program's loop, 1 to 4096")
	cmd.Flags().Float64Var(&d, "d", workload.Default.D, "share of compute-bound operations")
	cmd.Flags().Float64Var(&s, "s", workload.Default.S, "share of memory-bound operations")
	cmd.Flags().Float64Var(&latency, "latency", 0, "latency of memory in cycles")
	svgFlag(cmd, &svg)
	return cmd
}

// numbers writes a list of CPUs as the kernel does: 0-3,8.
func numbers(ids []int) string {
	var parts []string
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(ids[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", ids[i], ids[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// coresOf groups the CPUs for the picture.
func coresOf(t *smtpool.Topology) []chart.Core {
	var out []chart.Core
	at := map[[2]int]int{}
	for _, c := range t.CPUs {
		k := [2]int{c.Socket, c.Core}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, chart.Core{Name: fmt.Sprintf("core %d", c.Core), Group: fmt.Sprintf("socket %d, node %d, cache of CPUs %s", c.Socket, c.Node, numbers(c.Cluster)),
				Slow: c.Kind == "efficiency"})
		}
		out[i].CPUs = append(out[i].CPUs, c.ID)
	}
	return out
}
