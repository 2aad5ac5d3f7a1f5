package cli

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vtpu/compute/kernel"
	"vtpu/pipelines"
	"vtpu/smtpool"
	"vtpu/stages"
)

func (a *app) bench() *cobra.Command {
	var works []string
	rounds, lanes := 5, 0
	seconds := 0.3
	cmd := &cobra.Command{
		Use: "bench", Short: "How fast this machine trains the works of the benchmark, and what share of its limits that is", Args: args(cobra.NoArgs),
		Long: "The limits are measured first: independent FMAs in registers, and a copy between arrays that no cache holds. A step's arithmetic is what vtpu plan counts, at the lengths that\n" +
			"examples have; its traffic is what it would read and write if no cache kept anything, so that a work that fits a cache is above 100 % of the copy.\n" +
			"line is how long a cache line takes from one CPU to the other in the same rounds: where a hypervisor moves its CPUs it changes, and what two lanes share with it.",
		Example: "  vtpu bench\n  vtpu bench --works w4,w6 --rounds 9 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			avail := min(len(smtpool.CPUs()), runtime.GOMAXPROCS(0))
			switch {
			case rounds < 1 || rounds > 1000:
				return stages.Finding{File: fmt.Sprintf("--rounds %d", rounds), Msg: "want 1 to 1000"}
			case !(seconds > 0 && seconds <= 60):
				return stages.Finding{File: fmt.Sprintf("--seconds %g", seconds), Msg: "want more than 0 and at most 60"}
			case lanes < 0 || lanes > avail:
				return stages.Finding{File: fmt.Sprintf("--lanes %d", lanes), Msg: fmt.Sprintf("want 1 to %d, the CPUs of this machine", avail)}
			case lanes == 0:
				lanes = avail
			}
			if len(works) == 0 {
				works = pipelines.WorkNames()
			}
			for _, w := range works {
				if err := pipelines.CheckWork(w); err != nil {
					return err
				}
			}
			var peaks []pipelines.Peak
			for n := 1; n <= lanes; n++ {
				p := pipelines.MeasurePeak(n)
				peaks = append(peaks, p)
				if a.json {
					a.line(struct {
						Event string `json:"event"`
						ISA   string `json:"isa"`
						pipelines.Peak
					}{"peak", kernel.ISA(), p})
					continue
				}
				fma := fmt.Sprintf("%.0f GFLOP/s of FMA", p.GFlops)
				if p.GFlops == 0 {
					fma = "FMA peak not measured (" + p.Why + ")"
				}
				line := ""
				if p.Line > 0 {
					line = fmt.Sprintf(", a cache line from lane to lane in %.0f ns", p.Line)
				}
				fmt.Fprintf(a.out, "%d lanes: %s, %.1f GB/s of copy%s\n", n, fma, p.GBytes, line)
			}
			if !a.json {
				fmt.Fprintf(a.out, "%-5s%-12s%12s%10s%10s%9s%9s%9s%9s   %s\n", "work", "lanes", "a step", "spread", "GFLOP/s", "of FMA", "GB/s", "of copy", "line", "over one lane")
			}
			for _, w := range works {
				one := 0.0
				err := pipelines.MeasureSpeed(cmd.Context(), w, nil, peaks, rounds, time.Duration(seconds*float64(time.Second)), func(s pipelines.Speed) {
					if s.Threads == 1 {
						one = s.Seconds
					}
					if a.json {
						a.line(struct {
							Event string `json:"event"`
							pipelines.Speed
							Over float64 `json:"over_one_lane"`
						}{"bench", s, one / s.Seconds})
						return
					}
					of := "-"
					if s.OfPeak > 0 {
						of = share(s.OfPeak)
					}
					line := "-"
					if s.Line > 0 {
						line = fmt.Sprintf("%.0f ns", s.Line)
					}
					fmt.Fprintf(a.out, "%-5s%-12s%12s%10s%10.1f%9s%9.1f%9s%9s   %.2f\n", s.Work, s.Lanes, duration(s.Seconds), share((s.High-s.Low)/s.Seconds), s.GFlops, of, s.GBytes,
						share(s.OfMem), line, one/s.Seconds)
				})
				if err != nil {
					return fmt.Errorf("%s: %w", w, err)
				}
				runtime.GC() // the next work may be large
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&works, "works", nil, "works to run, of "+strings.Join(pipelines.WorkNames(), ", ")+"; all if left out")
	f.IntVar(&rounds, "rounds", rounds, "turns of each placement; the median is told")
	f.Float64Var(&seconds, "seconds", seconds, "length of a turn")
	f.IntVar(&lanes, "lanes", 0, "largest number of lanes; all CPUs if left out")
	return cmd
}

func share(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }

// duration is a time with three digits.
func duration(s float64) string {
	switch {
	case s < 1e-6:
		return fmt.Sprintf("%.0f ns", s*1e9)
	case s < 1e-3:
		return fmt.Sprintf("%.3g µs", s*1e6)
	case s < 1:
		return fmt.Sprintf("%.3g ms", s*1e3)
	}
	return fmt.Sprintf("%.3g s", s)
}
