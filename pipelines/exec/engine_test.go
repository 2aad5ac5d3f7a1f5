package exec_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vtpu/pipelines/exec"
	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// stage is a stage of one function.
type stage func(m *stages.Message, out stages.Outbox) error

func (s stage) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	return s(m, out)
}

// reduce sums the parts of a step as the reduction of the backward room does, without gradients.
type reduce struct {
	parts int32
	acc   *stages.Message
	done  []*stages.Message
}

func (r *reduce) Absorbed() []*stages.Message {
	d := r.done
	r.done = r.done[:0]
	return d
}

func (r *reduce) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if m.Part == 0 {
		r.acc = m
	} else {
		if r.acc == nil || m.Step != r.acc.Step {
			return fmt.Errorf("part %d of step %d without its part 0", m.Part, m.Step)
		}
		r.acc.Loss += m.Loss
		r.acc.Rows = r.acc.Rows*10 + int(m.Part) // the order of the parts
		r.done = append(r.done, m)
	}
	if m.Part < r.parts-1 {
		return nil
	}
	a := r.acc
	r.acc = nil
	return out.Send(a)
}

// rig is a pipeline of small stages that note what happens. A hook may be nil; it may return an error.
type rig struct {
	prog exec.Program
	x, y stages.Slot
	team *stages.Team
	e    *exec.Engine

	gather, work, tail func(m *stages.Message) error
}

func node(name string, make func(*stages.Team) stages.Stage) exec.Node {
	return exec.Node{Name: name, New: func(t *stages.Team) (stages.Stage, error) { return make(t), nil }}
}

func newRig(parts int) *rig {
	r := &rig{}
	l := &stages.Layout{}
	r.x = l.AddData(stages.SlotInfo{Name: "x", Shape: tensor.Of(4)})
	r.y = l.AddBody(stages.SlotInfo{Name: "y", Shape: tensor.Of(4)})
	r.prog = exec.Program{Layout: l, Store: weights.NewStore(), Parts: parts, HasLoss: true}
	hook := func(f *func(*stages.Message) error, m *stages.Message) error {
		if *f == nil {
			return nil
		}
		return (*f)(m)
	}
	r.prog.Gather = []exec.Node{node("gather", func(*stages.Team) stages.Stage {
		return stage(func(m *stages.Message, out stages.Outbox) error {
			for i := range m.T(r.x).F32 {
				m.T(r.x).F32[i] = float32(100*m.Step + 10*int64(m.Part) + int64(i))
			}
			if err := hook(&r.gather, m); err != nil {
				return err
			}
			return out.Send(m)
		})
	})}
	r.prog.Forward = []exec.Node{node("forward", func(*stages.Team) stages.Stage {
		return stage(func(m *stages.Message, out stages.Outbox) error {
			copy(m.T(r.y).F32, m.T(r.x).F32)
			return out.Send(m)
		})
	}), node("loss", func(*stages.Team) stages.Stage {
		return stage(func(m *stages.Message, out stages.Outbox) error {
			for _, v := range m.T(r.y).F32 {
				m.Loss += float64(v)
			}
			return out.Send(m)
		})
	})}
	r.prog.Backward = []exec.Node{node("backward", func(*stages.Team) stages.Stage {
		return stage(func(m *stages.Message, out stages.Outbox) error {
			if err := hook(&r.work, m); err != nil {
				return err
			}
			return out.Send(m)
		})
	})}
	if parts > 1 {
		r.prog.Close = []exec.Node{node("reduce", func(*stages.Team) stages.Stage { return &reduce{parts: int32(parts)} })}
	}
	r.prog.Close = append(r.prog.Close, node("tail", func(t *stages.Team) stages.Stage {
		r.team = t
		return stage(func(m *stages.Message, out stages.Outbox) error {
			if err := hook(&r.tail, m); err != nil {
				return err
			}
			r.prog.Store.Commit()
			return out.Send(m)
		})
	}))
	return r
}

