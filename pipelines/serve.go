package pipelines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"vtpu/compute/kernel"
	"vtpu/pipelines/exec"
	"vtpu/pipelines/pool"
	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/disk"
	"vtpu/stages/link"
	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// A Server answers predictions and samples from the newest committed version of a run, which may go on meanwhile in another process.
type Server struct {
	dir string
	log zerolog.Logger

	mu      sync.Mutex // one request, or one change of the weights, at a time
	plan    *Plan
	e       *exec.Engine
	version int64
	sha     string
	cols    []stages.Column // what a prediction reads
	slots   []stages.Slot
	out     stages.Binding
	classes bool

	quit chan struct{}
	wg   sync.WaitGroup
	stop func() error
}

// look is how often a server looks for a new checkpoint.
const look = 500 * time.Millisecond

// Serve loads the newest checkpoint of a run directory and follows the run: by its checkpoints and, with a bus, by the weights that it publishes.
func Serve(dir string, b link.Bus, log zerolog.Logger) (*Server, error) {
	plan, e, err := OpenRun(dir, -1)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, log: log, plan: plan, e: e, quit: make(chan struct{}), stop: func() error { return nil }}
	s.now(plan.Store.Version())
	if err := s.inputs(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if b != nil {
		if s.stop, err = pool.Follow(b, plan.Store, plan.Base(), s.follow); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	s.wg.Go(s.watch)
	return s, nil
}

func (s *Server) now(version int64) {
	s.version = version
	s.sha, _ = s.plan.Store.Hashes()
}

// inputs finds what the model reads of an example, and its prediction.
func (s *Server) inputs() error {
	read := map[stages.Slot]bool{}
	for _, n := range s.plan.Nodes {
		switch n.Def.Room {
		case stages.Compute:
			for _, p := range n.Bound.In {
				read[n.Env.Ports[p.Name].Slot] = true
			}
		case stages.Loss:
			s.out = n.Env.Ports[n.Bound.In[0].Name]
			s.classes = n.Def.Name == "softmax_xent"
		}
	}
	if s.out.Shape.Rank == 0 {
		return stages.Finding{File: s.dir, Msg: "the pipeline predicts nothing: it has no loss"}
	}
	for slot, info := range s.plan.Layout.Data {
		if !read[stages.Slot(slot)] {
			continue
		}
		shape := info.Shape
		copy(shape.Dims[:], shape.Dims[1:])
		if shape.Rank--; shape.Rank < 0 {
			shape.Rank = 0
		}
		s.cols = append(s.cols, stages.Column{Name: info.Name, DType: info.DType, Shape: shape})
		s.slots = append(s.slots, stages.Slot(slot))
	}
	return nil
}

// follow takes weights that were published.
func (s *Server) follow(version int64, apply func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version <= s.version {
		return
	}
	if err := apply(); err != nil {
		s.log.Warn().Err(err).Msg("weights that do not fit were dropped")
		return
	}
	s.now(version)
}

// watch takes new checkpoints.
func (s *Server) watch() {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		steps, err := rundir.Checkpoints(disk.OS{}, s.dir)
		if err != nil || len(steps) == 0 {
			continue // the next look will tell
		}
		newest := steps[len(steps)-1]
		s.mu.Lock()
		if newest > s.version {
			if _, err := s.plan.restore(disk.OS{}, filepath.Join(s.dir, rundir.CheckpointName(newest))); err != nil {
				s.log.Warn().Err(err).Msg("a checkpoint can't be read")
			} else {
				s.now(newest)
			}
		}
		s.mu.Unlock()
	}
}

// Prediction is the answer to an example.
type Prediction struct {
	Version int64     `json:"version"` // of the weights: steps committed
	Values  []float32 `json:"values"`  // probabilities where the model chooses between classes
	Class   *int      `json:"class,omitempty"`
}

