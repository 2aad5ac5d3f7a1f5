package gather

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"vtpu/stages"
)

// CSVConfig is what a user may write under data with source csv.
type CSVConfig struct {
	Path        string   `yaml:"path" required:"true" doc:"File with a header line."`
	Target      []string `yaml:"target" doc:"Columns to predict: numbers, or one column of categories."`
	Columns     []string `yaml:"columns" doc:"Columns to use; all if left out."`
	Categorical []string `yaml:"categorical" doc:"Columns to read as categories although they look like numbers."`
	Normalize   string   `yaml:"normalize" enum:"none|standard|minmax" doc:"Scale each numeric column over all rows: to mean 0 and deviation 1, or to 0..1."`
	Delimiter   string   `yaml:"delimiter" doc:"One character between cells."`
}

func init() {
	stages.MustRegisterSource(stages.SourceSpec[CSVConfig]{
		Name: "csv", Summary: "Table with a header: numeric columns become x, the others cats (ids in sorted order), the target y.",
		Example: "data: {source: csv, path: houses.csv, target: [price], normalize: standard}",
		Default: func() CSVConfig { return CSVConfig{Normalize: "none", Delimiter: ","} },
		Load: func(env stages.LoadEnv, c CSVConfig) (*stages.Dataset, error) {
			b, err := env.ReadFile(c.Path)
			if err != nil {
				return nil, err
			}
			return parseCSV(env.Path(c.Path), b, c)
		},
	})
}

func parseCSV(file string, b []byte, c CSVConfig) (*stages.Dataset, error) {
	d, n := utf8.DecodeRuneInString(c.Delimiter)
	if n == 0 || n != len(c.Delimiter) || d == '"' || d == '\r' || d == '\n' || d == utf8.RuneError {
		return nil, stages.Finding{File: file, Msg: "delimiter: want one character other than a quote", Fix: `delimiter: ";"`}
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))))
	r.Comma, r.TrimLeadingSpace, r.ReuseRecord = d, !unicode.IsSpace(d), true
	rec := &records{file: file}
	for {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		var pe *csv.ParseError
		if errors.As(err, &pe) {
			msg := pe.Err.Error()
			if errors.Is(pe.Err, csv.ErrFieldCount) {
				msg = "the row has another number of cells than the header"
			}
			return nil, stages.Finding{File: file, Line: pe.Line, Col: pe.Column, Msg: msg}
		}
		if err != nil {
			return nil, stages.Finding{File: file, Msg: err.Error()}
		}
		if rec.names == nil {
			for _, s := range row {
				rec.names = append(rec.names, strings.TrimSpace(strings.Clone(s)))
			}
			rec.cells = make([][]string, len(row))
			continue
		}
		line, _ := r.FieldPos(0)
		rec.lines = append(rec.lines, line)
		for i, s := range row {
			rec.cells[i] = append(rec.cells[i], strings.TrimSpace(strings.Clone(s)))
		}
	}
	if rec.names == nil {
		return nil, stages.Finding{File: file, Msg: "the file is empty", Fix: "the first line names the columns"}
	}
	if err := rec.keep(c.Columns, c.Target); err != nil {
		return nil, err
	}
	return rec.dataset(c.Target, c.Categorical, c.Normalize)
}

// keep drops the columns that are neither named nor a target.
func (r *records) keep(columns, target []string) error {
	if len(columns) == 0 {
		return nil
	}
	var names []string
	var cells [][]string
	for _, list := range [][]string{columns, target} {
		for _, want := range list {
			at := slices.Index(r.names, want)
			if at < 0 {
				return r.missing(want)
			}
			if !slices.Contains(names, want) {
				names, cells = append(names, want), append(cells, r.cells[at])
			}
		}
	}
	r.names, r.cells = names, cells
	return nil
}
