package pool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"vtpu/pipelines/pool"
	"vtpu/stages"
	"vtpu/stages/link/wm"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// loader gathers numbers that say which step and part they are of.
type loader struct {
	m    *stages.Message
	slow time.Duration
}

func (l *loader) Message() *stages.Message { return l.m }

func (l *loader) Compute(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(l.slow):
	}
	m := l.m
	m.First, m.Rows, m.Count = 2*int(m.Part), 2, 6
	t := m.T(0)
	t.Resize(tensor.Of(2))
	t.I32[0], t.I32[1] = int32(m.Step), m.Part
	return nil
}

// What is gathered ahead is what is asked for: also after a jump, for a part that is taken again, and while loaders come and go.
func TestGatheringAheadFollowsTheRun(t *testing.T) {
	const parts, ahead, end = 3, 5, 400
	ch := wm.NewGoChannel()
	bus := wm.NewBus(ch, ch, 4096)
	defer func() {
		if err := errors.Join(ch.Close(), bus.Close()); err != nil {
			t.Error(err)
		}
	}()
	layout := &stages.Layout{}
	slot := layout.AddData(stages.SlotInfo{Name: "x", DType: tensor.I32, Shape: tensor.Of(4)})
	o := pool.Options{Bus: bus, Identity: "0123456789abcdef0123", Stages: "gather", Steps: end, Log: zerolog.Nop(), Times: pool.Times{Beat: 20 * time.Millisecond, Dead: 200 * time.Millisecond, Lost: 50 * time.Millisecond},
		Cut: &pool.Cut{Layout: layout, Store: weights.NewStore(), Parts: parts, Extra: []stages.Slot{slot}, Gathers: true, Ahead: ahead}}
	co := o
	co.Run, co.Epoch = pool.NewRunID(), 1
	c, err := pool.NewCoordinator(co)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range 3 {
		wg.Go(func() {
			for ctx.Err() == nil { // it leaves now and then, with parts in hand
				life, end := context.WithTimeout(ctx, time.Duration(100+100*i)*time.Millisecond)
				_, err := pool.NewWorker(o, &loader{layout.NewMessage(), time.Duration(i) * time.Millisecond}).Run(life, false)
				end()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	m := layout.NewMessage()
	take := func(step int64, part int32) {
		t.Helper()
		m.Head = stages.Head{Step: step, Gathered: step / 2, Part: part, Parts: parts}
		m.T(slot).Resize(tensor.Of(1))
		m.T(slot).I32[0] = -1
		ctx, end := context.WithTimeout(ctx, 20*time.Second)
		defer end()
		if err := c.Gather(ctx, m); err != nil {
			t.Fatal(err)
		}
		if x := m.T(slot); len(x.I32) != 2 || x.I32[0] != int32(step) || x.I32[1] != part || m.First != 2*int(part) || m.Rows != 2 || m.Count != 6 || m.Gathered != step/2 {
			t.Fatalf("step %d, part %d: %v %+v", step, part, x.I32, m.Head)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	step := int64(0)
	for range 300 {
		for p := range int32(parts) {
			take(step, p)
		}
		switch r.IntN(20) {
		case 0:
			step = r.Int64N(end) // a jump: what is under way is forgotten
		case 1:
			take(step, r.Int32N(parts)) // once more
			fallthrough
		default:
			step = min(step+1, end-1)
		}
	}
	over, stop := context.WithCancel(ctx)
	stop()
	m.Head = stages.Head{Step: 7, Part: 0, Parts: parts}
	if err := c.Gather(over, m); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := c.Counts(); n.Foreign.Load() > 0 || n.Failed.Load() > 0 || n.Joined.Load() < 6 || n.Left.Load()+n.Lost.Load() == 0 {
		t.Errorf("%d foreign, %d failed, %d joined, %d left, %d lost", n.Foreign.Load(), n.Failed.Load(), n.Joined.Load(), n.Left.Load(), n.Lost.Load())
	}
}
