package pipelines_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vtpu/pipelines"
	"vtpu/smtpool"
	"vtpu/stages"
)

// Tuning chooses among placements, says so in the run directory, and changes no bit.
func TestTune(t *testing.T) {
	o := pipelines.Options{File: "clicks", Steps: 20, Sets: []string{"data.rows=2000"}, LookAhead: -1}
	want := bits(train(t, o))
	o.Tune, o.Out = true, filepath.Join(t.TempDir(), "run")
	o.StopAfter = 10
	train(t, o)
	read := func() (c pipelines.Tuned) {
		b, err := os.ReadFile(filepath.Join(o.Out, pipelines.TuneFile))
		if err == nil {
			err = json.Unmarshal(b, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := read()
	if len(c.Trials) == 0 || c.Lanes != c.Trials[0].Lanes || c.LookAhead != c.Trials[0].LookAhead {
		t.Errorf("tune.json: %+v", c)
	}
	for i, x := range c.Trials {
		if !(x.Seconds > 0) || i > 0 && x.Seconds < c.Trials[i-1].Seconds {
			t.Errorf("trials: %+v", c.Trials)
		}
	}
	o.Resume, o.StopAfter = true, 0
	d := train(t, o)
	if got := bits(d); got != want {
		t.Errorf("tuned and resumed: %s\nwant %s", got, want)
	}
	if again := read(); again.Lanes != c.Lanes || d.Lanes != c.Lanes {
		t.Errorf("resumed on %s, %s was chosen", d.Lanes, c.Lanes)
	}
	if len(smtpool.CPUs()) > 1 { // a single part may be shared
		one := pipelines.Options{File: "clicks", Steps: 2, Sets: []string{"data.rows=2000", "parts=1"}, LookAhead: -1, Tune: true, Out: filepath.Join(t.TempDir(), "one")}
		train(t, one)
		o.Out, one.Out = one.Out, o.Out
		if c := read(); !slices.ContainsFunc(c.Trials, func(x pipelines.Trial) bool { return x.Lanes == "d=2,s=0" }) {
			t.Errorf("trials of one part: %+v", c.Trials)
		}
		o.Out = one.Out
	}
	o.Lanes = "d=1"
	var q quiet
	if err := pipelines.Train(t.Context(), o, &q); err == nil || !strings.Contains(err.Error(), "--lanes") || stages.ExitCode(err) != stages.ExitUser {
		t.Errorf("error %v", err)
	}
}
