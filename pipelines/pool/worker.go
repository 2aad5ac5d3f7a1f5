package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vtpu/stages"
	"vtpu/stages/link"
)

// Computer computes the part in its message.
type Computer interface {
	Message() *stages.Message
	Compute(context.Context) error
}

// credit is the number of parts that a worker takes: one to compute and one that waits, so that it need not wait for the wire. Gathering a part is so short
// that several are on their way meanwhile.
func (c *Cut) credit() int {
	if c.ahead() > 1 {
		return 8
	}
	return 2
}

// A Worker computes parts for whichever coordinator it finds. All but the subscriptions is done by the goroutine that calls Run.
type Worker struct {
	o    Options
	c    Computer
	subj subjects
	me   uint64
	lim  func(link.Kind) int
	in   chan parcel
	n    WorkerCounts

	before int64 // parts computed before the run was joined
	run    RunID
	epoch  uint64 // 0: no run
	leave  []func() error
	last   bool      // the run that has ended was the last
	pulse  time.Time // last sign of life of the coordinator
	coord  uint64
	have   int64
	asked  time.Time
	queue  []parcel // parts, in the order in which they came
	codec  coder
	out    []byte
	cbuf   []byte
	msg    uint64
	warned map[string]bool
	pub    sync.Mutex // Beats go out while a part is computed
	fence  atomic.Pointer[fence]
	chunk  atomic.Int64 // when the last chunk came of a message that is in the making, in nanoseconds since 1970
	done   link.Head    // of the part whose result is in out
}

// WorkerCounts are what a worker did.
type WorkerCounts struct{ Parts, Stale, Foreign, Weights int64 }

// fence is the run that a worker is in.
type fence struct {
	run   RunID
	epoch uint64
}

type parcel struct {
	h    link.Head
	body []byte
	free func([]byte)
	err  error
}

// ErrRefused says that a coordinator does not want this worker.
var ErrRefused = errors.New("refused by the coordinator")

// NewWorker makes a worker. Call Run.
func NewWorker(o Options, c Computer) *Worker {
	o.Times.defaults()
	return &Worker{o: o, c: c, subj: o.subjects(), me: number(), lim: o.Cut.limit(), in: make(chan parcel, 256), have: -1, warned: map[string]bool{}}
}

func (w *Worker) listen(subject string) (func() error, error) {
	a := &link.Assembler{Limit: w.lim, Open: 4}
	return w.o.Bus.Subscribe(subject, func(data []byte) {
		h, body, err := a.Add(data)
		if err == nil && body == nil {
			if f := w.fence.Load(); f != nil && h.Run == [16]byte(f.run) && h.Epoch == f.epoch {
				w.chunk.Store(time.Now().UnixNano()) // a sign of life: others wait behind it
			}
			return
		}
		select {
		case w.in <- parcel{h, body, a.Release, err}:
		default: // a flood: what is missing is asked for again
			a.Release(body)
		}
	})
}

// Run works until ctx ends, until a run that it has joined ends as the last one on the bus or, if once is set, until any does. It returns what it did.
func (w *Worker) Run(ctx context.Context, once bool) (WorkerCounts, error) {
	stop, err := w.listen(w.subj.inbox(w.me))
	if err != nil {
		return w.n, err
	}
	defer func() { _ = stop() }()
	defer func() { _ = w.part() }()
	beats := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(beats)
	wg.Go(func() { w.beats(beats) })
	tick := time.NewTicker(w.o.Times.Beat / 2)
	defer tick.Stop()
	alone := time.Now().Add(5 * time.Second)
	for {
		var p parcel
		select {
		case <-ctx.Done():
			w.send(w.subj.coord(w.run), kBye, nil, nil)
			return w.n, nil
		case p = <-w.in:
		case <-tick.C:
		}
		if p.h.Kind != 0 || p.err != nil {
			done, err := w.take(p)
			if err != nil || done && (once || w.last) {
				return w.n, err
			}
		}
		// Take what is there before a part is begun: weights may be among it.
		for more := true; more; {
			select {
			case p = <-w.in:
				done, err := w.take(p)
				if err != nil || done && (once || w.last) {
					return w.n, err
				}
			default:
				more = false
			}
		}
		if w.epoch != 0 && w.silent() > 2*w.o.Times.Dead {
			w.o.Log.Warn().Str("run", w.run.String()).Msg("the coordinator is silent: looking for another run")
			_ = w.part()
		}
		if w.epoch != 0 {
			alone = time.Time{}
		} else if !alone.IsZero() && time.Now().After(alone) { // a run of another pipeline calls elsewhere: neither hears the other
			alone = time.Time{}
			w.o.Log.Info().Msg("no run has called yet: a run and its workers have the same broker, file, --set and seed")
		}
		if err := w.work(ctx); err != nil {
			return w.n, err
		}
	}
}

