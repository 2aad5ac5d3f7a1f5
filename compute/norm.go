package compute

import (
	"context"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
)

// LayerNormConfig is what a user may write under layernorm.
type LayerNormConfig struct {
	Eps  float64 `yaml:"eps" above:"0" doc:"Added to the variance."`
	Gain bool    `yaml:"gain" doc:"Multiply by a learnt weight for each channel."`
	Bias bool    `yaml:"bias" doc:"Add a learnt bias for each channel."`
}

// RMSNormConfig is what a user may write under rmsnorm.
type RMSNormConfig struct {
	Eps  float64 `yaml:"eps" above:"0" doc:"Added to the mean square."`
	Gain bool    `yaml:"gain" doc:"Multiply by a learnt weight for each channel."`
}

func init() {
	stages.MustRegister(stages.Spec[LayerNormConfig]{
		Name: "layernorm", Room: stages.Compute, Pipe: stages.S, Twin: "layernorm_backward",
		Summary: "Normalise each row to mean 0 and variance 1.", Source: "Ba et al. 2016, arXiv:1607.06450", Example: "layernorm: {}",
		Default: func() LayerNormConfig { return LayerNormConfig{Eps: 1e-5, Gain: true, Bias: true} },
		Contract: func(c LayerNormConfig) stages.Contract {
			k := normContract(c.Gain, "mean", "rstd")
			if c.Bias {
				k.Params = append(k.Params, stages.Param{Name: "bias", Shape: "C", Init: constant(0), Doc: "(C)"})
			}
			return k
		},
		New: func(env stages.Env, c LayerNormConfig) (stages.Stage, error) {
			s := &layerNorm{x: env.Ports["x"].Slot, y: env.Ports["y"].Slot, mean: env.Ports["mean"].Slot, rstd: env.Ports["rstd"].Slot,
				w: values(env, "weight"), b: values(env, "bias"), eps: float32(c.Eps), team: env.Team}
			s.share = s.some
			return s, nil
		},
	})
	stages.MustRegister(stages.Spec[RMSNormConfig]{
		Name: "rmsnorm", Room: stages.Compute, Pipe: stages.S, Twin: "rmsnorm_backward",
		Summary: "Scale each row to a root mean square of 1.", Source: "Zhang and Sennrich 2019, arXiv:1910.07467", Example: "rmsnorm: {gain: false}",
		Default:  func() RMSNormConfig { return RMSNormConfig{Eps: 1e-5, Gain: true} },
		Contract: func(c RMSNormConfig) stages.Contract { return normContract(c.Gain, "rstd") },
		New: func(env stages.Env, c RMSNormConfig) (stages.Stage, error) {
			return &rmsNorm{x: env.Ports["x"].Slot, y: env.Ports["y"].Slot, rstd: env.Ports["rstd"].Slot, w: values(env, "weight"), eps: float32(c.Eps)}, nil
		},
	})
}

func normContract(gain bool, keep ...string) stages.Contract {
	k := stages.Contract{In: []stages.Port{float("x", "... C")}, Out: []stages.Port{float("y", "... C")},
		Flops: func(v map[string]int) int64 { return 8 * int64(v["..."]) * int64(v["C"]) }}
	for _, name := range keep {
		k.Keep = append(k.Keep, float(name, "..."))
	}
	if gain {
		k.Params = append(k.Params, stages.Param{Name: "weight", Shape: "C", Init: constant(1), Doc: "(C)"})
	}
	return k
}

// values are a parameter's elements, nil where the stage has no such parameter.
func values(env stages.Env, name string) []float32 {
	if p := env.Params[name]; p != nil {
		return p.T.F32
	}
	return nil
}

type layerNorm struct {
	x, y, mean, rstd stages.Slot
	w, b             []float32
	eps              float32
	team             *stages.Team
	share            func(lo, hi int)
	m                *stages.Message // in Process
}

// some is the rows lo to hi.
func (s *layerNorm) some(lo, hi int) {
	x := s.m.T(s.x)
	n := x.Last()
	kernel.LayerNorm(s.m.T(s.y).F32[lo*n:hi*n], s.m.T(s.mean).F32[lo:hi], s.m.T(s.rstd).F32[lo:hi], x.F32[lo*n:hi*n], s.w, s.b, hi-lo, n, s.eps)
}

// leading is the shape without its last dimension.
func leading(s tensor.Shape) tensor.Shape {
	if s.Rank > 0 {
		s.Rank--
		s.Dims[s.Rank] = 0
	}
	return s
}

// Process: y = (x - mean)·rstd·w + b for each row; x, y (...,C), mean, rstd (...), w, b (C).
func (s *layerNorm) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y, mean, rstd := m.T(s.x), m.T(s.y), m.T(s.mean), m.T(s.rstd)
	y.ResizeAs(x)
	mean.Resize(leading(x.Shape))
	rstd.Resize(leading(x.Shape))
	s.m = m
	s.team.Units(x.Rows(), 1, len(x.F32) >= 2*shareElems, s.share)
	s.m = nil
	return out.Send(m)
}

type rmsNorm struct {
	x, y, rstd stages.Slot
	w          []float32
	eps        float32
}

// Process: y = x·rstd·w for each row, rstd = 1/√(mean of x² + eps); x, y (...,C), rstd (...), w (C).
func (s *rmsNorm) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y, rstd := m.T(s.x), m.T(s.y), m.T(s.rstd)
	y.ResizeAs(x)
	rstd.Resize(leading(x.Shape))
	kernel.RMSNorm(y.F32, rstd.F32, x.F32, s.w, x.Rows(), x.Last(), s.eps)
	return out.Send(m)
}

// Tape puts Process on a tape.
func (s *rmsNorm) Tape(m *stages.Message, t *kernel.Tape) bool {
	x := m.T(s.x)
	return !s.x.IsData() && t.RMSNorm(m.T(s.y).F32, m.T(s.rstd).F32, x.F32, s.w, x.Rows(), x.Last(), s.eps)
}
