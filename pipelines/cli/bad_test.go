package cli

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/tensorfile"
)

const sevenRows = "age,y\n1,1\n2,1\n3,1\n4,1\n5,1\n6,1\n%s,1\n8,1\n"

const table = "data: {source: csv, path: %s, target: [y]}\nstages:\n  - batches: {batch: 2}\n  - dense: {units: 1}\n  - mse: {}\n  - sgd: {lr: 0.1}\nrun: {steps: 4}\n"

// Each bad input is one clear error that names its place; nothing that was there before changes.
func TestBadInput(t *testing.T) {
	t.Chdir(t.TempDir())
	good(t, "run", "names", "--steps", "20", "--out", "old", "-q")
	good(t, "run", "weight", "--steps", "20", "--set", "run.checkpoint_every=10", "--out", "cut", "-q")
	for _, step := range []int64{10, 20} {
		if err := os.Truncate(filepath.Join("cut", rundir.CheckpointName(step)), 600); err != nil {
			t.Fatal(err)
		}
	}
	good(t, "run", "weight", "--steps", "20", "--out", "flipped", "-q")
	flip(t, filepath.Join("flipped", rundir.CheckpointName(20)))
	good(t, "run", "weight", "--steps", "20", "--out", "unread", "-q")
	if err := os.Remove(filepath.Join("unread", rundir.CheckpointName(20))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join("unread", rundir.CheckpointName(20)), 0o700); err != nil { // root may read everything, but not a directory
		t.Fatal(err)
	}
	good(t, "export", "old", "whole.safetensors")
	whole, err := os.ReadFile("whole.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var nan bytes.Buffer
	x := tensor.FromF32(tensor.Of(2, 1), []float32{1, float32(math.NaN())})
	if err := tensorfile.WriteNpy(&nan, &x); err != nil {
		t.Fatal(err)
	}
	text := func(what string) string { return fmt.Sprintf(table, what) }
	write(t, map[string]string{
		"cell.csv": fmt.Sprintf(sevenRows, "abc"), "nan.csv": fmt.Sprintf(sevenRows, "NaN"), "good.csv": fmt.Sprintf(sevenRows, "7"),
		"cell.yaml": text("cell.csv"), "nan.yaml": text("nan.csv"), "good.yaml": text("good.csv"), "missing.yaml": text("none.csv"),
		"key.yaml": strings.Replace(text("good.csv"), "units: 1", "units: 1, bais: false", 1), "type.yaml": strings.Replace(text("good.csv"), "batch: 2", "batch: two", 1),
		"shape.yaml":  strings.Replace(text("good.csv"), "units: 1", "units: 3", 1),
		"text.yaml":   "data: {source: text, path: text.txt, alphabet: \"ab\\n\"}\nstages:\n  - token_batches: {batch: 1, block: 2}\n  - embed: {dim: 2}\n  - dense: {units: vocab}\n  - softmax_xent: {}\n  - sgd: {lr: 1}\nrun: {steps: 1}\n",
		"text.txt":    "abab\nabcab\n",
		"npy.yaml":    "data: {source: npy, x: nan.npy, y: nan.npy}\nstages:\n  - batches: {batch: 2}\n  - dense: {units: 1}\n  - mse: {}\n  - sgd: {lr: 0.1}\nrun: {steps: 4}\n",
		"nan.npy":     nan.String(),
		"cut.npy":     nan.String()[:nan.Len()-1],
		"idx.yaml":    "data: {source: idx, images: images, labels: images}\nstages:\n  - batches: {batch: 2}\n  - dense: {units: classes}\n  - softmax_xent: {}\n  - sgd: {lr: 0.1}\nrun: {steps: 4}\n",
		"images":      "\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x02abc",
		"a.phext":     "dense.weight float32 (1,1)\nx\n",
		"jsonl.yaml":  "data: {source: jsonl, path: a.jsonl, target: [y]}\nstages:\n  - batches: {batch: 2}\n  - dense: {units: 1}\n  - mse: {}\n  - sgd: {lr: 0.1}\nrun: {steps: 4}\n",
		"a.jsonl":     "{\"x\":1,\"y\":2}\n{\"x\":\n",
		"short.phext": "other.weight float32 (1,1)\n1\n",

		"truncated.safetensors": string(whole[:len(whole)-5]),
		"claims.safetensors":    string(binary.LittleEndian.AppendUint64(nil, 1<<62)) + string(whole[8:]),
	})
	before := hashes(t, ".")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"an unknown key", []string{"run", "key.yaml"}, "key.yaml:4:23: dense: unknown key bais (did you mean bias?)"},
		{"a wrong type", []string{"run", "type.yaml"}, `type.yaml:3:22: batches: batch: want a whole number, got the text "two"`},
		{"a missing file", []string{"run", "missing.yaml"}, "none.csv: no such file"},
		{"a missing pipeline", []string{"run", "none.yaml"}, "none.yaml: no such file, and no preset of that name (known: "},
		{"a bad cell in row 7", []string{"run", "cell.yaml"}, `cell.csv:8: row 7, column "age": "abc" is not a number (mend the cell, or list the column under categorical)`},
		{"a character outside the vocabulary", []string{"run", "text.yaml"}, `text.txt:2:3: character 'c' is not in the alphabet (add it to data.alphabet, or leave the alphabet out)`},
		{"a prompt outside the vocabulary", []string{"sample", "old", "--prompt", "é"}, `character "é" (byte 1) is not in the vocabulary`},
		{"shapes that do not fit", []string{"run", "shape.yaml"}, "shape.yaml:5:5: mse: the prediction has shape (2,3), the target (2,1)"},
		{"more parts than rows", []string{"run", "good.yaml", "--set", "parts=3"}, "good.yaml:3:5: batches: there are more parts than rows in a batch"}, // and not all stages that lack an input then
		{"a NaN in a table", []string{"run", "nan.yaml"}, `nan.csv:8: row 7, column "age": "NaN" is not a finite float32`},
		{"a NaN in an array", []string{"run", "npy.yaml"}, "nan.npy: row 2, value 1 is NaN"},
		{"a broken idx file", []string{"run", "idx.yaml"}, "images: shape [2 2 2] needs 8 bytes, there are 3 (truncated?)"},
		{"a broken line of jsonl", []string{"run", "jsonl.yaml"}, "a.jsonl:2:"},
		{"a loss that grows beyond all bounds", []string{"run", "good.yaml", "--set", "stages.sgd.lr=1e30", "--out", "none", "-q"}, "guard: the loss is +Inf (a smaller lr or clip_norm may help"},
		{"a truncated checkpoint", []string{"run", "weight", "--steps", "20", "--resume", "--out", "cut"},
			rundir.CheckpointName(20) + ": not a safetensors file, or truncated: the header claims 6"},
		{"a truncated checkpoint to export", []string{"export", "cut", "new.npz"}, "(move it away: the newest that is left is used then)"},
		{"another truncated checkpoint", []string{"export", "cut", "new.npz", "--step", "10"}, rundir.CheckpointName(10) + ": "},
		{"a flipped bit in a checkpoint", []string{"eval", "flipped"}, "damaged: the weights or the optimizer state have another SHA-256 than when they were written"},
		{"a fork of it", []string{"fork", "flipped", "--at", "20", "--steps", "30", "--out", "new"}, "damaged: the weights or the optimizer state have another SHA-256"},
		{"a changed run from it", []string{"run", "weight", "--steps", "30", "--resume", "--allow-changed", "--out", "flipped"}, "damaged: the weights or the optimizer state have another SHA-256"},
		{"a checkpoint that can't be read", []string{"run", "weight", "--steps", "20", "--resume", "--out", "unread"}, rundir.CheckpointName(20) + ": can't be read: not a file"},
		{"a checkpoint that is not there", []string{"sample", "old", "--step", "7"}, "old: there is no checkpoint of step 7 (there are [20])"},
		{"another pipeline", []string{"run", "names", "--set", "seed=9", "--steps", "20", "--resume", "--out", "old"}, "the checkpoint belongs to another pipeline, seed or data"},
		{"other steps", []string{"run", "names", "--resume", "--out", "old"}, "names: the run was begun for 20 steps, now there are 1000: schedules would not fit (resume with --steps 20)"},
		{"a directory in use by a run", []string{"run", "weight", "--out", "old"}, "old: holds a run already (continue it with --resume, or choose another directory with --out)"},
		{"a truncated safetensors file", []string{"import", "names", "truncated.safetensors", "--out", "new"}, "truncated.safetensors: tensor \""},
		{"a header that claims 2^62 bytes", []string{"import", "names", "claims.safetensors", "--out", "new"},
			"claims.safetensors: not a safetensors file, or truncated: the header claims 4611686018427387904 bytes, the file has "},
		{"a phext file with a bad number", []string{"import", "weight", "a.phext", "--out", "new"}, `a.phext: scroll 1.1.1/1.1.1/1.1.1: value 1 is "x", not a float32`},
		{"weights of another model", []string{"import", "weight", "short.phext", "--out", "new"}, "short.phext: tensor dense.weight is missing"},
		{"another kind of file", []string{"import", "weight", "text.txt", "--out", "new"}, "text.txt: unknown kind of file (want .safetensors, .npz, .npy or .phext)"},
		{"another kind of export", []string{"export", "old", "new.bin"}, "new.bin: unknown kind of file (want .safetensors, .npz or .phext)"},
		{"no argument", []string{"run"}, "vtpu run wants FILE, got nothing (vtpu run --help)"},
		{"an argument too many", []string{"export", "old", "a.npz", "b"}, "vtpu export wants RUN FILE, got old a.npz b (vtpu export --help)"},
		{"an argument where none is", []string{"doctor", "x"}, "vtpu doctor wants no argument, got x (vtpu doctor --help)"},
		{"a flag that there is not", []string{"run", "weight", "--stps", "3"}, "unknown flag: --stps (vtpu run --help)"},
		{"a flag with a bad value", []string{"run", "weight", "--steps", "x"}, `invalid argument "x" for "--steps" flag`},
		{"data over a broker without one", []string{"run", "online"}, "online: its data comes over a broker (add --nats nats://host:4222, or --nats embedded)"},
		{"workers for a fork that does not start", []string{"fork", "old", "--at", "20", "--steps", "30", "--no-run", "--workers", "2"}, "--no-run: nothing is started: there is no use for --nats and --workers"},
		{"a worker of an edge that is not moved", []string{"worker", "digits", "--nats", "nats://127.0.0.1:1", "--stages", "gather"}, "--stages gather: the file moves no edge: its workers do forward,loss,backward (links: {gather: nats} in the file, for the run too)"},
		{"no steps", []string{"run", "weight", "--steps", "0"}, "--steps 0: want at least 1 (leave it out for the default)"},
		{"a log of no step", []string{"run", "weight", "--every", "0"}, "--every 0: want at least 1"},
		{"lanes that are empty", []string{"run", "weight", "--lanes", ""}, "--lanes: nothing is given (leave it out for the default)"},
		{"lanes", []string{"run", "weight", "--lanes", "d=0"}, `--lanes d=0: "d=0" can't be read (d=2,s=1, or auto for either; at least one D lane)`},
		{"lanes given twice", []string{"run", "weight", "--lanes", "d=1,d=2"}, "--lanes d=1,d=2: d is given twice (one number of lanes for each, such as d=2,s=1)"},
		{"an instruction set", []string{"run", "weight", "--isa", "sse"}, `--isa: instruction set "sse" can't be used here; there are generic`},
		{"a command that there is not", []string{"rn"}, `there is no command "rn" (did you mean run?)`},
	} {
		for _, js := range []bool{false, true} {
			args := c.args
			if js {
				args = append(slices.Clone(args), "--json")
			}
			code, out, errOut := call(args...)
			told := errOut
			if js {
				last := strings.TrimSuffix(out, "\n")
				last = last[strings.LastIndexByte(last, '\n')+1:]
				m := last1(decoded(t, last))
				if m["event"] != "error" || m["code"] != 2.0 || errOut != "" {
					t.Errorf("%s, --json: %s%s", c.name, last, errOut)
				}
				told = finding(m)
			}
			if code != stages.ExitUser || !strings.Contains(told, c.want) || strings.Count(told, "\n") != 1 || strings.Contains(told, "goroutine") {
				t.Errorf("%s: exit code %d, %q\nwant %s", c.name, code, told, c.want)
			}
		}
	}
	after := hashes(t, ".")
	for f, h := range before {
		if after[f] != h {
			t.Errorf("%s has changed", f)
		}
	}
	for f := range after {
		if before[f] == "" {
			t.Errorf("%s was left", f)
		}
	}
}

