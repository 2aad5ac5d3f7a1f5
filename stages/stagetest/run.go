package stagetest

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// Run checks each case: the contract, ownership, repeatability, allocations, values against the reference and gradients against central differences.
func Run(t *testing.T, cases ...Case) {
	t.Helper()
	for _, c := range cases {
		name := c.Name
		if name == "" {
			name = c.Stage
		}
		t.Run(name, func(t *testing.T) {
			c.contract(t)
			c.repeats(t)
			c.rows(t)
			c.allocations(t)
			c.values(t)
			if d := stages.Find(c.Stage); d != nil && d.Twin != "" {
				for _, w := range []Want{{Inputs: true, Params: true}, {Inputs: true, Params: true, Acc: true}, {Inputs: true}, {Params: true}} {
					t.Run(fmt.Sprintf("gradient/inputs=%v,params=%v,acc=%v", w.Inputs, w.Params, w.Acc), func(t *testing.T) { c.gradients(t, w) })
				}
			}
		})
	}
}

func (c Case) bench(t *testing.T, w Want) *Bench {
	t.Helper()
	b, err := New(c, w)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contract: every declared output is written, inputs and parameters are left alone.
func (c Case) contract(t *testing.T) {
	t.Helper()
	b := c.bench(t, Want{Inputs: true, Params: true})
	before := map[string]string{}
	look := func() map[string]string {
		m := map[string]string{}
		for _, p := range b.Bound.In {
			if !slices.Contains(b.Contract.Mutates, p.Name) {
				m["input "+p.Name] = bitsOf(b.Out(p.Name))
			}
		}
		for name, p := range b.Env.Params {
			if p.Writer() == "" {
				m["parameter "+name] = bitsOf(&p.T)
			}
		}
		return m
	}
	before = look()
	ok(t, b.Forward())
	for _, p := range b.Bound.Out {
		o := b.Out(p.Name)
		if o.Shape != p.Dims {
			t.Errorf("output %s has the shape %v, want %v", p.Name, o.Shape, p.Dims)
		}
		for i, v := range o.F32 {
			if v != v {
				t.Errorf("output %s: element %d was not written, or is NaN", p.Name, i)
				break
			}
		}
	}
	if b.bw != nil {
		ok(t, b.Backward())
		for _, g := range b.grads() {
			for i, v := range b.Grad(g.name) {
				if v != v {
					t.Errorf("gradient of %s: element %d was not written, or is NaN", g.name, i)
					break
				}
			}
		}
	}
	for k, v := range look() {
		if before[k] != v {
			t.Errorf("%s was changed", k)
		}
	}
	for _, s := range []stages.Stage{b.fw, b.bw} {
		if cl, is := s.(io.Closer); is {
			for range 2 {
				if err := cl.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}
		}
	}
}

func bitsOf(t *tensor.Tensor) string {
	b := make([]byte, 0, 4*t.Len())
	for _, v := range t.F32 {
		b = fmt.Appendf(b, "%08x", math.Float32bits(v))
	}
	for _, v := range t.I32 {
		b = fmt.Appendf(b, "%08x", uint32(v))
	}
	return string(b)
}

// all is everything that a forward and a backward step left.
func (b *Bench) all() string {
	s := fmt.Sprint(b.M.Loss, b.M.Hits, b.M.Seen)
	for _, p := range b.Bound.Out {
		s += bitsOf(b.Out(p.Name))
	}
	for _, g := range b.grads() {
		t := tensor.FromF32(tensor.Of(len(b.Grad(g.name))), b.Grad(g.name))
		s += bitsOf(&t)
	}
	return s
}

func (b *Bench) both(t *testing.T) string {
	t.Helper()
	ok(t, b.Forward())
	if b.bw != nil {
		ok(t, b.Backward())
	}
	return b.all()
}

// repeats: the same input gives the same bytes, from the same instance after its message was mangled, from another instance, and with a cancelled context.
func (c Case) repeats(t *testing.T) {
	t.Helper()
	b := c.bench(t, Want{Inputs: true, Params: true})
	first := b.both(t)
	for i := range b.Layout.Body {
		x := b.M.T(b.slotOfBody(i))
		for j := range x.F32 {
			x.F32[j] = float32(math.Inf(1))
		}
	}
	for _, p := range b.Bound.In {
		for j := range b.Out(p.Name).F32 {
			b.Out(p.Name).F32[j] = -7
		}
	}
	b.M.Head = stages.Head{Step: 99, Loss: math.NaN()}
	b.Reset()
	if b.both(t) != first {
		t.Error("the same input gave other bytes the second time: something was kept from a message that was given away")
	}
	if c.bench(t, Want{Inputs: true, Params: true}).both(t) != first {
		t.Error("another instance gave other bytes")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.Reset()
	var o sink
	if err := b.fw.Process(ctx, b.M, &o); err == nil && o.n != 1 {
		t.Error("with a cancelled context the stage neither failed nor sent")
	}
}

// rows: fewer examples than planned, none at all, work.
func (c Case) rows(t *testing.T) {
	t.Helper()
	b := c.bench(t, Want{Inputs: true, Params: true})
	n := c.In[0].Shape.Dims[0]
	for _, in := range c.In {
		if in.Shape.Rank == 0 || in.Shape.Dims[0] != n {
			return // no common first dimension
		}
	}
	for _, rows := range []int{n - 1, 0} {
		b.Reset()
		for _, p := range b.Bound.In {
			x := b.Out(p.Name)
			s := x.Shape
			s.Dims[0] = rows
			x.Resize(s)
		}
		b.M.Rows = rows
		for _, p := range b.Bound.Out { // the gradient that arrives has the shape of the output
			if x := b.Back.Ports[p.Name]; x.HasGrad {
				s := b.M.T(x.Grad).Shape
				if s.Rank > 0 && s.Dims[0] == n {
					s.Dims[0] = rows
					b.M.T(x.Grad).Resize(s)
				}
			}
		}
		ok(t, b.Forward())
		if b.bw != nil {
			ok(t, b.Backward())
		}
		for _, p := range b.Bound.Out {
			if s := b.Out(p.Name).Shape; s.Rank > 0 && p.Dims.Rank > 0 && p.Dims.Dims[0] == n && s.Dims[0] != rows {
				t.Errorf("with %d examples output %s has the shape %v", rows, p.Name, s)
			}
		}
		if rows == 0 && b.bw != nil {
			for _, g := range b.grads() {
				if g.input >= 0 {
					continue
				}
				for _, v := range b.Grad(g.name) {
					if v != 0 {
						t.Errorf("without examples the gradient of %s is not 0", g.name)
						break
					}
				}
			}
		}
	}
}

// allocations: none in a steady state.
func (c Case) allocations(t *testing.T) {
	t.Helper()
	b := c.bench(t, Want{Inputs: true, Params: true})
	run := func(s stages.Stage) {
		var o sink
		var box stages.Outbox = &o
		ctx := context.Background()
		step := func() {
			b.M.Loss, b.M.Hits, b.M.Seen = 0, 0, 0
			if err := s.Process(ctx, b.M, box); err != nil {
				t.Fatal(err)
			}
		}
		step()
		if n := testing.AllocsPerRun(10, step); n != 0 {
			t.Errorf("%v allocations in a step of %T", n, s)
		}
	}
	run(b.fw)
	if b.bw != nil {
		run(b.bw)
	}
}

func (c Case) inputs() [][]float64 {
	var in [][]float64
	for i := range c.In {
		var v []float64
		for _, x := range c.In[i].F32 {
			v = append(v, float64(x))
		}
		for _, x := range c.In[i].I32 {
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
func (c Case) values(t *testing.T) {
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
	want := c.Reference(c.inputs(), b.params())
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
func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
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
func (c Case) own(b *Bench) func(in [][]float64, p map[string][]float64) [][]float64 {
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
		if err := b.Forward(); err != nil {
			return nil
		}
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
func (c Case) gradients(t *testing.T, w Want) {
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
		f, h = c.own(c.bench(t, Want{})), 1e-2
		if c.GradTol == 0 {
			tol = 2e-2
		}
	}
	in, params := c.inputs(), b.params()
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
				want[i] += 0.25
			}
		}
		near(t, "gradient of "+g.name, b.Grad(g.name), want, tol)
	}
}
