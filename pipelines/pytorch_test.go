package pipelines_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"vtpu/pipelines"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/tensorfile"
)

var dump = flag.String("dump", "", "directory to write the initial weights and first batches to, for bench/pytorch.py")

// capture is an outbox that keeps the message.
type capture struct{ m *stages.Message }

func (c *capture) Send(m *stages.Message) error {
	c.m = m
	return nil
}

// losses keeps the loss of each step.
type losses struct {
	quiet
	all []float64
}

func (l *losses) Stepped(m rundir.Metric) {
	if m.Event == "step" {
		l.all = append(l.all, m.Loss)
	}
}

const pinned = 10

// peers are the presets whose first losses are pinned. bench/pytorch.py trains the same models from the same weights on the same batches.
var peers = []string{"linear", "attention", "digits", "names"}

func TestLossesAgreeWithPyTorch(t *testing.T) {
	if *dump != "" {
		for _, name := range peers {
			write(t, name)
		}
		return
	}
	b, err := os.ReadFile("testdata/pytorch.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Torch  string               `json:"torch"`
		Losses map[string][]float64 `json:"losses"`
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for _, name := range peers {
		var got losses
		err := pipelines.Train(context.Background(), pipelines.Options{File: name, StopAfter: pinned, Every: 1, Out: "none", LookAhead: -1}, &got)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.all) != pinned || len(want.Losses[name]) != pinned {
			t.Fatalf("%s: %d losses, PyTorch has %d, want %d", name, len(got.all), len(want.Losses[name]), pinned)
		}
		for i, w := range want.Losses[name] {
			if e := math.Abs(got.all[i]-w) / w; e > 1e-4 {
				t.Errorf("%s, step %d: loss %.8g, PyTorch %s has %.8g: off by %.2g", name, i+1, got.all[i], want.Torch, w, e)
			}
		}
	}
}

// write leaves what PyTorch needs in one npz file: the weights, and x and y of each of the first steps, parts joined.
func write(t *testing.T, name string) {
	p, _, err := pipelines.Prepare(pipelines.Options{File: name, LookAhead: -1})
	if err != nil {
		t.Fatal(err)
	}
	var es []tensorfile.Entry
	for _, w := range p.Store.All(0) {
		es = append(es, tensorfile.Entry{Name: "w." + w.Name, T: w.T})
	}
	g := p.Nodes[0]
	s, err := g.Def.New(g.Env, g.Cfg)
	if err != nil {
		t.Fatal(err)
	}
	for step := range pinned {
		joined := map[string]tensor.Tensor{}
		for part := range p.Pipe.Parts {
			m := p.Layout.NewMessage()
			m.Head = stages.Head{Step: int64(step), Part: int32(part), Parts: int32(p.Pipe.Parts)}
			if err := s.Process(context.Background(), m, &capture{}); err != nil {
				t.Fatal(err)
			}
			for port, b := range g.Env.Ports {
				src := m.T(b.Slot)
				old := joined[port]
				shape := src.Shape
				shape.Dims[0] += old.Shape.Dims[0]
				old.DType, old.Shape = src.DType, shape
				old.F32, old.I32 = append(old.F32, src.F32...), append(old.I32, src.I32...)
				joined[port] = old
			}
		}
		for port, v := range joined {
			es = append(es, tensorfile.Entry{Name: fmt.Sprintf("%s%d", port, step), T: v})
		}
	}
	if err := tensorfile.Save(filepath.Join(*dump, name+".npz"), es, nil); err != nil {
		t.Fatal(err)
	}
}
