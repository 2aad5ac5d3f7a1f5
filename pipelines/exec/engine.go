package exec

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"vtpu/smtpool"
	"vtpu/stages"
	"vtpu/stages/link/ring"
)

// Outcome is what is known of a finished step.
type Outcome struct {
	Step       int64 // from 0
	Loss       float64
	Hits, Seen int64
}

// An Engine runs a program. It is used by one goroutine; between two calls of Run the pipeline is drained.
type Engine struct {
	prog  Program
	place Placement
	ctx   context.Context // of the present Run: a stage that waits must heed it

	gather []unit
	finish []stages.Finisher
	work   [][]unit // forward and backward, for each D lane
	eval   []unit   // forward
	close  []unit
	aside  []unit          // behind close, beside the D lanes; without an S lane they are part of close
	left   *stages.Message // of the newest step: the units aside have not seen it
	reduce absorber        // among close, or nil
	early  *early          // the update inside backward, or nil
	team   *stages.Team
	serial []unit // gather, work and close as one: one lane, one part
	taped  []unit // the same with tapes, or nil

	version int64 // steps committed, as the conductor knows it
	last    Outcome
	stop    atomic.Bool
	pause   bool // set by a stage in close: return to the caller after this step

	free   []*stages.Message
	bodies []*stages.Body
	spare  *stages.Body        // where parts are computed elsewhere: to evaluate with
	ahead  [][]*stages.Message // gathered steps: step t in ahead[t % len]
	next   int64               // step that gather works on next
	out    outbox

	lanes  []*lane
	closer *closer
	mu     sync.RWMutex // S lanes: close writes the store, gather ahead reads it
	lock   bool         // mu is needed
	wg     sync.WaitGroup
	broken error
	ended  bool // the data has
}

// absorber is the reduction: it takes the messages of a step's parts and sends one. Absorbed returns those that it is done with since the
// last call.
type absorber interface{ Absorbed() []*stages.Message }

// result is what a D lane hands on.
type result struct {
	m   *stages.Message
	err error
	cut int // above 0: not the end, but the place in the walk where the gradients of that cut are complete
}

// lane is a D lane of its own thread.
type lane struct {
	in  *ring.Ring[*stages.Message] // nil: a share of the team's work
	out *ring.Ring[result]
}

// returned is what the second S lane hands back to the first.
type returned struct {
	m     *stages.Message
	done  bool // the step is committed
	pause bool
	res   Outcome
	err   error
}

type closer struct{ back *ring.Ring[returned] }

