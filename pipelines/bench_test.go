package pipelines_test

import (
	"testing"

	"vtpu/pipelines"
	"vtpu/pipelines/exec"
)

// engine makes a preset's engine.
func engine(tb testing.TB, o pipelines.Options) (*pipelines.Plan, *exec.Engine) {
	tb.Helper()
	p, _, err := pipelines.Prepare(o)
	if err != nil {
		tb.Fatal(err)
	}
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
