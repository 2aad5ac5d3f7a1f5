package gather

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// LiveConfig is what a user may write under data with source nats_source.
type LiveConfig struct {
	Subject string       `yaml:"subject" required:"true" doc:"Subject on which examples come: JSON objects with a field for each column, or frames of package wire (msgpack) with a tensor for each."`
	Columns []LiveColumn `yaml:"columns" required:"true" doc:"Fields of an example."`
}

// LiveColumn is a field of an example.
type LiveColumn struct {
	Name    string `yaml:"name" required:"true" doc:"Name of the field."`
	Width   int    `yaml:"width" min:"0" max:"1048576" doc:"Numbers in it; 0 where classes is set."`
	Classes int    `yaml:"classes" min:"0" doc:"It is a whole number from 0 to one less than this."`
}

func init() {
	stages.MustRegisterSource(stages.SourceSpec[LiveConfig]{
		Name: "nats_source", Summary: "Examples that come over NATS while the run goes on. They are kept in the run directory, so that a resumed run learns from the same ones.",
		Example: "data: {source: nats_source, subject: clicks, columns: [{name: x, width: 8}, {name: y, classes: 2}]}",
		Default: func() LiveConfig { return LiveConfig{} },
		Load: func(_ stages.LoadEnv, c LiveConfig) (*stages.Dataset, error) {
			if len(c.Columns) == 0 || strings.ContainsAny(c.Subject, " \t\r\n*>") || c.Subject == "" {
				return nil, errors.New("want a subject without wildcards and spaces, and at least one column")
			}
			l := &stages.Live{Subject: c.Subject}
			facts := map[string]int{}
			seen := map[string]bool{}
			var text strings.Builder
			for _, f := range c.Columns {
				if seen[f.Name] || (f.Width > 0) == (f.Classes > 0) {
					return nil, fmt.Errorf("column %q: want names that differ, and either a width or classes", f.Name)
				}
				seen[f.Name] = true
				col := stages.Column{Name: f.Name, Shape: tensor.Of(f.Width)}
				if f.Classes > 0 {
					col = stages.Column{Name: f.Name, DType: tensor.I32, Max: f.Classes}
					facts["classes"] = f.Classes
				} else if facts["features"] == 0 {
					facts["features"] = f.Width
				}
				l.Cols = append(l.Cols, col)
				fmt.Fprintf(&text, "%q %d %d\n", f.Name, f.Width, f.Classes)
			}
			sum := sha256.Sum256([]byte(text.String()))
			return &stages.Dataset{Live: l, Facts: facts, Check: hex.EncodeToString(sum[:])}, nil
		},
	})
	stages.MustRegister(stages.Spec[LiveBatchesConfig]{
		Name: "live_batches", Room: stages.Gather, Pipe: stages.S,
		Summary: "Examples of a live source in the order in which they came: one output for each column. A step waits until its examples are there.",
		Example: "live_batches: {batch: 16}",
		Default: func() LiveBatchesConfig { return LiveBatchesConfig{Batch: 32} },
		Data: func(c LiveBatchesConfig, d *stages.Dataset, parts int) (stages.Contract, error) {
			if d.Live == nil {
				return stages.Contract{}, errors.New("live_batches are examples of a live source: use data: {source: nats_source}, or batches")
			}
			if parts > c.Batch {
				return stages.Contract{}, errors.New("there are more parts than examples in a batch")
			}
			k := stages.Contract{Replicas: stages.One, Vars: map[string]stages.Dim{}}
			for _, col := range d.Live.Cols {
				k.Out = append(k.Out, stages.Port{Name: col.Name, Shape: words(largest(c.Batch, parts), col.Shape), DType: col.DType, Slot: col.Name, NoGrad: true})
			}
			return k, nil
		},
		New: func(env stages.Env, c LiveBatchesConfig) (stages.Stage, error) {
			s := &liveBatches{live: env.Data.Live, batch: c.Batch}
			for _, col := range env.Data.Live.Cols {
				s.slots = append(s.slots, env.Ports[col.Name].Slot)
			}
			return s, nil
		},
	})
}

// LiveBatchesConfig is what a user may write under live_batches.
type LiveBatchesConfig struct {
	Batch int `yaml:"batch" min:"1" max:"1048576" doc:"Examples in a step."`
}

type liveBatches struct {
	live  *stages.Live
	slots []stages.Slot
	batch int
}

// Process: row r of part p of step t is example t·batch + first(p) + r; (B,...).
func (s *liveBatches) Process(ctx context.Context, m *stages.Message, out stages.Outbox) error {
	if s.live.Feed == nil {
		return errors.New("no examples come to this process")
	}
	c := cut(s.batch, int(m.Part), int(m.Parts))
	m.First, m.Rows, m.Count = c.first, c.n, c.count
	for k, slot := range s.slots {
		m.T(slot).Resize(rowsOf(c.n, s.live.Cols[k].Shape))
	}
	for r := range c.n {
		row, err := s.live.Feed.Example(ctx, m.Step*int64(s.batch)+int64(c.first+r))
		if err != nil {
			return err
		}
		for k, slot := range s.slots {
			t, n := m.T(slot), s.live.Cols[k].Shape.Len()
			if t.DType == tensor.I32 {
				copy(t.I32[r*n:r*n+n], row[k].I32)
			} else {
				copy(t.F32[r*n:r*n+n], row[k].F32)
			}
		}
	}
	return out.Send(m)
}
