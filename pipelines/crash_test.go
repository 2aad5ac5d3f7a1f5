package pipelines_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"vtpu/pipelines"
	"vtpu/pipelines/presettest"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/disk/crashfs"
	"vtpu/stages/reclog"
)

// crashWorks are runs that write all that a run can write: checkpoints, metrics, streams by step and by part, a tap, a journal, charts.
func crashWorks(t *testing.T) map[string]pipelines.Options {
	dir := t.TempDir()
	lines := ""
	r := rand.New(rand.NewPCG(3, 4))
	for range 45 {
		lines += fmt.Sprintf("{\"x\":[%.3f,%.3f],\"y\":%d}\n", r.NormFloat64(), r.NormFloat64(), r.IntN(2))
	}
	const model = "  - dense: {units: 5, act: relu}\n  - dense: {units: 2}\n  - softmax_xent: {}\n  - clip_norm: {max_norm: 1}\n  - adam: {lr: 0.01}\n"
	works := map[string]pipelines.Options{}
	for name, text := range map[string]string{
		"lines": lines,
		"by step": "name: a\nparts: 2\ndata: {source: synthetic, task: clusters, rows: 40, features: 2, classes: 2, split: 0.8}\nstages:\n  - batches: {batch: 4}\n" + model +
			"  - commit: {record: gradients}\nrun: {steps: 11, checkpoint_every: 3, eval_every: 4, keep: 2}\n",
		"by part": "name: b\nparts: 2\ndata: {source: synthetic, task: clusters, rows: 40, features: 2, classes: 2}\nstages:\n  - batches: {batch: 4}\n" + model +
			"  - commit: {record: gradients, per: part, sync: always}\nrun: {steps: 6, checkpoint_every: 2, keep: 1}\n",
		"online": "name: c\nparts: 2\ndata: {source: stdin, features: 2, classes: 2, again: true, path: lines}\nstages:\n  - feed_batches: {batch: 5}\n" + model +
			"  - commit: {record: inputs}\nrun: {steps: 100, checkpoint_every: 2, keep: 2}\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "lines" {
			works[name] = pipelines.Options{File: file, LookAhead: -1, Lanes: "d=1,s=0", Out: "runs/r", Continue: true}
		}
	}
	return works
}

type outcome struct {
	quiet
	done pipelines.Done
}

func (o *outcome) Finished(d pipelines.Done) { o.done = d }

// TestPowerLossAtAnyCall loses power in each call that changes something on the disk, or lets the call fail, or has no room from there on: the run goes on and ends with the weights,
// the state, the log and the stream of a run that nothing happened to.
func TestPowerLossAtAnyCall(t *testing.T) {
	presettest.Short(t)
	rounds := 0 // a few of the calls
	if v, err := strconv.Atoi(os.Getenv("VTPU_LONG")); err == nil && v > 0 {
		rounds = v
	}
	for name, o := range crashWorks(t) {
		t.Run(name, func(t *testing.T) {
			bare := false
			life := func(fsys *crashfs.FS) (pipelines.Done, error) {
				o := o
				o.FS, o.Bare = fsys, bare
				var w outcome
				err := pipelines.Train(context.Background(), o, &w)
				return w.done, err
			}
			clean := crashfs.New(0)
			want, err := life(clean)
			if err != nil || want.Event != "done" {
				t.Fatal(want, err)
			}
			all := clean.Ops()
			bare = true
			few := crashfs.New(0)
			if _, err := life(few); err != nil {
				t.Fatal(err)
			}
			calls := few.Ops()
			step := 1
			if rounds == 0 {
				step = 3*calls/30 | 1
			}
			log := clean.Read("runs/r/" + rundir.MetricsFile)
			lost := 0
			for k := 0; k < 3*calls*max(rounds, 1); k += step {
				at, how, seed := 1+k/3%calls, k%3, uint64(k)
				if bare = k/step%50 != 0; !bare { // charts take longer than all else
					at = 1 + k/3*all/calls%all
				}
				r := rand.New(rand.NewPCG(seed, 5))
				fsys := crashfs.New(seed)
				switch how {
				case 0:
					fsys.CrashAt = at
				default: // a call fails, or all from there on that need room
					fsys.Fail = func(n int, op crashfs.Op, _ string) error {
						if n == at || how == 2 && n > at && (op == crashfs.OpWrite || op == crashfs.OpCreate || op == crashfs.OpSync) {
							return crashfs.ErrInjected
						}
						return nil
					}
				}
				for lives := 0; ; lives++ {
					d, err := life(fsys)
					if err == nil && (d.Weights != want.Weights || d.State != want.State) {
						t.Fatalf("call %d, way %d, life %d: %s %s, want %s %s\n%s", at, how, lives, d.Weights, d.State, want.Weights, want.State, fsys.Dump())
					}
					if err == nil && lives > 0 || lives > 3 {
						if err != nil {
							t.Fatalf("call %d, way %d: it does not go on: %v\n%s", at, how, err, fsys.Dump())
						}
						break
					}
					if err != nil {
						lost++
						if text := err.Error(); strings.Contains(text, "runs/r/journal: ") && strings.Contains(text, "vtpu log cut runs/r --repair --stream journal") { // the user does that; here the lines come again
							if _, err := reclog.Repair("runs/r/journal", reclog.ReadOptions{FS: fsys}); err != nil {
								t.Fatal(err)
							}
							continue
						}
						if !errors.Is(err, crashfs.ErrCrashed) && stages.ExitCode(err) != stages.ExitEnv {
							t.Fatalf("call %d, way %d, life %d: exit code %d, %v", at, how, lives, stages.ExitCode(err), err)
						}
					}
					if how == 0 || r.IntN(2) == 0 {
						fsys.Crash()
					} else {
						fsys.Kill()
					}
					fsys.Restart()
					if lives == 0 && r.IntN(2) == 0 {
						fsys.CrashAt = 1 + r.IntN(calls)
					}
				}
				if got := fsys.Read("runs/r/" + rundir.MetricsFile); string(got) != string(log) {
					t.Fatalf("call %d, way %d: another log:\n%s\nwant\n%s", at, how, got, log)
				}
				rep, err := reclog.Verify("runs/r/stream", reclog.ReadOptions{FS: fsys})
				if err != nil || rep.Damage != nil || rep.Torn != nil || !rep.Ended || rep.Weights != want.Weights || rep.First != 0 || rep.Last != want.Steps-1 {
					t.Fatalf("call %d, way %d: the stream: %+v %v", at, how, rep, err)
				}
			}
			t.Logf("%d calls, %d lives lost", calls, lost)
		})
	}
}
