package gather

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

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
	sc := bufio.NewScanner(bytes.NewReader(b))
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
		for k, v := range raw {
			if err := flattenJSON(row, k, v); err != nil {
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
		for k, s := range row {
			i, ok := index[k]
			if !ok {
				return nil, fault("the first object has no field %q", k)
			}
			rec.cells[i] = append(rec.cells[i], s)
		}
		rec.lines = append(rec.lines, line)
	}
	if index == nil {
		return nil, stages.Finding{File: file, Msg: "the file has no objects"}
	}
	columns := slices.Clone(c.Columns)
	for i := 0; i < len(columns); i++ { // a list stands for its elements
		if _, ok := index[columns[i]]; ok {
			continue
		}
		var parts []string
		for k := 0; ; k++ {
			name := columns[i] + "." + strconv.Itoa(k)
			if _, ok := index[name]; !ok {
				break
			}
			parts = append(parts, name)
		}
		if len(parts) > 0 {
			columns = slices.Replace(columns, i, i+1, parts...)
			i += len(parts) - 1
		}
	}
	if err := rec.keep(columns, c.Target); err != nil {
		return nil, err
	}
	return rec.dataset(c.Target, c.Categorical, c.Normalize)
}

// flattenJSON writes a value, or each element of a list, as text.
func flattenJSON(row map[string]string, name string, raw json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return err
	}
	switch x := v.(type) {
	case json.Number:
		row[name] = x.String()
	case string:
		row[name] = x
	case bool:
		row[name] = "0"
		if x {
			row[name] = "1"
		}
	case []any:
		for i, e := range x {
			n, ok := e.(json.Number)
			if !ok {
				return fmt.Errorf("element %d of the list is not a number", i+1)
			}
			row[name+"."+strconv.Itoa(i)] = n.String()
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
	switch {
	case pa == pb && na >= 0 && nb >= 0:
		return na - nb
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
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
