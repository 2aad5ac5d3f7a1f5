// Package stagetest is the acceptance kit for stages: what a stage promises by its contract is checked, and its gradients are compared with central
// differences in float64. A third party runs it on its own stage; see the example of package stages.
package stagetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"vtpu/stages"
	"vtpu/stages/rng"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// A Case is a stage with a config and inputs. A stage that works on all gradients or parameters (clipping, optimizers, averages) gets some of
// its own making.
type Case struct {
	Name   string          // of the subtest; the stage's if left out
	Stage  string          // registered name; a forward stage or a loss is tested together with its twin
	Config func(cfg any)   // changes the default config, a pointer; see With. nil: required numbers are guessed
	In     []tensor.Tensor // inputs in the order of the contract, the first dimension being examples; nil: made up from the contract
	Facts  map[string]int  // facts of the data that the config names; nil: those of Data, or 6 for each
	Data   *stages.Dataset // for gather stages that read one
	Tokens int             // target tokens in the step; 0 where targets are not tokens
	Std    float64         // of the parameters' random values; 0 is 0.5
	Sparse bool            // stages that work on all gradients: one of these is sparse

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
	data, body   []stages.Slot
	bystanders   []stages.Slot // tensors that the stage knows nothing of
	start        []saved
}

// saved is an entry of the store and what it held at the start.
type saved struct {
	p *weights.Param
	t tensor.Tensor
}

// Want says which gradients a bench asks for.
type Want struct {
	Inputs, Params bool
	Acc            bool // add to what is there
}

// New makes a bench. An error is one of the contract or of the stage's New.
func New(c Case, want Want) (*Bench, error) {
	b := &Bench{Case: c, Def: stages.Find(c.Stage), Store: weights.NewStore()}
	if err := b.configure(); err != nil {
		return nil, err
	}
	shapes := make([]tensor.Shape, len(b.Case.In))
	for i := range shapes {
		shapes[i] = b.Case.In[i].Shape
	}
	var err error
	if b.Bound, err = b.Contract.Bind(b.Case.Facts, shapes); err != nil {
		return nil, err
	}
	for i, p := range b.Bound.In {
		if p.DType != b.Case.In[i].DType {
			return nil, fmt.Errorf("stagetest: input %s is %v, the case gives %v", p.Name, p.DType, b.Case.In[i].DType)
		}
	}
	b.Env = stages.Env{Name: "bench", Seed: 1, Ports: map[string]stages.Binding{}, Inputs: len(shapes), Params: map[string]*stages.ParamBinding{},
		Vars: b.Bound.Vars, Store: b.Store, Data: c.Data, Parts: 1, Steps: 100}
	// They come first, so that the zero Slot of a binding that is not there is one of them.
	for _, add := range []func(stages.SlotInfo) stages.Slot{b.addData, b.addBody} {
		for _, d := range []tensor.DType{tensor.F32, tensor.I32} {
			b.bystanders = append(b.bystanders, add(stages.SlotInfo{Name: "bystander", DType: d, Shape: tensor.Of(16)}))
		}
	}
	for _, p := range b.Bound.In {
		b.Env.Ports[p.Name] = b.port(b.addData, p)
	}
	add := b.addBody
	if b.Def.Room == stages.Gather {
		add = b.addData
	}
	for _, p := range b.Bound.Out {
		b.Env.Ports[p.Name] = b.port(add, p)
	}
	for _, p := range b.Bound.Keep {
		b.Env.Ports[p.Name] = b.port(b.addBody, p)
	}
	for _, p := range b.Bound.Params {
		if b.Env.Params[p.Name], err = b.param("bench."+p.Name, p.Dims); err != nil {
			return nil, err
		}
	}
	if b.Def.Room >= stages.Backward {
		if err := b.everything(); err != nil {
			return nil, err
		}
	}
	if b.fw, err = b.Def.New(b.Env, b.cfg); err != nil {
		return nil, err
	}
	if b.Def.Twin != "" {
		if err := b.twin(want); err != nil {
			return nil, err
		}
	}
	for _, k := range []weights.Kind{weights.Weight, weights.State} {
		for _, p := range b.Store.All(k) {
			b.start = append(b.start, saved{p, clone(&p.T)})
		}
	}
	b.M = b.Layout.NewMessage()
	b.M.Attach(b.Layout.NewBody())
	b.Reset()
	return b, nil
}

