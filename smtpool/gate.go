package smtpool

import "sync/atomic"

// pausesPerLook is how often PAUSE is executed between two looks: the sibling gets the ports meanwhile, and the line is not hammered.
const pausesPerLook = 4

// A Gate lets one goroutine wait for another: it looks a bounded number of times, telling the CPU that it only waits, and then parks, so that
// neither a hyperthread nor a CPU is taken for long by waiting. One side calls Open, the other Pass, in turns.
type Gate struct {
	looks int
	state atomic.Uint32
	wake  chan struct{}
}

const (
	gateShut   = iota
	gateOpen   // Open came first
	gateParked // Pass sleeps
)

// NewGate makes a closed gate. looks is the number of looks before Pass parks; use 0 where the two sides may share a CPU.
func NewGate(looks int) *Gate { return &Gate{looks: looks, wake: make(chan struct{}, 1)} }

// Open lets one Pass through. It must not be called again before that.
func (g *Gate) Open() {
	if g.state.Swap(gateOpen) == gateParked {
		g.wake <- struct{}{}
	}
}

// Pass waits until the gate is open and shuts it again.
func (g *Gate) Pass() {
	for range g.looks {
		if g.state.Load() == gateOpen {
			g.state.Store(gateShut)
			return
		}
		Pause(pausesPerLook)
	}
	if !g.state.CompareAndSwap(gateShut, gateParked) { // it has been opened
		g.state.Store(gateShut)
		return
	}
	<-g.wake
	g.state.Store(gateShut)
}
