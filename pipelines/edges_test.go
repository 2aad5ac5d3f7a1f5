package pipelines_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"vtpu/compute/kernel"
	"vtpu/pipelines"
	"vtpu/pipelines/pool"
	"vtpu/pipelines/presettest"
	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/link/nats"
)

// cuts are ways to cut the walk, by the edges that are moved, with the legs that they leave to workers.
var cuts = []struct{ edges, legs string }{
	{"gather scatter", "gather"},
	{"backward", "gather,forward,loss,backward"},
	{"gather backward", "forward,loss,backward"},
	{"gather backward scatter", "gather; forward,loss,backward"},
	{"gather forward backward", "forward; loss,backward"},
	{"gather loss backward scatter", "gather; forward,loss; backward"},
	{"gather forward loss backward", "forward; loss; backward"},
	{"forward", "gather,forward"},
	{"gather forward", "forward"},
	{"forward backward", "loss,backward"},
	{"forward loss", "loss"},
	{"loss backward", "backward"},
	{"loss scatter", "gather,forward,loss"},
	{"gather forward loss backward scatter", "gather; forward; loss; backward"},
}

// moved sets edges to a kind of link.
func moved(edges, kind string) (sets []string) {
	for e := range strings.FieldsSeq(edges) {
		sets = append(sets, "links."+e+"="+kind)
	}
	return sets
}

func TestEveryCutHasTheSameBits(t *testing.T) {
	presettest.Short(t)
	bus := core(t)
	for _, name := range []string{"digits", "names", "clicks", "linear"} {
		for _, parts := range []int{1, 3} {
			o := pipelines.Options{File: name, Steps: min(few[name], 25), Sets: append([]string{fmt.Sprintf("parts=%d", parts)}, fewer[name]...), LookAhead: -1}
			if name == "names" { // lines of several lengths, in parts of several sizes
				o.Sets = append(o.Sets, "stages.lines.batch=5")
			}
			want := train(t, o)
			for _, c := range cuts {
				t.Run(fmt.Sprintf("%s/%d/%s", name, parts, strings.ReplaceAll(c.edges, " ", "+")), func(t *testing.T) {
					o := o
					o.Sets = append(moved(c.edges, "nats"), o.Sets...)
					var cs []*pool.Coordinator
					o.Link = &pipelines.Link{Bus: bus, Local: 2, Log: zerolog.Nop(), Joined: func(c *pool.Coordinator) { cs = append(cs, c) }}
					if got := train(t, o); bits(got) != bits(want) {
						t.Errorf("%s\nwant %s", bits(got), bits(want))
					}
					if len(cs) != strings.Count(c.legs, ";")+1 {
						t.Errorf("%d legs, want %s", len(cs), c.legs)
					}
					for _, c := range cs {
						if n := c.Counts(); n.Parts.Load() < o.Steps*int64(parts) || n.Foreign.Load() > 0 || n.Failed.Load() > 0 || n.Refused.Load() > 0 {
							t.Errorf("%d parts, %d foreign, %d failed, %d refused", n.Parts.Load(), n.Foreign.Load(), n.Failed.Load(), n.Refused.Load())
						}
					}
				})
			}
		}
	}
}

func TestRandomPipelinesHaveTheSameBitsOnEveryCut(t *testing.T) {
	n := 16
	if testing.Short() {
		n = 5
	}
	bus := core(t)
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(i), 202))
		text := random(r)
		file := filepath.Join(t.TempDir(), "random.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		o := pipelines.Options{File: file, LookAhead: r.IntN(4)}
		want := bits(train(t, o))
		for range 4 {
			c := cuts[r.IntN(len(cuts))]
			o.Sets = moved(c.edges, "nats")
			o.Link = &pipelines.Link{Bus: bus, Local: 1 + r.IntN(3), Log: zerolog.Nop()}
			if got := bits(train(t, o)); got != want {
				t.Errorf("%s\n%s\n%s\nwant %s", text, c.edges, got, want)
			}
			o.Sets, o.Link = nil, nil
		}
	}
}

