// Package ruler holds loops that press one resource of a core each, and hardly any other: a port, the issue width, loads, stores, the caches, the
// buffers of outstanding misses, the latency of memory. What a ruler loses beside another thread is what that thread takes of the resource.
//
// The loops are assembly of amd64; elsewhere, and with the build tag purego, there are none and New returns ErrNone. One call takes some tens of
// microseconds, since the runtime cannot interrupt assembly: repeat calls in Go.
package ruler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// ErrNone says that this CPU has no rulers.
var ErrNone = errors.New("ruler: the loops are assembly of amd64, and this build has none")

// An Op is a kind of instruction and how often a ruler's iteration has it. The names are those of package ports.
type Op struct {
	Name string
	N    int
}

// A Ruler is a loop and what it presses.
type Ruler struct {
	Name     string // as users write it
	Resource string // what is pressed, in words
	Unit     string // what is counted: an operation, a line, a load
	PerIter  int    // units an iteration
	Body     []Op   // instructions of an iteration, the loop's own included
	Latency  int    // cycles that an iteration takes by its chain of dependences alone, 0 if there is none
	Memory   string // "", l1, l2, lfb, dram: where the loads end
	Parallel int    // independent misses; 0 where Memory is not dram
	Needs    string // flag of /proc/cpuinfo that the loop needs
}

// looping is the loop's own: DECQ and JNZ become one operation.
var looping = Op{"dec/jnz", 1}

// Rulers lists all rulers, in the order in which they are shown.
func Rulers() []Ruler {
	return []Ruler{
		{Name: "clock", Resource: "chain of additions, one cycle each", Unit: "addition", PerIter: 32, Body: []Op{{"add r,r", 32}, looping}, Latency: 32},
		{Name: "clock3", Resource: "chain of multiplications, three cycles each", Unit: "multiplication", PerIter: 32, Body: []Op{{"imul r,r", 32}, looping}, Latency: 96},
		{Name: "p0", Resource: "port 0 (VMOVMSKPS)", Unit: "operation", PerIter: 32, Body: []Op{{"vmovmskps", 32}, looping}, Needs: "avx"},
		{Name: "p1", Resource: "port 1 (64-bit multiplications)", Unit: "operation", PerIter: 32, Body: []Op{{"imul r,r", 32}, looping}},
		{Name: "p5", Resource: "port 5 (VPERMD)", Unit: "operation", PerIter: 32, Body: []Op{{"vpermd ymm", 32}, looping}, Needs: "avx2"},
		{Name: "fma256", Resource: "FMA units, 256 bit", Unit: "FMA", PerIter: 24, Body: []Op{{"vfma ymm", 24}, looping}, Needs: "fma"},
		{Name: "fma512", Resource: "FMA units, 512 bit", Unit: "FMA", PerIter: 32, Body: []Op{{"vfma zmm", 32}, looping}, Needs: "avx512f"},
		{Name: "load", Resource: "load ports", Unit: "load", PerIter: 32, Body: []Op{{"load r", 32}, looping}},
		{Name: "store", Resource: "store ports", Unit: "store", PerIter: 32, Body: []Op{{"store r", 32}, looping}},
		{Name: "issue", Resource: "issue width (zeroings, which need no port)", Unit: "operation", PerIter: 60, Body: []Op{{"zero r", 60}, looping}},
		{Name: "l1", Resource: "level 1 cache (32 KiB of it)", Unit: "line", PerIter: l1Lines, Body: streamOps(l1Lines), Memory: "l1"},
		{Name: "l2", Resource: "level 2 cache (512 KiB of it)", Unit: "line", PerIter: l2Lines, Body: streamOps(l2Lines), Memory: "l2"},
		{Name: "lfb", Resource: "outstanding misses (independent random loads)", Unit: "load", PerIter: 8, Memory: "lfb",
			Body: []Op{{"imul r,r", 8}, {"add r,i", 8}, {"mov r,r", 8}, {"shr r,i", 8}, {"and r,r", 8}, {"add r,m", 8}, looping}, Latency: 8 * 4},
		{Name: "dram", Resource: "latency of memory (one dependent chain)", Unit: "load", PerIter: 4, Memory: "dram", Parallel: 1, Body: []Op{{"load r", 4}, looping}},
	}
}

// Chases are the numbers of independent chains for which there is a loop.
var Chases = []int{1, 2, 3, 4, 6, 8, 10, 12}

