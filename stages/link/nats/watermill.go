package nats

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// PubSubOptions are those of the Watermill Pub/Sub on JetStream.
type PubSubOptions struct {
	// Group is the name of the consumer that subscribers share: each message goes to one of them. "" is "vtpu".
	Group string
	// ExactlyOnce makes the broker drop messages with a UUID that it has seen within two minutes, and waits for its word on each acknowledgement. It is
	// as far as a broker can go: who must not do a thing twice has to look for himself.
	ExactlyOnce bool
	// InOrder holds the next message back until the one before is acknowledged, for all subscribers together.
	InOrder bool
	Stream  StreamOptions
	// AckWait is the time after which a message without an answer is delivered again; 0 is 30 s.
	AckWait time.Duration
}

// PubSub is a Watermill Publisher and Subscriber on JetStream: a topic is a stream.
type PubSub struct {
	o    PubSubOptions
	conn *Conn
	js   jetstream.JetStream

	mu     sync.Mutex
	made   map[string]bool
	closed bool
	quit   chan struct{}
	wg     sync.WaitGroup
}

// uuidHeader carries a message's UUID; with ExactlyOnce the broker's own header does it too.
const uuidHeader = "Watermill-UUID"

// PubSub makes a Watermill Pub/Sub. Close does not close the connection.
func (c *Conn) PubSub(o PubSubOptions) (*PubSub, error) {
	js, err := jetstream.New(c.nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	if o.Group == "" {
		o.Group = "vtpu"
	}
	if o.AckWait <= 0 {
		o.AckWait = 30 * time.Second
	}
	return &PubSub{o: o, conn: c, js: js, made: map[string]bool{}, quit: make(chan struct{})}, nil
}

var unsafeChars = regexp.MustCompile(`[^A-Za-z0-9_-]`)

func streamOf(topic string) string { return "WM_" + unsafeChars.ReplaceAllString(topic, "_") }

func subjectOf(topic string) string { return "watermill." + topic }

// SubscribeInitialize makes the stream of a topic.
func (p *PubSub) SubscribeInitialize(topic string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	if p.made[topic] {
		return nil
	}
	cfg := jetstream.StreamConfig{Name: streamOf(topic), Subjects: []string{subjectOf(topic)}, Replicas: max(p.o.Stream.Replicas, 1), Storage: jetstream.FileStorage,
		MaxAge: p.o.Stream.MaxAge, MaxBytes: p.o.Stream.MaxBytes, Duplicates: 2 * time.Minute}
	if p.o.Stream.Memory {
		cfg.Storage = jetstream.MemoryStorage
	}
	if cfg.MaxAge > 0 {
		cfg.Duplicates = min(cfg.Duplicates, cfg.MaxAge)
	}
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	if _, err := p.js.CreateStream(ctx, cfg); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("jetstream: topic %s: %w", topic, err)
	}
	p.made[topic] = true
	return nil
}

var errClosed = errors.New("jetstream: closed")

// Publish appends messages to a topic and waits until the broker has each.
func (p *PubSub) Publish(topic string, ms ...*message.Message) error {
	if err := p.SubscribeInitialize(topic); err != nil {
		return err
	}
	for _, m := range ms {
		out := &nats.Msg{Subject: subjectOf(topic), Data: m.Payload, Header: nats.Header{}}
		out.Header.Set(uuidHeader, m.UUID)
		for k, v := range m.Metadata {
			out.Header.Set(k, v)
		}
		if p.o.ExactlyOnce {
			out.Header.Set(jetstream.MsgIDHeader, m.UUID)
		}
		ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
		_, err := p.js.PublishMsg(ctx, out)
		cancel()
		if err != nil {
			return fmt.Errorf("jetstream: publish to %s: %w", topic, err)
		}
	}
	return nil
}

// Subscribe returns the messages of a topic, from its beginning for a new group. The channel is closed when ctx ends or the Pub/Sub is closed.
func (p *PubSub) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := p.SubscribeInitialize(topic); err != nil {
		return nil, err
	}
	cfg := jetstream.ConsumerConfig{Durable: unsafeChars.ReplaceAllString(p.o.Group, "_"), AckPolicy: jetstream.AckExplicitPolicy, AckWait: p.o.AckWait,
		DeliverPolicy: jetstream.DeliverAllPolicy, MaxAckPending: 1024}
	if p.o.InOrder {
		cfg.MaxAckPending = 1
	}
	api, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if ctx.Err() != nil { // watermill wants a closed channel then, not an error
		out := make(chan *message.Message)
		close(out)
		return out, nil
	}
	c, err := p.js.CreateOrUpdateConsumer(api, streamOf(topic), cfg)
	if err != nil {
		return nil, fmt.Errorf("jetstream: subscribe to %s: %w", topic, err)
	}
	it, err := c.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("jetstream: subscribe to %s: %w", topic, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		it.Stop()
		return nil, errClosed
	}
	out := make(chan *message.Message)
	ended := make(chan struct{})
	p.wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-p.quit:
		case <-ended:
		}
		it.Drain() // what has been fetched comes out of Next and is given back
	})
	p.wg.Go(func() {
		defer close(out)
		defer close(ended)
		for {
			m, err := it.Next()
			if err != nil {
				if errors.Is(err, jetstream.ErrMsgIteratorClosed) || errors.Is(err, nats.ErrConnectionClosed) {
					return
				}
				continue // a missed heartbeat: the iterator asks again
			}
			p.handle(ctx, m, out)
		}
	})
	return out, nil
}

// handle delivers one message and answers for it.
func (p *PubSub) handle(ctx context.Context, jm jetstream.Msg, out chan<- *message.Message) {
	m := message.NewMessage(jm.Headers().Get(uuidHeader), jm.Data())
	for k := range jm.Headers() {
		if k != uuidHeader && k != jetstream.MsgIDHeader {
			m.Metadata.Set(k, jm.Headers().Get(k))
		}
	}
	mctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.SetContext(mctx)
	back := func() { _ = jm.Nak() } // if that is lost the broker delivers it again after AckWait
	select {
	case <-p.quit: // first, as the next select chooses at random
		back()
		return
	default:
	}
	select {
	case out <- m:
	case <-ctx.Done():
		back()
		return
	case <-p.quit:
		back()
		return
	}
	select {
	case <-m.Acked():
		if !p.o.ExactlyOnce {
			_ = jm.Ack() // likewise
			return
		}
		for range 3 {
			actx, stop := context.WithTimeout(context.Background(), apiTimeout)
			err := jm.DoubleAck(actx)
			stop()
			if err == nil || errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
				return
			}
		}
	case <-m.Nacked():
		back()
	case <-ctx.Done():
		back()
	case <-p.quit:
		back()
	}
}

// Close ends all subscriptions and gives their messages back. Closing twice is fine.
func (p *PubSub) Close() error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.quit)
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}
