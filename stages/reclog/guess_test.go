package reclog

import (
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"vtpu/stages/disk"
	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// TestWriterGuesses writes frames of all sizes through segments that end often, leaves and goes on: the writer knows where each batch goes, and all is read as it was written.
func TestWriterGuesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	r := rand.New(rand.NewPCG(3, 4))
	var sizes []int
	vals := make([]float32, 400_000)
	for i := range vals {
		vals[i] = float32(i)
	}
	o := Options{Name: "test", Run: "run", About: []byte("{}"), FS: disk.OS{Direct: true}, Background: true, Segment: 3 << 20}
	for range 3 {
		o.From = KeepAll
		w, err := Create(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		for range 25 {
			n := noteWords + 1 + r.IntN(2000) // smaller ones are noted
			if r.IntN(2) == 0 {
				n = 50_000 + r.IntN(350_000)
			}
			vals[0] = float32(len(sizes))
			f := wire.Frame{Kind: wire.Gradients, Tensors: []wire.Tensor{{Name: "w", Shape: tensor.Of(n), F32: vals[:n]}}}
			f.Step = int64(len(sizes))
			if err := w.Append(&f); err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, n)
			if r.IntN(4) == 0 {
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				if w.at.size != w.s.x.size {
					t.Fatalf("step %d: the writer looks for offset %d, the segment has %d bytes", f.Step, w.at.size, w.s.x.size)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if segs, err := segments(disk.OS{}, dir); len(segs) < 5 || err != nil {
		t.Fatal(segs, err)
	}
	rd, err := Open(dir, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	for s := 0; ; {
		f, err := rd.Next()
		if errors.Is(err, io.EOF) {
			if s != len(sizes) {
				t.Fatalf("%d steps of %d", s, len(sizes))
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind != wire.Gradients {
			continue
		}
		v := f.Tensors[0].F32
		if f.Step != int64(s) || len(v) != sizes[s] || v[0] != float32(s) || v[len(v)-1] != float32(len(v)-1) && len(v) > 1 {
			t.Fatalf("step %d: %d values of %d, of step %d", s, len(v), sizes[s], f.Step)
		}
		s++
	}
}