func (r *rig) start(t *testing.T, pl exec.Placement) {
	t.Helper()
	before := runtime.NumGoroutine()
	e, err := exec.New(r.prog, pl)
	if err != nil {
		t.Fatal(err)
	}
	r.e = e
	t.Cleanup(func() {
		for range 2 {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		now := runtime.NumGoroutine()
		for i := 0; now > before && i < 1000; i++ { // Close waits for the lanes' functions to end, not for the goroutines around them
			time.Sleep(time.Millisecond)
			now = runtime.NumGoroutine()
		}
		if now > before {
			t.Errorf("%d goroutines after Close, %d before New", now, before)
		}
	})
}

func (r *rig) run(until int64) error {
	return r.e.Run(context.Background(), until, 1, func(exec.Outcome) {})
}

// placements of parts: all numbers of lanes that differ in the way that a message goes.
func placements() (all []exec.Placement) {
	for _, spin := range []int{0, 100} {
		for _, d := range []int{1, 2, 3} {
			for s := range 3 {
				for _, look := range []int{0, 1, 3} {
					all = append(all, exec.Placement{D: d, S: s, LookAhead: look, Spin: spin})
				}
			}
		}
	}
	return all
}

func TestStepsAndPartsInOrder(t *testing.T) {
	for _, parts := range []int{1, 2, 5} {
		for _, pl := range placements() {
			t.Run(fmt.Sprintf("parts=%d/d=%d,s=%d,look=%d,spin=%d", parts, pl.D, pl.S, pl.LookAhead, pl.Spin), func(t *testing.T) {
				const steps = 20
				r := newRig(parts)
				var ahead int64
				r.gather = func(m *stages.Message) error {
					ahead = max(ahead, m.Step-m.Gathered)
					if m.Gathered > m.Step {
						return fmt.Errorf("step %d was gathered at version %d", m.Step, m.Gathered)
					}
					return nil
				}
				r.tail = func(m *stages.Message) error {
					order := 0
					for p := 1; p < parts; p++ {
						order = order*10 + p
					}
					if m.Rows != order {
						return fmt.Errorf("parts were closed in the order %d", m.Rows)
					}
					return nil
				}
				r.start(t, pl)
				var seen []exec.Outcome
				see := func(o exec.Outcome) { seen = append(seen, o) }
				for _, until := range []int64{1, 7, steps} { // the pipeline is drained in between, but for what was gathered ahead
					if err := r.e.Run(t.Context(), until, 1, see); err != nil {
						t.Fatal(err)
					}
					if v := r.prog.Store.Version(); v != until || r.e.Version() != until {
						t.Fatalf("version %d, the engine says %d, want %d", v, r.e.Version(), until)
					}
				}
				if len(seen) != steps {
					t.Fatalf("%d steps were seen", len(seen))
				}
				for i, o := range seen {
					want := 0.0
					for p := range parts {
						want += float64(4*(100*i+10*p) + 6)
					}
					if o.Step != int64(i) || o.Loss != want {
						t.Fatalf("outcome %d is step %d with loss %v, want %v", i, o.Step, o.Loss, want)
					}
				}
				if ahead > int64(pl.LookAhead) {
					t.Errorf("gather ran %d steps ahead, %d are allowed", ahead, pl.LookAhead)
				}
			})
		}
	}
}

func TestErrorsSayWhere(t *testing.T) {
	broken := errors.New("broken")
	for _, pl := range placements() {
		for _, c := range []struct{ hook, name string }{{"gather", "gather"}, {"work", "backward"}, {"tail", "tail"}} {
			for _, panics := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/panic=%v/d=%d,s=%d,look=%d,spin=%d", c.name, panics, pl.D, pl.S, pl.LookAhead, pl.Spin), func(t *testing.T) {
					r := newRig(3)
					f := func(m *stages.Message) error {
						if m.Step == 4 && (m.Part == 1 || c.hook == "tail") {
							if panics {
								panic("out of order")
							}
							return broken
						}
						return nil
					}
					*map[string]*func(*stages.Message) error{"gather": &r.gather, "work": &r.work, "tail": &r.tail}[c.hook] = f
					r.start(t, pl)
					err := r.run(20)
					var where *exec.StageError
					switch {
					case panics && (err == nil || !strings.Contains(err.Error(), "panic in") || !strings.Contains(err.Error(), "out of order")):
						t.Errorf("a panic became %v", err)
					case !panics && (!errors.As(err, &where) || where.Stage != c.name || where.Step != 4 || !errors.Is(err, broken)):
						t.Errorf("error %v", err)
					}
					if again := r.run(20); again == nil || again.Error() != err.Error() {
						t.Errorf("after an error the engine says %v", again)
					}
				})
			}
		}
	}
}

func TestTwoMessagesFromAStage(t *testing.T) {
	r := newRig(1)
	r.prog.Forward = append(r.prog.Forward, node("twice", func(*stages.Team) stages.Stage {
		return stage(func(m *stages.Message, out stages.Outbox) error {
			if err := out.Send(m); err != nil {
				return err
			}
			return out.Send(m)
		})
	}))
	r.start(t, exec.Placement{D: 1, S: 1})
	if err := r.run(3); err == nil || !strings.Contains(err.Error(), "step 1, twice: the stage sent more than one message") {
		t.Errorf("error %v", err)
	}
}

