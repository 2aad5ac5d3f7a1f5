package update

import (
	"fmt"
	"slices"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// AdamConfig is what a user may write under adam and adamw.
type AdamConfig struct {
	LR          float64   `yaml:"lr" required:"true" above:"0" doc:"Learning rate."`
	Betas       []float64 `yaml:"betas" min:"0" below:"1" doc:"Decay of the averages of the gradient and of its square."`
	Eps         float64   `yaml:"eps" min:"0" doc:"Added to the denominator."`
	WeightDecay float64   `yaml:"weight_decay" min:"0" doc:"adam: L2 penalty; adamw: share of lr by which weights shrink."`
	Decay       string    `yaml:"decay" enum:"matrices|all" doc:"Which parameters decay: those with two dimensions or more, or all."`
	Schedule    Schedule  `yaml:"schedule" doc:"Learning rate over the run."`
	Groups      []Group   `yaml:"groups" doc:"Other settings for some parameters; of several that match, the last counts."`
}

func init() {
	for _, v := range []struct {
		name, summary, source, decay string
		wd                           float64
	}{
		{"adam", "Adam, with weight decay as an L2 penalty. Sparse gradients touch the rows present only (lazy Adam).",
			"Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1", "all", 0},
		{"adamw", "Adam with decoupled weight decay, by default none on vectors. Sparse gradients touch the rows present only (lazy Adam).",
			"Loshchilov and Hutter 2019, arXiv:1711.05101, Algorithm 2", "matrices", 0.01},
	} {
		stages.MustRegister(stages.Spec[AdamConfig]{
			Name: v.name, Room: stages.Update, Pipe: stages.S, Summary: v.summary, Source: v.source,
			Example: v.name + ": {lr: 1e-3, betas: [0.9, 0.99]}",
			Default: func() AdamConfig {
				return AdamConfig{Betas: []float64{0.9, 0.999}, Eps: 1e-8, WeightDecay: v.wd, Decay: v.decay}
			},
			Check: func(c AdamConfig) error {
				if len(c.Betas) != 2 {
					return fmt.Errorf("betas: want two numbers, got %d", len(c.Betas))
				}
				return c.Schedule.check()
			},
			Contract: func(AdamConfig) stages.Contract { return contract() },
			New: func(env stages.Env, c AdamConfig) (stages.Stage, error) {
				b, err := newBase(env, settings{lr: c.LR, wd: c.WeightDecay, decay: c.Decay, groups: c.Groups, sched: c.Schedule, pieces: []string{"m", "v"}})
				if err != nil {
					return nil, err
				}
				s := &adam{base: b, b1: powersOf(c.Betas[0]), b2: powersOf(c.Betas[1]),
					p: kernel.AdamParams{Beta1: float32(c.Betas[0]), Beta2: float32(c.Betas[1]), Eps: float32(c.Eps), Decoupled: v.name == "adamw"}}
				for i := range b.items {
					g := slices.IndexFunc(s.firsts, func(j int) bool { return b.items[j].scale == b.items[i].scale && b.items[j].wd == b.items[i].wd })
					if g < 0 {
						g = len(s.firsts)
						s.firsts = append(s.firsts, i)
					}
					b.items[i].step = g
				}
				s.steps = make([]kernel.AdamStep, len(s.firsts))
				b.apply, b.ready = s.update, s.correct
				if len(s.firsts) == 1 && b.total <= fewElements {
					b.whole, s.tensors, s.grads = s.all, make([]kernel.AdamTensor, 0, len(b.items)), make([]stages.Slot, 0, len(b.items))
				}
				return s, nil
			},
		})
	}
}

type adam struct {
	*base
	b1, b2 powers
	p      kernel.AdamParams
	steps  []kernel.AdamStep // the present step, for each pair of rate and decay among the items
	firsts []int             // the first item of each of them

	tensors []kernel.AdamTensor // those that are updated together
	grads   []stages.Slot       // of them
}

// fewElements is the number of elements of all parameters up to which the way to the kernel counts.
const fewElements = 1 << 14

// all updates every parameter with a dense gradient. Only the gradients lie elsewhere from step to step.
func (s *adam) all() bool {
	if len(s.tensors) == 0 {
		for i := range s.items {
			if it := &s.items[i]; !it.Sparse && !it.early {
				s.tensors = append(s.tensors, kernel.AdamTensor{W: it.T.F32, M: it.state[0].T.F32, V: it.state[1].T.F32})
				s.grads = append(s.grads, it.Grad)
			}
		}
	}
	for i := range s.tensors {
		s.tensors[i].G = s.m.T(s.grads[i]).F32
	}
	s.steps[0].ApplyAll(s.tensors)
	return true
}

// correct works out what all elements have in common in the t-th update of the stage, for rows of a table too.
func (s *adam) correct(t int64) {
	s.p.Correct1, s.p.Correct2 = float32(1-s.b1.to(t)), float32(1-s.b2.to(t))
	for g, i := range s.firsts {
		s.p.LR, s.p.WeightDecay = s.lrOf(&s.items[i]), s.items[i].wd
		s.steps[g] = s.p.Step()
	}
}

func (s *adam) update(it *item, w, g []float32, lo int) {
	s.steps[it.step].Apply(w, g, it.piece(0, lo, len(w)), it.piece(1, lo, len(w)))
}
