package stages

import "vtpu/stages/tensor"

// Mode says what a message is for. A stage that behaves differently when it is not training (dropout) looks here.
type Mode uint8

// The modes: Train walks the whole pipeline; Eval ends after the loss; Sample ends before it.
const (
	Train Mode = iota
	Eval
	Sample
)

// Head is the part of a message that every stage may read. It is a value of fixed size.
type Head struct {
	Step     int64 // step of the run, from 0
	Gathered int64 // version of the store (steps committed) when the rows in the message were read
	Part     int32 // micro-batch in the step, from 0
	Parts    int32 // micro-batches in the step
	First    int   // index of this part's first example in the step
	Rows     int   // examples in this part
	Count    int   // examples in the whole step
	Targets  int   // target tokens in the whole step, padding excluded; 0 where targets are not tokens

	Loss float64 // this part's share of the step's mean loss: the sum of a step's parts is the loss
	Hits int64   // predictions of this part that were right, where the loss can tell
	Seen int64   // predictions that Hits is counted over

	Mode Mode
	Skip bool // no update in this step (gradient accumulation holds it back)

	Finite bool // the dense gradients have been looked at, when they were summed: no element is NaN or Inf
}

// Mean is what a sum over n elements of this part's targets is divided by, for a mean over the whole step: the step's target tokens,
// or its examples times the elements of one example.
func (h *Head) Mean(n int, tokens bool) float64 {
	if tokens && h.Targets > 0 {
		return float64(h.Targets)
	}
	if h.Rows == h.Count {
		return float64(max(n, 1))
	}
	if h.Rows == 0 {
		return 1
	}
	return float64(h.Count) * (float64(n) / float64(h.Rows))
}

// A Slot addresses a tensor in a message. The plan hands slots out; a stage finds its own in Env.
type Slot uint32

// bodyBit marks the slots of the body: activations and gradients, which a message has only between forward and update.
const bodyBit Slot = 1 << 31

// A Message is what walks through the pipeline. It has exactly one owner; Outbox.Send gives it away. Everything that a later stage
// needs, activations included, is in it as named tensors (Layout).
type Message struct {
	Head
	data []tensor.Tensor // gather's outputs: made with the message
	body *Body           // nil while the message waits in gather
}

// T is the tensor at s. The plan guarantees that the slot exists where the stage runs.
func (m *Message) T(s Slot) *tensor.Tensor {
	if s&bodyBit == 0 {
		return &m.data[s]
	}
	return &m.body.t[s&^bodyBit]
}

// A Body is the storage of a message's activations and gradients. Bodies are few and change hands; messages are many and small.
type Body struct {
	t     []tensor.Tensor // in use: plain, or those of a form
	form  int             // the number of that form, from 1; 0 is plain
	plain []tensor.Tensor
	forms []form
}

// form is a second set of the tensors of a body, with the same storage, that belongs to certain shapes of the data.
type form struct {
	t    []tensor.Tensor
	data []tensor.Shape
	used bool
}

// Forms gives the body so many forms. Where the data come in a few shapes by turns, as names of different lengths do, the tensors of a form have their shapes
// from the last step with the same data shapes, so that no stage has to give them others.
func (b *Body) Forms(n, data int) {
	b.forms = make([]form, n)
	for i := range b.forms {
		b.forms[i] = form{t: append([]tensor.Tensor(nil), b.plain...), data: make([]tensor.Shape, data)}
	}
}

// Form chooses the body's form for the shapes of the message's data, until Plain, and returns its number. -1: others have taken its place, or there are
// none; the plain tensors stay in use. It must be called before anything is written to the body.
func (m *Message) Form() int {
	b := m.body
	if b == nil || len(b.forms) == 0 || len(m.data) == 0 {
		return -1
	}
	at := uint(0)
	for i := range m.data {
		d := &m.data[i].Shape.Dims
		at += uint(d[0] + d[1] + 5*d[2] + 7*d[3])
	}
	at = at / uint(len(m.data)) % uint(len(b.forms)) // most data have the same dimensions in common
	f := &b.forms[at]
	for i := range m.data {
		if s := &m.data[i].Shape; !f.used {
			f.data[i] = *s
		} else if o := &f.data[i]; s.Dims != o.Dims || s.Rank != o.Rank {
			return -1
		}
	}
	f.used = true
	b.t, b.form = f.t, int(at)+1
	return int(at)
}

// InForm is what Form returned; -1 after Plain.
func (m *Message) InForm() int {
	if m.body == nil {
		return -1
	}
	return m.body.form - 1
}

