package kernel

import (
	"syscall"
	"testing"
	"unsafe"
)

const room = 1 << 19 // bytes between two guards

// guards is memory between pages that can't be touched: a kernel that reads or writes beyond a slice is killed.
type guards struct {
	maps [][]float32
	used int
}

func guarded(t *testing.T) place {
	g := &guards{}
	page := syscall.Getpagesize()
	for range 8 {
		m, err := syscall.Mmap(-1, 0, room+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Munmap(m) })
		for _, p := range [][]byte{m[:page], m[page+room:]} {
			if err := syscall.Mprotect(p, syscall.PROT_NONE); err != nil {
				t.Fatal(err)
			}
		}
		g.maps = append(g.maps, unsafe.Slice((*float32)(unsafe.Pointer(&m[page])), room/4))
	}
	return g
}

func (g *guards) reset() { g.used = 0 }

func (g *guards) slice(n int, atEnd bool) []float32 {
	m := g.maps[g.used]
	g.used++
	if atEnd {
		return m[len(m)-n:]
	}
	return m[:n:n]
}
