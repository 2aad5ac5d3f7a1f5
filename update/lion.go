package update

import (
	"fmt"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// LionConfig is what a user may write under lion.
type LionConfig struct {
	LR          float64   `yaml:"lr" required:"true" above:"0" doc:"Learning rate."`
	Betas       []float64 `yaml:"betas" min:"0" below:"1" doc:"Decay of the gradient's average for the step and for the memory."`
	WeightDecay float64   `yaml:"weight_decay" min:"0" doc:"Share of lr by which weights shrink."`
	Decay       string    `yaml:"decay" enum:"matrices|all" doc:"Which parameters decay: those with two dimensions or more, or all."`
	Schedule    Schedule  `yaml:"schedule" doc:"Learning rate over the run."`
	Groups      []Group   `yaml:"groups" doc:"Other settings for some parameters; of several that match, the last counts."`
}

func init() {
	stages.MustRegister(stages.Spec[LionConfig]{
		Name: "lion", Room: stages.Update, Pipe: stages.S,
		Summary: "Lion: the sign of an average of gradients. Sparse gradients touch the rows present only.",
		Source:  "Chen et al. 2023, arXiv:2302.06675, Algorithm 2", Example: "lion: {lr: 1e-4, weight_decay: 0.1}",
		Default: func() LionConfig { return LionConfig{Betas: []float64{0.9, 0.99}, Decay: "matrices"} },
		Check: func(c LionConfig) error {
			if len(c.Betas) != 2 {
				return fmt.Errorf("betas: want two numbers, got %d", len(c.Betas))
			}
			return c.Schedule.check()
		},
		Contract: func(LionConfig) stages.Contract { return contract() },
		New: func(env stages.Env, c LionConfig) (stages.Stage, error) {
			b, err := newBase(env, settings{lr: c.LR, wd: c.WeightDecay, decay: c.Decay, groups: c.Groups, sched: c.Schedule, pieces: []string{"m"}})
			if err != nil {
				return nil, err
			}
			s := &lion{b, float32(c.Betas[0]), float32(c.Betas[1])}
			b.apply = s.update
			return s, nil
		},
	})
}

type lion struct {
	*base
	b1, b2 float32
}

func (s *lion) update(it *item, w, g []float32, lo int) {
	kernel.Lion(w, g, it.piece(0, lo, len(w)), s.lrOf(it), s.b1, s.b2, it.wd)
}
