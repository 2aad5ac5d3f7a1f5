package strict

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"vtpu/stages"
)

// config has a field of every kind that a reader knows.
type config struct {
	Units  int       `yaml:"units" min:"1" max:"4096" doc:"Width."`
	Rate   float64   `yaml:"rate" above:"0" below:"1" doc:"Rate."`
	Act    string    `yaml:"act" enum:"none|relu|gelu" doc:"Activation."`
	Bias   bool      `yaml:"bias" doc:"Bias."`
	Seed   uint64    `yaml:"seed" doc:"Seed."`
	Steps  int64     `yaml:"steps" min:"0" doc:"Steps."`
	Text   string    `yaml:"text" doc:"Text."`
	Target []string  `yaml:"target" doc:"Names."`
	Betas  []float64 `yaml:"betas" min:"0" below:"1" doc:"Decays."`
	Dim    level     `yaml:"dim" doc:"Level."`
	Inner  inner     `yaml:"inner" doc:"Section."`
	Plan   *inner    `yaml:"plan" doc:"Section that may be left out."`
	Cells  []inner   `yaml:"cells" doc:"Sections."`
	NoKey  int
}

type inner struct {
	Path string `yaml:"path" required:"true" doc:"File to read."`
	N    int    `yaml:"n" min:"1" doc:"Count."`
}

// level reads its own text.
type level struct{ n int }

func (l *level) UnmarshalText(b []byte) error {
	l.n = slices.Index([]string{"low", "high"}, string(b))
	if l.n < 0 {
		return fmt.Errorf("%q is no level", b)
	}
	return nil
}

// noEnv is an environment without variables.
func noEnv(string) (string, bool) { return "", false }

// env has the variables that the tests use.
func env(name string) (string, bool) {
	v, ok := map[string]string{"N": "12", "WORD": "relu", "EMPTY": "", "RATE": "2e-1", "YES": "true", "INNER": "${N}", "LIST": "[1, 2]", "HASH": "# x"}[name]
	return v, ok
}

func defaults() config { return config{Units: 8, Rate: 0.5, Act: "none"} }

// read parses and decodes as the pipelines do; the error is that of all findings.
func read(src string, lookup func(string) (string, bool), sets ...string) (config, error) {
	c := defaults()
	root, fs := Parse("p.yaml", []byte(src), lookup)
	if err := fs.Err(); err != nil {
		return c, err
	}
	for _, s := range sets {
		if f := Set(root, s); f != nil {
			return c, *f
		}
	}
	return c, Decode(root, &c).Err()
}

// longTexts are parts of messages that the tables below shorten.
var longTexts = strings.NewReplacer(
	"(known: act, betas, bias, cells, dim, inner, plan, rate, seed, steps, target, text, units)", "KEYS",
	"(the keys are units, rate, act, bias, seed, steps, text, target, betas, dim, inner, plan, cells)", "FIELDS",
	"anchors and aliases are not supported (use repeat, or write it out; a text that begins with * or & needs quotes)", "ANCHOR",
	"(entries of one map or list stand in the same column; close { and [)", "COLUMN",
	"(indent with spaces, not with tabs; quote texts that begin with a special character)", "TABS",
)

