package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"vtpu/compute/kernel"
)

// A child is a peer in a process of its own. It reads lines "WORK STEPS" and answers each with one of JSON; its first line says what it is.
type child struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	work string
}

// answer is a line of a child.
type answer struct {
	Version string  `json:"version"` // first line only
	Seconds float64 `json:"seconds"`
	Loss    float64 `json:"loss"`
	Error   string  `json:"error"`
}

// start begins a child for a work. env comes on top of the environment.
func start(work string, env []string, name string, args ...string) (*child, string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(append(os.Environ(), coreType()...), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	c := &child{cmd, in, bufio.NewScanner(out), work}
	a, err := c.read()
	if err != nil {
		return nil, "", errors.Join(err, c.close())
	}
	return c, a.Version, nil
}

func (c *child) read() (answer, error) {
	var a answer
	if !c.out.Scan() {
		return a, fmt.Errorf("%s ended: %w", filepath.Base(c.cmd.Path), errors.Join(c.out.Err(), io.ErrUnexpectedEOF))
	}
	if err := json.Unmarshal(c.out.Bytes(), &a); err != nil {
		return a, fmt.Errorf("%s: %q: %w", filepath.Base(c.cmd.Path), c.out.Text(), err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: %s", filepath.Base(c.cmd.Path), a.Error)
	}
	return a, nil
}

func (c *child) run(steps int64) (seconds, loss float64, err error) {
	if _, err := fmt.Fprintf(c.in, "%s %d\n", c.work, steps); err != nil {
		return 0, 0, err
	}
	a, err := c.read()
	return a.Seconds, a.Loss, err
}

// close ends the child, which stops at the end of its input.
func (c *child) close() error {
	return errors.Join(c.in.Close(), c.cmd.Wait())
}

// toolbox finds the peers of this machine, builds those in C, and remembers what is missing.
type toolbox struct {
	root, text string            // the repository; the text of W4 and W8
	dir        string            // for what is built
	python     map[string]string // by module: the interpreter that has it
	built      map[string]string // by C program
	versions   map[string]string // by peer
	missing    map[string]string // by peer: why
}

func newToolbox(root, text, dir string) *toolbox {
	return &toolbox{root, text, dir, map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}}
}

// interpreter is a Python that has a module: the first in the path may be another than the system's.
func (t *toolbox) interpreter(module string) (string, error) {
	if p, ok := t.python[module]; ok {
		if p == "" {
			return "", fmt.Errorf("no Python with %s: %w", module, errMissing)
		}
		return p, nil
	}
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "import "+module).Run() == nil {
			t.python[module] = p
			return p, nil
		}
	}
	t.python[module] = ""
	return t.interpreter(module)
}

// build compiles a program of bench/c and returns its path.
func (t *toolbox) build(name string, flags ...string) (string, error) {
	key := strings.Join(append([]string{name}, flags...), " ")
	if p, ok := t.built[key]; ok {
		return p, nil
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", fmt.Errorf("gcc: %w", errMissing)
	}
	bin := filepath.Join(t.dir, name+strconv.Itoa(len(t.built)))
	args := append([]string{"-O3", "-march=native", "-ffast-math", "-std=gnu11", "-Wall", "-o", bin, filepath.Join(t.root, "bench", "c", name+".c")}, flags...)
	if out, err := exec.Command(gcc, append(args, "-lm", "-ldl")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc: %w\n%s", err, out)
	}
	t.built[key] = bin
	return bin, nil
}

// buildGo compiles the peers in Go, which are a module of their own: it needs their modules, from the network or the cache.
func (t *toolbox) buildGo() (string, error) {
	const key = "gopeers"
	if p, ok := t.built[key]; ok {
		if p == "" {
			return "", fmt.Errorf("the modules of bench/gopeers can't be had here: %w", errMissing)
		}
		return p, nil
	}
	bin := filepath.Join(t.dir, key)
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir = filepath.Join(t.root, "bench", key)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.built[key] = ""
		return "", fmt.Errorf("go build in bench/gopeers: %v: %s: %w", err, bytes.TrimSpace(out), errMissing)
	}
	t.built[key] = bin
	return bin, nil
}

// threads are the settings that a peer with threads of its own is tried at: those of its operators (OpenMP) and those of its products (OpenBLAS).
var threads = [][2]int{{2, 2}, {1, 1}, {1, 2}}

