package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	_ "vtpu/backward"
	_ "vtpu/compute"
	"vtpu/compute/kernel"
	_ "vtpu/gather"
	"vtpu/pipelines"
	"vtpu/pipelines/presettest"
	"vtpu/pipelines/strict"
	_ "vtpu/scatter"
	"vtpu/stages"
	_ "vtpu/update"
)

// childEnv makes the test program the command itself, for tests that need a process of its own.
const childEnv = "VTPU_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// call runs the command.
func call(args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = Main(args, &o, &e)
	return code, o.String(), e.String()
}

// good runs the command and wants success without a word on stderr.
func good(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errOut := call(args...)
	if code != 0 || errOut != "" {
		t.Fatalf("vtpu %s: exit code %d, %s", strings.Join(args, " "), code, errOut)
	}
	return out
}

// events runs a command with --json and decodes its lines.
func events(t *testing.T, args ...string) []map[string]any {
	t.Helper()
	return decoded(t, good(t, append(args, "--json")...))
}

func decoded(t *testing.T, out string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(out) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		t.Fatal("no lines")
	}
	return all
}

// keys are the fields of an object, sorted.
func keys(m map[string]any) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }

// write puts files below the working directory.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// hashes are those of all files below a directory. The lock file is left out: it names the last process.
func hashes(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			all[p] = "directory"
		case d.Name() != "lock":
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			all[p] = fmt.Sprintf("%x", sha256.Sum256(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// small is a classifier that trains in no time.
var small = []string{"digits", "--set", "data.rows=100", "--set", "run.eval_every=4", "--steps", "10"}

var sha = regexp.MustCompile("^[0-9a-f]{64}$")

func TestTheLinesOfARunHaveStableFields(t *testing.T) {
	t.Chdir(t.TempDir())
	const step, eval = "event loss step", "event hits loss seen step"
	const done = "event first_loss isa lanes last_loss name state_sha256 steps steps_per_s weights_sha256"
	for _, c := range []struct {
		name string
		args []string
		want map[string]string
	}{
		{"weight", []string{"run", "weight", "--steps", "5"},
			map[string]string{"start": "dir event from lanes name params steps", "step": step, "checkpoint": "event file step", "done": done + " dir"}},
		{"digits", append([]string{"run"}, small...), map[string]string{"step": step, "eval": eval, "done": done + " accuracy dir eval_loss"}},
		{"names", []string{"run", "names", "--steps", "2", "--out", "none"},
			map[string]string{"start": "event from lanes name params steps", "done": done + " samples"}},
		{"qkv", []string{"run", "qkv", "--out", "none"}, map[string]string{"done": done + " cells"}},
		{"stopped", []string{"run", "weight", "--steps", "5", "--stop-after", "2"}, map[string]string{"stopped": done + " dir resume"}},
	} {
		seen := map[string]bool{}
		all := events(t, c.args...)
		for _, m := range all {
			kind := m["event"].(string)
			seen[kind] = true
			want := strings.Fields(c.want[kind])
			slices.Sort(want)
			if len(want) > 0 && keys(m) != strings.Join(want, " ") {
				t.Errorf("%s: %s has the fields %s, want %s", c.name, kind, keys(m), strings.Join(want, " "))
			}
		}
		for kind := range c.want {
			if !seen[kind] {
				t.Errorf("%s: no line %s", c.name, kind)
			}
		}
		last := all[len(all)-1]
		for _, h := range []string{"weights_sha256", "state_sha256"} {
			if !sha.MatchString(last[h].(string)) {
				t.Errorf("%s: %s is %v", c.name, h, last[h])
			}
		}
		if c.name == "weight" && (last["event"] != "done" || last["steps"] != 5.0 || last["first_loss"] != 9.0 || last["isa"] != kernel.ISA() || last["lanes"] != "d=1,s=0") {
			t.Errorf("the last line is %v", last)
		}
	}
}

func TestARunSpeaksToPeopleToo(t *testing.T) {
	t.Chdir(t.TempDir())
	out := good(t, "run", "names", "--steps", "3")
	for _, want := range []string{"names: 4192 weights in ", " tensors, 3 steps, lanes d=1,s=0\n", "step 3/3  loss ", "loss 3.37708 at first, ", "samples:\n", "training loss",
		"written to " + filepath.Join("runs", "names-1") + ": ", "\nstate_sha256   ", "\nweights_sha256 "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q does not stand in\n%s", want, out)
		}
	}
	for _, f := range []string{"run.json", "metrics.jsonl", "report.html", "loss.svg", "checkpoint-000000003.safetensors"} {
		if _, err := os.Stat(filepath.Join("runs", "names-1", f)); err != nil {
			t.Error(err)
		}
	}
	quiet := good(t, "run", "names", "--steps", "3", "-q", "--out", "none")
	if strings.Contains(quiet, "step 3/3") || !strings.Contains(quiet, "weights_sha256") {
		t.Errorf("-q prints\n%s", quiet)
	}
	if out := good(t, "run", "digits", "--set", "data.rows=100", "--steps", "4", "--out", "none"); !strings.Contains(out, "accuracy ") || !strings.Contains(out, ", validation ") {
		t.Errorf("no accuracy in\n%s", out)
	}
	if out := good(t, "run", "qkv", "--out", "none"); !strings.Contains(out, "at 2.1.1/1.1.1/1.1.1: 42\n") {
		t.Errorf("no product in\n%s", out)
	}
	if _, err := os.Stat(filepath.Join("runs", "names-2")); err == nil {
		t.Error("--out none wrote a run directory")
	}
}

func TestTheSameBitsWithAllFlagsOfPlacement(t *testing.T) {
	was := kernel.ISA()
	defer func() {
		if err := kernel.SetISA(was); err != nil {
			t.Error(err)
		}
	}()
	run := append([]string{"run", "--out", "none"}, small...)
	want := last1(events(t, run...))["weights_sha256"]
	for _, flags := range [][]string{{"--lanes", "d=2,s=1"}, {"--lanes", "d=auto,s=2"}, {"--lanes", "s=1"}, {"--look-ahead", "0"}, {"--look-ahead", "3", "--lanes", "d=2,s=2"},
		{"--isa", "generic"}, {"--every", "5"}, {"--set", "seed=3"}} {
		if got := last1(events(t, append(run, flags...)...))["weights_sha256"]; got != want {
			t.Errorf("%v: weights %v, want %v", flags, got, want)
		}
	}
	if got := last1(events(t, append(run, "--set", "seed=4")...))["weights_sha256"]; got == want {
		t.Error("another seed gives the same weights")
	}
}

func last1(all []map[string]any) map[string]any { return all[len(all)-1] }

// fewer shortens the presets whose data is large.
func fewer(preset string) []string {
	rows := map[string]string{"digits": "100", "attention": "16", "linear": "64", "clicks": "1000"}[preset]
	if rows == "" {
		return nil
	}
	return []string{"--set", "data.rows=" + rows}
}

func TestLintAndPlanOfEveryPreset(t *testing.T) {
	presettest.Short(t)
	for _, name := range pipelines.PresetNames() {
		set := fewer(name)
		m := last1(events(t, append([]string{"lint", name}, set...)...))
		if keys(m) != "event file flops_per_step lanes ok params steps" || m["ok"] != true || m["file"] != name {
			t.Errorf("lint %s: %v", name, m)
		}
		all := events(t, append([]string{"plan", name}, set...)...)
		kinds := map[string]string{"stage": "event flops in kind lane name out pipe room", "weight": "event home name shape writer", "plan": "event file flops_per_step lanes ok params steps"}
		for _, m := range all {
			if kinds[m["event"].(string)] != keys(m) {
				t.Errorf("plan %s: %v", name, m)
			}
		}
		if p := last1(all); p["params"] != m["params"] || p["steps"] != m["steps"] {
			t.Errorf("%s: lint says %v, plan %v", name, m, p)
		}
	}
	if out := good(t, "lint", "weight", "qkv"); strings.Count(out, ": ok, ") != 2 || !strings.HasPrefix(out, "weight: ok, 1 weights, 100 steps, ") {
		t.Errorf("lint prints\n%s", out)
	}
	out := good(t, "plan", "weight")
	for _, want := range []string{"dense.backward", "d dense.weight", "1.1.1/1.1.1/1.1.1", "an epoch is 1 steps", "x(1,1), y(1,1)"} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan lacks %q\n%s", want, out)
		}
	}
}

func TestLintNamesTheFindingsOfAllFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, map[string]string{"b.yaml": "stages:\n  - batchs: {}\nrun: {stps: 1}\n", "a.yaml": "seed: x\nstages: [relu]\n", "ok.yaml": preset(t, "weight")})
	code, out, errOut := call("lint", "b.yaml", "ok.yaml", "a.yaml", "none.yaml")
	want := `vtpu: a.yaml:1:7: seed: want a whole number from 0 to 18446744073709551615, got the text "x"
vtpu: b.yaml:2:5: unknown stage batchs (did you mean batches?)
vtpu: b.yaml:3:7: unknown key stps (did you mean steps?)
vtpu: none.yaml: no such file, and no preset of that name (known: ` + strings.Join(pipelines.PresetNames(), ", ") + `)
`
	if code != stages.ExitUser || errOut != want || !strings.HasPrefix(out, "ok.yaml: ok, ") {
		t.Errorf("exit code %d, stdout %s, stderr\n%s\nwant\n%s", code, out, errOut, want)
	}
	code, out, errOut = call("lint", "--json", "b.yaml", "ok.yaml")
	all := decoded(t, out)
	if code != stages.ExitUser || errOut != "" || len(all) != 3 || all[0]["event"] != "lint" || keys(all[1]) != "code col event file fix line msg" || all[1]["col"] != 5.0 || all[1]["code"] != 2.0 {
		t.Errorf("exit code %d, stderr %s, lines %v", code, errOut, all)
	}
}