func TestBadYAMLIsNamedWithItsPlace(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		// keys
		{"unit: 3", "p.yaml:1:1: unknown key unit (did you mean units?)"},
		{"units: 3\nzebra: 1", "p.yaml:2:1: unknown key zebra KEYS"},
		{"date: 1", "p.yaml:1:1: unknown key date (did you mean rate?)"},
		{"? [a]\n: 1", "p.yaml:1:3: a key must be a plain text"},
		{"? {a: 1}\n: 2", "p.yaml:1:3: a key must be a plain text"},
		{"~: 1", "p.yaml:1:1: a key must be a plain text"},
		{"&k units: 3", "p.yaml:1:1: a key must be a plain text"},
		{"!!str units: 3", "p.yaml:1:1: a key must be a plain text"},
		{"units: 3\nunits: 4", "p.yaml:2:1: key units stands twice (the first one is in line 1)"},
		{"inner: {path: a, path: b}", "p.yaml:1:18: key path stands twice (the first one is in line 1)"},
		{"inner:\n  <<: {path: a}", "p.yaml:2:3: merge keys are not supported (write it out)"},
		{"inner: {path: a}\nplan: {path: b, inner: {n: 1}}", "p.yaml:2:17: unknown key inner (known: n, path)"},
		// types
		{"units: abc", `p.yaml:1:8: units: want a whole number, got the text "abc"`},
		{"units: '3'", `p.yaml:1:8: units: want a whole number, got the text "3"`},
		{"units: 2.5", "p.yaml:1:8: units: want a whole number, got the number 2.5"},
		{"units: [3]", "p.yaml:1:8: units: want a whole number, got a list"},
		{"units: {a: 1}", "p.yaml:1:8: units: want a whole number, got a map"},
		{"units: 1e30", "p.yaml:1:8: units: want a whole number, got the number 1e30"},
		{"units: 99999999999999999999", "p.yaml:1:8: units: want a whole number, got the number 99999999999999999999"},
		{"units: 0x10", "p.yaml:1:8: units: want a whole number, got the number 0x10"},
		{"units: 2001-01-01", `p.yaml:1:8: units: want a whole number, got the text "2001-01-01"`},
		{"units: " + strings.Repeat("y", 100), "p.yaml:1:8: units: want a whole number, got the text \"" + strings.Repeat("y", 60) + "\""},
		{"rate: x", `p.yaml:1:7: rate: want a finite number, got the text "x"`},
		{`rate: "0.5"`, `p.yaml:1:7: rate: want a finite number, got the text "0.5"`},
		{"rate: [1]", "p.yaml:1:7: rate: want a finite number, got a list"},
		{"act: [relu]", "p.yaml:1:6: act: want a text, got a list"},
		{"bias: yes", `p.yaml:1:7: bias: want true or false, got the text "yes"`},
		{"bias: 1", "p.yaml:1:7: bias: want true or false, got the number 1"},
		{"bias: 'true'", `p.yaml:1:7: bias: want true or false, got the text "true"`},
		{"text: {a: 1}", "p.yaml:1:7: text: want a text, got a map"},
		{"text: [a]", "p.yaml:1:7: text: want a text, got a list"},
		{"target: {a: 1}", "p.yaml:1:9: target: want a list, got a map"},
		{"target: [a, ~, b]", "p.yaml:1:13: target: an element of the list is empty"},
		{"target:\n  - a\n  - ", "p.yaml:3:4: target: an element of the list is empty"},
		{"target: [a, [b]]", "p.yaml:1:13: target: want a text, got a list"},
		{"betas: 0.9", "p.yaml:1:8: betas: want a list, got the number 0.9"},
		{"betas: [0.9, x]", `p.yaml:1:14: betas: want a finite number, got the text "x"`},
		{"dim: mid", `p.yaml:1:6: dim: "mid" is no level`},
		{"dim: [low]", "p.yaml:1:6: dim: want a single value, got a list"},
		{"inner: 5", "p.yaml:1:8: want a map of keys and values, got the number 5 (the keys are path, n)"},
		{"inner: [1]", "p.yaml:1:8: want a map of keys and values, got a list (the keys are path, n)"},
		{"cells: [5]", "p.yaml:1:9: want a map of keys and values, got the number 5 (the keys are path, n)"},
		{"cells: 5", "p.yaml:1:8: cells: want a list, got the number 5"},
		{"- a\n- b", "p.yaml:1:1: want a map of keys and values, got a list FIELDS"},
		{"5", "p.yaml:1:1: want a map of keys and values, got the number 5 FIELDS"},
		// ranges
		{"units: 0", "p.yaml:1:8: units: want a number at least 1, got 0"},
		{"units: 5_000", "p.yaml:1:8: units: want a number at most 4096, got 5000"},
		{"units: 1e4", "p.yaml:1:8: units: want a number at most 4096, got 10000"},
		{"rate: 0", "p.yaml:1:7: rate: want a number above 0, got 0"},
		{"rate: 1", "p.yaml:1:7: rate: want a number below 1, got 1"},
		{"rate: .nan", "p.yaml:1:7: rate: want a finite number, got the number .nan"},
		{"rate: .inf", "p.yaml:1:7: rate: want a finite number, got the number .inf"},
		{"rate: -.inf", "p.yaml:1:7: rate: want a finite number, got the number -.inf"},
		{"rate: 1e999", `p.yaml:1:7: rate: want a finite number, got the text "1e999"`},
		{"seed: -1", "p.yaml:1:7: seed: want a whole number from 0 to 18446744073709551615, got the number -1"},
		{"seed: 1.5", "p.yaml:1:7: seed: want a whole number from 0 to 18446744073709551615, got the number 1.5"},
		{"seed: 18446744073709551616", "p.yaml:1:7: seed: want a whole number from 0 to 18446744073709551615, got the number 18446744073709551616"},
		{"steps: -1", "p.yaml:1:8: steps: want a number at least 0, got -1"},
		{"betas: [0.9, 1]", "p.yaml:1:14: betas: want a number below 1, got 1"},
		{"cells:\n  - {path: a}\n  - {path: b, n: 0}", "p.yaml:3:18: n: want a number at least 1, got 0"},
		// enums
		{"act: rleu", `p.yaml:1:6: act: want one of none, relu, gelu, got the text "rleu" (did you mean relu?)`},
		{"act: tanhh", `p.yaml:1:6: act: want one of none, relu, gelu, got the text "tanhh" (known: gelu, none, relu)`},
		{"act: RELU", `p.yaml:1:6: act: want one of none, relu, gelu, got the text "RELU" (did you mean relu?)`},
		// missing
		{"inner: {n: 1}", "p.yaml:1:8: path is missing (File to read)"},
		{"inner: {path: }", "p.yaml:1:8: path is missing (File to read)"},
		{"inner:\n  path:\n  n: 1", "p.yaml:2:3: path is missing (File to read)"},
		{"plan:", "p.yaml:1:6: path is missing (File to read)"},
		{"plan: {}", "p.yaml:1:7: path is missing (File to read)"},
		{"cells:\n  - {path: a}\n  - n: 1", "p.yaml:3:5: path is missing (File to read)"},
		// anchors
		{"units: &a 3", "p.yaml:1:8: ANCHOR"},
		{"units: &a 3\nsteps: *a", "p.yaml:1:8: ANCHOR\np.yaml:2:8: ANCHOR"},
		{"inner: &a {path: x}\nplan: *a", "p.yaml:1:8: ANCHOR\np.yaml:2:7: ANCHOR"},
		{"*a", "p.yaml:1:1: ANCHOR"},
		{"# x\nunits: *foo", "p.yaml:2:8: ANCHOR"},
		{"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]", "p.yaml:1:4: ANCHOR\np.yaml:2:4: ANCHOR\np.yaml:3:4: ANCHOR"},
		{"units: !!int 3", "p.yaml:1:8: tags are not supported (remove !!int)"},
		{"units: !foo 3", "p.yaml:1:8: tags are not supported (remove !foo)"},
		{"inner: !foo {path: a}", "p.yaml:1:8: tags are not supported (remove !foo)"},
		{"target: !!set {a, b}", "p.yaml:1:9: tags are not supported (remove !!set)"},
		// text
		{"", "p.yaml: the file is empty (vtpu new writes one to start from)"},
		{"# only a comment\n", "p.yaml: the file is empty (vtpu new writes one to start from)"},
		{"inner:\n\tpath: a", "p.yaml:2: not YAML: found character that cannot start any token TABS"},
		{"\tunits: 3", "p.yaml:1: not YAML: found character that cannot start any token TABS"},
		{"@x", "p.yaml:1: not YAML: found character that cannot start any token TABS"},
		{"units: 3\n---\nunits: 4", "p.yaml:2: a second document (one file holds one pipeline; remove the line ---)"},
		{"units: 3\n---\n", "p.yaml:2: a second document (one file holds one pipeline; remove the line ---)"},
		{"---\nunits: 3\n...\n}", "p.yaml:4: not YAML: did not find expected <document start> COLUMN"},
		{"units: 3\n---\n[", "p.yaml:3: not YAML: did not find expected node content COLUMN"},
		{"%YAML 9.9\n---\nunits: 3", "p.yaml:1: not YAML: found incompatible YAML document"},
		{"a: b: c", "p.yaml:1: not YAML: mapping values are not allowed in this context (keys of one map stand in the same column; a text with a colon needs quotes)"},
		{"units: 3\n  steps: 4", "p.yaml:2: not YAML: mapping values are not allowed in this context (keys of one map stand in the same column; a text with a colon needs quotes)"},
		{"units: {", "p.yaml:1: not YAML: did not find expected node content COLUMN"},
		{"units: 3\n]", "p.yaml:2: not YAML: did not find expected key COLUMN"},
		{"text: \"abc\nunits: 3\n", "p.yaml:2: not YAML: found unexpected end of stream (close the quotes)"},
		{"# c\nunits: 1\nsteps: 2\n- x\n", "p.yaml:4: not YAML: did not find expected key COLUMN"},
		{"cells:\n  - {path: a}\n - {path: b}\n", "p.yaml:3: not YAML: did not find expected key COLUMN"},
		{"# a\n\ncells:\n  - path: a\n   n: 3\n", "p.yaml:5: not YAML: did not find expected '-' indicator COLUMN"},
		{"units: 3\ninner: {path: a,\n  n: 2\n", "p.yaml:3: not YAML: did not find expected ',' or '}' COLUMN"},
		{"target: [a\n,b]\ncells: [{path: x\n}]\ndim: [low\n", "p.yaml:5: not YAML: did not find expected ',' or ']' COLUMN"},
		{"units: 1\r\nsteps: 3\r\n- x", "p.yaml:3: not YAML: did not find expected key COLUMN"},
		{"units: \xff", "p.yaml:1:8: byte 0xff is neither text in UTF-8 nor a line break (save the file as UTF-8)"},
		{"units: 3\ntext: ü\x00", "p.yaml:2:8: byte 0x0 is neither text in UTF-8 nor a line break (save the file as UTF-8)"},
		{"\xff\xfea\x00", "p.yaml:1:1: byte 0xff is neither text in UTF-8 nor a line break (save the file as UTF-8)"},
		{"inner: {path: ${P:a}}", `p.yaml:1: not YAML: did not find expected ',' or '}' (between { and } a variable needs quotes: {units: "${UNITS:8}"})`},
		// depth
		{strings.Repeat("[", 66) + strings.Repeat("]", 66), "p.yaml:1:66: nested deeper than 64"},
		// all
		{"zz: 1\nunits: x\nact: q\ninner: {}\nrate: 7\nsteps: 1\ncells: [{n: 0}]", "p.yaml:1:1: unknown key zz KEYS\np.yaml:2:8: units: want a whole number, got the text \"x\"\np.yaml:3:6: act: want one of none, relu, gelu, got the text \"q\" (known: gelu, none, relu)\np.yaml:4:8: path is missing (File to read)\np.yaml:5:7: rate: want a number below 1, got 7\np.yaml:7:9: path is missing (File to read)\np.yaml:7:13: n: want a number at least 1, got 0"},
		{"units: &a 3\ntext: ${NONE}\nsteps: 1\nsteps: 2", "p.yaml:1:8: ANCHOR\np.yaml:2:7: the environment has no variable NONE (set it, or write ${NONE:default})\np.yaml:4:1: key steps stands twice (the first one is in line 3)"},
	} {
		_, err := read(c.src, noEnv)
		if err == nil {
			t.Errorf("%q: no finding, want\n%s", c.src, c.want)
		} else if got := longTexts.Replace(err.Error()); got != c.want {
			t.Errorf("%q:\ngot  %s\nwant %s", c.src, got, c.want)
		}
	}
}

