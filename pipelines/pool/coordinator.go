package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"vtpu/stages"
	"vtpu/stages/link"
)

// Options of a coordinator and of a worker.
type Options struct {
	Bus      link.Bus
	Cut      *Cut
	Identity string   // of pipeline, seed and data: peers with another are refused
	Base     string   // what the subjects begin with; "" is Base(Identity)
	Stages   string   // that the workers of the cut run
	Others   []string // coordinator: what the other workers of the run run
	Steps    int64    // of the run: nothing is gathered ahead beyond
	Build    string   // of the program, likewise
	ISA      string
	AnyISA   bool // coordinator: take workers with another instruction set
	Run      RunID
	Epoch    uint64 // coordinator: larger than that of every earlier start of the run
	Last     bool   // coordinator: no other run comes on this bus, workers end with this one
	Log      zerolog.Logger
	Host     string

	Times Times
}

func (o *Options) subjects() subjects {
	if o.Base != "" {
		return subjects{o.Base}
	}
	return subjects{Base(o.Identity)}
}

// Times are how long to wait. The zero value takes the defaults.
type Times struct {
	Beat time.Duration // between two signs of life; 200 ms
	Dead time.Duration // without a sign of life a peer is taken for lost; 1.5 s
	Lost time.Duration // a part without an answer is given out again after this, or ten times what a part takes; 1 s
}

func (t *Times) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&t.Beat, 200*time.Millisecond)
	set(&t.Dead, 1500*time.Millisecond)
	set(&t.Lost, time.Second)
}

// Counts are what happened, for operators and tests.
type Counts struct {
	Joined, Lost, Left     atomic.Int64 // workers
	Refused                atomic.Int64 // workers with another version, instruction set or pipeline
	Foreign                atomic.Int64 // messages that are not ours, damaged, or claim too much
	Stale                  atomic.Int64 // results of another run, epoch, step or version, or the second of a part
	Resent                 atomic.Int64 // parts given out again because no answer came
	Doubled                atomic.Int64 // parts given to a second worker because the first is slow
	Failed                 atomic.Int64 // parts that a worker could not compute
	Parts                  atomic.Int64 // parts done
	SentWork, SentWeights  atomic.Int64 // bytes
	Received               atomic.Int64 // bytes of results
	Snapshots, Deltas      atomic.Int64 // weights sent: whole, or what changed
	SentOther, ReceivedAll atomic.Int64
}

// A Coordinator gives parts to workers. It is an exec.Remote.
type Coordinator struct {
	o     Options
	subj  subjects
	me    uint64
	sizes Sizes
	limit func(link.Kind) int
	n     Counts

	mu      sync.Mutex
	idle    sync.Cond // a task is no longer being sent
	workers map[uint64]*peer
	refused map[uint64]bool
	tasks   []task
	step    int64 // of the tasks, where one step is under way; the version of the weights that they need
	low     int64 // gathering ahead: the oldest step that is under way
	high    int64 // and the one after the newest
	open    int   // tasks without a result: while there are any, the store does not change
	log     changes
	shared  bool    // the weights of this step went to all
	took    float64 // seconds that a part takes, smoothed
	fatal   error
	ending  bool      // it was told that the step in hand is the last
	out     []control // to be sent by the sender
	sweep   time.Time
	lonely  time.Time
	warned  map[string]bool

	codec coder
	wbuf  []byte
	cbuf  []byte
	msg   uint64
	pulse time.Time     // when all were last told that the coordinator is alive
	slack time.Duration // how late an answer may be because of the large messages before it

	kick chan struct{}
	quit chan struct{}
	wg   sync.WaitGroup
	stop []func() error
}

type control struct {
	subject string
	head    link.Head
	body    any
}

// peer is a worker that has joined.
type peer struct {
	id      uint64
	hello   hello
	version int64 // of its weights, as far as one knows
	busy    int   // parts that it has
	heard   time.Time
	welcome bool // is to be sent
	ready   bool // it listens to this run
	need    bool // weights are to be sent although its version seemed right
}

type holder struct {
	id   uint64
	when time.Time
}

