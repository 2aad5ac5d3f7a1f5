package cli

import (
	"os"
	"strings"
	"testing"
)

func TestSMTTopology(t *testing.T) {
	t.Chdir(t.TempDir())
	es := events(t, "smt", "topology", "--svg", "cores.svg")
	if len(es) != 1 || es[0]["event"] != "smt_topology" {
		t.Fatalf("%v", es)
	}
	if r := es[0]["result"].(map[string]any); len(r["cpus"].([]any)) == 0 || r["capacity"].(float64) < 1 {
		t.Errorf("%v", r)
	}
	if b, err := os.ReadFile("cores.svg"); err != nil || !strings.Contains(string(b), "CPU ") {
		t.Errorf("picture %.80s, %v", b, err)
	}
	if out := good(t, "smt", "topology"); !strings.Contains(out, "siblings") || !strings.Contains(out, "pairs") {
		t.Errorf("%s", out)
	}
	if code, _, errOut := call("smt", "topology", "--svg", "no/such/dir/x.svg"); code != 2 || !strings.Contains(errOut, "--svg no/such/dir/x.svg") {
		t.Errorf("exit code %d, %s", code, errOut)
	}
	if code, _, errOut := call("smt", "topolgy"); code != 2 || !strings.Contains(errOut, "topolgy") {
		t.Errorf("exit code %d, %s", code, errOut)
	}
}
