package tensor

import "syscall"

// madvHugepage is MADV_HUGEPAGE of <linux/mman.h>.
const madvHugepage = 14

// hugeAlign is the size of a huge page on amd64; elsewhere the advice covers whole pages of this size too.
const hugeAlign = 2 << 20

// hugePages asks the system for huge pages in n bytes from p on: a random read of a large table costs one miss instead of several, and the first touch is one
// fault for 512 pages. A system that does not give any is no error.
func hugePages(p uintptr, n int) {
	lo := (p + hugeAlign - 1) &^ (hugeAlign - 1)
	hi := (p + uintptr(n)) &^ (hugeAlign - 1)
	if hi > lo {
		_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, lo, hi-lo, madvHugepage)
	}
}
