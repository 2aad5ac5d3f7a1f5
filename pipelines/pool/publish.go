package pool

import (
	"encoding/json"

	"vtpu/stages/link"
	"vtpu/stages/weights"
)

// A Publisher sends whole versions of the weights to whoever listens, such as a server of predictions.
type Publisher struct {
	bus  link.Bus
	cut  *Cut
	base string
	c    coder
	buf  []byte
	me   uint64
	msg  uint64
}

// NewPublisher publishes the weights of a store below base.
func NewPublisher(b link.Bus, s *weights.Store, base string) *Publisher {
	return &Publisher{bus: b, cut: &Cut{Store: s, Params: s.All(weights.Weight)}, base: base, me: number()}
}

// Publish sends the weights as of a version, and a word about it.
func (p *Publisher) Publish(version int64, sha string) error {
	var err error
	if p.buf, err = p.c.weights(p.buf, p.cut, -1, version, nil); err != nil {
		return err
	}
	p.msg++
	if _, err := link.Send(p.bus, p.base+".weights", &link.Head{Kind: kWeights, From: p.me, Version: version, Base: -1, Message: p.msg}, p.buf); err != nil {
		return nil // the broker is away: the next version will do
	}
	b, err := json.Marshal(map[string]any{"version": version, "weights_sha256": sha})
	if err != nil {
		return err
	}
	_ = p.bus.Publish(p.base+".version", b) // likewise
	return nil
}

// Follow calls got for each whole version that comes, one at a time; apply writes it to a store that is like the publisher's.
func Follow(b link.Bus, s *weights.Store, base string, got func(version int64, apply func() error)) (stop func() error, err error) {
	cut := &Cut{Store: s, Params: s.All(weights.Weight)}
	size := cut.Sizes().Weights
	limit := func(k link.Kind) int {
		if k == kWeights {
			return int(size)
		}
		return 0
	}
	a := &link.Assembler{Limit: limit, Open: 2}
	var c coder
	return b.Subscribe(base+".weights", func(data []byte) {
		h, body, err := a.Add(data)
		if err != nil || body == nil {
			return
		}
		got(h.Version, func() error { return c.readWeights(body, cut, size, 0) })
		a.Release(body)
	})
}
