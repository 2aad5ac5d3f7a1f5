package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"vtpu/pipelines"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
)

func (a *app) replay() *cobra.Command {
	o := pipelines.ReplayOptions{From: -1}
	speed := "max"
	cmd := &cobra.Command{
		Use: "replay RUN", Short: "Do a recorded run again from its stream, and compare the weights", Args: args(cobra.ExactArgs(1)),
		Long: "A run with commit: {record: gradients} or --record gradients keeps the gradients of each step. A replay applies them again, without data, forward\n" +
			"or backward work, from the first weights or a checkpoint, and ends with the same bits. With --set it asks what would have been: another\n" +
			"learning rate, say, with the gradients as they were.",
		Example: "  vtpu replay runs/names-1\n  vtpu replay runs/names-1 --to-step 500\n  vtpu replay runs/names-1 --set stages.adamw.lr=1e-3\n  vtpu replay runs/names-1 --verify-gradients 5",
		RunE: func(cmd *cobra.Command, p []string) error {
			o.Dir = p[0]
			switch {
			case speed != "max" && speed != "recorded":
				return stages.Finding{File: "--speed " + speed, Msg: "want max or recorded"}
			case o.To < 0 || o.Verify < 0 || o.Every < 0 || o.From < -1:
				return stages.Finding{Msg: "--to-step, --from-checkpoint, --verify-gradients and --every want numbers that are not negative"}
			}
			o.Paced = speed == "recorded"
			if a.json {
				o.Stepped = func(m rundir.Metric) { _, _ = a.out.Write(rundir.AppendMetric(nil, m)) }
			}
			d, err := pipelines.Replay(cmd.Context(), o)
			var miss *pipelines.Mismatch
			if err != nil && !errors.As(err, &miss) {
				return err
			}
			if a.json {
				if d.Weights != "" {
					a.line(d)
				}
				return err
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s: steps %d to %d from recorded %s, %.0f a second", d.Name, d.From+1, d.Steps, d.What, d.PerSecond)
			if d.Recorded > 0 {
				fmt.Fprintf(a.out, "; the run made %.0f (%.1f times as fast)", d.Recorded, d.PerSecond/d.Recorded)
			}
			fmt.Fprintln(a.out)
			if len(d.Verified) > 0 {
				fmt.Fprintf(a.out, "the gradients of the steps %v were computed again: the same bits\n", d.Verified)
			}
			fmt.Fprintf(a.out, "state_sha256   %s\nweights_sha256 %s\n", d.State, d.Weights)
			switch {
			case len(d.WhatIf) > 0:
				fmt.Fprintln(a.out, d.WhatIfLabel())
			case d.Match == nil:
				fmt.Fprintln(a.out, "nothing says which weights the run had after this step: not compared")
			default:
				fmt.Fprintln(a.out, "the same weights as the run had")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.Int64Var(&o.To, "to-step", 0, "stop after this step; 0 is the end of the stream")
	f.Int64Var(&o.From, "from-checkpoint", -1, "start from the checkpoint of this step instead of the beginning")
	f.StringArrayVar(&o.Sets, "set", nil, "change a value of the pipeline, such as stages.adamw.lr=3e-4: a what-if (may be given several times)")
	f.StringVar(&o.ISA, "isa", "", "instruction set: generic, avx2 or avx512; the best there is if left out")
	f.StringVar(&speed, "speed", speed, "max, or recorded: with the pauses of the run")
	f.IntVar(&o.Verify, "verify-gradients", 0, "compute the gradients of so many steps again, spread over the run, and compare them bit by bit; needs the data, or of an online source the run's journal")
	f.Int64Var(&o.Every, "every", 0, "steps between two lines of --json")
	return cmd
}
