package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"vtpu/pipelines/chart"
	"vtpu/smtpool"
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
	cmd.AddCommand(a.smtTopology())
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
			if a.json {
				a.line(struct {
					Event string `json:"event"`
					*smtpool.Topology
					Pairs    [][2]int `json:"pairs"`
					Capacity int      `json:"capacity"`
				}{"topology", t, append([][2]int{}, t.Pairs()...), t.Capacity()})
			} else {
				a.printTopology(t)
			}
			return picture(svg, func(w io.Writer) error { return chart.Cores(w, coresOf(t)) })
		},
	}
	svgFlag(cmd, &svg)
	return cmd
}

func (a *app) printTopology(t *smtpool.Topology) {
	rows := [][]string{{"cpu", "core", "socket", "node", "siblings", "shares the last cache with", "kind"}}
	for _, c := range t.CPUs {
		kind := c.Kind
		if c.Weight > 0 {
			kind = fmt.Sprintf("weight %d", c.Weight)
		}
		rows = append(rows, []string{fmt.Sprint(c.ID), fmt.Sprint(c.Core), fmt.Sprint(c.Socket), fmt.Sprint(c.Node), numbers(c.Siblings), numbers(c.Cluster), kind})
	}
	a.table(rows)
	fact := func(k, format string, v ...any) { fmt.Fprintf(a.out, "%-10s%s\n", k, fmt.Sprintf(format, v...)) }
	if t.Model != "" {
		fact("model", "%s (%s, family %d, model %d)", t.Model, t.Vendor, t.Family, t.ModelNo)
	}
	fact("source", "%s", t.Source)
	if t.SMT != "" {
		fact("SMT", "%s, as the system says", t.SMT)
	}
	if t.Hypervisor {
		fact("guest", "of a hypervisor: what it tells is a claim")
	}
	if len(t.Offline) > 0 {
		fact("offline", "%s", numbers(t.Offline))
	}
	if len(t.Excluded) > 0 {
		fact("excluded", "%s, by the affinity mask or a cpuset", numbers(t.Excluded))
	}
	if t.Quota > 0 {
		fact("quota", "%g CPUs", t.Quota)
	}
	for _, c := range t.Caches {
		if c.Type != "Instruction" {
			fact("cache", "L%d %s, lines of %d bytes", c.Level, size(int64(c.Size)), c.Line)
		}
	}
	for _, n := range t.Notes {
		fact("note", "%s", n)
	}
	if len(t.Pairs()) == 0 {
		fact("pairs", "none named: no SMT result can be expected here; vtpu smt probe measures")
	} else {
		fact("pairs", "%v, a claim until vtpu smt probe has measured", t.Pairs())
	}
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
