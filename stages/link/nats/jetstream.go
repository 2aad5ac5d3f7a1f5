package nats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamOptions say how JetStream keeps what is under way.
type StreamOptions struct {
	Memory   bool          // keep it in memory instead of files
	Replicas int           // servers that keep it; 0 is 1
	MaxAge   time.Duration // forget it after this; 0 is 10 minutes
	MaxBytes int64         // forget the oldest beyond; 0 is 2 GiB
}

// Stream is a link.Bus over JetStream: what is under way is kept by the broker and outlives it. If the broker comes back without its store, the stream
// is made again.
type Stream struct {
	*Conn
	js   jetstream.JetStream
	cfg  jetstream.StreamConfig
	mu   sync.Mutex
	subs map[*subscription]bool
	quit chan struct{}
	wg   sync.WaitGroup
	born time.Time // of the stream that the subscriptions are on
}

type subscription struct {
	subject string
	got     func([]byte)
	consume jetstream.ConsumeContext
	ended   <-chan struct{} // of consume; each call of its Closed starts a goroutine
	broken  bool
}

const (
	// ahead is how many messages a consumer is sent before it has taken the first.
	ahead = 32
	// stall is how long Publish waits while too much is in flight.
	stall = 2 * time.Second
	// apiTimeout bounds a request to the broker about streams and consumers.
	apiTimeout = 5 * time.Second
	// inFlight is the number of messages that may wait for the broker's word that it has them.
	inFlight = 512
	// watch is how often one looks whether the stream is still there.
	watch = 500 * time.Millisecond
)

// StreamName is the name of the stream for subjects below base.
func StreamName(base string) string {
	return strings.ToUpper(strings.NewReplacer(".", "_", "*", "_", ">", "_", " ", "_").Replace(base))
}

// JetStream makes the stream for all subjects below base, if it is not there yet. Close closes the connection too.
func (c *Conn) JetStream(base string, o StreamOptions) (*Stream, error) {
	js, err := jetstream.New(c.nc, jetstream.WithPublishAsyncMaxPending(inFlight), jetstream.WithPublishAsyncTimeout(apiTimeout))
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	s := &Stream{Conn: c, js: js, subs: map[*subscription]bool{}, quit: make(chan struct{})}
	s.cfg = jetstream.StreamConfig{Name: StreamName(base), Subjects: []string{base + ".>"}, Discard: jetstream.DiscardOld, MaxAge: 10 * time.Minute,
		MaxBytes: 2 << 30, Replicas: max(o.Replicas, 1), NoAck: false, Storage: jetstream.FileStorage}
	if o.Memory {
		s.cfg.Storage = jetstream.MemoryStorage
	}
	if o.MaxAge > 0 {
		s.cfg.MaxAge = o.MaxAge
	}
	if o.MaxBytes > 0 {
		s.cfg.MaxBytes = o.MaxBytes
	}
	if err := s.ensure(); err != nil {
		return nil, err
	}
	s.wg.Go(s.guard)
	return s, nil
}

func (s *Stream) ensure() error {
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	st, err := s.js.CreateStream(ctx, s.cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		st, err = s.js.Stream(ctx, s.cfg.Name)
	}
	if err != nil {
		return fmt.Errorf("jetstream: stream %s: %w", s.cfg.Name, err)
	}
	s.born = st.CachedInfo().Created
	return nil
}

// MaxPayload is what the broker allows, and 1 MiB at most: a consumer is sent some messages ahead, by number, and must not be cut off with 64 MiB waiting.
// (By bytes, a request that the next message does not fit into stays open until it expires.)
func (s *Stream) MaxPayload() int { return min(s.Conn.MaxPayload(), 1<<20) }

// Publish sends a copy of data; JetStream may have to send it again.
func (s *Stream) Publish(subject string, data []byte) error {
	_, err := s.js.PublishAsync(subject, bytes.Clone(data), jetstream.WithStallWait(stall))
	return err
}

// Subscribe calls got for each message that comes from now on, in the order of the stream.
func (s *Stream) Subscribe(subject string, got func([]byte)) (func() error, error) {
	sub := &subscription{subject: subject, got: got}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.start(sub); err != nil {
		return nil, err
	}
	s.subs[sub] = true
	return func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, sub)
		if sub.consume != nil {
			sub.consume.Stop()
		}
		return nil
	}, nil
}

// start consumes. The caller holds mu.
func (s *Stream) start(sub *subscription) error {
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	c, err := s.js.OrderedConsumer(ctx, s.cfg.Name, jetstream.OrderedConsumerConfig{FilterSubjects: []string{sub.subject}, DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return fmt.Errorf("jetstream: subscribe %s: %w", sub.subject, err)
	}
	sub.broken = false
	sub.consume, err = c.Consume(func(m jetstream.Msg) { sub.got(m.Data()) }, jetstream.PullMaxMessages(ahead))
	if err != nil {
		return fmt.Errorf("jetstream: subscribe %s: %w", sub.subject, err)
	}
	sub.ended = sub.consume.Closed()
	return nil
}

// guard makes the stream and the subscriptions again when the broker has lost them.
func (s *Stream) guard() {
	tick := time.NewTicker(watch)
	defer tick.Stop()
	lost := false
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		if !s.nc.IsConnected() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
		st, err := s.js.Stream(ctx, s.cfg.Name)
		cancel()
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			lost = true
			err = s.ensure()
		case err == nil && !st.CachedInfo().Created.Equal(s.born): // somebody else was faster
			lost = true
			s.born = st.CachedInfo().Created
		}
		if err != nil {
			continue // the broker is not itself yet
		}
		s.mu.Lock()
		for sub := range s.subs {
			if lost || sub.broken || closed(sub.ended) {
				sub.broken = true
				if sub.consume != nil {
					sub.consume.Stop()
				}
				_ = s.start(sub) // it stays broken where that fails, and the next look tries again
			}
		}
		s.mu.Unlock()
		lost = false
	}
}

func closed(c <-chan struct{}) bool {
	if c == nil {
		return true
	}
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Close waits a little for the broker to have what was published, and ends the connection. Closing twice is fine.
func (s *Stream) Close() error {
	s.mu.Lock()
	select {
	case <-s.quit:
		s.mu.Unlock()
		return nil
	default:
	}
	close(s.quit)
	for sub := range s.subs {
		if sub.consume != nil {
			sub.consume.Stop()
		}
	}
	clear(s.subs)
	s.mu.Unlock()
	s.wg.Wait()
	select {
	case <-s.js.PublishAsyncComplete():
	case <-time.After(time.Second):
	}
	return s.Conn.Close()
}
