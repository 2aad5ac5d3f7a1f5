package tensorfile

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vtpu/stages/tensor"
)

const npyMagic = "\x93NUMPY"

// WriteNpy writes one tensor. Format: NumPy Enhancement Proposal 1, version 1.0.
func WriteNpy(w io.Writer, t *tensor.Tensor) error {
	kind := "<f4"
	if t.DType == tensor.I32 {
		kind = "<i4"
	}
	var dims strings.Builder
	for _, d := range t.Shape.Slice() {
		fmt.Fprintf(&dims, "%d, ", d)
	}
	shape := strings.TrimSuffix(dims.String(), " ")
	if t.Shape.Rank > 1 {
		shape = strings.TrimSuffix(shape, ",")
	}
	head := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", kind, shape)
	for (len(npyMagic)+4+len(head)+1)%64 != 0 {
		head += " "
	}
	bw := bufio.NewWriterSize(w, 1<<16)
	bw.WriteString(npyMagic) // a bufio.Writer keeps its first error for Flush
	bw.Write([]byte{1, 0, byte(len(head) + 1), byte((len(head) + 1) >> 8)})
	bw.WriteString(head + "\n")
	writeValues(bw, t)
	return bw.Flush()
}

// ReadNpy reads a npy file of numbers or truth values, any byte order, C or Fortran order; all become float32 or int32.
func ReadNpy(path string) (tensor.Tensor, error) {
	b, err := ReadAll(path)
	if err != nil {
		return tensor.Tensor{}, err
	}
	t, err := parseNpy(b)
	if err != nil {
		return t, bad(path, "%v", err)
	}
	return t, nil
}

var (
	npyDescr   = regexp.MustCompile(`'descr': *'([<>|=])?([a-z])([0-9]{1,2})'`)
	npyFortran = regexp.MustCompile(`'fortran_order': *(True|False)`)
	npyShape   = regexp.MustCompile(`'shape': *\(([0-9, L]*)\)`)
)

func parseNpy(b []byte) (tensor.Tensor, error) {
	var none tensor.Tensor
	if len(b) < 10 || string(b[:6]) != npyMagic {
		return none, errors.New("not a npy file, or truncated")
	}
	n, at := int(binary.LittleEndian.Uint16(b[8:])), 10
	if b[6] >= 2 {
		if len(b) < 12 {
			return none, errors.New("truncated in the header")
		}
		n, at = int(binary.LittleEndian.Uint32(b[8:])), 12
	}
	if b[6] < 1 || b[6] > 3 {
		return none, fmt.Errorf("npy version %d can't be read", b[6])
	}
	if n > len(b)-at {
		return none, fmt.Errorf("truncated: the header claims %d bytes, %d are left", n, len(b)-at)
	}
	head, data := string(b[at:at+n]), b[at+n:]
	d, f, s := npyDescr.FindStringSubmatch(head), npyFortran.FindStringSubmatch(head), npyShape.FindStringSubmatch(head)
	if d == nil || f == nil || s == nil {
		return none, fmt.Errorf("header %.80q can't be read; want an array of plain numbers", head)
	}
	kind := d[2] + d[3]
	size, _ := strconv.Atoi(d[3]) // two digits
	if !map[string]bool{"f2": true, "f4": true, "f8": true, "i1": true, "i2": true, "i4": true, "i8": true, "u1": true, "u2": true, "u4": true,
		"u8": true, "b1": true}[kind] {
		return none, fmt.Errorf("numbers of the type %q can't be read", kind)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if d[1] == ">" {
		order = binary.BigEndian
	}
	var dims []int64
	for part := range strings.SplitSeq(s[1], ",") {
		part = strings.TrimSuffix(strings.TrimSpace(part), "L")
		if part == "" {
			continue
		}
		x, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return none, fmt.Errorf("shape (%s) can't be read", s[1])
		}
		dims = append(dims, x)
	}
	shape, err := shapeOf(dims, size, int64(len(data)))
	if err != nil {
		return none, fmt.Errorf("%w (truncated?)", err)
	}
	if extra := len(data) - shape.Len()*size; extra != 0 {
		return none, fmt.Errorf("%d bytes follow the array", extra)
	}
	t, err := convert(kind, shape, data, order)
	if err != nil || f[1] == "False" || shape.Rank < 2 {
		return t, err
	}
	return fromFortran(t), nil
}

// fromFortran turns a tensor whose first dimension runs fastest into one whose last does.
func fromFortran(t tensor.Tensor) tensor.Tensor {
	u := tensor.New(t.DType, t.Shape)
	s := t.Shape
	var idx [tensor.MaxRank]int
	for i := range t.Len() {
		at := 0
		for d := range s.Rank {
			at = at*s.Dims[d] + idx[d]
		}
		if t.DType == tensor.I32 {
			u.I32[at] = t.I32[i]
		} else {
			u.F32[at] = t.F32[i]
		}
		for d := 0; d < s.Rank; d++ {
			if idx[d]++; idx[d] < s.Dims[d] {
				break
			}
			idx[d] = 0
		}
	}
	return u
}

// WriteNpz writes entries as numpy.savez does: a zip of npy files, not compressed.
func WriteNpz(w io.Writer, entries []Entry) error {
	z := zip.NewWriter(w)
	for _, e := range sorted(entries) {
		f, err := z.CreateHeader(&zip.FileHeader{Name: e.Name + ".npy", Method: zip.Store, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			return err
		}
		if err := WriteNpy(f, &e.T); err != nil {
			return err
		}
	}
	return z.Close()
}

// maxInflate bounds how far a compressed member may grow beyond its file: deflate can't do more than about 1032.
const maxInflate = 1100

// ReadNpz reads a zip of npy files, compressed or not.
func ReadNpz(path string) ([]Entry, error) {
	f, size, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseNpz(path, f, size)
}

func parseNpz(path string, f io.ReaderAt, size int64) ([]Entry, error) {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return nil, bad(path, "not a npz file, or truncated: %v", err)
	}
	var es []Entry
	seen := map[string]bool{}
	var total uint64
	for _, m := range z.File {
		name, ok := strings.CutSuffix(m.Name, ".npy")
		if !ok {
			return nil, bad(path, "member %q is not a npy file", m.Name)
		}
		if seen[name] {
			return nil, bad(path, "member %q stands twice", m.Name)
		}
		seen[name] = true
		if total += m.UncompressedSize64; m.UncompressedSize64 > uint64(size)*maxInflate || total > uint64(size)*maxInflate {
			return nil, bad(path, "member %q claims %d bytes in a file of %d", m.Name, m.UncompressedSize64, size)
		}
		r, err := m.Open()
		if err != nil {
			return nil, bad(path, "member %q: %v", m.Name, err)
		}
		var b bytes.Buffer
		_, err = io.Copy(&b, io.LimitReader(r, int64(m.UncompressedSize64)+1))
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, bad(path, "member %q: %v", m.Name, err)
		}
		t, err := parseNpy(b.Bytes())
		if err != nil {
			return nil, bad(path, "member %q: %v", m.Name, err)
		}
		es = append(es, Entry{Name: name, T: t})
	}
	return sorted(es), nil
}
