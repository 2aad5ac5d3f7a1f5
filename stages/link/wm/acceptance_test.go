package wm_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"vtpu/stages/link/wm"
)

// TestAcceptance is Watermill's own suite on rings, with exactly-once delivery on and off.
func TestAcceptance(t *testing.T) {
	for name, once := range map[string]bool{"exactly once": true, "at least once": false} {
		t.Run(name, func(t *testing.T) {
			r := wm.NewRing(1024)
			t.Cleanup(func() {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			})
			tests.TestPubSub(t, tests.Features{ExactlyOnceDelivery: once, GuaranteedOrder: true, Persistent: true, ForceShort: true},
				func(*testing.T) (message.Publisher, message.Subscriber) { return r.Join(), r.Join() }, nil)
		})
	}
}
