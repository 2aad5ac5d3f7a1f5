package reclog

import (
	"os"
	"syscall"
	"unsafe"
)

// Direct writes want memory, offset and length at multiples of the device's block, 4096 at most on what is in use.
const (
	block     = 4096
	directBuf = 1 << 20
)

// directFile gathers what is written in an aligned buffer. The bytes behind the last whole block wait for more, for Sync or for Close.
type directFile struct {
	f   *os.File
	at  int64  // file offset of buf[0], a multiple of block
	buf []byte // aligned; its length is what is not written, or not written for good
}

func createDirect(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_DIRECT, 0o644)
	if err != nil {
		return nil, err // tmpfs and some network file systems refuse O_DIRECT before they make the file
	}
	b := make([]byte, directBuf+block)
	off := int(-uintptr(unsafe.Pointer(&b[0])) & (block - 1))
	return &directFile{f: f, buf: b[off : off : off+directBuf]}, nil
}

func (d *directFile) ReadAt(p []byte, off int64) (int, error) {
	f, err := os.Open(d.f.Name()) // reads need not be aligned this way
	if err != nil {
		return 0, err
	}
	n, err := f.ReadAt(p, off)
	_ = f.Close() // only read
	return n, err
}

func (d *directFile) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), cap(d.buf)-len(d.buf))
		d.buf = append(d.buf, p[:k]...)
		p = p[k:]
		if len(d.buf) == cap(d.buf) {
			if _, err := d.f.WriteAt(d.buf, d.at); err != nil {
				return n - len(p), err
			}
			d.at += int64(len(d.buf))
			d.buf = d.buf[:0]
		}
	}
	return n, nil
}

// flush writes what waits, padded to a block, and gives the file its size. The last block stays in the buffer: it is written again when it is fuller.
func (d *directFile) flush() error {
	n := len(d.buf)
	if n == 0 {
		return nil
	}
	whole := (n + block - 1) &^ (block - 1)
	clear(d.buf[n:whole])
	if _, err := d.f.WriteAt(d.buf[:whole], d.at); err != nil {
		return err
	}
	if err := d.f.Truncate(d.at + int64(n)); err != nil {
		return err
	}
	done := n &^ (block - 1)
	d.at += int64(done)
	copy(d.buf[:n-done], d.buf[done:n])
	d.buf = d.buf[:n-done]
	return nil
}

func (d *directFile) Size() (int64, error) { return d.at + int64(len(d.buf)), nil }

// Truncate is for a write that failed: it keeps whole blocks that are still in the buffer.
func (d *directFile) Truncate(n int64) error {
	if n >= d.at && n <= d.at+int64(len(d.buf)) {
		d.buf = d.buf[:n-d.at]
		return d.f.Truncate(n)
	}
	return d.f.Truncate(n)
}

func (d *directFile) Sync() error {
	if err := d.flush(); err != nil {
		return err
	}
	return d.f.Sync()
}

func (d *directFile) Close() error {
	err := d.flush()
	if cerr := d.f.Close(); err == nil {
		err = cerr
	}
	return err
}
