package pipelines_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"vtpu/pipelines"
	"vtpu/stages"
	"vtpu/stages/link/nats"
	"vtpu/stages/reclog"
	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// sender sends examples from to up to (not to) when a run has begun.
type sender struct {
	quiet
	begun func()
}

func (s *sender) Started(*pipelines.Plan, string, int64) { s.begun() }

// sendExamples sends the examples from from to before to of the preset online, and some that do not fit.
func sendExamples(t *testing.T, bus *nats.Conn, from, to int) {
	var enc wire.Encoder
	for i := from; i < to; i++ {
		x := make([]float32, 16)
		for k := range x {
			x[k] = float32((i*7+k*13)%11) - 5
		}
		y := int32(i % 4)
		x[y] += 9
		data, err := json.Marshal(map[string]any{"x": x, "y": y})
		if i%2 == 1 { // every other one in the other format
			data, err = enc.Encode(&wire.Frame{Kind: wire.Example, Tensors: []wire.Tensor{
				{Name: "x", Shape: tensor.Of(16), F32: x}, {Name: "y", DType: tensor.I32, I32: []int32{y}}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%50 == 7 { // what does not fit is dropped
			for _, bad := range []string{"", "{", `{"x":[1],"y":0}`, `{"y":0}`, strings.Replace(`{"x":[X],"y":9}`, "X", strings.Repeat("0,", 15)+"0", 1), "vTPU and noise",
				strings.Replace(`{"x":[X],"y":null}`, "X", strings.Repeat("0,", 15)+"0", 1), strings.Replace(`{"x":[X],"y":0}`, "X", strings.Repeat("0,", 15)+"null", 1)} {
				if err := bus.Publish("online.examples", []byte(bad)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := bus.Publish("online.examples", data); err != nil {
			t.Fatal(err)
		}
	}
}

// learnOnline runs the preset online on some of its examples.
func learnOnline(t *testing.T, bus *nats.Conn, o pipelines.Options, from, to int) pipelines.Done {
	t.Helper()
	o.File, o.Steps, o.LookAhead = "online", 60, -1
	o.Live = &pipelines.Live{Bus: bus, Log: zerolog.Nop()}
	s := &sender{begun: func() { sendExamples(t, bus, from, to) }}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := pipelines.Train(ctx, o, s); err != nil {
		t.Fatal(err)
	}
	return s.done
}

// TestReplayEqualsLiveOnline is TestReplayEqualsLive for the preset whose examples come over a broker: the replay needs none.
func TestReplayEqualsLiveOnline(t *testing.T) {
	bus := core(t).(*nats.Conn)
	var want pipelines.Done
	for i, what := range []string{"none", "gradients", "inputs"} {
		o := pipelines.Options{Record: what, Out: filepath.Join(t.TempDir(), "run"), Lanes: []string{"d=1,s=0", "d=2,s=1", "d=1,s=1"}[i]}
		got := learnOnline(t, bus, o, 0, 60*16)
		if what == "none" {
			want = got
			continue
		}
		if bits(got) != bits(want) {
			t.Fatalf("recording %s changes the bits: %s, want %s", what, bits(got), bits(want))
		}
		verify := 0
		if what == "gradients" {
			verify = 3
		}
		if d := replayed(t, pipelines.ReplayOptions{Dir: o.Out, From: -1, Verify: verify}, want); d.LastLoss != want.LastLoss || d.Steps != 60 || len(d.Verified) != verify {
			t.Errorf("%s: %+v, want the loss %v", what, d, want.LastLoss)
		}
		if what == "gradients" {
			verifyNeedsTheJournal(t, o.Out)
		}
	}
}

// verifyNeedsTheJournal takes examples from a run's journal: what is there is what the gradients are computed from, and what is not is said.
func verifyNeedsTheJournal(t *testing.T, run string) {
	t.Helper()
	j, o := filepath.Join(run, pipelines.ExamplesDir), pipelines.ReplayOptions{Dir: run, From: -1, Verify: 60}
	if err := reclog.CutAt(j, 40*16+3, reclog.ReadOptions{}); err != nil {
		t.Fatal(err)
	}
	var f stages.Finding
	if d, err := pipelines.Replay(t.Context(), o); !errors.As(err, &f) || !strings.Contains(f.Msg, "holds 643 examples, example 644") || len(d.Verified) != 40 {
		t.Errorf("without the examples from 644 on: %v, %d steps are verified", err, len(d.Verified))
	}
	// Other numbers of the same form in the place of the last ones: step 41 is then another one.
	w, err := reclog.OpenJournal(j, reclog.Options{}, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(16) {
		if err := w.Append(&wire.Frame{Kind: wire.Example, Meta: wire.Meta{Head: stages.Head{Step: 40*16 + 3 + i}}, Tensors: []wire.Tensor{
			{Name: "x", Role: wire.Value, Shape: tensor.Of(16), F32: make([]float32, 16)}, {Name: "y", Role: wire.Value, DType: tensor.I32, I32: []int32{0}}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var miss *pipelines.Mismatch
	if d, err := pipelines.Replay(t.Context(), o); !errors.As(err, &miss) || !strings.Contains(miss.Msg, "step 41") || len(d.Verified) != 40 {
		t.Errorf("with other examples in step 41: %v, %d steps are verified", err, len(d.Verified))
	}
	if err := os.RemoveAll(j); err != nil {
		t.Fatal(err)
	}
	if _, err := pipelines.Replay(t.Context(), o); !errors.As(err, &f) || !strings.Contains(f.Msg, "holds 0 examples, example 1 ") {
		t.Errorf("without a journal: %v", err)
	}
}

func TestOnlineLearningResumesExactlyAndIsServedMeanwhile(t *testing.T) {
	bus := core(t).(*nats.Conn)
	run := func(o pipelines.Options, from, to int) pipelines.Done {
		t.Helper()
		return learnOnline(t, bus, o, from, to)
	}
	plan, _, err := pipelines.Prepare(pipelines.Options{File: "online", Steps: 60, LookAhead: -1})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 1000)
	unsubscribe, err := bus.Subscribe(plan.Base()+".metrics", func(b []byte) { told <- string(b) })
	if err != nil {
		t.Fatal(err)
	}
	want := run(pipelines.Options{Out: filepath.Join(t.TempDir(), "whole")}, 0, 60*16)
	if err := unsubscribe(); err != nil {
		t.Fatal(err)
	}
	var metrics strings.Builder
	for len(told) > 0 {
		metrics.WriteString(<-told)
	}
	if m := metrics.String(); !strings.Contains(m, `{"event":"step","step":1,"loss":`) || !strings.Contains(m, `"step":60,`) || !strings.Contains(m, `"steps_per_s":`) {
		t.Errorf("metrics: %s", m)
	}
	if want.Event != "done" || want.LastLoss > 0.2 {
		t.Fatalf("%s, loss %v", want.Event, want.LastLoss)
	}
	dir := filepath.Join(t.TempDir(), "cut")
	if d := run(pipelines.Options{Out: dir, StopAfter: 20}, 0, 30*16); d.Event != "stopped" || d.Steps != 20 {
		t.Fatalf("%s after %d", d.Event, d.Steps)
	}
	s, err := pipelines.Serve(dir, bus, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if v, _ := s.Version(); v != 20 {
		t.Errorf("serves version %d", v)
	}
	got := run(pipelines.Options{Out: dir, Resume: true}, 30*16, 60*16)
	if bits(got) != bits(want) {
		t.Errorf("resumed: %s\nwant %s", bits(got), bits(want))
	}
	for range 100 {
		if v, _ := s.Version(); v == 60 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if v, sha := s.Version(); v != 60 || sha != want.Weights {
		t.Errorf("serves version %d, %s", v, sha)
	}
	mux := http.NewServeMux()
	s.Handle(mux)
	h := httptest.NewServer(mux)
	defer h.Close()
	post := func(path, body string) (int, string) {
		t.Helper()
		r, err := http.Post(h.URL+path, "application/json", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	q := fmt.Sprintf(`{"x":[0,0,9%s]}`, strings.Repeat(",0", 13))
	code, one := post("/predict", q)
	if code != 200 || !strings.Contains(one, `"class":2`) || !strings.Contains(one, `"version":60`) {
		t.Errorf("%d %s", code, one)
	}
	for body, say := range map[string]string{`{"x":[1]}`: "want 16 numbers", "nonsense": "want JSON", `{}`: "missing", `{"x":[1e39` + strings.Repeat(",0", 15) + `]}`: "16 numbers"} {
		if code, b := post("/predict", body); code != 400 || !strings.Contains(b, say) {
			t.Errorf("%s: %d %s", body, code, b)
		}
	}
	stop, err := bus.Serve(s.Subject("predict"), "g", func(b []byte) []byte { return s.Answer(t.Context(), "predict", b) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop() }()
	branch := filepath.Join(t.TempDir(), "branch") // a fork has the examples that the other run has taken
	if _, err := pipelines.Fork(t.Context(), pipelines.ForkOptions{Dir: dir, At: 20, Out: branch}); err != nil {
		t.Fatal(err)
	}
	if got := run(pipelines.Options{Out: branch, Resume: true}, 0, 0); bits(got) != bits(want) {
		t.Errorf("forked: %s\nwant %s", bits(got), bits(want))
	}
	if b, err := bus.Request("vtpu.serve.online.predict", []byte(q), 5*time.Second); err != nil || string(b) != strings.TrimSpace(one) {
		t.Errorf("over NATS: %s, %v", b, err)
	}
}
