package reclog

import "unsafe"

// block is what direct writes want memory, offset and length to be multiples of: the device's block, 4096 at most on what is in use.
const block = 4096

// aligned makes n bytes, rounded up to whole blocks, that begin at a multiple of block.
func aligned(n int) []byte {
	n = (n + block - 1) &^ (block - 1)
	b := make([]byte, n+block-1)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (block - 1))
	return b[off : off+n : off+n]
}

// offBlock is how far behind a multiple of block b begins.
func offBlock(b []byte) int { return int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (block - 1)) }
