package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed are the entries of the top level; dotfiles are free.
var allowed = []string{"stages", "gather", "compute", "scatter", "backward", "update", "smtpool", "pipelines", "go.mod", "go.sum", "compose.yaml",
	"main.go", "layout_test.go", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "bench", "runs", "vtpu"}

func TestTopLevel(t *testing.T) {
	es, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s has no place at the top level", e.Name())
		}
	}
}

// imports is the table of ARCHITECTURE.md: what a package, or all below it, may import of this module. The longest prefix counts.
var imports = map[string][]string{
	"vtpu":                      {"vtpu/backward", "vtpu/compute", "vtpu/gather", "vtpu/scatter", "vtpu/update", "vtpu/pipelines/cli", "vtpu/stages/link/broker"},
	"vtpu/stages/tensor":        {},
	"vtpu/stages/rng":           {},
	"vtpu/stages/disk":          {"vtpu/stages/disk"},
	"vtpu/smtpool":              {},
	"vtpu/smtpool/ruler":        {},
	"vtpu/smtpool/measure":      {"vtpu/smtpool"},
	"vtpu/smtpool/probe":        {"vtpu/smtpool", "vtpu/smtpool/..."},
	"vtpu/smtpool/workload":     {},
	"vtpu/smtpool/ports":        {"vtpu/smtpool", "vtpu/smtpool/..."},
	"vtpu/smtpool/lab":          {"vtpu/smtpool", "vtpu/smtpool/..."},
	"vtpu/compute/kernel":       {},
	"vtpu/stages/weights":       {"vtpu/stages/tensor"},
	"vtpu/stages":               {"vtpu/stages/weights", "vtpu/stages/tensor", "vtpu/stages/rng", "vtpu/stages/disk"},
	"vtpu/stages/link/ring":     {"vtpu/smtpool"},
	"vtpu/stages/link":          {},
	"vtpu/stages/link/nats":     {"vtpu/stages", "vtpu/stages/link", "vtpu/stages/link/wm"},
	"vtpu/stages/link/wm":       {"vtpu/stages/link", "vtpu/stages/link/ring"},
	"vtpu/stages/link/linktest": {"vtpu/stages/link"},
	"vtpu/stages/wire":          {"vtpu/stages", "vtpu/stages/tensor"},
	"vtpu/stages/reclog":        {"vtpu/stages/disk", "vtpu/stages/disk/...", "vtpu/stages", "vtpu/stages/wire", "vtpu/stages/tensor", "vtpu/stages/reclog"},
	"vtpu/stages/tensorfile":    {"vtpu/stages/disk", "vtpu/stages", "vtpu/stages/weights", "vtpu/stages/tensor"},
	"vtpu/stages/stagetest":     {"vtpu/stages", "vtpu/stages/weights", "vtpu/stages/tensor", "vtpu/stages/rng"},
	"vtpu/gather":               {"vtpu/stages/...", "vtpu/compute/kernel"},
	"vtpu/compute":              {"vtpu/stages/...", "vtpu/compute/kernel"},
	"vtpu/backward":             {"vtpu/stages/...", "vtpu/compute/kernel"},
	"vtpu/update":               {"vtpu/stages/...", "vtpu/compute/kernel"},
	"vtpu/scatter":              {"vtpu/stages/...", "vtpu/compute/kernel"},
	"vtpu/bench":                {"vtpu/backward", "vtpu/compute", "vtpu/gather", "vtpu/scatter", "vtpu/update", "vtpu/pipelines/...", "vtpu/pipelines", "vtpu/stages/...", "vtpu/stages", "vtpu/smtpool", "vtpu/compute/kernel"},
	"vtpu/pipelines":            {"vtpu/pipelines/...", "vtpu/stages/...", "vtpu/smtpool", "vtpu/smtpool/...", "vtpu/compute/kernel"},
}

// doors are the packages that alone may import a heavy dependency.
var doors = map[string]string{
	"golang.org/x/sys/unix": "vtpu/smtpool", "go.yaml.in/yaml/v3": "vtpu/pipelines/strict", "github.com/spf13/cobra": "vtpu/pipelines/cli",
	"github.com/vmihailenco/msgpack/v5": "vtpu/stages/wire", "github.com/klauspost/compress/zstd": "vtpu/stages/reclog",
	"gonum.org/v1/plot": "vtpu/pipelines/chart", "github.com/nats-io/nats.go": "vtpu/stages/link/nats",
	"github.com/nats-io/nats.go/jetstream": "vtpu/stages/link/nats", "github.com/nats-io/nats-server/v2/server": "vtpu/stages/link/broker",
	"github.com/ThreeDotsLabs/watermill": "vtpu/stages/link/...", "github.com/ThreeDotsLabs/watermill/message": "vtpu/stages/link/...", "github.com/ThreeDotsLabs/watermill/pubsub/gochannel": "vtpu/stages/link/wm",
	"github.com/prometheus/client_golang/prometheus": "vtpu/pipelines/ops", "vtpu/stages/link/broker": "vtpu", "github.com/guptarohit/asciigraph": "vtpu/pipelines/chart",
}

// within says whether a path is that of an entry of the table, which may end in /... for all below it.
func within(path, entry string) bool {
	base, below := strings.CutSuffix(entry, "/...")
	return path == base || below && strings.HasPrefix(path, base+"/")
}

func TestImportTable(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	n := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
		rule := ""
		for prefix := range imports {
			if (p.ImportPath == prefix || prefix != "vtpu" && strings.HasPrefix(p.ImportPath, prefix+"/")) && len(prefix) > len(rule) {
				rule = prefix
			}
		}
		if rule == "" {
			t.Errorf("%s has no line in the import table", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			if door, ok := doors[i]; ok && !within(p.ImportPath, door) {
				t.Errorf("%s imports %s; its door is %s", p.ImportPath, i, door)
			}
			if !strings.HasPrefix(i, "vtpu/") {
				continue
			}
			if !slices.ContainsFunc(imports[rule], func(a string) bool {
				return within(i, a)
			}) {
				t.Errorf("%s imports %s, which the import table does not allow", p.ImportPath, i)
			}
		}
	}
	if n < 15 {
		t.Errorf("go list named %d packages only", n)
	}
}