// New makes the instances and the lanes. Call Close.
func New(p Program, pl Placement) (*Engine, error) {
	if pl.D < 1 || pl.S < 0 || pl.LookAhead < 0 || p.Parts < 1 {
		return nil, fmt.Errorf("exec: placement %+v with %d parts", pl, p.Parts)
	}
	pl.S = min(pl.S, 2)
	helpers := 0 // lanes without parts, which take shares of the stages' work
	if p.Parts == 1 && pl.S == 0 && pl.Remote == nil {
		helpers = pl.D - 1
	}
	pl.D = min(pl.D, p.Parts)
	if pl.Remote != nil {
		pl.D, pl.S, pl.CPUs, pl.Spin = p.Parts, max(pl.S, 1), nil, 0 // lanes that wait for an answer need no CPU
	}
	e := &Engine{prog: p, place: pl, ctx: context.Background()}
	var err error
	fail := func(err error) (*Engine, error) {
		return nil, errors.Join(err, e.closeStages())
	}
	var always *stages.Team // for stages that run while no lane has a part
	if helpers > 0 {
		always = stages.NewTeam(1+helpers, e.callTeam)
		always.Ready(true)
	}
	if e.gather, err = instantiate(p.Gather, always); err != nil {
		return fail(err)
	}
	for d := range pl.D {
		if d > 0 && pl.Remote != nil {
			break // one set of instances, to evaluate with
		}
		us, err := instantiate(p.Middle(), always)
		if err != nil {
			return fail(err)
		}
		e.work = append(e.work, us)
	}
	e.eval = e.work[0][:min(len(p.Forward), len(e.work[0]))]
	if p.Training != nil {
		if e.eval, err = instantiate(p.Forward, always); err != nil {
			e.eval = nil
			return fail(err)
		}
	}
	e.team = always
	if always == nil && pl.S < 2 && pl.D+pl.S > 1 && pl.Remote == nil {
		e.team = stages.NewTeam(pl.D+pl.S, e.callTeam)
	}
	if pl.S == 0 {
		p.Close, p.Aside = slices.Concat(p.Close, p.Aside), nil
	}
	if e.close, err = instantiate(p.Close, e.team); err != nil {
		return fail(err)
	}
	if e.aside, err = instantiate(p.Aside, nil); err != nil {
		return fail(err)
	}
	for i := pl.Skip; i < len(e.gather); i++ {
		if f, ok := e.gather[i].stage.(stages.Finisher); ok {
			e.finish = append(e.finish, f)
		}
	}
	for i := range e.close {
		if a, ok := e.close[i].stage.(absorber); ok {
			e.reduce = a
		}
	}
	if p.Parts == 1 && pl.D == 1 && pl.Remote == nil && len(p.Early) > 0 {
		e.insideBackward(p.Early)
	}
	if p.Parts > 1 && len(p.Backward) > 0 && e.reduce == nil {
		return fail(errors.New("exec: several parts and no reduction"))
	}
	e.version = p.Store.Version()
	e.next = e.version

	threads := pl.D
	if pl.S == 0 {
		threads-- // lane D0 is the caller's
	}
	if threads == 0 || pl.S == 0 && p.Parts == 1 {
		e.place.LookAhead = 0 // nothing runs beside gather
	}
	depth := e.place.LookAhead + 1
	for range depth*p.Parts + min(len(p.Aside), 1) {
		e.free = append(e.free, p.Layout.NewMessage())
	}
	e.ahead = make([][]*stages.Message, depth)
	for i := range e.ahead {
		e.ahead[i] = make([]*stages.Message, 0, p.Parts)
	}
	for range Bodies(p.Parts, pl.D, len(p.Aside) > 0) {
		b := p.Layout.NewBody
		if pl.Remote != nil && pl.Remote.Returns() != nil {
			b = func() *stages.Body { return p.Layout.NewBodyOf(pl.Remote.Returns()) }
		}
		e.bodies = append(e.bodies, b())
	}
	if pl.D == 1 && pl.S == 0 && p.Parts == 1 && pl.Skip == 0 {
		e.serial = append(append(append([]unit{}, e.gather...), e.work[0]...), e.close...)
		e.taped = e.tapes(e.serial[:len(e.gather)], e.serial[len(e.gather):])
	}
	e.start(helpers)
	return e, nil
}

// Bodies is the number of bodies that parts on d lanes need: each lane works on one while the next waits, the reduction holds one, and stages aside another.
func Bodies(parts, d int, aside bool) int {
	n := min(parts, 2*d+1)
	if d == 1 {
		n = min(parts, 2)
	}
	if aside {
		n++
	}
	return n
}

func (e *Engine) cpu(i int) int {
	if i < len(e.place.CPUs) {
		return e.place.CPUs[i]
	}
	return -1
}

// bind holds the goroutine's thread and pins it. A system that does not allow that is no error: the plan says where lanes were wanted.
func bind(cpu int) (release func()) {
	runtime.LockOSThread()
	if cpu < 0 {
		return runtime.UnlockOSThread
	}
	unpin, err := smtpool.Pin(cpu)
	if err != nil {
		return runtime.UnlockOSThread
	}
	return func() { unpin(); runtime.UnlockOSThread() }
}

func (e *Engine) start(helpers int) {
	first := 0
	if e.place.S == 0 {
		first = 1
	}
	e.lanes = make([]*lane, e.place.D+helpers)
	for d := first; d < len(e.lanes); d++ {
		n := max(e.prog.Parts, 8)
		if e.early != nil {
			n = max(n, len(e.early.cuts)+2)
		}
		l := &lane{in: ring.New[*stages.Message](n, e.place.Spin), out: ring.New[result](n, e.place.Spin)}
		e.lanes[d] = l
		if e.place.Remote != nil {
			e.wg.Go(func() { e.runRemote(l) })
			continue
		}
		var us []unit
		if d < len(e.work) {
			us = e.work[d]
		}
		e.wg.Go(func() { e.runLane(l, us, d+e.place.S, e.cpu(e.place.S+d)) })
	}
	if e.place.S == 2 {
		e.lock = len(e.finish) > 0
		e.closer = &closer{back: ring.New[returned](max(e.prog.Parts+1, 8), e.place.Spin)}
		start := e.version
		e.wg.Go(func() { e.runCloser(start, e.cpu(1)) })
	}
}

func caught(where string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("exec: panic in %s: %v\n%s", where, p, debug.Stack())
	}
}

// runLane is the life of a D lane: a part in, a part out.
func (e *Engine) runLane(l *lane, us []unit, number, cpu int) {
	defer bind(cpu)()
	defer l.out.Close()
	var o outbox
	for {
		m, ok := l.in.Pop()
		if !ok {
			return
		}
		var r result
		if m == nil {
			r = e.help(number)
		} else {
			r = e.part(us, m, &o)
		}
		if !l.out.Push(r) || r.err != nil {
			return
		}
	}
}

