package tensorfile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"

	"vtpu/stages/tensor"
)

// ReadIdx reads an idx file, plain or gzip; where there is no file of that name, the one with .gz at its end: 00 00 type rank, then the dimensions and the values, big endian. Format: yann.lecun.com/exdb/mnist.
func ReadIdx(path string) (tensor.Tensor, error) {
	if _, err := os.Stat(path); os.IsNotExist(err) {
		if _, err := os.Stat(path + ".gz"); err == nil {
			path += ".gz"
		}
	}
	b, err := ReadAll(path)
	if err != nil {
		return tensor.Tensor{}, err
	}
	return parseIdx(path, b)
}

func parseIdx(path string, b []byte) (tensor.Tensor, error) {
	var none tensor.Tensor
	if len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return none, bad(path, "not a gzip file: %v", err)
		}
		limit := int64(len(b)) * maxInflate
		if b, err = io.ReadAll(io.LimitReader(z, limit)); err != nil {
			return none, bad(path, "broken gzip file (truncated?): %v", err)
		}
	}
	if len(b) < 4 || b[0] != 0 || b[1] != 0 {
		return none, bad(path, "not an idx file")
	}
	kind, size := "", 0
	switch b[2] {
	case 0x08:
		kind, size = "u1", 1
	case 0x09:
		kind, size = "i1", 1
	case 0x0b:
		kind, size = "i2", 2
	case 0x0c:
		kind, size = "i4", 4
	case 0x0d:
		kind, size = "f4", 4
	case 0x0e:
		kind, size = "f8", 8
	default:
		return none, bad(path, "idx type %#x can't be read", b[2])
	}
	rank := int(b[3])
	if len(b) < 4+4*rank {
		return none, bad(path, "truncated in the header")
	}
	var dims []int64
	for i := range rank {
		dims = append(dims, int64(binary.BigEndian.Uint32(b[4+4*i:])))
	}
	data := b[4+4*rank:]
	s, err := shapeOf(dims, size, int64(len(data)))
	if err != nil {
		return none, bad(path, "%v (truncated?)", err)
	}
	if extra := len(data) - s.Len()*size; extra != 0 {
		return none, bad(path, "%d bytes follow the values", extra)
	}
	t, err := convert(kind, s, data, binary.BigEndian)
	if err != nil {
		return none, bad(path, "%v", err)
	}
	return t, nil
}