func TestGoodValuesAreRead(t *testing.T) {
	for _, c := range []struct {
		src  string
		want func(*config)
	}{
		{"{}", func(*config) {}},
		{"units:", func(*config) {}},
		{"units: ~\nact: null", func(*config) {}},
		{"units: 4_096", func(c *config) { c.Units = 4096 }},
		{"units: 2e3", func(c *config) { c.Units = 2000 }},
		{"units: 12.0", func(c *config) { c.Units = 12 }},
		{"rate: 1e-3", func(c *config) { c.Rate = 1e-3 }},
		{"act: relu\nbias: true", func(c *config) { c.Act, c.Bias = "relu", true }},
		{"act: 'gelu'\nbias: True", func(c *config) { c.Act, c.Bias = "gelu", true }},
		{"seed: 18446744073709551615\nsteps: 9007199254740993", func(c *config) { c.Seed, c.Steps = 1<<64-1, 1<<53+1 }},
		{"seed: 1e3", func(c *config) { c.Seed = 1000 }},
		{"text: 5\ntarget: price", func(c *config) { c.Text, c.Target = "5", []string{"price"} }},
		{"target: [a, 2]\nbetas: [0.9, 0.99]", func(c *config) { c.Target, c.Betas = []string{"a", "2"}, []float64{0.9, 0.99} }},
		{"target: []", func(c *config) { c.Target = []string{} }},
		{"dim: high", func(c *config) { c.Dim.n = 1 }},
		{"inner: {path: a, n: 2}", func(c *config) { c.Inner = inner{"a", 2} }},
		{"plan: {path: a}", func(c *config) { c.Plan = &inner{Path: "a"} }},
		{"cells: [{path: a}, {path: b, n: 3}]", func(c *config) { c.Cells = []inner{{"a", 0}, {"b", 3}} }},
		{"\ufeff# a comment\r\nunits: 9\r\n", func(c *config) { c.Units = 9 }},
		{"---\nunits: 9\n...\n", func(c *config) { c.Units = 9 }},
		{strings.Repeat("# x\n", maxSize/4-10) + "units: 9", func(c *config) { c.Units = 9 }},
	} {
		want := defaults()
		c.want(&want)
		got, err := read(c.src, noEnv)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.60q: got %+v, %v\nwant %+v", c.src, got, err, want)
		}
	}
}

