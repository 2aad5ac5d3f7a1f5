package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"vtpu/pipelines"
	"vtpu/stages"
)

func (a *app) fork() *cobra.Command {
	o := pipelines.ForkOptions{At: -1}
	t := pipelines.Options{LookAhead: -1}
	stay, quiet := false, false
	var l linkFlags
	say := func(d pipelines.Forked) {
		if a.json {
			a.line(d)
		} else {
			fmt.Fprintf(a.out, "%s goes on from step %d of %s (by its %s), weights_sha256 %s\n", d.Dir, d.At, o.Dir, d.From, d.Weights)
			if len(d.Anew) > 0 {
				fmt.Fprintf(a.out, "begins anew: %s\n", strings.Join(d.Anew, ", "))
			}
		}
	}
	cmd := &cobra.Command{
		Use: "fork RUN", Short: "Begin a run from a step of another one, with something changed", Args: args(cobra.ExactArgs(1)),
		Long:    "The step may be any that the run has a checkpoint of or, where gradients were recorded, any at all. The other run is not touched.",
		Example: "  vtpu fork runs/names-1 --at 700 --set stages.adam.lr=1e-3\n  vtpu fork runs/names-1 --at 700 --no-run --out runs/branch",
		RunE: func(cmd *cobra.Command, p []string) (err error) {
			if o.At < 0 {
				return stages.Finding{File: "--at", Msg: "says after which step the new run begins, and is missing", Fix: "--at 700"}
			}
			if o.Steps < 0 {
				return stages.Finding{File: fmt.Sprintf("--steps %d", o.Steps), Msg: "want a whole number that is not negative"}
			}
			if f := cmd.Flags(); stay && (f.Changed("nats") || f.Changed("workers")) {
				return stages.Finding{File: "--no-run", Msg: "nothing is started: there is no use for --nats and --workers", Fix: "give them to vtpu run --resume"}
			}
			if o.Out == "none" {
				return stages.Finding{File: "--out none", Msg: "a fork without a run directory does nothing"}
			}
			if file, err := pipelines.PipelineOfRun(p[0]); err != nil {
				return err
			} else if isLive(file) && !stay && l.URL == "" {
				return stages.Finding{File: p[0], Msg: "its data comes over a broker", Fix: "add --nats nats://host:4222, or make the directory only with --no-run"}
			}
			o.Dir, o.Run = p[0], t
			d, err := pipelines.Fork(cmd.Context(), o)
			if err != nil {
				return err
			}
			if stay {
				say(d)
				if !a.json {
					fmt.Fprintf(a.out, "go on with: %s\n", d.Resume)
				}
				return nil
			}
			t.Out, t.Resume, t.Fork, t.File = d.Dir, true, true, p[0]
			var w pipelines.Watcher = &human{w: a.out, quiet: quiet, tty: isTerminal(a.out)}
			if a.json {
				w = &machine{a}
			}
			done, err := a.link(&t, &l, cmd.Flags().Changed("nats"))
			if err != nil { // nothing was begun: nothing stays
				return errors.Join(err, os.RemoveAll(d.Dir))
			}
			defer func() { err = errors.Join(err, done()) }()
			say(d)
			return pipelines.Train(cmd.Context(), t, w)
		},
	}
	l.broker(cmd, "broker that joins the new run to workers, or brings its examples")
	f := cmd.Flags()
	f.IntVar(&l.local, "workers", 0, "workers to start in this process for each piece that links leave to workers, beside those that join over the link")
	f.Int64Var(&o.At, "at", -1, "step after which the new run begins")
	f.StringArrayVar(&o.Sets, "set", nil, "change a value of the pipeline from there on, such as stages.adamw.lr=3e-4 (may be given several times)")
	f.Int64Var(&o.Steps, "steps", 0, "steps in all, those of the other run included; as that run if left out")
	f.StringVar(&o.Out, "out", "", "run directory; a new one below runs/ if left out")
	f.BoolVar(&stay, "no-run", false, "make the run directory only; run --resume goes on")
	f.StringVar(&t.Lanes, "lanes", "", "lanes, such as d=2,s=1")
	f.StringVar(&t.ISA, "isa", "", "instruction set: generic, avx2 or avx512; the best there is if left out")
	f.StringVar(&t.Record, "record", "", "what each step leaves in the new run directory: gradients, inputs or none")
	f.BoolVarP(&quiet, "quiet", "q", false, "print the result only")
	return cmd
}

func (a *app) diff() *cobra.Command {
	return &cobra.Command{
		Use: "diff RUN RUN", Short: "The first step and tensor in which two runs differ", Args: args(cobra.ExactArgs(2)),
		Long: "Recorded streams are compared frame by frame, then losses, then checkpoints of the same step: whatever both runs have. The exit code is 0 where\n" +
			"they are the same to the bit, and 2 where they are not.",
		Example: "  vtpu diff runs/names-1 runs/names-2",
		RunE: func(_ *cobra.Command, p []string) error {
			d, err := pipelines.Diff(p[0], p[1])
			if err != nil {
				return err
			}
			if a.json {
				a.line(d)
			} else if d.Same {
				fmt.Fprintln(a.out, d.String())
			}
			if !d.Same {
				return stages.Finding{Msg: d.String()}
			}
			return nil
		},
	}
}
