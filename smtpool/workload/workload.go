// Package workload makes loops of compute-bound (D) and memory-bound (S) operations in a given mix, compiled to native code: what two
// hyperthreads do for each other depends on such a mix, and nothing is interpreted while it is measured.
//
// A program is a list of operations that a loop repeats. D operations work on vectors of float64 in registers, S operations on pseudo-random rows of a
// table that is larger than the caches. Compile turns a program into machine code (amd64 on Linux; elsewhere it returns ErrNone), Interpret is its
// meaning in plain Go, for tests.
package workload

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// ErrNone says that programs can't be compiled here.
var ErrNone = errors.New("workload: programs are compiled for amd64 on Linux only, and not with the build tag purego")

// A Kind is a kind of operation.
type Kind uint8

// The operations. acc is one of 12 vector accumulators, row a pseudo-random row of the table, named by the next entry of a list of ids.
const (
	DAdd     Kind = iota // acc += 1
	DMul                 // acc *= 1 - 2^-20
	DSub                 // acc -= 1
	DFMA                 // acc = FMA(1, 1 - 2^-20, acc)
	Gather               // sum += row[0]
	Scatter              // row[1] += 1
	Prefetch             // take an id, and ask for the row of an id further ahead in the list
	Ahead                // ask for the row of an id further ahead in the list
	Chase                // at[k] = next row of chain k: each needs the one before
	kinds
)

var names = [kinds]string{"dadd", "dmul", "dsub", "dfma", "gather", "scatter", "prefetch", "ahead", "chase"}

func (k Kind) String() string { return names[k] }

// Accs is the number of accumulators: two FMA units of four cycles are busy with eight.
const Accs = 12

// MaxChains is the largest number of chains: one register each.
const MaxChains = 8

// An Op is an operation of a program. Arg is the accumulator of a D operation or the chain of a chase.
type Op struct {
	Kind Kind
	Arg  uint8
}

// A Mix says what a program is made of.
type Mix struct {
	N    int     // operations of the loop's body
	D, S float64 // shares of D and of S operations; they are scaled to a sum of 1
	DOps []Kind  // kinds of D operations, taken in turns; nil: all four
	SOps []Kind  // kinds of S operations, taken in turns; nil: gather, scatter, prefetch
	Seed uint64  // order of the operations
}

// Default is the mix of a compute-bound thread; swap D and S for its partner.
var Default = Mix{N: 250, D: 80, S: 20}

// Swap gives the partner of a mix.
func (m Mix) Swap() Mix {
	m.D, m.S = m.S, m.D
	m.Seed++
	return m
}

// String is the mix in words.
func (m Mix) String() string {
	return fmt.Sprintf("D %.0f%% S %.0f%%", 100*m.D/(m.D+m.S), 100*m.S/(m.D+m.S))
}

// A Program is the body of a loop.
type Program struct {
	Ops []Op
	ids int // entries of the list of ids that an iteration uses
}

// New makes the program of a mix. Counts are exact to one operation; the order is a shuffle.
func New(m Mix) (*Program, error) {
	if m.N < 1 || m.N > 1<<12 {
		return nil, fmt.Errorf("workload: %d operations: want 1 to %d", m.N, 1<<12)
	}
	if !(m.D >= 0) || !(m.S >= 0) || !(m.D+m.S > 0) || math.IsInf(m.D+m.S, 0) {
		return nil, fmt.Errorf("workload: shares D %v and S %v: want numbers of at least 0, not both 0", m.D, m.S)
	}
	if m.DOps == nil {
		m.DOps = []Kind{DAdd, DMul, DSub, DFMA}
	}
	if m.SOps == nil {
		m.SOps = []Kind{Gather, Scatter, Prefetch}
	}
	for _, k := range append(append([]Kind{}, m.DOps...), m.SOps...) {
		if k >= Ahead {
			return nil, fmt.Errorf("workload: a mix can't have operation %d", k)
		}
	}
	d := int(math.Round(float64(m.N) * m.D / (m.D + m.S)))
	var ops []Op
	for i := range d {
		ops = append(ops, Op{Kind: m.DOps[i%len(m.DOps)]})
	}
	for i := range m.N - d {
		ops = append(ops, Op{Kind: m.SOps[i%len(m.SOps)]})
	}
	rng := rand.New(rand.NewPCG(m.Seed, 5))
	rng.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
	p := &Program{Ops: ops}
	p.number()
	return p, nil
}

// WithPrefetch is the program with a prefetch before each gather and scatter, for the row that comes so many ids later: what a careful programmer
// does on one thread.
func (p *Program) WithPrefetch() *Program {
	q := &Program{}
	for _, o := range p.Ops {
		if o.Kind == Gather || o.Kind == Scatter {
			q.Ops = append(q.Ops, Op{Kind: Ahead})
		}
		q.Ops = append(q.Ops, o)
	}
	q.number()
	return q
}

