package scatter

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/disk"
	"vtpu/stages/reclog"
	"vtpu/stages/wire"
)

// RecordConfig is the part of commit's config that says what is recorded, and how.
type RecordConfig struct {
	Record  string      `yaml:"record" enum:"none|inputs|gradients" doc:"What is recorded of each step, in the run directory: what gather wrote, or the gradients that the update gets."`
	Per     string      `yaml:"per" enum:"step|part" doc:"Gradients of each step, summed, or of each part. Inputs are always recorded by part."`
	Sync    reclog.Sync `yaml:"sync" doc:"When recorded data is brought to the disk itself: always, never, or every 1s. A killed process loses nothing that a checkpoint needs; this is about power."`
	Segment int64       `yaml:"segment_mib" min:"1" max:"65536" doc:"MiB after which a new file is begun."`
	Keep    int64       `yaml:"keep_mib" min:"0" doc:"MiB after which the oldest files are removed; 0 keeps all. What is removed can't be replayed: a replay then starts from a checkpoint."`
	Zstd    bool        `yaml:"zstd" doc:"Pack the data with zstd. It costs more time than it saves on most disks."`
}

func recordDefault() RecordConfig {
	return RecordConfig{Record: "none", Per: "step", Segment: 64}
}

// Records says what is recorded (none, inputs, gradients) and whether for each part.
func (c *RecordConfig) Records() (what string, perPart bool) {
	return c.Record, c.Record == "inputs" || c.Per == "part"
}

func (c *RecordConfig) options(env stages.Env, name string) reclog.Options {
	fsys := env.Record.FS
	if fsys == nil {
		fsys = disk.OS{Direct: true}
	}
	return reclog.Options{Name: name, About: env.Record.About, Run: env.Record.Run, Segment: c.Segment << 20, Keep: c.Keep << 20, Sync: c.Sync, Zstd: c.Zstd,
		Background: true, Sum: env.Aside, From: env.Store.Version(), FS: fsys,
		Copy: kernel.CopyPast, Spread: func(n int, f func(lo, hi int)) { env.Team.Split(n, spreadGrain, f) }}
}

// spreadGrain is the number of elements below which it doesn't pay to share the copying out.
const spreadGrain = 1 << 14

func init() {
	stages.MustRegister(stages.Spec[RecordConfig]{
		Name: "record", Room: stages.Scatter, Pipe: stages.S,
		Summary: "Write inputs or gradients to the run's stream. It is put in by itself where commit says so: commit: {record: gradients}.",
		Default: recordDefault,
		Contract: func(RecordConfig) stages.Contract {
			return stages.Contract{Grads: stages.GradRead, Replicas: stages.One}
		},
		New: func(env stages.Env, c RecordConfig) (stages.Stage, error) {
			r := &record{begun: time.Now()}
			r.zero = r.begun.UnixNano()
			if env.Record == nil || env.Record.ReadOnly || c.Record == "none" {
				return r, nil
			}
			r.f.Kind = wire.Inputs
			if c.Record == "gradients" {
				r.f.Kind, r.whole = wire.Gradients, c.Per == "step"
				for _, p := range env.All {
					if p.Sparse {
						r.add(p.Name, wire.IDs, p.IDs)
						r.add(p.Name, wire.Rows, p.Grad)
					} else {
						r.add(p.Name, wire.Value, p.Grad)
					}
				}
			} else {
				for i := range env.Inputs {
					p := env.Ports[fmt.Sprintf("x%d", i)]
					r.add(p.Name, wire.Value, p.Slot)
				}
			}
			var err error
			if r.log, err = reclog.Create(filepath.Join(env.Record.Dir, "stream"), c.options(env, c.Record)); err != nil {
				return nil, reclog.Finding(env.Record.Dir, err)
			}
			return r, nil
		},
	})
}

// record writes tensors of each message to a stream.
type record struct {
	log   *reclog.Writer // nil: nothing is recorded
	f     wire.Frame
	slots []stages.Slot
	names []string
	roles []wire.Role
	every int64
	whole bool // a frame is a step, not a part
	begun time.Time
	zero  int64 // that in nanoseconds since 1970
}

func (s *record) add(name string, role wire.Role, slot stages.Slot) {
	s.slots, s.names, s.roles = append(s.slots, slot), append(s.names, name), append(s.roles, role)
}

// Process appends a frame. The tensors are copied; checksums and writing are the stream's own business.
func (s *record) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if s.log == nil || s.every > 1 && m.Step%s.every != 0 {
		return out.Send(m)
	}
	f := &s.f
	f.Head = m.Head
	if s.whole { // the parts have been summed
		f.Part, f.Parts = 0, 1
	}
	f.Version, f.Time = m.Step+1, s.zero+int64(time.Since(s.begun)) // half of what time.Now takes
	f.Tensors = f.Tensors[:0]
	for i, slot := range s.slots {
		f.Tensors = append(f.Tensors, wire.Of(s.names[i], s.roles[i], m.T(slot)))
	}
	if err := s.log.Append(f); err != nil {
		return failed(err)
	}
	return out.Send(m)
}

// failed is what the disk has done to a stream. Whoever calls the stage says which one it is.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &stages.EnvError{Err: err, Fix: "free some room on the disk and go on with --resume; the newest checkpoint is not touched"}
}

// Flush brings what was recorded to the disk.
func (s *record) Flush() error {
	if s.log == nil {
		return nil
	}
	return failed(s.log.Flush())
}

// End marks the stream as complete.
func (s *record) End(step int64, weights, state string) error {
	if s.log == nil {
		return nil
	}
	return failed(s.log.End(step, weights, state))
}

// Close ends the writing.
func (s *record) Close() error {
	if s.log == nil {
		return nil
	}
	return failed(s.log.Close())
}
