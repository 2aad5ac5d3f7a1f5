package pipelines_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"vtpu/compute/kernel"
	"vtpu/pipelines"
	"vtpu/pipelines/presettest"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
)

// quiet keeps the result of a run alone.
type quiet struct{ done pipelines.Done }

func (*quiet) Started(*pipelines.Plan, string, int64) {}
func (*quiet) Stepped(rundir.Metric)                  {}
func (*quiet) Saved(int64, string)                    {}
func (q *quiet) Finished(d pipelines.Done)            { q.done = d }

// train runs a pipeline and returns its result.
func train(tb testing.TB, o pipelines.Options) pipelines.Done {
	tb.Helper()
	if o.Out == "" {
		o.Out = "none"
	}
	var q quiet
	if err := pipelines.Train(context.Background(), o, &q); err != nil {
		tb.Fatal(err)
	}
	return q.done
}

// bits is what must be equal between two runs.
func bits(d pipelines.Done) string {
	return fmt.Sprintf("%s %s %v %v %v", d.Weights, d.State, d.LastLoss, d.EvalLoss != nil, d.Samples)
}

var placements = []string{"d=1,s=0", "d=1,s=1", "d=2,s=0", "d=2,s=1", "d=4,s=2", "d=3,s=2", "d=1,s=2"}

// samebits runs one pipeline on many placements, with many look-aheads, instruction sets, processors, and resumed at a random step.
func samebits(t *testing.T, o pipelines.Options, r *rand.Rand) {
	t.Helper()
	o.Lanes, o.LookAhead = "d=1,s=0", 0
	first := train(t, o)
	want := bits(first)
	same := func(what string, got pipelines.Done) {
		t.Helper()
		if bits(got) != want {
			t.Errorf("%s: %s\nwant %s", what, bits(got), want)
		}
	}
	for i, lanes := range placements {
		o.Lanes = lanes
		o.LookAhead = []int{0, 1, 3}[i%3]
		same(fmt.Sprintf("lanes %s, look-ahead %d", lanes, o.LookAhead), train(t, o))
	}
	o.Lanes = "d=2,s=1"
	for _, look := range []int{0, 1, 3} {
		o.LookAhead = look
		same(fmt.Sprintf("look-ahead %d", look), train(t, o))
	}
	for _, procs := range []int{1, 4} {
		was := runtime.GOMAXPROCS(procs)
		got := train(t, o)
		runtime.GOMAXPROCS(was)
		same(fmt.Sprintf("GOMAXPROCS %d", procs), got)
	}
	was := kernel.ISA()
	for _, isa := range kernel.ISAs() {
		o.ISA = isa
		same("instruction set "+isa, train(t, o))
	}
	if err := kernel.SetISA(was); err != nil {
		t.Fatal(err)
	}
	o.ISA = ""
	if first.Steps > 2 {
		for range 2 {
			at := 1 + r.Int64N(first.Steps-1)
			o.Out = filepath.Join(t.TempDir(), "run")
			o.StopAfter = at
			if d := train(t, o); d.Event != "stopped" || d.Steps != at {
				t.Errorf("stop after step %d: %s after %d", at, d.Event, d.Steps)
			}
			o.StopAfter, o.Resume, o.Lanes, o.LookAhead = 0, true, placements[r.IntN(len(placements))], r.IntN(4)
			same(fmt.Sprintf("resumed after step %d on %s", at, o.Lanes), train(t, o))
			o.Resume, o.Out = false, "none"
		}
	}
}

// few bounds the steps of a preset in a test: plain Go kernels run too.
var few = map[string]int64{"attention": 6, "digits": 40, "names": 60, "linear": 40, "clicks": 12, "shakespeare": 3, "gpt2-124m": 2, "mnist": 4}

// fewer bounds other things of a preset in a test.
var fewer = map[string][]string{"shakespeare": {"sample.tokens=20"}}

// presets are those that need no broker: the examples of the others come over one, see online_test.go.
func presets() []string {
	return slices.DeleteFunc(pipelines.PresetNames(), func(name string) bool { return name == "online" })
}