// silent is how long nothing has come from the coordinator.
func (w *Worker) silent() time.Duration {
	return min(time.Since(w.pulse), time.Since(time.Unix(0, w.chunk.Load())))
}

// beats tells the coordinator that this process lives, also while a part is computed.
func (w *Worker) beats(quit chan struct{}) {
	tick := time.NewTicker(w.o.Times.Beat)
	defer tick.Stop()
	for {
		w.hello()
		select {
		case <-quit:
			return
		case <-tick.C:
		}
	}
}

func (w *Worker) hello() {
	w.pub.Lock()
	subject := w.subj.hello()
	if w.epoch != 0 {
		subject = w.subj.coord(w.run)
	}
	w.pub.Unlock()
	b, err := json.Marshal(hello{w.o.Stages, w.o.Build, w.o.ISA, w.o.Identity, w.o.Cut.credit(), w.o.Host})
	if err != nil {
		return // a struct of texts and a number can be written
	}
	w.send(subject, kHello, nil, b)
}

// send publishes a message without tensors.
func (w *Worker) send(subject string, k link.Kind, about *link.Head, body []byte) {
	w.pub.Lock()
	defer w.pub.Unlock()
	w.cbuf = append(room(w.cbuf), body...)
	w.publish(subject, k, about, w.cbuf)
}

// publish sends buf. The caller holds pub.
func (w *Worker) publish(subject string, k link.Kind, about *link.Head, buf []byte) {
	h := link.Head{Kind: k, Run: w.run, Epoch: w.epoch, From: w.me, Version: w.have}
	if about != nil {
		h.Step, h.Part, h.Version = about.Step, about.Part, about.Version
	}
	w.msg++
	h.Message = w.msg
	if _, err := link.Send(w.o.Bus, subject, &h, buf); err != nil {
		w.warn("publish", "a message could not be sent: "+err.Error())
	}
}

// warn logs something once. It may be called by both goroutines, both of which hold pub or are the only one.
func (w *Worker) warn(key, msg string) {
	if !w.warned[key] && len(w.warned) < 1000 {
		w.warned[key] = true
		w.o.Log.Warn().Msg(msg)
	}
}

// part leaves the run.
func (w *Worker) part() error {
	var errs []error
	for _, stop := range w.leave {
		errs = append(errs, stop())
	}
	w.leave = nil
	w.pub.Lock()
	w.run, w.epoch, w.have = RunID{}, 0, -1
	w.pub.Unlock()
	w.fence.Store(nil)
	w.done = link.Head{}
	for _, p := range w.queue {
		p.free(p.body)
	}
	w.queue = w.queue[:0]
	return errors.Join(errs...)
}

// take handles a message. done says that the run has ended.
func (w *Worker) take(p parcel) (done bool, err error) {
	kept := false
	defer func() {
		if !kept && p.body != nil {
			p.free(p.body)
		}
	}()
	h := &p.h
	if p.err != nil {
		w.n.Foreign++
		w.pub.Lock()
		w.warn(p.err.Error(), "a message was dropped: "+p.err.Error())
		w.pub.Unlock()
		return false, nil
	}
	ours := w.epoch != 0 && h.Run == [16]byte(w.run) && h.Epoch == w.epoch
	if ours {
		w.pulse = time.Now()
	}
	switch h.Kind {
	case 0: // nothing: something is in the queue
		return false, nil
	case kWelcome:
		return false, w.welcome(h)
	case kRefused:
		if w.epoch != 0 {
			return false, nil // we have a run; what another one wants does not matter
		}
		var r reason
		if err := json.Unmarshal(p.body, &r); err != nil {
			w.n.Foreign++
			return false, nil
		}
		return false, stages.Finding{Msg: fmt.Sprintf("%v: %s", ErrRefused, r.Msg), Fix: r.Fix}
	}
	if !ours {
		w.n.Stale++
		return false, nil
	}
	switch h.Kind {
	case kPulse:
	case kEnd:
		w.o.Log.Info().Str("run", w.run.String()).Int64("parts", w.n.Parts-w.before).Msg("the run has ended")
		var e end
		w.last = json.Unmarshal(p.body, &e) == nil && e.Last
		return true, w.part()
	case kWork:
		for _, q := range w.queue {
			if q.h.Step == h.Step && q.h.Part == h.Part {
				return false, nil // twice
			}
		}
		if h.Version < w.have || len(w.queue) >= 4*w.o.Cut.credit() {
			w.n.Stale++
			return false, nil
		}
		w.queue = append(w.queue, p)
		kept = true
	case kWeights:
		w.weights(h, p.body)
	default:
		w.n.Foreign++
	}
	return false, nil
}