// Plain ends the use of a form.
func (m *Message) Plain() {
	if b := m.body; b != nil && b.form > 0 {
		b.t, b.form = b.plain, 0
	}
}

// Attach gives the message a body. The message must have none.
func (m *Message) Attach(b *Body) {
	if m.body != nil {
		panic("stages: message has a body already")
	}
	m.body = b
}

// Detach takes the body from the message, or nil.
func (m *Message) Detach() *Body {
	m.Plain()
	b := m.body
	m.body = nil
	return b
}

// SlotInfo describes one tensor of a layout.
type SlotInfo struct {
	Name  string
	DType tensor.DType
	Shape tensor.Shape // the largest that occurs
}

// A Layout names the tensors of a pipeline's messages, in the order of their slots.
type Layout struct {
	Data, Body []SlotInfo

	at   []int // where the float32 tensors of a body begin, in elements; nil: one behind another
	room int   // float32 elements of a body
}

// Overlay lets float32 tensors of a body lie on each other: at has the first element of each slot, room is the end of the last. Slots beyond at, and those
// of other types, have a place of their own.
func (l *Layout) Overlay(at []int, room int) { l.at, l.room = at, room }

// AddData appends a tensor that gather writes.
func (l *Layout) AddData(s SlotInfo) Slot {
	l.Data = append(l.Data, s)
	return Slot(len(l.Data) - 1)
}

// AddBody appends an activation or a gradient.
func (l *Layout) AddBody(s SlotInfo) Slot {
	l.Body = append(l.Body, s)
	return Slot(len(l.Body)-1) | bodyBit
}

// Info is the description of slot s.
func (l *Layout) Info(s Slot) SlotInfo {
	if s&bodyBit == 0 {
		return l.Data[s]
	}
	return l.Body[s&^bodyBit]
}

func bytes(infos []SlotInfo) int64 {
	var n int64
	for _, s := range infos {
		n += 4 * int64(s.Shape.Len())
	}
	return n
}

// DataBytes is the size of one message without its body; BodyBytes is the size of one body.
func (l *Layout) DataBytes() int64 { return bytes(l.Data) }

// BodyBytes is the size of one body in bytes.
func (l *Layout) BodyBytes() int64 {
	if l.at == nil {
		return bytes(l.Body)
	}
	n := 4 * int64(l.room)
	for i, s := range l.Body {
		if i >= len(l.at) || s.DType != tensor.F32 {
			n += 4 * int64(s.Shape.Len())
		}
	}
	return n
}

// BodyTensors is the size of all tensors of a body, each counted by itself.
func (l *Layout) BodyTensors() int64 { return bytes(l.Body) }

func carve(infos []SlotInfo) []tensor.Tensor {
	var a tensor.Arena
	for _, s := range infos {
		a.Reserve(s.DType, s.Shape.Len())
	}
	a.Grow()
	ts := make([]tensor.Tensor, len(infos))
	for i, s := range infos {
		ts[i] = a.New(s.DType, s.Shape)
	}
	return ts
}

// NewMessage makes a message without a body.
func (l *Layout) NewMessage() *Message { return &Message{data: carve(l.Data)} }

// NewBody makes a body.
func (l *Layout) NewBody() *Body {
	if l.at == nil {
		ts := carve(l.Body)
		return &Body{t: ts, plain: ts}
	}
	all := tensor.AlignedF32(l.room)
	ts := make([]tensor.Tensor, len(l.Body))
	for i, s := range l.Body {
		if i >= len(l.at) || s.DType != tensor.F32 {
			ts[i] = tensor.New(s.DType, s.Shape)
			continue
		}
		n := s.Shape.Len()
		ts[i] = tensor.FromF32(s.Shape, all[l.at[i]:l.at[i]+n:l.at[i]+n])
	}
	return &Body{t: ts, plain: ts}
}

// NewBodyOf makes a body that has these tensors alone: the others are empty, and may not be used.
func (l *Layout) NewBodyOf(slots []Slot) *Body {
	infos := make([]SlotInfo, len(slots))
	for i, s := range slots {
		infos[i] = l.Info(s)
	}
	b := &Body{t: make([]tensor.Tensor, len(l.Body))}
	for i, t := range carve(infos) {
		b.t[slots[i].Index()] = t
	}
	return b
}

// Index is the place of the slot in Layout.Data or Layout.Body.
func (s Slot) Index() int { return int(s &^ bodyBit) }

// IsData says whether the slot is that of a tensor which gather writes.
func (s Slot) IsData() bool { return s&bodyBit == 0 }