// Chains makes a program of one step of each of k chains, then d D operations; k from 0 to MaxChains, not both 0. The steps stand together, so that their
// misses overlap each other, and the D operations after them overlap the misses as far as the core looks ahead.
func Chains(k, d int) (*Program, error) {
	if k < 0 || k > MaxChains || d < 0 || d > 1<<12 || k+d == 0 {
		return nil, fmt.Errorf("workload: %d chains and %d D operations: want at most %d and %d, not both 0", k, d, MaxChains, 1<<12)
	}
	p := &Program{}
	for c := range k {
		p.Ops = append(p.Ops, Op{Chase, uint8(c)})
	}
	for i := range d {
		p.Ops = append(p.Ops, Op{Kind: [...]Kind{DAdd, DMul, DSub, DFMA}[i%4]})
	}
	p.number()
	return p, nil
}

// number gives D operations their accumulators in turns and counts the ids.
func (p *Program) number() {
	acc := 0
	for i := range p.Ops {
		switch k := p.Ops[i].Kind; {
		case k <= DFMA:
			p.Ops[i].Arg = uint8(acc % Accs)
			acc++
		case k < Ahead:
			p.ids++
		}
	}
}

// Count is the number of operations of a kind in the body.
func (p *Program) Count(k Kind) int {
	n := 0
	for _, o := range p.Ops {
		if o.Kind == k {
			n++
		}
	}
	return n
}

// Rows is the number of rows of the table that an iteration touches for the first time: a row that has been asked for ahead of its turn counts once.
func (p *Program) Rows() int {
	if p.ids == 0 {
		return 0
	}
	touched := make([]bool, p.ids)
	at := 0
	for _, o := range p.Ops {
		switch o.Kind {
		case Gather, Scatter:
			touched[at%p.ids] = true
			at++
		case Prefetch:
			touched[(at+ahead)%p.ids] = true
			at++
		case Ahead:
			touched[(at+ahead)%p.ids] = true
		}
	}
	n := 0
	for _, t := range touched {
		if t {
			n++
		}
	}
	return n
}

const (
	listLen = 1 << 14 // ids of a list; it is read again with other rows: row = id XOR pass
	ahead   = 48      // ids that a prefetch looks ahead
	row     = 64      // bytes
)

// A Table is what S operations work on: rows of 64 bytes. It belongs to one thread.
type Table struct {
	words []uint64
	ids   []uint32 // byte offsets of rows
	mask  uint64
}

// NewTable makes a table of so many bytes, rounded up to a power of two, at least 1 MiB.
func NewTable(bytes int, seed uint64) *Table {
	n := 1 << 20
	for n < bytes && n < 1<<31 {
		n *= 2
	}
	t := &Table{words: words(n / 8), ids: make([]uint32, listLen+ahead), mask: uint64(n - row)}
	rng := rand.New(rand.NewPCG(seed, 7))
	lines := n / row
	perm := make([]uint32, lines)
	for i := range perm {
		perm[i] = uint32(i)
	}
	for i := lines - 1; i > 0; i-- { // one cycle through all rows, for chases
		j := rng.IntN(i)
		perm[i], perm[j] = perm[j], perm[i]
	}
	for i, p := range perm {
		t.words[8*i] = 8 * uint64(p)
	}
	for i := range t.ids {
		t.ids[i] = uint32(rng.Uint64()) & uint32(t.mask)
	}
	return t
}

// A State is what a program leaves behind.
type State struct {
	Acc [Accs][8]float64
	Sum uint64
	At  [MaxChains]uint64
}

// Vector is the number of float64 of an accumulator: 8 with AVX-512, else 4.
type Vector int

const shrink = 1 - 1.0/(1<<20)

// Interpret runs n iterations of the program in plain Go: what the compiled loop must equal, bit for bit. first is the place in the list of ids.
func (p *Program) Interpret(n int, s *State, t *Table, v Vector, first int, pass uint64) {
	at := first
	for range n {
		for _, o := range p.Ops {
			acc := s.Acc[o.Arg%Accs][:v]
			switch o.Kind {
			case DAdd:
				for i := range acc {
					acc[i]++
				}
			case DMul:
				for i := range acc {
					acc[i] *= shrink
				}
			case DSub:
				for i := range acc {
					acc[i]--
				}
			case DFMA:
				for i := range acc {
					acc[i] = math.FMA(1, shrink, acc[i])
				}
			case Gather:
				s.Sum += t.words[(uint64(t.ids[at])^pass)/8]
				at++
			case Scatter:
				t.words[(uint64(t.ids[at])^pass)/8+1]++
				at++
			case Prefetch:
				at++
			case Ahead: // changes nothing
			case Chase:
				s.At[o.Arg] = t.words[s.At[o.Arg]]
			}
		}
	}
}