func preset(t *testing.T, name string) string {
	t.Helper()
	b, ok := pipelines.Preset(name)
	if !ok {
		t.Fatalf("no preset %s", name)
	}
	return string(b)
}

func TestListShowsEverythingInEveryFormat(t *testing.T) {
	var names []string
	for _, d := range stages.Registered() {
		if !strings.HasSuffix(d.Name, "_backward") {
			names = append(names, d.Name)
		}
	}
	for _, d := range stages.RegisteredSources() {
		names = append(names, d.Name)
	}
	names = append(names, pipelines.PresetNames()...)

	var text []string
	for line := range strings.Lines(good(t, "list")) {
		text = append(text, strings.Fields(line)[0])
	}
	var js []string
	for _, m := range events(t, "list") {
		js = append(js, m["name"].(string))
		if m["summary"] == "" {
			t.Errorf("%v has no summary", m["name"])
		}
	}
	if a, b := good(t, "list", "--json"), good(t, "list", "--format", "json"); a != b {
		t.Error("--json and --format json differ")
	}
	md := good(t, "list", "--format", "md")
	var heads []string
	for line := range strings.Lines(md) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			heads = append(heads, strings.TrimSpace(name))
		}
		if strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 5 {
			t.Errorf("a row of the table has not four cells: %s", line)
		}
	}
	for what, got := range map[string][]string{"text": text, "json": js, "md": heads} {
		if !slices.Equal(got, names) {
			t.Errorf("list as %s has %v\nwant %v", what, got, names)
		}
	}
	one := good(t, "list", "adamw")
	for _, want := range []string{"adamw", "update", "lr", "(default ", "example"} {
		if !strings.Contains(one, want) {
			t.Errorf("list adamw lacks %q\n%s", want, one)
		}
	}
	if got := events(t, "list", "attention"); len(got) != 2 || got[0]["event"] != "stage" || got[1]["event"] != "preset" {
		t.Errorf("list attention: %v", got)
	}
}

