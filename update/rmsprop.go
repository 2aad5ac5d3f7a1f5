package update

import (
	"vtpu/compute/kernel"
	"vtpu/stages"
)

// RMSPropConfig is what a user may write under rmsprop.
type RMSPropConfig struct {
	LR          float64  `yaml:"lr" required:"true" above:"0" doc:"Learning rate."`
	Alpha       float64  `yaml:"alpha" min:"0" below:"1" doc:"Decay of the average of the squared gradient."`
	Eps         float64  `yaml:"eps" min:"0" doc:"Added to the denominator."`
	Momentum    float64  `yaml:"momentum" min:"0" below:"1" doc:"Momentum."`
	WeightDecay float64  `yaml:"weight_decay" min:"0" doc:"L2 penalty."`
	Decay       string   `yaml:"decay" enum:"matrices|all" doc:"Which parameters decay: those with two dimensions or more, or all."`
	Schedule    Schedule `yaml:"schedule" doc:"Learning rate over the run."`
	Groups      []Group  `yaml:"groups" doc:"Other settings for some parameters; of several that match, the last counts."`
}

func init() {
	stages.MustRegister(stages.Spec[RMSPropConfig]{
		Name: "rmsprop", Room: stages.Update, Pipe: stages.S,
		Summary: "RMSProp. Sparse gradients touch the rows present only.", Source: "Tieleman and Hinton 2012, Coursera, lecture 6.5; torch.optim.RMSprop",
		Example:  "rmsprop: {lr: 0.01}",
		Default:  func() RMSPropConfig { return RMSPropConfig{Alpha: 0.99, Eps: 1e-8, Decay: "all"} },
		Check:    func(c RMSPropConfig) error { return c.Schedule.check() },
		Contract: func(RMSPropConfig) stages.Contract { return contract() },
		New: func(env stages.Env, c RMSPropConfig) (stages.Stage, error) {
			set := settings{lr: c.LR, wd: c.WeightDecay, decay: c.Decay, groups: c.Groups, sched: c.Schedule, pieces: []string{"square"}}
			if c.Momentum > 0 {
				set.pieces = append(set.pieces, "momentum")
			}
			b, err := newBase(env, set)
			if err != nil {
				return nil, err
			}
			s := &rmsprop{b, float32(c.Alpha), float32(c.Eps), float32(c.Momentum)}
			b.apply = s.update
			return s, nil
		},
	})
}

type rmsprop struct {
	*base
	alpha, eps, mu float32
}

func (s *rmsprop) update(it *item, w, g []float32, lo int) {
	var mom []float32
	if s.mu > 0 {
		mom = it.piece(1, lo, len(w))
	}
	kernel.RMSProp(w, g, it.piece(0, lo, len(w)), mom, s.lrOf(it), s.alpha, s.eps, it.wd, s.mu)
}
