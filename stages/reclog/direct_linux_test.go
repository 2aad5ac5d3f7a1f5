package reclog

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// direct makes a file that is written past the cache, or skips.
func direct(t *testing.T) *directFile {
	t.Helper()
	f, err := createDirect(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Skipf("this file system takes no direct writes: %v", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f.(*directFile)
}

// TestDirectFile writes pieces of all sizes, some from memory that lies as the file wants it, syncs now and then and reads all back.
func TestDirectFile(t *testing.T) {
	d := direct(t)
	r := rand.New(rand.NewPCG(1, 2))
	var want []byte
	mem := aligned(3 << 20)
	past := 0
	for range 60 {
		n, from := 64*(1+r.IntN(200)), 0
		if r.IntN(2) == 0 {
			n = directMin + 64*r.IntN(20_000)
		}
		if r.IntN(3) > 0 {
			from = len(want) & (block - 1)
		}
		p := mem[from : from+n]
		for i := 0; i < n; i += 8 {
			p[i] = byte(r.Uint32())
		}
		if k, err := d.Write(p); k != n || err != nil {
			t.Fatal(k, err)
		}
		want = append(want, p...)
		if n >= directMin && from == (len(want)-n)&(block-1) {
			if past++; len(d.buf) >= block {
				t.Fatalf("%d bytes wait, of which a block or more could have been written", len(d.buf))
			}
		}
		if r.IntN(5) == 0 {
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
			if st, err := d.f.Stat(); err != nil || st.Size() != int64(len(want)) {
				t.Fatal(st.Size(), len(want), err)
			}
		}
		if size, err := d.Size(); size != int64(len(want)) || err != nil {
			t.Fatal(size, len(want), err)
		}
	}
	if past == 0 {
		t.Fatal("no write went past the buffer")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(d.f.Name()); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes were written, %d are others (%v)", len(want), len(got), err)
	}
}

// TestDirectFileFails writes to a file that can't be written to any more: what waited before is as it was.
func TestDirectFileFails(t *testing.T) {
	d := direct(t)
	if _, err := d.Write(make([]byte, 192)); err != nil {
		t.Fatal(err)
	}
	ro, err := os.Open(d.f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	good := d.fd
	d.fd = ro.Fd()
	mem := aligned(1 << 20)
	n, err := d.Write(mem[192 : 192+directMin])
	var p *os.PathError
	if n != 0 || !errors.As(err, &p) {
		t.Fatal(n, err)
	}
	if d.fd = good; len(d.buf) != 192 || d.at != 0 {
		t.Fatal(len(d.buf), d.at)
	}
}

// TestWriterGuesses writes frames of all sizes through segments that end often, leaves and goes on: the writer knows where each batch goes, and all is read as it was written.
func TestWriterGuesses(t *testing.T) {
	direct(t) // or skip
	dir := filepath.Join(t.TempDir(), "s")
	r := rand.New(rand.NewPCG(3, 4))
	var sizes []int
	vals := make([]float32, 400_000)
	for i := range vals {
		vals[i] = float32(i)
	}
	o := Options{Name: "test", Run: "run", About: []byte("{}"), FS: OS{Direct: true}, Background: true, Segment: 3 << 20}
	for range 3 {
		o.From = KeepAll
		w, err := Create(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		for range 25 {
			n := 1 + r.IntN(2000)
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
	if segs, err := segments(OS{}, dir); len(segs) < 5 || err != nil {
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
