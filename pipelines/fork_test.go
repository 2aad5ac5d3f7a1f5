package pipelines_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"vtpu/pipelines"
)

// TestAStoppedForkSaysHowToGoOn: by the pipeline of run.json, not by the run that it was forked from.
func TestAStoppedForkSaysHowToGoOn(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	train(t, pipelines.Options{File: "names", Steps: 6, StopAfter: 2, LookAhead: -1, Out: a})
	if _, err := pipelines.Fork(context.Background(), pipelines.ForkOptions{Dir: a, At: 2, Sets: []string{"stages.adam.lr=0.02"}, Out: b}); err != nil {
		t.Fatal(err)
	}
	d := train(t, pipelines.Options{File: a, Fork: true, Resume: true, StopAfter: 4, LookAhead: -1, Out: b})
	for _, part := range []string{"vtpu run names ", "--out " + b, `--set "stages.adam.lr=0.02"`, "--steps 6"} {
		if d.Event != "stopped" || !strings.Contains(d.Resume, part) {
			t.Errorf("%s, go on with %q, want %q in it", d.Event, d.Resume, part)
		}
	}
	if d.FirstLoss == 0 {
		t.Error("no first loss")
	}
	train(t, pipelines.Options{File: "names", Sets: []string{"stages.adam.lr=0.02"}, Steps: 6, Resume: true, LookAhead: -1, Out: b})
}
