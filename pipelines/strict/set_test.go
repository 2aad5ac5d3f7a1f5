package strict

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"vtpu/stages"
)

// pipe has what --set walks through: sections, a list of stages, one of them twice, one without keys, a nested list.
const pipe = `seed: 1
run: {steps: 10}
sample:
stages:
  - batches: {batch: 4}
  - dense: {units: 8}
  - relu
  - residual:
      - gelu
      - dense: {units: 16}
  - dense: {units: 32}
  - repeat: 2
    stages: [tanh]
`

// plain turns a node into plain values, so that trees can be compared.
func plain(n *Node) any {
	switch {
	case n.IsMap():
		m := map[string]any{}
		for _, p := range n.Pairs() {
			m[p.Key.Text()] = plain(p.Val)
		}
		return m
	case n.IsList():
		l := []any{}
		for _, e := range n.Items() {
			l = append(l, plain(e))
		}
		return l
	case n.IsNull():
		return nil
	}
	return n.Text()
}

func parsed(t *testing.T, src string) *Node {
	t.Helper()
	n, fs := Parse("p.yaml", []byte(src), noEnv)
	if fs != nil {
		t.Fatal(fs)
	}
	return n
}

func TestSetChangesWhatThePathNamesAndNothingElse(t *testing.T) {
	for _, c := range []struct{ set, old, now string }{
		{"seed=2", "seed: 1", "seed: 2"},
		{"seed=", "seed: 1", "seed:"},
		{"name=a=b", "seed: 1", "seed: 1\nname: a=b"},
		{"run.steps=20", "{steps: 10}", "{steps: 20}"},
		{"run.keep=3", "{steps: 10}", "{steps: 10, keep: 3}"},
		{"run={epochs: 2}", "{steps: 10}", "{epochs: 2}"},
		{"sample.count=5", "sample:", "sample: {count: 5}"},
		{"place.pin=off", "seed: 1", "seed: 1\nplace: {pin: off}"},
		{"stages.batches.batch=8", "{batch: 4}", "{batch: 8}"},
		{"stages.0.batches.batch=8", "{batch: 4}", "{batch: 8}"},
		{"stages.batches={}", "{batch: 4}", "{}"},
		{"stages.dense#1.units=9", "{units: 8}", "{units: 9}"},
		{"stages.dense#2.units=9", "{units: 32}", "{units: 9}"},
		{"stages.5={mse: {}}", "repeat: 2\n    stages: [tanh]", "mse: {}"},
		{"stages.relu.name=r", "- relu", "- relu: {name: r}"},
		{"stages.relu={name: r}", "- relu", "- relu: {name: r}"},
		{"stages.2=gelu", "- relu", "- gelu"},
		{"stages.residual.dense.units=9", "{units: 16}", "{units: 9}"},
		{"stages.residual.0=relu", "- gelu", "- relu"},
		{"stages.residual.gelu.name=g", "- gelu", "- gelu: {name: g}"},
		{"stages.5.repeat=3", "repeat: 2", "repeat: 3"},
		{"stages.5.stages.tanh.name=t", "[tanh]", "[tanh: {name: t}]"},
		{"stages.dense#2.betas=[0.9, 0.99]", "{units: 32}", "{units: 32, betas: [0.9, 0.99]}"},
		{"stages.dense#2.schedule.cosine.warmup=5", "{units: 32}", "{units: 32, schedule: {cosine: {warmup: 5}}}"},
		{`run.name="*.weight: x"`, "{steps: 10}", `{steps: 10, name: "*.weight: x"}`},
	} {
		root := parsed(t, pipe)
		if f := Set(root, c.set); f != nil {
			t.Errorf("%s: %v", c.set, *f)
			continue
		}
		if strings.Count(pipe, c.old) == 0 {
			t.Fatalf("%s: %q does not stand in the pipeline", c.set, c.old)
		}
		want := plain(parsed(t, strings.Replace(pipe, c.old, c.now, 1)))
		if got := plain(root); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %v\nwant %v", c.set, got, want)
		}
	}
}

