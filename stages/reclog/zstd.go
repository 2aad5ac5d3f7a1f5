package reclog

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Zstd packs the data of frames with zstd (RFC 8878), at the fastest level. It is used by one goroutine.
type Zstd struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// NewZstd makes one. Nothing runs in the background.
func NewZstd() (*Zstd, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<32), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, err
	}
	return &Zstd{enc, dec}, nil
}

// Pack appends src, packed.
func (z *Zstd) Pack(dst, src []byte) []byte { return z.enc.EncodeAll(src, dst) }

// Unpack appends what src was packed from, which must be n bytes; dst must have room for them: nothing is allocated for what src claims.
func (z *Zstd) Unpack(dst, src []byte, n int) ([]byte, error) {
	if cap(dst)-len(dst) < n {
		return nil, fmt.Errorf("room for %d bytes, %d are needed", cap(dst)-len(dst), n)
	}
	return z.dec.DecodeAll(src, dst[:len(dst):len(dst)+n])
}