func TestAnEmptySectionStillWantsItsRequiredKeys(t *testing.T) {
	root, fs := Parse("p.yaml", []byte("data:"), noEnv)
	if fs != nil {
		t.Fatal(fs)
	}
	var c inner
	if err := Decode(root.Get("data"), &c).Err(); err == nil || err.Error() != "p.yaml:1:6: path is missing (File to read)" {
		t.Errorf("got %v", err)
	}
}

func TestAFileThatIsTooLongIsRefused(t *testing.T) {
	_, err := read(strings.Repeat("# x\n", maxSize/4+1), noEnv)
	if err == nil || !strings.Contains(err.Error(), "a pipeline has at most 1048576") {
		t.Errorf("got %v", err)
	}
}

// Aliases that refer to aliases grow to 10^9 elements if anybody follows them; nesting wants a stack.
func TestBombsEndSoon(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("a0: &a0 [x, x]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&laughs, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 8), ", "))
	}
	for name, src := range map[string]string{
		"aliases":         laughs.String(),
		"lists":           strings.Repeat("[", 9000),
		"closed lists":    strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"maps":            strings.Repeat("{a: ", 9000),
		"dashes":          strings.Repeat("- ", 9000),
		"questions":       strings.Repeat("? ", 9000),
		"a long key":      strings.Repeat("k", maxSize/2) + ": 1",
		"many keys":       strings.Repeat("a: 1\n", 20000),
		"many lines":      strings.Repeat("units: 3\n", 20000) + "- x",
		"many variables":  "text: " + strings.Repeat("${NONE}", 20000),
		"a growing value": "text: " + strings.Repeat("${INNER}", 20000),
	} {
		begin := time.Now()
		_, err := read(src, env)
		if d := time.Since(begin); d > 20*time.Second {
			t.Errorf("%s took %v", name, d)
		}
		if err == nil && name != "a growing value" {
			t.Errorf("%s: no finding", name)
		}
	}
}