func TestABadPathIsNamed(t *testing.T) {
	const notYAML = "the value is not YAML: "
	for _, c := range []struct{ set, want string }{
		{"seed", "want key.key=value"},
		{"", "want key.key=value"},
		{"=3", "want key.key=value"},
		{".seed=3", "want key.key=value"},
		{"run.=3", "want key.key=value"},
		{"run..steps=3", "want key.key=value"},
		{"seed.x=3", "seed is a single value, there is nothing below it"},
		{"run.steps.x.y=3", "run.steps is a single value, there is nothing below it"},
		{"stages.6.x=3", "there is no element 6, the list has 6"},
		{"stages.-1=3", "there is no element -1, the list has 6"},
		{"stages.99999999999999999999=3", "the list has no 99999999999999999999; it has batches, dense, relu, residual, dense, repeat, stages"},
		{"stages.mse.x=3", "the list has no mse; it has batches, dense, relu, residual, dense, repeat, stages"},
		{"stages.dense.units=3", "dense stands 2 times; write dense#1 or dense#2"},
		{"stages.dense#3.units=3", "dense#3: there are 2 of them, counted from #1"},
		{"stages.dense#0.units=3", "dense#0: there are 2 of them, counted from #1"},
		{"stages.dense#x.units=3", "dense#x: there are 2 of them, counted from #1"},
		{"stages.2.x=3", "stages.2 is a single value, there is nothing below it"},
		{"stages.residual.mse.x=3", "the list has no mse; it has gelu, dense"},
		{"seed=[", notYAML + `did not find expected node content (quote a text with special characters: key='"*"')`},
		{"seed=*", notYAML + `did not find expected alphabetic or numeric character (quote a text with special characters: key='"*"')`},
		{"seed=*w", notYAML + `unknown anchor 'w' referenced (quote a text with special characters: key='"*"')`},
		{"seed=a: b: c", notYAML + `mapping values are not allowed in this context (quote a text with special characters: key='"*"')`},
		{"run={a: 1, a: 2}", "key a stands twice (the first one is in line 1)"},
		{"run={a: &a 1}", "ANCHOR"},
		{"run=&a {a: *a}", "ANCHOR"},
		{"seed=!!int 3", "tags are not supported (remove !!int)"},
		{"seed=" + strings.Repeat("[", 66) + strings.Repeat("]", 66), "nested deeper than 64"},
	} {
		root := parsed(t, pipe)
		f := Set(root, c.set)
		if f == nil {
			t.Errorf("%s: no finding, want %s", c.set, c.want)
		} else if got, want := longTexts.Replace(f.String()), "--set "+c.set+": "+c.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestABadValueNamesTheFlagAndNotTheFile(t *testing.T) {
	const src = "units: 5\ntarget: [q]\ncells:\n  - {path: a}\n  - {path: b}\ninner: {path: z}\n"
	for _, c := range []struct{ set, want string }{
		{"units=abc", `--set units=abc: units: want a whole number, got the text "abc"`},
		{"units=[1]", "--set units=[1]: units: want a whole number, got a list"},
		{"units=0", "--set units=0: units: want a number at least 1, got 0"},
		{"act=rleu", `--set act=rleu: act: want one of none, relu, gelu, got the text "rleu" (did you mean relu?)`},
		{"units=${N}", `--set units=${N}: units: want a whole number, got the text "${N}"`}, // variables are the shell's business
		{"cells.1.n=0", "--set cells.1.n=0: n: want a number at least 1, got 0"},
		{"cells.0=5", "--set cells.0=5: want a map of keys and values, got the number 5 (the keys are path, n)"},
		{"target.0=[x]", "--set target.0=[x]: target: want a text, got a list"},
		{"unit=3", "--set unit=3: unknown key unit (did you mean units?)"},
		{"innr.path=x", "--set innr.path=x: unknown key innr (did you mean inner?)"},
		{"inner.pth=x", "--set inner.pth=x: unknown key pth (did you mean path?)"},
		{"plan.pth=x", "--set plan.pth=x: unknown key pth (did you mean path?)\n--set plan.pth=x: path is missing (File to read)"},
		{"inner={path: a, n: [3]}", "--set inner={path: a, n: [3]}: n: want a whole number, got a list"},
		{"inner.path=", "p.yaml:6:8: path is missing (File to read)"},
	} {
		_, err := read(src, noEnv, c.set)
		if err == nil || err.Error() != c.want {
			t.Errorf("--set %s:\ngot  %v\nwant %s", c.set, err, c.want)
		}
	}
}

func TestTheLastSetWins(t *testing.T) {
	got, err := read("units: 5\n", noEnv, "units=6", "inner={path: a, n: 1}", "units=7", "inner.n=2", "betas=[0.5, 0.6]", "betas.1=0.7")
	want := defaults()
	want.Units, want.Inner, want.Betas = 7, inner{"a", 2}, []float64{0.5, 0.7}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func FuzzSet(f *testing.F) {
	for _, s := range []string{"seed=2", "stages.dense#2.units=9", "stages.relu.x=[1, {a: b}]", "run.steps.x=3", "sample.a.b.c=", "stages.5.stages.0.name=*x", "a=&x [*x]", "=", "run={a: 1, a: 2}",
		"stages.residual.gelu={}", "stages.0=", "units=!!set {a}", "inner.path=a\n---\nb", "cells.0.n=0", "..=1", "stages.repeat.x=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, set string) {
		begin := time.Now()
		for _, src := range []string{pipe, "units: 5\ncells: [{path: a}, x]\ninner:\nplan: {path: p}\n"} {
			_, err := read(src, noEnv, set)
			var fs stages.Findings
			var one stages.Finding
			if err == nil {
				continue
			}
			if !errors.As(err, &fs) && !errors.As(err, &one) {
				t.Fatalf("error of another kind: %v", err)
			}
			if one.Msg != "" && one.File != "--set "+set {
				t.Errorf("finding %+v does not name the flag", one)
			}
		}
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
	})
}
