package gather

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// StdinConfig is what a user may write under data with source stdin.
type StdinConfig struct {
	Features int    `yaml:"features" required:"true" min:"1" max:"1048576" doc:"Numbers in x."`
	Outputs  int    `yaml:"outputs" min:"0" max:"1048576" doc:"Numbers in y; with 1, y may be a number instead of a list."`
	Classes  int    `yaml:"classes" min:"0" max:"1048576" doc:"y is a whole number below this, instead of outputs."`
	Again    bool   `yaml:"again" doc:"After a resume the input begins at its beginning again, and what the journal has is passed over. Otherwise it goes on where the journal ends."`
	Path     string `yaml:"path" doc:"A named pipe or file to read instead of standard input."`
}

func init() {
	stages.MustRegisterSource(stages.SourceSpec[StdinConfig]{
		Name: "stdin", Summary: "An online source: one JSON object a line, {\"x\": [1, 2], \"y\": [3]}, as they come, for feed_batches.",
		Example: "data: {source: stdin, features: 4, classes: 3}",
		Load: func(env stages.LoadEnv, c StdinConfig) (*stages.Dataset, error) {
			if (c.Outputs > 0) == (c.Classes > 0) {
				return nil, stages.Finding{Msg: "stdin: want outputs or classes, one of them", Fix: "outputs: 1 for a number, classes: 3 for one of three"}
			}
			t := &stages.Table{Cols: []stages.Column{{Name: "x", Shape: tensor.Of(c.Features)}}}
			facts := map[string]int{"features": c.Features}
			if c.Classes > 0 {
				t.Cols = append(t.Cols, stages.Column{Name: "y", DType: tensor.I32, Max: c.Classes})
				facts["classes"] = c.Classes
			} else {
				t.Cols = append(t.Cols, stages.Column{Name: "y", Shape: tensor.Of(c.Outputs)})
				facts["outputs"] = c.Outputs
			}
			f := &lineFeed{c: c, name: "standard input", open: func() (io.ReadCloser, error) { return os.Stdin, nil }}
			if c.Path != "" {
				f.name = env.Path(c.Path)
				f.open = func() (io.ReadCloser, error) { return os.Open(f.name) }
			}
			return &stages.Dataset{Table: t, Online: f, Facts: facts, Check: checkTable(t)}, nil
		},
	})
}

// longest is the longest line that is taken, in bytes: room for each number with all its digits and much space, or for whatever is an example.
func (c *StdinConfig) longest() int { return max(1<<20, 64*(c.Features+c.Outputs)) }

// lineFeed reads examples from lines.
type lineFeed struct {
	c    StdinConfig
	name string
	open func() (io.ReadCloser, error)

	src   io.ReadCloser
	lines chan line
	stop  chan struct{}
	done  sync.WaitGroup
	n     int // lines read
}

type line struct {
	text []byte
	err  error
}

