package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
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
	mem := Aligned(3 << 20)
	past := 0
	for range 60 {
		n, from := 64*(1+r.IntN(200)), 0
		if r.IntN(2) == 0 {
			n = directMin + 64*r.IntN(20_000)
		}
		if r.IntN(3) > 0 {
			from = len(want) & (Block - 1)
		}
		p := mem[from : from+n]
		for i := 0; i < n; i += 8 {
			p[i] = byte(r.Uint32())
		}
		if k, err := d.Write(p); k != n || err != nil {
			t.Fatal(k, err)
		}
		want = append(want, p...)
		if n >= directMin && from == (len(want)-n)&(Block-1) {
			if past++; len(d.buf) >= Block {
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
	mem := Aligned(1 << 20)
	n, err := d.Write(mem[192 : 192+directMin])
	var p *os.PathError
	if n != 0 || !errors.As(err, &p) {
		t.Fatal(n, err)
	}
	if d.fd = good; len(d.buf) != 192 || d.at != 0 {
		t.Fatal(len(d.buf), d.at)
	}
}
