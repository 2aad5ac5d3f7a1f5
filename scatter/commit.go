// Package scatter is the exit of the walk: a step is committed to the store, averaged, recorded, saved.
package scatter

import (
	"context"

	"vtpu/stages"
	"vtpu/stages/reclog"
	"vtpu/stages/weights"
)

// CommitConfig is what a user may write under commit: what is recorded of each step. The keys are those of RecordConfig.
type CommitConfig struct {
	Record  string      `yaml:"record" enum:"none|inputs|gradients" doc:"What is recorded of each step, in the run directory: what gather wrote, or the gradients that the update gets."`
	Per     string      `yaml:"per" enum:"step|part" doc:"Gradients of each step, summed, or of each part. Inputs are always recorded by part."`
	Sync    reclog.Sync `yaml:"sync" doc:"When recorded data is brought to the disk itself: always, never, or every 1s. A killed process loses nothing that a checkpoint needs; this is about power."`
	Segment int64       `yaml:"segment_mib" min:"1" max:"65536" doc:"MiB after which a new file is begun."`
	Keep    int64       `yaml:"keep_mib" min:"0" doc:"MiB after which the oldest files are removed; 0 keeps all. What is removed can't be replayed: a replay then starts from a checkpoint."`
	Zstd    bool        `yaml:"zstd" doc:"Pack the data with zstd. It costs more time than it saves on most disks."`
}

// Records says what is recorded (none, inputs, gradients) and whether for each part.
func (c *CommitConfig) Records() (what string, perPart bool) {
	return (*RecordConfig)(c).Records()
}

// SetRecord is what --record does.
func (c *CommitConfig) SetRecord(what string) { c.Record = what }

func init() {
	stages.MustRegister(stages.Spec[CommitConfig]{
		Name: "commit", Room: stages.Scatter, Pipe: stages.S,
		Summary: "Publish the step: the store's version grows by one, and gather may go on. It is put in by itself at the end. It may record the step too.",
		Example: "commit: {record: gradients}",
		Default: func() CommitConfig { return CommitConfig(recordDefault()) },
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
