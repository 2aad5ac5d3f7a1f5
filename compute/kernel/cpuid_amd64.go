//go:build amd64 && !purego

package kernel

// cpuid runs the instruction of that name.
func cpuid(leaf, sub uint32) (a, b, c, d uint32)

// dividing says that a root of 64 bytes takes the divider not much longer than the steps that could take its place take the multipliers: 10 cycles on Zen 4, where
// these have one operation of 64 bytes a cycle, 18 or so on Intel's cores with two of them. It changes the speed alone.
var dividing = amd()

func amd() bool {
	_, b, c, d := cpuid(0, 0)
	return b == 0x68747541 && d == 0x69746e65 && c == 0x444d4163 // AuthenticAMD
}
