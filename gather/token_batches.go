package gather

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"vtpu/stages"
	"vtpu/stages/rng"
	"vtpu/stages/tensor"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TokensConfig is what a user may write under token_batches.
type TokensConfig struct {
	Batch int    `yaml:"batch" min:"1" max:"1048576" doc:"Blocks in a step."`
	Block int    `yaml:"block" min:"1" max:"1048576" doc:"Tokens in a block."`
	Order string `yaml:"order" enum:"random|sequential" doc:"random draws the start of each block from the seed, sequential walks through the text."`
}

func init() {
	stages.MustRegister(stages.Spec[TokensConfig]{
		Name: "token_batches", Room: stages.Gather, Pipe: stages.S,
		Summary: "Blocks of a running text: x are the tokens, y those that follow.", Example: "token_batches: {batch: 12, block: 64}",
		Default: func() TokensConfig { return TokensConfig{Batch: 12, Block: 64, Order: "random"} },
		Data: func(c TokensConfig, d *stages.Dataset, parts int) (stages.Contract, error) {
			switch {
			case d.Text == nil:
				return stages.Contract{}, errors.New("token_batches are blocks of a text, the data is a table: use batches")
			case d.Text.Docs != nil:
				return stages.Contract{}, errors.New("token_batches are blocks of a running text, the data is cut into documents: use lines, or docs: none")
			case parts > c.Batch:
				return stages.Contract{}, errors.New("there are more parts than blocks in a batch")
			case d.Train.Len() < c.Block+1:
				return stages.Contract{}, fmt.Errorf("a block of %d needs %d tokens, there are %d for training", c.Block, c.Block+1, d.Train.Len())
			}
			shape := words(largest(c.Batch, parts), tensor.Of(c.Block))
			return stages.Contract{Replicas: stages.One, Out: []stages.Port{
				{Name: "x", Shape: shape, DType: tensor.I32, Slot: "x", NoGrad: true}, {Name: "y", Shape: shape, DType: tensor.I32, Slot: "y", NoGrad: true}}}, nil
		},
		New: func(env stages.Env, c TokensConfig) (stages.Stage, error) {
			return &tokens{x: env.Ports["x"].Slot, y: env.Ports["y"].Slot, text: env.Data.Text.Tokens, batch: c.Batch, block: c.Block,
				random: c.Order == "random", r: rng.Named(env.Seed, "blocks"), train: env.Data.Train, valid: env.Data.Valid}, nil
		},
	})
}

type tokens struct {
	x, y         stages.Slot
	text         []int32
	batch, block int
	random       bool
	r            rng.Stream
	train, valid stages.Split
}

// blocks is the number of whole blocks in a range, one token being left to follow the last.
func (s *tokens) blocks(in stages.Split) int { return max(in.Len()-1, 0) / s.block }

// StepsPerEpoch is the number of steps in which as many tokens are seen as the text has.
func (s *tokens) StepsPerEpoch() int64 { return int64(max(s.blocks(s.train)/s.batch, 1)) }

// EvalSteps is the number of batches of whole blocks in the validation text.
func (s *tokens) EvalSteps() int64 { return int64((s.blocks(s.valid) + s.batch - 1) / s.batch) }

// Process: x[b] = text[s:s+T], y[b] = text[s+1:s+T+1] for the start s of block b; both (B,T).
func (s *tokens) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	in, count := s.train, s.batch
	if m.Mode != stages.Train {
		in = s.valid
		count = min(s.batch, s.blocks(in)-int(m.Step)*s.batch)
	}
	c := cut(count, int(m.Part), int(m.Parts))
	m.First, m.Rows, m.Count, m.Targets = c.first, c.n, c.count, c.count*s.block
	x, y, T := m.T(s.x), m.T(s.y), s.block
	x.Resize(tensor.Of(c.n, T))
	y.Resize(tensor.Of(c.n, T))
	for b := range c.n {
		var at int
		switch n := s.blocks(in); {
		case m.Mode != stages.Train:
			at = in.Lo + (int(m.Step)*s.batch+c.first+b)*T
		case s.random:
			at = in.Lo + s.r.Intn(uint64(m.Step), uint32(c.first+b), in.Len()-T)
		default:
			at = in.Lo + int((m.Step*int64(s.batch)+int64(c.first+b))%int64(n))*T
		}
		copy(x.I32[b*T:b*T+T], s.text[at:at+T])
		copy(y.I32[b*T:b*T+T], s.text[at+1:at+T+1])
	}
	return out.Send(m)
}
