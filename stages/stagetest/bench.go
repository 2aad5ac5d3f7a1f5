// Package stagetest is the acceptance kit for stages: what a stage promises by its contract is checked, and its gradients are compared with central
// differences in float64. A third party runs it on its own stage; see the example of package stages.
package stagetest

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"vtpu/stages"
	"vtpu/stages/rng"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// A Case is a stage with a config and inputs.
type Case struct {
	Name   string          // of the subtest; the stage's if left out
	Stage  string          // registered name of a forward stage or a loss; its twin is tested with it
	Config func(cfg any)   // changes the default config, a pointer; see With
	In     []tensor.Tensor // inputs in the order of the contract, the first dimension being examples
	Facts  map[string]int  // facts of the data that the config names
	Tokens int             // target tokens in the step; 0 where targets are not tokens
	Std    float64         // of the parameters' random values; 0 is 0.5

	// Reference computes in float64 what the stage does: all outputs in order, or for a loss its mean. Whole numbers come as float64. nil: the stage
	// itself is used for differences, with a wide tolerance.
	Reference func(in [][]float64, p map[string][]float64) [][]float64
	Tol       float64 // of values against the reference, relative to the largest; 0 is 2e-6
	GradTol   float64 // of gradients, relative to the largest of a tensor; 0 is 2e-5 (2e-2 without a reference)
}

// With makes a Config from a function on the config's own type.
func With[C any](f func(*C)) func(any) { return func(c any) { f(c.(*C)) } }

// Random gives a tensor with values from N(0, std²).
func Random(seed uint64, std float64, dims ...int) tensor.Tensor {
	t := tensor.New(tensor.F32, tensor.Of(dims...))
	s := rng.New(seed, 77)
	for i := range t.F32 {
		t.F32[i] = float32(s.Normal(0, uint32(i)) * std)
	}
	return t
}

// Ints gives a tensor with whole numbers in lo..hi-1.
func Ints(seed uint64, lo, hi int, dims ...int) tensor.Tensor {
	t := tensor.New(tensor.I32, tensor.Of(dims...))
	s := rng.New(seed, 78)
	for i := range t.I32 {
		t.I32[i] = int32(lo + s.Intn(0, uint32(i), hi-lo))
	}
	return t
}

// A Bench is a stage on a message of its own: inputs in, outputs and gradients out.
type Bench struct {
	Case     Case
	Def      *stages.Def
	Twin     *stages.Def // nil without one
	Bound    *stages.Bound
	Contract stages.Contract
	Store    *weights.Store
	Env      stages.Env // of the forward stage
	Back     stages.Env // of the twin
	Layout   stages.Layout
	M        *stages.Message

	cfg, twinCfg any
	fw, bw       stages.Stage
}

// Want says which gradients a bench asks for.
type Want struct {
	Inputs, Params bool
	Acc            bool // add to what is there
}

