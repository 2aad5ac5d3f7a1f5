package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vtpu/pipelines"
	"vtpu/pipelines/presettest"
	"vtpu/pipelines/rundir"
	"vtpu/stages/disk"
)

// expected is the last line that a preset's comment promises: the hash of the weights, which is the same on every machine.
var expected = regexp.MustCompile(`(?m)^# Expected last line: (weights_sha256 [0-9a-f]{64})$`)

var update = flag.Bool("update", false, "write the last lines that the presets print into their comments, and the hashes of names into the README")

// Every preset runs to its end and keeps what its comment says. A change that is meant to alter the bits writes the new line into the preset, and says so.
func TestEveryPresetEndsAsItSays(t *testing.T) {
	here := cwd(t)
	t.Chdir(t.TempDir())
	for _, name := range presets() {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name == "clicks" {
				t.Skip("SKIP: -short leaves out the longest preset")
			}
			if args := shortened[name]; args != nil {
				presettest.Short(t)
				good(t, append([]string{"run", name, "--out", name}, args...)...)
				keepsItsWord(t, name, "")
				return
			}
			text := preset(t, name)
			comment, _, _ := strings.Cut(text, "\nname:")
			want := expected.FindStringSubmatch(comment + "\n")
			if want == nil || !strings.HasPrefix(text, "# ") || !strings.Contains(comment, "# Expected end: ") && !strings.Contains(comment, " Expected end: ") {
				t.Fatalf("the preset opens with\n%s\nwant what it shows, the expected end and the expected last line", comment)
			}
			lines := strings.Split(strings.TrimSpace(good(t, "run", name, "--out", name)), "\n")
			switch got := lines[len(lines)-1]; {
			case *update:
				rewrite(t, filepath.Join(here, "..", name+".yaml"), want[1], got)
			case got != want[1]:
				t.Errorf("the last line is\n%s\nthe preset says\n%s\nif the bits were meant to change: go test ./pipelines/cli -run 'Preset|Readme' -args -update", got, want[1])
			}
			keepsItsWord(t, name, strings.Join(lines, "\n"))
		})
	}
}

// shortened are the presets that take minutes or need files that a test has not: a narrow model runs a few steps, and its end is not pinned.
var shortened = map[string][]string{"gpt2-124m": {"--steps", "30"}, "mnist": {"--set", "run.epochs=20"}, "shakespeare": {"--steps", "60", "--set", "sample.tokens=20"}}

func cwd(t *testing.T) string {
	t.Helper()
	d, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func rewrite(t *testing.T, file, old, now string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(b, []byte(old), []byte(now)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keepsItsWord checks what the comments say in words.
func keepsItsWord(t *testing.T, name, out string) {
	t.Helper()
	ms, err := rundir.ReadMetrics(disk.OS{}, name)
	if err != nil {
		t.Fatal(err)
	}
	var losses []float64
	var eval rundir.Metric
	for _, m := range ms {
		if m.Event == "eval" {
			eval = m
		} else {
			losses = append(losses, m.Loss)
		}
	}
	first, last, mean := losses[0], losses[len(losses)-1], 0.0
	tail := losses[max(0, len(losses)-200):]
	for _, l := range tail {
		mean += l / float64(len(tail))
	}
	ok := map[string]func() bool{
		"attention":   func() bool { return last < first/8 },
		"clicks":      func() bool { return eval.AUC > 0.82 && eval.AUC < 0.848 },
		"gpt2-124m":   func() bool { return first > 5.4 && first < 5.7 && last < first-0.05 },
		"mnist":       func() bool { return first > 1.5 && last < first-0.05 && eval.Seen == 43 },
		"shakespeare": func() bool { return first > 3.8 && first < 4.2 && mean < first && last < first-0.3 },
		"digits":      func() bool { return float64(eval.Hits) > 0.95*float64(eval.Seen) && eval.Seen == 1600 },
		"linear":      func() bool { return first > 1 && last < 0.001 },
		"names":       func() bool { return mean > 2.2 && mean < 2.4 && strings.Contains(out, "samples:\n") },
		"qkv":         func() bool { return strings.Contains(out, "at 2.1.1/1.1.1/1.1.1: 42\n") },
		"weight":      func() bool { return last < 1e-9 },
	}[name]
	if ok == nil {
		t.Fatalf("%s is a new preset: say here what it promises", name)
	}
	if !ok() {
		t.Errorf("first loss %v, last %v, mean of the last 200 %v, %+v", first, last, mean, eval)
	}
}

// The screen in the README is one that the program prints. -update mends the hashes; the rest is to be copied by hand.
func TestTheReadmeShowsWhatTheProgramPrints(t *testing.T) {
	file := filepath.Join(cwd(t), "..", "..", "README.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	t.Chdir(t.TempDir())
	out := good(t, "run", "names")
	hash := regexp.MustCompile(`(?m)^ *(weights_sha256|state_sha256) +[0-9a-f]{64}$`)
	was := map[string]string{}
	for _, m := range hash.FindAllStringSubmatch(readme, -1) {
		was[m[1]] = strings.TrimSpace(m[0])
	}
	shown := 0
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		kind, _, _ := strings.Cut(line, " ")
		sample := strings.HasPrefix(line, "  ") && !strings.ContainsAny(line, "0123456789┤┼")
		if !sample && !slices.Contains([]string{"weights_sha256", "state_sha256", "loss", "names:"}, kind) {
			continue
		}
		shown++
		switch {
		case was[kind] != "" && *update:
			rewrite(t, file, was[kind], line)
		case !strings.Contains(readme, "    "+line+"\n"):
			t.Errorf("the README lacks the line %q", line)
		}
	}
	if shown < 14 || len(was) != 2 {
		t.Errorf("%d lines of the screen were looked for, %d hashes", shown, len(was))
	}
}

// presets are those that need no broker.
func presets() []string {
	return slices.DeleteFunc(pipelines.PresetNames(), func(name string) bool { return name == "online" })
}
