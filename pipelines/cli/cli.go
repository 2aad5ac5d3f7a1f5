// Package cli is the command line: flags, output for people and for programs, exit codes.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vtpu/pipelines"
	"vtpu/stages"
)

// app is one call of the command.
type app struct {
	out  *output
	err  io.Writer
	json bool

	broker func(BrokerOptions) (Broker, error) // nil: none is linked in
}

// output is where results go. It keeps the first error: what can't be written must not look like success.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(b)
	o.err = err
	return n, err
}

// Main runs the command and returns its exit code: 0 done, 1 internal, 2 findings in what the user gave, 3 the environment lacks something.
func Main(args []string, out, errOut io.Writer, with ...Option) (code int) {
	a := &app{out: &output{w: out}, err: errOut}
	for _, o := range with {
		o(a)
	}
	defer func() {
		if p := recover(); p != nil {
			a.report(fmt.Errorf("a mistake in vtpu, please report it: %v", p))
			code = stages.ExitInternal
		}
	}()
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(errOut)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the process at once
	}()
	err := root.ExecuteContext(ctx)
	if a.out.err != nil && (err == nil || errors.Is(err, a.out.err)) {
		err = &stages.EnvError{Err: fmt.Errorf("write the output: %w", a.out.err), Fix: "free some room, or write to another place"}
	}
	if err == nil {
		return stages.ExitOK
	}
	a.json = a.json || slices.Contains(args, "--json") // a flag before it may have been what is wrong
	a.report(err)
	return stages.ExitCode(err)
}

// report prints an error: each finding on a line of its own, as an object with --json.
func (a *app) report(err error) {
	var fs stages.Findings
	var f stages.Finding
	var env *stages.EnvError
	switch {
	case errors.As(err, &env):
		fs = stages.Findings{{Msg: strings.TrimSuffix(err.Error(), " ("+env.Fix+")"), Fix: env.Fix}}
	case errors.As(err, &fs):
	case errors.As(err, &f):
		if err.Error() != f.Error() { // where it happened is in the text around it
			f = stages.Finding{Msg: strings.TrimSuffix(err.Error(), " ("+f.Fix+")"), Fix: f.Fix}
		}
		fs = stages.Findings{f}
	case errors.Is(err, context.Canceled):
		fs = stages.Findings{{Msg: "interrupted"}}
	default:
		fs = stages.Findings{{Msg: err.Error()}}
	}
	for _, f := range fs {
		if a.json && a.out.err == nil {
			a.line(struct {
				Event string `json:"event"`
				Code  int    `json:"code"`
				stages.Finding
			}{"error", stages.ExitCode(err), f})
		} else {
			fmt.Fprintln(a.err, "vtpu: "+f.String())
		}
	}
}

// line prints one JSON object.
func (a *app) line(v any) {
	b, err := json.Marshal(v)
	if err != nil { // NaN or Inf, which JSON lacks: a run that gets there has been stopped by the guard
		b, _ = json.Marshal(map[string]string{"event": "error", "msg": err.Error()})
	}
	fmt.Fprintf(a.out, "%s\n", b)
}

// usage makes a mistake in flags or arguments a finding.
func usage(cmd *cobra.Command, err error) error {
	return stages.Finding{Msg: parseNoise.ReplaceAllString(err.Error(), ""), Fix: cmd.CommandPath() + " --help"}
}

// given refuses values that only a flag left out may have: 0 or nothing would silently mean what the file or the machine says.
func given(cmd *cobra.Command) error {
	var fs stages.Findings
	cmd.Flags().Visit(func(f *pflag.Flag) {
		none, want := "", "nothing is given"
		switch f.Name {
		case "steps", "every", "stop-after":
			none, want = "0", "want at least 1"
		case "lanes", "isa", "record":
		default:
			return
		}
		if f.Value.String() == none {
			fs = append(fs, stages.Finding{File: strings.TrimSpace("--" + f.Name + " " + none), Msg: want, Fix: "leave it out for the default"})
		}
	})
	return fs.Err()
}

// parseNoise is what the flag library says of the function that failed.
var parseNoise = regexp.MustCompile(`strconv\.\w+: parsing ".*": `)

// args says what a command wants in the words of its usage line, which names its arguments.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if check(cmd, a) == nil {
			return nil
		}
		_, want, _ := strings.Cut(cmd.Use, " ")
		if want == "" {
			want = "no argument"
		}
		got := "nothing"
		if len(a) > 0 {
			got = strings.Join(a, " ")
		}
		return stages.Finding{Msg: fmt.Sprintf("%s wants %s, got %s", cmd.CommandPath(), want, got), Fix: cmd.CommandPath() + " --help"}
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "vtpu", Short: "Train small models on CPUs, with the same bits everywhere", SilenceErrors: true, SilenceUsage: true,
		Long: "vtpu trains small models on CPUs. A training step is cut into stages (gather, forward, loss, backward, update, scatter) that a YAML\n" +
			"file composes. The same file and seed end in the same weights, bit for bit, on any number of lanes.",
		Example: "  vtpu run names\n  vtpu lint my.yaml",
		Version: pipelines.Version(),
		Args:    unknown,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return given(cmd) },
	}
	root.SetFlagErrorFunc(usage)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object a line")
	root.AddCommand(a.run(), a.lint(), a.plan(), a.list(), a.schema(), a.fresh(), a.sample(), a.eval(), a.export(), a.importCmd(), a.replay(), a.fork(), a.diff(), a.log(), a.doctor(), a.bench(),
		a.worker(), a.brokerCmd(), a.health(), a.serve(), a.feed(), a.smt())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Args = func(_ *cobra.Command, a []string) error { // by itself it prints the general help, as if nothing were wrong
				if c, _, err := root.Find(a); err != nil || c == root && len(a) > 0 {
					return unknown(root, a)
				}
				return nil
			}
		}
	}
	return root
}

// unknown is the finding about a word where a command is wanted.
func unknown(root *cobra.Command, a []string) error {
	if len(a) == 0 {
		return nil
	}
	var names []string
	for _, c := range root.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return stages.Finding{Msg: fmt.Sprintf("there is no command %q", a[0]), Fix: pipelines.Suggest(a[0], names)}
}
