package kernel

// A Tape is a row of kernel calls that are made again and again with the same arguments, as those of a small model for one shape of its data. Of such a call
// the way to the kernel (checks, blocks, the choice of a loop) takes about as long as the kernel, and is walked once.
//
// A method with the name of a kernel puts a call of it at the end, and calls nothing: false says that it can't, because the call is a large one or there is
// no assembly for it. Slices must stay where they are. A tape belongs to the instruction set in use when it was made, and allocates nothing up to its
// capacity.
type Tape struct{ calls []call }

// NewTape has room for n calls.
func NewTape(n int) *Tape { return &Tape{make([]call, 0, n)} }

// Copy is copy(dst, src).
func (t *Tape) Copy(dst, src []float32) bool {
	return len(src) <= tapeElems && t.add(call{do: doCopy, dst: dst[:len(src)], src: src})
}

// tapeElems is the number of elements above which the way to a kernel no longer matters.
const tapeElems = 4096

func (t *Tape) add(c call) bool {
	if len(t.calls) == cap(t.calls) {
		return false
	}
	t.calls = append(t.calls, c)
	return true
}

// Run makes the calls, in their order.
func (t *Tape) Run() {
	for i := range t.calls {
		t.calls[i].run()
	}
}
