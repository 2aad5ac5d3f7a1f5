package wm_test

import (
	"testing"

	"vtpu/stages/link"
	"vtpu/stages/link/linktest"
	"vtpu/stages/link/wm"
)

func TestGoChannelIsALink(t *testing.T) {
	ch := wm.NewGoChannel()
	t.Cleanup(func() { _ = ch.Close() })
	linktest.Run(t, func(*testing.T) link.Bus { return wm.NewBus(ch, ch, 0) })
}
