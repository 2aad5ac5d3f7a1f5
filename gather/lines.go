package gather

import (
	"context"
	"errors"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// LinesConfig is what a user may write under lines.
type LinesConfig struct {
	Batch   int  `yaml:"batch" min:"1" max:"1048576" doc:"Documents in a step."`
	Block   int  `yaml:"block" min:"1" max:"1048576" doc:"Tokens of a document that are used at most."`
	Shuffle bool `yaml:"shuffle" doc:"Draw a new order for each epoch, from the seed."`
}

func init() {
	stages.MustRegister(stages.Spec[LinesConfig]{
		Name: "lines", Room: stages.Gather, Pipe: stages.S,
		Summary: "Documents between two marks (BOS): x are the tokens, y those that follow; shorter documents are padded, with targets of -1.",
		Example: "lines: {block: 16}",
		Default: func() LinesConfig { return LinesConfig{Batch: 1, Block: 16, Shuffle: true} },
		Data: func(c LinesConfig, d *stages.Dataset, parts int) (stages.Contract, error) {
			if d.Text == nil || d.Text.Docs == nil || d.Text.BOS < 0 {
				return stages.Contract{}, errors.New("lines are documents of a text: use source text with docs: lines")
			}
			if parts > c.Batch {
				return stages.Contract{}, errors.New("there are more parts than documents in a batch")
			}
			shape := words(largest(min(c.Batch, len(d.Text.Docs)-1), parts), tensor.Of(c.Block))
			k := stages.Contract{Replicas: stages.One, Out: []stages.Port{
				{Name: "x", Shape: shape, DType: tensor.I32, Slot: "x", NoGrad: true}, {Name: "y", Shape: shape, DType: tensor.I32, Slot: "y", NoGrad: true}}}
			if c.Batch == parts { // one document a message; else it is as long as the longest of them
				k.Lengths = map[int]float64{}
				for _, doc := range d.Train.Rows {
					k.Lengths[targets(d.Text, doc, c.Block)] += 1 / float64(len(d.Train.Rows))
				}
			}
			return k, nil
		},
		New: func(env stages.Env, c LinesConfig) (stages.Stage, error) {
			return &lines{order: newOrder(env, c.Batch, c.Shuffle, false), x: env.Ports["x"].Slot, y: env.Ports["y"].Slot, text: env.Data.Text, block: c.Block}, nil
		},
	})
}

type lines struct {
	*order
	x, y  stages.Slot
	text  *stages.Text
	block int
}

// StepsPerEpoch is the number of steps in a walk over the training documents.
func (s *lines) StepsPerEpoch() int64 { return s.n }

// EvalSteps is the number of batches that the validation documents fill.
func (s *lines) EvalSteps() int64 { return s.evalSteps() }

// targets is the number of targets of document d: its tokens and the mark that ends it.
func targets(t *stages.Text, d int32, block int) int { return min(t.Docs[d+1]-t.Docs[d]+1, block) }

// Process: BOS t0 t1 ... and t0 t1 ... BOS, both (B,T) where T is the longest of this part.
func (s *lines) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	docs := s.at(m)
	// The mean is over the targets of the whole step, which are known without the other parts' messages.
	T := 1
	for _, d := range docs {
		n := targets(s.text, d, s.block)
		T = max(T, n)
		m.Targets += n
	}
	if m.Parts > 1 {
		own := *m
		own.Part, own.Parts, m.Targets = 0, 1, 0
		for _, d := range s.at(&own) {
			m.Targets += targets(s.text, d, s.block)
		}
	}
	x, y := m.T(s.x), m.T(s.y)
	shape := tensor.Shape{Rank: 2, Dims: [tensor.MaxRank]int{len(docs), T}}
	x.Resize(shape)
	y.Resize(shape)
	for b, d := range docs {
		tok := s.text.Tokens[s.text.Docs[d]:s.text.Docs[d+1]]
		xs, ys := x.I32[b*T:b*T+T], y.I32[b*T:b*T+T]
		n := targets(s.text, d, s.block)
		xs[0] = s.text.BOS
		copy(xs[1:n], tok)
		copy(ys[:n], tok)
		if n > len(tok) {
			ys[len(tok)] = s.text.BOS
		}
		for t := n; t < T; t++ {
			xs[t], ys[t] = s.text.BOS, -1
		}
	}
	return out.Send(m)
}
