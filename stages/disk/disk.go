// Package disk is what runs and their streams need of a file system, and no more: so small that one that crashes on command (crashfs) can stand in for it.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// FS is a file system. Names are paths.
type FS interface {
	// Create makes a file for appending. It must not exist.
	Create(name string) (File, error)
	// Open opens a file for reading, and with write set for appending at its end.
	Open(name string, write bool) (File, error)
	Remove(name string) error
	Rename(from, to string) error
	// List gives the names, without the directory, of what is in a directory, sorted. A directory that is not there is fs.ErrNotExist.
	List(dir string) ([]string, error)
	// MkdirAll makes a directory and those above it, and they are there for good when it returns.
	MkdirAll(dir string) error
	// SyncDir makes what Create, Remove and Rename did in a directory durable.
	SyncDir(dir string) error
	// Lock takes a name for this process until the Closer is closed or the process ends. Where another one has it the error is a *Locked.
	Lock(name string) (io.Closer, error)
}

// Locked says that another process has a lock.
type Locked struct{ Holder string }

func (e *Locked) Error() string { return "in use by another process (" + e.Holder + ")" }

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
func (o OS) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	up := filepath.Dir(dir)
	if up != dir {
		if err := o.MkdirAll(up); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return o.SyncDir(up)
}

// Lock locks a file, which stays.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 20)) // only for the message
		_ = f.Close()
		return nil, &Locked{strings.TrimSpace(string(holder))}
	}
	// Whose lock it is helps people only; the lock itself is the operating system's.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(fmt.Sprintf("pid %d\n", os.Getpid())), 0)
	return f, nil
}

// List lists a directory.
func (OS) List(dir string) ([]string, error) {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(es)) // os.ReadDir sorts
	for i, e := range es {
		names[i] = e.Name()
	}
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

// tmpMark is in the names of files that WriteFile has not finished.
const tmpMark = ".tmp-"

// Unfinished says whether a file is what an interrupted WriteFile left.
func Unfinished(name string) bool {
	return strings.HasPrefix(name, ".") && strings.Contains(name, tmpMark)
}

// WriteFile writes a file so that a crash or a full disk at any instant leaves the old content or the new one: a temporary file beside it, sync, rename, sync of the directory.
func WriteFile(fsys FS, path string, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	tmp := filepath.Join(dir, fmt.Sprintf(".%s%s%08x", filepath.Base(path), tmpMark, rand.Uint32()))
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(tmp, path)
	}
	if err != nil {
		_ = fsys.Remove(tmp) // the first error is the one to tell
		return err
	}
	return fsys.SyncDir(dir)
}

// ReadFile reads a whole file.
func ReadFile(fsys FS, path string) ([]byte, error) {
	f, err := fsys.Open(path, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return b, nil
}
