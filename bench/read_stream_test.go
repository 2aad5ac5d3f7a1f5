package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"vtpu/pipelines"
	"vtpu/stages/reclog"
)

// python is an interpreter that has msgpack and numpy, or "".
func python() string {
	for _, p := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(p, "-c", "import msgpack, numpy").Run() == nil {
			return p
		}
	}
	return ""
}

// TestAThirdPartyReads holds what read_stream.py reads, which knows nothing but the documentation, against what the package reads: sparse and dense gradients.
func TestAThirdPartyReads(t *testing.T) {
	py := python()
	if py == "" {
		t.Skip("SKIP: no python3 with msgpack and numpy (Debian: python3-msgpack python3-numpy)")
	}
	src, err := os.ReadFile("read_stream.py")
	if err != nil || bytes.Count(src, []byte("\n")) > 60 {
		t.Fatalf("read_stream.py has more than 60 lines, or none: %v", err)
	}
	for _, name := range []string{"names", "clicks"} {
		dir := filepath.Join(t.TempDir(), "run")
		o := pipelines.Options{File: name, Steps: 3, LookAhead: -1, Record: "gradients", Out: dir}
		if name == "clicks" {
			o.Sets = []string{"data.rows=2000"}
		}
		if err := pipelines.Train(context.Background(), o, silent{}); err != nil {
			t.Fatal(err)
		}
		stream := filepath.Join(dir, pipelines.StreamDir)
		out, err := exec.Command(py, "read_stream.py", stream).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, err := reclog.Open(stream, reclog.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(out))
		lines.Buffer(nil, 1<<24)
		n := 0
		for ; ; n++ {
			f, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Kind    string
				Step    int64
				Part    int32
				Loss    float64
				Tensors [][]any
			}
			if !lines.Scan() {
				t.Fatalf("%s: %d frames only", name, n)
			}
			if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Kind != f.Kind.String() || got.Step != f.Step || got.Part != f.Part || got.Loss != f.Loss || len(got.Tensors) != len(f.Tensors) {
				t.Fatalf("%s, frame %d: %+v, want %+v", name, n, got, f.Meta)
			}
			for i := range f.Tensors {
				ft := &f.Tensors[i]
				var sum, size float64
				for _, x := range ft.F32 {
					sum, size = sum+float64(x), size+math.Abs(float64(x))
				}
				for _, x := range ft.I32 {
					sum, size = sum+float64(x), size+math.Abs(float64(x))
				}
				if got.Tensors[i][0] != ft.Name || math.Abs(got.Tensors[i][2].(float64)-sum) > 1e-12*size {
					t.Errorf("%s, frame %d: %v, want %s with the sum %v", name, n, got.Tensors[i], ft.Name, sum)
				}
			}
		}
		if lines.Scan() || n != 5 {
			t.Errorf("%s: %d frames, the script goes on with %q", name, n, lines.Text())
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		// A flipped bit is noticed there too.
		seg := filepath.Join(stream, "0000000000000000.rec")
		b, err := os.ReadFile(seg)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(seg, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := exec.Command(py, "read_stream.py", stream).Run(); err == nil {
			t.Errorf("%s: a flipped bit goes unnoticed", name)
		}
	}
}
