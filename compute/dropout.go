package compute

import (
	"context"

	"vtpu/stages"
	"vtpu/stages/rng"
)

// DropoutConfig is what a user may write under dropout.
type DropoutConfig struct {
	P float64 `yaml:"p" min:"0" below:"1" doc:"Probability that an element is dropped."`
}

func init() {
	stages.MustRegister(stages.Spec[DropoutConfig]{
		Name: "dropout", Room: stages.Compute, Pipe: stages.S, Twin: "dropout_backward",
		Summary: "In training, set elements to 0 at random and scale the others by 1/(1-p).", Source: "Srivastava et al. 2014, JMLR 15",
		Example: "dropout: {p: 0.1}",
		Default: func() DropoutConfig { return DropoutConfig{P: 0.1} },
		Contract: func(DropoutConfig) stages.Contract {
			k := mapContract()
			k.Keep = []stages.Port{float("mask", "...")}
			return k
		},
		New: func(env stages.Env, c DropoutConfig) (stages.Stage, error) {
			return &dropout{x: env.Ports["x"].Slot, y: env.Ports["y"].Slot, mask: env.Ports["mask"].Slot,
				r: rng.Named(env.Seed, env.Name), limit: uint32(c.P * (1 << 24)), scale: float32(1 / (1 - c.P))}, nil
		},
	})
}

type dropout struct {
	x, y, mask stages.Slot
	r          rng.Stream
	limit      uint32 // a draw of 24 bits below this drops
	scale      float32
}

// Process: y = x·mask, mask is 0 or 1/(1-p), all (B,...). The draw for an element is a function of the seed, the stage's name, the step, the
// example in the step and the position in the example, so that parts and lanes don't matter.
func (s *dropout) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	x, y, mask := m.T(s.x), m.T(s.y), m.T(s.mask)
	y.ResizeAs(x)
	mask.ResizeAs(x)
	if m.Mode != stages.Train {
		copy(y.F32, x.F32)
		return out.Send(m)
	}
	rows := 1
	if x.Shape.Rank > 0 {
		rows = x.Shape.Dims[0]
	}
	per := len(x.F32) / max(rows, 1)
	blocks := uint64(per+3) / 4
	for r := range rows {
		v, d, k := x.F32[r*per:r*per+per], y.F32[r*per:r*per+per], mask.F32[r*per:r*per+per]
		first := uint64(m.First+r) * blocks
		for i := range v {
			// One block of four draws for four elements.
			b := first + uint64(i)/4
			if i%4 == 0 {
				w := s.r.Block(uint64(m.Step)<<24|b>>32&(1<<24-1), uint32(b))
				for j := 0; j < 4 && i+j < per; j++ {
					k[i+j] = s.scale
					if w[j]>>8 < s.limit {
						k[i+j] = 0
					}
				}
			}
			d[i] = v[i] * k[i]
		}
	}
	return out.Send(m)
}
