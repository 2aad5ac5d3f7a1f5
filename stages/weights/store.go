// Package weights is the store: parameters and optimizer state as named tensors at phext coordinates, with one writer each, a version that
// counts committed steps, and a ledger of the rows that a step changed.
package weights

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math"
	"slices"
	"strings"

	"vtpu/stages/tensor"
)

// Kind says what an entry of the store is.
type Kind uint8

// The kinds.
const (
	Weight Kind = iota // a parameter: covered by weights_sha256
	State              // optimizer state, averages, counters: covered by state_sha256
)

// Param is one entry of the store. Its tensor is written by its writer alone, between the steps that read it.
type Param struct {
	Name  string
	Kind  Kind
	Coord Coord // home; the rows of a table walk from here
	T     tensor.Tensor

	frozen bool
	writer string
	// The row ledger: rows[r >> shift] is the version from which on row r, or another row of the same cell, has its present value. nil until LedgerRows.
	rows  []int64
	shift uint8
	all   int64 // the same for all rows at once

	track  bool
	recent []int32 // rows marked since Recent was called last, where they are tracked
}

// Frozen says that no update may claim the parameter.
func (p *Param) Frozen() bool { return p.frozen }

// Freeze keeps every update away from the parameter.
func (p *Param) Freeze() { p.frozen = true }

// Writer is the name of the stage that may change the parameter, or "".
func (p *Param) Writer() string { return p.writer }

// Claim makes writer the only stage that may change the parameter.
func (p *Param) Claim(writer string) error {
	if p.writer != "" && p.writer != writer {
		return fmt.Errorf("weight %s is updated by %s and by %s; one writer a weight", p.Name, p.writer, writer)
	}
	p.writer = writer
	return nil
}

// maxLedger is the number of cells that a ledger has at most, so that it stays in a cache whatever the size of the table.
const maxLedger = 1 << 15

// LedgerRows starts the row ledger of a parameter whose rows are read ahead. In a table of many rows several share a cell: then Changed may name a row that did
// not change, which costs a reader another look and nothing else. They are neighbours: marks come in the order of the rows, so that they walk through the cells.
func (p *Param) LedgerRows() {
	if p.rows == nil {
		n := p.T.Shape.Dims[0]
		for (n-1)>>p.shift >= maxLedger {
			p.shift++
		}
		p.rows = make([]int64, (n+1<<p.shift-1)>>p.shift)
	}
}

// MarkRows notes that the update towards version v changed these rows.
func (p *Param) MarkRows(ids []int32, v int64) {
	if p.rows == nil {
		return
	}
	for _, id := range ids {
		p.rows[id>>p.shift] = v
	}
	if p.track {
		p.recent = append(p.recent, ids...)
	}
}

// TrackRows keeps the rows that are marked from now on for Recent. Whoever asks for it must call Recent once a step.
func (p *Param) TrackRows() {
	p.LedgerRows()
	p.track = true
}

// Recent lists the rows marked since the last call, in the order of the marks.
func (p *Param) Recent() []int32 {
	r := p.recent
	p.recent = nil
	return r
}

// MarkAll notes that the update towards version v changed every row.
func (p *Param) MarkAll(v int64) { p.all = v }

// Changed says whether row r may have another value than at version since. It never misses a change.
func (p *Param) Changed(r int32, since int64) bool {
	return p.all > since || p.rows != nil && p.rows[r>>p.shift] > since
}

// ErrRoom says that an entry would take the store beyond its room.
var ErrRoom = errors.New("more memory than there is")

// Store holds the entries of a run.
type Store struct {
	// Room is the number of bytes that entries may take together; 0 is no limit. What does not fit is refused before it is made.
	Room int64

	bytes   int64
	byName  map[string]*Param
	sorted  []*Param
	next    Coord
	version int64
}

// NewStore makes an empty store. Coordinates that the caller does not choose start at 1.1.1/1.1.1/1.1.1.
func NewStore() *Store {
	return &Store{byName: map[string]*Param{}, next: Origin()}
}

// Version counts the committed steps.
func (s *Store) Version() int64 { return s.version }

// SetVersion is Commit for a store that was loaded.
func (s *Store) SetVersion(v int64) { s.version = v }

// Commit publishes the step's writes: the version grows by one.
func (s *Store) Commit() { s.version++ }