func TestNeedsAReduction(t *testing.T) {
	r := newRig(2)
	r.prog.Close = r.prog.Close[1:]
	if _, err := exec.New(r.prog, exec.Placement{D: 1}); err == nil || !strings.Contains(err.Error(), "no reduction") {
		t.Errorf("error %v", err)
	}
	for _, pl := range []exec.Placement{{}, {D: 1, S: -1}, {D: 1, LookAhead: -1}} {
		if _, err := exec.New(newRig(1).prog, pl); err == nil {
			t.Errorf("%+v was accepted", pl)
		}
	}
}

// closer counts how often its stages were closed.
type closer struct {
	stage
	n *atomic.Int32
}

func (c closer) Close() error {
	c.n.Add(1)
	return nil
}

func TestStagesAreClosed(t *testing.T) {
	var n atomic.Int32
	fail := errors.New("no memory")
	for _, broken := range []bool{false, true} {
		n.Store(0)
		r := newRig(2)
		r.prog.Backward = append(r.prog.Backward, node("closer", func(*stages.Team) stages.Stage {
			return closer{func(m *stages.Message, out stages.Outbox) error { return out.Send(m) }, &n}
		}))
		if broken {
			r.prog.Close = append(r.prog.Close, exec.Node{Name: "last", New: func(*stages.Team) (stages.Stage, error) { return nil, fail }})
		}
		e, err := exec.New(r.prog, exec.Placement{D: 2})
		if broken {
			if !errors.Is(err, fail) || n.Load() != 2 {
				t.Errorf("error %v, %d of 2 stages closed", err, n.Load())
			}
			continue
		}
		if err != nil || e.Close() != nil || n.Load() != 2 {
			t.Errorf("error %v, %d of 2 stages closed", err, n.Load())
		}
	}
}

func TestStopAndPause(t *testing.T) {
	for _, pl := range placements() {
		t.Run(fmt.Sprintf("d=%d,s=%d,look=%d,spin=%d", pl.D, pl.S, pl.LookAhead, pl.Spin), func(t *testing.T) {
			r := newRig(3)
			r.tail = func(m *stages.Message) error {
				switch m.Step {
				case 4:
					r.e.Pause()
				case 8:
					r.e.Stop()
				}
				return nil
			}
			r.start(t, pl)
			for _, want := range []int64{5, 9, 20} {
				if err := r.run(20); err != nil || r.e.Version() != want || r.prog.Store.Version() != want {
					t.Fatalf("version %d, error %v, want %d", r.e.Version(), err, want)
				}
			}
		})
	}
}

func TestTeamIsEveryLane(t *testing.T) {
	for _, pl := range placements() {
		t.Run(fmt.Sprintf("d=%d,s=%d,look=%d,spin=%d", pl.D, pl.S, pl.LookAhead, pl.Spin), func(t *testing.T) {
			const n = 1 << 12
			r := newRig(3)
			sum := make([]int64, n)
			var step int64
			var mu sync.Mutex
			var shares []int
			add := func(lo, hi int) { // made once: Split allocates nothing
				for i := lo; i < hi; i++ {
					sum[i] += step
				}
				mu.Lock()
				shares = append(shares, lo)
				mu.Unlock()
			}
			r.tail = func(m *stages.Message) error {
				step = m.Step
				shares = shares[:0]
				r.team.Split(n, 64, add)
				slices.Sort(shares)
				return nil
			}
			r.start(t, pl)
			if err := r.run(10); err != nil {
				t.Fatal(err)
			}
			for i, s := range sum {
				if s != 45 {
					t.Fatalf("element %d was added %d instead of 45", i, s)
				}
			}
			want := pl.D + pl.S
			if pl.S == 2 {
				want = 1 // the second S lane closes while the others go on
			}
			if len(shares) != want || shares[0] != 0 {
				t.Errorf("shares begin at %v, want %d of them", shares, want)
			}
		})
	}
}

func TestLanesShareTheStagesOfOnePart(t *testing.T) {
	for _, pl := range placements() {
		t.Run(fmt.Sprintf("d=%d,s=%d,look=%d,spin=%d", pl.D, pl.S, pl.LookAhead, pl.Spin), func(t *testing.T) {
			const n = 1 << 12
			r := newRig(1)
			sum := make([]int32, n)
			var mu sync.Mutex
			var shares []int
			share := func(lo, hi int) {
				for i := lo; i < hi; i++ {
					sum[i]++
				}
				mu.Lock()
				shares = append(shares, lo)
				mu.Unlock()
			}
			r.prog.Forward = slices.Insert(r.prog.Forward, 0, node("shared", func(team *stages.Team) stages.Stage {
				return stage(func(m *stages.Message, out stages.Outbox) error {
					shares = shares[:0]
					team.Units(n, 1, true, share)
					return out.Send(m)
				})
			}))
			r.start(t, pl)
			if err := r.run(10); err != nil {
				t.Fatal(err)
			}
			for i, s := range sum {
				if s != 10 {
					t.Fatalf("element %d was worked on %d times in 10 steps", i, s)
				}
			}
			want := pl.D
			if pl.S > 0 {
				want = 1 // the lane that computes doesn't own the others
			}
			if len(shares) != want {
				t.Errorf("%d shares, want %d", len(shares), want)
			}
		})
	}
}

