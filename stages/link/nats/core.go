package nats

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// A Conn is a connection to a broker. It is a link.Bus over core NATS: fast, and what is under way when the broker dies is lost.
type Conn struct{ nc *nats.Conn }

// pending bounds what waits in this process for a subscriber; a flood is dropped beyond it and asked for again.
const pending = 1 << 30

// Publish sends data.
func (c *Conn) Publish(subject string, data []byte) error { return c.nc.Publish(subject, data) }

// Subscribe calls got for each message.
func (c *Conn) Subscribe(subject string, got func([]byte)) (func() error, error) {
	s, err := c.nc.Subscribe(subject, func(m *nats.Msg) { got(m.Data) })
	if err != nil {
		return nil, fmt.Errorf("nats: subscribe %s: %w", subject, err)
	}
	if err := s.SetPendingLimits(-1, pending); err != nil {
		return nil, fmt.Errorf("nats: subscribe %s: %w", subject, err)
	}
	return s.Unsubscribe, nil
}

// MaxPayload is what the broker allows.
func (c *Conn) MaxPayload() int { return int(c.nc.MaxPayload()) }

// Flush waits until the broker has everything that was published.
func (c *Conn) Flush() error { return c.nc.FlushTimeout(10 * time.Second) }

// Connected says whether the broker can be reached now.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Close sends what is left and ends the connection. Closing twice is fine.
func (c *Conn) Close() error {
	if !c.nc.IsClosed() {
		if c.nc.IsConnected() {
			_ = c.nc.FlushTimeout(time.Second) // at a broker that is gone nothing is left to send to
		}
		c.nc.Close()
	}
	return nil
}

// Serve answers requests on a subject; servers of the same group share them. answer is called by one goroutine at a time.
func (c *Conn) Serve(subject, group string, answer func([]byte) []byte) (stop func() error, err error) {
	s, err := c.nc.QueueSubscribe(subject, group, func(m *nats.Msg) {
		if m.Reply != "" {
			_ = m.Respond(answer(m.Data)) // who asked asks again
		}
	})
	if err != nil {
		return nil, fmt.Errorf("nats: serve %s: %w", subject, err)
	}
	return s.Unsubscribe, nil
}

// Request asks and waits for an answer.
func (c *Conn) Request(subject string, data []byte, timeout time.Duration) ([]byte, error) {
	m, err := c.nc.Request(subject, data, timeout)
	if err != nil {
		return nil, fmt.Errorf("nats: request %s: %w", subject, err)
	}
	return m.Data, nil
}
