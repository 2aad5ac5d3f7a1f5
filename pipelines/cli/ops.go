package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"vtpu/pipelines"
	"vtpu/pipelines/ops"
	"vtpu/pipelines/pool"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
)

// ops starts what operators look at; nil where no address was given.
func (a *app) ops(l *linkFlags) (*ops.Server, func() error, error) {
	if l.metrics == "" {
		return nil, func() error { return nil }, nil
	}
	flag := "--metrics"
	if l.http {
		flag = "--http"
	}
	s, err := ops.Start(flag, l.metrics, l.Insecure)
	if err != nil {
		return nil, nil, err
	}
	log := a.logger()
	log.Info().Str("url", "http://"+s.Addr()+"/metrics").Msg("metrics, /healthz, /readyz and /debug/pprof")
	return s, s.Close, nil
}

// watched counts what a watcher sees.
type watched struct {
	pipelines.Watcher
	step atomic.Int64
	loss atomic.Uint64
}

func (w *watched) Note(msg string) {
	if n, ok := w.Watcher.(pipelines.Noter); ok {
		n.Note(msg)
	}
}

func (w *watched) Tuned(t *pipelines.Tuned) {
	if n, ok := w.Watcher.(pipelines.TuneWatcher); ok {
		n.Tuned(t)
	}
}

func (w *watched) Started(p *pipelines.Plan, dir string, from int64) {
	w.step.Store(from)
	w.Watcher.Started(p, dir, from)
}

func (w *watched) Stepped(m rundir.Metric) {
	if m.Event == "step" {
		w.step.Store(m.Step)
		w.loss.Store(math.Float64bits(m.Loss))
	}
	w.Watcher.Stepped(m)
}

// show puts the numbers of a run on s, which may be nil.
func show(s *ops.Server, w pipelines.Watcher, l *pipelines.Link) pipelines.Watcher {
	if s == nil {
		return w
	}
	x := &watched{Watcher: w}
	s.Gauge("step", "The last step that was logged.", func() float64 { return float64(x.step.Load()) })
	s.Gauge("loss", "The loss of that step.", func() float64 { return math.Float64frombits(x.loss.Load()) })
	if l == nil {
		return x
	}
	var mu sync.Mutex
	var joined []*pool.Coordinator // the numbers are those of all of them
	l.Joined = func(c *pool.Coordinator) {
		mu.Lock()
		defer mu.Unlock()
		joined = append(joined, c)
	}
	all := func() []*pool.Coordinator {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(joined)
	}
	sum := func(of func(*pool.Coordinator) float64) func() float64 {
		return func() (n float64) {
			for _, c := range all() {
				n += of(c)
			}
			return n
		}
	}
	s.Gauge("workers", "Workers that are there.", sum(func(c *pool.Coordinator) float64 { return float64(c.Workers()) }))
	for _, k := range []struct {
		name, help string
		of         func(*pool.Counts) *atomic.Int64
	}{
		{"workers_joined_total", "Workers that joined.", func(n *pool.Counts) *atomic.Int64 { return &n.Joined }},
		{"workers_lost_total", "Workers without a sign of life.", func(n *pool.Counts) *atomic.Int64 { return &n.Lost }},
		{"workers_refused_total", "Workers with another version, instruction set or pipeline.", func(n *pool.Counts) *atomic.Int64 { return &n.Refused }},
		{"messages_foreign_total", "Messages that are not ours, damaged, or claim too much.", func(n *pool.Counts) *atomic.Int64 { return &n.Foreign }},
		{"results_stale_total", "Results of another run, start, step or version, or the second of a part.", func(n *pool.Counts) *atomic.Int64 { return &n.Stale }},
		{"parts_total", "Parts done.", func(n *pool.Counts) *atomic.Int64 { return &n.Parts }},
		{"parts_resent_total", "Parts given out again because no answer came.", func(n *pool.Counts) *atomic.Int64 { return &n.Resent }},
		{"parts_doubled_total", "Parts given to a second worker because the first was slow.", func(n *pool.Counts) *atomic.Int64 { return &n.Doubled }},
		{"work_sent_bytes_total", "Bytes of parts.", func(n *pool.Counts) *atomic.Int64 { return &n.SentWork }},
		{"weights_sent_bytes_total", "Bytes of weights.", func(n *pool.Counts) *atomic.Int64 { return &n.SentWeights }},
		{"results_received_bytes_total", "Bytes of results.", func(n *pool.Counts) *atomic.Int64 { return &n.Received }},
	} {
		s.Counter(k.name, k.help, sum(func(c *pool.Coordinator) float64 { return float64(k.of(c.Counts()).Load()) }))
	}
	s.Ready(func() error {
		cs := all()
		if len(cs) == 0 {
			return errors.New("no workers")
		}
		for _, c := range cs {
			if c.Workers() == 0 {
				return fmt.Errorf("no workers for --stages %s", c.Stages())
			}
		}
		return nil
	})
	return x
}

// health asks a process how it is: for images that hold no other program.
func (a *app) health() *cobra.Command {
	return &cobra.Command{
		Use: "health URL", Short: "Ask a process whether it is well", Args: args(cobra.ExactArgs(1)), Example: "  vtpu health http://127.0.0.1:9090/healthz",
		RunE: func(cmd *cobra.Command, p []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, p[0], nil)
			if err != nil {
				return stages.Finding{File: p[0], Msg: "not an address", Fix: "http://127.0.0.1:9090/healthz"}
			}
			r, err := http.DefaultClient.Do(req)
			if err != nil {
				return &stages.EnvError{Err: err}
			}
			defer func() { _ = r.Body.Close() }() // it has been read
			b, err := io.ReadAll(io.LimitReader(r.Body, 4096))
			if err != nil {
				return &stages.EnvError{Err: err}
			}
			if r.StatusCode != http.StatusOK {
				return &stages.EnvError{Err: fmt.Errorf("%s: %s %s", p[0], r.Status, b)}
			}
			fmt.Fprintf(a.out, "%s", b)
			return nil
		},
	}
}
