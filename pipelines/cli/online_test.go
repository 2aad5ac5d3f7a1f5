package cli

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"vtpu/stages/reclog"
)

// TestAnOnlineSourceIsInterrupted stops a run with Ctrl-C while it waits for examples that would fill a step, and gives the rest of the input to the resumed run.
func TestAnOnlineSourceIsInterrupted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: no interrupts between processes on this system")
	}
	t.Chdir(t.TempDir())
	write(t, map[string]string{"online.yaml": strings.Replace(onlineText, "again: true", "again: false", 1)})
	all := examples(500)
	want, _ := childRun(t, 0, all, "run", "online.yaml", "--json", "--out", "clean")
	weights, state := result(t, want)
	lines := bytes.SplitAfter(all, []byte("\n"))
	at := 0
	for i, n := range []int{100, 3, 130} { // 8 lines a step: the steps are not filled
		args := []string{"run", "online.yaml", "--json", "--out", "run"}
		if i > 0 {
			args = append(args, "--resume")
		}
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), childEnv+"=1")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(bytes.Join(lines[at:at+n], nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(700 * time.Millisecond) // it has read them and waits for more
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), `"event":"stopped"`) {
			t.Fatalf("interrupted: %v\n%s", err, out.String())
		}
		at += n
	}
	out, _ := childRun(t, 0, bytes.Join(lines[at:], nil), "run", "online.yaml", "--json", "--out", "run", "--resume")
	if a, b := result(t, out); a != weights || b != state {
		t.Errorf("interrupted and resumed: %s %s, want %s %s", a, b, weights, state)
	}
	good(t, "log", "verify", "run")
	// The journal is what a check of the gradients and a fork read.
	childRun(t, 0, all, "run", "online.yaml", "--json", "--out", "rec", "--record", "gradients")
	if d := events(t, "replay", "rec", "--verify-gradients", "4"); d[len(d)-1]["match"] != true || len(d[len(d)-1]["verified_steps"].([]any)) != 4 {
		t.Errorf("replay: %v", d[len(d)-1])
	}
	for _, c := range []struct {
		cut  func() error
		want string
	}{
		{func() error { return reclog.CutAt("cut/journal", 30, reclog.ReadOptions{}) }, "step 63, feed_batches: cut/journal: the journal ends with step 30"},
		{func() error { return os.RemoveAll("cut/journal") }, "step 1, feed_batches: cut/journal: the journal does not hold"},
	} {
		childRun(t, 0, all, "run", "online.yaml", "--json", "--out", "cut", "--record", "gradients")
		if err := c.cut(); err != nil {
			t.Fatal(err)
		}
		if code, out, e := call("replay", "cut", "--verify-gradients", "2"); code != 2 || !strings.Contains(e, c.want) {
			t.Errorf("want %q: exit code %d, %s%s", c.want, code, out, e)
		}
		if err := os.RemoveAll("cut"); err != nil {
			t.Fatal(err)
		}
	}
	out, _ = childRun(t, 0, []byte{}, "fork", "rec", "--at", "20", "--json", "--out", "fork")
	if a, b := result(t, out); a != weights || b != state {
		t.Errorf("the fork: %s %s, want %s %s", a, b, weights, state)
	}
}

func TestBadExamples(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, map[string]string{"online.yaml": onlineText})
	for text, want := range map[string]string{
		"{\"x\":[1,2,3],\"y\":1}\n{\"x\":[1,2],\"y\":1}\n": "standard input:2: x has 2 numbers, want 3", "{\"x\":[1,2,3],\"y\":2}\n": "want a whole number from 0 to 1",
		"{\"x\":[1,null,3],\"y\":1}\n": "x: null is no number", "{\"x\":[1,2,3],\"y\":null}\n": "y: null is no number",
		"\n" + strings.Repeat(" ", 2<<20): "standard input:2: the line has more than 1048576 bytes",
		"nonsense\n":                      "standard input:1: not an object", "{\"x\":[1,2,1e99],\"y\":1}\n": "is not a float32", "{\"x\":[1,2,3]}\n": "y is missing"} {
		cmd := exec.Command(os.Args[0], "run", "online.yaml", "--out", "none")
		cmd.Env = append(os.Environ(), childEnv+"=1")
		cmd.Stdin = strings.NewReader(text)
		out, _ := cmd.CombinedOutput() // the exit code says it
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), want) {
			t.Errorf("%q: exit code %d, %s", text, code, out)
		}
	}
	// The input that a resumed run begins again must be the one that it began with.
	childRun(t, 0, examples(40), "run", "online.yaml", "--out", "r", "--stop-after", "3", "-q")
	cmd := exec.Command(os.Args[0], "run", "online.yaml", "--out", "r", "--resume", "-q")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stdin = bytes.NewReader(examples(5))
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "has 5 examples, the journal 24") {
		t.Errorf("a shorter input: exit code %d, %s", cmd.ProcessState.ExitCode(), out)
	}
	for text, want := range map[string]string{
		"data: {source: stdin, features: 3}\nstages: [feed_batches: {}, dense: {units: 1}, mse: {}, sgd: {lr: 1}]\nrun: {steps: 1}\n":                               "outputs or classes",
		"data: {source: stdin, features: 3, outputs: 1}\nstages: [batches: {}, dense: {units: 1}, mse: {}, sgd: {lr: 1}]\nrun: {steps: 1}\n":                        "feed_batches",
		"data: {source: synthetic, task: linear, rows: 9}\nstages: [feed_batches: {}, dense: {units: 1}, mse: {}, sgd: {lr: 1}]\nrun: {steps: 1}\n":                 "online source",
		"parts: 9\ndata: {source: stdin, features: 3, outputs: 1}\nstages: [feed_batches: {batch: 4}, dense: {units: 1}, mse: {}, sgd: {lr: 1}]\nrun: {steps: 1}\n": "more parts"} {
		write(t, map[string]string{"bad.yaml": text})
		if code, _, e := call("lint", "bad.yaml"); code != 2 || !strings.Contains(e, want) {
			t.Errorf("%s: %d %s", text, code, e)
		}
	}
}
