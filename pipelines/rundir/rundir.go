// Package rundir keeps what a run writes: run.json, metrics.jsonl, checkpoints, charts and the report. A kill or a full disk at any instant leaves it
// readable: files are replaced as a whole, and a line of metrics.jsonl counts only with its end.
package rundir

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vtpu/stages"
	"vtpu/stages/tensorfile"
)

// Names of the files.
const (
	RunFile     = "run.json"
	MetricsFile = "metrics.jsonl"
	lockFile    = "lock"
)

// A Dir is a run directory in use: no other process writes to it.
type Dir struct {
	Path   string
	Pinned int64 // step of a checkpoint that Prune leaves: the one that the run begins with; -1: none
	lock   *os.File
}

// Create makes a directory for a new run, or takes an empty one.
func Create(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, &stages.EnvError{Err: fmt.Errorf("make run directory: %w", err), Fix: "choose another one with --out"}
	}
	d, err := lock(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(d.File(RunFile)); err == nil {
		return nil, errors.Join(stages.Finding{File: path, Msg: "holds a run already", Fix: "continue it with --resume, or choose another directory with --out"}, d.Close())
	}
	return d, d.tidy()
}

// Open takes the directory of an earlier run.
func Open(path string) (*Dir, error) {
	if _, err := os.Stat(filepath.Join(path, RunFile)); err != nil {
		return nil, stages.Finding{File: path, Msg: "holds no run", Fix: "name the directory that a run has printed"}
	}
	d, err := lock(path)
	if err != nil {
		return nil, err
	}
	return d, d.tidy()
}

func lock(path string) (*Dir, error) {
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, &stages.EnvError{Err: err, Fix: "choose a directory that can be written, with --out"}
	}
	if err := flock(f); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 20)) // only for the message
		_ = f.Close()
		return nil, stages.Finding{File: path, Msg: fmt.Sprintf("another process (%s) writes to this run", strings.TrimSpace(string(holder))),
			Fix: "wait for it, or choose another directory with --out"}
	}
	// Whose lock it is helps people only; the lock itself is the operating system's.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(fmt.Sprintf("pid %d\n", os.Getpid())), 0)
	return &Dir{path, -1, f}, nil
}

// tidy removes the temporary files that a killed process left.
func (d *Dir) tidy() error {
	left, err := filepath.Glob(filepath.Join(d.Path, ".*.tmp-*"))
	if err != nil {
		return err
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
			return &stages.EnvError{Err: err}
		}
	}
	return nil
}

// Close gives the directory back. Closing twice is fine.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	f := d.lock
	d.lock = nil
	return f.Close()
}

// File is the path of a file in the directory.
func (d *Dir) File(name string) string { return filepath.Join(d.Path, name) }

// Write replaces a file as a whole.
func (d *Dir) Write(name string, write func(io.Writer) error) error {
	return tensorfile.WriteFile(d.File(name), write)
}

