package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vtpu/stages/link/broker"
)

// childRun runs the command in a process of its own. With after above 0 it is killed then, if it still runs. in is its standard input, or nil.
func childRun(t *testing.T, after time.Duration, in []byte, args ...string) (out string, killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may have ended
		defer timer.Stop()
	}
	if err := cmd.Wait(); err != nil {
		if after > 0 && cmd.ProcessState.ExitCode() == -1 {
			return o.String(), true
		}
		t.Fatalf("vtpu %s: %v\n%s%s", strings.Join(args, " "), err, o.String(), e.String())
	}
	return o.String(), false
}

// result is the last line of run --json.
func result(t *testing.T, out string) (weights, state string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var d struct{ Event, Weights_sha256, State_sha256 string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &d); err != nil || d.Event != "done" {
		t.Fatalf("the last line is %q: %v", lines[len(lines)-1], err)
	}
	return d.Weights_sha256, d.State_sha256
}

// examples are lines for an online source.
func examples(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	var b bytes.Buffer
	for range n {
		x, y, z := r.NormFloat64(), r.NormFloat64(), r.NormFloat64()
		c := 0
		if x+y > 0 {
			c = 1
		}
		fmt.Fprintf(&b, "{\"x\":[%.3f,%.3f,%.3f],\"y\":%d}\n", x, y, z, c)
	}
	return b.Bytes()
}

const onlineText = "name: online\nparts: 2\ndata: {source: stdin, features: 3, classes: 2, again: true}\nstages:\n  - feed_batches: {batch: 8}\n  - dense: {units: 16, act: relu}\n" +
	"  - dense: {units: 2}\n  - softmax_xent: {}\n  - adam: {lr: 0.01}\nrun: {steps: 100000, checkpoint_every: 200}\n"