// An example that does not read is worse than none.
func TestExamplesOfStagesAndSourcesAreValid(t *testing.T) {
	for _, l := range catalogue() {
		if l.Event == "preset" || strings.Contains(l.Summary, "put in by itself") {
			continue
		}
		if l.Example == "" {
			t.Errorf("%s has no example", l.Name)
			continue
		}
		n, fs := strict.Parse(l.Name, []byte(l.Example), os.LookupEnv)
		if fs != nil {
			t.Errorf("%s: %v", l.Name, fs)
			continue
		}
		if l.Event == "stage" {
			switch v := n.Get(l.Name); {
			case n.IsScalar() && n.Text() == l.Name:
			case v == nil:
				t.Errorf("the example of %s does not name it: %s", l.Name, l.Example)
			default:
				if fs := strict.Decode(v.Without(stages.GenericKeys()...), stages.Find(l.Name).NewConfig()); fs != nil {
					t.Errorf("%s: %v", l.Name, fs)
				}
			}
		} else if d := n.Get("data"); d == nil || d.Get("source") == nil || d.Get("source").Text() != l.Name {
			t.Errorf("the example of %s is not a data section with that source: %s", l.Name, l.Example)
		} else if fs := strict.Decode(d.Without("source", "split"), stages.FindSource(l.Name).NewConfig()); fs != nil {
			t.Errorf("%s: %v", l.Name, fs)
		}
	}
}

