package smtpool

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Counters count events of one thread.
type Counters struct {
	events []Event
	fds    []int
}

// OpenCounters starts to count events of the calling thread, which the goroutine must hold. The error wraps ErrNoPMU where the system has no
// such counter, or does not let this process have it. Call Close.
func OpenCounters(events []Event) (*Counters, error) {
	c := &Counters{events: events}
	for _, e := range events {
		attr := unix.PerfEventAttr{Type: e.Type, Config: e.Config, Read_format: unix.PERF_FORMAT_TOTAL_TIME_ENABLED | unix.PERF_FORMAT_TOTAL_TIME_RUNNING,
			Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}
		attr.Size = uint32(unsafe.Sizeof(attr))
		fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("%w: %s: %w", ErrNoPMU, e.Name, err)
		}
		c.fds = append(c.fds, fd)
	}
	return c, nil
}

// Read returns the counts since OpenCounters.
func (c *Counters) Read() ([]Count, error) {
	var out []Count
	for i, fd := range c.fds {
		var b [24]byte
		if n, err := unix.Read(fd, b[:]); err != nil || n != len(b) {
			return nil, fmt.Errorf("smtpool: read counter %s: %d bytes, %w", c.events[i].Name, n, err)
		}
		v, on, ran := binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:]), binary.NativeEndian.Uint64(b[16:])
		k := Count{Name: c.events[i].Name, Value: v, Share: 1}
		if on > 0 {
			k.Share = float64(ran) / float64(on)
		}
		if ran > 0 && ran < on {
			k.Value = uint64(float64(v) / k.Share)
		}
		out = append(out, k)
	}
	return out, nil
}

// Close ends the counting.
func (c *Counters) Close() {
	for _, fd := range c.fds {
		_ = unix.Close(fd)
	}
	c.fds = nil
}
