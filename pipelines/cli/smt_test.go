package cli

import (
	"os"
	"strings"
	"testing"

	"vtpu/smtpool/ports"
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

func TestSMTProbeAndModel(t *testing.T) {
	t.Chdir(t.TempDir())
	code, out, errOut := call("smt", "probe", "--reps", "1", "--window", "100us", "--json")
	if code == 3 && strings.Contains(out, "two logical CPUs") {
		t.Log("SKIP: one CPU")
	} else if code != 0 || !strings.Contains(out, `"verdict"`) {
		t.Errorf("exit code %d, %s%s", code, out, errOut)
	}
	es := events(t, "smt", "model", "--core", "all", "--latency", "700", "--svg", "model.svg")
	rows := es[0]["result"].(map[string]any)["rows"].([]any)
	if es[0]["event"] != "smt_model" || len(rows) != 6*len(ports.Machines()) {
		t.Errorf("%d rows of %v", len(rows), es[0]["event"])
	}
	if _, err := os.Stat("model.svg"); err != nil {
		t.Error(err)
	}
}

func TestSMTMistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, map[string]string{"there/x": ""})
	for _, c := range []struct{ args, says string }{
		{"probe --cpus 0", "--cpus 0"}, {"probe --cpus 0,0", "twice"}, {"probe --cpus 0,9999", "9999"}, {"rulers --cpus 0,9999", "9999"}, {"rulers --reps 0", "--reps 0"},
		{"rulers --window 1ns", "--window"}, {"rulers --memory 99999", "--memory"}, {"pair --ops 0", "--ops 0"}, {"pair --d -1", "--d -1"}, {"pair --timeline x.svg --reps 1", "--curve"},
		{"model --core zen9", "zen9"}, {"model --latency -1", "--latency -1"}, {"report", "--out"}, {"report --out there", "there already"}, {"report --out no/where/x", "no/where"},
		{"train nosuch", "nosuch"}, {"train names --set run.nothing=1", "nothing"},
	} {
		code, out, errOut := call(append([]string{"smt"}, strings.Fields(c.args)...)...)
		if code != 2 || !strings.Contains(errOut, c.says) || out != "" {
			t.Errorf("smt %s: exit code %d, %s%s", c.args, code, out, errOut)
		}
	}
}

// A report of short measurements: the folder is whole, and nothing but it is left.
func TestSMTReport(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: takes some seconds")
	}
	t.Chdir(t.TempDir())
	code, out, errOut := call("smt", "report", "--out", "smt", "--reps", "1", "--window", "100us", "--memory", "1", "--no-train")
	if code != 0 {
		t.Fatalf("exit code %d, %s%s", code, out, errOut)
	}
	es, err := os.ReadDir(".")
	if err != nil || len(es) != 1 {
		t.Errorf("left behind: %v, %v", es, err)
	}
	html, err := os.ReadFile("smt/report.html")
	if err != nil || !strings.Contains(string(html), "<svg") || strings.Contains(string(html), "http-equiv") || strings.Contains(string(html), "src=") {
		t.Errorf("report.html: %v", err)
	}
	js, err := os.ReadFile("smt/report.json")
	if err != nil {
		t.Fatal(err)
	}
	decoded(t, string(js))
	for _, f := range []string{"report.md", "topology.svg", "model.svg"} {
		if b, err := os.ReadFile("smt/" + f); err != nil || len(b) == 0 {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func TestSMTTrain(t *testing.T) {
	t.Chdir(t.TempDir())
	es := events(t, "smt", "train", "digits", "--reps", "1", "--set", "data.rows=100")
	r := es[0]["result"].(map[string]any)
	if r["same_bits"] != true || len(r["ways"].([]any)) < 2 {
		t.Errorf("%v", r)
	}
}
