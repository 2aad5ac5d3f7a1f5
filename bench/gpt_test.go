package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A peer with wrong gradients is no peer: c/gpt.c against PyTorch.
func TestGradientsOfC(t *testing.T) {
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	tools := newToolbox(root, "", t.TempDir())
	py, err := tools.interpreter("torch")
	if errors.Is(err, errMissing) {
		t.Skip(err)
	}
	bin, err := tools.build("gpt", "-Ofast", "-fopenmp")
	if errors.Is(err, errMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(py, filepath.Join(root, "bench", "peers.py"), "check-c", bin)
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=2", "OPENBLAS_NUM_THREADS=1", "OMP_WAIT_POLICY=passive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