func TestPanicInTheTeam(t *testing.T) {
	r := newRig(2)
	r.tail = func(*stages.Message) error {
		r.team.Split(1<<12, 64, func(lo, _ int) {
			if lo > 0 {
				panic("a share broke")
			}
		})
		return nil
	}
	r.start(t, exec.Placement{D: 2})
	if err := r.run(3); err == nil || !strings.Contains(err.Error(), "a share broke") {
		t.Errorf("error %v", err)
	}
}

func TestNoAllocationInAStep(t *testing.T) {
	for _, pl := range placements() {
		t.Run(fmt.Sprintf("d=%d,s=%d,look=%d,spin=%d", pl.D, pl.S, pl.LookAhead, pl.Spin), func(t *testing.T) {
			r := newRig(3)
			f := func(int, int) {}
			r.tail = func(*stages.Message) error { r.team.Split(1<<12, 64, f); return nil }
			r.start(t, pl)
			run := func(n int64) uint64 {
				var a, b runtime.MemStats
				runtime.ReadMemStats(&a)
				if err := r.e.Run(context.Background(), r.e.Version()+n, 1<<40, func(exec.Outcome) {}); err != nil {
					t.Fatal(err)
				}
				runtime.ReadMemStats(&b)
				return b.Mallocs - a.Mallocs
			}
			run(50)
			const steps = 200
			if got := run(steps); got >= steps/2 { // a call of Run may allocate, a step may not
				t.Errorf("%v allocations in %d steps", got, steps)
			}
		})
	}
}

func TestParkedLanesWake(t *testing.T) {
	r := newRig(2)
	r.start(t, exec.Placement{D: 2, S: 1, Spin: 1000})
	if err := r.run(10); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // the lanes are parked by now
	if err := r.run(20); err != nil {
		t.Fatal(err)
	}
}

// absent is a worker that fails at part 0 and is gone before part 1.
type absent struct{ asked chan bool }

func (absent) Returns() []stages.Slot { return nil }

func (a absent) Part(ctx context.Context, m *stages.Message) error {
	if m.Part == 0 {
		<-a.asked // part 1 is out
		return errors.New("failed")
	}
	close(a.asked)
	<-ctx.Done()
	return ctx.Err()
}

// TestAnErrorDoesNotWaitForOtherParts: Close returns although nobody will answer for part 1.
func TestAnErrorDoesNotWaitForOtherParts(t *testing.T) {
	for _, s := range []int{1, 2} {
		r := newRig(2)
		r.start(t, exec.Placement{D: 2, S: s, Remote: absent{make(chan bool)}})
		if err := r.run(3); err == nil || !strings.Contains(err.Error(), "step 1, part 0: failed") {
			t.Errorf("%v", err)
		}
		closed := make(chan error)
		go func() { closed <- r.e.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("Close waits for a part that nobody computes")
		}
	}
}

func TestSeek(t *testing.T) {
	for _, pl := range []exec.Placement{{D: 1}, {D: 2, S: 1, LookAhead: 3}, {D: 2, S: 2, LookAhead: 3}} {
		r := newRig(2)
		var got []int64
		r.tail = func(m *stages.Message) error {
			if x := m.T(r.x).F32[0]; x != float32(100*m.Step) {
				t.Errorf("step %d has the data of %v", m.Step, x)
			}
			got = append(got, m.Step)
			return nil
		}
		r.start(t, pl)
		for _, v := range []int64{0, 2, 0} { // forth and back; the run before leaves steps that were gathered ahead only if it was paused
			r.prog.Store.SetVersion(v)
			r.e.Seek()
			got = nil
			was := r.tail
			r.tail = func(m *stages.Message) error {
				if m.Step == v+3 {
					r.e.Pause()
				}
				return was(m)
			}
			if err := r.e.Run(t.Context(), v+10, 1, func(exec.Outcome) {}); err != nil {
				t.Fatal(err)
			}
			r.tail = was
			if want := []int64{v, v + 1, v + 2, v + 3}; !slices.Equal(got, want) || r.e.Version() != v+4 {
				t.Errorf("%+v from %d: steps %v, version %d", pl, v, got, r.e.Version())
			}
		}
	}
}
