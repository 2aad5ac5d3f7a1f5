// Package pool computes the parts of a step in other processes: a coordinator gives parts to workers that come and go, and takes the first answer to
// each. What is lost, late, doubled or foreign changes no bit: parts are summed in part order, and a part that is computed twice has the same bits twice.
package pool

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
	"vtpu/stages/wire"
)

// A Cut says what crosses the two edges at the ends of the stages that are moved to workers, and the weights that the workers need.
type Cut struct {
	Layout *stages.Layout
	Store  *weights.Store
	Parts  int
	In     []stages.Slot // what the stages read and stages before them write
	Out    []Gradient
	Extra  []stages.Slot    // what else they write and stages after them read
	Params []*weights.Param // sorted by name
	Rows   []*weights.Param // those of Params that are updated by row

	// InShapes and OutShapes are tensors of which the shapes alone are needed: they travel as whole numbers.
	InShapes, OutShapes []stages.Slot

	// Estimates are those of Params that few elements of which change in a step.
	Estimates []Estimate

	// Gathers: the stages begin with gather. A part then is a token, step and part alone, and what comes back says which examples it holds.
	Gathers bool
	// Ahead is the number of steps that may be under way; 0 is 1. More is only for stages that read no weights.
	Ahead int
	// Marks tell which rows change, to all cuts of a store; nil where there is one cut.
	Marks *Marks
}

func (c *Cut) ahead() int { return max(c.Ahead, 1) }

// Marks are the rows that the last step changed, for several that ask.
type Marks struct {
	mu   sync.Mutex
	step int64
	rows map[*weights.Param][]int32
}