// Begin starts to read. The goroutine ends with the input, with Close or, where a read of standard input can't be interrupted, with the process.
func (s *lineFeed) Begin(ctx context.Context, taken int64) error {
	src, err := s.open()
	if err != nil {
		return stages.Finding{File: s.name, Msg: err.Error()}
	}
	s.src, s.lines, s.stop = src, make(chan line, 64), make(chan struct{})
	s.done.Go(s.read)
	if !s.c.Again {
		return nil
	}
	for i := range taken {
		_, err := s.next(ctx)
		if errors.Is(err, io.EOF) {
			return stages.Finding{File: s.name, Msg: fmt.Sprintf("has %d examples, the journal %d: it is not the input that the run began with", i, taken), Fix: "again: false where the input goes on behind the journal"}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *lineFeed) read() {
	defer close(s.lines)
	r := bufio.NewReaderSize(s.src, 1<<16)
	most := s.c.longest()
	for {
		var text []byte
		piece, err := r.ReadSlice('\n')
		for err == bufio.ErrBufferFull && len(text)+len(piece) <= most {
			text = append(text, piece...)
			piece, err = r.ReadSlice('\n')
		}
		text = append(text, piece...)
		switch {
		case len(text) > most:
			text, err = nil, fmt.Errorf("the line has more than %d bytes", most)
		case len(text) > 0:
			err = nil // the last line need not have an end
		}
		select {
		case s.lines <- line{text, err}:
		case <-s.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// next is the next line that is not empty.
func (s *lineFeed) next(ctx context.Context) ([]byte, error) {
	for {
		select {
		case l, ok := <-s.lines:
			if !ok || errors.Is(l.err, io.EOF) {
				return nil, io.EOF
			}
			if l.err != nil {
				return nil, stages.Finding{File: s.name, Line: s.n + 1, Msg: l.err.Error()}
			}
			s.n++
			if text := bytes.TrimSpace(l.text); len(text) > 0 {
				return text, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Take reads a line for each row.
func (s *lineFeed) Take(ctx context.Context, cols []*tensor.Tensor, lo, hi int) (int, error) {
	for n := lo; n < hi; n++ {
		text, err := s.next(ctx)
		if err != nil {
			return n, err
		}
		if err := s.parse(text, cols, n); err != nil {
			return n, stages.Finding{File: s.name, Line: s.n, Msg: err.Error(), Fix: `{"x": [1, 2], "y": 3}`}
		}
	}
	return hi, nil
}

func (s *lineFeed) parse(text []byte, cols []*tensor.Tensor, row int) error {
	var e struct {
		X json.RawMessage `json:"x"`
		Y json.RawMessage `json:"y"`
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("not an object with x and y: %w", err)
	}
	for i, raw := range []json.RawMessage{e.X, e.Y} {
		name := "xy"[i : i+1]
		if len(raw) == 0 {
			return fmt.Errorf("%s is missing", name)
		}
		if bytes.Contains(raw, []byte("null")) { // encoding/json would leave a zero in its place
			return fmt.Errorf("%s: null is no number", name)
		}
	}
	var x []float64
	if err := json.Unmarshal(e.X, &x); err != nil {
		return fmt.Errorf("x is %.40s, want a list of numbers", e.X)
	}
	if err := floats(cols[0].F32[row*s.c.Features:(row+1)*s.c.Features], x, "x"); err != nil {
		return err
	}
	if s.c.Classes > 0 {
		var y int
		if err := json.Unmarshal(e.Y, &y); err != nil || y < 0 || y >= s.c.Classes {
			return fmt.Errorf("y is %.40s, want a whole number from 0 to %d", e.Y, s.c.Classes-1)
		}
		cols[1].I32[row] = int32(y)
		return nil
	}
	var y []float64
	if err := json.Unmarshal(e.Y, &y); err != nil {
		y = make([]float64, 1)
		if err := json.Unmarshal(e.Y, &y[0]); err != nil {
			return fmt.Errorf("y is %.40s, want a number or a list of numbers", e.Y)
		}
	}
	return floats(cols[1].F32[row*s.c.Outputs:(row+1)*s.c.Outputs], y, "y")
}

func floats(dst []float32, src []float64, name string) error {
	if len(src) != len(dst) {
		return fmt.Errorf("%s has %d numbers, want %d", name, len(src), len(dst))
	}
	for i, v := range src {
		if math.Abs(v) > math.MaxFloat32 {
			return fmt.Errorf("%s: %v is not a float32", name, v)
		}
		dst[i] = float32(v)
	}
	return nil
}

// Ack does nothing: nobody waits for it.
func (s *lineFeed) Ack() error { return nil }

// Close ends the reading.
func (s *lineFeed) Close() error {
	if s.src == nil {
		return nil
	}
	close(s.stop)
	src := s.src
	s.src = nil
	if src == os.Stdin {
		return nil // a read that waits for a terminal or a pipe can't be interrupted
	}
	err := src.Close()
	s.done.Wait()
	return err
}
