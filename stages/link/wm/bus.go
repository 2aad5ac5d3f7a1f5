// Package wm joins vTPU and Watermill: any Watermill Publisher and Subscriber (Kafka, Redis, SQL, ...) as a bus for frames, and a ring as a Watermill
// Pub/Sub.
package wm

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
)

// A Bus is a link.Bus over a Watermill Publisher and Subscriber. A subject is a topic. Every subscriber of a topic must get every message: give each
// process a consumer group of its own.
type Bus struct {
	pub message.Publisher
	sub message.Subscriber
	max int
	id  atomic.Uint64
	wg  sync.WaitGroup
}

// defaultMax is the largest message where the caller says nothing: what most brokers take.
const defaultMax = 1 << 20

// NewBus joins pub and sub. max is the largest payload that they carry; 0 is 1 MiB. They stay the caller's to close, after the bus.
func NewBus(pub message.Publisher, sub message.Subscriber, max int) *Bus {
	if max <= 0 {
		max = defaultMax
	}
	return &Bus{pub: pub, sub: sub, max: max}
}

// NewGoChannel is Watermill's Pub/Sub within a process. It starts a goroutine for each message and keeps no order: frames don't mind.
func NewGoChannel() *gochannel.GoChannel {
	return gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 64}, watermill.NopLogger{})
}

// Publish sends a copy of data: Watermill hands messages on as they are.
func (b *Bus) Publish(subject string, data []byte) error {
	m := message.NewMessage(strconv.FormatUint(b.id.Add(1), 16), bytes.Clone(data))
	return b.pub.Publish(subject, m)
}

// Subscribe calls got for each message and acknowledges it.
func (b *Bus) Subscribe(subject string, got func([]byte)) (func() error, error) {
	ctx, cancel := context.WithCancel(context.Background())
	ch, err := b.sub.Subscribe(ctx, subject)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("wm: subscribe %s: %w", subject, err)
	}
	b.wg.Go(func() {
		for m := range ch {
			if ctx.Err() == nil {
				got(m.Payload)
			}
			m.Ack()
		}
	})
	return func() error { cancel(); return nil }, nil
}

// MaxPayload is the largest payload.
func (b *Bus) MaxPayload() int { return b.max }

// Close waits for the subscriptions, which must have been stopped.
func (b *Bus) Close() error {
	b.wg.Wait()
	return nil
}