func TestCutsHaveTheSameBitsOnEveryLink(t *testing.T) {
	presettest.Short(t)
	for _, name := range []string{"digits", "names", "clicks"} {
		o := pipelines.Options{File: name, Steps: min(few[name], 25), Sets: []string{"parts=2"}, LookAhead: -1}
		if name == "names" {
			o.Sets = append(o.Sets, "stages.lines.batch=3")
		}
		want := train(t, o)
		for kind, open := range buses {
			if kind == "nats" {
				continue // TestEveryCutHasTheSameBits
			}
			for _, c := range []string{"gather scatter", "backward", "gather forward backward scatter", "forward loss"} {
				o := o
				o.Sets = append(moved(c, kind), o.Sets...)
				o.Link = &pipelines.Link{Bus: open(t), Local: 2, Log: zerolog.Nop()}
				if got := train(t, o); bits(got) != bits(want) {
					t.Errorf("%s on %s, %s: %s\nwant %s", name, kind, c, bits(got), bits(want))
				}
			}
		}
	}
}

func TestEachEdgeMayHaveALinkOfItsOwn(t *testing.T) {
	o := pipelines.Options{File: "digits", Steps: 40, Sets: []string{"parts=3"}, LookAhead: -1}
	want := train(t, o)
	s := stream(t).(*nats.Stream)
	o.Sets = append(o.Sets, "links.gather=nats", "links.forward=jetstream", "links.backward=nats", "links.scatter=jetstream")
	o.Link = &pipelines.Link{Over: map[string]link.Bus{"nats": s.Conn, "jetstream": s}, Local: 2, Log: zerolog.Nop()}
	if got := train(t, o); bits(got) != bits(want) {
		t.Errorf("%s\nwant %s", bits(got), bits(want))
	}
}

func TestALoaderFeedsAnyLanes(t *testing.T) {
	bus := core(t)
	for _, c := range []struct {
		file  string
		steps int64
		sets  []string
	}{
		{"clicks", 8, []string{"parts=3"}},                               // rows stay with the store, read ahead of the step
		{"digits", 5, []string{"parts=1", "stages.dense#1.units=12000"}}, // the update runs inside backward
	} {
		o := pipelines.Options{File: c.file, Steps: c.steps, Sets: c.sets, LookAhead: -1}
		want := bits(train(t, o))
		o.Sets = append(moved("gather", "nats"), c.sets...)
		o.Link = &pipelines.Link{Bus: bus, Local: 1, Log: zerolog.Nop()}
		for i, lanes := range []string{"d=1,s=0", "d=2,s=0", "d=1,s=1", "d=3,s=2"} {
			o.Lanes, o.LookAhead = lanes, i%3
			if got := bits(train(t, o)); got != want {
				t.Errorf("%s, lanes %s, look-ahead %d: %s\nwant %s", c.file, lanes, o.LookAhead, got, want)
			}
		}
	}
}

func TestThePlanKnowsWhatCrossesEachEdge(t *testing.T) {
	for _, c := range cuts {
		o := pipelines.Options{File: "digits", Steps: 150, LookAhead: -1, Sets: moved(c.edges, "nats")}
		o.Link = &pipelines.Link{Bus: core(t), Local: 1, Log: zerolog.Nop()}
		p, _, err := pipelines.Prepare(o)
		if err != nil {
			t.Fatal(err)
		}
		edges, err := p.EdgesMoved()
		if err != nil {
			t.Fatal(err)
		}
		var want float64
		for _, e := range edges {
			want += float64(e.Bytes)
		}
		if got := train(t, o).LinkBytes; got < want*0.98 || got > want*1.03 {
			t.Errorf("%s: %.0f bytes a step, planned %.0f", c.edges, got, want)
		}
	}
}

func TestARunWithMovedEdgesIsResumed(t *testing.T) {
	o := pipelines.Options{File: "clicks", Steps: 12, LookAhead: 2}
	want := train(t, o)
	for _, edges := range []string{"gather scatter", "gather forward backward scatter", "backward"} {
		o.Sets = moved(edges, "nats")
		o.Out, o.StopAfter, o.Resume = filepath.Join(t.TempDir(), "run"), 5, false
		o.Link = &pipelines.Link{Bus: core(t), Local: 1, Log: zerolog.Nop()}
		if d := train(t, o); d.Event != "stopped" || d.Steps != 5 {
			t.Errorf("%s after %d", d.Event, d.Steps)
		}
		o.StopAfter, o.Resume = 0, true
		if got := train(t, o); bits(got) != bits(want) {
			t.Errorf("%s: %s\nwant %s", edges, bits(got), bits(want))
		}
	}
}

