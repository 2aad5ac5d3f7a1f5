//go:build amd64 && !purego

package kernel

// cpuid runs the instruction of that name.
func cpuid(leaf, sub uint32) (a, b, c, d uint32)