// New makes a bench. An error is one of the contract or of the stage's New.
func New(c Case, want Want) (*Bench, error) {
	b := &Bench{Case: c, Def: stages.Find(c.Stage), Store: weights.NewStore()}
	if b.Def == nil {
		return nil, fmt.Errorf("stagetest: no stage %q is registered", c.Stage)
	}
	if b.Def.Contract == nil {
		return nil, fmt.Errorf("stagetest: the contract of %q depends on data", c.Stage)
	}
	b.cfg = b.Def.NewConfig()
	if c.Config != nil {
		c.Config(b.cfg)
	}
	if err := b.Def.Check(b.cfg); err != nil {
		return nil, err
	}
	b.Contract = b.Def.Contract(b.cfg)
	shapes := make([]tensor.Shape, len(c.In))
	for i := range c.In {
		shapes[i] = c.In[i].Shape
	}
	var err error
	if b.Bound, err = b.Contract.Bind(c.Facts, shapes); err != nil {
		return nil, err
	}
	b.Env = stages.Env{Name: "bench", Seed: 1, Ports: map[string]stages.Binding{}, Inputs: len(c.In), Params: map[string]*stages.ParamBinding{},
		Vars: b.Bound.Vars, Store: b.Store, Parts: 1, Steps: 100}
	for _, p := range b.Bound.In {
		b.Env.Ports[p.Name] = stages.Binding{Slot: b.Layout.AddData(stages.SlotInfo{Name: p.Name, DType: p.DType, Shape: p.Dims}), DType: p.DType, Shape: p.Dims}
	}
	for _, list := range [][]stages.BoundPort{b.Bound.Out, b.Bound.Keep} {
		for _, p := range list {
			b.Env.Ports[p.Name] = stages.Binding{Slot: b.Layout.AddBody(stages.SlotInfo{Name: p.Name, DType: p.DType, Shape: p.Dims}), DType: p.DType, Shape: p.Dims}
		}
	}
	std := c.Std
	if std == 0 {
		std = 0.5
	}
	for _, p := range b.Bound.Params {
		w, err := b.Store.Add("bench."+p.Name, weights.Weight, tensor.F32, p.Dims, weights.Coord{})
		if err != nil {
			return nil, err
		}
		s := rng.Named(5, p.Name)
		for i := range w.T.F32 {
			w.T.F32[i] = float32(s.Normal(0, uint32(i)) * std)
		}
		b.Env.Params[p.Name] = &stages.ParamBinding{Param: w}
	}
	if b.fw, err = b.Def.New(b.Env, b.cfg); err != nil {
		return nil, err
	}
	if b.Def.Twin != "" {
		if err := b.twin(want); err != nil {
			return nil, err
		}
	}
	b.M = b.Layout.NewMessage()
	b.M.Attach(b.Layout.NewBody())
	b.Reset()
	return b, nil
}

// twin binds the gradients that are wanted.
func (b *Bench) twin(want Want) error {
	if b.Twin = stages.Find(b.Def.Twin); b.Twin == nil {
		return fmt.Errorf("stagetest: the twin %q is not registered; import its package", b.Def.Twin)
	}
	b.twinCfg = b.Twin.NewConfig()
	stages.CopyConfig(b.twinCfg, b.cfg)
	b.Back = b.Env
	b.Back.Ports = maps.Clone(b.Env.Ports)
	b.Back.Params = map[string]*stages.ParamBinding{}
	grad := func(name string, s tensor.Shape) stages.Slot {
		return b.Layout.AddBody(stages.SlotInfo{Name: "d " + name, DType: tensor.F32, Shape: s})
	}
	for _, p := range b.Bound.Out {
		x := b.Back.Ports[p.Name]
		if p.DType == tensor.F32 && !p.NoGrad {
			x.HasGrad, x.Grad = true, grad(p.Name, p.Dims)
		}
		b.Back.Ports[p.Name] = x
	}
	for _, p := range b.Bound.In {
		x := b.Back.Ports[p.Name]
		if want.Inputs && p.DType == tensor.F32 && !p.NoGrad {
			x.HasGrad, x.Acc, x.Grad = true, want.Acc, grad(p.Name, p.Dims)
		}
		b.Back.Ports[p.Name] = x
	}
	for _, p := range b.Bound.Params {
		c := *b.Env.Params[p.Name]
		if want.Params && !p.Frozen {
			c.HasGrad, c.Acc = true, want.Acc
			shape := p.Dims
			if p.Sparse && !want.Acc { // a sparse gradient has one use, so nothing is added to it
				n := 0
				for _, in := range b.Bound.In {
					if in.DType == tensor.I32 {
						n += in.Dims.Len()
					}
				}
				n = min(n, shape.Dims[0])
				c.Sparse, c.IDs = true, b.Layout.AddBody(stages.SlotInfo{Name: "ids of " + p.Name, DType: tensor.I32, Shape: tensor.Of(n)})
				shape.Dims[0] = n
			}
			c.Grad = grad(p.Name, shape)
		}
		b.Back.Params[p.Name] = &c
	}
	var err error
	b.bw, err = b.Twin.New(b.Back, b.twinCfg)
	return err
}