func TestWhatIsRecordedIsTheSameOnEveryCut(t *testing.T) {
	var want []byte
	for _, edges := range []string{"", "gather scatter", "backward", "gather forward backward scatter"} {
		dir := filepath.Join(t.TempDir(), "run")
		o := pipelines.Options{File: "names", Steps: 20, LookAhead: -1, Out: dir, Record: "inputs", Sets: moved(edges, "nats")}
		if edges != "" {
			o.Link = &pipelines.Link{Bus: core(t), Local: 2, Log: zerolog.Nop()}
		}
		done := train(t, o)
		replayed(t, pipelines.ReplayOptions{Dir: dir, From: -1}, done)
		if b := []byte(bits(done)); want == nil {
			want = b
		} else if !bytes.Equal(b, want) {
			t.Errorf("%s: %s\nwant %s", edges, b, want)
		}
	}
}

func TestARunWithoutALoaderCanBeStopped(t *testing.T) {
	for _, edges := range []string{"gather scatter", "backward"} {
		ctx, cancel := context.WithCancel(t.Context())
		o := pipelines.Options{File: "digits", Out: "none", LookAhead: -1, Sets: moved(edges, "nats")}
		o.Link = &pipelines.Link{Bus: core(t), Log: zerolog.Nop(), Joined: func(*pool.Coordinator) { time.AfterFunc(200*time.Millisecond, cancel) }}
		begin := time.Now()
		var q quiet
		err := pipelines.Train(ctx, o, &q)
		if edges == "backward" { // the step in hand is given time to end
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			continue
		}
		if err != nil || q.done.Event != "stopped" || q.done.Steps != 0 {
			t.Errorf("%v: %+v", err, q.done)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}

func TestARunThatWaitsForWorkersIsStoppedAfterItsLastStep(t *testing.T) {
	bus := core(t)
	o := pipelines.Options{File: "digits", Out: filepath.Join(t.TempDir(), "run"), LookAhead: -1, Steps: 400, Record: "gradients"}
	plain := o
	plain.Out, plain.Record = "none", ""
	want := bits(train(t, plain))
	p, _, err := pipelines.Prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	work, leave := context.WithCancel(t.Context())
	defer leave()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := p.Work(work, &pipelines.Link{Bus: bus, Log: zerolog.Nop()}, false); err != nil {
			t.Error(err)
		}
	})
	joined := make(chan *pool.Coordinator, 1)
	wg.Go(func() {
		c := <-joined
		for c.Counts().Parts.Load() < 50 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		leave()
		for c.Workers() > 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		stop()
	})
	o.Link = &pipelines.Link{Bus: bus, Log: zerolog.Nop(), Joined: func(c *pool.Coordinator) { joined <- c }}
	var q quiet
	err = pipelines.Train(ctx, o, &q)
	stop()
	wg.Wait()
	if err != nil || q.done.Event != "stopped" || q.done.Steps < 25 || q.done.Steps >= 400 || q.done.Resume == "" {
		t.Fatalf("%v: %+v", err, q.done)
	}
	o.Resume, o.Link = true, &pipelines.Link{Bus: bus, Local: 2, Log: zerolog.Nop()}
	done := train(t, o)
	if bits(done) != want {
		t.Errorf("%s\nwant %s", bits(done), want)
	}
	replayed(t, pipelines.ReplayOptions{Dir: o.Out, From: -1}, done)
}

func TestEdgesThatCantBeMovedAreFoundFaultWith(t *testing.T) {
	model := "stages: [{batches: {batch: 4}}, {dense: {units: classes}}, {softmax_xent: {}}, {sgd: {lr: 0.1}}]\nrun: {steps: 3}\n"
	digits := "data: {source: synthetic, task: digits, rows: 20, size: 8}\n"
	lines := "data: {source: stdin, features: 2, classes: 2}\n"
	for _, c := range []struct{ text, links, where, want string }{
		{digits + model, "{update: nats}", ":4:17:", "update → scatter can't be moved: commit, checkpoint and ema end the step in the store that update writes, and a store has one writer"},
		{digits + model, "{work: nats, update: jetstream}", ":4:29:", "update → scatter can't be moved"},
		{digits + model, "{scatter: nats}", ":4:18:", "with one moved edge, scatter → gather, the walk is still in one piece"},
		{digits + model, "{gather: nats, scatter: ring}", ":4:17:", "with one moved edge, gather → forward, the walk is still in one piece"},
		{digits + model, "{gather: nats, backward: gochannel}", ":4:17:", "gochannel stays within this process, nats leaves it"},
		{digits + model, "{loss: pigeon}", ":4:15:", "want one of ring, nats, jetstream, gochannel"},
		{digits + model, "{reduce: nats}", ":4:9:", "unknown key reduce"},
		{digits + model, "{gather: nats}\ncommit: {record: gradients}", ":5:1:", "unknown key commit (it is a stage: write it into the list under stages)"},
		{lines + strings.Replace(model, "batches", "feed_batches", 1), "{gather: nats}", ":4:17:", "gather stays with the run: its examples come one after another"},
		{lines + strings.Replace(model, "batches", "feed_batches", 1), "{backward: nats}", ":4:19:", "gather stays with the run"},
		{"stages: [{cells: {read: [{name: q, at: 1.1.1/1.1.1/1.1.1, value: 3}]}}]\nrun: {steps: 3}\n\n", "{gather: nats}", ":4:17:", "gather reads nothing but weights"},
	} {
		p, err := pipelines.Parse("x.yaml", []byte(c.text+"links: "+c.links+"\n"), nil)
		if err == nil {
			_, err = pipelines.NewPlan(p, "", nil)
		}
		if stages.ExitCode(err) != stages.ExitUser || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "x.yaml"+c.where) {
			t.Errorf("%s: %v\nwant %s %s", c.links, err, c.where, c.want)
		}
	}
}

