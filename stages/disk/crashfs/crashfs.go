// Package crashfs is a file system in memory that fails and crashes on command, for tests of what must survive that. It follows the manner of Pebble's vfs.MemFS: what was synced is
// there after a crash; of what was not, each 512-byte sector of a file is there or not at random, and creations, removals and renames that no SyncDir of their directory followed have
// happened up to a random one of them.
package crashfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"vtpu/stages/disk"
)

// Sector is what a disk writes as a whole.
const Sector = 512

// ErrInjected is what a command to fail gives.
var ErrInjected = errors.New("injected: no space left on device")

// ErrCrashed is what every call gives between a crash and Restart.
var ErrCrashed = errors.New("injected: the system has crashed")

// Op is a kind of call that may fail.
type Op string

// The calls.
const (
	OpCreate   Op = "create"
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpSyncDir  Op = "syncdir"
)

// FS is the file system.
type FS struct {
	mu      sync.Mutex
	r       *rand.Rand
	files   map[string]*inode // as they are
	durable map[string]*inode // names as the disk has them
	pending []change          // of names, since the last SyncDir
	locked  map[string]bool
	crashed bool
	lives   int
	ops     int

	// Fail is asked before each call that changes something: n counts them from 1. An error makes the call fail; a write that fails has written a random part.
	Fail func(n int, op Op, name string) error
	// CrashAt makes the system crash in the call of this number; 0 never.
	CrashAt int
}

type change struct {
	dir string
	do  func(names map[string]*inode)
}

// inode is the content of a file: as it is, and as the disk has it.
type inode struct {
	data, disk []byte
	dirty      map[int]bool // sectors that differ, or may
}

// New makes an empty file system; seed decides what a crash leaves.
func New(seed uint64) *FS {
	return &FS{r: rand.New(rand.NewPCG(seed, 77)), files: map[string]*inode{}, durable: map[string]*inode{}, locked: map[string]bool{}}
}

var _ disk.FS = (*FS)(nil)

// begin counts a call and lets it fail or crash.
func (f *FS) begin(op Op, name string) error {
	if f.crashed {
		return ErrCrashed
	}
	f.ops++
	if f.ops == f.CrashAt {
		f.crash()
		return ErrCrashed
	}
	if f.Fail != nil {
		return f.Fail(f.ops, op, name)
	}
	return nil
}

// Ops is the number of calls that changed something, or tried.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Crash loses power.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.crashed {
		f.crash()
	}
}

func (f *FS) crash() {
	f.crashed = true
	for _, c := range f.pending[:f.r.IntN(len(f.pending)+1)] {
		c.do(f.durable)
	}
	f.pending = nil
	names := make([]string, 0, len(f.durable)) // in a fixed order, so that a seed decides all
	for n := range f.durable {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		f.durable[n].crash(f.r)
	}
	f.files = map[string]*inode{}
	for _, n := range names {
		f.files[n] = f.durable[n]
	}
}

// crash keeps a random choice of the sectors that were not synced. The file's length is anything between the two.
func (n *inode) crash(r *rand.Rand) {
	size := len(n.disk)
	if d := len(n.data) - size; d != 0 {
		if k := r.IntN(3); k == 0 {
			size = len(n.data)
		} else if k == 1 {
			size = min(size, len(n.data)) + r.IntN(max(d, -d)+1)
		}
	}
	out := make([]byte, size)
	copy(out, n.disk)
	none, all := r.IntN(4) == 0, r.IntN(4) == 0
	for s := 0; s*Sector < len(n.data); s++ {
		if n.dirty[s] && !none && (all || r.IntN(2) == 0) {
			lo := s * Sector
			hi := min(lo+Sector, len(n.data), size)
			if lo < hi {
				copy(out[lo:hi], n.data[lo:hi])
			}
		}
	}
	n.data, n.disk, n.dirty = out, append([]byte(nil), out...), map[int]bool{}
}

// Kill ends the process: what was written is there, open files are not.
func (f *FS) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

// Restart makes the file system usable after Crash or Kill.
func (f *FS) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed, f.ops, f.CrashAt, f.Fail = false, 0, 0, nil
	f.locked, f.lives = map[string]bool{}, f.lives+1
}