// Add makes an entry of zeros. at is its home; the zero Coord lets the store choose: each entry gets a scroll of its own, in the order of
// the calls.
func (s *Store) Add(name string, kind Kind, d tensor.DType, shape tensor.Shape, at Coord) (*Param, error) {
	if s.byName[name] != nil {
		return nil, fmt.Errorf("weight %s exists already", name)
	}
	if at == (Coord{}) {
		at = s.next
		for s.At(at) != nil {
			at = bump(at)
		}
		s.next = bump(at)
	} else if p := s.At(at); p != nil {
		return nil, fmt.Errorf("weight %s and weight %s have the same home %s", p.Name, name, at)
	}
	size := 4 * int64(shape.Len())
	if s.Room > 0 && s.bytes+size > s.Room {
		return nil, fmt.Errorf("weight %s of %d bytes, after %d of others: %w", name, size, s.bytes, ErrRoom)
	}
	s.bytes += size
	p := &Param{Name: name, Kind: kind, Coord: at, T: tensor.New(d, shape)}
	s.byName[name] = p
	i, _ := slices.BinarySearchFunc(s.sorted, name, func(p *Param, n string) int { return strings.Compare(p.Name, n) })
	s.sorted = slices.Insert(s.sorted, i, p)
	return p, nil
}

// bump is the home after c: the next scroll, line 1, column 1.
func bump(c Coord) Coord {
	c[9], c[10] = 1, 1
	for i := 8; i >= 0; i-- {
		if c[i]++; c[i] <= MaxDim {
			return c
		}
		c[i] = 1
	}
	return c
}

// At is the entry whose home is c, or nil.
func (s *Store) At(c Coord) *Param {
	for _, p := range s.sorted {
		if p.Coord == c {
			return p
		}
	}
	return nil
}

// Get is the entry of that name, or nil.
func (s *Store) Get(name string) *Param { return s.byName[name] }

// State makes or finds a piece of optimizer state; its name is that of what it belongs to, the stage and the piece:
// "dense.weight/adamw/m".
func (s *Store) State(of, stage, piece string, d tensor.DType, shape tensor.Shape) (*Param, error) {
	name := of + "/" + stage + "/" + piece
	if p := s.byName[name]; p != nil {
		if p.Kind != State || p.T.Shape != shape || p.T.DType != d {
			return nil, fmt.Errorf("state %s is %v %v, want %v %v", name, p.T.DType, p.T.Shape, d, shape)
		}
		return p, nil
	}
	return s.Add(name, State, d, shape, Coord{})
}

// All lists the entries of a kind, sorted by name.
func (s *Store) All(k Kind) []*Param {
	var ps []*Param
	for _, p := range s.sorted {
		if p.Kind == k {
			ps = append(ps, p)
		}
	}
	return ps
}

// Hashes gives weights_sha256, over the parameters sorted by name as little-endian float32 and nothing else, and state_sha256, over the
// optimizer state in the same manner followed by the version as a little-endian uint64.
func (s *Store) Hashes() (weightsSHA, stateSHA string) { return Hashes(s.sorted, s.version) }

// Hashes is Store.Hashes of entries sorted by name, which need not be in a store.
func Hashes(sorted []*Param, version int64) (weightsSHA, stateSHA string) {
	w, st := sha256.New(), sha256.New()
	for _, p := range sorted {
		if p.Kind == Weight {
			write(w, &p.T)
		} else {
			write(st, &p.T)
		}
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(version))
	st.Write(b[:])
	return hex.EncodeToString(w.Sum(nil)), hex.EncodeToString(st.Sum(nil))
}

func write(h hash.Hash, t *tensor.Tensor) {
	var buf [4096]byte
	n := t.Len()
	for i := 0; i < n; {
		k := 0
		for ; k < len(buf) && i < n; k, i = k+4, i+1 {
			if t.DType == tensor.I32 {
				binary.LittleEndian.PutUint32(buf[k:], uint32(t.I32[i]))
			} else {
				binary.LittleEndian.PutUint32(buf[k:], math.Float32bits(t.F32[i]))
			}
		}
		h.Write(buf[:k])
	}
}

// ChangedAll says whether the whole of the parameter has other values than at version since.
func (p *Param) ChangedAll(since int64) bool { return p.all > since }

// Tracked says whether Recent lists the rows that change.
func (p *Param) Tracked() bool { return p.track }