func TestEveryPresetHasTheSameBitsEverywhere(t *testing.T) {
	presettest.Short(t)
	r := rand.New(rand.NewPCG(11, 12))
	for _, name := range presets() {
		t.Run(name, func(t *testing.T) {
			samebits(t, pipelines.Options{File: name, Steps: few[name], Sets: fewer[name]}, r)
		})
	}
}

// random writes a small pipeline: data, model, loss, optimizer and parts drawn at random.
func random(r *rand.Rand) string {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	var b strings.Builder
	fmt.Fprintf(&b, "seed: %d\n", r.IntN(1000))
	batch := 3 + r.IntN(6)
	parts := 1 + r.IntN(3)
	fmt.Fprintf(&b, "parts: %d\n", parts)
	var stages []string
	add := func(format string, args ...any) { stages = append(stages, "  - "+fmt.Sprintf(format, args...)) }
	acts := func() string {
		return pick("relu", "squared_relu", "gelu", "gelu_tanh", "tanh", "sigmoid", "silu", "none")
	}
	sparse := false
	switch r.IntN(4) {
	case 0:
		fmt.Fprintf(&b, "data: {source: synthetic, task: clusters, rows: 23, features: %d, classes: 4, noise: 0.5, split: 0.7}\n", 3+r.IntN(20))
		add("batches: {batch: %d, drop_last: %v}", batch, r.IntN(2) == 0)
		for range 1 + r.IntN(3) {
			add("dense: {units: %d, act: %s, bias: %v}", 2+r.IntN(20), acts(), r.IntN(2) == 0)
			if r.IntN(3) == 0 {
				add("dropout: {p: 0.3}")
			}
			if r.IntN(3) == 0 {
				add("residual: [%s: {}, dense: {units: %d}]", pick("layernorm", "rmsnorm"), 0)
				stages = stages[:len(stages)-1] // the width is not known here; see the text models for residuals
			}
		}
		add("dense: {units: classes}")
		add("softmax_xent: {}")
	case 1:
		fmt.Fprintf(&b, "data: {source: synthetic, task: recommender, rows: 31, features: 5, tables: 3, ids: 7, split: 0.8}\n")
		add("batches: {batch: %d}", batch)
		sparse = r.IntN(3) > 0
		if r.IntN(2) == 0 {
			add("rows: {dim: 4, rows: cat_rows, per_column: true, sparse: %v, out: [emb, ids]}", sparse)
			add("dense: {in: x, units: 4, act: relu}")
			add("interaction: {in: [dense, emb]}")
		} else {
			add("embedding_bag: {in: cats, dim: 6, rows: cat_rows, mode: %s, sparse: %v, out: emb}", pick("sum", "mean"), sparse)
			add("concat: {in: [emb, x]}")
		}
		add("dense: {units: 5, act: %s}", acts())
		add("dense: {units: 1}")
		add("bce: {}")
	case 2:
		b.WriteString("data: {source: text, path: data/names.txt, docs: lines, split: 0.95}\n")
		add("lines: {batch: %d, block: 9}", batch)
		add("embed: {dim: 8, positions: 9%s}", pick("", ", init: {normal: 0.1}"))
		b.WriteString("run: {steps: 7, eval_every: 3, eval_batches: 2}\nsample: {count: 2}\n")
		stages = append(stages, "  - repeat: 2\n    stages:\n      - residual: [layernorm: {}, attention: {heads: 2, causal: true, bias: true}, dropout: {p: 0.1}]\n"+
			"      - residual: [rmsnorm: {gain: true}, dense: {units: 16, act: "+acts()+"}, dense: {units: 8}]")
		if r.IntN(2) == 0 {
			add("dense: {units: vocab, bias: false, share: embed.weight}")
		} else {
			add("dense: {units: vocab}")
		}
		add("softmax_xent: {}")
	default:
		fmt.Fprintf(&b, "data: {source: synthetic, task: attention, rows: 9, features: 6, length: 5}\n")
		add("batches: {batch: %d}", batch)
		add("attention: {heads: %s, proj: %v}", pick("1", "2", "3"), r.IntN(2) == 0)
		add("%s: {}", pick("mse", "mae"))
	}
	if r.IntN(2) == 0 {
		add("%s", pick("clip_norm: {max_norm: 0.5}", "clip_value: {max: 0.05}"))
	}
	if !sparse && r.IntN(3) == 0 {
		add("accumulate: {steps: 2}")
	}
	add("%s", pick("sgd: {lr: 0.05}", "sgd: {lr: 0.05, momentum: 0.9, nesterov: true, weight_decay: 0.01}", "adam: {lr: 0.01}",
		"adamw: {lr: 0.01, schedule: {cosine: {warmup: 2, min: 0.001}}}", "adagrad: {lr: 0.05}", "rmsprop: {lr: 0.01, momentum: 0.5}",
		"lion: {lr: 0.01, weight_decay: 0.1, schedule: {linear: {}}}"))
	if r.IntN(3) == 0 {
		add("ema: {decay: 0.9}")
	}
	if !strings.Contains(b.String(), "run:") {
		b.WriteString("run: {steps: 9, eval_every: 4}\n")
	}
	return b.String() + "stages:\n" + strings.Join(stages, "\n") + "\n"
}

