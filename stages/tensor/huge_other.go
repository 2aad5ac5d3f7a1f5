//go:build !linux

package tensor

// hugePages does nothing where the system chooses the size of pages by itself.
func hugePages(uintptr, int) {}
