package ruler

import (
	"syscall"
	"unsafe"
)

const hugePage = 2 << 20

// hugeWords makes n words, all of them touched, that begin at a cache line. Larger ones ask the system for huge pages, so that a random load
// misses the caches and not the TLB too; whether the system grants them is its own choice.
func hugeWords(n int) []uint64 {
	extra := 8
	if 8*n >= hugePage {
		extra = hugePage / 8
	}
	all := make([]uint64, n+extra)
	at := uintptr(unsafe.Pointer(&all[0]))
	align := uintptr(8 * extra)
	skip := int((align - at%align) % align / 8)
	w := all[skip : skip+n : skip+n]
	if extra > 8 {
		_ = syscall.Madvise(unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), 8*n/hugePage*hugePage), 14) // MADV_HUGEPAGE; a refusal leaves small pages
	}
	for i := range w {
		w[i] = 0
	}
	return w
}
