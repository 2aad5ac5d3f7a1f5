package reclog

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
)

// FS is what a stream needs of a file system. Names are paths.
type FS interface {
	// Create makes a file for appending. It must not exist.
	Create(name string) (File, error)
	// Open opens a file for reading, and with write set for appending at its end.
	Open(name string, write bool) (File, error)
	Remove(name string) error
	Rename(from, to string) error
	// List gives the names, without the directory, of the files in a directory, sorted. A directory that is not there is fs.ErrNotExist.
	List(dir string) ([]string, error)
	MkdirAll(dir string) error
	// SyncDir makes what Create, Remove and Rename did in a directory durable.
	SyncDir(dir string) error
}

// File is an open file. Write appends.
type File interface {
	io.ReaderAt
	io.Writer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// OS is the operating system's file system. With Direct, written data goes past the system's cache where that is possible (Linux): for large frames that costs the processor a
// fraction, as nothing is copied and no pages are made. A file then has its exact size after Sync, Truncate or Close only.
type OS struct{ Direct bool }

// Create makes a file.
func (o OS) Create(name string) (File, error) {
	if o.Direct {
		if f, err := createDirect(name); err == nil || errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &osFile{f: f}, nil
}

// Open opens a file.
func (o OS) Open(name string, write bool) (File, error) {
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a file")}
	}
	if err != nil {
		_ = f.Close() // not used
		return nil, err
	}
	return &osFile{f: f, at: st.Size()}, nil
}

// Remove removes a file.
func (OS) Remove(name string) error { return os.Remove(name) }

// Rename renames a file and replaces what has the name.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// MkdirAll makes a directory.
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o755) }

// List lists a directory.
func (OS) List(dir string) ([]string, error) {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range es {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// SyncDir syncs a directory. Not every system can; there a rename alone has to do.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	_ = d.Sync()
	return d.Close()
}

type osFile struct {
	f  *os.File
	at int64
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

func (f *osFile) Write(p []byte) (int, error) {
	n, err := f.f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *osFile) Size() (int64, error) {
	st, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *osFile) Truncate(n int64) error {
	f.at = n
	return f.f.Truncate(n)
}

func (f *osFile) Sync() error  { return f.f.Sync() }
func (f *osFile) Close() error { return f.f.Close() }
