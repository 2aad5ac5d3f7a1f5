//go:build linux && amd64 && !purego

package workload

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// call jumps to machine code with a pointer in DI. The code keeps R14, BP and SP.
//
//go:noescape
func call(code unsafe.Pointer, a unsafe.Pointer)

// frame is what the code reads and writes; the offsets are known to the emitter.
type frame struct {
	n     uint64         // 0: iterations
	ids   unsafe.Pointer // 8
	table unsafe.Pointer // 16
	pass  uint64         // 24
	sum   uint64         // 32
	_     [24]byte
	at    [MaxChains]uint64 // 64
	one   [8]float64        // 128
	small [8]float64        // 192
	acc   [Accs][8]float64  // 256
}

// A Loop is a compiled program with a table of its own. It is used by one thread at a time.
type Loop struct {
	Program *Program
	code    []byte
	vec     Vector
	f       *frame
	t       *Table
	iters   int
	at      int
	rng     *rand.Rand
}

// Compile makes the loop of a program. has tells the CPU's features: avx512f widens the vectors. Call Close.
func Compile(p *Program, t *Table, has func(flag string) bool) (*Loop, error) {
	if !has("avx2") || !has("fma") {
		return nil, fmt.Errorf("workload: this CPU lacks AVX2 or FMA")
	}
	l := &Loop{Program: p, vec: 4, t: t, f: &frame{}, rng: rand.New(rand.NewPCG(uint64(len(p.Ops)), 11))}
	if has("avx512f") {
		l.vec = 8
	}
	if p.ids > listLen/2 {
		return nil, fmt.Errorf("workload: %d S operations are too many for a list of %d ids", p.ids, listLen)
	}
	e := emitter{wide: l.vec == 8}
	e.program(p)
	var err error
	if l.code, err = executable(e.b); err != nil {
		return nil, fmt.Errorf("workload: the system gives no executable memory: %w", err)
	}
	for i := range l.f.one {
		l.f.one[i], l.f.small[i] = 1, shrink
	}
	for k := range l.f.at {
		l.f.at[k] = 8 * l.rng.Uint64N(uint64(len(t.words)/8))
	}
	l.f.table = unsafe.Pointer(&t.words[0])
	l.calibrate()
	return l, nil
}

// executable copies code to memory that can be executed, and no longer written.
func executable(code []byte) ([]byte, error) {
	m, err := syscall.Mmap(-1, 0, (len(code)+4095)&^4095, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	copy(m, code)
	if err := syscall.Mprotect(m, syscall.PROT_READ|syscall.PROT_EXEC); err != nil {
		_ = syscall.Munmap(m)
		return nil, err
	}
	return m, nil
}

// Close gives the code's memory back.
func (l *Loop) Close() error {
	c := l.code
	l.code = nil
	if c == nil {
		return nil
	}
	return syscall.Munmap(c)
}

// run does n iterations.
func (l *Loop) run(n int) {
	if l.code == nil {
		panic("workload: a closed loop was run")
	}
	if need := n * l.Program.ids; need > 0 {
		if l.at+need > listLen { // the list again, with other rows
			l.at = 0
			l.f.pass = l.rng.Uint64() & l.t.mask
		}
		l.f.ids = unsafe.Pointer(&l.t.ids[l.at])
		l.at += need
	}
	l.f.n = uint64(n)
	call(unsafe.Pointer(&l.code[0]), unsafe.Pointer(l.f))
	runtime.KeepAlive(l)
}

// target is how long a block should take.
const target = 30 * time.Microsecond

func (l *Loop) calibrate() {
	top := 1 << 20
	if l.Program.ids > 0 {
		top = listLen / l.Program.ids
	}
	for n := 1; ; n = min(2*n, top) {
		best := time.Hour
		for range 3 {
			t := time.Now()
			l.run(n)
			best = min(best, time.Since(t))
		}
		if best >= target/2 || n == top {
			l.iters = min(top, max(1, int(float64(n)*float64(target)/float64(max(best, 100)))))
			return
		}
	}
}

// Block runs the loop for some tens of microseconds and returns the iterations done.
func (l *Loop) Block() int {
	l.run(l.iters)
	return l.iters
}

// Run does exactly n iterations; the caller bounds the time.
func (l *Loop) Run(n int) { l.run(n) }

// Vector is the number of float64 of an accumulator.
func (l *Loop) Vector() Vector { return l.vec }

// State is where the loop is.
func (l *Loop) State() State { return State{Acc: l.f.acc, Sum: l.f.sum, At: l.f.at} }

// words makes n words at a cache line, touched; huge pages where the system grants them.
func words(n int) []uint64 {
	const huge = 2 << 20
	all := make([]uint64, n+huge/8)
	skip := int((huge - uintptr(unsafe.Pointer(&all[0]))%huge) % huge / 8)
	w := all[skip : skip+n : skip+n]
	if 8*n >= huge {
		_ = syscall.Madvise(unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), 8*n), 14) // MADV_HUGEPAGE; a refusal leaves small pages
	}
	clear(w)
	return w
}
