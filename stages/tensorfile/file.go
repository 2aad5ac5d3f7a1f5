// Package tensorfile reads and writes named tensors: safetensors, npy and npz (NumPy), idx (MNIST) and phext text. A reader trusts nothing: what a header
// claims is checked against the size of the file before anything is allocated. A file that can't be read is a stages.Finding; a file that can't be
// written is a stages.EnvError, and whatever had the name before is untouched.
package tensorfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// An Entry is a named tensor and, where it has one, its home in phext space.
type Entry struct {
	Name  string
	T     tensor.Tensor
	Coord weights.Coord
}

func sorted(entries []Entry) []Entry {
	es := slices.Clone(entries)
	slices.SortFunc(es, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return es
}

// bad is a finding about the content of a file.
func bad(path, format string, args ...any) error {
	return stages.Finding{File: path, Msg: fmt.Sprintf(format, args...)}
}

// open opens a file for reading and gives its size.
func open(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		switch {
		case os.IsNotExist(err):
			return nil, 0, bad(path, "no such file")
		case os.IsPermission(err):
			return nil, 0, bad(path, "no permission to read it")
		}
		return nil, 0, bad(path, "can't be read: %v", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err != nil {
		_ = f.Close() // only read
		return nil, 0, bad(path, "can't be read: %v", err)
	}
	return f, st.Size(), nil
}

// ReadAll reads a whole file.
func ReadAll(path string) ([]byte, error) {
	f, size, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, bad(path, "can't be read: %v", err)
	}
	return b, nil
}

// shapeOf checks dimensions and counts elements, none of which a file of size bytes could not hold at per bytes each.
func shapeOf(dims []int64, per int, size int64) (tensor.Shape, error) {
	if len(dims) > tensor.MaxRank {
		return tensor.Shape{}, fmt.Errorf("%d dimensions, at most %d are possible", len(dims), tensor.MaxRank)
	}
	n := int64(1)
	s := tensor.Shape{Rank: len(dims)}
	for i, d := range dims {
		if d < 0 || d > 1<<31-1 || d > 0 && n > (1<<31-1)/d {
			return tensor.Shape{}, fmt.Errorf("shape %v is too large", dims)
		}
		n *= d
		s.Dims[i] = int(d)
	}
	if n*int64(per) > size {
		return tensor.Shape{}, fmt.Errorf("shape %v needs %d bytes, there are %d", dims, n*int64(per), size)
	}
	return s, nil
}

// Load reads any of the formats, by the file's first bytes and its extension.
func Load(path string) ([]Entry, map[string]string, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".safetensors":
		return ReadSafetensors(path)
	case ".npz":
		es, err := ReadNpz(path)
		return es, nil, err
	case ".npy":
		t, err := ReadNpy(path)
		return []Entry{{Name: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), T: t}}, nil, err
	case ".phext":
		es, err := ReadPhext(path)
		return es, nil, err
	}
	return nil, nil, stages.Finding{File: path, Msg: "unknown kind of file", Fix: "want .safetensors, .npz, .npy or .phext"}
}

// Save writes entries in the format that the extension names, in one step: the file is there whole or not at all.
func Save(path string, entries []Entry, meta map[string]string) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".safetensors":
		return WriteFile(path, func(w io.Writer) error { return WriteSafetensors(w, entries, meta) })
	case ".npz":
		return WriteFile(path, func(w io.Writer) error { return WriteNpz(w, entries) })
	case ".phext":
		return WriteFile(path, func(w io.Writer) error { return WritePhext(w, entries) })
	}
	return stages.Finding{File: path, Msg: "unknown kind of file", Fix: "want .safetensors, .npz or .phext"}
}

// WriteFile writes a file so that a crash or a full disk at any instant leaves the old content or the new one: a temporary file beside it, fsync,
// rename, fsync of the directory.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return envError(path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()           // the first error is the one to tell
			_ = os.Remove(f.Name()) // likewise
			var env *stages.EnvError
			var fd stages.Finding
			if !errors.As(err, &env) && !errors.As(err, &fd) {
				err = envError(path, err)
			}
		}
	}()
	if err = write(f); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	if d, derr := os.Open(dir); derr == nil {
		// Not every file system can sync a directory; where it can't, rename alone has to do.
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

func envError(path string, err error) error {
	fix := ""
	switch {
	case noSpace(err):
		fix = "free some room on the disk; nothing that was there is lost"
	case os.IsPermission(err):
		fix = "choose a place that can be written"
	case os.IsNotExist(err):
		fix = "make the directory first"
	}
	var inner *fs.PathError
	if errors.As(err, &inner) { // its path is that of the temporary file
		err = inner.Err
	}
	return &stages.EnvError{Err: fmt.Errorf("write %s: %w", path, err), Fix: fix}
}
