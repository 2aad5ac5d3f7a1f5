package stagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// Run checks stages, given as cases or by name alone: Run(t, "clip_norm"). By name, a stage has its default config and inputs that are made up
// from its contract.
//
// It checks that everything declared is written and nothing else is touched; that the message belongs to nobody after Send; that the same input
// gives the same bytes, with this and with another instance; that fewer examples than planned, and none, work; that a cancelled context and a
// failing outbox end Process; that closing twice is fine; that a step allocates nothing; values against the reference; and the gradients of the twin
// against central differences.
func Run[S string | Case](t *testing.T, subjects ...S) {
	t.Helper()
	for _, s := range subjects {
		c, is := any(s).(Case)
		if !is {
			c.Stage = any(s).(string)
		}
		if c.Name == "" {
			c.Name = c.Stage
		}
		t.Run(c.Name, func(t *testing.T) { c.run(t) })
		// By name, a stage for all gradients is tried with a sparse one too; it may refuse that.
		if d := stages.Find(c.Stage); !is && d != nil && d.Room >= stages.Backward && d.Contract != nil {
			c.Sparse = true
			t.Run(c.Name+" sparse", func(t *testing.T) {
				if _, err := New(c, Want{}); err != nil {
					t.Skipf("no sparse gradients: %v", err)
				}
				c.run(t)
			})
		}
	}
}

func (c Case) run(t *testing.T) {
	if _, err := New(c, Want{Inputs: true, Params: true}); err != nil {
		t.Fatal(err)
	}
	for _, k := range c.checks() {
		t.Run(k.name, func(t *testing.T) { k.f(t) })
	}
}

// A reporter hears what is wrong. *testing.T is one.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// check is one promise of a stage.
type check struct {
	name string
	f    func(reporter)
}

func (c Case) checks() []check {
	cs := []check{{"contract", c.contract}, {"reads", c.reads}, {"ownership", c.ownership}, {"repeats", c.repeats}, {"modes", c.modes},
		{"rows", c.rows}, {"parts", c.parts}, {"finish", c.finish}, {"ends", c.ends}, {"allocations", c.allocations}, {"values", c.values}}
	if d := stages.Find(c.Stage); d != nil && d.Twin != "" {
		for _, w := range wants {
			cs = append(cs, check{fmt.Sprintf("gradient/inputs=%v,params=%v,acc=%v", w.Inputs, w.Params, w.Acc), func(t reporter) { c.gradients(t, w) }})
		}
	}
	return cs
}

func (c Case) bench(t reporter, w Want) *Bench {
	t.Helper()
	b, err := New(c, w)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return b
}

// full asks for all gradients, wants are the combinations that are tried.
var (
	full  = Want{Inputs: true, Params: true}
	wants = []Want{full, {Inputs: true, Params: true, Acc: true}, {Inputs: true}, {Params: true}}
)

