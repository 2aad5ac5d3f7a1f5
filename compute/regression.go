package compute

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// fuseRegression finds linear regression: dense with one output, mse, and their gradients, where nothing before them learns. A row's prediction is all that
// its gradient needs, so that the rows are read from memory once.
func fuseRegression(walk []stages.Planned) (int, func(*stages.Team) (stages.Stage, error)) {
	if len(walk) < 4 {
		return 0, nil
	}
	for i, name := range []string{"dense", "mse", "mse_backward", "dense_backward"} {
		if walk[i].Def.Name != name {
			return 0, nil
		}
	}
	fwd, loss, back := walk[0].Env, walk[1].Env, walk[3].Env
	w, b := back.Params["weight"], back.Params["bias"]
	y := fwd.Ports["y"].Slot
	switch {
	case fwd.Vars["OC"] != 1, walk[0].Cfg.(*DenseConfig).Act != "none", loss.Ports["x"].Slot != y, back.Ports["x"].HasGrad, !w.HasGrad, w.Acc, b != nil && (!b.HasGrad || b.Acc):
		return 0, nil
	}
	return 4, func(*stages.Team) (stages.Stage, error) {
		s := &regression{x: fwd.Ports["x"].Slot, y: y, target: loss.Ports["y"].Slot, diff: make([]float32, fwd.Ports["y"].Shape.Len()), dy: back.Ports["y"].Grad,
			w: w.T.F32, dw: w.Grad}
		if b != nil {
			s.b, s.db = b.T.F32, b.Grad
		}
		return s, nil
	}
}

// regression is dense with one output, mse, mse_backward and dense_backward in one walk over the rows.
type regression struct {
	x, y, target, dy, dw, db stages.Slot
	w, b                     []float32 // b is nil where there is none
	diff                     []float32 // y - target: mse's slot for it may be that of dy
}

// Process does what the four stages do, in the same order for each element: y = x·w + b, d = y - target, dy = 2·d/n, dw = the sum of dy·x, db = the sum of dy,
// both over rows ascending. x (...,C), y, target, d, dy (...,1), w, dw (C), b, db (1).
func (s *regression) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, yt, dyt, dw := m.T(s.x), m.T(s.y), m.T(s.dy), m.T(s.dw).F32
	if len(x.F32) == 1 && s.b == nil && len(yt.F32) == 1 && len(dyt.F32) == 1 { // one number: what follows is slower than the arithmetic
		v := x.F32[0]
		y := float32(v*s.w[0]) + 0
		d := y - m.T(s.target).F32[0]
		mean := m.Mean(1, false)
		m.Loss += float64(float32(d*d)+0) / mean
		dy := d * float32(2/mean)
		yt.F32[0], dyt.F32[0], dw[0] = y, dy, kernel.FMA(dy, v, 0)
		return out.Send(m)
	}
	yt.ResizeLast(x, 1)
	dyt.ResizeAs(yt)
	y, d, dy := yt.F32, s.diff[:len(yt.F32)], dyt.F32
	mean := m.Mean(len(y), false)
	kernel.Regression(len(y), x.Last(), x.F32, s.w, s.b, m.T(s.target).F32, y, d, dy, float32(2/mean), dw)
	m.Loss += float64(kernel.Dot(d, d)) / mean
	if s.b != nil {
		kernel.ColSum(len(dy), 1, dy, 1, m.T(s.db).F32, false)
	}
	return out.Send(m)
}
