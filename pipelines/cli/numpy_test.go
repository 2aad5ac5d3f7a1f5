package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python finds an interpreter that has NumPy.
func python(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"python3", "/usr/bin/python3", "python"} {
		if exec.Command(p, "-c", "import numpy").Run() == nil {
			return p
		}
	}
	t.Skip("SKIP: no python3 with numpy here (apt-get install python3-numpy), so nothing but our own code reads the exports")
	return ""
}

// What vtpu exports, NumPy reads with the same bits, and what NumPy writes, vtpu imports with the same bits.
func TestNumPyReadsExportsAndImportReadsNumPy(t *testing.T) {
	py := python(t)
	script, err := filepath.Abs("../../bench/numpy_files.py")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	run := last1(events(t, append([]string{"run", "--out", "a"}, small...)...))
	good(t, "export", "a", "a.safetensors")
	good(t, "export", "a", "a.npz")
	good(t, "export", "a", "state.npz", "--state")
	out := command(t, py, script, "read", "a.safetensors", "a.npz", "state.npz")
	arrays := map[string]string{}
	sums := map[any]any{}
	for _, m := range decoded(t, out) {
		if m["event"] == "file" {
			sums[m["file"]] = m["sha256"]
		} else if m["file"] != "state.npz" {
			b, err := json.Marshal([]any{m["name"], m["dtype"], m["shape"]})
			if err != nil {
				t.Fatal(err)
			}
			arrays[m["file"].(string)] += string(b)
		}
	}
	const want = `["dense.bias","float32",[128]]["dense.weight","float32",[128,100]]["dense2.bias","float32",[10]]["dense2.weight","float32",[10,128]]`
	for _, f := range []string{"a.safetensors", "a.npz"} {
		if sums[f] != run["weights_sha256"] || arrays[f] != want {
			t.Errorf("NumPy reads %s as %s with the SHA-256 %v, want %s and %v", f, arrays[f], sums[f], want, run["weights_sha256"])
		}
	}
	if sums["state.npz"] == nil || !strings.Contains(out, "dense.weight/adamw/m") {
		t.Errorf("state.npz lacks the optimizer state:\n%s", out)
	}

	command(t, py, script, "double", "a.npz", ".")
	twice := ""
	for _, f := range []string{"double.npz", "packed.npz", "double.safetensors"} {
		dir := "from-" + f
		m := last1(events(t, append([]string{"import", "--out", dir, "digits", f}, small[1:3]...)...))
		if twice == "" {
			twice = m["weights_sha256"].(string)
		}
		if m["weights_sha256"] != twice || twice == run["weights_sha256"] {
			t.Errorf("%s has the weights %v, the others have %v", f, m["weights_sha256"], twice)
		}
		good(t, "export", dir, "back.npz")
		if back := last1(decoded(t, command(t, py, script, "read", "back.npz"))); back["sha256"] != twice {
			t.Errorf("%s comes back as %v, want %v", f, back["sha256"], twice)
		}
		if m := last1(events(t, append([]string{"run", "--resume", "--out", dir, "digits"}, small[1:3]...)...)); m["event"] != "done" {
			t.Errorf("a run from %s ends as %v", f, m)
		}
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return string(out)
}