// finding writes the object of an error as people see it.
func finding(m map[string]any) string {
	f := stages.Finding{Msg: m["msg"].(string)}
	f.File, _ = m["file"].(string)
	f.Fix, _ = m["fix"].(string)
	if n, ok := m["line"].(float64); ok {
		f.Line = int(n)
	}
	if n, ok := m["col"].(float64); ok {
		f.Col = int(n)
	}
	return f.String() + "\n"
}

// flip changes one bit of the last byte.
func flip(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// child is a process of the command.
func child(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), childEnv+"=1")
	return c
}

// lackOfRoom runs the command where a run's files don't fit, and wants one clear error, exit code 3 and all that was there before intact.
func lackOfRoom(t *testing.T, dir string, start func(args ...string) *exec.Cmd) {
	t.Helper()
	good(t, "run", "weight", "--steps", "20", "--out", filepath.Join(dir, "old"), "-q")
	if err := os.WriteFile(filepath.Join(dir, "w.npz"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "names")
	good(t, append([]string{"run", "--out", elsewhere, "-q"}, small...)...)
	before := hashes(t, dir)
	for _, args := range [][]string{append([]string{"run", "--out", filepath.Join(dir, "new"), "-q"}, small...), {"export", elsewhere, filepath.Join(dir, "w.npz"), "--state"},
		append([]string{"import", "--out", filepath.Join(dir, "imported"), "digits", "m.safetensors"}, small[1:3]...)} {
		if args[0] == "import" {
			args[4] = filepath.Join(filepath.Dir(elsewhere), "m.safetensors")
			good(t, "export", elsewhere, args[4])
		}
		for _, js := range []bool{false, true} {
			if js {
				args = append(args, "--json")
			}
			c := start(args...)
			var out, errOut bytes.Buffer
			c.Stdout, c.Stderr = &out, &errOut
			var ee *exec.ExitError
			if err := c.Run(); !errors.As(err, &ee) || ee.ExitCode() != stages.ExitEnv {
				t.Errorf("%v: %v, %s", args, err, errOut.String())
			}
			told := errOut.String()
			if js {
				told = finding(last1(decoded(t, out.String())))
			}
			if strings.Count(told, "\n") != 1 || !strings.Contains(told, "free some room on the disk; nothing that was there is lost") {
				t.Errorf("%v says %q", args, told)
			}
			for _, d := range []string{"new", "imported"} {
				if left, err := filepath.Glob(filepath.Join(dir, d, ".*.tmp-*")); err != nil || len(left) > 0 {
					t.Errorf("%v left %v (%v)", args, left, err)
				}
				if err := os.RemoveAll(filepath.Join(dir, d)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if after := hashes(t, dir); !maps.Equal(before, after) {
		t.Errorf("before %v\nafter %v", before, after)
	}
	good(t, "eval", elsewhere) // and what is elsewhere is whole
}

func TestALimitOnTheSizeOfFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP: no limit on the size of files on this system")
	}
	lackOfRoom(t, t.TempDir(), func(args ...string) *exec.Cmd {
		c := child()
		c.Path, c.Args = "/bin/sh", append([]string{"sh", "-c", `ulimit -f 20; exec "$0" "$@"`, os.Args[0]}, args...)
		return c
	})
}

func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIP: a small file system can't be mounted here (root may): %v %s", err, out)
	}
	defer func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	}()
	lackOfRoom(t, dir, child)
}

