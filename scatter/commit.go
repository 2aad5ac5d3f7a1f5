// Package scatter is the exit of the walk: a step is committed to the store, averaged, saved.
package scatter

import (
	"context"

	"vtpu/stages"
	"vtpu/stages/weights"
)

// CommitConfig has no choices.
type CommitConfig struct{}

func init() {
	stages.MustRegister(stages.Spec[CommitConfig]{
		Name: "commit", Room: stages.Scatter, Pipe: stages.S,
		Summary: "Publish the step: the store's version grows by one, and gather may go on. It is put in by itself at the end.",
		Example: "commit: {}",
		Contract: func(CommitConfig) stages.Contract {
			return stages.Contract{Replicas: stages.One}
		},
		New: func(env stages.Env, _ CommitConfig) (stages.Stage, error) { return &commit{env.Store}, nil },
	})
}

type commit struct{ store *weights.Store }

// Process commits. A step in which accumulation held the update back is a version too: versions count steps.
func (s *commit) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	s.store.Commit()
	return out.Send(m)
}