// recent are the rows of p that the step before this one changed.
func (k *Marks) recent(step int64, p *weights.Param) []int32 {
	if k == nil {
		return p.Recent()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rows == nil || k.step != step {
		k.step, k.rows = step, map[*weights.Param][]int32{}
	}
	rows, ok := k.rows[p]
	if !ok {
		rows = p.Recent()
		k.rows[p] = rows
	}
	return rows
}

// Estimate is state that workers need as they need weights.
type Estimate struct {
	*weights.Param
	Changes int // elements that a step changes at most
}

// track makes the store tell which rows change of what travels by row.
func (c *Cut) track() {
	for _, p := range c.Rows {
		p.TrackRows()
	}
	for _, e := range c.Estimates {
		e.TrackRows()
	}
}

// returns are the tensors of a body that a result fills.
func (c *Cut) returns() []stages.Slot {
	slots := slices.Concat(c.Extra, c.OutShapes)
	for _, g := range c.Out {
		slots = append(slots, g.Slot)
		if g.Sparse {
			slots = append(slots, g.IDs)
		}
	}
	return slices.DeleteFunc(slots, stages.Slot.IsData)
}

// Gradient is where the gradient of a parameter is.
type Gradient struct {
	*weights.Param
	Slot   stages.Slot
	Sparse bool
	IDs    stages.Slot
	Scale  float32 // not 0: times this, the gradient is binary16 numbers, and travels as such
	Kept   int     // not 0: at most so many elements are not 0, and these alone travel, with their indices
}

// Sizes of messages in bytes: the largest that occur, heads and metadata included.
type Sizes struct {
	Work, Result, Weights int64
}

// Step is what crosses the link in a step: the parts, their results and the weights, once for all workers.
func (s Sizes) Step(parts int) int64 { return int64(parts)*(s.Work+s.Result) + s.Weights }

func padded(elems int) int64 { return (4*int64(elems) + wire.Align - 1) &^ (wire.Align - 1) }

// chunked adds the heads of the chunks that a bus with the usual largest message cuts n bytes into.
func chunked(n int64) int64 {
	const size = 1<<20 - link.HeadSize
	return n + max((n+size-1)/size, 1)*link.HeadSize
}

// frameSize is the size of a frame with these tensors.
func frameSize(kind wire.Kind, ts []wire.Tensor) int64 {
	var data int64
	for i := range ts {
		data += padded(ts[i].Shape.Len())
		ts[i].Shape.Dims = [tensor.MaxRank]int{} // numbers have a fixed width: the metadata is as long for no data
		if ts[i].Shape.Rank == 0 {
			ts[i].F32, ts[i].I32 = make([]float32, 1), make([]int32, 1)
			data -= padded(1)
		}
	}
	var enc wire.Encoder
	b, err := enc.Encode(&wire.Frame{Kind: kind, Tensors: ts})
	if err != nil {
		panic("pool: " + err.Error()) // the same tensors are sent later
	}
	return int64(len(b)) + data
}

// Sizes computes the sizes from the shapes.
func (c *Cut) Sizes() Sizes {
	var in, out, ws []wire.Tensor
	of := func(s stages.Slot, r wire.Role) wire.Tensor {
		i := c.Layout.Info(s)
		return wire.Tensor{Name: i.Name, Role: r, DType: i.DType, Shape: i.Shape}
	}
	for _, s := range c.In {
		in = append(in, of(s, wire.Value))
	}
	shapes := func(slots []stages.Slot) (ts []wire.Tensor) {
		if len(slots) > 0 {
			ts = append(ts, wire.Tensor{Name: shapesName, DType: tensor.I32, Shape: tensor.Of(c.dims(slots))})
		}
		return ts
	}
	in = append(in, shapes(c.InShapes)...)
	for _, g := range c.Out {
		if g.Sparse {
			out = append(out, of(g.IDs, wire.IDs), of(g.Slot, wire.Rows))
		} else if g.Kept > 0 {
			ids, vs := g.pairs(c.Layout, nil, nil)
			ids.Shape, vs.Shape = tensor.Of(g.Kept), tensor.Of(g.Kept)
			out = append(out, ids, vs)
		} else if t := of(g.Slot, wire.Value); g.Scale != 0 {
			t.DType, t.Shape = tensor.I32, tensor.Of((t.Shape.Len()+1)/2)
			out = append(out, t)
		} else {
			out = append(out, t)
		}
	}
	for _, s := range c.Extra {
		out = append(out, of(s, wire.Value))
	}
	out = append(out, shapes(c.OutShapes)...)
	for _, p := range c.Params {
		if i := slices.IndexFunc(c.Estimates, func(e Estimate) bool { return e.Param == p }); i >= 0 && 2*c.Estimates[i].Changes < p.T.Len() {
			n := tensor.Of(c.Estimates[i].Changes)
			ws = append(ws, wire.Tensor{Name: p.Name, Role: wire.IDs, DType: tensor.I32, Shape: n}, wire.Tensor{Name: p.Name, Role: wire.Rows, Shape: n})
			continue
		}
		ws = append(ws, wire.Tensor{Name: p.Name, DType: p.T.DType, Shape: p.T.Shape})
	}
	return Sizes{chunked(frameSize(wire.Work, in)), chunked(frameSize(wire.Gradients, out)), chunked(frameSize(wire.Weights, ws))}
}

// The kinds of frames between a coordinator and its workers.
const (
	kHello   link.Kind = 1 + iota // worker: who I am, what I have (JSON); repeated, it is the sign of life
	kWelcome                      // coordinator to one worker: you belong to this run
	kRefused                      // coordinator to one worker: why not (JSON)
	kPulse                        // coordinator to all: I am alive
	kEnd                          // coordinator to all: the run has ended
	kWork                         // coordinator: a part
	kResult                       // worker: its gradients
	kFailed                       // worker: why a part can't be computed (JSON)
	kWeights                      // coordinator: weights, or what has changed since a version
	kNeed                         // worker: I have version Version, send what is missing
	kBye                          // worker: I leave
)

// maxControl bounds messages without tensors.
const maxControl = 8 << 10

// limit is the largest body of each kind that can occur in this pipeline; names of tensors are counted apart, they are known.
func (c *Cut) limit() func(link.Kind) int {
	s := c.Sizes()
	more := 4096 // weights: a table may come as ids and rows
	for _, e := range c.Estimates {
		more += int(padded(e.T.Len()))
	}
	for _, p := range c.Params {
		more += 256 + len(p.Name)
		if p.T.Shape.Rank > 0 {
			more += int(padded(p.T.Shape.Dims[0]))
		}
	}
	return func(k link.Kind) int {
		switch k {
		case kWork:
			return int(s.Work)
		case kResult:
			return int(s.Result)
		case kWeights:
			return int(s.Weights) + more
		case kHello, kWelcome, kRefused, kPulse, kEnd, kFailed, kNeed, kBye:
			return maxControl
		}
		return 0
	}
}

// room is a buffer with room for a head, aligned so that tensors lie at multiples of 64.
func room(buf []byte) []byte {
	if cap(buf) < link.HeadSize {
		buf = wire.Buffer(link.HeadSize + 4096)
	}
	return buf[:link.HeadSize]
}

// coder turns parts, results and weights into bytes and back.
type coder struct {
	enc   wire.Encoder
	dec   wire.Decoder
	frame wire.Frame
	half  [][]int32 // gradients in 16 bits, two in a word, the first in the low half
	kept  []pairs   // gradients of which few elements are left
	dims  []int32   // shapes
}

// shapesName is the name of the tensor that holds shapes; no slot is called so.
const shapesName = "shapes of tensors"

// dims is the number of dimensions of slots together.
func (c *Cut) dims(slots []stages.Slot) (n int) {
	for _, s := range slots {
		n += c.Layout.Info(s).Shape.Rank
	}
	return n
}

// shapes appends the shapes of slots to the frame.
func (c *coder) shapes(m *stages.Message, slots []stages.Slot) {
	if len(slots) == 0 {
		return
	}
	c.dims = c.dims[:0]
	for _, s := range slots {
		sh := m.T(s).Shape
		for i := range sh.Rank {
			c.dims = append(c.dims, int32(sh.Dims[i]))
		}
	}
	c.frame.Tensors = append(c.frame.Tensors, wire.Tensor{Name: shapesName, DType: tensor.I32, Shape: tensor.Of(len(c.dims)), I32: c.dims})
}

// readShapes is the way back. ts are the tensors that are left.
func (c *coder) readShapes(m *stages.Message, cut *Cut, slots []stages.Slot, ts []wire.Tensor) error {
	if len(slots) == 0 {
		if len(ts) > 0 {
			return fmt.Errorf("%d tensors too many", len(ts))
		}
		return nil
	}
	if len(ts) != 1 || ts[0].Name != shapesName || len(ts[0].I32) != cut.dims(slots) {
		return fmt.Errorf("the shapes of %d tensors are not there", len(slots))
	}
	dims := ts[0].I32
	for _, s := range slots {
		info := cut.Layout.Info(s)
		sh := info.Shape
		for i := range sh.Rank {
			n := int(dims[i])
			if n < 0 || n > sh.Dims[i] {
				return fmt.Errorf("tensor %s has %d in dimension %d, at most %d is possible", info.Name, n, i, sh.Dims[i])
			}
			sh.Dims[i] = n
		}
		dims = dims[info.Shape.Rank:]
		m.T(s).Resize(sh)
	}
	return nil
}

type pairs struct {
	ids []int32
	vs  []float32
}

// pairs are the indices of elements and the elements.
func (g *Gradient) pairs(l *stages.Layout, ids []int32, vs []float32) (wire.Tensor, wire.Tensor) {
	name := l.Info(g.Slot).Name
	return wire.Tensor{Name: name, Role: wire.IDs, DType: tensor.I32, Shape: tensor.Of(len(ids)), I32: ids},
		wire.Tensor{Name: name, Role: wire.Rows, Shape: tensor.Of(len(vs)), F32: vs}
}

// pick collects the elements of a gradient that are not +0.
func (c *coder) pick(i int, g *Gradient, l *stages.Layout, t *tensor.Tensor) error {
	for len(c.kept) <= i {
		c.kept = append(c.kept, pairs{})
	}
	k := &c.kept[i]
	k.ids, k.vs = slices.Grow(k.ids[:0], g.Kept), slices.Grow(k.vs[:0], g.Kept)
	for at, v := range t.F32 {
		if math.Float32bits(v) != 0 {
			if len(k.ids) == g.Kept {
				return fmt.Errorf("the gradient of %s has more than the %d elements that topk_gradients left: a stage after it wrote others", g.Name, g.Kept)
			}
			k.ids, k.vs = append(k.ids, int32(at)), append(k.vs, v)
		}
	}
	ids, vs := g.pairs(l, k.ids, k.vs)
	c.frame.Tensors = append(c.frame.Tensors, ids, vs)
	return nil
}

// place is the way back.
func (g *Gradient) place(l *stages.Layout, ts []wire.Tensor, dst *tensor.Tensor) error {
	name, n := l.Info(g.Slot).Name, g.T.Len()
	if len(ts) < 2 || ts[0].Name != name || ts[1].Name != name || ts[0].Role != wire.IDs || ts[1].Role != wire.Rows || len(ts[0].I32) != len(ts[1].F32) ||
		ts[1].Shape.Rank != 1 || len(ts[0].I32) > g.Kept {
		return fmt.Errorf("the gradient of %s is not there as at most %d elements", g.Name, g.Kept)
	}
	last := int32(-1)
	for _, id := range ts[0].I32 {
		if id <= last || int(id) >= n {
			return fmt.Errorf("indices of the gradient of %s don't ascend below %d", g.Name, n)
		}
		last = id
	}
	dst.Resize(g.T.Shape)
	clear(dst.F32)
	for i, id := range ts[0].I32 {
		dst.F32[id] = ts[1].F32[i]
	}
	return nil
}

// pack writes a gradient in 16 bits.
func (c *coder) pack(i int, name string, g []float32, scale float32) wire.Tensor {
	for len(c.half) <= i {
		c.half = append(c.half, nil)
	}
	n := (len(g) + 1) / 2
	if len(c.half[i]) != n {
		c.half[i] = make([]int32, n)
	}
	w := c.half[i]
	for k := range w {
		v := uint32(tensor.Half(g[2*k] * scale))
		if 2*k+1 < len(g) {
			v |= uint32(tensor.Half(g[2*k+1]*scale)) << 16
		}
		w[k] = int32(v)
	}
	return wire.Tensor{Name: name, DType: tensor.I32, Shape: tensor.Of(n), I32: w}
}

func unpack(g []float32, w []int32, scale float32) {
	back := 1 / scale
	for i := range g {
		g[i] = tensor.FromHalf(uint16(uint32(w[i/2])>>(16*(i%2)))) * back
	}
}

func (c *coder) append(buf []byte) ([]byte, error) { return c.enc.Append(room(buf), &c.frame) }

func (c *coder) decode(b []byte, max int64) error {
	c.dec.Max = max
	n, err := c.dec.Decode(b, &c.frame)
	if err == nil && n != len(b) {
		err = fmt.Errorf("%d bytes follow the frame", len(b)-n)
	}
	return err
}

// work writes a part.
func (c *coder) work(buf []byte, cut *Cut, m *stages.Message) ([]byte, error) {
	c.frame = wire.Frame{Kind: wire.Work, Meta: wire.Meta{Head: m.Head, Version: m.Step}, Tensors: c.frame.Tensors[:0]}
	for _, s := range cut.In {
		c.frame.Tensors = append(c.frame.Tensors, wire.Of(cut.Layout.Info(s).Name, wire.Value, m.T(s)))
	}
	c.shapes(m, cut.InShapes)
	return c.append(buf)
}

// take copies a tensor of a frame to where the layout wants it.
func take(dst *tensor.Tensor, info stages.SlotInfo, t *wire.Tensor) error {
	if t.Name != info.Name || t.DType != info.DType || t.Shape.Rank != info.Shape.Rank {
		return fmt.Errorf("tensor %.80q %v %v where %s %v %v is due", t.Name, t.DType, t.Shape, info.Name, info.DType, info.Shape)
	}
	for i, n := range t.Shape.Slice() {
		if n > info.Shape.Dims[i] {
			return fmt.Errorf("tensor %s has shape %v, at most %v is possible", info.Name, t.Shape, info.Shape)
		}
	}
	dst.Own()
	dst.Resize(t.Shape)
	copy(dst.F32, t.F32)
	copy(dst.I32, t.I32)
	return nil
}

// readWork fills m from a part.
func (c *coder) readWork(b []byte, cut *Cut, max int64, m *stages.Message) error {
	if err := c.decode(b, max); err != nil {
		return err
	}
	f := &c.frame
	if f.Kind != wire.Work || len(f.Tensors) < len(cut.In) || f.Parts != int32(cut.Parts) || f.Part >= f.Parts || f.Mode != stages.Train {
		return fmt.Errorf("a frame %v with %d tensors for part %d of %d", f.Kind, len(f.Tensors), f.Part, f.Parts)
	}
	for i, s := range cut.In {
		if err := take(m.T(s), cut.Layout.Info(s), &f.Tensors[i]); err != nil {
			return err
		}
	}
	if err := c.readShapes(m, cut, cut.InShapes, f.Tensors[len(cut.In):]); err != nil {
		return err
	}
	m.Head = f.Head
	if cut.Gathers { // the weights are those of the step
		m.Gathered = m.Step
	}
	return nil
}

// result writes the gradients of m.
func (c *coder) result(buf []byte, cut *Cut, m *stages.Message) ([]byte, error) {
	c.frame = wire.Frame{Kind: wire.Gradients, Meta: wire.Meta{Head: m.Head, Version: m.Step}, Tensors: c.frame.Tensors[:0]}
	add := func(s stages.Slot, r wire.Role) {
		c.frame.Tensors = append(c.frame.Tensors, wire.Of(cut.Layout.Info(s).Name, r, m.T(s)))
	}
	for i, g := range cut.Out {
		if g.Sparse {
			add(g.IDs, wire.IDs)
			add(g.Slot, wire.Rows)
		} else if g.Kept > 0 {
			if err := c.pick(i, &g, cut.Layout, m.T(g.Slot)); err != nil {
				return nil, err
			}
		} else if g.Scale != 0 {
			c.frame.Tensors = append(c.frame.Tensors, c.pack(i, cut.Layout.Info(g.Slot).Name, m.T(g.Slot).F32, g.Scale))
		} else {
			add(g.Slot, wire.Value)
		}
	}
	for _, s := range cut.Extra {
		add(s, wire.Value)
	}
	c.shapes(m, cut.OutShapes)
	return c.append(buf)
}

// readResult fills the gradients of m, after everything in the result has been checked against the layout.
func (c *coder) readResult(b []byte, cut *Cut, max int64, m *stages.Message) error {
	if err := c.decode(b, max); err != nil {
		return err
	}
	f := &c.frame
	h := f.Head
	h.Loss, h.Hits, h.Seen = m.Loss, m.Hits, m.Seen
	if cut.Gathers {
		h.Gathered, h.First, h.Rows, h.Count, h.Targets = m.Gathered, m.First, m.Rows, m.Count, m.Targets
		if f.First+f.Rows > f.Count {
			return fmt.Errorf("examples %d to %d of %d", f.First+1, f.First+f.Rows, f.Count)
		}
	}
	if f.Kind != wire.Gradients || h != m.Head {
		return fmt.Errorf("a frame %v for step %d, part %d", f.Kind, f.Step+1, f.Part)
	}
	at := 0
	next := func(s stages.Slot, r wire.Role) (*wire.Tensor, error) {
		if at == len(f.Tensors) || f.Tensors[at].Role != r {
			return nil, fmt.Errorf("%d tensors, or other roles than %s wants", len(f.Tensors), cut.Layout.Info(s).Name)
		}
		at++
		return &f.Tensors[at-1], take(m.T(s), cut.Layout.Info(s), &f.Tensors[at-1])
	}
	for _, g := range cut.Out {
		if g.Sparse {
			ids, err := next(g.IDs, wire.IDs)
			if err != nil {
				return err
			}
			last := int32(-1)
			for _, id := range ids.I32 {
				if id <= last || int(id) >= g.T.Shape.Dims[0] {
					return fmt.Errorf("ids of %s don't ascend within its %d rows", g.Name, g.T.Shape.Dims[0])
				}
				last = id
			}
			rows, err := next(g.Slot, wire.Rows)
			if err != nil {
				return err
			}
			if want := g.T.Shape; rows.Shape.Last() != want.Last() || rows.Shape.Rank != want.Rank {
				return fmt.Errorf("rows of %s have shape %v", g.Name, rows.Shape)
			}
			continue
		}
		if g.Kept > 0 {
			if err := g.place(cut.Layout, f.Tensors[at:], m.T(g.Slot)); err != nil {
				return err
			}
			at += 2
			continue
		}
		if g.Scale != 0 {
			n := g.T.Len()
			if at == len(f.Tensors) || f.Tensors[at].Name != cut.Layout.Info(g.Slot).Name || f.Tensors[at].Role != wire.Value || len(f.Tensors[at].I32) != (n+1)/2 {
				return fmt.Errorf("the gradient of %s is not there in 16 bits", g.Name)
			}
			dst := m.T(g.Slot)
			dst.Resize(g.T.Shape)
			unpack(dst.F32, f.Tensors[at].I32, g.Scale)
			at++
			continue
		}
		t, err := next(g.Slot, wire.Value)
		if err != nil {
			return err
		}
		if t.Shape != g.T.Shape {
			return fmt.Errorf("the gradient of %s has shape %v, want %v", g.Name, t.Shape, g.T.Shape)
		}
	}
	for _, s := range cut.Extra {
		if _, err := next(s, wire.Value); err != nil {
			return err
		}
	}
	if err := c.readShapes(m, cut, cut.OutShapes, f.Tensors[at:]); err != nil {
		return err
	}
	m.Loss, m.Hits, m.Seen = f.Loss, f.Hits, f.Seen
	if cut.Gathers {
		m.First, m.Rows, m.Count, m.Targets = f.First, f.Rows, f.Count, f.Targets
	}
	return nil
}

// A log of changed rows answers what a worker lacks without a look at every row: for each of the last versions, the rows of each table.
type changes struct {
	first int64       // version of log[0]
	log   [][][]int32 // [version-first][param] ids
}

// keepChanges is the number of versions that are kept: a worker further behind gets the table as a whole.
const keepChanges = 64

// weights writes everything that has changed after version base; -1 writes all.
func (c *coder) weights(buf []byte, cut *Cut, base, version int64, log *changes) ([]byte, error) {
	c.frame = wire.Frame{Kind: wire.Weights, Meta: wire.Meta{Version: version, Base: base}, Tensors: c.frame.Tensors[:0]}
	for i, p := range cut.Params {
		switch {
		case base < 0 || p.ChangedAll(base):
			c.frame.Tensors = append(c.frame.Tensors, wire.Of(p.Name, wire.Value, &p.T))
		case p.Tracked():
			ids, ok := log.since(i, base, version)
			if n := p.T.Shape.Dims[0]; !ok || len(ids) >= n || p.T.Len() == n && 2*len(ids) >= n { // an id is as long as an element
				c.frame.Tensors = append(c.frame.Tensors, wire.Of(p.Name, wire.Value, &p.T))
				continue
			}
			if len(ids) == 0 {
				continue
			}
			d := p.T.Shape.Len() / p.T.Shape.Dims[0]
			rows := make([]float32, 0, len(ids)*d)
			for _, id := range ids {
				rows = append(rows, p.T.F32[int(id)*d:int(id)*d+d]...)
			}
			shape := p.T.Shape
			shape.Dims[0] = len(ids)
			c.frame.Tensors = append(c.frame.Tensors,
				wire.Tensor{Name: p.Name, Role: wire.IDs, DType: tensor.I32, Shape: tensor.Of(len(ids)), I32: ids},
				wire.Tensor{Name: p.Name, Role: wire.Rows, Shape: shape, F32: rows})
		}
	}
	return c.append(buf)
}

// since lists the rows of parameter i that changed after version base, ascending without repeats.
func (l *changes) since(i int, base, version int64) ([]int32, bool) {
	if base+1 < l.first {
		return nil, false
	}
	var ids []int32
	for v := base + 1; v <= version; v++ {
		if at := v - l.first; at < 0 || at >= int64(len(l.log)) {
			return nil, false
		} else {
			ids = append(ids, l.log[at][i]...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), true
}

// note keeps the rows that the step to version changed; ids has a slice for each parameter.
func (l *changes) note(version int64, ids [][]int32) {
	if len(l.log) == 0 || version != l.first+int64(len(l.log)) {
		l.first, l.log = version, l.log[:0]
	}
	l.log = append(l.log, ids)
	if n := len(l.log) - keepChanges; n > 0 {
		l.log = append(l.log[:0], l.log[n:]...)
		l.first += int64(n)
	}
}

// readWeights applies weights to the store. have is the version that the store has; it must be at least the base of what arrives. Nothing is written
// before everything has been checked.
func (c *coder) readWeights(b []byte, cut *Cut, max, have int64) error {
	if err := c.decode(b, max); err != nil {
		return err
	}
	f := &c.frame
	if f.Kind != wire.Weights || f.Base > have {
		return fmt.Errorf("a frame %v on version %d, have %d", f.Kind, f.Base, have)
	}
	seen := 0
	for i := range f.Tensors {
		t := &f.Tensors[i]
		p := cut.Store.Get(t.Name)
		if p == nil || !slices.Contains(cut.Params, p) || t.Role != wire.IDs && t.DType != p.T.DType {
			return fmt.Errorf("no weight %.80q %v", t.Name, t.DType)
		}
		switch t.Role {
		case wire.Value:
			if t.Shape != p.T.Shape {
				return fmt.Errorf("weight %s has shape %v, want %v", t.Name, t.Shape, p.T.Shape)
			}
			seen++
		case wire.IDs:
			for _, id := range t.I32 {
				if id < 0 || int(id) >= p.T.Shape.Dims[0] {
					return fmt.Errorf("weight %s has no row %d", t.Name, id)
				}
			}
		case wire.Rows:
			if shape := p.T.Shape; t.Name != f.Tensors[i-1].Name || t.Shape.Rank != shape.Rank || t.Shape.Len()*shape.Dims[0] != shape.Len()*t.Shape.Dims[0] {
				return fmt.Errorf("rows of weight %s have shape %v", t.Name, t.Shape)
			}
		}
	}
	if f.Base < 0 && seen != len(cut.Params) {
		return fmt.Errorf("%d weights, want %d", seen, len(cut.Params))
	}
	for i := range f.Tensors {
		t := &f.Tensors[i]
		p := cut.Store.Get(t.Name)
		switch t.Role {
		case wire.Value:
			copy(p.T.F32, t.F32)
		case wire.Rows:
			d := p.T.Shape.Len() / p.T.Shape.Dims[0]
			for k, id := range f.Tensors[i-1].I32 {
				copy(p.T.F32[int(id)*d:int(id)*d+d], t.F32[k*d:k*d+d])
			}
		}
	}
	return nil
}

// RunID names a run.
type RunID [16]byte

func (r RunID) String() string { return hex.EncodeToString(r[:]) }

// NewRunID draws a name.
func NewRunID() RunID {
	var r RunID
	_, _ = rand.Read(r[:]) // never fails
	return r
}

// ParseRunID reads what String wrote.
func ParseRunID(s string) (r RunID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(r) {
		return r, fmt.Errorf("%q is not the name of a run", s)
	}
	return RunID(b), nil
}

func number() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// subjects are where the messages of a pipeline go.
type subjects struct{ base string }

// Base is what the subjects of a pipeline begin with: runs of another pipeline, seed or data have others.
func Base(identity string) string { return "vtpu." + identity[:16] }

// Of names the workers of some stages of a run, so that no message to or from them can be taken for one of others.
func (r RunID) Of(stages string) RunID {
	sum := sha256.Sum256(append(r[:], stages...))
	return RunID(sum[:len(r)])
}

func (s subjects) hello() string                 { return s.base + ".hello" }
func (s subjects) inbox(w uint64) string         { return fmt.Sprintf("%s.w.%016x", s.base, w) }
func (s subjects) coord(r RunID) string          { return s.base + "." + r.String() + ".c" }
func (s subjects) all(r RunID) string            { return s.base + "." + r.String() + ".all" }
func (s subjects) work(r RunID, w uint64) string { return fmt.Sprintf("%s.%s.w.%016x", s.base, r, w) }

// IsResult says whether a subject is one that workers answer to.
func IsResult(subject string) bool { return strings.HasSuffix(subject, ".c") }

// hello is what a worker says of itself.
type hello struct {
	Stages   string `json:"stages"`
	Build    string `json:"build"`
	ISA      string `json:"isa"`
	Identity string `json:"identity"`
	Credit   int    `json:"credit"`
	Host     string `json:"host"`
}

// end is what a coordinator says last.
type end struct {
	Last bool `json:"last"` // no other run will come on this bus
}

// reason is why something was refused or failed.
type reason struct {
	Msg   string `json:"msg"`
	Fix   string `json:"fix,omitempty"`
	User  bool   `json:"user,omitempty"` // a finding: computing it again elsewhere would end the same way
	Stage string `json:"stage,omitempty"`
}
