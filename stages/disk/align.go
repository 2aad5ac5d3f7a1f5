package disk

import "unsafe"

// Block is what direct writes want memory, offset and length to be multiples of: the device's block, 4096 at most on what is in use.
const Block = 4096

// hugePage is the size of a large page of most processors.
const hugePage = 2 << 20

// Aligned makes n bytes, rounded up to whole blocks, that begin at a multiple of block; many of them on large pages where the system has them: the
// device is told of fewer.
func Aligned(n int) []byte {
	to := Block
	if n >= hugePage {
		to = hugePage
	}
	n = (n + Block - 1) &^ (Block - 1)
	b := make([]byte, n+to-1)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & uintptr(to-1))
	b = b[off : off+n : off+n]
	if to == hugePage {
		likeHuge(b)
	}
	return b
}

// offBlock is how far behind a multiple of block b begins.
func offBlock(b []byte) int { return int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Block - 1)) }