func TestRandomPipelinesHaveTheSameBitsEverywhere(t *testing.T) {
	n := 24
	if testing.Short() {
		n = 6
	}
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(i), 99))
		text := random(r)
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "random.yaml")
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if t.Failed() {
					t.Logf("pipeline:\n%s", text)
				}
			}()
			p, _, err := pipelines.Prepare(pipelines.Options{File: file, LookAhead: -1})
			if err != nil {
				t.Fatal(err)
			}
			if p.Nodes[0].Def.Room != stages.Gather {
				t.Fatal("does not begin with gather")
			}
			samebits(t, pipelines.Options{File: file}, r)
		})
	}
}

// large are pipelines of one part with stages that are worth sharing.
var large = map[string]string{
	"mlp": `
data: {source: synthetic, task: digits, rows: 300, size: 20, noise: 0.1, split: 0.9}
stages:
  - batches: {batch: 130}
  - dense: {units: 200, act: gelu}
  - dense: {units: 300, act: relu, bias: false}
  - dense: {units: 140, act: silu}
  - dense: {units: classes}
  - softmax_xent: {}
  - clip_norm: {max_norm: 0.5}
  - sgd: {lr: 0.1, momentum: 0.9}
run: {steps: 4, eval_every: 2}
`,
	"gpt": `
data: {source: text, path: data/names.txt, tokens: byte}
stages:
  - token_batches: {batch: 7, block: 40}
  - embed: {dim: 144, positions: 40, rows: 300}
  - residual: [layernorm: {}, attention: {heads: 3, causal: true, bias: true}]
  - residual: [rmsnorm: {}, dense: {units: 160}, gelu: {approx: tanh}, dense: {units: 144}]
  - layernorm: {}
  - dense: {units: 300, bias: false, share: embed.weight}
  - softmax_xent: {}
  - clip_norm: {max_norm: 0.1}
  - adamw: {lr: 0.01}
run: {steps: 4}
`}