// runRemote is a lane whose parts are computed elsewhere.
func (e *Engine) runRemote(l *lane) {
	defer l.out.Close()
	for {
		m, ok := l.in.Pop()
		if !ok {
			return
		}
		r := result{m: m}
		if r.err = e.place.Remote.Part(e.ctx, m); r.err != nil {
			if at := (*StageError)(nil); !errors.As(r.err, &at) { // it happened here: it says where
				r.err = fmt.Errorf("step %d, part %d: %w", m.Step+1, m.Part, r.err)
			}
		}
		if !l.out.Push(r) || r.err != nil {
			return
		}
	}
}

func (e *Engine) part(us []unit, m *stages.Message, o *outbox) (r result) {
	defer caught("a D lane", &r.err)
	r.m, r.err = e.walk(us, m, o)
	return r
}

// help does a share of the team's work.
func (e *Engine) help(number int) (r result) {
	defer caught("a lane of the team", &r.err)
	e.team.Part(number)
	return r
}

// callTeam shares work out: the lanes are idle, this is the caller's own thread.
func (e *Engine) callTeam() {
	for _, l := range e.lanes {
		if l != nil {
			l.in.Push(nil)
		}
	}
	e.team.Part(0)
	for d, l := range e.lanes {
		if l == nil {
			continue
		}
		if r, ok := l.out.Pop(); !ok {
			panic(e.lost(d))
		} else if r.err != nil {
			panic(r.err)
		}
	}
}

// runCloser is the life of the second S lane: it takes the parts in their order and ends the steps.
func (e *Engine) runCloser(step int64, cpu int) {
	defer bind(cpu)()
	back := e.closer.back
	defer back.Close()
	var o outbox
	for ; ; step++ {
		for p := range e.prog.Parts {
			r, ok := e.take(p)
			if !ok {
				return
			}
			if r.err == nil {
				if e.lock {
					e.mu.Lock()
				}
				r = e.part(e.close, r.m, &o)
				if e.lock {
					e.mu.Unlock()
				}
			}
			if r.err != nil {
				back.Push(returned{err: r.err})
				return
			}
			if e.reduce != nil {
				for _, m := range e.reduce.Absorbed() {
					if !back.Push(returned{m: m}) {
						return
					}
				}
			}
			if r.m != nil && !back.Push(e.outcome(r.m, p)) {
				return
			}
		}
	}
}

// outcome describes the message that came out of the close segment for part p.
func (e *Engine) outcome(m *stages.Message, p int) returned {
	r := returned{m: m, res: Outcome{Step: m.Step, Loss: m.Loss, Hits: m.Hits, Seen: m.Seen}}
	if p == e.prog.Parts-1 {
		r.done, r.pause, e.pause = true, e.pause, false
	}
	return r
}

// Pause makes Run return after the present step. Only stages of the close segment may call it, from within Process.
func (e *Engine) Pause() { e.pause = true }

// Stop makes Run return after the step in hand. Any goroutine may call it.
func (e *Engine) Stop() { e.stop.Store(true) }

// Version is the number of committed steps.
func (e *Engine) Version() int64 { return e.version }

// Last is what is known of the newest step.
func (e *Engine) Last() Outcome { return e.last }

// Seek goes to the step that the store's version says, which the caller has set anew together with what the store holds. It must not run meanwhile. What
// was gathered ahead is forgotten.
func (e *Engine) Seek() {
	for ; e.next > e.version; e.next-- {
		q := &e.ahead[(e.next-1)%int64(len(e.ahead))]
		e.free = append(e.free, *q...)
		*q = (*q)[:0]
	}
	e.version = e.prog.Store.Version()
	e.next, e.ended = e.version, false
}

// Run trains until the store has the version until. It calls seen after the first step, every every-th and the last. It returns early,
// without an error, after Stop or Pause. After an error the engine is of no more use.
func (e *Engine) Run(ctx context.Context, until int64, every int64, seen func(Outcome)) (err error) {
	if e.broken != nil {
		return e.broken
	}
	if e.place.Remote != nil { // after an error nobody waits for the answers that are still out, or Close would wait as long as they do
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
	}
	e.ctx = ctx
	e.stop.Store(false)
	defer func() { e.broken = err }()
	defer caught("the pipeline", &err)
	if len(e.place.CPUs) > 0 || e.place.D+e.place.S > 1 {
		cpu := e.cpu(0)
		defer bind(cpu)()
	}
	if e.serial != nil {
		return e.runSerial(until, every, seen)
	}
	defer func() { err = errors.Join(err, e.beside()) }()
	for e.version < until && !e.stop.Load() {
		res, pause, err := e.step(until)
		if errors.Is(err, errHalt) {
			return nil
		}
		if err != nil {
			return err
		}
		e.version++
		e.last = res
		if n := e.version; n == 1 || n%every == 0 || n == until || pause {
			seen(res)
		}
		if pause {
			return nil
		}
	}
	return nil
}