func TestAWorkerIsToldWhatItMayDo(t *testing.T) {
	plan := func(edges string) *pipelines.Plan {
		p, _, err := pipelines.Prepare(pipelines.Options{File: "digits", LookAhead: -1, Sets: moved(edges, "nats")})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct{ edges, stages, want, fault string }{
		{"", "", "forward,loss,backward", ""},
		{"", "backward, forward,loss", "forward,loss,backward", ""},
		{"", "gather", "", "links: {gather: nats} in the file"},
		{"", "loss,backward", "", "links: {forward: nats, backward: nats} in the file"},
		{"gather scatter", "", "gather", ""},
		{"gather forward backward", "loss,backward", "loss,backward", ""},
		{"gather forward backward", "", "", "several pieces of the walk"},
		{"gather forward backward", "gather", "", "the file's links leave other stages to workers"},
		{"", "forward,backward", "", "not neighbours"},
		{"", "update,scatter", "", "which has one writer: the run itself"},
		{"", "forwards", "", "there is no room"},
	} {
		l, err := plan(c.edges).Leg(c.stages)
		if c.fault == "" && (err != nil || l.String() != c.want) {
			t.Errorf("%+v: %v %v", c, l, err)
		}
		if c.fault != "" && (stages.ExitCode(err) != stages.ExitUser || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestHostilePeersOnMovedEdgesChangeNoBit(t *testing.T) {
	o := pipelines.Options{File: "digits", Steps: 100, LookAhead: -1, Sets: append(moved("gather forward backward scatter", "nats"), "parts=4")}
	one := o
	one.Sets = []string{"parts=4"}
	want := bits(train(t, one))
	bus := &tap{Bus: core(t), seen: map[string][][]byte{}}
	o.Link = &pipelines.Link{Bus: bus, Local: 2, Log: zerolog.Nop()}
	if got := bits(train(t, o)); got != want {
		t.Fatalf("an undisturbed run: %s, want %s", got, want)
	}
	old := bus.all()
	quit := make(chan struct{})
	var wg sync.WaitGroup
	bad := []pool.Options{{Stages: "gather", Build: "another version", ISA: kernel.ISA()}, {Stages: "gather", Build: pipelines.Build(), ISA: "abacus"},
		{Stages: "loss,backward", Build: pipelines.Build(), ISA: "abacus"}, {Stages: "gather,forward", Build: pipelines.Build(), ISA: kernel.ISA()}}
	var cs []*pool.Coordinator
	o.Link.Joined = func(c *pool.Coordinator) {
		cs = append(cs, c)
		if len(cs) > 1 {
			return
		}
		wg.Go(func() { flood(bus, old, 7, quit) })
		unwelcome(t, &wg, o, bus.Bus, bad)
	}
	got := bits(train(t, o))
	close(quit)
	wg.Wait()
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	refused := int64(0) // by whichever of them heard a worker first
	for _, c := range cs {
		n := c.Counts()
		refused += int64(n.Refused.Load())
		if n.Foreign.Load() < 10 || n.Stale.Load() < 10 {
			t.Errorf("%s: %d foreign, %d stale", c.Stages(), n.Foreign.Load(), n.Stale.Load())
		}
	}
	if refused < int64(len(bad)) {
		t.Errorf("%d refused, want %d", refused, len(bad))
	}
}