// configure makes config, contract and, where the case has none, inputs and facts.
func (b *Bench) configure() error {
	c := &b.Case
	if b.Def == nil {
		return fmt.Errorf("stagetest: no stage %q is registered; import its package", c.Stage)
	}
	for _, d := range stages.Registered() {
		if d.Twin == c.Stage {
			return fmt.Errorf("stagetest: %s is a twin: it is tested with %s", c.Stage, d.Name)
		}
	}
	b.cfg = b.Def.NewConfig()
	if c.Config != nil {
		c.Config(b.cfg)
	} else if key := fill(b.cfg); key != "" {
		return fmt.Errorf("stagetest: %s needs %s: give a Case with a Config", c.Stage, key)
	}
	if err := b.Def.Check(b.cfg); err != nil {
		return err
	}
	if b.Def.Data != nil {
		if c.Data == nil {
			return fmt.Errorf("stagetest: the contract of %s depends on data: give a Case with Data", c.Stage)
		}
		var err error
		if b.Contract, err = b.Def.Data(b.cfg, c.Data, 1); err != nil {
			return err
		}
	} else {
		b.Contract = b.Def.Contract(b.cfg)
	}
	if c.Facts == nil {
		c.Facts = map[string]int{}
		for _, d := range b.Contract.Vars {
			if d.Fact != "" {
				c.Facts[d.Fact] = 6
			}
		}
		if c.Data != nil {
			c.Facts = c.Data.Facts
		}
	}
	if c.In == nil {
		c.In = makeInputs(&b.Contract, c.Facts)
	}
	return nil
}

// fill gives the numbers that a user has to give a value, and returns the first key that it can't guess.
func fill(cfg any) string {
	v := reflect.ValueOf(cfg).Elem()
	for i := range v.NumField() {
		f, tag := v.Field(i), v.Type().Field(i).Tag
		if tag.Get("required") != "true" || !f.IsZero() {
			continue
		}
		switch x := f.Addr().Interface().(type) {
		case *float64:
			*x = 0.1
		case *int:
			*x = 2
		case *stages.Dim:
			*x = stages.N(4)
		default:
			return tag.Get("yaml")
		}
	}
	return ""
}

// makeInputs makes up inputs that fit the contract: 3 examples, other dimensions from the contract or 4. Whole numbers are 0 and 1; floats keep a distance
// from 0, where some stages have a kink.
func makeInputs(k *stages.Contract, facts map[string]int) []tensor.Tensor {
	ports := slices.Clone(k.In)
	if n := len(ports); n > 0 && ports[n-1].Variadic {
		ports = append(ports, ports[n-1])
	}
	var in []tensor.Tensor
	for i, p := range ports {
		var dims []int
		for _, w := range strings.Fields(p.Shape) {
			n, err := strconv.Atoi(w)
			d, set := k.Vars[w]
			switch {
			case err == nil:
				dims = append(dims, n)
			case w == "...":
				dims = append(dims, 3, 2)
			case set && d.Fact != "":
				dims = append(dims, facts[d.Fact])
			case set:
				dims = append(dims, d.N)
			case len(dims) == 0:
				dims = append(dims, 3)
			default:
				dims = append(dims, 4)
			}
		}
		if p.DType == tensor.I32 {
			in = append(in, Ints(uint64(200+i), 0, 2, dims...))
			continue
		}
		t := Random(uint64(200+i), 1, dims...)
		for j, v := range t.F32 {
			t.F32[j] = v + float32(math.Copysign(0.1, float64(v)))
		}
		in = append(in, t)
	}
	return in
}

func (b *Bench) addData(s stages.SlotInfo) stages.Slot {
	b.data = append(b.data, b.Layout.AddData(s))
	return b.data[len(b.data)-1]
}

func (b *Bench) addBody(s stages.SlotInfo) stages.Slot {
	b.body = append(b.body, b.Layout.AddBody(s))
	return b.body[len(b.body)-1]
}

func (b *Bench) port(add func(stages.SlotInfo) stages.Slot, p stages.BoundPort) stages.Binding {
	return stages.Binding{Slot: add(stages.SlotInfo{Name: p.Name, DType: p.DType, Shape: p.Dims}), DType: p.DType, Shape: p.Dims}
}

// param adds a parameter of random values to the store.
func (b *Bench) param(name string, s tensor.Shape) (*stages.ParamBinding, error) {
	w, err := b.Store.Add(name, weights.Weight, tensor.F32, s, weights.Coord{})
	if err != nil {
		return nil, err
	}
	std := b.Case.Std
	if std == 0 {
		std = 0.5
	}
	r := rng.Named(5, strings.TrimPrefix(name, "bench."))
	for i := range w.T.F32 {
		w.T.F32[i] = float32(r.Normal(0, uint32(i)) * std)
	}
	return &stages.ParamBinding{Param: w, Decay: s.Rank > 1}, nil
}

