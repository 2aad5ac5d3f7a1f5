package pool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// linked is a world of processes on loopback, whose pipeline has these links.
func linked(t *testing.T, links string) *world {
	t.Helper()
	w := &world{t: t, done: make(chan string, 1), store: filepath.Join(t.TempDir(), "store"), out: filepath.Join(t.TempDir(), "run"), file: pipeline(t, links, "")}
	var err error
	if w.bin, err = binary(); err != nil {
		t.Fatal(err)
	}
	w.listen = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	w.url = "nats://" + w.listen
	return w
}

// Loaders and workers of half of the walk, in processes of their own, are killed, paused and started again, and so is the run.
func TestFaultsOnMovedEdgesChangeNoBit(t *testing.T) {
	w := linked(t, "nats, forward: jetstream, scatter: nats")
	w.sets = []string{"run.steps=500", "run.checkpoint_every=100", "run.log_every=10"}
	want := func() string { // in one process
		sets := w.sets
		defer func() { w.sets = sets }()
		w.sets = append([]string{"links.forward=ring", "links.scatter=ring"}, sets...)
		return w.hash()
	}()
	w.startBroker()
	defer w.stop()
	worker := func(stages string) *proc {
		args := []string{"worker", w.file, "--nats", w.url, "--json", "--stages", stages}
		for _, s := range w.sets {
			args = append(args, "--set", s)
		}
		return w.start(1, nil, args...)
	}
	legs := []string{"gather", "forward", "loss,backward", "loss,backward"}
	for _, leg := range legs {
		w.workers = append(w.workers, worker(leg))
	}
	w.startCoordinator()
	wait := func(step int64) {
		t.Helper()
		for begin := time.Now(); w.step.Load() < step; time.Sleep(5 * time.Millisecond) {
			select {
			case <-w.coord.done:
				t.Fatalf("the run ended by itself: %v\n%.4000s", w.coord.err, w.coord.log)
			default:
			}
			if time.Since(begin) > time.Minute {
				t.Fatalf("the run hangs at step %d\n%.3000s\n%.3000s\n%.3000s", w.step.Load(), w.coord.log, w.workers[0].log, w.workers[1].log)
			}
		}
	}
	next := func() { wait(w.step.Load() + 20) }
	rounds := max(faultsWanted(t)/5, 1)
	for range rounds {
		for i, leg := range legs[:3] {
			next()
			w.workers[i].kill()
			w.workers[i] = worker(leg)
		}
		next()
		w.workers[0].signal(syscall.SIGSTOP) // the only loader
		time.Sleep(2 * time.Second)          // longer than a peer may be silent
		w.workers[0].signal(syscall.SIGCONT)
		next()
		w.broker.kill()
		if err := os.RemoveAll(w.store); err != nil {
			t.Error(err)
		}
		w.startBroker()
		next()
		w.coord.kill()
		w.step.Store(0)
		w.startCoordinator()
		if w.step.Load() > 350 {
			break
		}
	}
	select {
	case got := <-w.done:
		if got != want {
			t.Errorf("weights_sha256 %s, want %s", got, want)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("the run hangs at step %d\n%.4000s", w.step.Load(), w.coord.log)
	}
}

func TestAWorkerOfOtherStagesIsToldSo(t *testing.T) {
	w := linked(t, "nats")
	w.startBroker()
	defer w.stop()
	w.startCoordinator()
	p := w.start(1, nil, "worker", w.file, "--nats", w.url, "--stages", "gather", "--set", "links.work=ring", "--set", "links.gather=nats")
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.kill()
		t.Fatalf("it waits\n%s", p.log)
	}
	if said := p.log.String(); p.cmd.ProcessState.ExitCode() != 2 || !strings.Contains(said, `it runs "gather", this run has work for ["forward,loss,backward"]`) {
		t.Errorf("exit code %d, %s", p.cmd.ProcessState.ExitCode(), said)
	}
	if _, err := os.Stat(w.out); err != nil {
		t.Error(err)
	}
}