// Predict reads a JSON object with a field for each input of the model.
func (s *Server) Predict(ctx context.Context, data []byte) (p Prediction, err error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return p, stages.Finding{Msg: "want a JSON object: " + err.Error()}
	}
	row := make([]wire.Tensor, len(s.cols))
	if err := fill(row, s.cols, fields, true); err != nil {
		return p, stages.Finding{Msg: err.Error()}
	}
	if err := (&feed{live: &stages.Live{Cols: s.bounded()}}).check(row); err != nil {
		return p, stages.Finding{Msg: err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Version = s.version
	err = s.e.Infer(ctx, func(m *stages.Message) {
		for i, slot := range s.slots {
			t := m.T(slot)
			shape := tensor.Of(append([]int{1}, s.cols[i].Shape.Slice()...)...)
			t.Resize(shape)
			copy(t.F32, row[i].F32)
			copy(t.I32, row[i].I32)
		}
	}, func(m *stages.Message) {
		z := m.T(s.out.Slot)
		p.Values = append(p.Values, z.F32...)
		if s.classes {
			n := z.Shape.Last()
			for r := 0; r+n <= len(p.Values); r += n {
				kernel.SoftmaxRows(p.Values[r:r+n], p.Values[r:r+n], 1, n, n, 1, false)
			}
			if n == len(p.Values) {
				k := kernel.ArgMax(p.Values)
				p.Class = &k
			}
		}
	})
	return p, err
}

// bounded are the columns with a bound that any id is below: a stage says which are too large for its table.
func (s *Server) bounded() []stages.Column {
	cols := append([]stages.Column(nil), s.cols...)
	for i := range cols {
		cols[i].Max = 1<<31 - 1
	}
	return cols
}

// SampleRequest asks for texts.
type SampleRequest struct {
	Count       int     `json:"count"`
	Tokens      int     `json:"tokens"`
	Temperature float64 `json:"temperature"`
	TopK        int     `json:"top_k"`
	Prompt      string  `json:"prompt"`
	Seed        uint64  `json:"seed"`
}

// Samples is the answer.
type Samples struct {
	Version int64    `json:"version"`
	Texts   []string `json:"texts"`
}

// Sample draws texts.
func (s *Server) Sample(ctx context.Context, data []byte) (out Samples, err error) {
	q := SampleRequest{Count: 1, Temperature: 1, Seed: s.plan.Pipe.Seed}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &q); err != nil {
			return out, stages.Finding{Msg: "want a JSON object: " + err.Error()}
		}
	}
	if q.Count < 1 || q.Count > 100 || q.Tokens < 0 || q.Tokens > 10000 || !(q.Temperature >= 0) || q.TopK < 0 {
		return out, stages.Finding{Msg: "want count 1 to 100, tokens 0 to 10000, temperature and top_k not negative"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Version = s.version
	out.Texts, err = s.plan.Sample(ctx, s.e, SampleSection{Count: q.Count, Tokens: q.Tokens, Temperature: q.Temperature, TopK: q.TopK, Prompt: q.Prompt}, q.Seed)
	return out, err
}

// Version is what answers are made from now.
func (s *Server) Version() (version int64, weightsSHA string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version, s.sha
}

// answer is the JSON of v or of what went wrong, with the status of HTTP.
func answer(v any, err error) (int, []byte) {
	code := http.StatusOK
	if err != nil {
		var f stages.Finding
		if code = http.StatusInternalServerError; errors.As(err, &f) {
			code = http.StatusBadRequest
		}
		v = map[string]string{"error": err.Error()}
	}
	b, jerr := json.Marshal(v)
	if jerr != nil { // NaN
		return http.StatusInternalServerError, []byte(`{"error":"the model gave no finite numbers"}`)
	}
	return code, b
}

// Answer serves a request over NATS: what is predict, sample or version.
func (s *Server) Answer(ctx context.Context, what string, data []byte) []byte {
	_, b := s.do(ctx, what, data)
	return b
}

func (s *Server) do(ctx context.Context, what string, data []byte) (int, []byte) {
	switch what {
	case "predict":
		v, err := s.Predict(ctx, data)
		return answer(v, err)
	case "sample":
		v, err := s.Sample(ctx, data)
		return answer(v, err)
	}
	version, sha := s.Version()
	return answer(map[string]any{"version": version, "weights_sha256": sha}, nil)
}

// maxRequest is the largest request in bytes.
const maxRequest = 8 << 20

// Handle serves /predict, /sample and /version.
func (s *Server) Handle(mux *http.ServeMux) {
	for _, what := range []string{"predict", "sample", "version"} {
		mux.HandleFunc("/"+what, func(w http.ResponseWriter, r *http.Request) {
			var data json.RawMessage
			if r.ContentLength != 0 {
				if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&data); err != nil {
					code, b := answer(nil, stages.Finding{Msg: "want JSON: " + err.Error()})
					w.WriteHeader(code)
					_, _ = w.Write(b) // who asked has gone
					return
				}
			}
			code, b := s.do(r.Context(), what, data)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = w.Write(append(b, '\n')) // likewise
		})
	}
}

// Subject is where requests over NATS go: the name of the pipeline and what is asked for.
func (s *Server) Subject(what string) string {
	return fmt.Sprintf("vtpu.serve.%s.%s", s.plan.Pipe.Name, what)
}

// Close ends the server. Closing twice is fine.
func (s *Server) Close() error {
	select {
	case <-s.quit:
		return nil
	default:
	}
	close(s.quit)
	err := s.stop()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.e.Close())
}
