package link_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"vtpu/stages/link"
)

// box is a bus that keeps what is published.
type box struct {
	max  int
	sent [][]byte
}

func (b *box) Publish(_ string, data []byte) error {
	b.sent = append(b.sent, bytes.Clone(data))
	return nil
}
func (b *box) Subscribe(string, func([]byte)) (func() error, error) { return nil, nil }
func (b *box) MaxPayload() int                                      { return b.max }
func (b *box) Close() error                                         { return nil }

func message(n int, r *rand.Rand) []byte {
	b := make([]byte, link.HeadSize+n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func assembler() *link.Assembler {
	return &link.Assembler{Limit: func(k link.Kind) int { return map[link.Kind]int{1: 10000, 2: 10}[k] }, Open: 4}
}

func TestChunksComeTogetherInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 871, 872, 873, 1000, 1744, 9999, 10000} {
		b := &box{max: 1000}
		h := link.Head{Kind: 1, Run: [16]byte{3, 4}, Epoch: 5, From: 6, Step: 7, Part: 8, Version: 9, Base: -1, Message: uint64(n)}
		buf := message(n, r)
		want := bytes.Clone(buf)
		sent, err := link.Send(b, "s", &h, buf)
		if err != nil || !bytes.Equal(buf, want) {
			t.Fatalf("%d bytes: %v, buffer whole: %v", n, err, bytes.Equal(buf, want))
		}
		total := 0
		for _, c := range b.sent {
			total += len(c)
		}
		if sent != total {
			t.Errorf("%d bytes: says %d were sent, it were %d", n, sent, total)
		}
		a := assembler()
		chunks := append(b.sent, b.sent[:len(b.sent)-1]...) // most of them twice
		r.Shuffle(len(chunks), func(i, j int) { chunks[i], chunks[j] = chunks[j], chunks[i] })
		got := 0
		for _, c := range chunks {
			gh, body, err := a.Add(c)
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if body != nil {
				got++
				if gh != h || !bytes.Equal(body, want[link.HeadSize:]) {
					t.Errorf("%d bytes: %+v with another body", n, gh)
				}
				a.Release(body)
			}
		}
		if got < 1 {
			t.Errorf("%d bytes: came %d times", n, got)
		}
	}
}

func TestHostileChunksAreRefused(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	a := assembler()
	add := func(data []byte, want error) {
		t.Helper()
		if _, body, err := a.Add(data); !errors.Is(err, want) || body != nil {
			t.Errorf("%v, want %v", err, want)
		}
	}
	chunks := func(n int, kind link.Kind) [][]byte {
		b := &box{max: 1000}
		if _, err := link.Send(b, "s", &link.Head{Kind: kind, Message: r.Uint64()}, message(n, r)); err != nil {
			t.Fatal(err)
		}
		return b.sent
	}
	add(nil, link.ErrForeign)
	add(message(0, r), link.ErrForeign)
	add(chunks(5, 3)[0], link.ErrForeign)
	add(chunks(11, 2)[0], link.ErrTooLarge)
	add(chunks(1<<20, 1)[0], link.ErrTooLarge)
	c := chunks(3000, 1)
	for i := range 2000 {
		d := bytes.Clone(c[i%len(c)])
		d[r.IntN(link.HeadSize)] ^= 1 << r.IntN(8)
		if _, body, err := a.Add(d); err == nil || body != nil {
			t.Fatalf("a flipped bit went unseen: %v", err)
		}
	}
	p := bytes.Clone(c[0])
	p[4]++
	add(p, link.ErrProtocol)
	add(c[0][:200], link.ErrChunk)
	for range 100 { // many begun and never ended
		add(chunks(9000, 1)[0], nil)
	}
}

func FuzzAdd(f *testing.F) {
	b := &box{max: 1000}
	if _, err := link.Send(b, "s", &link.Head{Kind: 1}, make([]byte, 3000)); err != nil {
		f.Fatal(err)
	}
	for _, c := range b.sent {
		f.Add(c)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		a := assembler()
		_, _, _ = a.Add(data)
	})
}