// A model that the machine has no memory for is refused before anything is made, by lint too.
func TestAModelTooLargeForTheMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIP: the limit of the address space is read on Linux only")
	}
	t.Chdir(t.TempDir())
	write(t, map[string]string{"big.yaml": "data: {source: synthetic, task: linear, rows: 64, features: 1024}\nparts: 2\nstages:\n  - batches: {batch: 4}\n" +
		"  - repeat: 3\n    stages:\n      - dense: {units: 2000000, act: relu}\n      - dense: {units: 1024}\n  - dense: {units: 1}\n  - mse: {}\n  - adam: {lr: 0.1}\nrun: {steps: 2}\n"})
	c := child("lint", "big.yaml")
	var errOut bytes.Buffer
	c.Path, c.Args, c.Stderr = "/bin/sh", []string{"sh", "-c", `ulimit -v 8000000; exec "$0" lint big.yaml`, os.Args[0]}, &errOut
	var ee *exec.ExitError
	if err := c.Run(); !errors.As(err, &ee) || ee.ExitCode() != stages.ExitEnv || strings.Count(errOut.String(), "\n") != 1 ||
		!strings.HasPrefix(errOut.String(), "vtpu: big.yaml:7:9: weight h0.dense.weight of 8192000000 bytes, after 0 of others: more memory than there is (this process can have 5.7 GiB") {
		t.Errorf("%v: %s", err, errOut.String())
	}
}