// largeFile writes a file of large, with other stages before the update.
func largeFile(t *testing.T, name, before string) string {
	t.Helper()
	text := strings.ReplaceAll(large[name], "data/names.txt", filepath.Join(must(os.Getwd()), "data/names.txt"))
	text = regexp.MustCompile(`(?m)^  - clip_norm: .*\n`).ReplaceAllString(text, before)
	file := filepath.Join(t.TempDir(), name+".yaml")
	if err := os.WriteFile(file, []byte("seed: 3\n"+text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSharedStagesHaveTheSameBits: stages of one part that are large enough for lanes to share them.
func TestSharedStagesHaveTheSameBits(t *testing.T) {
	for name, clip := range map[string]string{"mlp": "0.5", "gpt": "0.1"} {
		t.Run(name, func(t *testing.T) {
			sameOnLanes(t, largeFile(t, name, "  - clip_norm: {max_norm: "+clip+"}\n"), "")
		})
	}
}

// TestUpdateInsideBackward: layers are updated while the walk goes on below them, on the S lane or on all D lanes, with the bits of an update that waits for a
// stage that needs all gradients.
func TestUpdateInsideBackward(t *testing.T) {
	for name := range large {
		t.Run(name, func(t *testing.T) {
			after, inside := largeFile(t, name, "  - clip_norm: {max_norm: 1e30}\n"), largeFile(t, name, "")
			want := bits(train(t, pipelines.Options{File: after, Lanes: "d=1,s=0", LookAhead: -1}))
			sameOnLanes(t, inside, want)
			for file, early := range map[string]bool{after: false, inside: true} {
				p, _, err := pipelines.Prepare(pipelines.Options{File: file, LookAhead: -1})
				if err != nil {
					t.Fatal(err)
				}
				if n := len(p.Program(nil).Early); n > 0 != early {
					t.Errorf("%s: %d places in the walk with an update", file, n)
				}
			}
		})
	}
}

// TestUpdateInsideBackwardStops: the guard looks before each update, and a run that it ends leaves no lane behind.
func TestUpdateInsideBackwardStops(t *testing.T) {
	for _, lanes := range []string{"d=1,s=0", "d=1,s=1", "d=1,s=2", "d=2,s=0"} {
		o := pipelines.Options{File: largeFile(t, "mlp", ""), Sets: []string{"stages.sgd.lr=1e30", "run.steps=50"}, Lanes: lanes, LookAhead: -1, Out: "none"}
		var f stages.Finding
		if err := pipelines.Train(context.Background(), o, &quiet{}); !errors.As(err, &f) || !strings.Contains(f.Msg, "NaN") && !strings.Contains(f.Msg, "Inf") {
			t.Errorf("lanes %s: %v", lanes, err)
		}
	}
}

// sameOnLanes trains on several placements and wants the same bits; those of the first if want is empty.
func sameOnLanes(t *testing.T, file, want string) {
	t.Helper()
	for _, lanes := range []string{"d=1,s=0", "d=1,s=1", "d=1,s=2", "d=2,s=0", "d=3,s=0", "d=5,s=0"} {
		got := bits(train(t, pipelines.Options{File: file, Lanes: lanes, LookAhead: -1}))
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("lanes %s: %s\nwant %s", lanes, got, want)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestPurego builds the program without assembly and compares the bits of whole runs.
func TestPurego(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: -short leaves out the build without assembly")
	}
	presettest.Short(t)
	bin := filepath.Join(t.TempDir(), "vtpu")
	cmd := exec.Command("go", "build", "-tags", "purego", "-o", bin, "vtpu")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build -tags purego: %v\n%s", err, out)
	}
	files := presets()
	for i := range 12 { // the same pipelines as above
		file := filepath.Join(t.TempDir(), "random.yaml")
		if err := os.WriteFile(file, []byte(random(rand.New(rand.NewPCG(uint64(i), 99)))), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	for _, name := range files {
		o := pipelines.Options{File: name, Steps: few[name], Sets: fewer[name], LookAhead: -1}
		want := train(t, o)
		args := []string{"run", name, "--json", "--out", "none"}
		if o.Steps > 0 {
			args = append(args, "--steps", fmt.Sprint(o.Steps))
		}
		for _, set := range o.Sets {
			args = append(args, "--set", set)
		}
		out, err := exec.Command(bin, args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !strings.Contains(string(out), want.Weights) || !strings.Contains(string(out), want.State) || !strings.Contains(string(out), `"isa":"generic"`) {
			t.Errorf("%s without assembly ends differently, want %s %s:\n%s", name, want.Weights, want.State, out)
		}
	}
}