// Chase is the ruler of k independent chains of dependent loads; k must be one of Chases.
func Chase(k int) Ruler {
	return Ruler{Name: fmt.Sprintf("chase%d", k), Resource: fmt.Sprintf("latency of memory, %d independent chains", k), Unit: "load", PerIter: 4 * k, Memory: "dram",
		Parallel: k, Body: []Op{{"load r", 4 * k}, looping}}
}

// Find returns the ruler of a name.
func Find(name string) (Ruler, bool) {
	for _, r := range Rulers() {
		if r.Name == name {
			return r, true
		}
	}
	for _, k := range Chases {
		if r := Chase(k); r.Name == name {
			return r, true
		}
	}
	return Ruler{}, false
}

const (
	l1Lines = 32 << 10 / 64
	l2Lines = 512 << 10 / 64
)

// streamOps is one pass over so many lines, 16 a turn of the inner loop.
func streamOps(lines int) []Op {
	turns := lines / 16
	return []Op{{"load r", lines}, {"add r,i", turns}, {"sub/jnz", turns}, {"mov r,r", 2}, looping}
}

// Buffers is the memory that rulers read. It may be shared by rulers that run at the same time.
type Buffers struct {
	chain []uint64 // one cycle through all lines: chain[i] is the index of the next
}

// NewBuffers makes a buffer of so many bytes, rounded up to a power of two, at least 1 MiB. To reach memory it should be several times the last
// cache. It takes about a second for 256 MiB.
func NewBuffers(bytes int) *Buffers {
	n := 1 << 20
	for n < bytes {
		n *= 2
	}
	lines := n / 64
	perm := make([]uint32, lines)
	for i := range perm {
		perm[i] = uint32(i)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := lines - 1; i > 0; i-- { // Sattolo's algorithm: one cycle
		j := rng.IntN(i)
		perm[i], perm[j] = perm[j], perm[i]
	}
	b := &Buffers{chain: hugeWords(n / 8)}
	for i, p := range perm {
		b.chain[8*i] = 8 * uint64(p)
	}
	return b
}

// Bytes is the size of the buffer.
func (b *Buffers) Bytes() int { return 8 * len(b.chain) }

// An Instance is a ruler with what it works on: one thread's.
type Instance struct {
	Ruler
	iters int
	run   func(n int)
	mask  uint64
	seed  uint64
	at    [16]uint64
	small []uint64
}

// Block is one call of the loop, some tens of microseconds. It returns the units done.
func (i *Instance) Block() int {
	i.run(i.iters)
	return i.iters * i.PerIter
}

// target is how long a block should take: long against a look at the clock, short against the runtime's patience.
const target = 30 * time.Microsecond

// New makes an instance and finds how many iterations make a block. salt keeps two instances of one ruler apart. The error is ErrNone, or says
// what the CPU lacks.
func New(r Ruler, b *Buffers, salt uint64, has func(flag string) bool) (*Instance, error) {
	if r.Needs != "" && !has(r.Needs) {
		return nil, fmt.Errorf("ruler %s: this CPU lacks %s", r.Name, r.Needs)
	}
	i := &Instance{Ruler: r, seed: salt*0x9E3779B97F4A7C15 + 1}
	if (r.Memory == "lfb" || r.Memory == "dram") && b == nil {
		return nil, fmt.Errorf("ruler %s: needs buffers", r.Name)
	}
	if b != nil {
		i.mask = uint64(b.Bytes() - 64)
		rng := rand.New(rand.NewPCG(salt, 3))
		for c := range i.at { // anywhere on the one cycle: chains are apart by chance
			i.at[c] = 8 * rng.Uint64N(uint64(len(b.chain)/8))
		}
	}
	if !i.bind(b) {
		return nil, ErrNone
	}
	i.calibrate()
	return i, nil
}

// calibrate doubles the iterations until a block takes a good part of the target, and looks several times: a first look may meet cold memory.
func (i *Instance) calibrate() {
	for n := 1; ; n *= 2 {
		best := time.Hour
		for range 3 {
			t := time.Now()
			i.run(n)
			best = min(best, time.Since(t))
		}
		if best >= target/2 || n >= 1<<20 {
			i.iters = max(1, int(float64(n)*float64(target)/float64(max(best, target/8))))
			return
		}
	}
}
