// Package stages is the contract between vTPU and a stage: the message that walks, what a stage declares about itself, and how it is
// found. It starts no goroutine, reads no YAML and knows no network.
//
// The walk is gather → forward → loss → backward → update → scatter. A stage is one file: a Config, a Spec that registers it, and a
// Process method.
package stages

import (
	"context"
	"fmt"

	"vtpu/stages/disk"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// A Stage does one thing to each message. Process owns in until it sends it; it sends at most one message for each that it gets
// (reduce: one for each step). It must not keep the message, start a goroutine or allocate in a steady state. A stage that holds something to give back
// implements io.Closer; closing twice is fine.
type Stage interface {
	Process(ctx context.Context, in *Message, out Outbox) error
}

// An Outbox takes messages to the next stage. After Send the message belongs to somebody else.
type Outbox interface {
	Send(*Message) error
}

// A Finisher is a gather stage that reads rows which an earlier step may still change. Finish is called when every earlier step has been
// committed, just before the message leaves gather: it reads again the rows that changed after m.Gathered.
type Finisher interface {
	Finish(m *Message) error
}

// Room says in which part of the walk a stage stands.
type Room uint8

// The rooms, in the order of the walk.
const (
	Gather Room = iota
	Compute
	Loss
	Backward
	Update
	Scatter
)

var roomNames = [...]string{"gather", "compute", "loss", "backward", "update", "scatter"}

func (r Room) String() string {
	if int(r) < len(roomNames) {
		return roomNames[r]
	}
	return fmt.Sprintf("room(%d)", uint8(r))
}

// Pipe says which resource a stage uses up.
type Pipe uint8

// S is bound by memory: loads, stores, cache misses. D is bound by arithmetic: FMA ports.
const (
	S Pipe = iota
	D
)

func (p Pipe) String() string {
	if p == S {
		return "S"
	}
	return "D"
}

// Recording is where a stage that records writes to.
type Recording struct {
	Dir   string // run directory
	Run   string // its name
	About []byte // what the recorded streams say of the run (JSON)

	FS       disk.FS // nil: the operating system's
	ReadOnly bool    // nothing is written: what the run has recorded is only read
}

// Binding is a port joined to the message: where its value is and, if somebody upstream learns from it, where its gradient is.
type Binding struct {
	Name  string // of the slot
	Slot  Slot
	DType tensor.DType
	Shape tensor.Shape // the largest that occurs; the tensor in the message has the actual one

	Shared bool // output of gather that no stage changes: it may be a view of the data (tensor.View) instead of a copy

	HasGrad bool // a gradient is wanted (input) or arrives (output)
	Grad    Slot // shape of the value
	Acc     bool // backward twin, input port: add to Grad instead of setting it, another consumer has written it
}

// ParamBinding is a parameter joined to a stage.
type ParamBinding struct {
	*weights.Param

	HasGrad bool // false where frozen, or in a pipeline that does not learn
	Grad    Slot // shape of the parameter; sparse: (n, row) for the n rows in IDs
	Acc     bool // backward twin: add to Grad instead of setting it, another use has written it
	Sparse  bool // gradient is sorted unique row ids and their rows
	IDs     Slot // sparse: (n) int32, ascending

	Decay bool // weight decay makes sense: two dimensions or more
}

// Env is what a stage gets when it is made. All its fields are plain, so that a test can fill them in.
type Env struct {
	Name   string                   // instance name in the pipeline, such as "h0.attention"
	Seed   uint64                   // of the run
	Ports  map[string]Binding       // by port name; a variadic port "x" is x0, x1, ...; a backward twin sees the ports of its forward stage
	Inputs int                      // number of inputs bound, variadic ones counted singly
	Params map[string]*ParamBinding // by the stage's own names
	Vars   map[string]int           // shape variables, such as C and OC
	All    []*ParamBinding          // backward reductions, update and scatter: the parameters in their care, sorted by name
	Store  *weights.Store
	Data   *Dataset // nil without data
	Parts  int      // micro-batches in a step
	Steps  int64    // steps planned for the whole run, for schedules

	// Team shares work out to idle lanes; it may be nil.
	Team *Team

	// Record is for stages that record; nil where nothing is written.
	Record *Recording

	// Aside says that the stage has its turn while the D lanes are at the next step: what it does itself costs less than what it leaves to other threads.
	Aside bool

	// Checkpoint saves the run after the current step, once the pipeline is drained. nil where there is nowhere to save to.
	Checkpoint func()
}
