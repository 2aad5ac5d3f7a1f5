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
	"io/fs"
	"path/filepath"
	"slices"

	"vtpu/stages"
	"vtpu/stages/disk"
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
	FS     disk.FS
	Pinned []int64 // steps of checkpoints that Prune leaves: those that the run and its stream begin with
	lock   io.Closer
}

// Create makes a directory for a new run, or takes an empty one.
func Create(fsys disk.FS, path string) (*Dir, error) {
	if err := fsys.MkdirAll(path); err != nil {
		return nil, &stages.EnvError{Err: fmt.Errorf("make run directory: %w", err), Fix: "choose another one with --out"}
	}
	d, err := lock(fsys, path)
	if err != nil {
		return nil, err
	}
	if Holds(fsys, path) {
		return nil, errors.Join(stages.Finding{File: path, Msg: "holds a run already", Fix: "continue it with --resume, or choose another directory with --out"}, d.Close())
	}
	if steps, err := d.Checkpoints(); err != nil || len(steps) > 0 { // a fork that a crash cut short
		if err == nil {
			err = stages.Finding{File: path, Msg: "holds checkpoints and no run: what made it did not come to its end", Fix: "remove them, or choose another directory with --out"}
		}
		return nil, errors.Join(err, d.Close())
	}
	return d, d.tidy()
}

// Open takes the directory of an earlier run.
func Open(fsys disk.FS, path string) (*Dir, error) {
	if !Holds(fsys, path) {
		return nil, stages.Finding{File: path, Msg: "holds no run", Fix: "name the directory that a run has printed"}
	}
	d, err := lock(fsys, path)
	if err != nil {
		return nil, err
	}
	return d, d.tidy()
}

// Holds says whether a directory holds a run.
func Holds(fsys disk.FS, path string) bool {
	f, err := fsys.Open(filepath.Join(path, RunFile), false)
	if err != nil {
		return false
	}
	_ = f.Close() // only looked at
	return true
}

func lock(fsys disk.FS, path string) (*Dir, error) {
	l, err := fsys.Lock(filepath.Join(path, lockFile))
	var held *disk.Locked
	if errors.As(err, &held) {
		return nil, stages.Finding{File: path, Msg: fmt.Sprintf("another process (%s) writes to this run", held.Holder), Fix: "wait for it, or choose another directory with --out"}
	}
	if err != nil {
		return nil, &stages.EnvError{Err: err, Fix: "choose a directory that can be written, with --out"}
	}
	return &Dir{Path: path, FS: fsys, lock: l}, nil
}

// tidy removes the temporary files that a killed process left.
func (d *Dir) tidy() error {
	names, err := d.FS.List(d.Path)
	if err != nil {
		return errors.Join(&stages.EnvError{Err: err}, d.Close())
	}
	for _, n := range names {
		if !disk.Unfinished(n) {
			continue
		}
		if err := d.FS.Remove(d.File(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(&stages.EnvError{Err: err}, d.Close())
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
	return tensorfile.WriteFileOf(d.FS, d.File(name), write)
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
func ReadJSON(fsys disk.FS, path string, v any) error {
	b, err := tensorfile.ReadAllOf(fsys, path)
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
func Checkpoints(fsys disk.FS, path string) ([]int64, error) {
	names, err := fsys.List(path)
	if err != nil {
		return nil, stages.Finding{File: path, Msg: "can't be read: " + err.Error()}
	}
	var steps []int64
	for _, name := range names {
		var s int64
		if n, err := fmt.Sscanf(name, "checkpoint-%d.safetensors", &s); n == 1 && err == nil && name == CheckpointName(s) {
			steps = append(steps, s)
		}
	}
	slices.Sort(steps)
	return steps, nil
}

// Checkpoints lists the steps of the checkpoints in the directory, ascending.
func (d *Dir) Checkpoints() ([]int64, error) { return Checkpoints(d.FS, d.Path) }

// Prune removes all but the newest n checkpoints of the steps up to at. Later ones, of a run that had to go back, are left until it comes to them again.
func (d *Dir) Prune(n int, at int64) error {
	steps, err := d.Checkpoints()
	if err != nil {
		return err
	}
	steps = slices.DeleteFunc(steps, func(s int64) bool { return s > at || slices.Contains(d.Pinned, s) })
	for len(steps) > n {
		if err := d.FS.Remove(d.File(CheckpointName(steps[0]))); err != nil {
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

	f disk.File
	w *bufio.Writer
	b []byte
}

// OpenMetrics opens the file for appending and removes what lies after step: the lines of steps that a resumed run does again, and a torn last line.
func (d *Dir) OpenMetrics(step int64) (*Metrics, error) {
	path := d.File(MetricsFile)
	f, err := d.FS.Open(path, true)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = d.FS.Create(path); err == nil {
			err = d.FS.SyncDir(d.Path)
		}
	}
	var ms []Metric
	if err == nil {
		var end int64
		if ms, end, err = readMetrics(f, step); err == nil {
			err = f.Truncate(end)
		}
	}
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return nil, &stages.EnvError{Err: err}
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

// Sync brings everything to the disk.
func (m *Metrics) Sync() error {
	if err := m.Flush(); err != nil {
		return err
	}
	if err := m.f.Sync(); err != nil {
		return &stages.EnvError{Err: fmt.Errorf("write metrics: %w", err)}
	}
	return nil
}

// Close flushes and closes.
func (m *Metrics) Close() error {
	return errors.Join(m.Flush(), m.f.Close())
}

// ReadMetrics reads the whole lines of a run's metrics.
func ReadMetrics(fsys disk.FS, path string) ([]Metric, error) {
	f, err := fsys.Open(filepath.Join(path, MetricsFile), false)
	if errors.Is(err, fs.ErrNotExist) {
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
func readMetrics(f disk.File, step int64) (ms []Metric, end int64, err error) {
	size, err := f.Size()
	if err != nil {
		return nil, 0, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
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