// Reset puts the inputs back and fills everything else with NaN.
func (b *Bench) Reset() {
	nan := float32(math.NaN())
	for i, info := range b.Layout.Body {
		t := b.M.T(b.slotOfBody(i))
		t.Resize(info.Shape)
		for j := range t.F32 {
			t.F32[j] = nan
		}
		for j := range t.I32 {
			t.I32[j] = -1 << 31
		}
	}
	rows := 1
	for i, p := range b.Bound.In {
		t := b.M.T(b.Env.Ports[p.Name].Slot)
		t.Resize(b.Case.In[i].Shape)
		copy(t.F32, b.Case.In[i].F32)
		copy(t.I32, b.Case.In[i].I32)
		if i == 0 && t.Shape.Rank > 0 {
			rows = t.Shape.Dims[0]
		}
	}
	b.M.Head = stages.Head{Step: 3, Gathered: 3, Parts: 1, Rows: rows, Count: rows, Targets: b.Case.Tokens}
	// Gradients that arrive, and what accumulation adds to.
	for k, p := range b.Bound.Out {
		if x := b.Back.Ports[p.Name]; x.HasGrad {
			t := b.M.T(x.Grad)
			copy(t.F32, Random(uint64(100+k), 1, t.Len()).F32)
		}
	}
	for _, g := range b.grads() {
		if g.acc {
			for j := range b.M.T(g.slot).F32 {
				b.M.T(g.slot).F32[j] = 0.25
			}
		}
	}
}

// slotOfBody is the slot of body tensor i, through the layout's own numbering.
func (b *Bench) slotOfBody(i int) stages.Slot {
	var l stages.Layout
	var s stages.Slot
	for range i + 1 {
		s = l.AddBody(stages.SlotInfo{})
	}
	return s
}

// gradient is one that a twin makes.
type gradient struct {
	name  string
	input int // index of the input, or -1
	slot  stages.Slot
	acc   bool
	bind  *stages.ParamBinding
}

func (b *Bench) grads() []gradient {
	var gs []gradient
	for i, p := range b.Bound.In {
		if x := b.Back.Ports[p.Name]; x.HasGrad {
			gs = append(gs, gradient{p.Name, i, x.Grad, x.Acc, nil})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Back.Params)) {
		if p := b.Back.Params[name]; p.HasGrad {
			gs = append(gs, gradient{name, -1, p.Grad, p.Acc, p})
		}
	}
	return gs
}

// sink takes what a stage sends.
type sink struct {
	m *stages.Message
	n int
}

func (s *sink) Send(m *stages.Message) error {
	s.m = m
	s.n++
	return nil
}

func (b *Bench) step(s stages.Stage) error {
	var o sink
	if err := s.Process(context.Background(), b.M, &o); err != nil {
		return err
	}
	if o.n != 1 || o.m != b.M {
		return fmt.Errorf("the stage sent %d messages, want the one that it got", o.n)
	}
	return nil
}

// Forward runs the stage; Backward runs its twin.
func (b *Bench) Forward() error { return b.step(b.fw) }

// Backward runs the twin.
func (b *Bench) Backward() error { return b.step(b.bw) }

// Out is the value of a port.
func (b *Bench) Out(port string) *tensor.Tensor { return b.M.T(b.Env.Ports[port].Slot) }

// Grad is the gradient of an input or a parameter; a sparse one is spread over its table.
func (b *Bench) Grad(name string) []float32 {
	for _, g := range b.grads() {
		if g.name != name {
			continue
		}
		t := b.M.T(g.slot)
		if g.bind == nil || !g.bind.Sparse {
			return t.F32
		}
		full := make([]float32, g.bind.T.Len())
		d := g.bind.T.Shape.Last()
		for r, id := range b.M.T(g.bind.IDs).I32 {
			copy(full[int(id)*d:int(id)*d+d], t.F32[r*d:r*d+d])
		}
		return full
	}
	return nil
}
