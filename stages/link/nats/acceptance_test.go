package nats_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"vtpu/stages/link/broker"
	"vtpu/stages/link/nats"
)

// TestAcceptance is Watermill's own suite on JetStream, with exactly-once delivery on and off.
func TestAcceptance(t *testing.T) {
	b, err := broker.Start(broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	c, err := nats.Connect(nats.Options{URL: b.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for name, once := range map[string]bool{"exactly once": true, "at least once": false} {
		t.Run(name, func(t *testing.T) {
			open := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
				p, err := c.PubSub(nats.PubSubOptions{Group: group, ExactlyOnce: once, InOrder: true, Stream: nats.StreamOptions{Memory: true}})
				if err != nil {
					t.Fatal(err)
				}
				s, err := c.PubSub(nats.PubSubOptions{Group: group, ExactlyOnce: once, InOrder: true, Stream: nats.StreamOptions{Memory: true}})
				if err != nil {
					t.Fatal(err)
				}
				return p, s
			}
			tests.TestPubSub(t, tests.Features{ConsumerGroups: true, ExactlyOnceDelivery: once, GuaranteedOrder: true, Persistent: true, ForceShort: true},
				func(t *testing.T) (message.Publisher, message.Subscriber) { return open(t, "") }, open)
		})
	}
}