// everything gives a stage parameters and gradients to take care of.
func (b *Bench) everything() error {
	for _, x := range []struct {
		name   string
		shape  tensor.Shape
		sparse bool
	}{
		{"a.bias", tensor.Of(7), false}, {"a.weight", tensor.Of(5, 9), false}, {"b.scalar", tensor.Of(1), false}, {"c.table", tensor.Of(6, 4), true},
	} {
		p, err := b.param(x.name, x.shape)
		if err != nil {
			return err
		}
		p.HasGrad = true
		if x.sparse && b.Case.Sparse {
			x.shape.Dims[0] = 3
			p.Sparse, p.IDs = true, b.addBody(stages.SlotInfo{Name: "ids of d " + x.name, DType: tensor.I32, Shape: tensor.Of(3)})
		}
		p.Grad = b.addBody(stages.SlotInfo{Name: "d " + x.name, DType: tensor.F32, Shape: x.shape})
		b.Env.All = append(b.Env.All, p)
	}
	return nil
}

func clone(t *tensor.Tensor) tensor.Tensor {
	c := tensor.New(t.DType, t.Shape)
	copy(c.F32, t.F32)
	copy(c.I32, t.I32)
	return c
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
		return b.addBody(stages.SlotInfo{Name: "d " + name, DType: tensor.F32, Shape: s})
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
				c.Sparse, c.IDs = true, b.addBody(stages.SlotInfo{Name: "ids of d " + p.Name, DType: tensor.I32, Shape: tensor.Of(n)})
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

// Reset puts inputs, parameters and optimizer state back to the start and fills everything else with NaN.
func (b *Bench) Reset() {
	for _, s := range b.start {
		copy(s.p.T.F32, s.t.F32)
		copy(s.p.T.I32, s.t.I32)
	}
	for _, s := range slices.Concat(b.data, b.body) {
		b.M.T(s).Resize(b.Layout.Info(s).Shape)
		spoil(b.M.T(s))
	}
	rows := 1
	for i, p := range b.Bound.In {
		t := b.M.T(b.Env.Ports[p.Name].Slot)
		copy(t.F32, b.Case.In[i].F32)
		copy(t.I32, b.Case.In[i].I32)
		if i == 0 && t.Shape.Rank > 0 {
			rows = t.Shape.Dims[0]
		}
	}
	b.M.Head = stages.Head{Step: 3, Gathered: 3, Parts: 1, Rows: rows, Count: rows, Targets: b.Case.Tokens}
	b.Store.SetVersion(3)
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
				b.M.T(g.slot).F32[j] = accumulated
			}
		}
	}
	for k, p := range b.Env.All {
		t := b.M.T(p.Grad)
		copy(t.F32, Random(uint64(300+k), 1, t.Len()).F32)
		if p.Sparse {
			copy(b.M.T(p.IDs).I32, []int32{0, 2, 5})
		}
	}
}

// accumulated is what a gradient holds that a twin adds to.
const accumulated = 0.25

// spoil fills a tensor with values that must not be used.
func spoil(t *tensor.Tensor) {
	for i := range t.F32 {
		t.F32[i] = float32(math.NaN())
	}
	for i := range t.I32 {
		t.I32[i] = -1 << 31
	}
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
	m    *stages.Message
	n    int
	err  error
	then func() // called with the message that was sent
}

func (s *sink) Send(m *stages.Message) error {
	s.m = m
	s.n++
	if s.then != nil {
		s.then()
	}
	return s.err
}

func (b *Bench) step(s stages.Stage, o *sink) (err error) {
	if s == nil {
		return errors.New("stagetest: the stage has no twin")
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%T panics on %d examples: %v\n%s", s, b.M.Rows, r, debug.Stack())
		}
	}()
	if err := s.Process(context.Background(), b.M, o); err != nil {
		return err
	}
	if o.n != 1 || o.m != b.M {
		return fmt.Errorf("the stage sent %d messages, want the one that it got", o.n)
	}
	return nil
}

// Forward runs the stage on the bench's message.
func (b *Bench) Forward() error { return b.step(b.fw, new(sink)) }

// Backward runs the twin.
func (b *Bench) Backward() error { return b.step(b.bw, new(sink)) }

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