func TestTheSchemaKnowsEveryStageAndKey(t *testing.T) {
	var s struct {
		Schema     string         `json:"$schema"`
		Properties map[string]any `json:"properties"`
		Defs       struct {
			Stages struct {
				Items struct {
					AnyOf []struct {
						Properties map[string]struct {
							Properties map[string]any `json:"properties"`
						} `json:"properties"`
					} `json:"anyOf"`
				} `json:"items"`
			} `json:"stages"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(good(t, "schema")), &s); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(slices.Sorted(maps.Keys(s.Properties)), " "); got != "data links name parts place run sample seed stages" || !strings.Contains(s.Schema, "2020-12") {
		t.Errorf("%s has the keys %s", s.Schema, got)
	}
	kinds := s.Defs.Stages.Items.AnyOf[len(s.Defs.Stages.Items.AnyOf)-1].Properties
	for _, l := range catalogue() {
		if l.Event != "stage" {
			continue
		}
		for _, k := range l.Keys {
			if kinds[l.Name].Properties[k.Name] == nil {
				t.Errorf("the schema lacks %s.%s", l.Name, k.Name)
			}
		}
		if kinds[l.Name].Properties["init"] == nil {
			t.Errorf("the schema lacks %s, or the keys that all stages have", l.Name)
		}
	}
}

func TestNewWritesAPipelineThatLintsAndRuns(t *testing.T) {
	presettest.Short(t)
	t.Chdir(t.TempDir())
	for _, name := range presets() {
		file := "my-" + name + ".yaml"
		if out := good(t, "new", file, "--from", name); !strings.Contains(out, "vtpu run "+file) {
			t.Errorf("new says %s", out)
		}
		good(t, append([]string{"lint", file}, fewer(name)...)...)
		if m := last1(events(t, append([]string{"run", file, "--steps", "2", "--out", "none"}, fewer(name)...)...)); m["event"] != "done" || m["steps"] != 2.0 {
			t.Errorf("%s: %v", file, m)
		}
	}
	if m := last1(events(t, "new", "a.yaml")); keys(m) != "event file" || m["file"] != "a.yaml" {
		t.Errorf("new --json says %v", m)
	}
	if b, err := os.ReadFile("a.yaml"); err != nil || string(b) != strings.Replace(preset(t, "linear"), "name: linear\n", "", 1) {
		t.Errorf("%v, %s", err, b)
	}
	if code, _, errOut := call("new", "a.yaml", "--from", "weight"); code != stages.ExitUser || errOut != "vtpu: a.yaml: exists already (choose another name, or --force)\n" {
		t.Errorf("%d %s", code, errOut)
	}
	good(t, "new", "a.yaml", "--from", "weight", "--force")
	if b, err := os.ReadFile("a.yaml"); err != nil || string(b) != strings.Replace(preset(t, "weight"), "name: weight\n", "", 1) {
		t.Errorf("%v, %s", err, b)
	}
}

func TestSampleAndEvalReadARun(t *testing.T) {
	t.Chdir(t.TempDir())
	done := last1(events(t, "run", "names", "--steps", "20", "--out", "a"))
	var texts []any
	for _, m := range events(t, "sample", "a") {
		if keys(m) != "event text" {
			t.Errorf("a sample is %v", m)
		}
		texts = append(texts, m["text"])
	}
	if fmt.Sprint(texts) != fmt.Sprint(done["samples"]) {
		t.Errorf("the run drew  %v\nsample drew %v", done["samples"], texts)
	}
	out := good(t, "sample", "a", "--count", "3", "--prompt", "ma", "--temperature", "0.7", "--top-k", "5", "--seed", "1")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "ma") {
		t.Errorf("samples\n%s", out)
	}
	if out != good(t, "sample", "a", "--count", "3", "--prompt", "ma", "--temperature", "0.7", "--top-k", "5", "--seed", "1") {
		t.Error("the same seed draws other texts")
	}
	if out := good(t, "sample", "a", "--count", "2", "--temperature", "0"); strings.Split(out, "\n")[0] != strings.Split(out, "\n")[1] {
		t.Errorf("temperature 0 is not the likeliest text: %s", out)
	}

	run := last1(events(t, append([]string{"run", "--out", "b"}, small...)...))
	ev := last1(events(t, "eval", "b"))
	if keys(ev) != "event hits loss seen step" || ev["loss"] != run["eval_loss"] || ev["step"] != 10.0 {
		t.Errorf("eval says %v, the run said %v", ev, run["eval_loss"])
	}
	if out := good(t, "eval", "b", "--batches", "1"); !strings.HasPrefix(out, "step 10  validation loss ") || !strings.Contains(out, "(1 batches)") {
		t.Errorf("eval prints %s", out)
	}
}

func TestDoctorFindsTheKernelsInAgreement(t *testing.T) {
	was := kernel.ISA()
	what := map[any]any{}
	for _, m := range events(t, "doctor") {
		if keys(m) != "event ok value what" || m["ok"] != true {
			t.Errorf("%v", m)
		}
		what[m["what"]] = m["value"]
	}
	if what["kernels"] != "all instruction sets give the same bits" || !strings.Contains(fmt.Sprint(what["instruction sets"]), "in use: "+was) || kernel.ISA() != was {
		t.Errorf("%v; now in use: %s", what, kernel.ISA())
	}
	if out := good(t, "doctor"); !strings.Contains(out, "CPUs ") || !strings.Contains(out, "pinning ") {
		t.Errorf("doctor prints\n%s", out)
	}
}

// Every command has an example, and each names commands and flags that there are.
func TestEveryHelpHasAnExampleThatIsValid(t *testing.T) {
	a := &app{out: &output{w: &bytes.Buffer{}}, err: &bytes.Buffer{}}
	for _, c := range a.root().Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if out := good(t, c.Name(), "--help"); !strings.Contains(out, "Examples:\n  vtpu "+c.Name()) || !strings.Contains(out, "--json") {
			t.Errorf("help of %s:\n%s", c.Name(), out)
		}
		for line := range strings.Lines(c.Example) {
			line, _, _ = strings.Cut(line, ">")
			words := strings.Fields(line)
			cmd, rest, err := a.root().Find(words[1:])
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err == nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
			if words[0] != "vtpu" || err != nil {
				t.Errorf("example %q: %v", line, err)
			}
		}
	}
	if out := good(t); out != good(t, "--help") || !strings.Contains(out, "Available Commands:") {
		t.Errorf("without arguments:\n%s", out)
	}
	if out := good(t, "help", "run"); out != good(t, "run", "--help") {
		t.Errorf("help run:\n%s", out)
	}
	if out := good(t, "--version"); !strings.HasPrefix(out, "vtpu version ") {
		t.Errorf("--version: %s", out)
	}
}

// full is a place without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputThatCannotBeWrittenIsAnError(t *testing.T) {
	for _, args := range [][]string{{"list"}, {"list", "--format", "md"}, {"schema"}, {"lint", "weight"}, {"plan", "weight"}, {"run", "weight", "--out", "none"}, {"run", "weight", "--out", "none", "--json"}, {"--help"}} {
		var e bytes.Buffer
		code := Main(args, full{}, &e)
		if code != stages.ExitEnv && args[0] != "--help" || strings.Count(e.String(), "\n") != 1 || !strings.Contains(e.String(), "write the output: no space left on device") {
			t.Errorf("%v: exit code %d, %s", args, code, e.String())
		}
	}
}

func TestAMistakeOfTheProgramIsToldWithoutAStack(t *testing.T) {
	stages.MustRegisterSource(stages.SourceSpec[struct{}]{Name: "test_panics", Summary: "Panics.", Example: "data: {source: test_panics}",
		Load: func(stages.LoadEnv, struct{}) (*stages.Dataset, error) { panic("oh") }})
	t.Chdir(t.TempDir())
	write(t, map[string]string{"p.yaml": "data: {source: test_panics}\nstages: [batches: {batch: 1}]\nrun: {steps: 1}\n"})
	code, _, errOut := call("run", "p.yaml")
	if code != stages.ExitInternal || errOut != "vtpu: a mistake in vtpu, please report it: oh\n" {
		t.Errorf("exit code %d, %s", code, errOut)
	}
}

// --tune says what it tried; bench says what the machine can do and what a work makes of it.
func TestTuneAndBench(t *testing.T) {
	t.Chdir(t.TempDir())
	out := good(t, "run", "clicks", "--tune", "--steps", "3", "--set", "data.rows=1000", "--out", "none")
	if !strings.Contains(out, "lanes d=1,s=0, look-ahead 0: ") || strings.Count(out, "  chosen\n") != 1 {
		t.Errorf("run --tune says\n%s", out)
	}
	all := events(t, "bench", "--works", "w7", "--rounds", "1", "--seconds", "0.01", "--lanes", "1")
	if len(all) != 2 || all[0]["event"] != "peak" || !(all[0]["gbytes_per_s"].(float64) > 0) || all[1]["event"] != "bench" || !(all[1]["gflops"].(float64) > 0) {
		t.Errorf("bench --json says %v", all)
	}
	for want, args := range map[string][]string{"did you mean w1": {"--works", "w0"}, "--rounds": {"--rounds", "0"}, "--seconds": {"--seconds", "-1"}, "--lanes 999": {"--lanes", "999"}} {
		if code, _, errOut := call(append([]string{"bench"}, args...)...); code != stages.ExitUser || !strings.Contains(errOut, want) {
			t.Errorf("bench %v: exit code %d, %s", args, code, errOut)
		}
	}
}

func TestUnreadDataIsTold(t *testing.T) {
	presettest.Short(t)
	t.Chdir(t.TempDir())
	pipe := "data: {source: csv, path: a.csv, target: [price]}\nstages: [batches: {batch: 2}, dense: {units: 1}, mse: {}, sgd: {lr: 0.1}]\nrun: {epochs: 1}\n"
	for name, text := range map[string]string{"a.csv": "area,town,price\n1,Ulm,2\n2,Bonn,3\n", "a.yaml": pipe} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []string{"lint", "plan"} {
		if out := good(t, c, "a.yaml"); !strings.HasSuffix(out, "\nno stage reads cats: nothing is learnt from it\n") {
			t.Errorf("%s says %s", c, out)
		}
	}
	for _, name := range presets() { // what a preset brings, it reads
		if out := good(t, append([]string{"lint", name}, fewer(name)...)...); strings.Contains(out, "no stage reads") {
			t.Error(out)
		}
	}
}
