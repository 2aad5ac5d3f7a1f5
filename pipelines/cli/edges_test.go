package cli

import (
	"fmt"
	"strings"
	"testing"
)

func TestPlanTellsWhatRunsWhere(t *testing.T) {
	sets := []string{"--set", "links.gather=nats", "--set", "links.forward=jetstream", "--set", "links.backward=nats"}
	out := good(t, append([]string{"plan", "digits"}, sets...)...)
	for _, want := range []string{"vtpu worker digits --stages forward --nats URL", "vtpu worker digits --stages loss,backward --nats URL", "gather → forward ", "forward → loss ",
		"backward → update ", "store → loss,backward ", "jetstream ", "together "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "scatter → gather") || strings.Contains(out, "--stages gather") {
		t.Errorf("gather stays with the run\n%s", out)
	}
	where, edges, bytes := map[string]string{}, "", 0.0
	for _, e := range events(t, append([]string{"plan", "digits"}, sets...)...) {
		switch e["event"] {
		case "stage":
			where[e["name"].(string)] = e["lane"].(string)
		case "edge":
			edges += fmt.Sprintf("%v-%v %v;", e["from"], e["to"], e["over"])
			bytes += e["bytes_per_step"].(float64)
		}
	}
	if edges != "gather-forward nats;forward-loss jetstream;backward-update nats;store-forward nats;store-loss,backward jetstream;" || bytes < 100e3 {
		t.Errorf("%s %.0f bytes", edges, bytes)
	}
	if where["batches"] == "worker" || where["dense"] != "worker" || where["dense.backward"] != "worker" || where["adamw"] == "worker" {
		t.Error(where)
	}
}

func TestARunMovesEdgesWithinAProcess(t *testing.T) {
	last := func(args ...string) any {
		all := events(t, append([]string{"run", "names", "--steps", "30", "--out", "none"}, args...)...)
		return all[len(all)-1]["weights_sha256"]
	}
	want := last()
	for _, edges := range []string{"gather", "gather forward backward", "backward"} {
		var args []string
		for e := range strings.FieldsSeq(edges) {
			args = append(args, "--set", "links."+e+"=gochannel")
		}
		code, out, errOut := call(append([]string{"run", "names", "--steps", "30", "--out", "none", "--json"}, args...)...)
		if code != 0 {
			t.Fatalf("%s: %s", edges, errOut)
		}
		all := decoded(t, out)
		if got := all[len(all)-1]["weights_sha256"]; got != want {
			t.Errorf("%s: %v, want %v", edges, got, want)
		}
	}
}

func TestWorkersThatCantBe(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"worker digits --stages update,scatter", "--stages update,scatter: update and scatter write the store, which has one writer: the run itself (start it with vtpu run FILE --nats URL;"},
		{"worker digits --stages forward,backward", "--stages forward,backward: the stages are not neighbours in the walk"},
		{"worker digits --stages foward", `--stages foward: there is no room "foward" in the walk (did you mean forward?)`},
		{"worker digits --set links.forward=nats --stages backward", "--stages backward: the file's links leave other stages to workers (--stages gather,forward)"},
		{"worker digits --set links.gather=nats --set links.loss=nats --set links.backward=nats", "--stages: the file moves several pieces of the walk, a worker does one of them (--stages forward,loss, or --stages backward)"},
		{"worker digits --set links.gather=gochannel --stages gather", "gochannel keeps the workers in the process of the run"},
		{"run digits --set links.gather=nats", "digits: links: nats: a broker is wanted (add --nats nats://host:4222, or --nats embedded)"},
		{"run digits --set links.update=nats", "--set links.update=nats: links: update → scatter can't be moved"},
		{"plan digits --set links.gather=nats --measure --nats nats://127.0.0.1:1", "only a link to workers of forward, loss and backward can be measured"},
	} {
		args := strings.Fields(c.args)
		if args[0] == "worker" {
			args = append(args, "--nats", "nats://127.0.0.1:1")
		}
		if code, out, errOut := call(args...); code != 2 || !strings.Contains(errOut, c.want) || out != "" && args[0] != "plan" {
			t.Errorf("%s: exit code %d, %s%s\nwant %s", c.args, code, out, errOut, c.want)
		}
	}
}
