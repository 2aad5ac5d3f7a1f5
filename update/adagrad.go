package update

import (
	"vtpu/compute/kernel"
	"vtpu/stages"
)

// AdagradConfig is what a user may write under adagrad.
type AdagradConfig struct {
	LR          float64  `yaml:"lr" required:"true" above:"0" doc:"Learning rate."`
	Eps         float64  `yaml:"eps" min:"0" doc:"Added to the denominator."`
	WeightDecay float64  `yaml:"weight_decay" min:"0" doc:"L2 penalty."`
	Decay       string   `yaml:"decay" enum:"matrices|all" doc:"Which parameters decay: those with two dimensions or more, or all."`
	Schedule    Schedule `yaml:"schedule" doc:"Learning rate over the run."`
	Groups      []Group  `yaml:"groups" doc:"Other settings for some parameters; of several that match, the last counts."`
}

func init() {
	stages.MustRegister(stages.Spec[AdagradConfig]{
		Name: "adagrad", Room: stages.Update, Pipe: stages.S,
		Summary: "Adagrad. Sparse gradients touch the rows present only.", Source: "Duchi et al. 2011, JMLR 12, pages 2121-2159",
		Example:  "adagrad: {lr: 0.01}",
		Default:  func() AdagradConfig { return AdagradConfig{Eps: 1e-10, Decay: "all"} },
		Check:    func(c AdagradConfig) error { return c.Schedule.check() },
		Contract: func(AdagradConfig) stages.Contract { return contract() },
		New: func(env stages.Env, c AdagradConfig) (stages.Stage, error) {
			b, err := newBase(env, settings{lr: c.LR, wd: c.WeightDecay, decay: c.Decay, groups: c.Groups, sched: c.Schedule, pieces: []string{"sum"}})
			if err != nil {
				return nil, err
			}
			s := &adagrad{b, float32(c.Eps)}
			b.apply = s.update
			return s, nil
		},
	})
}

type adagrad struct {
	*base
	eps float32
}

func (s *adagrad) update(it *item, w, g []float32, lo int) {
	kernel.Adagrad(w, g, it.piece(0, lo, len(w)), s.lrOf(it), s.eps, it.wd)
}
