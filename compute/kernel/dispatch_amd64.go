//go:build amd64 && !purego

package kernel

import "golang.org/x/sys/cpu"

// level is the instruction set in use: 0 generic, 1 AVX2 with FMA, 2 AVX-512.
var (
	isa   string
	level int
)

var names = [...]string{"generic", "avx2", "avx512"}

func isas() []string {
	n := 1
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		n = 2
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasBMI2 {
			n = 3
		}
	}
	return names[:n]
}

func init() {
	all := isas()
	isa = all[len(all)-1]
	use(isa)
}

func use(name string) {
	for i, n := range names {
		if n == name {
			level = i
		}
	}
}
