package update

import (
	"context"
	"errors"

	"vtpu/compute/kernel"
	"vtpu/stages"
)

// SGDConfig is what a user may write under sgd.
type SGDConfig struct {
	LR          float64  `yaml:"lr" required:"true" above:"0" doc:"Learning rate."`
	Momentum    float64  `yaml:"momentum" min:"0" below:"1" doc:"Momentum."`
	Dampening   float64  `yaml:"dampening" min:"0" max:"1" doc:"Share of the gradient that momentum leaves out."`
	Nesterov    bool     `yaml:"nesterov" doc:"Nesterov's momentum."`
	WeightDecay float64  `yaml:"weight_decay" min:"0" doc:"L2 penalty."`
	Decay       string   `yaml:"decay" enum:"matrices|all" doc:"Which parameters decay: those with two dimensions or more, or all."`
	Schedule    Schedule `yaml:"schedule" doc:"Learning rate over the run."`
	Groups      []Group  `yaml:"groups" doc:"Other settings for some parameters; of several that match, the last counts."`
}

func init() {
	stages.MustRegister(stages.Spec[SGDConfig]{
		Name: "sgd", Room: stages.Update, Pipe: stages.S,
		Summary: "Stochastic gradient descent with momentum, Nesterov's momentum and weight decay.", Source: "torch.optim.SGD",
		Example: "sgd: {lr: 0.1, momentum: 0.9}",
		Default: func() SGDConfig { return SGDConfig{Decay: "all"} },
		Check: func(c SGDConfig) error {
			if c.Nesterov && (c.Momentum == 0 || c.Dampening != 0) {
				return errors.New("nesterov needs a momentum and no dampening")
			}
			return c.Schedule.check()
		},
		Contract: func(SGDConfig) stages.Contract { return contract() },
		New: func(env stages.Env, c SGDConfig) (stages.Stage, error) {
			set := settings{lr: c.LR, wd: c.WeightDecay, decay: c.Decay, groups: c.Groups, sched: c.Schedule}
			if c.Momentum > 0 {
				set.pieces = []string{"momentum"}
			}
			b, err := newBase(env, set)
			if err != nil {
				return nil, err
			}
			s := &sgd{base: b, mu: float32(c.Momentum), damp: float32(c.Dampening), nesterov: c.Nesterov}
			b.apply, b.rows = s.plain, s.plainRows
			b.ready = func(t int64) { s.first = t == 1 }
			if s.mu > 0 {
				b.apply = s.moved
			}
			return s, nil
		},
	})
}

type sgd struct {
	*base
	mu, damp float32
	nesterov bool
	first    bool // the present update is the first
}

// Process: see kernel.SGD and kernel.SGDMomentum.
func (s *sgd) Process(ctx context.Context, m *stages.Message, out stages.Outbox) error {
	if len(s.items) != 1 || s.mu != 0 || s.total != 1 || m.Skip {
		return s.base.Process(ctx, m, out)
	}
	s.begin(m) // a single number: the walk would cost more than the update
	s.open = false
	it := &s.items[0]
	kernel.SGD(it.T.F32, m.T(it.Grad).F32, s.lrOf(it), it.wd)
	it.MarkAll(m.Step + 1)
	return out.Send(m)
}

func (s *sgd) plain(it *item, w, g []float32, _ int) { kernel.SGD(w, g, s.lrOf(it), it.wd) }

// plainRows: without weight decay it is one kernel call.
func (s *sgd) plainRows(it *item, g []float32, ids []int32) bool {
	if it.wd != 0 {
		return false
	}
	kernel.AxpyRows(-s.lrOf(it), g, it.T.F32, ids, it.T.Last())
	return true
}

// moved: the first update of a row that turns up late starts from a momentum of 0, which with no dampening is the same thing.
func (s *sgd) moved(it *item, w, g []float32, lo int) {
	kernel.SGDMomentum(w, g, it.piece(0, lo, len(w)), s.lrOf(it), s.mu, s.damp, it.wd, s.nesterov, s.first)
}
