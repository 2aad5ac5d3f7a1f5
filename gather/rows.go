package gather

import (
	"context"
	"fmt"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// RowsConfig is what a user may write under rows.
type RowsConfig struct {
	Dim       stages.Dim `yaml:"dim" required:"true" doc:"Width of a row."`
	Rows      stages.Dim `yaml:"rows" required:"true" doc:"Rows of the table, or of each table where per_column is set: a number or a fact of the data."`
	PerColumn bool       `yaml:"per_column" doc:"Each column of ids has a table of its own; all of them lie in one weight."`
	Sparse    bool       `yaml:"sparse" doc:"Make a gradient of the rows used alone; the optimizer then touches only those."`
}

func init() {
	stages.MustRegister(stages.Spec[RowsConfig]{
		Name: "rows", Room: stages.Gather, Pipe: stages.S, Twin: "rows_backward",
		Summary: "Rows of a weight table by id, read ahead of the computation; rows that an earlier step changes are read again.",
		Example: "rows: {in: cats, dim: 16, rows: cat_rows, out: emb}",
		Default: func() RowsConfig { return RowsConfig{Sparse: true} },
		Contract: func(c RowsConfig) stages.Contract {
			k := stages.Contract{
				In: []stages.Port{{Name: "raw", Shape: "B N", DType: tensor.I32, Slot: "cats", NoGrad: true}},
				Out: []stages.Port{{Name: "y", Shape: "B N D"},
					{Name: "ids", Shape: "B N", DType: tensor.I32, NoGrad: true}},
				Vars: map[string]stages.Dim{"D": c.Dim, "R": c.Rows},
				Params: []stages.Param{{Name: "weight", Shape: "V D", Sparse: c.Sparse,
					Init: func(map[string]int) stages.Init { return stages.Init{Kind: "normal", Value: 0.02} }}},
				Replicas: stages.One,
			}
			k.Derive = func(v map[string]int) error {
				v["V"] = v["R"]
				if c.PerColumn {
					v["V"] *= v["N"]
				}
				return nil
			}
			return k
		},
		New: func(env stages.Env, c RowsConfig) (stages.Stage, error) {
			r := &rows{raw: env.Ports["raw"].Slot, ids: env.Ports["ids"].Slot, y: env.Ports["y"].Slot, p: env.Params["weight"].Param,
				dim: env.Vars["D"], rows: env.Vars["R"], team: env.Team}
			r.share = r.some
			if c.PerColumn {
				r.per = r.rows
			}
			return r, nil
		},
	})
}

type rows struct {
	raw, ids, y stages.Slot
	p           *weights.Param
	dim, rows   int
	per         int // rows that column n starts after column n-1

	team  *stages.Team
	to    []float32 // what share works on
	from  []int32
	share func(lo, hi int)
}

// shareRows is the number of rows below which it doesn't pay to share them out: some 10 µs where they come from memory.
const shareRows = 256

// Process: ids[b,n] = raw[b,n] + n·per; y[b,n] = weight[ids[b,n]]. raw, ids (B,N), y (B,N,D), weight (V,D).
func (s *rows) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	raw, ids, y := m.T(s.raw), m.T(s.ids), m.T(s.y)
	B, N := raw.Shape.Dims[0], raw.Shape.Dims[1]
	ids.ResizeAs(raw)
	y.Resize(tensor.Of(B, N, s.dim))
	for b := range B {
		from, to := raw.I32[b*N:b*N+N], ids.I32[b*N:b*N+N]
		first := 0
		for n, id := range from {
			if uint32(id) >= uint32(s.rows) {
				return stages.Finding{Msg: fmt.Sprintf("step %d, example %d, column %d: id %d is not in 0..%d", m.Step+1, m.First+b+1, n+1, id, s.rows-1),
					Fix: "give rows a number above the largest id"}
			}
			to[n] = id + int32(first)
			first += s.per
		}
	}
	if m.Gathered < m.Step { // ahead: Finish will ask which rows changed since
		s.p.LedgerRows()
	}
	s.to, s.from = y.F32, ids.I32
	s.team.Split(len(s.from), shareRows, s.share)
	s.to, s.from = nil, nil
	return out.Send(m)
}

// some reads the rows lo to hi-1 of a message.
func (s *rows) some(lo, hi int) {
	kernel.GatherRows(s.to[lo*s.dim:hi*s.dim], s.p.T.F32, s.from[lo:hi], s.dim)
}

// Finish reads again what changed since the message was gathered.
func (s *rows) Finish(m *stages.Message) error {
	y, d, w := m.T(s.y).F32, s.dim, s.p.T.F32
	for i, id := range m.T(s.ids).I32 {
		if s.p.Changed(id, m.Gathered) {
			copy(y[i*d:i*d+d], w[int(id)*d:int(id)*d+d])
		}
	}
	return nil
}
