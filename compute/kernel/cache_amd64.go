//go:build amd64 && !purego

package kernel

import "unsafe"

// What products are cut to: the data caches of one core, as the CPU tells (cpuid leaf 4, on AMD leaf 0x8000001D), or careful values where it does not.
var l1, l2 = caches()

func caches() (l1, l2 int) {
	l1, l2 = 32<<10, 512<<10
	if max, _, _, _ := cpuid(0, 0); max < 4 {
		return l1, l2
	}
	leaf := uint32(4)
	if a, _, _, _ := cpuid(4, 0); a&31 == 0 {
		if max, _, _, _ := cpuid(0x80000000, 0); max < 0x8000001d {
			return l1, l2
		}
		leaf = 0x8000001d
	}
	for i := uint32(0); i < 8; i++ {
		a, b, c, _ := cpuid(leaf, i)
		kind, level := a&31, a>>5&7
		if kind == 0 {
			break
		}
		if kind == 2 { // instructions
			continue
		}
		size := int(b>>22+1) * int(b>>12&1023+1) * int(b&4095+1) * int(c+1)
		switch {
		case level == 1 && size >= 8<<10:
			l1 = size
		case level == 2 && size >= 64<<10:
			l2 = size
		}
	}
	return l1, l2
}

// roomy says that a core works on 512 bits in two turns, so that beside multiplications there is room for as many loads, and stores, as there are.
// AMD tells (leaf 0x8000001A: a floating-point unit of 256 bits, not of 512).
var roomy = halves()

func halves() bool {
	const leaf = 0x8000001a
	max, _, _, _ := cpuid(0x80000000, 0)
	if max < leaf || max > leaf+0xffff {
		return false
	}
	a, _, _, _ := cpuid(leaf, 0)
	return a&0b1100 == 0b0100
}

// cuts are the depth of a panel of B and the rows of A that products are cut to, by instruction set.
var cuts [3]struct{ depth, height int }

func init() { setCuts() }

// setCuts lets a panel of two registers in a row take two thirds of the first-level cache, and the rows of A a quarter of the second-level cache with
// that depth. Neither changes a bit: an element of C takes k in ascending order whatever the blocks.
func setCuts() {
	for i := 1; i < len(cuts); i++ {
		depth := min(l1*2/3/(4*2*widths[i].lanes)/16*16, maxDepth)
		cuts[i].depth, cuts[i].height = depth, max(l2/4/(4*depth)/128, 1)*128
	}
}

// cut gives the blocks of a large product with AVX-512 for a second-level cache of so many bytes: the depth of a panel of 64 columns, which takes a
// sixth of the cache at most, and the rows of A that take five eighths of it with that depth.
func cut(m, k, l2 int) (depth, height int) {
	depth = min(max(l2/6/(4*maxNR)/16, 1)*16, maxDepth)
	depth = roundUp(even(k, depth), 16)
	height = max(l2*5/8/(4*depth)/groupA, 1) * groupA
	return depth, roundUp(even(m, height), groupA)
}

// cutBeside is cut for gemmBeside: a panel, of which there are two, takes three sixteenths of the cache at most, and the rows of A what the whole cache
// holds. That is more than fits, but rows of A come one after the other, in time from the next cache too, and every block of k costs a walk over C.
func cutBeside(m, k, l2 int) (depth, height int) {
	depth = min(max(l2*3/16/(4*maxNR)/16, 1)*16, maxDepth)
	depth = roundUp(even(k, depth), 16)
	height = max(l2/(4*depth)/groupA, 1) * groupA
	return depth, roundUp(even(m, height), groupA)
}

// cutColumns is the same for TN: the depth, the columns of B that take half of the cache with it, or two thirds where these are all (five sixths on a roomy
// core: packing A twice costs it more), and whether A stays where it is: that is faster as long as a block of k of it, with all that lies between its rows,
// takes three quarters of the cache.
func cutColumns(n, k, lda, l2 int) (depth, wide int, direct bool) {
	depth, _ = cut(1, k, l2)
	if near := l2 * 3 / 4 / (4 * lda) / 16 * 16; near >= min(depth, 192) {
		depth, direct = roundUp(even(k, min(depth, near)), 16), true
	}
	most := l2 * 2 / 3
	if roomy {
		most = l2 * 5 / 6
	}
	if 4*depth*n <= most {
		return depth, n, direct
	}
	wide = max(l2/2/(4*depth)/maxNR, 1) * maxNR
	return depth, roundUp(even(n, wide), maxNR), direct
}

// even cuts n in equal parts of at most so many and returns the size of one.
func even(n, most int) int {
	parts := (n + most - 1) / most
	return (n + parts - 1) / parts
}

// spreads says that kc rows of nr columns, ldb apart, stay in the first-level cache as they are: rows that lie a multiple of a large power of two
// apart fall on the same few sets.
func spreads(kc, ldb, nr int) bool {
	if 4*kc*ldb <= l1/2 { // all of B does
		return true
	}
	stride := 4 * ldb
	apart := min(stride&-stride, 4096) // the power of two in the stride
	lines := max(nr*4/64, 1)
	places := l1 / 64
	if apart > 64*lines {
		places = places * lines * 64 / apart
	}
	return kc*(lines+1) <= places/2
}

// toLine is the number of elements from p to the next cache line.
func toLine(p *float32) int {
	return int(-uintptr(unsafe.Pointer(p))%64) / 4
}