func TestFindingsOfAllKindsComeTogetherInOrder(t *testing.T) {
	_, err := read("steps: -1\ninner:\n  n: 0\n  pth: x\nunits: 0\nbias: 7\nfoo: 1\nact: x\n", noEnv)
	var fs stages.Findings
	if !errors.As(err, &fs) {
		t.Fatalf("got %v", err)
	}
	var at []int
	for _, f := range fs {
		at = append(at, 100*f.Line+f.Col)
	}
	if want := []int{108, 303, 306, 403, 508, 607, 701, 806}; !slices.Equal(at, want) {
		t.Errorf("places %v, want %v\n%v", at, want, err)
	}
	if stages.ExitCode(err) != stages.ExitUser {
		t.Errorf("exit code %d", stages.ExitCode(err))
	}
}

func TestVariables(t *testing.T) {
	for _, c := range []struct {
		src  string
		want func(*config)
	}{
		{"units: ${N}", func(c *config) { c.Units = 12 }},
		{"units: ${N:5}", func(c *config) { c.Units = 12 }},
		{"units: ${NONE:5}", func(c *config) { c.Units = 5 }},
		{"units: ${NONE:}", func(*config) {}},
		{"units: ${EMPTY}", func(*config) {}},
		{"units: ${EMPTY:5}", func(*config) {}}, // it is set, to nothing
		{"units: 1${N}", func(c *config) { c.Units = 112 }},
		{"rate: ${RATE}", func(c *config) { c.Rate = 0.2 }},
		{"bias: ${YES}", func(c *config) { c.Bias = true }},
		{"act: ${WORD}", func(c *config) { c.Act = "relu" }},
		{`inner: {path: "${WORD}", n: "${N}"}`, func(c *config) { c.Inner = inner{"relu", 12} }},
		{`{rate: "${RATE}", bias: '${NONE:true}'}`, func(c *config) { c.Rate, c.Bias = 0.2, true }},
		{"text: a ${WORD} b ${N}", func(c *config) { c.Text = "a relu b 12" }},
		{"text: $${N} $${", func(c *config) { c.Text = "${N} ${" }},
		{`text: "${EMPTY}"`, func(c *config) { c.Text = "" }},
		{"text: ${NONE:a:b c}", func(c *config) { c.Text = "a:b c" }},
		{"text: ${INNER}", func(c *config) { c.Text = "${N}" }}, // what comes in is not looked at again
		{"text: ${HASH}", func(c *config) { c.Text = "# x" }},   // nor is it YAML
		{"target: ${LIST}", func(c *config) { c.Target = []string{"[1, 2]"} }},
		{"text: $N {N} $ {N}", func(c *config) { c.Text = "$N {N} $ {N}" }},
	} {
		want := defaults()
		c.want(&want)
		got, err := read(c.src, env)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v\nwant %+v", c.src, got, err, want)
		}
	}
	for _, c := range []struct{ src, want string }{
		{"units: ${NONE}", "p.yaml:1:8: the environment has no variable NONE (set it, or write ${NONE:default})"},
		{"text: x\ntarget: [a, '${NONE}']", "p.yaml:2:13: the environment has no variable NONE (set it, or write ${NONE:default})"},
		{"units: ${WORD}", `p.yaml:1:8: units: want a whole number, got the text "relu"`},
		{`units: "${WORD}"`, `p.yaml:1:8: units: want a whole number, got the text "relu"`},
		{`units: "1${N}"`, `p.yaml:1:8: units: want a whole number, got the text "112"`},
		{"units: ${N", "p.yaml:1:8: ${ begins no variable (write ${NAME} or ${NAME:default}; a plain ${ is $${)"},
		{"text: a ${1} ${}", "p.yaml:1:7: ${ begins no variable (write ${NAME} or ${NAME:default}; a plain ${ is $${)\n" +
			"p.yaml:1:7: ${ begins no variable (write ${NAME} or ${NAME:default}; a plain ${ is $${)"},
		{"${WORD}: 1", "p.yaml:1:1: unknown key ${WORD} KEYS"}, // a key is never a variable
	} {
		if _, err := read(c.src, env); err == nil || longTexts.Replace(err.Error()) != c.want {
			t.Errorf("%q:\ngot  %v\nwant %s", c.src, err, c.want)
		}
	}
}

