package gather

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vtpu/stages"
)

// JSONLConfig is what a user may write under data with source jsonl.
type JSONLConfig struct {
	Path        string   `yaml:"path" required:"true" doc:"File with one JSON object a line."`
	Target      []string `yaml:"target" doc:"Fields to predict: numbers, or one field of categories."`
	Columns     []string `yaml:"columns" doc:"Fields to use; all fields of the first object if left out. A field that is a list of numbers becomes name.0, name.1, ..."`
	Categorical []string `yaml:"categorical" doc:"Fields to read as categories although they look like numbers."`
	Normalize   string   `yaml:"normalize" enum:"none|standard|minmax" doc:"Scale each numeric field over all rows: to mean 0 and deviation 1, or to 0..1."`
}

func init() {
	stages.MustRegisterSource(stages.SourceSpec[JSONLConfig]{
		Name: "jsonl", Summary: "One JSON object a line, read as csv is: numbers become x, texts cats (ids in sorted order), the target y.",
		Example: "data: {source: jsonl, path: clicks.jsonl, target: [clicked]}",
		Default: func() JSONLConfig { return JSONLConfig{Normalize: "none"} },
		Load: func(env stages.LoadEnv, c JSONLConfig) (*stages.Dataset, error) {
			b, err := env.ReadFile(c.Path)
			if err != nil {
				return nil, err
			}
			return parseJSONL(env.Path(c.Path), b, c)
		},
	})
}

func parseJSONL(file string, b []byte, c JSONLConfig) (*stages.Dataset, error) {
	rec := &records{file: file}
	var index map[string]int
	sc := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))))
	sc.Buffer(nil, len(b)+1)
	for line := 1; sc.Scan(); line++ {
		text := bytes.TrimSpace(sc.Bytes())
		if len(text) == 0 {
			continue
		}
		fault := func(format string, args ...any) error {
			return stages.Finding{File: file, Line: line, Msg: fmt.Sprintf(format, args...)}
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(text, &raw); err != nil || raw == nil {
			return nil, fault("not a JSON object: %v", err)
		}
		row := map[string]string{}
		for _, k := range slices.Sorted(maps.Keys(raw)) {
			if err := flattenJSON(row, k, raw[k]); err != nil {
				return nil, fault("field %q: %v", k, err)
			}
		}
		if index == nil {
			index = map[string]int{}
			for k := range row {
				rec.names = append(rec.names, k)
			}
			slices.SortFunc(rec.names, naturally)
			for i, n := range rec.names {
				index[n] = i
			}
			rec.cells = make([][]string, len(rec.names))
		}
		if len(row) != len(rec.names) {
			return nil, fault("the object has %d values, the first one has %d", len(row), len(rec.names))
		}
		for i, k := range rec.names {
			s, ok := row[k]
			if !ok {
				return nil, fault("the object lacks the value %q, which the first one has", k)
			}
			rec.cells[i] = append(rec.cells[i], s)
		}
		rec.lines = append(rec.lines, line)
	}
	if index == nil {
		return nil, stages.Finding{File: file, Msg: "the file has no objects"}
	}
	target := elements(c.Target, index)
	if err := rec.keep(elements(c.Columns, index), target); err != nil {
		return nil, err
	}
	return rec.dataset(target, elements(c.Categorical, index), c.Normalize)
}

// elements writes the elements x.0, x.1, ... in place of a list x.
func elements(names []string, index map[string]int) []string {
	var out []string
	for _, n := range names {
		at := len(out)
		if _, ok := index[n]; !ok {
			for k := 0; ; k++ {
				e := n + "." + strconv.Itoa(k)
				if _, ok := index[e]; !ok {
					break
				}
				out = append(out, e)
			}
		}
		if len(out) == at {
			out = append(out, n)
		}
	}
	return out
}

// flattenJSON writes a value, or each element of a list, as text.
func flattenJSON(row map[string]string, name string, raw json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return err
	}
	set := func(name, text string) error {
		if _, twice := row[name]; twice {
			return fmt.Errorf("the value %q is given twice", name)
		}
		row[name] = text
		return nil
	}
	switch x := v.(type) {
	case json.Number:
		return set(name, x.String())
	case string:
		return set(name, x)
	case bool:
		if x {
			return set(name, "1")
		}
		return set(name, "0")
	case []any:
		for i, e := range x {
			n, ok := e.(json.Number)
			if !ok {
				return fmt.Errorf("element %d of the list is not a number", i+1)
			}
			if err := set(name+"."+strconv.Itoa(i), n.String()); err != nil {
				return err
			}
		}
	case nil:
		return fmt.Errorf("is null")
	default:
		return fmt.Errorf("is an object, want a number, a text, true, false or a list of numbers")
	}
	return nil
}

// naturally orders x.2 before x.10.
func naturally(a, b string) int {
	pa, na := stem(a)
	pb, nb := stem(b)
	return cmp.Or(strings.Compare(pa, pb), cmp.Compare(na, nb), strings.Compare(a, b))
}

func stem(s string) (string, int) {
	for i := len(s) - 1; i > 0; i-- {
		if s[i] == '.' {
			if n, err := strconv.Atoi(s[i+1:]); err == nil && n >= 0 {
				return s[:i], n
			}
			break
		}
	}
	return s, -1
}