// task is a part of a step that is under way.
type task struct {
	step    int64
	codec   coder
	buf     []byte
	taken   bool // the result has been given to who asked for it
	waiting bool // wants a worker
	done    bool
	sending bool
	holders []holder
	tries   int
	fails   int
	got     chan answer
}

type answer struct {
	body []byte
	from uint64
	free func([]byte)
	err  error
}

// NewCoordinator joins the bus. Call Close.
func NewCoordinator(o Options) (*Coordinator, error) {
	o.Times.defaults()
	c := &Coordinator{o: o, subj: o.subjects(), me: number(), sizes: o.Cut.Sizes(), limit: o.Cut.limit(), workers: map[uint64]*peer{},
		refused: map[uint64]bool{}, warned: map[string]bool{}, step: -1, kick: make(chan struct{}, 1), quit: make(chan struct{}), lonely: time.Now()}
	c.idle.L = &c.mu
	c.tasks = make([]task, o.Cut.ahead()*o.Cut.Parts)
	for i := range c.tasks {
		c.tasks[i].step, c.tasks[i].got = -1, make(chan answer, 1)
	}
	o.Cut.track()
	for _, subject := range []string{c.subj.hello(), c.subj.coord(o.Run)} {
		a := &link.Assembler{Limit: c.limit, Open: 4 * len(c.tasks)}
		stop, err := o.Bus.Subscribe(subject, func(data []byte) { c.receive(a, data) })
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.stop = append(c.stop, stop)
	}
	c.wg.Go(c.send)
	return c, nil
}

// Counts are updated while the coordinator runs.
func (c *Coordinator) Counts() *Counts { return &c.n }

// Stages are what its workers run.
func (c *Coordinator) Stages() string { return c.o.Stages }

// Workers is the number of workers that are there.
func (c *Coordinator) Workers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.workers)
}

func (c *Coordinator) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// warn logs something once.
func (c *Coordinator) warn(key, msg string, from uint64) {
	if !c.warned[key] && len(c.warned) < 1000 {
		c.warned[key] = true
		c.o.Log.Warn().Str("worker", fmt.Sprintf("%016x", from)).Msg(msg)
	}
}

// patience is how long Part goes on after it has been told to stop: the step in hand should end. After lonely it looks whether anybody is there to end it.
const patience, lonely = 10 * time.Second, time.Second

// Returns are the tensors of a body that Part writes.
func (c *Coordinator) Returns() []stages.Slot { return c.o.Cut.returns() }

// Part computes a part somewhere.
func (c *Coordinator) Part(ctx context.Context, m *stages.Message) error {
	c.mu.Lock()
	if c.fatal != nil {
		c.mu.Unlock()
		return c.fatal
	}
	if m.Step != c.step {
		c.begin(m.Step)
	}
	t, err := c.ask(m)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.wake()
	return c.answer(ctx, t, m, true)
}

// task is where a part is kept while it is under way.
func (c *Coordinator) task(step int64, part int) *task {
	return &c.tasks[int(step%int64(c.o.Cut.ahead()))*c.o.Cut.Parts+part]
}

// ask gives out a part. The caller holds mu.
func (c *Coordinator) ask(m *stages.Message) (t *task, err error) {
	t = c.task(m.Step, int(m.Part))
	for t.sending { // an old copy for a slow worker
		c.idle.Wait()
	}
	c.release(t) // who still has it as a part of an earlier step gathers for nothing
	t.drain()
	if t.buf, err = t.codec.work(t.buf, c.o.Cut, m); err != nil {
		return nil, err
	}
	t.step, t.waiting, t.done, t.taken, t.tries, t.fails = m.Step, true, false, false, 0, 0
	c.open++
	return t, nil
}

// drain throws away an answer that nobody has taken.
func (t *task) drain() {
	select {
	case a := <-t.got:
		if a.free != nil {
			a.free(a.body)
		}
	default:
	}
}