// runSerial is Run where everything is fused: no queue, no clock, no lock.
func (e *Engine) runSerial(until, every int64, seen func(Outcome)) error {
	m := e.free[0]
	if e.bodies[0] != nil {
		m.Attach(e.bodies[0])
		defer m.Detach()
	}
	left := every - e.version%every // steps until the next one that is seen
	for e.version < until && !e.stop.Load() {
		m.Head = stages.Head{Step: e.version, Gathered: e.version, Parts: 1}
		walk := e.serial
		if e.taped != nil && !measured(m.Step) {
			walk = e.taped
		}
		m.Plain()
		got, err := e.walk(walk, m, &e.out)
		if err != nil {
			if e.halts(err) {
				return nil
			}
			return err
		}
		if got != m {
			return fmt.Errorf("exec: step %d ended with another message than it began with", e.version+1)
		}
		e.version++
		e.last = Outcome{m.Step, m.Loss, m.Hits, m.Seen}
		left--
		if left == 0 || e.version == 1 || e.version == until || e.pause {
			if left == 0 {
				left = every
			}
			seen(e.last)
			if e.pause {
				e.pause = false
				return nil
			}
		}
	}
	return nil
}

// errHalt says that the step could not begin, and that this is no failure.
var errHalt = errors.New("exec: no further step")

// halts says whether a gather stage has no further step, or was interrupted while it waited for one.
func (e *Engine) halts(err error) bool {
	if errors.Is(err, stages.ErrEnd) {
		e.ended = true
		return true
	}
	return e.ctx.Err() != nil && errors.Is(err, e.ctx.Err())
}

// Ended says that the data has ended: there is no further step.
func (e *Engine) Ended() bool { return e.ended && e.next <= e.version }

// gatherStep fills the messages of step e.next. errHalt: there is none.
func (e *Engine) gatherStep() error {
	t := e.next
	q := e.ahead[t%int64(len(e.ahead))][:0]
	for p := range e.prog.Parts {
		m := e.free[len(e.free)-1]
		e.free = e.free[:len(e.free)-1]
		m.Head = stages.Head{Step: t, Gathered: e.version, Part: int32(p), Parts: int32(e.prog.Parts)}
		q = append(q, m)
	}
	if src := e.place.Source; src != nil {
		for _, m := range q {
			if err := src.Gather(e.ctx, m); err != nil {
				if e.halts(err) {
					e.free = append(e.free, q...)
					return errHalt
				}
				return fmt.Errorf("step %d, part %d: %w", t+1, m.Part, err)
			}
		}
	}
	if e.lock && e.version < t {
		e.mu.RLock()
		defer e.mu.RUnlock()
	}
	for p, m := range q {
		got, err := e.walk(e.gather[e.place.Skip:], m, &e.out)
		if err != nil {
			if p == 0 && e.halts(err) {
				e.free = append(e.free, q...)
				return errHalt
			}
			return err
		}
		q[p] = got
	}
	e.ahead[t%int64(len(e.ahead))] = q
	e.next++
	return nil
}

// step runs step e.version on the lanes.
func (e *Engine) step(until int64) (res Outcome, pause bool, err error) {
	t := e.version
	if e.next == t {
		if err := e.gatherStep(); err != nil {
			return res, false, err
		}
	}
	parts := e.ahead[t%int64(len(e.ahead))]
	for _, m := range parts {
		if m.Gathered < t {
			for _, f := range e.finish {
				if err := f.Finish(m); err != nil {
					return res, false, fmt.Errorf("step %d: %w", t+1, err)
				}
			}
		}
	}
	D, P := e.place.D, e.prog.Parts
	own := func(p int) bool { return e.place.S == 0 && p%D == 0 }
	sent, done := 0, 0 // parts dispatched; parts closed
	for {
		for sent < P && len(e.bodies) > 0 {
			m := parts[sent]
			m.Attach(e.bodies[len(e.bodies)-1])
			e.bodies = e.bodies[:len(e.bodies)-1]
			if !own(sent) && !e.lanes[sent%D].in.Push(m) {
				return res, false, e.lost(sent % D)
			}
			sent++
		}
		if err := e.beside(); err != nil {
			return res, false, err
		}
		if sent == P && e.place.LookAhead > 0 {
			for e.next <= t+int64(e.place.LookAhead) && e.next < until && len(e.free) >= P {
				if err := e.gatherStep(); errors.Is(err, errHalt) {
					break // it shows again when the step is due
				} else if err != nil {
					return res, false, err
				}
			}
		}
		var r returned
		if e.closer != nil {
			var ok bool
			if r, ok = e.closer.back.Pop(); !ok {
				return res, false, errors.New("exec: the second S lane ended")
			}
		} else {
			r = e.collect(parts[done], done)
			done++
		}
		if r.err != nil {
			return res, false, r.err
		}
		if r.done && r.m != nil && len(e.aside) > 0 {
			e.left = r.m
		} else if r.m != nil {
			e.recycle(r.m)
		}
		if r.done {
			return r.res, r.pause, nil
		}
	}
}

