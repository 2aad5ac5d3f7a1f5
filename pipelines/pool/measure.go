package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vtpu/stages"
	"vtpu/stages/link"
)

// A Rehearsal computes parts in this process one by one, as a worker behind a link would: weights, parts and results become frames and are read from
// them, only the bus is missing. It is an exec.Remote that tells what a step takes.
type Rehearsal struct {
	near, far *Cut // of two plans of the same pipeline: the coordinator's and the worker's
	c         Computer
	log       changes

	mu    sync.Mutex
	step  int64
	codec coder
	buf   []byte
	now   Took
	took  []Took
}

// Took is what a step took, and the bytes of its messages, heads included.
type Took struct {
	Compute                time.Duration // of all parts
	Weights, Work, Result  time.Duration // making frames and reading them: of the weights, of all parts, of all results
	WeightsBytes           int64         // 0: nothing was sent
	WorkBytes, ResultBytes int64         // of all parts
}

// NewRehearsal makes one for a worker that computes with c.
func NewRehearsal(near, far *Cut, c Computer) *Rehearsal {
	r := &Rehearsal{near: near, far: far, c: c, step: -1}
	near.track()
	return r
}

// Returns are the tensors of a body that Part writes.
func (r *Rehearsal) Returns() []stages.Slot { return r.near.returns() }

// Part computes a part.
func (r *Rehearsal) Part(ctx context.Context, m *stages.Message) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	start := time.Now()
	lap := func(d *time.Duration) {
		now := time.Now()
		*d += now.Sub(start)
		start = now
	}
	if m.Step != r.step {
		if err := r.begin(m.Step); err != nil {
			return err
		}
		lap(&r.now.Weights)
	}
	far := r.c.Message()
	if r.buf, err = r.codec.work(r.buf, r.near, m); err != nil {
		return err
	}
	r.now.WorkBytes += chunked(int64(len(r.buf)) - link.HeadSize)
	if err := r.codec.readWork(r.buf[link.HeadSize:], r.far, 1<<40, far); err != nil {
		return err
	}
	lap(&r.now.Work)
	if err := r.c.Compute(ctx); err != nil {
		return err
	}
	lap(&r.now.Compute)
	if r.buf, err = r.codec.result(r.buf, r.far, far); err != nil {
		return err
	}
	r.now.ResultBytes += chunked(int64(len(r.buf)) - link.HeadSize)
	err = r.codec.readResult(r.buf[link.HeadSize:], r.near, 1<<40, m)
	lap(&r.now.Result)
	return err
}

// begin brings the worker's weights up to date.
func (r *Rehearsal) begin(step int64) (err error) {
	if r.step >= 0 {
		r.took = append(r.took, r.now)
	}
	r.now = Took{}
	ids := make([][]int32, len(r.near.Params))
	for i, p := range r.near.Params {
		if p.Tracked() {
			ids[i] = p.Recent()
		}
	}
	r.log.note(step, ids)
	base := step - 1
	if r.step < 0 {
		base = -1
	}
	r.step = step
	if r.buf, err = r.codec.weights(r.buf, r.near, base, step, &r.log); err != nil {
		return err
	}
	r.now.WeightsBytes = chunked(int64(len(r.buf)) - link.HeadSize)
	return r.codec.readWeights(r.buf[link.HeadSize:], r.far, 1<<40, max(base, 0))
}

// Steps is what each step took that has been followed by another one. The first sends all weights.
func (r *Rehearsal) Steps() []Took {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.took
}

// MeasureBus sends messages with bodies of so many bytes there and back between two threads of this process, on subjects below base. It returns the
// median time one way of each size: heads, cutting, checking and putting together included, making and reading frames not.
func MeasureBus(b link.Bus, base string, sizes ...int) (ts []time.Duration, err error) {
	const long, least, most = 150 * time.Millisecond, 8, 2000 // for each size
	n := slices.Max(sizes)
	limit := func(k link.Kind) int {
		if k == kWork {
			return n
		}
		return 0
	}
	me := number()
	var stops []func() error
	defer func() {
		for _, stop := range stops {
			err = errors.Join(err, stop())
		}
	}()
	ends := [2]chan []byte{}
	var as [2]*link.Assembler
	subject := func(i int) string { return fmt.Sprintf("%s.measure.%016x.%d", base, me, i) }
	for i := range ends {
		ends[i] = make(chan []byte, 4)
		a := &link.Assembler{Limit: limit, Open: 2}
		as[i] = a
		stop, err := b.Subscribe(subject(i), func(data []byte) {
			if _, body, err := a.Add(data); err == nil && body != nil {
				select {
				case ends[i] <- body:
				default: // doubled by the bus
				}
			}
		})
		if err != nil {
			return nil, err
		}
		stops = append(stops, stop)
	}
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	msg := uint64(0)
	bufs := [2][]byte{room(nil), room(nil)}
	send := func(i, n int) error {
		if cap(bufs[i]) < link.HeadSize+n {
			bufs[i] = make([]byte, link.HeadSize+n)
		}
		msg++
		_, err := link.Send(b, subject(i), &link.Head{Kind: kWork, From: me, Message: msg}, bufs[i][:link.HeadSize+n])
		return err
	}
	pass := func(i, n int) error {
		if err := send(i, n); err != nil {
			return err
		}
		select {
		case body := <-ends[i]:
			as[i].Release(body)
			return nil
		case <-late.C:
			return &stages.EnvError{Err: errors.New("a message of the measurement did not arrive"), Fix: "is the broker reachable and idle?"}
		}
	}
	for _, n := range sizes {
		var all []time.Duration
		for begin := time.Now(); len(all) < least || time.Since(begin) < long && len(all) < most; {
			start := time.Now()
			for i := range ends {
				if err := pass(i, n); err != nil {
					return nil, err
				}
			}
			all = append(all, time.Since(start)/2)
		}
		all = all[len(all)/4:] // the first ones meet cold buffers
		slices.Sort(all)
		ts = append(ts, all[len(all)/2])
	}
	return ts, nil
}