// welcome joins a run: the first that asks, or a later start of the present one.
func (w *Worker) welcome(h *link.Head) error {
	if w.epoch != 0 {
		alive := w.silent() < w.o.Times.Dead
		if h.Run == [16]byte(w.run) {
			if h.Epoch == w.epoch || h.Epoch < w.epoch && alive {
				return nil
			}
		} else if alive {
			return nil
		}
		if err := w.part(); err != nil {
			w.o.Log.Warn().Err(err).Msg("leaving a run")
		}
	}
	run := RunID(h.Run)
	for _, subject := range []string{w.subj.all(run), w.subj.work(run, w.me)} {
		stop, err := w.listen(subject)
		if err != nil {
			w.o.Log.Warn().Err(err).Msg("a run can't be joined")
			return w.part()
		}
		w.leave = append(w.leave, stop)
	}
	w.pub.Lock()
	w.run, w.epoch, w.have, w.coord = run, h.Epoch, -1, h.From
	w.pub.Unlock()
	w.fence.Store(&fence{run, h.Epoch})
	w.pulse, w.before = time.Now(), w.n.Parts
	w.o.Log.Info().Str("run", run.String()).Msg("joined a run")
	w.hello()
	return nil
}

func (w *Worker) weights(h *link.Head, body []byte) {
	if h.Version <= w.have {
		return // we have these, or later ones
	}
	if h.Base > w.have {
		w.need()
		return
	}
	if err := w.codec.readWeights(body, w.o.Cut, int64(w.lim(kWeights)), w.have); err != nil {
		w.n.Foreign++
		w.o.Log.Warn().Err(err).Msg("weights that do not fit were dropped")
		w.need()
		return
	}
	w.n.Weights++
	w.pub.Lock()
	w.have = h.Version
	w.pub.Unlock()
}

// need asks for the weights that are missing, now and then, and not while they seem to come.
func (w *Worker) need() {
	if time.Since(w.asked) < w.o.Times.Beat/2 || time.Since(time.Unix(0, w.chunk.Load())) < w.o.Times.Beat {
		return
	}
	w.asked = time.Now()
	w.send(w.subj.coord(w.run), kNeed, nil, nil)
}

// work computes one part of the queue, if the weights for it are here.
func (w *Worker) work(ctx context.Context) error {
	for len(w.queue) > 0 {
		p := w.queue[0]
		if p.h.Version > w.have && len(w.o.Cut.Params) > 0 {
			w.need()
			return nil
		}
		w.queue = append(w.queue[:0], w.queue[1:]...)
		if p.h.Version < w.have {
			w.n.Stale++
			p.free(p.body)
			continue
		}
		err := w.compute(ctx, &p)
		p.free(p.body)
		if err == nil {
			w.n.Parts++
			return w.again()
		}
		if ctx.Err() != nil {
			return nil
		}
		r := reason{Msg: err.Error()}
		var f stages.Finding
		if errors.As(err, &f) {
			r = reason{Msg: f.Msg, Fix: f.Fix, User: true}
		}
		var at interface{ Where() string }
		if errors.As(err, &at) {
			r.Stage = at.Where()
		}
		b, jerr := json.Marshal(r)
		if jerr != nil {
			return jerr
		}
		w.send(w.subj.coord(w.run), kFailed, &p.h, b)
	}
	return nil
}

// again makes Run come back at once where parts are left.
func (w *Worker) again() error {
	if len(w.queue) > 0 {
		select {
		case w.in <- parcel{}:
		default: // something else is there to come back for
		}
	}
	return nil
}

func (w *Worker) compute(ctx context.Context, p *parcel) error {
	if h := &w.done; h.Kind == kWork && h.Step == p.h.Step && h.Part == p.h.Part && h.Version == p.h.Version { // its result came late, or got lost
		w.pub.Lock()
		defer w.pub.Unlock()
		w.publish(w.subj.coord(w.run), kResult, &p.h, w.out)
		return nil
	}
	w.done = link.Head{}
	m := w.c.Message()
	if err := w.codec.readWork(p.body, w.o.Cut, int64(w.lim(kWork)), m); err != nil {
		return err
	}
	if m.Step != p.h.Step || m.Part != int32(p.h.Part) {
		return fmt.Errorf("part %d of step %d in a frame for part %d of step %d", m.Part, m.Step, p.h.Part, p.h.Step)
	}
	if err := w.c.Compute(ctx); err != nil {
		return err
	}
	var err error
	if w.out, err = w.codec.result(w.out, w.o.Cut, m); err != nil {
		return err
	}
	w.pub.Lock()
	defer w.pub.Unlock()
	w.publish(w.subj.coord(w.run), kResult, &p.h, w.out)
	w.done = p.h
	return nil
}
