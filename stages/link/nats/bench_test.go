package nats_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"vtpu/stages/link"
	"vtpu/stages/link/broker"
	"vtpu/stages/link/nats"
)

// raw sends n messages of size bytes with nats.go alone, in pieces where one is above the largest payload, and waits until all are there. 32 MiB are under
// way at most: NATS cuts off a receiver that is 64 MiB behind.
func raw(b *testing.B, url string, size, n int) time.Duration {
	out, err := natsgo.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	in, err := natsgo.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	var wg sync.WaitGroup
	wg.Add(1)
	var got atomic.Int64
	sub, err := in.Subscribe("raw", func(m *natsgo.Msg) {
		if got.Add(int64(len(m.Data))) == int64(size)*int64(n) {
			wg.Done()
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		b.Fatal(err)
	}
	if err := in.Flush(); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, size)
	most := int(out.MaxPayload())
	begin := time.Now()
	for i := range n {
		for int64(i*size)-got.Load() > 32<<20 {
			time.Sleep(20 * time.Microsecond)
		}
		for at := 0; at < size; at += most {
			if err := out.Publish("raw", data[at:min(at+most, size)]); err != nil {
				b.Fatal(err)
			}
		}
	}
	wg.Wait()
	return time.Since(begin)
}

// edge sends the same over an edge.
func edge(b *testing.B, url string, size, n int) time.Duration {
	out, err := nats.Connect(nats.Options{URL: url})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	in, err := nats.Connect(nats.Options{URL: url})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	o := link.EdgeOptions{Subject: "edge", Bus: in}
	r, err := link.NewReceiver(o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := in.Flush(); err != nil {
		b.Fatal(err)
	}
	o.Bus = out
	s, err := link.NewSender(o, 1)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := out.Flush(); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	data := make([]byte, size)
	var wg sync.WaitGroup
	begin := time.Now()
	wg.Go(func() {
		for range n {
			buf := s.Buffer(size)
			if size <= 64<<10 {
				buf = append(buf, data...)
			} else {
				buf = buf[:link.HeadSize+size] // whoever writes large messages writes them here at once
			}
			if err := s.Give(ctx, buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
	for range n {
		if _, err := r.Receive(ctx); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	return time.Since(begin)
}

// BenchmarkEdge compares an edge with nats.go alone: both sides alternating, medians of seven rounds.
func BenchmarkEdge(b *testing.B) {
	br, err := broker.Start(broker.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = br.Close() }()
	for _, c := range []struct{ size, n int }{{1 << 10, 100000}, {64 << 10, 4000}, {4 << 20, 60}} {
		b.Run(fmt.Sprintf("%dKiB", c.size>>10), func(b *testing.B) {
			for range b.N {
				var rs, es []float64
				for range 7 {
					rs = append(rs, raw(b, br.URL(), c.size, c.n).Seconds())
					es = append(es, edge(b, br.URL(), c.size, c.n).Seconds())
				}
				slices.Sort(rs)
				slices.Sort(es)
				mb := float64(c.size) * float64(c.n) / 1e6
				b.ReportMetric(mb/rs[3], "raw-MB/s")
				b.ReportMetric(mb/es[3], "edge-MB/s")
				b.ReportMetric(rs[3]/es[3], "of-raw")
			}
		})
	}
}
