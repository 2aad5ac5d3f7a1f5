package wm

import (
	"context"
	"errors"
	"reflect"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"vtpu/stages/link/ring"
)

// Ring is a Watermill Publisher and Subscriber whose topics are rings: queues in this process, in order, with a bound. Publish waits while a topic is
// full. Several subscribers of a topic share its messages. A message that is not acknowledged is delivered again, before those after it.
type Ring struct {
	size int

	mu     sync.Mutex
	topics map[string]*topic
	closed bool
	quit   chan struct{}
	wg     sync.WaitGroup
}

type topic struct {
	in   sync.Mutex // a ring has one producer
	ring *ring.Ring[*message.Message]
	join chan *reader
}

// reader is a subscription.
type reader struct {
	ctx  context.Context
	out  chan *message.Message
	done chan struct{} // closed after out
}

// ErrClosed says that the Pub/Sub has been closed.
var ErrClosed = errors.New("wm: closed")

// NewRing makes a Pub/Sub whose topics hold size messages, at least. Close it.
func NewRing(size int) *Ring {
	return &Ring{size: size, topics: map[string]*topic{}, quit: make(chan struct{})}
}

func (r *Ring) topic(name string) (*topic, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	t := r.topics[name]
	if t == nil {
		t = &topic{ring: ring.New[*message.Message](r.size, 0), join: make(chan *reader)}
		r.topics[name] = t
		r.wg.Go(func() { r.deliver(t) })
	}
	return t, nil
}

// Publish appends messages to a topic.
func (r *Ring) Publish(name string, ms ...*message.Message) error {
	t, err := r.topic(name)
	if err != nil {
		return err
	}
	t.in.Lock()
	defer t.in.Unlock()
	for _, m := range ms {
		if !t.ring.Push(m.Copy()) {
			return ErrClosed
		}
	}
	return nil
}

// Subscribe returns the messages of a topic, each of which must be acknowledged before the next one comes. The channel is closed when ctx ends or
// the Pub/Sub is closed.
func (r *Ring) Subscribe(ctx context.Context, name string) (<-chan *message.Message, error) {
	t, err := r.topic(name)
	if err != nil {
		return nil, err
	}
	s, err := r.read(ctx, t)
	if err != nil {
		return nil, err
	}
	return s.out, nil
}

func (r *Ring) read(ctx context.Context, t *topic) (*reader, error) {
	s := &reader{ctx, make(chan *message.Message), make(chan struct{})}
	select {
	case t.join <- s:
		return s, nil
	case <-r.quit:
		return nil, ErrClosed
	}
}

// A Peer is one user of a Ring: closing it ends its own subscriptions alone, and gives back what they had not acknowledged.
type Peer struct {
	r *Ring

	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
	open   []*reader
}

// Join makes a user of the ring.
func (r *Ring) Join() *Peer {
	p := &Peer{r: r}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Publish is that of the ring.
func (p *Peer) Publish(name string, ms ...*message.Message) error {
	if p.ctx.Err() != nil {
		return ErrClosed
	}
	return p.r.Publish(name, ms...)
}

// Subscribe is that of the ring, until the peer is closed.
func (p *Peer) Subscribe(ctx context.Context, name string) (<-chan *message.Message, error) {
	t, err := p.r.topic(name)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return nil, ErrClosed
	}
	both, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.ctx, cancel)
	s, err := p.r.read(both, t)
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	p.open = append(p.open, s)
	return s.out, nil
}

// Close ends the subscriptions and waits for them. Closing twice is fine.
func (p *Peer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel()
	for _, s := range p.open {
		<-s.done
	}
	p.open = nil
	return nil
}

// deliver is the life of a topic: it alone pops, sends and closes channels.
func (r *Ring) deliver(t *topic) {
	var readers []*reader
	defer func() {
		for len(readers) > 0 {
			readers = drop(readers, 0)
		}
	}()
	// A ring waits without a look at channels: another goroutine hands over what it pops.
	next := make(chan *message.Message)
	r.wg.Go(func() {
		defer close(next)
		for {
			m, ok := t.ring.Pop()
			if !ok {
				return
			}
			select {
			case next <- m:
			case <-r.quit:
				return
			}
		}
	})
	var head *message.Message
	for {
		cases := []reflect.SelectCase{{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(r.quit)}, {Dir: reflect.SelectRecv, Chan: reflect.ValueOf(t.join)}}
		var fresh *message.Message
		cancel := func() {}
		if head == nil {
			cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(next)})
		} else {
			fresh = head.Copy()
		}
		at := len(cases)
		var ctx context.Context
		for _, s := range readers {
			cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(s.ctx.Done())})
			if fresh != nil {
				cases = append(cases, reflect.SelectCase{Dir: reflect.SelectSend, Chan: reflect.ValueOf(s.out), Send: reflect.ValueOf(fresh)})
			}
		}
		if fresh != nil {
			ctx, cancel = context.WithCancel(context.Background())
			fresh.SetContext(ctx)
		}
		i, v, ok := reflect.Select(cases)
		switch {
		case i == 0:
			cancel()
			return
		case i == 1:
			readers = append(readers, v.Interface().(*reader))
		case head == nil && i == 2:
			if !ok {
				cancel()
				return
			}
			head = v.Interface().(*message.Message)
		case head == nil:
			readers = drop(readers, i-at)
		case (i-at)%2 == 0:
			readers = drop(readers, (i-at)/2)
		default: // delivered
			k := (i - at) / 2
			for waits := true; waits; {
				waits = false
				select {
				case <-fresh.Acked():
					head = nil
				case <-fresh.Nacked():
				case <-readers[k].ctx.Done():
					readers = drop(readers, k)
				case s := <-t.join:
					readers, waits = append(readers, s), true
				case <-r.quit:
				}
			}
		}
		cancel()
	}
}

func drop(readers []*reader, i int) []*reader {
	close(readers[i].out)
	close(readers[i].done)
	return append(readers[:i], readers[i+1:]...)
}

// Close ends all subscriptions; messages that wait are dropped. Closing twice is fine.
func (r *Ring) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.quit)
		for _, t := range r.topics {
			t.ring.Close()
		}
	}
	r.mu.Unlock()
	r.wg.Wait()
	return nil
}