func TestOutputOnAFullDevice(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("SKIP: no /dev/full here")
	}
	defer f.Close()
	c := child("list")
	var errOut bytes.Buffer
	c.Stdout, c.Stderr = f, &errOut
	var ee *exec.ExitError
	if err := c.Run(); !errors.As(err, &ee) || ee.ExitCode() != stages.ExitEnv || !strings.Contains(errOut.String(), "no space left on device") {
		t.Errorf("%v, %s", err, errOut.String())
	}
}

// A run that is killed at random moments and resumed ends in the same weights, state and log as one that was let alone. VTPU_TEST_KILLS is the number of
// runs, 2 if unset; each is killed until it has got through.
func TestKilledAtRandomMoments(t *testing.T) {
	n := 2
	if s := os.Getenv("VTPU_TEST_KILLS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(t.TempDir())
	args := []string{"run", "digits", "--set", "data.rows=500", "--steps", "900", "--set", "run.checkpoint_every=7", "--set", "run.eval_every=50", "--json", "--every", "1", "--out"}
	out, err := child(append(args, "whole")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := last1(decoded(t, string(out)))
	log, err := os.ReadFile(filepath.Join("whole", rundir.MetricsFile))
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	placements := [][]string{{"--lanes", "d=1,s=0"}, {"--lanes", "d=2,s=1"}, {"--lanes", "d=1,s=1", "--look-ahead", "3"}}
	for i := range n {
		dir := "run" + strconv.Itoa(i)
		kills, resumes := 0, 0
		for try := 0; try < 20; try++ {
			a := append(append(slices.Clone(args), dir), placements[r.IntN(len(placements))]...)
			if _, err := os.Stat(filepath.Join(dir, rundir.RunFile)); err == nil {
				a = append(a, "--resume")
				resumes++
			}
			c := child(a...)
			var out, errOut bytes.Buffer
			c.Stderr = &errOut
			pipe, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(pipe)
			at := r.IntN(500) // lines after which it is killed
			for k := 0; lines.Scan(); k++ {
				if k == at && kills < 5 {
					time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
					_ = c.Process.Kill() // it may have ended by itself
				}
				fmt.Fprintln(&out, lines.Text())
			}
			err = c.Wait()
			if err != nil && c.ProcessState.Exited() {
				t.Fatalf("seed %d, try %d: %v %s", seed, try, err, errOut.String())
			}
			if err != nil {
				kills++
				continue
			}
			if kills == 0 { // it was quicker than the signal
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				continue
			}
			got := last1(decoded(t, out.String()))
			if got["weights_sha256"] != want["weights_sha256"] || got["state_sha256"] != want["state_sha256"] || got["eval_loss"] != want["eval_loss"] {
				t.Errorf("seed %d, after %d kills: %v\nwant %v", seed, kills, got, want)
			}
			break
		}
		if kills == 0 {
			t.Errorf("seed %d: no process could be killed in time", seed)
		}
		t.Logf("run %d was killed %d times and resumed %d times", i, kills, resumes)
		again, err := os.ReadFile(filepath.Join(dir, rundir.MetricsFile))
		if err != nil || !bytes.Equal(again, log) {
			t.Errorf("seed %d: the log of %d bytes differs from that of an undisturbed run, %d bytes (%v)", seed, len(again), len(log), err)
		}
		es, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if strings.Contains(e.Name(), ".tmp-") {
				t.Errorf("%s was left", e.Name())
			}
		}
	}
}