// coreType makes OpenBLAS use the kernels that suit the CPU: a release that does not know the CPU's model falls back to those of 2004. What the user has
// chosen stays.
func coreType() []string {
	if os.Getenv(openCore) != "" {
		return nil
	}
	switch isas := kernel.ISAs(); isas[len(isas)-1] {
	case "avx512":
		return []string{openCore + "=SkylakeX"}
	case "avx2":
		return []string{openCore + "=Haswell"}
	}
	return nil
}

const openCore = "OPENBLAS_CORETYPE"

// names is the list of names that W5 learns, from the repository's root.
const names = "pipelines/data/names.txt"

// cGPT is variants of bench/c/gpt.c. With OpenBLAS, threads of OpenMP call it side by side, or it has threads of its own.
func (t *toolbox) cGPT(peer string, open func(label string, env []string, name string, args ...string) variant) ([]variant, error) {
	bin, err := t.build("gpt", "-Ofast", "-fopenmp")
	if err != nil {
		return nil, err
	}
	args, settings := []string{t.text}, [][2]int{{1, 1}, {2, 1}}
	if peer != "c" {
		if err := exec.Command(bin, "--blas", "--there").Run(); err != nil {
			return nil, fmt.Errorf("OpenBLAS: %w", errMissing)
		}
		args, settings = append(args, "--blas"), [][2]int{{1, 1}, {1, 2}, {2, 1}}
	}
	var vs []variant
	for _, n := range settings {
		env := []string{fmt.Sprintf("OMP_NUM_THREADS=%d", n[0]), fmt.Sprintf("OPENBLAS_NUM_THREADS=%d", n[1])}
		label := "1 thread"
		switch {
		case n[0] > 1:
			label = "2 threads"
		case n[1] > 1:
			label = "1+2 threads"
		}
		vs = append(vs, open(label, env, bin, args...))
	}
	return vs, nil
}

// variants are the ways to run a peer on a work, or an error that wraps errMissing.
func (t *toolbox) variants(peer, work string) ([]variant, error) {
	open := func(label string, env []string, name string, args ...string) variant {
		return variant{label, func() (side, error) {
			c, version, err := start(work, env, name, args...)
			if err != nil {
				return nil, err
			}
			t.versions[peer] = version
			return c, nil
		}}
	}
	switch peer {
	case "c", "c+openblas":
		if work != "W5" {
			return t.cGPT(peer, open)
		}
		bin, err := t.build("microgpt")
		if err != nil {
			return nil, err
		}
		return []variant{open("1 thread", nil, bin, filepath.Join(t.root, names))}, nil
	case "gonum", "gomlx":
		bin, err := t.buildGo()
		if err != nil {
			return nil, err
		}
		return []variant{open("1 thread", []string{"GOMAXPROCS=1"}, bin, peer)}, nil
	case "openblas":
		bin, err := t.build("gemm")
		if err != nil {
			return nil, err
		}
		return []variant{open("1 thread", []string{"OPENBLAS_NUM_THREADS=1"}, bin)}, nil
	}
	module, _, _ := strings.Cut(peer, "-")
	if peer == "python" {
		module = "sys"
	}
	py, err := t.interpreter(module)
	if err != nil {
		return nil, err
	}
	args := []string{filepath.Join(t.root, "bench", "peers.py"), peer, "--names", filepath.Join(t.root, names), "--text", t.text, "--threads"}
	if peer == "python" {
		return []variant{open("1 thread", nil, py, append(args, "1")...)}, nil
	}
	var vs []variant
	for _, n := range threads {
		if peer == "numpy" && n[0] != n[1] {
			continue // NumPy has no threads beside those of its products
		}
		label := fmt.Sprintf("%d+%d threads", n[0], n[1])
		if n[0] == n[1] {
			label = strings.TrimSuffix(fmt.Sprintf("%d threads", n[0]), map[int]string{1: "s"}[n[0]])
		}
		env := []string{fmt.Sprintf("OMP_NUM_THREADS=%d", n[0]), fmt.Sprintf("OPENBLAS_NUM_THREADS=%d", n[1])}
		vs = append(vs, open(label, env, py, append(args, strconv.Itoa(n[0]))...))
	}
	return vs, nil
}
