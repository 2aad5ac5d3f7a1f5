package stages_test

import (
	"context"
	"fmt"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// SoftsignConfig is what a user may write under softsign. The tags are all that the documentation, the schema and the checks of a pipeline
// file need.
type SoftsignConfig struct {
	Knee float64 `yaml:"knee" above:"0" doc:"Input at which the output is a half."`
}

// A stage makes itself known by one Spec. The twin is a stage of its own, in the room Backward.
func init() {
	stages.MustRegister(stages.Spec[SoftsignConfig]{
		Name: "softsign", Room: stages.Compute, Pipe: stages.D, Twin: "softsign_backward",
		Summary: "Squash each element into -1..1 without exponentials.", Source: "Glorot and Bengio 2010, section 2.3",
		Example: "softsign: {knee: 1}",
		Default: func() SoftsignConfig { return SoftsignConfig{Knee: 1} },
		// "..." is any shape; that it stands at x and at y says that both have the same.
		Contract: func(SoftsignConfig) stages.Contract {
			return stages.Contract{
				In:    []stages.Port{{Name: "x", Shape: "..."}},
				Out:   []stages.Port{{Name: "y", Shape: "..."}},
				Flops: func(v map[string]int) int64 { return 2 * int64(v["..."]) },
			}
		},
		// Slots are looked up once.
		New: func(env stages.Env, c SoftsignConfig) (stages.Stage, error) {
			return &softsign{x: env.Ports["x"].Slot, y: env.Ports["y"].Slot, knee: float32(c.Knee)}, nil
		},
	})
	stages.MustRegister(stages.Spec[SoftsignConfig]{ // gets the config of softsign: the same yaml tag and type
		Name: "softsign_backward", Room: stages.Backward, Pipe: stages.D,
		Summary:  "Gradient of softsign.",
		Contract: func(SoftsignConfig) stages.Contract { return stages.Contract{Reads: []string{"x"}} },
		New: func(env stages.Env, c SoftsignConfig) (stages.Stage, error) {
			return &softsignBackward{x: env.Ports["x"], dy: env.Ports["y"].Grad, knee: float32(c.Knee)}, nil
		},
	})
}

type softsign struct {
	x, y stages.Slot
	knee float32
}

// Process: y = x/(knee + |x|), all (...). The message may hold fewer examples than planned, so the output takes the shape of the input.
func (s *softsign) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y := m.T(s.x), m.T(s.y)
	y.Resize(x.Shape)
	for i, v := range x.F32 {
		y.F32[i] = v / (s.knee + max(v, -v))
	}
	return out.Send(m)
}

type softsignBackward struct {
	x    stages.Binding
	dy   stages.Slot
	knee float32
}

// Process: dx = dy·knee/(knee + |x|)², all (...). Where another consumer of x has left a gradient, this one is added.
func (s *softsignBackward) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if !s.x.HasGrad {
		return out.Send(m) // nobody upstream learns
	}
	x, dy, dx := m.T(s.x.Slot), m.T(s.dy), m.T(s.x.Grad)
	dx.Resize(x.Shape)
	for i, v := range x.F32 {
		d := s.knee + max(v, -v)
		g := dy.F32[i] * s.knee / (d * d)
		if s.x.Acc {
			g = dx.F32[i] + float32(g)
		}
		dx.F32[i] = g
	}
	return out.Send(m)
}

// end is the last outbox of a walk.
type end struct{}

func (end) Send(*stages.Message) error { return nil }

// A stage of your own: config, spec, twin, and what a plan does with them. The file is complete; a test that runs stagetest.Run(t, "softsign")
// checks all that it promises.
func Example() {
	def := stages.Find("softsign")
	cfg := def.NewConfig()
	contract := def.Contract(cfg)
	bound, err := contract.Bind(nil, []tensor.Shape{tensor.Of(1, 3)})
	if err != nil {
		fmt.Println(err)
		return
	}

	// The plan gives each port a slot in the message, and both gradients one.
	var layout stages.Layout
	x, y := bound.In[0], bound.Out[0]
	px := stages.Binding{Slot: layout.AddData(stages.SlotInfo{Name: "x", Shape: x.Dims}), Shape: x.Dims}
	py := stages.Binding{Slot: layout.AddBody(stages.SlotInfo{Name: "y", Shape: y.Dims}), Shape: y.Dims}
	px.HasGrad, px.Grad = true, layout.AddBody(stages.SlotInfo{Name: "d x", Shape: x.Dims})
	py.HasGrad, py.Grad = true, layout.AddBody(stages.SlotInfo{Name: "d y", Shape: y.Dims})
	env := stages.Env{Name: "squash", Ports: map[string]stages.Binding{"x": px, "y": py}}

	forward, err := def.New(env, cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	twin := stages.Find(def.Twin)
	twinCfg := twin.NewConfig()
	stages.CopyConfig(twinCfg, cfg)
	backward, err := twin.New(env, twinCfg)
	if err != nil {
		fmt.Println(err)
		return
	}

	m := layout.NewMessage()
	m.Attach(layout.NewBody())
	copy(m.T(px.Slot).F32, []float32{-3, 0, 1})
	copy(m.T(py.Grad).F32, []float32{1, 1, 1})
	for _, s := range []stages.Stage{forward, backward} {
		if err := s.Process(context.Background(), m, end{}); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(m.T(py.Slot).F32, bound.Flops)
	fmt.Println(m.T(px.Grad).F32)
	// Output:
	// [-0.75 0 0.5] 6
	// [0.0625 1 0.25]
}
