package scatter

import (
	"context"
	"fmt"

	"vtpu/stages"
	"vtpu/stages/weights"
)

// WriteCellConfig is what a user may write under write_cell.
type WriteCellConfig struct {
	At   weights.Coord `yaml:"at" required:"true" doc:"Home of the cell in phext space."`
	Cell string        `yaml:"cell" doc:"Name of the cell, below the name of the stage."`
}

func init() {
	stages.MustRegister(stages.Spec[WriteCellConfig]{
		Name: "write_cell", Room: stages.Scatter, Pipe: stages.S,
		Summary: "Write a scalar to a cell of the store.", Example: "write_cell: {in: result, at: 2.1.1/1.1.1/1.1.1}",
		Default: func() WriteCellConfig { return WriteCellConfig{Cell: "cell"} },
		Contract: func(c WriteCellConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{{Name: "x", Shape: "..."}}, Replicas: stages.One,
				Params: []stages.Param{{Name: c.Cell, Shape: "1", Frozen: true, At: c.At.String()}},
				Loose: func(in []stages.BoundPort) error {
					if in[0].Dims.Len() != 1 {
						return fmt.Errorf("one number fits into a cell, the input has shape %v", in[0].Dims)
					}
					return nil
				}}
		},
		New: func(env stages.Env, c WriteCellConfig) (stages.Stage, error) {
			p := env.Params[c.Cell]
			if err := p.Claim(env.Name); err != nil {
				return nil, err
			}
			return &writeCell{env.Ports["x"].Slot, p.Param}, nil
		},
	})
}

type writeCell struct {
	x stages.Slot
	p *weights.Param
}

// Process: cell = x. A message without rows has nothing to write and leaves the cell as it is.
func (s *writeCell) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if m.T(s.x).Len() == 0 {
		return out.Send(m)
	}
	s.p.T.F32[0] = m.T(s.x).F32[0]
	s.p.MarkAll(m.Step + 1)
	return out.Send(m)
}
