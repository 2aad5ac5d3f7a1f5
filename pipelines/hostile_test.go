package pipelines_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"vtpu/compute/kernel"
	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/pool"
	"vtpu/stages/link"
)

// tap is a bus that shows an attacker all that goes through it.
type tap struct {
	link.Bus
	mu   sync.Mutex
	seen map[string][][]byte
}

func (b *tap) Publish(subject string, data []byte) error {
	b.mu.Lock()
	if len(b.seen[subject]) < 200 {
		b.seen[subject] = append(b.seen[subject], bytes.Clone(data))
	}
	b.mu.Unlock()
	return b.Bus.Publish(subject, data)
}

// subjects lists where messages went, and a copy of them.
func (b *tap) all() map[string][][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := map[string][][]byte{}
	for k, v := range b.seen {
		m[k] = append([][]byte(nil), v...)
	}
	return m
}

// huge makes a frame claim 4 GiB, with a right checksum.
func huge(frame []byte) []byte {
	f := bytes.Clone(frame)
	binary.LittleEndian.PutUint64(f[72:], 4<<30)
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(f[52:], crc32.Update(crc32.Update(0, table, f[:52]), table, f[56:link.HeadSize]))
	return f
}

func TestHostilePeersChangeNoBit(t *testing.T) {
	o := pipelines.Options{File: "digits", Steps: 150, LookAhead: -1, Sets: []string{"parts=4"}}
	want := bits(train(t, o))
	bus := &tap{Bus: core(t), seen: map[string][][]byte{}}
	var log bytes.Buffer
	o.Link = &pipelines.Link{Bus: bus, Local: 2, Log: zerolog.New(zerolog.SyncWriter(&log))}
	if got := bits(train(t, o)); got != want {
		t.Fatalf("an undisturbed run: %s, want %s", got, want)
	}
	old := bus.all()
	var c *pool.Coordinator
	quit := make(chan struct{})
	var wg sync.WaitGroup
	o.Link.Joined = func(j *pool.Coordinator) {
		c = j
		wg.Go(func() { flood(bus, old, 5, quit) })
		unwelcome(t, &wg, o, bus.Bus, []pool.Options{{Build: "another version", ISA: kernel.ISA()}, {Build: pipelines.Build(), ISA: "abacus"}})
	}
	got := bits(train(t, o))
	close(quit)
	wg.Wait()
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	n := c.Counts()
	if n.Refused.Load() != 2 || n.Foreign.Load() < 10 || n.Stale.Load() < 10 {
		t.Errorf("%d refused, %d foreign, %d stale", n.Refused.Load(), n.Foreign.Load(), n.Stale.Load())
	}
	for _, once := range []string{link.ErrForeign.Error(), link.ErrTooLarge.Error(), "worker refused: it computes with abacus"} {
		if k := strings.Count(log.String(), once); k < 1 || k > 6 { // each process says it once for itself
			t.Errorf("%q was logged %d times", once, k)
		}
	}
}

// flood sends to every subject that was seen, until quit: noise, cut frames, frames that claim too much or whose end is bent, frames once more, and everything of the run before,
// also under the names of this one.
func flood(bus *tap, old map[string][][]byte, seed uint64, quit <-chan struct{}) {
	r := rand.New(rand.NewPCG(seed, seed+1))
	for {
		for subject, frames := range bus.all() {
			noise := make([]byte, r.IntN(3000))
			for i := range noise {
				noise[i] = byte(r.Uint32())
			}
			f := frames[r.IntN(len(frames))]
			bent := bytes.Clone(f) // the head is right, what follows is not
			for i := link.HeadSize; i < len(bent); i += 1 + r.IntN(50) {
				bent[i] ^= byte(1 + r.IntN(255))
			}
			for _, data := range [][]byte{noise, f[:r.IntN(len(f))], huge(f), f, bent} {
				_ = bus.Bus.Publish(subject, data)
			}
			for _, before := range old {
				_ = bus.Bus.Publish(subject, before[r.IntN(len(before))])
			}
		}
		select {
		case <-quit:
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// unwelcome starts workers of the run of o that are to be refused before they compute anything.
func unwelcome(t *testing.T, wg *sync.WaitGroup, o pipelines.Options, bus link.Bus, all []pool.Options) {
	for _, bad := range all {
		p, _, err := pipelines.Prepare(o)
		if err != nil {
			t.Fatal(err)
		}
		if bad.Cut, err = p.Cut(); err != nil {
			t.Fatal(err)
		}
		w, err := exec.NewWorker(p.Program(func() {}))
		if err != nil {
			t.Fatal(err)
		}
		bad.Bus, bad.Identity, bad.Log = bus, p.Identity(), zerolog.Nop()
		wg.Go(func() {
			n, err := pool.NewWorker(bad, w).Run(t.Context(), true)
			if err == nil || !strings.Contains(err.Error(), "refused by the coordinator") || n.Parts > 0 {
				t.Errorf("a worker of %s with %s for %q: %v after %d parts", bad.Build, bad.ISA, bad.Stages, err, n.Parts)
			}
		})
	}
}