// TestKillsWhileRecording kills runs at random instants and resumes them: the weights at the end are those of a run that nobody disturbed, and so are those of a replay.
func TestKillsWhileRecording(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: -short leaves out runs in processes of their own")
	}
	want := 10
	if v, err := strconv.Atoi(os.Getenv("VTPU_KILLS")); err == nil && v > 0 {
		want = v
	}
	t.Chdir(t.TempDir())
	write(t, map[string]string{"online.yaml": onlineText})
	works := []struct {
		name string
		in   []byte
		args []string
	}{
		{"names", nil, []string{"names", "--steps", "4000", "--set", "run.checkpoint_every=300", "--record", "gradients"}},
		{"clicks", nil, []string{"clicks", "--steps", "250", "--set", "run.checkpoint_every=20", "--record", "gradients"}},
		{"online", examples(60000), []string{"online.yaml", "--record", "gradients"}},
		{"names by inputs", nil, []string{"names", "--steps", "4000", "--set", "run.checkpoint_every=300", "--record", "inputs"}},
	}
	type hashes struct{ weights, state string }
	clean := map[string]hashes{}
	took := map[string]time.Duration{}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	kills, runs := 0, 0
	for i := 0; kills < want; i++ {
		w := works[i%len(works)]
		if _, ok := clean[w.name]; !ok {
			begin := time.Now()
			out, _ := childRun(t, 0, w.in, append([]string{"run", "--json", "--out", "clean-" + strconv.Itoa(i)}, w.args...)...)
			took[w.name] = time.Since(begin)
			a, b := result(t, out)
			clean[w.name] = hashes{a, b}
		}
		dir := "run-" + strconv.Itoa(i)
		args := append([]string{"run", "--json", "--out", dir}, w.args...)
		var out string
		for life := 0; ; life++ {
			after := time.Duration(0)
			if life < 6 {
				after = 20*time.Millisecond + time.Duration(r.Int64N(int64(took[w.name])*2/3))
			}
			call := args
			if _, err := os.Stat(filepath.Join(dir, "run.json")); err == nil {
				call = append(append([]string{}, args...), "--resume")
			}
			var killed bool
			if out, killed = childRun(t, after, w.in, call...); !killed {
				break
			}
			kills++
		}
		runs++
		if a, b := result(t, out); a != clean[w.name].weights || b != clean[w.name].state {
			t.Fatalf("%s after kills: %s %s, want %v", w.name, a, b, clean[w.name])
		}
		good(t, "log", "verify", dir)
		d := events(t, "replay", dir)
		if last := d[len(d)-1]; last["match"] != true || last["weights_sha256"] != clean[w.name].weights || last["state_sha256"] != clean[w.name].state {
			t.Fatalf("%s: the replay ends with %v, want %v", w.name, last, clean[w.name])
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills in %d runs", kills, runs)
}

// TestLostTails: after a kill any part of a stream behind the newest checkpoint may be gone, as after a power loss, or even what is before it.
func TestLostTails(t *testing.T) {
	t.Chdir(t.TempDir())
	args := []string{"run", "names", "--steps", "60", "--set", "run.checkpoint_every=10", "--set", "run.keep=10", "--record", "gradients"}
	all := events(t, append(args, "--out", "clean")...)
	want := all[len(all)-1]["weights_sha256"]
	for i, size := range []int{0, 64, 1000, 100_000, 300_000, 400_000, 500_000} {
		dir := "cut-" + strconv.Itoa(i)
		good(t, append(args, "--out", dir, "--stop-after", "33")...)
		seg := filepath.Join(dir, "stream", "0000000000000000.rec")
		if err := os.Truncate(seg, int64(size)); err != nil {
			t.Fatal(err)
		}
		got := events(t, append(args, "--out", dir, "--resume")...)
		if last := got[len(got)-1]; last["weights_sha256"] != want {
			t.Errorf("cut to %d bytes: %v, want %v", size, last["weights_sha256"], want)
		}
		if d := events(t, "replay", dir); d[len(d)-1]["match"] != true {
			t.Errorf("cut to %d bytes: replay %v", size, d[len(d)-1])
		}
	}
}

// TestAFullDiskWhileRecording stops with exit code 3, and the run goes on exactly where there is room again.
func TestAFullDiskWhileRecording(t *testing.T) {
	sh, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("SKIP: no bash to limit the size of files with")
	}
	t.Chdir(t.TempDir())
	args := []string{"run", "names", "--steps", "300", "--set", "run.checkpoint_every=20", "--record", "gradients", "--json"}
	all := events(t, append(args, "--out", "clean")...)
	want := all[len(all)-1]["weights_sha256"]
	cmd := exec.Command(sh, append([]string{"-c", `ulimit -f 2000; exec "$0" "$@"`, os.Args[0]}, append(args, "--out", "full")...)...) // blocks of 1024 bytes
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 3 || strings.Count(string(out), "--resume") != 1 || strings.Count(string(out), "file too large") != 1 {
		t.Fatalf("exit code %d, %v\n%s", code, err, out)
	}
	got := events(t, append(args, "--out", "full", "--resume")...)
	if last := got[len(got)-1]; last["weights_sha256"] != want {
		t.Errorf("%v, want %v", last["weights_sha256"], want)
	}
	if d := events(t, "replay", "full"); d[len(d)-1]["match"] != true {
		t.Errorf("replay %v", d[len(d)-1])
	}
}

