// Package linktest is the acceptance kit for buses: whoever writes a link.Bus of his own runs it.
package linktest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"vtpu/stages/link"
)

// Run checks what an edge promises on the buses that open gives: each message once and in order, whatever its size; a slow receiver holds the sender
// back; noise, another run and an earlier epoch change nothing; a bus that loses, doubles, cuts and swaps messages neither.
func Run(t *testing.T, open func(t *testing.T) link.Bus) {
	t.Run("once and in order", func(t *testing.T) {
		order(t, open(t), open(t), []int{0, 1, 100, 1023, 1024, 1025, 65536, 3 << 20}, 150)
	})
	t.Run("on a bad bus", func(t *testing.T) {
		b := open(t)
		order(t, &bad{Bus: b, r: rand.New(rand.NewPCG(7, 8))}, &bad{Bus: b, r: rand.New(rand.NewPCG(9, 10))}, []int{0, 1, 2000, 40000, 2 << 20}, 60)
	})
	t.Run("credit", func(t *testing.T) { credit(t, open(t)) })
	t.Run("fence", func(t *testing.T) { fence(t, open(t)) })
}

const limit = time.Minute

func options(b link.Bus, subject string) link.EdgeOptions {
	return link.EdgeOptions{Bus: b, Subject: "vtpu.linktest." + subject, Run: [16]byte{1, 2, 3}, Epoch: 5, Window: 64, Retry: 20 * time.Millisecond}
}

func ends(t *testing.T, in, out link.EdgeOptions) (*link.Sender, *link.Receiver) {
	t.Helper()
	r, err := link.NewReceiver(in)
	if err != nil {
		t.Fatal(err)
	}
	s, err := link.NewSender(out, 77)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s, r
}

func content(i, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(i), uint64(n)))
	for k := range b {
		b[k] = byte(r.Uint32())
	}
	return b
}

func order(t *testing.T, a, b link.Bus, sizes []int, n int) {
	s, r := ends(t, options(a, "order"), options(b, "order"))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	size := func(i int) int {
		if k := i % (4 * len(sizes)); k < len(sizes) {
			return sizes[k]
		}
		return 500
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range n {
			if err := s.Send(ctx, content(i, size(i))); err != nil {
				t.Errorf("send %d: %v", i, err)
				return
			}
		}
		if err := s.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	for i := range n {
		got, err := r.Receive(ctx)
		if err != nil {
			t.Errorf("receive %d: %v", i, err)
			return
		}
		if want := content(i, size(i)); !bytes.Equal(got, want) {
			t.Errorf("message %d: %d bytes, want %d, or other ones", i, len(got), len(want))
			return
		}
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if got, err := r.Receive(short); err == nil {
		t.Errorf("a message of %d bytes that was never sent", len(got))
	}
}

func credit(t *testing.T, b link.Bus) {
	s, r := ends(t, options(b, "credit"), options(b, "credit"))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for i := range 64 {
		if err := s.Send(ctx, content(i, 10)); err != nil {
			t.Fatal(err)
		}
	}
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	if err := s.Send(short, []byte("one too many")); err == nil {
		t.Error("the sender is not held back by a receiver that takes nothing")
	}
	for i := range 64 {
		if got, err := r.Receive(ctx); err != nil || !bytes.Equal(got, content(i, 10)) {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- s.Send(ctx, []byte("now")) }()
	if got, err := r.Receive(ctx); err != nil || string(got) != "now" {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func fence(t *testing.T, b link.Bus) {
	o := options(b, "fence")
	s, r := ends(t, o, o)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	other, old := o, o
	other.Run = [16]byte{9}
	old.Epoch = 4
	if err := s.Send(ctx, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Receive(ctx); err != nil || string(got) != "first" {
		t.Fatalf("%q, %v", got, err)
	}
	for _, x := range []link.EdgeOptions{other, old} {
		f, err := link.NewSender(x, 78)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Send(ctx, []byte("foreign")); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	for i := range 50 {
		if err := b.Publish(o.Subject, content(i, i*10)); err != nil {
			t.Error(err)
		}
		if err := b.Publish(o.Subject+".credit", content(i, i*10)); err != nil {
			t.Error(err)
		}
	}
	if err := s.Send(ctx, []byte("second")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Receive(ctx); err != nil || string(got) != "second" {
		t.Errorf("%q, %v", got, err)
	}
	for r.Refused() < 40 { // a bus without order may still carry some
		select {
		case <-ctx.Done():
			t.Fatalf("%d messages refused", r.Refused())
		case <-time.After(time.Millisecond):
		}
	}
	young := o
	young.Epoch = 6
	f, err := link.NewSender(young, 79)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := f.Send(ctx, []byte("of a later start")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Receive(ctx); err != nil || string(got) != "of a later start" {
		t.Errorf("%q, %v", got, err)
	}
}

// bad loses, doubles, cuts and swaps messages.
type bad struct {
	link.Bus
	mu   sync.Mutex
	r    *rand.Rand
	held []byte
	to   string
}

func (b *bad) Publish(subject string, data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.r.IntN(20) {
	case 0:
		return nil
	case 1:
		data = data[:b.r.IntN(len(data))]
	case 2:
		if err := b.Bus.Publish(subject, data); err != nil {
			return err
		}
	case 3:
		if b.held == nil {
			b.held, b.to = bytes.Clone(data), subject
			return nil
		}
	}
	if err := b.Bus.Publish(subject, data); err != nil {
		return err
	}
	if b.held != nil && b.r.IntN(3) == 0 {
		held := b.held
		b.held = nil
		return b.Bus.Publish(b.to, held)
	}
	return nil
}
