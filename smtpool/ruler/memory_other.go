//go:build !linux

package ruler

// hugeWords makes n words.
func hugeWords(n int) []uint64 { return make([]uint64, n) }