func TestForkDiffAndLog(t *testing.T) {
	t.Chdir(t.TempDir())
	run := func(dir string, more ...string) map[string]any {
		all := events(t, append([]string{"run", "names", "--steps", "30", "--record", "gradients", "--out", dir}, more...)...)
		return all[len(all)-1]
	}
	a := run("a")
	b := run("b", "--set", "stages.adam.lr=0.02")
	run("c")
	if d := events(t, "diff", "a", "c")[0]; d["same"] != true || d["steps"] != 30.0 {
		t.Errorf("diff of equals: %v", d)
	}
	code, out, _ := call("diff", "a", "b", "--json")
	if d := decoded(t, out)[0]; code != 2 || d["same"] != false || d["step"] != 2.0 || d["by"] != "gradients" || d["tensor"] == nil {
		t.Errorf("diff: %d %v", code, d)
	}
	// From any step, with nothing changed the fork ends like its parent; with the other rate from the start it ends like b.
	for at, from := range map[string]string{"1": "stream", "17": "stream", "30": ""} {
		if at == "30" {
			if code, _, e := call("fork", "a", "--at", at); code != 2 || !strings.Contains(e, "nothing is left") {
				t.Errorf("fork at the end: %d %s", code, e)
			}
			continue
		}
		all := events(t, "fork", "a", "--at", at, "--out", "f"+at)
		if last := all[len(all)-1]; last["weights_sha256"] != a["weights_sha256"] || last["state_sha256"] != a["state_sha256"] || all[0]["from"] != from {
			t.Errorf("fork at %s: %v, want %v", at, last, a)
		}
		if d := events(t, "replay", "f"+at); d[len(d)-1]["match"] != true {
			t.Errorf("replay of the fork at %s: %v", at, d[len(d)-1])
		}
	}
	all := events(t, "fork", "a", "--at", "0", "--set", "stages.adam.lr=0.02", "--out", "g")
	if last := all[len(all)-1]; last["weights_sha256"] != b["weights_sha256"] {
		t.Errorf("fork at 0 with the rate of b: %v, want %v", last, b)
	}
	for _, c := range [][]string{{"fork", "a"}, {"fork", "a", "--at", "31"}, {"fork", "none", "--at", "3"}, {"log", "cut", "a"}, {"log", "show", "a", "--step", "-1"}, {"replay", "none"},
		{"replay", "a", "--to-step", "31"}, {"replay", "a", "--from-checkpoint", "3"}, {"replay", "a", "--speed", "slow"}, {"log", "ls", "none"}, {"diff", "a", "none"},
		{"run", "names", "--record", "all"}, {"run", "names", "--record", "inputs", "--out", "none"}} {
		if code, _, e := call(c...); code != 2 || e == "" {
			t.Errorf("%v: exit code %d, %q", c, code, e)
		}
	}
	for _, c := range [][]string{{"sample", "a"}, {"export", "a", "a.npz"}, {"sample", "f17"}, {"export", "g", "g.safetensors"}} { // recording is no obstacle
		good(t, c...)
	}
	// Variables of the environment are those of the run, whatever they are by now.
	t.Setenv("NAMES_SEED", "5")
	pipe := strings.Replace(preset(t, "names"), "seed: 42", "seed: ${NAMES_SEED:1}", 1)
	if err := os.WriteFile("v.yaml", []byte(pipe), 0o644); err != nil || !strings.Contains(pipe, "NAMES_SEED") {
		t.Fatal(err, pipe)
	}
	good(t, "run", "v.yaml", "--steps", "9", "--record", "gradients", "--out", "v")
	t.Setenv("NAMES_SEED", "6")
	if d := events(t, "replay", "v", "--verify-gradients", "3"); d[len(d)-1]["match"] != true {
		t.Errorf("replay with another environment: %v", d[len(d)-1])
	}
	good(t, "fork", "v", "--at", "4", "--out", "v4")
	good(t, "export", "v4", "v4.npz")
	if l := events(t, "log", "ls", "a")[0]; l["first"] != 1.0 || l["last"] != 30.0 || l["ended"] != true || l["weights_sha256"] != a["weights_sha256"] {
		t.Errorf("log ls: %v", l)
	}
	if l := events(t, "log", "show", "a", "--step", "7", "--to", "9", "--values", "2"); len(l) != 3 || l[0]["step"] != 7.0 || l[2]["kind"] != "gradients" {
		t.Errorf("log show: %v", l)
	}
	if out := good(t, "log", "export", "a", "x.npz", "--step", "7"); !strings.Contains(out, "1 frames") {
		t.Error(out)
	}
	// One byte in the middle.
	seg := filepath.Join("c", "stream", "0000000000000000.rec")
	text, err := os.ReadFile(seg)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 4
	if err := os.WriteFile(seg, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, e := call("log", "verify", "c"); code != 2 || !strings.Contains(e, "damaged at offset") {
		t.Errorf("verify: %d %s", code, e)
	}
	if code, _, e := call("replay", "c"); code != 2 || !strings.Contains(e, "damaged at offset") {
		t.Errorf("replay: %d %s", code, e)
	}
	good(t, "log", "cut", "c", "--repair")
	if code, _, e := call("log", "verify", "c"); code != 2 || !strings.Contains(e, "frames are missing") {
		t.Errorf("verify after repair: %d %s", code, e)
	}
	if d := events(t, "replay", "c"); d[len(d)-1]["steps"].(float64) >= 30 {
		t.Errorf("replay after repair: %v", d[len(d)-1])
	}
	// A run whose pipeline has changed goes on only where that is asked for.
	good(t, "run", "names", "--steps", "20", "--stop-after", "10", "--out", "h")
	if code, _, _ := call("run", "names", "--steps", "20", "--set", "stages.adam.lr=0.02", "--out", "h", "--resume"); code != 2 {
		t.Errorf("a changed pipeline goes on: %d", code)
	}
	good(t, "run", "names", "--steps", "20", "--set", "stages.adam.lr=0.02", "--out", "h", "--resume", "--allow-changed")
	good(t, "sample", "h", "--count", "1")
	if code, _, e := call("run", "names", "--steps", "5", "--out", "h", "--resume", "--allow-changed"); code != 2 || !strings.Contains(e, "has done 20 steps") {
		t.Errorf("fewer steps than are done: %d %s", code, e)
	}
}

// TestForkRecords: a run that has recorded nothing is forked, and resumed, with --record.
func TestForkRecords(t *testing.T) {
	t.Chdir(t.TempDir())
	last := func(args ...string) map[string]any {
		all := events(t, args...)
		return all[len(all)-1]
	}
	want := last("run", "names", "--steps", "20", "--set", "run.checkpoint_every=10", "--out", "a")["weights_sha256"]
	for _, what := range []string{"gradients", "inputs"} {
		if d := last("fork", "a", "--at", "10", "--record", what, "--out", what); d["weights_sha256"] != want || d["first_loss"] == 0.0 {
			t.Errorf("fork that records %s: %v, want %v", what, d, want)
		}
		if d := last("replay", what); d["match"] != true || d["from"] != 10.0 {
			t.Errorf("replay of %s: %v", what, d)
		}
	}
	good(t, "fork", "a", "--at", "10", "--record", "gradients", "--no-run", "--out", "later")
	if d := last("run", "names", "--steps", "20", "--set", "run.checkpoint_every=10", "--resume", "--out", "later"); d["weights_sha256"] != want {
		t.Errorf("a fork that was made first and run later: %v, want %v", d, want)
	}
	if d := last("replay", "later"); d["match"] != true {
		t.Errorf("it recorded nothing: %v", d)
	}
	good(t, "run", "names", "--steps", "20", "--stop-after", "10", "--out", "b")
	if d := last("run", "names", "--steps", "20", "--resume", "--record", "gradients", "--out", "b"); d["weights_sha256"] != want {
		t.Errorf("resumed with --record: %v, want %v", d, want)
	}
	for _, c := range [][]string{{"--record", "all"}, {"--lanes", "d=x"}, {"--isa", "none"}} {
		if code, _, e := call(append([]string{"fork", "a", "--at", "10", "--out", "bad"}, c...)...); code != 2 || e == "" {
			t.Errorf("%v: exit code %d, %q", c, code, e)
		}
		if _, err := os.Stat("bad"); err == nil {
			t.Errorf("%v left a directory", c)
		}
	}
}

// TestRecordingOnAndOff: what is recorded may change in mid-run. The run directory remembers it, the stream has no gaps and holds one kind of frames.
func TestRecordingOnAndOff(t *testing.T) {
	t.Chdir(t.TempDir())
	base := []string{"run", "names", "--steps", "40", "--set", "run.checkpoint_every=10", "--set", "run.keep=1"}
	with := func(more ...string) []string { return append(append([]string{}, base...), more...) }
	last := func(args ...string) map[string]any {
		all := events(t, args...)
		return all[len(all)-1]
	}
	want := last(with("--out", "clean")...)["weights_sha256"]
	// On in mid-run: the stream begins with the checkpoint, which stays, and a resume without the flag goes on with it.
	good(t, with("--out", "on", "--stop-after", "10")...)
	if out := good(t, with("--out", "on", "--resume", "--record", "gradients", "--stop-after", "20")...); !strings.Contains(out, "recording begins with step 11") {
		t.Error(out)
	}
	good(t, with("--out", "on", "--resume", "--stop-after", "33")...)
	if d := last(with("--out", "on", "--resume")...); d["weights_sha256"] != want {
		t.Errorf("%v, want %v", d, want)
	}
	for _, args := range [][]string{{"replay", "on"}, {"replay", "on", "--from-checkpoint", "10"}} {
		if d := last(args...); d["match"] != true || d["from"] != 10.0 || d["steps"] != 40.0 {
			t.Errorf("%v: %v", args, d)
		}
	}
	// Off: what there is stays and can be replayed. On again: refused, as there would be a gap; what was asked for is not kept.
	good(t, with("--out", "off", "--record", "gradients", "--stop-after", "10")...)
	if out := good(t, with("--out", "off", "--resume", "--record", "none", "--stop-after", "20")...); !strings.Contains(out, "the stream keeps the gradients of the steps 1 to 10") {
		t.Error(out)
	}
	good(t, with("--out", "off", "--resume", "--stop-after", "30")...)
	if d := last("replay", "off"); d["steps"] != 10.0 {
		t.Errorf("%v", d)
	}
	if code, _, e := call(with("--out", "off", "--resume", "--record", "gradients")...); code != 2 || !strings.Contains(e, "a stream has no gaps") || !strings.Contains(e, "vtpu fork off --at 30") {
		t.Errorf("a gap: %d %s", code, e)
	}
	if d := last(with("--out", "off", "--resume")...); d["weights_sha256"] != want {
		t.Errorf("%v, want %v", d, want)
	}
	// Another kind does not follow.
	good(t, with("--out", "kind", "--record", "gradients", "--stop-after", "10")...)
	if code, _, e := call(with("--out", "kind", "--resume", "--record", "inputs")...); code != 2 || !strings.Contains(e, "inputs can't follow") {
		t.Errorf("another kind: %d %s", code, e)
	}
	if code, _, e := call(with("--out", "kind", "--resume", "--record", "none", "--allow-changed", "--set", "stages.adam.lr=0.02")...); code != 2 || !strings.Contains(e, "a replay would apply them") {
		t.Errorf("a changed pipeline beside a stream: %d %s", code, e)
	}
	// A run that was stopped before its first checkpoint has a pipeline too.
	good(t, "run", "names", "--steps", "9", "--out", "young", "--record", "gradients")
	if err := os.Remove("young/checkpoint-000000009.safetensors"); err != nil {
		t.Fatal(err)
	}
	if code, _, e := call("run", "names", "--steps", "9", "--out", "young", "--resume", "--set", "stages.adam.lr=0.02"); code != 2 || !strings.Contains(e, "another pipeline") {
		t.Errorf("a changed pipeline without a checkpoint: %d %s", code, e)
	}
	good(t, "run", "names", "--steps", "9", "--out", "young", "--resume", "--set", "stages.adam.lr=0.02", "--allow-changed")
	if d := last("replay", "young"); d["match"] != true {
		t.Errorf("%v", d)
	}
	// Frames that are gone are done again, and that is said; checkpoints that are ahead stay and are no obstacle.
	good(t, with("--out", "gone", "--set", "run.keep=9", "--record", "gradients", "--stop-after", "30")...)
	good(t, "log", "cut", "gone", "--at", "15")
	if out := good(t, with("--out", "gone", "--set", "run.keep=9", "--resume", "--stop-after", "18")...); !strings.Contains(out, "ends with step 14") || !strings.Contains(out, "from the checkpoint of step 10") {
		t.Error(out)
	}
	if d := last(with("--out", "gone", "--set", "run.keep=9", "--resume")...); d["weights_sha256"] != want {
		t.Errorf("%v, want %v", d, want)
	}
	if d := last("replay", "gone"); d["match"] != true || d["steps"] != 40.0 {
		t.Errorf("%v", d)
	}
}

// TestForkWithWorkers forks a run whose parts were computed by workers, from a checkpoint and from the stream, by workers again: it ends as the same fork in one process.
func TestForkWithWorkers(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, map[string]string{"two.yaml": "name: two\nseed: 3\nparts: 2\ndata: {source: synthetic, task: clusters, rows: 200, features: 4, classes: 3, split: 0.8}\nstages:\n" +
		"  - batches: {batch: 16}\n  - dense: {units: 8, act: relu}\n  - dense: {units: 3}\n  - softmax_xent: {}\n  - clip_norm: {max_norm: 1}\n  - adam: {lr: 0.01}\n" +
		"run: {steps: 40, checkpoint_every: 20}\n"})
	embed := WithBroker(func(o BrokerOptions) (Broker, error) { return broker.Start(broker.Options(o)) })
	last := func(args ...string) map[string]any {
		t.Helper()
		var out, e bytes.Buffer // workers say on stderr that they joined
		if code := Main(append(args, "--json"), &out, &e, embed); code != 0 {
			t.Fatalf("vtpu %s: exit code %d, %s", strings.Join(args, " "), code, e.String())
		}
		all := decoded(t, out.String())
		return all[len(all)-1]
	}
	over := []string{"--nats", "embedded", "--workers", "2"}
	a := last(append([]string{"run", "two.yaml", "--record", "gradients", "--out", "a"}, over...)...)
	for i, at := range []string{"20", "33"} {
		one, two := "one"+at, "two"+at
		same := last(append([]string{"fork", "a", "--at", at, "--out", "same" + at}, over...)...)
		if same["weights_sha256"] != a["weights_sha256"] || same["state_sha256"] != a["state_sha256"] {
			t.Errorf("fork at %s: %v, want %v", at, same, a)
		}
		x := last("fork", "a", "--at", at, "--set", "stages.adam.lr=0.02", "--out", one)
		y := last(append([]string{"fork", "a", "--at", at, "--set", "stages.adam.lr=0.02", "--out", two}, over...)...)
		if x["weights_sha256"] != y["weights_sha256"] || x["state_sha256"] != y["state_sha256"] || x["weights_sha256"] == a["weights_sha256"] {
			t.Errorf("fork %d at %s with another rate: %v with workers, %v without", i, at, y, x)
		}
		if d := events(t, "replay", two); d[len(d)-1]["match"] != true {
			t.Errorf("replay of the fork at %s: %v", at, d[len(d)-1])
		}
	}
	// What can't begin leaves nothing behind.
	for _, bad := range [][]string{{"--workers", "2"}, {"--nats", "nats://127.0.0.1:1"}} {
		if code, _, _ := call(append([]string{"fork", "a", "--at", "20", "--out", "bad"}, bad...)...); code < 2 {
			t.Errorf("%v: exit code %d", bad, code)
		}
		if _, err := os.Stat("bad"); !os.IsNotExist(err) {
			t.Errorf("%v: a directory is left (%v)", bad, err)
		}
	}
}