func ok(t reporter, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// fixed are the tensors that a stage must leave alone, by what they are: its own of the forward half, and of its twin.
func (b *Bench) fixed(twin bool) map[string]string {
	m := map[string]string{}
	for _, p := range b.Bound.In {
		if twin || !slices.Contains(b.Contract.Mutates, p.Name) {
			m["input "+p.Name] = bitsOf(b.Out(p.Name))
		}
	}
	for i, s := range b.bystanders {
		m[fmt.Sprintf("a tensor of other stages (%d)", i)] = bitsOf(b.M.T(s))
	}
	if twin {
		for _, p := range b.Bound.Out {
			m["output "+p.Name] = bitsOf(b.Out(p.Name)) // its gradient may serve as scratch: the twin is the last to read that
		}
	}
	for name, p := range b.Env.Params {
		if p.Writer() == "" {
			m["parameter "+name+", which it has not claimed,"] = bitsOf(&p.T)
		}
	}
	for _, p := range b.Env.All {
		if p.Writer() == "" {
			m["parameter "+p.Name+", which it has not claimed,"] = bitsOf(&p.T)
		}
		if b.Contract.Grads != stages.GradWrite {
			m["the gradient of "+p.Name] = bitsOf(b.M.T(p.Grad))
		}
	}
	return m
}

func same(t reporter, before, after map[string]string) {
	t.Helper()
	for k, v := range after {
		if before[k] != v {
			t.Errorf("%s was changed", k)
		}
	}
}

// written: no NaN was left.
func written(t reporter, what string, x *tensor.Tensor) {
	t.Helper()
	for i, v := range x.F32 {
		if v != v {
			t.Errorf("%s: element %d was not written, or is NaN", what, i)
			return
		}
	}
	for i, v := range x.I32 {
		if v == -1<<31 {
			t.Errorf("%s: element %d was not written", what, i)
			return
		}
	}
}

// contract: every declared output and gradient is written, and nothing else.
func (c Case) contract(t reporter) {
	t.Helper()
	b := c.bench(t, full)
	before := b.fixed(false)
	ok(t, b.Forward())
	same(t, before, b.fixed(false))
	for _, p := range b.Bound.Out {
		o := b.Out(p.Name)
		written(t, "output "+p.Name, o)
		if o.Shape != p.Dims && b.Def.Room != stages.Gather {
			t.Errorf("output %s has the shape %v, want %v", p.Name, o.Shape, p.Dims)
		}
		if o.DType != p.DType || o.Shape.Rank != p.Dims.Rank || o.Len() != o.Shape.Len() {
			t.Errorf("output %s is %v %v with %d elements, want %v %v", p.Name, o.DType, o.Shape, o.Len(), p.DType, p.Dims)
		}
	}
	if b.Def.Room == stages.Loss && !(b.M.Loss-b.M.Loss == 0) {
		t.Errorf("the loss is %v", b.M.Loss)
	}
	for _, p := range b.Env.All {
		written(t, "the gradient of "+p.Name, b.M.T(p.Grad))
		written(t, "parameter "+p.Name, &p.T)
	}
	if b.bw == nil {
		return
	}
	for _, w := range wants {
		b = c.bench(t, w)
		ok(t, b.Forward())
		before = b.fixed(true)
		ok(t, b.Backward())
		same(t, before, b.fixed(true))
		for _, g := range b.grads() {
			b.gradient(t, g)
		}
	}
}

// gradient looks at the form of a gradient.
func (b *Bench) gradient(t reporter, g gradient) {
	t.Helper()
	x := b.M.T(g.slot)
	written(t, "gradient of "+g.name, x)
	if want := b.shapeOf(g); x.Shape != want {
		t.Errorf("the gradient of %s has the shape %v, want %v", g.name, x.Shape, want)
	}
	if g.bind == nil || !g.bind.Sparse {
		return
	}
	ids := b.M.T(g.bind.IDs).I32
	for i, id := range ids {
		if id < 0 || int(id) >= g.bind.T.Shape.Dims[0] || i > 0 && id <= ids[i-1] {
			t.Errorf("the ids of the gradient of %s are %v, want rows of the table in ascending order", g.name, ids)
			return
		}
	}
}

// shapeOf is the shape that a gradient has to have: that of its value, or one row for each id.
func (b *Bench) shapeOf(g gradient) tensor.Shape {
	if g.input >= 0 {
		return b.Out(g.name).Shape
	}
	s := g.bind.T.Shape
	if g.bind.Sparse {
		s.Dims[0] = len(b.M.T(g.bind.IDs).I32)
	}
	return s
}

// reads: the twin reads no value that its contract leaves out.
func (c Case) reads(t reporter) {
	t.Helper()
	b := c.bench(t, full)
	if b.bw == nil {
		return
	}
	want := b.both(t)
	b.Reset()
	ok(t, b.Forward())
	kept := b.Twin.Contract(b.twinCfg).Reads
	for _, list := range [][]stages.BoundPort{b.Bound.In, b.Bound.Out, b.Bound.Keep} {
		for _, p := range list {
			name := p.Name
			for _, v := range b.Contract.In {
				if v.Variadic && len(name) > len(v.Name) && name[:len(v.Name)] == v.Name {
					name = v.Name
				}
			}
			if p.DType == tensor.F32 && !slices.Contains(kept, name) && !slices.Contains(kept, p.Name) {
				spoil(b.Out(p.Name))
			}
		}
	}
	ok(t, b.Backward())
	if b.gradients() != want.gradients {
		t.Errorf("%s reads values of ports that are not among its Reads %v", b.Twin.Name, kept)
	}
}

func bitsOf(t *tensor.Tensor) string {
	b := make([]byte, 0, 4*t.Len()+16)
	b = fmt.Appendf(b, "%v", t.Shape)
	for _, v := range t.F32 {
		u := math.Float32bits(v)
		b = append(b, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
	}
	for _, v := range t.I32 {
		u := uint32(v)
		b = append(b, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
	}
	return string(b)
}

// results are the bytes that a forward and a backward step leave.
type results struct{ head, outputs, gradients, store string }

func (b *Bench) results() results {
	r := results{head: fmt.Sprint(b.M.Head), gradients: b.gradients()}
	for _, p := range b.Bound.Out {
		r.outputs += bitsOf(b.Out(p.Name))
	}
	for _, s := range b.start {
		r.store += bitsOf(&s.p.T)
	}
	return r
}

func (b *Bench) gradients() (s string) {
	for _, g := range b.grads() {
		s += bitsOf(b.M.T(g.slot))
		if g.bind != nil && g.bind.Sparse {
			s += bitsOf(b.M.T(g.bind.IDs))
		}
	}
	for _, p := range b.Env.All {
		s += bitsOf(b.M.T(p.Grad))
		if p.Sparse {
			s += bitsOf(b.M.T(p.IDs))
		}
	}
	return s
}

func (b *Bench) both(t reporter) results {
	t.Helper()
	ok(t, b.Forward())
	if b.bw != nil {
		ok(t, b.Backward())
	}
	return b.results()
}

// mangle does to a message what its next owner may do.
func (b *Bench) mangle() {
	for _, s := range slices.Concat(b.data, b.body) {
		x := b.M.T(s)
		for j := range x.F32 {
			x.F32[j] = float32(math.Inf(1))
		}
		for j := range x.I32 {
			x.I32[j] = 1<<31 - 1
		}
	}
	b.M.Head = stages.Head{Step: 99, Gathered: 98, Part: 1, Parts: 2, Rows: 1, Count: 2, Loss: -1, Hits: -1, Seen: -1}
}

// ownership: after Send the stage lets go of the message; what it needs later it has not left there.
func (c Case) ownership(t reporter) {
	t.Helper()
	b := c.bench(t, full)
	want := b.both(t)
	look := func() string {
		s := fmt.Sprint(b.M.Head)
		for _, x := range slices.Concat(b.data, b.body) {
			s += bitsOf(b.M.T(x))
		}
		return s
	}
	for _, s := range []stages.Stage{b.fw, b.bw} {
		if s == nil {
			continue
		}
		b.Reset()
		if s == b.bw {
			ok(t, b.Forward())
		}
		var sent string
		o := &sink{then: func() {
			b.mangle()
			sent = look()
		}}
		ok(t, b.step(s, o))
		if look() != sent {
			t.Errorf("%T changed the message after Send", s)
		}
	}
	b.Reset()
	if b.both(t) != want {
		t.Errorf("the same input gave other bytes the second time: something was kept from a message that was given away, or outside of the store")
	}
}

// repeats: the same input gives the same bytes, from the same instance and from another.
func (c Case) repeats(t reporter) {
	t.Helper()
	b := c.bench(t, full)
	first := b.both(t)
	b.Reset()
	if b.both(t) != first {
		t.Errorf("the same input gave other bytes the second time")
	}
	if c.bench(t, full).both(t) != first {
		t.Errorf("another instance gave other bytes")
	}
}

// modes: compute works in evaluation and sampling too, a loss in evaluation.
func (c Case) modes(t reporter) {
	t.Helper()
	b := c.bench(t, Want{})
	if b.Def.Room != stages.Compute && b.Def.Room != stages.Loss {
		return
	}
	for _, mode := range []stages.Mode{stages.Eval, stages.Sample} {
		if mode == stages.Sample && b.Def.Room == stages.Loss {
			continue
		}
		b.Reset()
		b.M.Mode = mode
		ok(t, b.Forward())
		for _, p := range b.Bound.Out {
			written(t, "without training, output "+p.Name, b.Out(p.Name))
		}
	}
}

// common is the number of examples, where all inputs have them as their first dimension.
func (b *Bench) common() (n int, ok bool) {
	for i, in := range b.Case.In {
		if in.Shape.Rank == 0 || i > 0 && in.Shape.Dims[0] != n {
			return 0, false
		}
		n = in.Shape.Dims[0]
	}
	return n, len(b.Case.In) > 0
}

// slice is the part of a tensor with examples lo..hi-1.
func slice(t *tensor.Tensor, lo, hi int) tensor.Tensor {
	s := t.Shape
	s.Dims[0] = hi - lo
	r := tensor.New(t.DType, s)
	per := t.Len() / max(t.Shape.Dims[0], 1)
	if t.DType == tensor.I32 {
		copy(r.I32, t.I32[lo*per:hi*per])
	} else {
		copy(r.F32, t.F32[lo*per:hi*per])
	}
	return r
}

// part makes the message of a bench one of examples lo..hi-1 of its case.
func (b *Bench) part(lo, hi int) {
	b.Reset()
	n := b.M.Rows
	for i, p := range b.Bound.In {
		part := slice(&b.Case.In[i], lo, hi)
		x := b.Out(p.Name)
		x.Resize(part.Shape)
		copy(x.F32, part.F32)
		copy(x.I32, part.I32)
	}
	b.M.First, b.M.Rows = lo, hi-lo
	for _, p := range b.Bound.Out { // the gradient that arrives has the shape of the output
		if x := b.Back.Ports[p.Name]; x.HasGrad && p.Dims.Rank > 0 && p.Dims.Dims[0] == n {
			g := b.M.T(x.Grad)
			part := slice(g, lo, hi)
			g.Resize(part.Shape)
			copy(g.F32, part.F32)
		}
	}
}

// rows: a message with fewer examples than planned gives what it gives where it is planned for so few; one without any works.
func (c Case) rows(t reporter) {
	t.Helper()
	b := c.bench(t, full)
	n, comparable := b.common()
	if !comparable || n == 0 {
		return
	}
	for _, rows := range []int{n - 1, 0} {
		if rows == 0 && b.Def.Room > stages.Loss {
			continue // a part may be empty, a step is not
		}
		b.part(0, rows)
		got := b.both(t)
		for _, p := range b.Bound.Out {
			if s := b.Out(p.Name).Shape; s.Rank > 0 && p.Dims.Dims[0] == n && s.Dims[0] != rows {
				t.Errorf("with %d examples output %s has the shape %v", rows, p.Name, s)
			}
			written(t, fmt.Sprintf("with %d examples, output %s", rows, p.Name), b.Out(p.Name))
		}
		for _, g := range b.grads() {
			x := b.M.T(g.slot)
			if want := b.shapeOf(g); x.Shape != want {
				t.Errorf("with %d examples the gradient of %s has the shape %v, want %v", rows, g.name, x.Shape, want)
			}
			written(t, fmt.Sprintf("with %d examples, the gradient of %s", rows, g.name), x)
			if rows == 0 && g.input < 0 && slices.ContainsFunc(x.F32, func(v float32) bool { return v != 0 }) {
				t.Errorf("without examples the gradient of %s is not 0", g.name)
			}
		}
		if rows == 0 {
			continue
		}
		small := b.Case
		small.In = nil
		for i := range b.Case.In {
			small.In = append(small.In, slice(&b.Case.In[i], 0, rows))
		}
		s, err := New(small, full)
		if err != nil {
			continue // the contract fixes the number
		}
		s.part(0, rows)
		s.M.Count = n
		for _, p := range s.Bound.Out {
			if x := b.Back.Ports[p.Name]; x.HasGrad {
				copy(s.M.T(x.Grad).F32, b.M.T(x.Grad).F32)
			}
		}
		if s.both(t) != got {
			t.Errorf("%d examples in a message for %d give other bytes than in a message for %d", rows, n, rows)
		}
	}
}

// parts: the losses of a step's parts sum to the loss of the step, on top of what the head has already; so do hits, and the gradients are the same.
func (c Case) parts(t reporter) {
	t.Helper()
	b := c.bench(t, Want{Inputs: true})
	n, comparable := b.common()
	if b.Def.Room != stages.Loss || !comparable || n < 2 {
		return
	}
	b.M.Mode = stages.Eval
	b.both(t)
	grads := map[string][]float32{}
	head := b.M.Head
	for _, g := range b.grads() {
		grads[g.name] = slices.Clone(b.Grad(g.name))
	}
	loss, hits, seen := 10.0, int64(10), int64(20)
	at := map[string]int{}
	for i, cut := range [][2]int{{0, n/2 + 1}, {n/2 + 1, n}} {
		b.part(cut[0], cut[1])
		b.M.Mode, b.M.Part, b.M.Parts = stages.Eval, int32(i), 2
		b.M.Loss, b.M.Hits, b.M.Seen = loss, hits, seen
		b.both(t)
		loss, hits, seen = b.M.Loss, b.M.Hits, b.M.Seen
		for _, g := range b.grads() {
			part := b.Grad(g.name)
			all := grads[g.name][at[g.name]:]
			at[g.name] += len(part)
			for j, v := range part {
				if d := math.Abs(float64(v - all[j])); !(d <= 1e-6*math.Abs(float64(all[j]))) {
					t.Errorf("gradient of %s: element %d of part %d is %g, in the step as a whole it is %g: use Head.Mean", g.name, j, i, v, all[j])
					break
				}
			}
		}
	}
	if d := math.Abs(loss - 10 - head.Loss); !(d <= 1e-5*math.Max(1, math.Abs(head.Loss))) {
		t.Errorf("the parts add %g to the head's loss, the step as a whole %g: use Head.Mean and add", loss-10, head.Loss)
	}
	if hits-10 != head.Hits || seen-20 != head.Seen {
		t.Errorf("the parts add %d of %d hits, the step as a whole %d of %d", hits-10, seen-20, head.Hits, head.Seen)
	}
}

// finish: a Finisher brings a message up to date with parameters that changed after it was gathered, and with nothing else.
func (c Case) finish(t reporter) {
	t.Helper()
	b := c.bench(t, full)
	f, is := b.fw.(stages.Finisher)
	if !is {
		return
	}
	ok(t, b.Forward())
	before := b.results()
	ok(t, f.Finish(b.M))
	if b.results() != before {
		t.Errorf("Finish changed a message although no parameter had changed")
	}
	for _, p := range b.Env.Params {
		for i := range p.T.F32 {
			p.T.F32[i]++
		}
		p.MarkAll(b.M.Gathered + 1)
	}
	ok(t, f.Finish(b.M))
	got := b.results().outputs
	ok(t, b.Forward())
	if b.results().outputs != got {
		t.Errorf("Finish left other values than gathering again would read")
	}
}

// ends: a cancelled context and an outbox that fails end Process; closing twice is fine.
func (c Case) ends(t reporter) {
	t.Helper()
	b := c.bench(t, full)
	failed := errors.New("the outbox is closed")
	for _, s := range []stages.Stage{b.fw, b.bw} {
		if s == nil {
			continue
		}
		start := func() {
			b.Reset()
			if s == b.bw {
				ok(t, b.Forward())
			}
		}
		start()
		if err := s.Process(context.Background(), b.M, &sink{err: failed}); !errors.Is(err, failed) {
			t.Errorf("%T: Send failed with %q, Process returned %v", s, failed, err)
		}
		start()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		var o sink
		done := make(chan error, 1)
		go func() { done <- s.Process(ctx, b.M, &o) }()
		select {
		case err := <-done:
			if err == nil && o.n != 1 {
				t.Errorf("%T: with a cancelled context Process neither failed nor sent", s)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%T: Process hangs with a cancelled context", s)
		}
		if cl, is := s.(io.Closer); is {
			for range 2 {
				if err := cl.Close(); err != nil {
					t.Errorf("%T: close: %v", s, err)
				}
			}
		}
	}
}

// allocations: none in a steady state.
func (c Case) allocations(t reporter) {
	t.Helper()
	b := c.bench(t, full)
	for _, s := range []stages.Stage{b.fw, b.bw} {
		if s == nil {
			continue
		}
		var box stages.Outbox = new(sink)
		ctx := context.Background()
		head := b.M.Head
		step := func() {
			b.M.Head = head
			if err := s.Process(ctx, b.M, box); err != nil {
				t.Fatalf("%v", err)
			}
		}
		step()
		if n := testing.AllocsPerRun(10, step); n != 0 {
			t.Errorf("%v allocations in a step of %T", n, s)
		}
	}
}

func (b *Bench) inputs() [][]float64 {
	var in [][]float64
	for i := range b.Case.In {
		var v []float64
		for _, x := range b.Case.In[i].F32 {
			v = append(v, float64(x))
		}
		for _, x := range b.Case.In[i].I32 {
			v = append(v, float64(x))
		}
		in = append(in, v)
	}
	return in
}

func (b *Bench) params() map[string][]float64 {
	m := map[string][]float64{}
	for name, p := range b.Env.Params {
		for _, x := range p.T.F32 {
			m[name] = append(m[name], float64(x))
		}
	}
	return m
}

// values: the outputs agree with the reference.
func (c Case) values(t reporter) {
	t.Helper()
	if c.Reference == nil {
		return
	}
	tol := c.Tol
	if tol == 0 {
		tol = 2e-6
	}
	b := c.bench(t, Want{})
	ok(t, b.Forward())
	want := c.Reference(b.inputs(), b.params())
	if n := max(len(b.Bound.Out), 1); len(want) != n || b.Def.Room == stages.Loss && len(want[0]) != 1 {
		t.Fatalf("the reference returns %d outputs, want %d (a loss is one number)", len(want), n)
	}
	if b.Def.Room == stages.Loss {
		if e := math.Abs(b.M.Loss - want[0][0]); e > tol*math.Max(1, math.Abs(want[0][0])) {
			t.Errorf("the loss is %.9g, the reference has %.9g", b.M.Loss, want[0][0])
		}
		return
	}
	for k, p := range b.Bound.Out {
		if p.DType != tensor.F32 {
			continue
		}
		near(t, "output "+p.Name, b.Out(p.Name).F32, want[k], tol)
	}
}

// near compares relative to the largest element.
func near(t reporter, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s has %d elements, the reference %d", what, len(got), len(want))
		return
	}
	big := 1e-30
	for _, w := range want {
		big = math.Max(big, math.Abs(w))
	}
	for i, w := range want {
		if e := math.Abs(float64(got[i]) - w); !(e <= tol*big) {
			t.Errorf("%s: element %d is %.9g, want %.9g (off by %.2g of the largest)", what, i, got[i], w, e/big)
			return
		}
	}
}

// scalar is the function whose gradient is checked: the loss, or the outputs weighted by the gradients that arrive.
func (b *Bench) scalar(out [][]float64) float64 {
	if b.Def.Room == stages.Loss {
		return out[0][0]
	}
	var s float64
	for k, p := range b.Bound.Out {
		if !b.Back.Ports[p.Name].HasGrad {
			continue
		}
		r := Random(uint64(100+k), 1, len(out[k])).F32
		for i, v := range out[k] {
			s += float64(r[i]) * v
		}
	}
	return s
}

// own is the stage itself as a reference, in float32.
func (b *Bench) own(t reporter) func(in [][]float64, p map[string][]float64) [][]float64 {
	return func(in [][]float64, p map[string][]float64) [][]float64 {
		b.Reset()
		for i, port := range b.Bound.In {
			for j := range b.Out(port.Name).F32 {
				b.Out(port.Name).F32[j] = float32(in[i][j])
			}
		}
		for name, w := range b.Env.Params {
			for j := range w.T.F32 {
				w.T.F32[j] = float32(p[name][j])
			}
		}
		ok(t, b.Forward())
		if b.Def.Room == stages.Loss {
			return [][]float64{{b.M.Loss}}
		}
		var out [][]float64
		for _, port := range b.Bound.Out {
			var v []float64
			for _, x := range b.Out(port.Name).F32 {
				v = append(v, float64(x))
			}
			out = append(out, v)
		}
		return out
	}
}

// gradients: the twin agrees with central differences.
func (c Case) gradients(t reporter, w Want) {
	t.Helper()
	b := c.bench(t, w)
	if len(b.grads()) == 0 {
		return
	}
	ok(t, b.Forward())
	ok(t, b.Backward())
	f, h, tol := c.Reference, 1e-5, c.GradTol
	if tol == 0 {
		tol = 2e-5
	}
	if f == nil {
		f, h = c.bench(t, Want{}).own(t), 1e-2
		if c.GradTol == 0 {
			tol = 2e-2
		}
	}
	in, params := b.inputs(), b.params()
	for _, g := range b.grads() {
		x := params[g.name]
		if g.input >= 0 {
			x = in[g.input]
		}
		want := make([]float64, len(x))
		for i := range x {
			old := x[i]
			x[i] = old + h
			up := b.scalar(f(in, params))
			x[i] = old - h
			down := b.scalar(f(in, params))
			x[i] = old
			want[i] = (up - down) / (2 * h)
			if g.acc {
				want[i] += accumulated
			}
		}
		near(t, "gradient of "+g.name, b.Grad(g.name), want, tol)
	}
}
