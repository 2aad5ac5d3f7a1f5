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
	"vtpu/stages/disk"
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
func open(path string) (disk.File, int64, error) {
	f, err := disk.OS{}.Open(path, false)
	if err != nil {
		return nil, 0, unread(path, err)
	}
	size, err := f.Size()
	if err != nil {
		_ = f.Close() // only read
		return nil, 0, unread(path, err)
	}
	return f, size, nil
}

// unread is a finding about a file that can't be read.
func unread(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad(path, "no such file")
	case errors.Is(err, fs.ErrPermission):
		return bad(path, "no permission to read it")
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return bad(path, "can't be read: %v", err)
}

// ReadAll reads a whole file.
func ReadAll(path string) ([]byte, error) { return ReadAllOf(disk.OS{}, path) }

// ReadAllOf reads a whole file of a file system.
func ReadAllOf(fsys disk.FS, path string) ([]byte, error) {
	b, err := disk.ReadFile(fsys, path)
	if err != nil {
		return nil, unread(path, err)
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

// WriteFile writes a file as a whole or not at all: see disk.WriteFile.
func WriteFile(path string, write func(io.Writer) error) error {
	return WriteFileOf(disk.OS{}, path, write)
}

// WriteFileOf is WriteFile for a file of a file system.
func WriteFileOf(fsys disk.FS, path string, write func(io.Writer) error) error {
	err := disk.WriteFile(fsys, path, write)
	var env *stages.EnvError
	var fd stages.Finding
	if err == nil || errors.As(err, &env) || errors.As(err, &fd) {
		return err
	}
	return envError(path, err)
}

func envError(path string, err error) error {
	fix := ""
	switch {
	case noSpace(err):
		fix = "free some room on the disk; nothing that was there is lost"
	case errors.Is(err, fs.ErrPermission):
		fix = "choose a place that can be written"
	case errors.Is(err, fs.ErrNotExist):
		fix = "make the directory first"
	}
	var inner *fs.PathError
	if errors.As(err, &inner) { // its path is that of the temporary file
		err = inner.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		err = link.Err
	}
	return &stages.EnvError{Err: fmt.Errorf("write %s: %w", path, err), Fix: fix}
}
