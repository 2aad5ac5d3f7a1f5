package reclog

import (
	"path/filepath"
	"strings"
	"testing"

	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// TestJournal appends and reads at the same time over several segments, in order and not, goes on after a pending frame, and finds a hole.
func TestJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	o := Options{Name: "journal", Segment: 4000}
	note := func(j *Journal, step int64, parts int32) {
		t.Helper()
		f := wire.Frame{Kind: wire.Example, Tensors: []wire.Tensor{{Name: "x", Shape: tensor.Of(40), F32: make([]float32, 40)}}}
		f.Step, f.Parts, f.Tensors[0].F32[7] = step, parts, float32(step)
		if err := j.Append(&f); err != nil {
			t.Fatal(err)
		}
	}
	has := func(j *Journal, step int64) {
		t.Helper()
		f, err := j.Frame(step)
		if err != nil || f.Step != step || f.Parts == Pending || f.Tensors[0].F32[7] != float32(step) {
			t.Fatalf("step %d: %+v, %v", step, f, err)
		}
	}
	j, err := OpenJournal(dir, o, false)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := j.Next(func(*wire.Frame) error { t.Error("a frame of nothing"); return nil }); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	for step := range int64(60) {
		note(j, step, 1)
		has(j, step)
	}
	has(j, 3)
	has(j, 4)
	has(j, 59)
	if _, err := j.Frame(60); err == nil || !strings.Contains(err.Error(), "lacks step 61") {
		t.Error(err)
	}
	note(j, 60, Pending)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if segs, err := segments(ReadOptions{}.fs(), dir); err != nil || len(segs) < 4 {
		t.Fatal(segs, err)
	}
	if j, err = OpenJournal(dir, o, false); err != nil {
		t.Fatal(err)
	}
	var seen []int64
	if n, err := j.Next(func(f *wire.Frame) error { seen = append(seen, f.Step); return nil }); n != 60 || err != nil || len(seen) != 2 || seen[1] != 60 {
		t.Fatal(n, seen, err)
	}
	note(j, 60, 1)
	has(j, 60)
	has(j, 0)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	read, err := OpenJournal(dir, o, true)
	if err != nil {
		t.Fatal(err)
	}
	for step := range int64(61) {
		has(read, step)
	}
	if err := read.Append(&wire.Frame{}); err == nil {
		t.Error("a journal that is only read was written to")
	}
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
}
