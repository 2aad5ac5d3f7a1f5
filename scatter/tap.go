package scatter

import (
	"fmt"
	"path/filepath"

	"vtpu/stages"
	"vtpu/stages/reclog"
	"vtpu/stages/wire"
)

// TapConfig is what a user may write under tap.
type TapConfig struct {
	Grads   bool        `yaml:"gradients" doc:"Record the gradients of these tensors too, as \"d NAME\"."`
	Every   int64       `yaml:"every" min:"1" doc:"Record every so many steps."`
	Sync    reclog.Sync `yaml:"sync" doc:"When recorded data is brought to the disk itself: always, never, or every 1s."`
	Segment int64       `yaml:"segment_mib" min:"1" max:"65536" doc:"MiB after which a new file is begun."`
	Keep    int64       `yaml:"keep_mib" min:"0" doc:"MiB after which the oldest files are removed; 0 keeps all."`
	Zstd    bool        `yaml:"zstd" doc:"Pack the data with zstd."`
}

func init() {
	stages.MustRegister(stages.Spec[TapConfig]{
		Name: "tap", Room: stages.Scatter, Pipe: stages.S,
		Summary: "Record what walks along an edge: the tensors named with in, of every part, in the run directory under the name of the stage. No bit of the run changes.",
		Example: "tap: {in: [x, y], every: 100}",
		Default: func() TapConfig { return TapConfig{Every: 1, Segment: 64} },
		Contract: func(TapConfig) stages.Contract {
			return stages.Contract{In: []stages.Port{{Name: "t", Shape: "...", AnyType: true, Variadic: true}}, Replicas: stages.One, EachPart: true,
				Loose: func([]stages.BoundPort) error { return nil }}
		},
		New: func(env stages.Env, c TapConfig) (stages.Stage, error) {
			s := &record{every: c.Every}
			if env.Record == nil || env.Record.ReadOnly {
				return s, nil
			}
			s.f.Kind, s.f.Name = wire.Edge, env.Name
			for i := range env.Inputs {
				p := env.Ports[fmt.Sprintf("t%d", i)]
				s.add(p.Name, wire.Value, p.Slot)
				if c.Grads && p.HasGrad {
					s.add("d "+p.Name, wire.Value, p.Grad)
				}
			}
			rc := RecordConfig{Sync: c.Sync, Segment: c.Segment, Keep: c.Keep, Zstd: c.Zstd}
			opt := rc.options(env, "edge")
			opt.Every = c.Every
			var err error
			if s.log, err = reclog.Create(filepath.Join(env.Record.Dir, env.Name), opt); err != nil {
				return nil, reclog.Finding(env.Record.Dir, err)
			}
			return s, nil
		},
	})
}