func TestSuggest(t *testing.T) {
	all := []string{"units", "act", "bias", "steps"}
	for word, want := range map[string]string{
		"unit": "did you mean units?", "untis": "did you mean units?", "UNITS": "did you mean units?", "bas": "did you mean bias?",
		"zebra": "known: act, bias, steps, units", "": "known: act, bias, steps, units", strings.Repeat("u", 100): "known: act, bias, steps, units",
	} {
		if got := Suggest(word, all); got != want {
			t.Errorf("%.10q: %s, want %s", word, got, want)
		}
	}
	if a, b := Suggest("ax", []string{"ay", "az"}), Suggest("ax", []string{"az", "ay"}); a != b {
		t.Errorf("the order of the names decides: %s, %s", a, b)
	}
	if got := Suggest("x", nil); got != "" {
		t.Errorf("without names: %q", got)
	}
	if !slices.Equal(all, []string{"units", "act", "bias", "steps"}) {
		t.Errorf("the caller's names are sorted now: %v", all)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"units: 3\n", "inner: {path: a}\ncells:\n  - {path: x, n: 2}\n", "text: ${N} $${ ${NONE:d} ${X", "a: &a [*a]\n", "? [x]\n: !!set {a}\n",
		"---\n---\n", "{units: \"${N}\"", "target: [a, ~]\nbetas: [.inf, 1e400]\n", "\tx", "# x\n- a\n b: 3\n", "%TAG ! tag:x\n---\n!y z", "|\n a\n", "<<: *x\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		begin := time.Now()
		_, err := read(src, env)
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
		lines := 1 // YAML has more kinds of line breaks than most
		for _, r := range src {
			if strings.ContainsRune("\n\r\u0085\u2028\u2029", r) {
				lines++
			}
		}
		var fs stages.Findings
		if err != nil && !errors.As(err, &fs) {
			t.Fatalf("error of another kind: %v", err)
		}
		for _, f := range fs {
			if f.File != "p.yaml" || f.Msg == "" || f.Line < 0 || f.Line > lines || f.Col < 0 || f.Col > len(src)+1 {
				t.Errorf("finding %+v in a text of %d lines", f, lines)
			}
		}
	})
}