// WriteJSON replaces a file by v as indented JSON.
func (d *Dir) WriteJSON(name string, v any) error {
	return d.Write(name, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}

// ReadJSON reads a file that WriteJSON wrote.
func ReadJSON(path string, v any) error {
	b, err := tensorfile.ReadAll(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return stages.Finding{File: path, Msg: "can't be read: " + err.Error()}
	}
	return nil
}

// CheckpointName is the file of the checkpoint after so many steps.
func CheckpointName(step int64) string { return fmt.Sprintf("checkpoint-%09d.safetensors", step) }

// Checkpoints lists the steps of the checkpoints in a directory, ascending.
func Checkpoints(path string) ([]int64, error) {
	es, err := os.ReadDir(path)
	if err != nil {
		return nil, stages.Finding{File: path, Msg: "can't be read: " + err.Error()}
	}
	var steps []int64
	for _, e := range es {
		var s int64
		if n, err := fmt.Sscanf(e.Name(), "checkpoint-%d.safetensors", &s); n == 1 && err == nil && e.Name() == CheckpointName(s) {
			steps = append(steps, s)
		}
	}
	slices.Sort(steps)
	return steps, nil
}

// Prune removes all but the newest n checkpoints.
func (d *Dir) Prune(n int) error {
	steps, err := Checkpoints(d.Path)
	if err != nil {
		return err
	}
	steps = slices.DeleteFunc(steps, func(s int64) bool { return s == d.Pinned })
	for len(steps) > n {
		if err := os.Remove(d.File(CheckpointName(steps[0]))); err != nil {
			return &stages.EnvError{Err: err}
		}
		steps = steps[1:]
	}
	return nil
}

// A Metric is one line of metrics.jsonl.
type Metric struct {
	Event string  `json:"event"` // step or eval
	Step  int64   `json:"step"`  // steps done
	Loss  float64 `json:"loss"`
	Hits  int64   `json:"hits,omitempty"`
	Seen  int64   `json:"seen,omitempty"`
	AUC   float64 `json:"auc,omitempty"` // eval: the chance that a yes is ranked above a no
}

// Metrics appends lines to metrics.jsonl.
type Metrics struct {
	Last Metric // of the lines that were there when it was opened

	f *os.File
	w *bufio.Writer
	b []byte
}

// OpenMetrics opens the file for appending and removes what lies after step: the lines of steps that a resumed run does again, and a torn last line.
func (d *Dir) OpenMetrics(step int64) (*Metrics, error) {
	path := d.File(MetricsFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, &stages.EnvError{Err: err}
	}
	ms, end, err := readMetrics(f, step)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(&stages.EnvError{Err: err}, f.Close())
	}
	m := &Metrics{f: f, w: bufio.NewWriterSize(f, 1<<16)}
	if len(ms) > 0 {
		m.Last = ms[len(ms)-1]
	}
	return m, nil
}

// Add appends a line. What goes wrong with the disk shows in Flush.
func (m *Metrics) Add(x Metric) {
	m.b = AppendMetric(m.b[:0], x)
	m.w.Write(m.b) // a bufio.Writer keeps its first error for Flush
}

// AppendMetric appends the JSON of a line, its end included.
func AppendMetric(b []byte, x Metric) []byte {
	b = fmt.Appendf(b, `{"event":%q,"step":%d,"loss":%v`, x.Event, x.Step, jsonFloat(x.Loss))
	if x.Seen > 0 {
		b = fmt.Appendf(b, `,"hits":%d,"seen":%d`, x.Hits, x.Seen)
	}
	if x.AUC > 0 {
		b = fmt.Appendf(b, `,"auc":%v`, jsonFloat(x.AUC))
	}
	return append(b, '}', '\n')
}

// jsonFloat writes a number as encoding/json does, and null for what JSON lacks.
func jsonFloat(v float64) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "null"
	}
	return string(b)
}

// Flush hands everything to the operating system.
func (m *Metrics) Flush() error {
	if err := m.w.Flush(); err != nil {
		return &stages.EnvError{Err: fmt.Errorf("write metrics: %w", err), Fix: "free some room on the disk; nothing that was there is lost"}
	}
	return nil
}

// Close flushes and closes.
func (m *Metrics) Close() error {
	return errors.Join(m.Flush(), m.f.Close())
}

// ReadMetrics reads the whole lines of a run's metrics.
func ReadMetrics(path string) ([]Metric, error) {
	f, err := os.Open(filepath.Join(path, MetricsFile))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, stages.Finding{File: path, Msg: err.Error()}
	}
	defer f.Close()
	ms, _, err := readMetrics(f, 1<<62)
	if err != nil {
		return nil, stages.Finding{File: path, Msg: err.Error()}
	}
	return ms, nil
}

// readMetrics reads lines up to a step and says where they end.
func readMetrics(r io.Reader, step int64) (ms []Metric, end int64, err error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, 0, err
	}
	for {
		n := bytes.IndexByte(b[end:], '\n')
		if n < 0 {
			return ms, end, nil
		}
		var m Metric
		if json.Unmarshal(b[end:end+int64(n)], &m) != nil || m.Step > step {
			return ms, end, nil
		}
		ms = append(ms, m)
		end += int64(n) + 1
	}
}
