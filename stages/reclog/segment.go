package reclog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"vtpu/stages/disk"
	"vtpu/stages/wire"
)

const (
	segExt = ".rec"
	idxExt = ".idx"
)

func segName(seq uint64) string { return fmt.Sprintf("%016d%s", seq, segExt) }

// segments lists the first sequence numbers of a stream's segments, ascending.
func segments(fsys disk.FS, dir string) ([]uint64, error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var segs []uint64
	for _, n := range names { // sorted: so are the numbers, which have a fixed width
		base, ok := strings.CutSuffix(n, segExt)
		if !ok {
			continue
		}
		if seq, err := strconv.ParseUint(base, 10, 64); err == nil && segName(seq) == n {
			segs = append(segs, seq)
		}
	}
	return segs, nil
}

// entry says where the first frame of a step begins.
type entry struct {
	step, off int64
}

// index lists the steps of a segment, ascending.
type index struct {
	steps []entry
	size  int64  // of the segment
	next  uint64 // sequence number after its last frame
	crc   uint32 // of its last header
}

func (x *index) add(step, off int64) {
	if n := len(x.steps); n == 0 || x.steps[n-1].step != step {
		x.steps = append(x.steps, entry{step, off})
	}
}

// find gives the place of the first step that is not below step: one look where steps follow each other without a gap, else a binary search.
func (x *index) find(step int64) (entry, bool) {
	n := len(x.steps)
	if n == 0 || x.steps[n-1].step < step {
		return entry{}, false
	}
	if step <= x.steps[0].step {
		return x.steps[0], true
	}
	if i := step - x.steps[0].step; i < int64(n) && x.steps[i].step == step {
		return x.steps[i], true
	}
	lo, hi := 0, n-1
	for lo < hi {
		if mid := (lo + hi) / 2; x.steps[mid].step < step {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return x.steps[lo], true
}

// The file of an index: 8 bytes of magic, size of the segment, next sequence number, number of steps (8 bytes each), CRC of the last header, CRC of all other bytes of the file (4
// each), then step and offset of each step (8 each); all little-endian.
const idxHead = 40

var idxMagic = [8]byte{'v', 'T', 'P', 'U', 'i', 'd', 'x', 1}

func (x *index) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, idxHead, idxHead+16*len(x.steps))
	copy(b, idxMagic[:])
	le.PutUint64(b[8:], uint64(x.size))
	le.PutUint64(b[16:], x.next)
	le.PutUint64(b[24:], uint64(len(x.steps)))
	le.PutUint32(b[32:], x.crc)
	for _, e := range x.steps {
		b = le.AppendUint64(b, uint64(e.step))
		b = le.AppendUint64(b, uint64(e.off))
	}
	le.PutUint32(b[36:], wire.CRC(b))
	return b
}

var errIndex = errors.New("not the index of this segment")

func decodeIndex(b []byte, size int64) (*index, error) {
	le := binary.LittleEndian
	if len(b) < idxHead || [8]byte(b[:8]) != idxMagic {
		return nil, errIndex
	}
	want := le.Uint32(b[36:])
	le.PutUint32(b[36:], 0)
	if wire.CRC(b) != want || int64(le.Uint64(b[8:])) != size || le.Uint64(b[24:]) != uint64(len(b)-idxHead)/16 || (len(b)-idxHead)%16 != 0 {
		return nil, errIndex
	}
	x := &index{size: size, next: le.Uint64(b[16:]), crc: le.Uint32(b[32:])}
	for b = b[idxHead:]; len(b) > 0; b = b[16:] {
		e := entry{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))}
		if n := len(x.steps); e.off < 0 || e.off > size-wire.HeaderSize || n > 0 && (e.step <= x.steps[n-1].step || e.off <= x.steps[n-1].off) {
			return nil, errIndex
		}
		x.steps = append(x.steps, e)
	}
	return x, nil
}

// readIndex reads the index of a full segment. Any error means: make it anew.
func readIndex(fsys disk.FS, dir string, seq uint64, size int64) (*index, error) {
	f, err := fsys.Open(filepath.Join(dir, strings.TrimSuffix(segName(seq), segExt)+idxExt), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	if n > idxHead+16*(size/wire.HeaderSize) { // more steps than frames
		return nil, errIndex
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	return decodeIndex(b, size)
}

// writeIndex writes the index of a segment that is full, as a whole or not at all. It is no more than a convenience, so it is not synced.
func writeIndex(fsys disk.FS, dir string, seq uint64, x *index) error {
	name := filepath.Join(dir, strings.TrimSuffix(segName(seq), segExt)+idxExt)
	tmp := name + ".tmp"
	_ = fsys.Remove(tmp) // left by a crash
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	if _, err = f.Write(x.encode()); err != nil {
		_ = f.Close() // the first error is the one to tell
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return fsys.Rename(tmp, name)
}
