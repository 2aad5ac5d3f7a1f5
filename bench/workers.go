package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// workersRow compares two workers over a NATS link with one: processes of their own for broker, coordinator and each worker, all on this machine.
type workersRow struct {
	What   string  `json:"what"`
	One    float64 `json:"one_seconds"`
	Two    float64 `json:"two_seconds"`
	Ratio  spread  `json:"ratio"`
	Lanes  spread  `json:"lanes_ratio"` // what two lanes of one process gain over one lane, in the same rounds
	Rounds int     `json:"rounds"`
	Must   float64 `json:"must"`
}

// program is a process of the comparison.
type program struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func launch(name string, args ...string) (*program, error) {
	p := &program{cmd: exec.Command(name, args...)}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	return p, p.cmd.Start()
}

// line reads the next event that a program tells.
func (p *program) line(v any) error {
	if !p.out.Scan() {
		return errors.Join(io.ErrUnexpectedEOF, p.out.Err())
	}
	return json.Unmarshal(p.out.Bytes(), v)
}

// stop ends a program that goes on by itself.
func (p *program) stop() error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	_ = p.cmd.Wait() // interrupted, as it should be
	return nil
}

// steps runs a few steps of a pipeline with arguments of vtpu run, and returns the median time of those after the first two.
func steps(vtpu string, n int, args ...string) (seconds float64, err error) {
	args = append([]string{"run"}, args...)
	p, err := launch(vtpu, append(args, "--json", "--out", "none", "--steps", fmt.Sprint(n))...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.cmd.Wait()) }()
	var took []float64
	last := time.Now()
	for {
		var e struct {
			Event string
			Step  int
		}
		if err := p.line(&e); err != nil {
			return 0, err
		}
		now := time.Now()
		if e.Event == "step" && e.Step > 2 {
			took = append(took, now.Sub(last).Seconds())
		}
		last = now
		if e.Event == "done" {
			return median(took), nil
		}
	}
}

// withWorkers is steps over a link.
func withWorkers(vtpu string, workers, n int, args ...string) (seconds float64, err error) {
	b, err := launch(vtpu, "broker", "--json")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	var ready struct{ URL string }
	if err := b.line(&ready); err != nil {
		return 0, err
	}
	args = append(args, "--nats", ready.URL)
	for range workers {
		w, err := launch(vtpu, append([]string{"worker", "--json"}, args...)...)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, w.stop()) }()
	}
	return steps(vtpu, n, args...)
}

// vtpu builds the command.
func (b *bench) vtpu() (string, error) {
	file := filepath.Join(b.tools.dir, "vtpu")
	cmd := exec.Command("go", "build", "-o", file, "vtpu")
	cmd.Dir = b.tools.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
}

// w4 are the arguments for W4 with another batch.
func (b *bench) w4(batch int) []string {
	args := []string{filepath.Join(b.tools.root, "pipelines", "works", "w4.yaml"), "--set", fmt.Sprintf("stages.token_batches.batch=%d", batch)}
	for _, s := range b.sets {
		args = append(args, "--set", s)
	}
	return args
}

// compareWorkers measures W4's model at a batch of 120, where a step computes much longer than it sends.
func (b *bench) compareWorkers() (rows []workersRow, err error) {
	b.say("L")
	vtpu, err := b.vtpu()
	if err != nil {
		return nil, err
	}
	const n = 7
	args := b.w4(120)
	rounds := max(1, b.rounds/3)
	begin := time.Now()
	var one, two, lane, lanes []float64
	for k := range rounds {
		if k > 0 && time.Since(begin) > b.limit {
			break
		}
		for _, side := range []struct {
			to  *[]float64
			run func() (float64, error)
		}{
			{&one, func() (float64, error) { return withWorkers(vtpu, 1, n, args...) }},
			{&two, func() (float64, error) { return withWorkers(vtpu, 2, n, args...) }},
			{&lane, func() (float64, error) { return steps(vtpu, n, append(args, "--lanes", "d=1,s=0")...) }},
			{&lanes, func() (float64, error) { return steps(vtpu, n, append(args, "--lanes", "d=2,s=0")...) }},
		} {
			t, err := side.run()
			if err != nil {
				return nil, err
			}
			*side.to = append(*side.to, t)
		}
	}
	return []workersRow{{"W4, batch 120", median(one), median(two), spreadOf(ratios(one, two)), spreadOf(ratios(lane, lanes)), len(one), 1.5}}, nil
}
