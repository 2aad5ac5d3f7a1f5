package pipelines_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"vtpu/pipelines"
	"vtpu/pipelines/pool"
	"vtpu/pipelines/presettest"
	"vtpu/stages"
	"vtpu/stages/link"
	"vtpu/stages/link/broker"
	"vtpu/stages/link/nats"
	"vtpu/stages/link/wm"
)

// core connects to a broker of the test's own.
func core(t testing.TB) link.Bus { return coreOf(t, broker.Options{}) }

func coreOf(t testing.TB, o broker.Options) link.Bus {
	t.Helper()
	b, err := broker.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := nats.Connect(nats.Options{URL: b.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// stream is core with JetStream.
func stream(t testing.TB) link.Bus { return streamOf(t, broker.Options{}) }

func streamOf(t testing.TB, o broker.Options) link.Bus {
	t.Helper()
	s, err := coreOf(t, o).(*nats.Conn).JetStream("vtpu", nats.StreamOptions{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// channel is Watermill's GoChannel.
func channel(t testing.TB) link.Bus {
	ch := wm.NewGoChannel()
	b := wm.NewBus(ch, ch, 4096)
	t.Cleanup(func() {
		if err := errors.Join(ch.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// buses are what a run may be joined to workers by.
var buses = map[string]func(testing.TB) link.Bus{"nats": core, "jetstream": stream, "gochannel": channel}

func TestEveryPresetHasTheSameBitsOnEveryLink(t *testing.T) {
	presettest.Short(t)
	for _, name := range presets() {
		o := pipelines.Options{File: name, Steps: few[name], Sets: fewer[name], LookAhead: -1}
		if p, _, err := pipelines.Prepare(o); err != nil {
			t.Fatal(err)
		} else if _, err := p.Cut(); err != nil {
			continue // nothing is learnt
		}
		want := bits(train(t, o))
		for kind, open := range buses {
			counts := []int{2}
			if name == "digits" || name == "names" || name == "clicks" {
				counts = []int{1, 2, 5}
			}
			for _, workers := range counts {
				t.Run(fmt.Sprintf("%s/%s/%d", name, kind, workers), func(t *testing.T) {
					var c *pool.Coordinator
					o := o
					o.Link = &pipelines.Link{Bus: open(t), Local: workers, Log: zerolog.Nop(), Joined: func(j *pool.Coordinator) { c = j }}
					if got := bits(train(t, o)); got != want {
						t.Errorf("%s\nwant %s", got, want)
					}
					if n := c.Counts(); n.Parts.Load() == 0 || n.Foreign.Load() > 0 || n.Failed.Load() > 0 {
						t.Errorf("%d parts, %d foreign, %d failed", n.Parts.Load(), n.Foreign.Load(), n.Failed.Load())
					}
				})
			}
		}
	}
}

func TestRandomPipelinesHaveTheSameBitsOnALink(t *testing.T) {
	n := 12
	if testing.Short() {
		n = 4
	}
	bus := core(t)
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(i), 101))
		text := random(r)
		file := filepath.Join(t.TempDir(), "random.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		o := pipelines.Options{File: file, LookAhead: -1}
		want := bits(train(t, o))
		o.Link = &pipelines.Link{Bus: bus, Local: 1 + r.IntN(3), Log: zerolog.Nop()}
		if got := bits(train(t, o)); got != want {
			t.Errorf("%s\n%s\nwant %s", text, got, want)
		}
	}
}

// TestWeightsBeyondWhatABrokerHoldsBack: NATS cuts off a client for whom more than 64 MiB wait.
func TestWeightsBeyondWhatABrokerHoldsBack(t *testing.T) {
	presettest.Short(t)
	file := filepath.Join(t.TempDir(), "large.yaml")
	text := `name: large
parts: 2
data: {source: synthetic, task: digits, rows: 200, size: 10, noise: 0.1, split: 0.8}
stages:
  - batches: {batch: 8}
  - dense: {units: 4500, act: relu}
  - dense: {units: 4500, act: relu}
  - dense: {units: classes}
  - softmax_xent: {}
  - sgd: {lr: 0.01}
run: {steps: 2}
`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	o := pipelines.Options{File: file, LookAhead: -1}
	want := bits(train(t, o))
	for workers, open := range map[int]func(testing.TB, broker.Options) link.Bus{2: coreOf, 1: streamOf} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			var c *pool.Coordinator
			o.Link = &pipelines.Link{Bus: open(t, broker.Options{MaxPayload: 1 << 20}), Local: workers, Log: zerolog.Nop(), Joined: func(j *pool.Coordinator) { c = j }}
			if got := bits(train(t, o)); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
			if n := c.Counts(); n.SentWeights.Load() < 2*75<<20 || n.Lost.Load() > 0 || n.Foreign.Load() > 0 {
				t.Errorf("%d bytes of weights, %d workers lost, %d messages foreign", n.SentWeights.Load(), n.Lost.Load(), n.Foreign.Load())
			}
			t.Logf("%d snapshots, %d deltas, %d parts resent, %d bytes of weights", c.Counts().Snapshots.Load(), c.Counts().Deltas.Load(), c.Counts().Resent.Load(), c.Counts().SentWeights.Load())
		})
	}
}

func TestWorkersEndWithTheLastRunOnABus(t *testing.T) {
	bus := core(t)
	o := pipelines.Options{File: "names", Steps: 20, LookAhead: -1}
	p, _, err := pipelines.Prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	type ended struct {
		n   pool.WorkerCounts
		err error
	}
	end := make(chan ended, 1)
	go func() {
		n, err := p.Work(t.Context(), &pipelines.Link{Bus: bus, Log: zerolog.Nop()}, false)
		end <- ended{n, err}
	}()
	for i, last := range []bool{false, true} {
		o.Link = &pipelines.Link{Bus: bus, Log: zerolog.Nop(), Last: last}
		train(t, o)
		if i == 0 {
			select {
			case e := <-end:
				t.Fatalf("%+v: ended with a run that was not the last", e)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	select {
	case e := <-end:
		if e.err != nil || e.n.Parts < 40 {
			t.Errorf("%+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still there")
	}
}

func TestALinkWantsSomethingToLearn(t *testing.T) {
	o := pipelines.Options{File: "qkv", Out: "none", LookAhead: -1, Link: &pipelines.Link{Bus: core(t), Log: zerolog.Nop()}}
	if err := pipelines.Train(t.Context(), o, &quiet{}); stages.ExitCode(err) != stages.ExitUser {
		t.Error(err)
	}
}

func TestThePlanKnowsWhatGoesOverALink(t *testing.T) {
	o := pipelines.Options{File: "digits", Steps: 300, LookAhead: -1, Link: &pipelines.Link{Bus: core(t), Local: 1, Log: zerolog.Nop()}}
	p, _, err := pipelines.Prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	cut, err := p.Cut()
	if err != nil {
		t.Fatal(err)
	}
	want := float64(cut.Sizes().Step(p.Pipe.Parts))
	if got := train(t, o).LinkBytes; got < want*0.99 || got > want*1.02 {
		t.Errorf("%.0f bytes a step, planned %.0f", got, want)
	}
}

func TestThePlanPredictsAStepOverALink(t *testing.T) {
	o := pipelines.Options{File: "digits", Steps: 300, LookAhead: -1, Link: &pipelines.Link{Bus: core(t), Local: 2, Log: zerolog.Nop()}}
	p, base, err := pipelines.Prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	cut, err := p.Cut()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := p.Store.Hashes()
	got, err := p.Predict(t.Context(), base, o.Link)
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := p.Store.Hashes(); after != before || p.Store.Version() != 0 {
		t.Error("the measurement trained the plan itself")
	}
	if want := float64(cut.Sizes().Step(p.Pipe.Parts)); got.Sent < want*0.99 || got.Sent > want*1.01 {
		t.Errorf("%.0f bytes a step, planned %.0f", got.Sent, want)
	}
	if got.Batch != 64 || got.Workers != 2 || got.Compute <= 0 || got.Wire <= 3*got.Latency || got.Rate <= 0 || got.Bytes <= 0 || got.Step < got.Rest || got.Step > got.Compute+got.Wire+got.Rest+1e-9 {
		t.Errorf("%+v", got)
	}
	o.Steps = 2
	if _, err := pipelines.PredictStep(t.Context(), o); stages.ExitCode(err) != stages.ExitUser {
		t.Errorf("two steps: %v", err)
	}
}

func TestGradientsInHalfHaveTheirOwnBitsOnEveryLink(t *testing.T) {
	text, ok := pipelines.Preset("digits")
	if !ok {
		t.Fatal("no preset digits")
	}
	whole := pipelines.Options{File: "digits", Steps: 40, LookAhead: -1}
	file := filepath.Join(t.TempDir(), "half.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "  - softmax_xent: {}\n", "  - softmax_xent: {}\n  - fp16_gradients: {scale: 4096}\n", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	o := pipelines.Options{File: file, Steps: 40, LookAhead: -1}
	want := train(t, o)
	o.Lanes = "d=2,s=1"
	if got := train(t, o); bits(got) != bits(want) {
		t.Errorf("on other lanes: %s\nwant %s", bits(got), bits(want))
	}
	full := train(t, whole)
	if bits(full) == bits(want) || want.LastLoss > 1.1*full.LastLoss {
		t.Errorf("loss %v in halves, %v in whole numbers", want.LastLoss, full.LastLoss)
	}
	l := &pipelines.Link{Bus: core(t), Local: 2, Log: zerolog.Nop()}
	o.Link, whole.Link = l, l
	got := train(t, o)
	if bits(got) != bits(want) {
		t.Errorf("on a link: %s\nwant %s", bits(got), bits(want))
	}
	if full := train(t, whole); got.LinkBytes > 0.8*full.LinkBytes {
		t.Errorf("%.0f bytes a step in halves, %.0f in whole numbers", got.LinkBytes, full.LinkBytes)
	}
}

func TestTheLargestGradientsHaveTheirOwnBitsOnEveryLink(t *testing.T) {
	text, ok := pipelines.Preset("digits")
	if !ok {
		t.Fatal("no preset digits")
	}
	losses := map[string]float64{}
	for _, c := range []struct {
		feedback string
		share    float64 // of the bytes that all gradients take over a link, at most
	}{{"false", 0.6}, {"true", 0.75}} {
		t.Run("feedback="+c.feedback, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "few.yaml")
			stage := "  - topk_gradients: {keep: 0.1, feedback: " + c.feedback + "}\n"
			if err := os.WriteFile(file, []byte(strings.Replace(string(text), "  - softmax_xent: {}\n", "  - softmax_xent: {}\n"+stage, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			o := pipelines.Options{File: file, Steps: 100, LookAhead: -1}
			want := train(t, o)
			if want.LastLoss > 0.95*want.FirstLoss {
				t.Errorf("loss %v after %v: nothing is learnt", want.LastLoss, want.FirstLoss)
			}
			losses[c.feedback] = want.LastLoss
			o.Lanes = "d=2,s=1"
			if got := train(t, o); bits(got) != bits(want) {
				t.Errorf("on other lanes: %s\nwant %s", bits(got), bits(want))
			}
			dir := filepath.Join(t.TempDir(), "run")
			o.Out, o.StopAfter, o.Record = dir, 41, "gradients"
			train(t, o)
			o.StopAfter, o.Resume = 0, true
			if got := train(t, o); bits(got) != bits(want) {
				t.Errorf("resumed: %s\nwant %s", bits(got), bits(want))
			}
			replayed(t, pipelines.ReplayOptions{Dir: dir, From: -1, Verify: 10}, want)
			replayed(t, pipelines.ReplayOptions{Dir: dir, From: 41}, want)
			o.Out, o.Resume, o.Record = "", false, ""
			whole := pipelines.Options{File: "digits", Steps: 100, LookAhead: -1}
			for kind, open := range buses {
				counts := []int{2}
				if kind == "nats" {
					counts = []int{1, 2, 5}
				}
				for _, workers := range counts {
					l := &pipelines.Link{Bus: open(t), Local: workers, Log: zerolog.Nop()}
					o.Link, whole.Link = l, l
					got := train(t, o)
					if bits(got) != bits(want) {
						t.Errorf("on %s with %d workers: %s\nwant %s", kind, workers, bits(got), bits(want))
					}
					if workers != 2 {
						continue
					}
					p, _, err := pipelines.Prepare(o)
					if err != nil {
						t.Fatal(err)
					}
					cut, err := p.Cut()
					if err != nil {
						t.Fatal(err)
					}
					if planned := float64(cut.Sizes().Step(p.Pipe.Parts)); got.LinkBytes > 1.1*planned {
						t.Errorf("%.0f bytes a step, planned %.0f", got.LinkBytes, planned)
					}
					if full := train(t, whole); got.LinkBytes > c.share*full.LinkBytes {
						t.Errorf("%.0f bytes a step of the largest, %.0f of all", got.LinkBytes, full.LinkBytes)
					}
				}
			}
		})
	}
	if losses["true"] >= losses["false"] {
		t.Errorf("loss %v with feedback, %v without", losses["true"], losses["false"])
	}
}