// Gather fills m with what a worker gathers for its part. Messages are taken step by step and, in a step, part by part. Which is a function of the step, so
// that steps are asked for ahead: as many as there is room for are credit that the workers have. The pipeline is drained when this returns with ctx's error.
func (c *Coordinator) Gather(ctx context.Context, m *stages.Message) error {
	c.mu.Lock()
	if c.fatal != nil {
		c.mu.Unlock()
		return c.fatal
	}
	err := c.askAhead(m)
	t := c.task(m.Step, int(m.Part))
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.wake()
	return c.answer(ctx, t, m, false)
}

// askAhead gives out what is to be gathered for m's step and those after it. The caller holds mu.
func (c *Coordinator) askAhead(m *stages.Message) error {
	if m.Step < c.low || m.Step > c.high || c.high == c.low { // the first one, or the run has gone to another step
		for i := range c.tasks {
			t := &c.tasks[i]
			c.release(t)
			t.drain()
			t.step, t.waiting, t.done = -1, false, false
		}
		c.open, c.high = 0, m.Step
	}
	c.low = m.Step
	ask := func(step int64, part int32) error {
		_, err := c.ask(&stages.Message{Head: stages.Head{Step: step, Gathered: step, Part: part, Parts: m.Parts}})
		return err
	}
	if t := c.task(m.Step, int(m.Part)); t.step == m.Step && t.taken { // once more
		if err := ask(m.Step, m.Part); err != nil {
			return err
		}
	}
	for end := max(min(c.low+int64(c.o.Cut.ahead()), c.o.Steps), m.Step+1); c.high < end; c.high++ {
		for part := range m.Parts {
			if err := ask(c.high, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// answer waits for the result of a part and writes it to m. When ctx ends it goes on for a while, if it is patient.
func (c *Coordinator) answer(ctx context.Context, t *task, m *stages.Message, patient bool) error {
	var since time.Time
	var late <-chan time.Time
	done := ctx.Done()
	for {
		select {
		case a := <-t.got:
			if a.err != nil {
				return a.err
			}
			err := t.codec.readResult(a.body, c.o.Cut, int64(c.limit(kResult)), m)
			a.free(a.body)
			if err == nil {
				c.n.Parts.Add(1)
				return c.close(t)
			}
			c.n.Foreign.Add(1)
			c.mu.Lock()
			c.warn("result", "a result that does not fit was dropped: "+err.Error(), a.from)
			c.release(t)
			t.done, t.waiting = false, true
			c.mu.Unlock()
			c.wake()
		case <-done:
			if !patient {
				return c.interrupted(ctx)
			}
			done = nil
			tick := time.NewTicker(lonely)
			defer tick.Stop()
			since, late = time.Now(), tick.C
		case <-late:
			n := c.Workers()
			if n == 0 || time.Since(since) >= patience {
				return c.interrupted(ctx)
			}
			c.mu.Lock()
			if !c.ending {
				c.ending = true
				c.o.Log.Info().Int("workers", n).Msg("stopping after the step in hand; a second Ctrl-C stops at once")
			}
			c.mu.Unlock()
		}
	}
}

func (c *Coordinator) interrupted(ctx context.Context) error {
	return fmt.Errorf("interrupted while %d workers were there: %w", c.Workers(), ctx.Err())
}

// close counts a task as done. When none is open the store may change.
func (c *Coordinator) close(t *task) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	t.taken = true
	return c.fatal
}

// begin notes which rows the last step changed. The caller holds mu; no task is open.
func (c *Coordinator) begin(step int64) {
	ids := make([][]int32, len(c.o.Cut.Params))
	for i, p := range c.o.Cut.Params {
		if p.Tracked() {
			ids[i] = c.o.Cut.Marks.recent(step, p)
		}
	}
	c.log.note(step, ids)
	c.step, c.shared = step, false
	for i := range c.tasks {
		c.release(&c.tasks[i]) // who still computes a part of the step before does it for nothing
	}
}

// release takes a part away from all who have it.
func (c *Coordinator) release(t *task) {
	for _, x := range t.holders {
		if p := c.workers[x.id]; p != nil {
			p.busy--
		}
	}
	t.holders = t.holders[:0]
}

// receive takes a message of a worker.
func (c *Coordinator) receive(a *link.Assembler, data []byte) {
	c.n.ReceivedAll.Add(int64(len(data)))
	h, body, err := a.Add(data)
	if err != nil {
		c.n.Foreign.Add(1)
		c.mu.Lock()
		c.warn(err.Error(), "a message was dropped: "+err.Error(), h.From)
		c.mu.Unlock()
		return
	}
	if body == nil {
		c.mu.Lock()
		if p := c.workers[h.From]; p != nil && h.Run == [16]byte(c.o.Run) && h.Epoch == c.o.Epoch {
			p.heard = time.Now() // a chunk is a sign of life: others wait behind it
		}
		c.mu.Unlock()
		return
	}
	kept := false
	c.mu.Lock()
	switch h.Kind {
	case kHello:
		c.hello(&h, body)
	case kResult:
		c.n.Received.Add(chunked(int64(len(body))))
		kept = c.result(&h, body, a)
	case kNeed:
		if p := c.workers[h.From]; p != nil && c.fresh(&h) {
			p.heard = time.Now()
			p.version, p.need = h.Version, true
		}
	case kFailed:
		c.failed(&h, body)
	case kBye:
		if p := c.workers[h.From]; p != nil && c.fresh(&h) {
			c.o.Log.Info().Str("worker", fmt.Sprintf("%016x", p.id)).Str("host", p.hello.Host).Msg("worker left")
			c.n.Left.Add(1)
			c.drop(p)
		}
	default:
		c.n.Foreign.Add(1)
	}
	c.mu.Unlock()
	if !kept {
		a.Release(body)
	}
	c.wake()
}

// fresh says whether a message belongs to this run and this start of it.
func (c *Coordinator) fresh(h *link.Head) bool {
	if h.Run == [16]byte(c.o.Run) && h.Epoch == c.o.Epoch {
		return true
	}
	c.n.Stale.Add(1)
	return false
}

func (c *Coordinator) hello(h *link.Head, body []byte) {
	var w hello
	if err := json.Unmarshal(body, &w); err != nil || h.From == 0 {
		c.n.Foreign.Add(1)
		c.warn("hello", "a worker that can't be understood", h.From)
		return
	}
	if w.Stages != c.o.Stages && slices.Contains(c.o.Others, w.Stages) {
		return // another coordinator of this process takes it
	}
	why, fix := "", "start it with the same program, file, data and --isa"
	switch {
	case w.Identity != c.o.Identity:
		why = "it works on another pipeline, seed or data"
	case w.Build != c.o.Build:
		why = fmt.Sprintf("it is vtpu %s, the coordinator is %s", w.Build, c.o.Build)
	case w.ISA != c.o.ISA && !c.o.AnyISA:
		why = fmt.Sprintf("it computes with %s, the coordinator with %s", w.ISA, c.o.ISA)
	case w.Stages != c.o.Stages:
		why = fmt.Sprintf("it runs %.100q, this run has work for %q", w.Stages, append([]string{c.o.Stages}, c.o.Others...))
		fix = "start it with the --stages that the run's links leave to workers: vtpu plan FILE names them"
	case w.Credit < 1 || w.Credit > 1024:
		why = "it takes no parts"
	}
	if why != "" {
		if !c.refused[h.From] {
			if len(c.refused) > 10000 {
				clear(c.refused)
			}
			c.refused[h.From] = true
			c.n.Refused.Add(1)
			c.warn("refused "+why, "worker refused: "+why, h.From)
		}
		c.out = append(c.out, control{c.subj.inbox(h.From), c.head(kRefused), reason{Msg: why, Fix: fix, User: true}})
		return
	}
	p := c.workers[h.From]
	fresh := h.Run == [16]byte(c.o.Run) && h.Epoch == c.o.Epoch
	if p == nil {
		p = &peer{id: h.From, version: -1}
		if fresh && h.Version >= 0 && h.Version <= c.step { // it was taken for lost, and has its weights still
			p.version = h.Version
		}
		c.workers[h.From] = p
		c.n.Joined.Add(1)
		c.o.Log.Info().Str("worker", fmt.Sprintf("%016x", p.id)).Str("host", w.Host).Str("stages", w.Stages).Int("workers", len(c.workers)).Msg("worker joined")
	}
	p.hello, p.heard = w, time.Now()
	if p.ready = fresh; !p.ready {
		p.welcome, p.version = true, -1
	}
}

func (c *Coordinator) head(k link.Kind) link.Head {
	return link.Head{Kind: k, Run: c.o.Run, Epoch: c.o.Epoch, From: c.me, Version: c.step}
}

// at is the task that a message is about; nil if it is not under way.
func (c *Coordinator) at(h *link.Head) *task {
	if h.Step < 0 || h.Version != h.Step || int64(h.Part) >= int64(c.o.Cut.Parts) {
		return nil
	}
	if t := c.task(h.Step, int(h.Part)); t.step == h.Step {
		return t
	}
	return nil
}

// result takes the first answer to a part. It reports whether it keeps body.
func (c *Coordinator) result(h *link.Head, body []byte, a *link.Assembler) bool {
	if !c.fresh(h) {
		c.warn("stale run", "a result of another run or an earlier start was dropped", h.From)
		return false
	}
	p := c.workers[h.From]
	if p != nil {
		p.heard = time.Now()
	}
	t := c.at(h)
	if t == nil {
		c.n.Stale.Add(1)
		return false
	}
	held := false
	for i, x := range t.holders {
		if x.id == h.From {
			held = true
			took := time.Since(x.when).Seconds()
			if c.took == 0 {
				c.took = took
			}
			c.took += 0.1 * (took - c.took)
			t.holders = append(t.holders[:i], t.holders[i+1:]...)
			if p != nil {
				p.busy--
			}
			break
		}
	}
	if t.done || p == nil && !held {
		c.n.Stale.Add(1)
		return false
	}
	if p != nil {
		p.version = max(p.version, h.Version)
	}
	t.done, t.waiting = true, false
	t.got <- answer{body: body, from: h.From, free: a.Release}
	return true
}

func (c *Coordinator) failed(h *link.Head, body []byte) {
	var r reason
	t := c.at(h)
	if err := json.Unmarshal(body, &r); err != nil || !c.fresh(h) || t == nil {
		c.n.Stale.Add(1)
		return
	}
	p := c.workers[h.From]
	if p == nil {
		return
	}
	c.n.Failed.Add(1)
	if t.done || !t.drop(h.From) {
		return
	}
	p.busy--
	t.fails++
	c.warn("failed "+r.Msg, "a worker could not compute a part: "+r.Msg, h.From)
	if !r.User && t.fails < 3 {
		t.waiting = true
		return
	}
	var err error = stages.Finding{Msg: r.Msg, Fix: r.Fix}
	if !r.User {
		err = errors.New(r.Msg)
	}
	if r.Stage != "" {
		err = fmt.Errorf("%s: %w", r.Stage, err)
	}
	t.done, t.waiting = true, false
	t.got <- answer{err: err}
}

// drop takes a part away from a worker.
func (t *task) drop(id uint64) bool {
	for i, x := range t.holders {
		if x.id == id {
			t.holders = append(t.holders[:i], t.holders[i+1:]...)
			return true
		}
	}
	return false
}

// drop forgets a worker; its parts go to others.
func (c *Coordinator) drop(p *peer) {
	delete(c.workers, p.id)
	for i := range c.tasks {
		t := &c.tasks[i]
		if t.drop(p.id) && !t.done && len(t.holders) == 0 {
			t.waiting = true
			c.n.Resent.Add(1)
		}
	}
	if len(c.workers) == 0 {
		c.lonely = time.Now()
	}
}

// send is the life of the goroutine that publishes: it alone does, so that no buffer is written while it is read.
func (c *Coordinator) send() {
	tick := time.NewTicker(c.o.Times.Beat / 4)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-c.kick:
		case <-tick.C:
		}
		c.beat()
		for c.next() {
			select {
			case <-c.quit:
				return
			default:
			}
		}
	}
}

// slowest is the rate in bytes a second at which a message is taken at least: before, nobody who is to answer it is taken for lost.
const slowest = 16 << 20

// pulsing is a bus on which the signs of life go out between the chunks of a large message.
type pulsing struct {
	link.Bus
	c *Coordinator
}

func (p pulsing) Publish(subject string, data []byte) error {
	p.c.beat()
	return p.Bus.Publish(subject, data)
}

// beat tells all that the coordinator is alive, if it is time to.
func (c *Coordinator) beat() {
	now := time.Now()
	if now.Sub(c.pulse) < c.o.Times.Beat {
		return
	}
	c.pulse = now
	c.mu.Lock()
	h := c.head(kPulse)
	c.mu.Unlock()
	c.msg++
	h.Message = c.msg
	n, _ := link.Send(c.o.Bus, c.subj.all(c.o.Run), &h, make([]byte, link.HeadSize)) // lost is lost: the next one will do
	c.n.SentOther.Add(int64(n))
}

func (c *Coordinator) publish(subject string, h link.Head, buf []byte, count *atomic.Int64) {
	c.msg++
	h.Message = c.msg
	begin := time.Now()
	n, err := link.Send(pulsing{c.o.Bus, c}, subject, &h, buf)
	late := max(4*time.Since(begin), time.Duration(n)*time.Second/slowest)
	switch h.Kind {
	case kWeights:
		c.slack = max(late, c.slack/2)
	case kWork:
		c.slack = max(late, c.slack)
	}
	count.Add(int64(n))
	if err != nil { // it is lost, as messages are: whoever misses it asks again
		c.mu.Lock()
		c.warn("publish", "a message could not be sent: "+err.Error(), 0)
		c.mu.Unlock()
	}
}

func (c *Coordinator) control(x control) {
	c.cbuf = room(c.cbuf)
	if x.body != nil {
		b, err := json.Marshal(x.body)
		if err != nil {
			return // of our own types, all of which can be written
		}
		c.cbuf = append(c.cbuf, b...)
	}
	c.publish(x.subject, x.head, c.cbuf, &c.n.SentOther)
}

// next does one thing that is due and reports whether there was one.
func (c *Coordinator) next() bool {
	c.mu.Lock()
	now := time.Now()
	if now.Sub(c.sweep) > c.o.Times.Beat/4 {
		c.sweep = now
		c.overdue(now)
	}
	if n := len(c.out); n > 0 {
		x := c.out[0]
		c.out = append(c.out[:0], c.out[1:]...)
		c.mu.Unlock()
		c.control(x)
		return true
	}
	for _, p := range c.workers {
		if p.welcome {
			p.welcome = false
			x := control{c.subj.inbox(p.id), c.head(kWelcome), nil}
			c.mu.Unlock()
			c.control(x)
			return true
		}
	}
	if c.open == 0 {
		c.mu.Unlock()
		return false
	}
	// Weights: once to all who were there for the last step, then to those who lack more.
	if !c.shared && c.weighs() {
		c.shared = true
		n := 0
		for _, p := range c.workers {
			if p.version == c.step-1 && c.step > 0 {
				p.version = c.step
				n++
			}
		}
		if n > 0 {
			c.weights(c.subj.all(c.o.Run), c.step-1)
			return true
		}
	}
	for _, p := range c.workers {
		if p.ready && c.weighs() && (p.need || p.version < c.step && p.busy < p.hello.Credit) {
			base := p.version
			if base > c.step {
				base = -1
			}
			p.version, p.need = c.step, false
			if base == c.step {
				c.mu.Unlock()
				return true
			}
			c.weights(c.subj.work(c.o.Run, p.id), base)
			return true
		}
	}
	if i, p := c.assign(now); p != nil {
		t := &c.tasks[i]
		t.waiting, t.sending = false, true
		t.holders = append(t.holders, holder{p.id, now})
		p.busy++
		h := c.head(kWork)
		h.Step, h.Part, h.Version = t.step, uint32(i%c.o.Cut.Parts), t.step
		subject := c.subj.work(c.o.Run, p.id)
		c.mu.Unlock()
		c.publish(subject, h, t.buf, &c.n.SentWork)
		c.mu.Lock()
		t.sending = false
		c.idle.Broadcast()
		c.mu.Unlock()
		return true
	}
	c.mu.Unlock()
	return false
}

// weighs says whether the workers need weights.
func (c *Coordinator) weighs() bool { return len(c.o.Cut.Params) > 0 }

// weights publishes what has changed since base. The caller holds mu, which is given up while the bytes go out; a task is open, so that the store
// stands still while they are collected.
func (c *Coordinator) weights(subject string, base int64) {
	var err error
	c.wbuf, err = c.codec.weights(c.wbuf, c.o.Cut, base, c.step, &c.log)
	h := c.head(kWeights)
	h.Base = base
	c.mu.Unlock()
	if err != nil {
		c.o.Log.Error().Err(err).Msg("weights can't be sent")
		return
	}
	if base < 0 {
		c.n.Snapshots.Add(1)
	} else {
		c.n.Deltas.Add(1)
	}
	c.publish(subject, h, c.wbuf, &c.n.SentWeights)
}

// assign finds a part and a worker for it: the one with the fewest parts among those that have credit. A part that a slow worker has is given to an
// idle one too.
func (c *Coordinator) assign(now time.Time) (part int, best *peer) {
	for _, p := range c.workers {
		if p.ready && (p.version == c.step || !c.weighs()) && p.busy < p.hello.Credit && (best == nil || p.busy < best.busy || p.busy == best.busy && p.id < best.id) {
			best = p
		}
	}
	if best == nil {
		return 0, nil
	}
	first := int(c.low%int64(c.o.Cut.ahead())) * c.o.Cut.Parts // of the oldest step
	for k := range c.tasks {
		i := (first + k) % len(c.tasks)
		if t := &c.tasks[i]; t.waiting && !t.done {
			return i, best
		}
	}
	if best.busy > 0 || c.took == 0 {
		return 0, nil
	}
	slow := time.Duration(3*c.took*float64(time.Second)) + 20*time.Millisecond
	for i := range c.tasks {
		t := &c.tasks[i]
		if !t.done && len(t.holders) == 1 && t.holders[0].id != best.id && now.Sub(t.holders[0].when) > slow {
			c.n.Doubled.Add(1)
			return i, best
		}
	}
	return 0, nil
}

// overdue looks for workers that are silent and parts that got lost.
func (c *Coordinator) overdue(now time.Time) {
	for _, p := range c.workers {
		if now.Sub(p.heard) > c.o.Times.Dead+c.slack {
			c.n.Lost.Add(1)
			c.o.Log.Warn().Str("worker", fmt.Sprintf("%016x", p.id)).Str("host", p.hello.Host).Msg("worker lost: no sign of life")
			c.drop(p)
		}
	}
	limit := max(c.o.Times.Lost, time.Duration(10*c.took*float64(time.Second)))
	if c.took == 0 {
		limit = max(limit, 5*time.Second)
	}
	limit += c.slack
	for i := range c.tasks {
		t := &c.tasks[i]
		if t.done || t.waiting || len(t.holders) == 0 {
			continue
		}
		newest := t.holders[0].when
		for _, x := range t.holders {
			if x.when.After(newest) {
				newest = x.when
			}
		}
		if now.Sub(newest) > limit<<min(t.tries, 6) {
			c.release(t)
			t.tries++
			t.waiting = true
			c.n.Resent.Add(1)
		}
	}
	waits := c.waits()
	if len(c.workers) == 0 && waits != nil && now.Sub(c.lonely) > 5*time.Second {
		c.lonely = now
		c.o.Log.Warn().Int64("step", waits.step+1).Msg("waiting for workers: start some with vtpu worker FILE --stages " + c.o.Stages + " --nats URL, with the file, the --set and the seed of this run")
	}
}

// waits is a task that wants a worker, or nil.
func (c *Coordinator) waits() *task {
	for i := range c.tasks {
		if c.tasks[i].waiting {
			return &c.tasks[i]
		}
	}
	return nil
}

// Close tells the workers that the run has ended here and leaves the bus. Closing twice is fine.
func (c *Coordinator) Close() error {
	select {
	case <-c.quit:
		return nil
	default:
	}
	close(c.quit)
	c.wg.Wait()
	if len(c.stop) == 2 {
		c.control(control{c.subj.all(c.o.Run), c.head(kEnd), end{c.o.Last}})
	}
	var errs []error
	for _, stop := range c.stop {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}
