package pipelines_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/rundir"
)

// engine makes a preset's engine.
func engine(tb testing.TB, o pipelines.Options) (*pipelines.Plan, *exec.Engine) {
	tb.Helper()
	return engineOf(tb, o, func(*pipelines.Plan) {})
}

// engineOf is engine with a plan that change has changed.
func engineOf(tb testing.TB, o pipelines.Options, change func(*pipelines.Plan)) (*pipelines.Plan, *exec.Engine) {
	tb.Helper()
	p, _, err := pipelines.Prepare(o)
	if err != nil {
		tb.Fatal(err)
	}
	change(p)
	e, err := exec.New(p.Program(nil), p.Placement())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return p, e
}

// BenchmarkStep is one training step of each preset, all in: gather to commit.
func BenchmarkStep(b *testing.B) {
	for _, name := range []string{"weight", "linear", "attention", "names", "digits", "clicks"} {
		for _, lanes := range []string{"d=1,s=0", "d=1,s=1"} {
			b.Run(name+"/"+lanes, func(b *testing.B) {
				_, e := engine(b, pipelines.Options{File: name, Lanes: lanes, Steps: 1 << 40, LookAhead: -1})
				run := func(n int64) {
					if err := e.Run(b.Context(), e.Version()+n, 1<<40, func(exec.Outcome) {}); err != nil {
						b.Fatal(err)
					}
				}
				run(100)
				b.ReportAllocs()
				b.ResetTimer()
				run(int64(b.N))
			})
		}
	}
}

// BenchmarkStepOverALink is a training step over a NATS link with workers in this process, beside what the plan predicts from a measurement just before,
// five times. "ratio" is the median of measured over predicted. Run it with -benchtime 100x or so.
func BenchmarkStepOverALink(b *testing.B) {
	for _, c := range []struct {
		file    string
		sets    []string
		workers int
	}{{"digits", nil, 1}, {"digits", nil, 2}, {"names", nil, 1}, {"clicks", nil, 1}, {"clicks", nil, 2}, {"shakespeare", nil, 1}, {"shakespeare", nil, 2},
		{"works/w4.yaml", []string{"stages.token_batches.batch=120"}, 1}, {"works/w4.yaml", []string{"stages.token_batches.batch=120"}, 2}} {
		b.Run(fmt.Sprintf("%s %s/workers=%d", c.file, strings.Join(c.sets, " "), c.workers), func(b *testing.B) {
			o := pipelines.Options{File: c.file, Sets: c.sets, Steps: 1 << 40, LookAhead: -1, Out: "none", Link: &pipelines.Link{Bus: core(b), Local: c.workers, Log: zerolog.Nop()}}
			const rounds = 5 // in turns: what else the machine does meets both sides
			var took, want, ratio []float64
			for range rounds {
				t, err := pipelines.PredictStep(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				var steps []float64
				last := time.Now()
				run := o
				run.Steps, run.Every = int64(b.N/rounds)+8, 1
				if err := pipelines.Train(b.Context(), run, &ticks{step: func(n int64) {
					now := time.Now()
					if n > 4 {
						steps = append(steps, now.Sub(last).Seconds())
					}
					last = now
				}}); err != nil {
					b.Fatal(err)
				}
				slices.Sort(steps)
				took, want = append(took, steps[len(steps)/2]*1e3), append(want, t.Step*1e3)
				ratio = append(ratio, steps[len(steps)/2]/t.Step)
			}
			for _, vs := range [][]float64{took, want, ratio} {
				slices.Sort(vs)
			}
			b.ReportMetric(took[rounds/2], "ms/step")
			b.ReportMetric(want[rounds/2], "predicted-ms/step")
			b.ReportMetric(ratio[rounds/2], "ratio")
			b.ReportMetric(ratio[0], "least-ratio")
			b.ReportMetric(ratio[rounds-1], "largest-ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// ticks is told of each step.
type ticks struct {
	quiet
	step func(int64)
}

func (t *ticks) Stepped(m rundir.Metric) {
	if m.Event == "step" {
		t.step(m.Step)
	}
}
