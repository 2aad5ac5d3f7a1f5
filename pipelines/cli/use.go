package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
)

// last is a watcher that keeps the result alone.
type last struct{ done pipelines.Done }

func (*last) Started(*pipelines.Plan, string, int64) {}
func (*last) Stepped(rundir.Metric)                  {}
func (*last) Saved(int64, string)                    {}
func (l *last) Finished(d pipelines.Done)            { l.done = d }

// openRun is pipelines.OpenRun for the value of --step.
func openRun(dir string, step int64) (*pipelines.Plan, *exec.Engine, error) {
	if step < -1 {
		return nil, nil, stages.Finding{File: fmt.Sprintf("--step %d", step), Msg: "want the step of a checkpoint, or -1 for the newest"}
	}
	return pipelines.OpenRun(dir, step)
}

func (a *app) sample() *cobra.Command {
	s := pipelines.SampleSection{Count: 10, Temperature: 1}
	var seed uint64
	var step int64
	cmd := &cobra.Command{
		Use: "sample RUN", Short: "Draw texts from a trained model", Args: args(cobra.ExactArgs(1)),
		Example: "  vtpu sample runs/names-1 --count 20 --temperature 0.7 --prompt ma",
		RunE: func(cmd *cobra.Command, p []string) (err error) {
			if s.Count < 1 || s.Count > 10000 || !(s.Temperature >= 0) || s.TopK < 0 || s.Tokens < 0 {
				return stages.Finding{Msg: "--count wants 1 to 10000; --temperature, --top-k and --tokens what is not negative"}
			}
			plan, e, err := openRun(p[0], step)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, e.Close()) }()
			if plan.Pipe.Sample != nil { // what the file says is the default
				f := cmd.Flags()
				if !f.Changed("temperature") {
					s.Temperature = plan.Pipe.Sample.Temperature
				}
				if !f.Changed("top-k") {
					s.TopK = plan.Pipe.Sample.TopK
				}
				if !f.Changed("tokens") {
					s.Tokens = plan.Pipe.Sample.Tokens
				}
				if !f.Changed("count") {
					s.Count = plan.Pipe.Sample.Count
				}
				if !f.Changed("prompt") {
					s.Prompt = plan.Pipe.Sample.Prompt
				}
			}
			if !cmd.Flags().Changed("seed") {
				seed = plan.Pipe.Seed
			}
			texts, err := plan.Sample(cmd.Context(), e, s, seed)
			for _, t := range texts {
				if a.json {
					a.line(struct {
						Event string `json:"event"`
						Text  string `json:"text"`
					}{"sample", t})
				} else {
					fmt.Fprintln(a.out, t)
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&s.Count, "count", s.Count, "texts to draw")
	f.IntVar(&s.Tokens, "tokens", 0, "largest length; 0 is the block of the model, or 200 for a running text")
	f.Float64Var(&s.Temperature, "temperature", s.Temperature, "divides the logits; 0 takes the likeliest token")
	f.IntVar(&s.TopK, "top-k", 0, "draw from the k likeliest tokens only; 0 is all")
	f.StringVar(&s.Prompt, "prompt", "", "text to continue")
	f.Uint64Var(&seed, "seed", 0, "seed of the draws; the run's if left out")
	f.Int64Var(&step, "step", -1, "checkpoint to use; the newest if left out")
	return cmd
}

func (a *app) eval() *cobra.Command {
	var step, batches int64
	cmd := &cobra.Command{
		Use: "eval RUN", Short: "Loss, and accuracy where there is one, on the validation data", Args: args(cobra.ExactArgs(1)),
		Example: "  vtpu eval runs/digits-1",
		RunE: func(cmd *cobra.Command, p []string) (err error) {
			if batches < 0 {
				return stages.Finding{File: fmt.Sprintf("--batches %d", batches), Msg: "want a whole number that is not negative"}
			}
			plan, e, err := openRun(p[0], step)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, e.Close()) }()
			ev, err := e.Eval(cmd.Context(), batches)
			if errors.Is(err, exec.ErrNoEval) {
				return stages.Finding{File: p[0], Msg: err.Error()}
			}
			if err != nil {
				return err
			}
			m := rundir.Metric{Event: "eval", Step: plan.Store.Version(), Loss: ev.Loss, Hits: ev.Hits, Seen: ev.Seen, AUC: ev.AUC}
			if a.json {
				_, err = a.out.Write(rundir.AppendMetric(nil, m))
				return err
			}
			fmt.Fprintf(a.out, "step %d  validation loss %.6g%s  (%d batches)\n", m.Step, m.Loss, accuracy(m), ev.Steps)
			return nil
		},
	}
	cmd.Flags().Int64Var(&step, "step", -1, "checkpoint to use; the newest if left out")
	cmd.Flags().Int64Var(&batches, "batches", 0, "batches to use; 0 is all")
	return cmd
}

func (a *app) export() *cobra.Command {
	var step int64
	state := false
	cmd := &cobra.Command{
		Use: "export RUN FILE", Short: "Write the weights of a run as .safetensors, .npz or .phext", Args: args(cobra.ExactArgs(2)),
		Example: "  vtpu export runs/names-1 names.safetensors",
		RunE: func(_ *cobra.Command, p []string) (err error) {
			plan, e, err := openRun(p[0], step)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, e.Close()) }()
			if err := plan.Export(p[1], state); err != nil {
				return err
			}
			a.written(p[1], plan)
			return nil
		},
	}
	cmd.Flags().Int64Var(&step, "step", -1, "checkpoint to use; the newest if left out")
	cmd.Flags().BoolVar(&state, "state", false, "write the optimizer state too")
	return cmd
}

func (a *app) written(file string, plan *pipelines.Plan) {
	w, _ := plan.Store.Hashes()
	if a.json {
		a.line(struct {
			Event   string `json:"event"`
			File    string `json:"file"`
			Weights string `json:"weights_sha256"`
		}{"written", file, w})
		return
	}
	fmt.Fprintf(a.out, "%s written\nweights_sha256 %s\n", file, w)
}

func (a *app) importCmd() *cobra.Command {
	o := pipelines.Options{LookAhead: -1}
	cmd := &cobra.Command{
		Use: "import PIPELINE FILE", Short: "Begin a run with the weights of a .safetensors, .npz or .phext file", Args: args(cobra.ExactArgs(2)),
		Example: "  vtpu import names names.safetensors --out runs/names-tuned\n  vtpu run names --resume --out runs/names-tuned",
		RunE: func(_ *cobra.Command, p []string) error {
			o.File = p[0]
			if err := check(o); err != nil {
				return err
			}
			if o.Out == "none" {
				return stages.Finding{File: "--out none", Msg: "an import without a run directory does nothing"}
			}
			plan, dir, err := pipelines.Import(o, p[1])
			if err != nil {
				return err
			}
			a.written(dir, plan)
			return nil
		},
	}
	pipelineFlags(cmd, &o)
	cmd.Flags().StringVar(&o.Out, "out", "", "run directory; a new one below runs/ if left out")
	return cmd
}