// beside shows the step before to the units aside.
func (e *Engine) beside() error {
	m := e.left
	if m == nil {
		return nil
	}
	e.left = nil
	m, err := e.walk(e.aside, m, &e.out)
	if err == nil && m != nil {
		e.recycle(m)
	}
	return err
}

// collect takes part p from its lane, or computes it here, and closes it.
func (e *Engine) collect(m *stages.Message, p int) returned {
	var r result
	if e.place.S == 0 && p%e.place.D == 0 {
		r.m, r.err = e.walk(e.work[0], m, &e.out)
	} else {
		var ok bool
		if r, ok = e.take(p); !ok {
			r.err = e.lost(p % e.place.D)
		}
	}
	if r.err == nil {
		e.team.Ready(p == e.prog.Parts-1) // every part has been computed: the lanes are idle
		r.m, r.err = e.walk(e.close, r.m, &e.out)
	}
	if r.err != nil {
		return returned{err: r.err}
	}
	if e.reduce != nil {
		for _, a := range e.reduce.Absorbed() {
			e.recycle(a)
		}
	}
	if r.m == nil {
		return returned{}
	}
	return e.outcome(r.m, p)
}

// take waits for part p from its lane, and updates inside backward meanwhile.
func (e *Engine) take(p int) (r result, ok bool) {
	for {
		r, ok = e.lanes[p%e.place.D].out.Pop()
		if !ok || r.cut == 0 || r.err != nil {
			return r, ok
		}
		if err := e.early.update(r.m, r.cut-1); err != nil {
			return result{err: &StageError{r.m.Step, insideName, err}}, true
		}
	}
}

func (e *Engine) lost(d int) error { return fmt.Errorf("exec: lane D%d ended", d) }

// recycle takes a message and its body back.
func (e *Engine) recycle(m *stages.Message) {
	if b := m.Detach(); b != nil {
		e.bodies = append(e.bodies, b)
	}
	e.free = append(e.free, m)
}

// Flush brings what stages have written to the disk. The pipeline must be drained.
func (e *Engine) Flush() error {
	return e.eachWriter(func(s stages.Stage) error {
		if f, ok := s.(interface{ Flush() error }); ok {
			return f.Flush()
		}
		return nil
	})
}

// End tells stages that record that the run is complete, with the hashes of weights and state after that many steps.
func (e *Engine) End(steps int64, weights, state string) error {
	return e.eachWriter(func(s stages.Stage) error {
		if f, ok := s.(interface {
			End(steps int64, weights, state string) error
		}); ok {
			return f.End(steps, weights, state)
		}
		return nil
	})
}

// eachWriter calls f with the stages that exist once.
func (e *Engine) eachWriter(f func(stages.Stage) error) error {
	for _, us := range [][]unit{e.gather, e.close, e.aside} {
		for i := range us {
			if err := f(us[i].stage); err != nil {
				return &StageError{e.version, us[i].name, err}
			}
		}
	}
	return nil
}

func (e *Engine) closeStages() error {
	errs := []error{closeUnits(e.gather)}
	for _, us := range e.work {
		errs = append(errs, closeUnits(us))
	}
	if e.prog.Training != nil {
		errs = append(errs, closeUnits(e.eval))
	}
	return errors.Join(append(errs, closeUnits(e.close), closeUnits(e.aside))...)
}

// Close ends the lanes and waits for them, then closes the stages. Closing twice is fine.
func (e *Engine) Close() error {
	for _, l := range e.lanes {
		if l != nil {
			l.in.Close()
			l.out.Close()
		}
	}
	if e.closer != nil {
		e.closer.back.Close()
	}
	e.wg.Wait()
	return e.closeStages()
}
