package disk

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

const (
	directBuf = 1 << 20 // small writes are gathered
	directMin = 1 << 18 // larger ones are written from where they are
)

// directFile gathers what is written in an aligned buffer; a large write whose memory lies to blocks as it will lie in the file goes past it. The bytes behind the last whole block wait for more, for Sync or for Close.
type directFile struct {
	f   *os.File
	fd  uintptr // of f
	at  int64   // file offset of buf[0], a multiple of block
	vec [2]syscall.Iovec
	buf []byte // aligned; its length is what is not written, or not written for good
}

func createDirect(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_DIRECT, 0o644)
	if err != nil {
		return nil, err // tmpfs and some network file systems refuse O_DIRECT before they make the file
	}
	return &directFile{f: f, fd: f.Fd(), buf: Aligned(directBuf)[:0]}, nil
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
	if n >= directMin && offBlock(p) == int(d.end()&(Block-1)) {
		whole, err := d.past(p)
		if err != nil {
			return 0, err
		}
		p = p[whole:]
	}
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

// past writes what waits and the whole blocks of p in one call, p from where it is, and says how many bytes of p that was.
func (d *directFile) past(p []byte) (int, error) {
	old := len(d.buf)
	first := -old & (Block - 1) // these complete the block that waits
	last := first + (len(p)-first)&^(Block-1)
	d.buf = append(d.buf, p[:first]...)
	d.vec = [2]syscall.Iovec{{}, {Base: &p[first]}}
	d.vec[1].SetLen(last - first)
	v := d.vec[1:]
	if len(d.buf) > 0 {
		d.vec[0].Base = &d.buf[0]
		d.vec[0].SetLen(len(d.buf))
		v = d.vec[:]
	}
	want := len(d.buf) + last - first
	n, err := d.writev(v)
	switch {
	case n == want && err == nil:
	case n >= len(d.buf) && err == nil: // a part: the rest says why, or is written
		_, err = d.f.WriteAt(p[first+n-len(d.buf):last], d.at+int64(n))
	case err == nil:
		if _, err = d.f.WriteAt(d.buf[n:], d.at+int64(n)); err == nil {
			_, err = d.f.WriteAt(p[first:last], d.at+int64(len(d.buf)))
		}
	}
	if err != nil {
		d.buf = d.buf[:old]
		return 0, err
	}
	d.at += int64(want)
	d.buf = d.buf[:0]
	return last, nil
}

// writev writes vectors at d.at. It may write less than all.
func (d *directFile) writev(v []syscall.Iovec) (int, error) {
	for {
		n, _, errno := syscall.Syscall6(syscall.SYS_PWRITEV, d.fd, uintptr(unsafe.Pointer(&v[0])), uintptr(len(v)), uintptr(d.at), uintptr(d.at>>32), 0)
		runtime.KeepAlive(d)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, &os.PathError{Op: "pwritev", Path: d.f.Name(), Err: errno}
		}
	}
}

// Flush writes what waits, padded to a block, and gives the file its size. The last block stays in the buffer: it is written again when it is fuller.
func (d *directFile) Flush() error {
	n := len(d.buf)
	if n == 0 {
		return nil
	}
	whole := (n + Block - 1) &^ (Block - 1)
	clear(d.buf[n:whole])
	if _, err := d.f.WriteAt(d.buf[:whole], d.at); err != nil {
		return err
	}
	if err := d.f.Truncate(d.at + int64(n)); err != nil {
		return err
	}
	done := n &^ (Block - 1)
	d.at += int64(done)
	copy(d.buf[:n-done], d.buf[done:n])
	d.buf = d.buf[:n-done]
	return nil
}

func (d *directFile) end() int64 { return d.at + int64(len(d.buf)) }

func (d *directFile) Size() (int64, error) { return d.end(), nil }

// Truncate is for a write that failed: it keeps whole blocks that are still in the buffer.
func (d *directFile) Truncate(n int64) error {
	if n >= d.at && n <= d.at+int64(len(d.buf)) {
		d.buf = d.buf[:n-d.at]
		return d.f.Truncate(n)
	}
	return d.f.Truncate(n)
}

func (d *directFile) Sync() error {
	if err := d.Flush(); err != nil {
		return err
	}
	return d.f.Sync()
}

func (d *directFile) Close() error {
	err := d.Flush()
	if cerr := d.f.Close(); err == nil {
		err = cerr
	}
	return err
}

// likeHuge asks for large pages.
func likeHuge(b []byte) { _ = syscall.Madvise(b, syscall.MADV_HUGEPAGE) } // it works without, too
