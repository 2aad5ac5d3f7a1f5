package gather

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

type outbox struct {
	m *stages.Message
	n int
}

func (o *outbox) Send(m *stages.Message) error {
	o.m = m
	o.n++
	return nil
}

// harness is a gather stage with a message of its own.
type harness struct {
	t     testing.TB
	stage stages.Stage
	env   stages.Env
	m     *stages.Message
	out   outbox
	parts int
}

// newHarness makes the stage name over data; in are the tensors of the stage before.
func newHarness[C any](t testing.TB, name string, cfg func(*C), d *stages.Dataset, seed uint64, parts int, in ...tensor.Tensor) *harness {
	t.Helper()
	h, err := tryHarness(t, name, cfg, d, seed, parts, in...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func tryHarness[C any](t testing.TB, name string, cfg func(*C), d *stages.Dataset, seed uint64, parts int, in ...tensor.Tensor) (*harness, error) {
	t.Helper()
	def := stages.Find(name)
	c := def.NewConfig()
	cfg(c.(*C))
	if err := def.Check(c); err != nil {
		return nil, err
	}
	var k stages.Contract
	var facts map[string]int
	if def.Data != nil {
		var err error
		if k, err = def.Data(c, d, parts); err != nil {
			return nil, err
		}
		facts = d.Facts
	} else {
		k = def.Contract(c)
	}
	shapes := make([]tensor.Shape, len(in))
	for i := range in {
		shapes[i] = in[i].Shape
	}
	b, err := k.Bind(facts, shapes)
	if err != nil {
		return nil, err
	}
	h := &harness{t: t, parts: parts}
	h.env = stages.Env{Name: name, Seed: seed, Ports: map[string]stages.Binding{}, Inputs: len(in), Params: map[string]*stages.ParamBinding{},
		Vars: b.Vars, Store: weights.NewStore(), Data: d, Parts: parts}
	var l stages.Layout
	for _, list := range [][]stages.BoundPort{b.In, b.Out} {
		for _, p := range list {
			s := l.AddData(stages.SlotInfo{Name: p.Name, DType: p.DType, Shape: p.Dims})
			h.env.Ports[p.Name] = stages.Binding{Slot: s, DType: p.DType, Shape: p.Dims}
		}
	}
	for _, p := range b.Params {
		var at weights.Coord
		if p.At != "" {
			if at, err = weights.ParseCoord(p.At); err != nil {
				return nil, err
			}
		}
		w, err := h.env.Store.Add(p.Name, weights.Weight, tensor.F32, p.Dims, at)
		if err != nil {
			return nil, err
		}
		h.env.Params[p.Name] = &stages.ParamBinding{Param: w}
	}
	h.m = l.NewMessage()
	for i, p := range b.In {
		copy(h.T(p.Name).I32, in[i].I32)
		copy(h.T(p.Name).F32, in[i].F32)
	}
	h.stage, err = def.New(h.env, c)
	return h, err
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// T is the tensor of a port.
func (h *harness) T(port string) *tensor.Tensor { return h.m.T(h.env.Ports[port].Slot) }

// step processes one part of a step and describes what it holds.
func (h *harness) step(step int64, part int, mode stages.Mode) string {
	h.t.Helper()
	h.m.Head = stages.Head{Step: step, Part: int32(part), Parts: int32(h.parts), Mode: mode}
	h.out = outbox{}
	if err := h.stage.Process(context.Background(), h.m, &h.out); err != nil {
		h.t.Fatal(err)
	}
	if h.out.n != 1 || h.out.m != h.m {
		h.t.Fatalf("%d messages were sent", h.out.n)
	}
	s := fmt.Sprintf("first %d rows %d count %d targets %d", h.m.First, h.m.Rows, h.m.Count, h.m.Targets)
	for _, name := range sorted(h.env.Ports) {
		t := h.T(name)
		s += fmt.Sprintf(" %s%v=%v%v", name, t.Shape, t.F32, t.I32)
	}
	return s
}
