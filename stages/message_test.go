package stages

import (
	"fmt"
	"testing"

	"vtpu/stages/tensor"
)

func TestMean(t *testing.T) {
	for _, x := range []struct {
		name   string
		h      Head
		n      int
		tokens bool
		want   float64
	}{
		{"a step in one part", Head{Rows: 4, Count: 4}, 12, false, 12},
		{"a part of a step", Head{Rows: 2, Count: 7}, 6, false, 21},
		{"target tokens of the step", Head{Rows: 2, Count: 4, Targets: 13}, 8, true, 13},
		{"a classifier has no token count", Head{Rows: 2, Count: 4}, 2, true, 4},
		{"numbers, though the step has tokens", Head{Rows: 2, Count: 4, Targets: 13}, 2, false, 4},
		{"a part without examples", Head{Count: 4}, 0, false, 1},
		{"nothing at all", Head{}, 0, false, 1},
	} {
		if got := x.h.Mean(x.n, x.tokens); got != x.want {
			t.Errorf("%s: divided by %v, want %v", x.name, got, x.want)
		}
	}
	// However a step is cut, all its parts divide by the same number.
	for rows := 1; rows <= 7; rows++ {
		h := Head{Rows: rows, Count: 7}
		if got := h.Mean(3*rows, false); got != 21 {
			t.Errorf("a part of %d examples divides by %v, want 21", rows, got)
		}
	}
}

func TestLayout(t *testing.T) {
	var l Layout
	info := func(name string, d tensor.DType, dims ...int) SlotInfo {
		return SlotInfo{Name: name, DType: d, Shape: tensor.Of(dims...)}
	}
	ids, h := l.AddData(info("ids", tensor.I32, 2, 3)), l.AddBody(info("h", tensor.F32, 2, 5))
	x, y := l.AddData(info("x", tensor.F32, 4)), l.AddBody(info("y", tensor.I32, 7))
	slots := map[Slot]SlotInfo{ids: l.Data[0], x: l.Data[1], h: l.Body[0], y: l.Body[1]}
	if len(slots) != 4 {
		t.Fatalf("slots are not distinct: %v", slots)
	}
	if l.DataBytes() != 4*(6+4) || l.BodyBytes() != 4*(10+7) {
		t.Errorf("%d and %d bytes", l.DataBytes(), l.BodyBytes())
	}
	m, other := l.NewMessage(), l.NewMessage()
	b := l.NewBody()
	m.Attach(b)
	for s, want := range slots {
		if got := l.Info(s); got != want {
			t.Errorf("slot %x is %v, want %v", s, got, want)
		}
		if v := m.T(s); v.DType != want.DType || v.Shape != want.Shape || v.Len() != want.Shape.Len() {
			t.Errorf("%s is %v %v", want.Name, v.DType, v.Shape)
		}
	}
	m.T(x).F32[0], m.T(h).F32[0] = 1, 2
	if other.T(x).F32[0] != 0 {
		t.Error("messages share memory")
	}
	// The body changes hands, the data stays.
	if got := panics(func() { m.Attach(l.NewBody()) }); got != "stages: message has a body already" {
		t.Errorf("a second body: %q", got)
	}
	if m.Detach() != b || m.Detach() != nil {
		t.Error("the body comes off once")
	}
	other.Attach(b)
	if other.T(h).F32[0] != 2 || m.T(x).F32[0] != 1 {
		t.Error("values were lost on the way")
	}
	other.Detach()
	other.Attach(l.NewBodyOf([]Slot{y}))
	if v := other.T(y); v.DType != tensor.I32 || v.Shape != l.Info(y).Shape || len(v.I32) != 7 || other.T(h).F32 != nil {
		t.Errorf("of a body with y alone: y %v, h %v", v, other.T(h))
	}
}

func TestNames(t *testing.T) {
	got := fmt.Sprint(Gather, Compute, Loss, Backward, Update, Scatter, Room(9), S, D)
	if got != "gather compute loss backward update scatter room(9) S D" {
		t.Error(got)
	}
}

// TestForms: the tensors of a form have the shapes that they had when the data had theirs, and share their storage with all others.
func TestForms(t *testing.T) {
	var l Layout
	x := l.AddData(SlotInfo{Name: "x", Shape: tensor.Of(1, 40)})
	h := l.AddBody(SlotInfo{Name: "h", Shape: tensor.Of(40, 2)})
	m := l.NewMessage()
	if m.Form() != -1 || m.InForm() != -1 {
		t.Error("a message without a body is in a form")
	}
	b := l.NewBody()
	m.Attach(b)
	if m.Form() != -1 {
		t.Error("a body without forms is in one")
	}
	b.Forms(16, len(l.Data))
	where := &m.T(h).F32[0]
	seen := map[int]int{}
	for round := range 2 {
		for n := 1; n <= 16; n++ {
			m.Plain()
			m.T(x).Resize(tensor.Of(1, n))
			f := m.Form()
			if f < 0 || f != m.InForm() {
				t.Fatalf("%d rows: form %d and %d", n, f, m.InForm())
			}
			if round == 0 {
				m.T(h).Resize(tensor.Of(n, 2))
				seen[f] = n
			} else if got := m.T(h); got.Shape != tensor.Of(n, 2) || len(got.F32) != 2*n || &got.F32[0] != where {
				t.Errorf("%d rows: shape %v", n, got.Shape)
			}
		}
	}
	if len(seen) != 16 {
		t.Errorf("16 shapes are in %d forms", len(seen))
	}
	m.Plain()
	if m.InForm() != -1 || m.T(h).Shape != tensor.Of(40, 2) {
		t.Errorf("a plain body is in form %d, with shape %v", m.InForm(), m.T(h).Shape)
	}
	m.T(x).Resize(tensor.Of(1, 17)) // the place of one row
	if f := m.Form(); f != -1 || m.InForm() != -1 {
		t.Errorf("a shape without a place is in form %d", f)
	}
	m.T(x).Resize(tensor.Of(1, 3))
	if f := m.Form(); seen[f] != 3 {
		t.Errorf("3 rows are in the form of %d", seen[f])
	}
	if m.Detach(); b.form != 0 {
		t.Error("a body that is detached stays in a form")
	}
}
