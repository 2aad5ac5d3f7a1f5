package rundir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vtpu/stages"
	"vtpu/stages/disk"
)

func create(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Create(disk.OS{}, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestADirectoryHoldsOneRunAndHasOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "run")
	d := create(t, path)
	for what, f := range map[string]func(string) (*Dir, error){"create": func(p string) (*Dir, error) { return Create(disk.OS{}, p) }, "open": func(p string) (*Dir, error) {
		if err := os.WriteFile(filepath.Join(p, RunFile), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		return Open(disk.OS{}, p)
	}} {
		_, err := f(path)
		if stages.ExitCode(err) != stages.ExitUser || !strings.Contains(err.Error(), fmt.Sprintf("another process (pid %d) writes to this run", os.Getpid())) {
			t.Errorf("%s while it is in use: %v", what, err)
		}
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	if _, err := Create(disk.OS{}, path); stages.ExitCode(err) != stages.ExitUser || !strings.Contains(err.Error(), "holds a run already (continue it with --resume") {
		t.Errorf("a second run: %v", err)
	}
	again, err := Open(disk.OS{}, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(disk.OS{}, t.TempDir()); stages.ExitCode(err) != stages.ExitUser || !strings.Contains(err.Error(), "holds no run") {
		t.Errorf("no run: %v", err)
	}
}

func TestAPlaceThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(disk.OS{}, filepath.Join(file, "run")); stages.ExitCode(err) != stages.ExitEnv || !strings.Contains(err.Error(), "--out") {
		t.Errorf("below a file: %v", err)
	}
	if os.Getuid() == 0 {
		t.Log("SKIP a directory without write permission: root may write everywhere")
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(disk.OS{}, dir); stages.ExitCode(err) != stages.ExitEnv {
		t.Errorf("no permission: %v", err)
	}
}

func TestLeftoversOfAKilledProcessGo(t *testing.T) {
	d := create(t, t.TempDir())
	if err := d.WriteJSON(RunFile, map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	left := d.File(".checkpoint-000000005.safetensors.tmp-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(disk.OS{}, d.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the half-written file is still there: %v", err)
	}
	var v map[string]int
	if err := ReadJSON(disk.OS{}, again.File(RunFile), &v); err != nil || v["a"] != 1 {
		t.Errorf("%v, %v", v, err)
	}
}

func TestAFileIsReplacedAsAWhole(t *testing.T) {
	d := create(t, t.TempDir())
	if err := d.Write("a", func(w io.Writer) error { _, err := w.Write([]byte("old")); return err }); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := d.Write("a", func(w io.Writer) error {
		if _, err := w.Write(bytes.Repeat([]byte("n"), 1<<20)); err != nil {
			return err
		}
		if b, err := os.ReadFile(d.File("a")); err != nil || string(b) != "old" {
			t.Errorf("while it is written, the file holds %.10q (%v)", b, err)
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if b, err := os.ReadFile(d.File("a")); err != nil || string(b) != "old" {
		t.Errorf("then it holds %.10q (%v)", b, err)
	}
	if err := os.WriteFile(d.File("b.json"), []byte(`{"a":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ReadJSON(disk.OS{}, d.File("b.json"), &struct{}{}); stages.ExitCode(err) != stages.ExitUser || !strings.Contains(err.Error(), "can't be read") {
		t.Errorf("broken JSON: %v", err)
	}
}

func TestCheckpointsAreListedAndPruned(t *testing.T) {
	d := create(t, t.TempDir())
	for _, n := range []string{CheckpointName(5), CheckpointName(100), CheckpointName(20), CheckpointName(12345678901), "checkpoint-7.safetensors", "checkpoint-000000009.safetensors.bak",
		".checkpoint-000000011.safetensors.tmp-1", "other"} {
		if err := os.WriteFile(d.File(n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	steps, err := Checkpoints(disk.OS{}, d.Path)
	if err != nil || !slices.Equal(steps, []int64{5, 20, 100, 12345678901}) {
		t.Fatalf("%v, %v", steps, err)
	}
	if err := errors.Join(d.Prune(2, 20), d.Prune(1, 100)); err != nil { // of a run that had to go back: what is ahead of it stays
		t.Fatal(err)
	}
	if steps, err = Checkpoints(disk.OS{}, d.Path); err != nil || !slices.Equal(steps, []int64{100, 12345678901}) {
		t.Errorf("%v, %v", steps, err)
	}
	if _, err := os.Stat(d.File("checkpoint-7.safetensors")); err != nil {
		t.Error("a file that is not a checkpoint of ours went")
	}
	if _, err := Checkpoints(disk.OS{}, filepath.Join(d.Path, "none")); stages.ExitCode(err) != stages.ExitUser {
		t.Error(err)
	}
}

var lines = []Metric{{Event: "step", Step: 1, Loss: 2.5}, {Event: "step", Step: 2, Loss: 1e-12, Hits: 3, Seen: 4}, {Event: "eval", Step: 2, Loss: 1.0 / 3, Seen: 7, AUC: 0.75},
	{Event: "step", Step: 3, Loss: 4}, {Event: "step", Step: 4, Loss: 5}}

func TestALineIsTheJSONOfItsMetric(t *testing.T) {
	for _, m := range lines {
		b := AppendMetric(nil, m)
		var got Metric
		if err := json.Unmarshal(b, &got); err != nil || got != m || b[len(b)-1] != '\n' || bytes.Count(b, []byte("\n")) != 1 {
			t.Errorf("%s reads as %+v (%v), want %+v", b, got, err, m)
		}
	}
	if b := AppendMetric(nil, Metric{Event: "step", Step: 1, Loss: math.NaN()}); string(b) != `{"event":"step","step":1,"loss":null}`+"\n" {
		t.Errorf("%s", b)
	}
}

// A kill leaves any prefix of the file: its whole lines count, and a resumed run goes on behind them.
func TestMetricsAfterAKillAtAnyByte(t *testing.T) {
	var whole []byte
	var ends []int
	for _, m := range lines {
		whole = AppendMetric(whole, m)
		ends = append(ends, len(whole))
	}
	dir := t.TempDir()
	for n := range len(whole) + 1 {
		if err := os.WriteFile(filepath.Join(dir, MetricsFile), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		have := 0
		for _, e := range ends {
			if e <= n {
				have++
			}
		}
		ms, err := ReadMetrics(disk.OS{}, dir)
		if err != nil || !slices.Equal(ms, lines[:have]) {
			t.Fatalf("%d bytes: %v (%v), want %d lines", n, ms, err, have)
		}
		// Resume after step 2, the newest checkpoint.
		d := &Dir{Path: dir, FS: disk.OS{}}
		log, err := d.OpenMetrics(2)
		if err != nil {
			t.Fatal(err)
		}
		log.Add(Metric{Event: "step", Step: 9, Loss: 9})
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		want := append(slices.Clone(lines[:min(have, 3)]), Metric{Event: "step", Step: 9, Loss: 9})
		if ms, err = ReadMetrics(disk.OS{}, dir); err != nil || !slices.Equal(ms, want) {
			t.Fatalf("%d bytes, resumed: %v (%v), want %v", n, ms, err, want)
		}
	}
	if ms, err := ReadMetrics(disk.OS{}, t.TempDir()); ms != nil || err != nil {
		t.Errorf("no metrics: %v, %v", ms, err)
	}
}

// fullFile is a file whose writes go elsewhere.
type fullFile struct {
	disk.File
	w *os.File
}

func (f *fullFile) Write(p []byte) (int, error) { return f.w.Write(p) }
func (f *fullFile) Close() error                { return f.w.Close() }

// A disk without room shows in Flush, as a lack of the environment.
func TestAFullDiskShowsInFlush(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("SKIP: no /dev/full here")
	}
	dir := t.TempDir()
	d := &Dir{Path: dir, FS: disk.OS{}}
	log, err := d.OpenMetrics(0)
	if err != nil {
		t.Fatal(err)
	}
	own := log.f
	log.f = &fullFile{File: own, w: f}
	log.w.Reset(f)
	log.Add(lines[0])
	if err := log.Flush(); stages.ExitCode(err) != stages.ExitEnv || !strings.Contains(err.Error(), "free some room on the disk") {
		t.Errorf("flush: %v", err)
	}
	if err := log.Close(); stages.ExitCode(err) != stages.ExitEnv {
		t.Errorf("close: %v", err)
	}
	if err := own.Close(); err != nil {
		t.Error(err)
	}
}
