package scatter

import (
	"context"

	"vtpu/stages"
)

// CheckpointConfig is what a user may write under checkpoint.
type CheckpointConfig struct {
	Every int64 `yaml:"every" min:"1" doc:"Steps between two checkpoints."`
}

func init() {
	stages.MustRegister(stages.Spec[CheckpointConfig]{
		Name: "checkpoint", Room: stages.Scatter, Pipe: stages.S,
		Summary: "Save weights and optimizer state every so many steps, on a step boundary; the same as run.checkpoint_every.",
		Example: "checkpoint: {every: 100}",
		Default: func() CheckpointConfig { return CheckpointConfig{Every: 100} },
		Contract: func(CheckpointConfig) stages.Contract {
			return stages.Contract{Replicas: stages.One}
		},
		New: func(env stages.Env, c CheckpointConfig) (stages.Stage, error) {
			return &checkpoint{c.Every, env.Checkpoint}, nil
		},
	})
}

type checkpoint struct {
	every int64
	save  func()
}

// Process asks for a checkpoint after this step, once the pipeline is drained.
func (s *checkpoint) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if s.save != nil && (m.Step+1)%s.every == 0 {
		s.save()
	}
	return out.Send(m)
}