// Corrupt changes the content of a file on the disk.
func (f *FS) Corrupt(name string, change func([]byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.files[filepath.Clean(name)]
	n.data = change(append([]byte(nil), n.data...))
	n.disk, n.dirty = append([]byte(nil), n.data...), map[int]bool{}
}

// Read is the content of a file.
func (f *FS) Read(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.files[filepath.Clean(name)]; n != nil {
		return append([]byte(nil), n.data...)
	}
	return nil
}

func (f *FS) note(name string, do func(map[string]*inode)) {
	do(f.files)
	f.pending = append(f.pending, change{filepath.Dir(name), do})
}

// Create makes a file.
func (f *FS) Create(name string) (disk.File, error) {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(OpCreate, name); err != nil {
		return nil, err
	}
	if f.files[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	n := &inode{dirty: map[int]bool{}}
	f.note(name, func(m map[string]*inode) { m[name] = n })
	return &file{f, n, name, true}, nil
}

// Open opens a file.
func (f *FS) Open(name string, write bool) (disk.File, error) {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	n := f.files[name]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{f, n, name, write}, nil
}

// Remove removes a file.
func (f *FS) Remove(name string) error {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if err := f.begin(OpRemove, name); err != nil {
		return err
	}
	f.note(name, func(m map[string]*inode) { delete(m, name) })
	return nil
}

// Rename renames a file.
func (f *FS) Rename(from, to string) error {
	from, to = filepath.Clean(from), filepath.Clean(to)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(OpRename, from); err != nil {
		return err
	}
	n := f.files[from]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	f.note(from, func(m map[string]*inode) { delete(m, from); m[to] = n })
	return nil
}

// List lists a directory.
func (f *FS) List(dir string) ([]string, error) {
	dir = filepath.Clean(dir)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	var names []string
	for n := range f.files {
		if filepath.Dir(n) == dir {
			names = append(names, filepath.Base(n))
		}
	}
	sort.Strings(names)
	return names, nil
}

// MkdirAll does nothing: directories are there when they are needed, and for good.
func (f *FS) MkdirAll(string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	return nil
}

// SyncDir makes the changes of names in a directory durable.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(OpSyncDir, dir); err != nil {
		return err
	}
	var later []change
	for _, c := range f.pending {
		if c.dir == filepath.Clean(dir) {
			c.do(f.durable)
		} else {
			later = append(later, c)
		}
	}
	f.pending = later
	return nil
}

// Lock takes a name until the Closer is closed, or Restart.
func (f *FS) Lock(name string) (io.Closer, error) {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.crashed:
		return nil, ErrCrashed
	case f.locked[name]:
		return nil, &disk.Locked{Holder: "of this test"}
	}
	f.locked[name] = true
	return &lock{f, name, f.lives}, nil
}

type lock struct {
	fs   *FS
	name string
	life int
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.life == l.fs.lives {
		delete(l.fs.locked, l.name)
	}
	return nil
}

type file struct {
	fs    *FS
	n     *inode
	name  string
	write bool
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.crashed {
		return 0, ErrCrashed
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	k := copy(p, f.n.data[off:])
	if k < len(p) {
		return k, io.EOF
	}
	return k, nil
}

func (f *file) touch(lo, hi int) {
	for s := lo / Sector; s*Sector < hi; s++ {
		f.n.dirty[s] = true
	}
}

func (f *file) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.write {
		return 0, fmt.Errorf("%s is open for reading", f.name)
	}
	lo := len(f.n.data)
	if f.fs.ops+1 == f.fs.CrashAt && len(p) > 0 { // the write may have begun
		k := f.fs.r.IntN(len(p) + 1)
		f.n.data = append(f.n.data, p[:k]...)
		f.touch(lo, lo+k)
	}
	if err := f.fs.begin(OpWrite, f.name); err != nil {
		k := 0
		if !f.fs.crashed && len(p) > 0 {
			k = f.fs.r.IntN(len(p))
			f.n.data = append(f.n.data, p[:k]...)
			f.touch(lo, lo+k)
		}
		return k, err
	}
	f.n.data = append(f.n.data, p...)
	f.touch(lo, lo+len(p))
	return len(p), nil
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.crashed {
		return 0, ErrCrashed
	}
	return int64(len(f.n.data)), nil
}

func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.begin(OpTruncate, f.name); err != nil {
		return err
	}
	if int(size) < len(f.n.data) {
		f.n.data = append([]byte(nil), f.n.data[:size]...)
	} else {
		f.n.data = append(f.n.data, make([]byte, int(size)-len(f.n.data))...)
	}
	f.touch(int(size), max(len(f.n.data), len(f.n.disk)))
	return nil
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.begin(OpSync, f.name); err != nil {
		return err
	}
	f.n.disk = append([]byte(nil), f.n.data...)
	f.n.dirty = map[int]bool{}
	return nil
}

func (f *file) Close() error { return nil }

// Dump lists the files, for a test that failed.
func (f *FS) Dump() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for n, i := range f.files {
		fmt.Fprintf(&b, "%s: %d bytes, %d on the disk\n", n, len(i.data), len(i.disk))
	}
	return b.String()
}
