package stages

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf8"

	"vtpu/stages/rng"
	"vtpu/stages/tensor"
)

// LoadEnv is what a data source gets.
type LoadEnv struct {
	Seed uint64
	Dir  string // directory that relative paths start from; "" is the working directory
	// Embedded reads a file that the program carries, for presets; nil or an error where there is none.
	Embedded func(path string) ([]byte, error)
}

// Path resolves a path of the user's.
func (e LoadEnv) Path(p string) string {
	if e.Dir == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(e.Dir, p)
}

// ReadFile reads a file of the user's, or the embedded one of that name where no such file exists. A missing file is a Finding.
func (e LoadEnv) ReadFile(p string) ([]byte, error) {
	b, err := os.ReadFile(e.Path(p))
	if err == nil {
		return b, nil
	}
	if e.Embedded != nil {
		if b, err := e.Embedded(p); err == nil {
			return b, nil
		}
	}
	return nil, fileFinding(e.Path(p), err)
}

func fileFinding(path string, err error) error {
	switch {
	case os.IsNotExist(err):
		return Finding{File: path, Msg: "no such file", Fix: "paths are relative to the directory of the pipeline file"}
	case os.IsPermission(err):
		return Finding{File: path, Msg: "no permission to read it"}
	}
	return Finding{File: path, Msg: err.Error()}
}

// Column is one column of a table: N rows of the same shape.
type Column struct {
	Name  string
	DType tensor.DType
	Shape tensor.Shape // of one row; rank 0 is a scalar
	F32   []float32    // N*Shape.Len() where DType is F32
	I32   []int32      // N*Shape.Len() where DType is I32
	Max   int          // I32: largest id + 1, the number of classes or rows that it may address
}

// Table is data with N independent rows.
type Table struct {
	N    int
	Cols []Column
}

// Col finds a column by name, or nil.
func (t *Table) Col(name string) *Column {
	for i := range t.Cols {
		if t.Cols[i].Name == name {
			return &t.Cols[i]
		}
	}
	return nil
}

// Text is data with an order: tokens, perhaps cut into documents.
type Text struct {
	Tokens []int32
	Docs   []int    // starts of the documents, and the end of the last one; nil for one running text
	Vocab  []string // text of each token
	BOS    int32    // token that opens and closes a document, or -1

	// Tokenize turns a text into tokens; nil: each character is one.
	Tokenize func(string) ([]int32, error)
}

// Encode turns s into tokens. A character outside of the vocabulary is an error that names it and its place.
func (t *Text) Encode(s string) ([]int32, error) {
	if t.Tokenize != nil {
		return t.Tokenize(s)
	}
	index := make(map[string]int32, len(t.Vocab))
	for i, v := range t.Vocab {
		if int32(i) != t.BOS {
			index[v] = int32(i)
		}
	}
	out := make([]int32, 0, len(s))
	for i := 0; i < len(s); {
		_, n := utf8.DecodeRuneInString(s[i:])
		id, ok := index[s[i:i+n]]
		if !ok {
			return nil, fmt.Errorf("character %q (byte %d) is not in the vocabulary of %d", s[i:i+n], i+1, len(t.Vocab))
		}
		out = append(out, id)
		i += n
	}
	return out, nil
}

// Split is a part of the data: rows of a table, documents of a text, or a range of a running text.
type Split struct {
	Rows   []int32 // table: row numbers; text with documents: document numbers
	Lo, Hi int     // running text: tokens Lo..Hi-1
}

// Len is the number of rows, documents or tokens.
func (s Split) Len() int {
	if s.Rows != nil {
		return len(s.Rows)
	}
	return s.Hi - s.Lo
}

// Stream is a recorded stream: the steps First to Next-1.
type Stream struct {
	Dir         string
	First, Next int64
	Seed        uint64 // of the run that recorded it: its weights began with it
}

// Live is data that comes while the run goes on.
type Live struct {
	Subject string   // where it comes from
	Cols    []Column // of an example: name, type, shape and largest id; no rows
	Feed    Feed     // nil until a run opens it
}

// A Feed gives the examples of a live source in their order, which is kept: example i is the same in every run that goes on from this one.
type Feed interface {
	// Example waits until example i, from 0, has come. It gives one tensor for each column, valid until the next call.
	Example(ctx context.Context, i int64) ([]tensor.Tensor, error)
}

// Dataset is what a source loads: a table, a text, a recorded stream or a live source, split for training and validation.
type Dataset struct {
	Live   *Live
	Table  *Table
	Text   *Text
	Stream *Stream
	Online Online // the rows of Table come one after another; N is 0
	Train  Split
	Valid  Split          // may be empty
	Facts  map[string]int // numbers that a pipeline may name: vocab, features, classes, rows
	Check  string         // SHA-256 of the content, hex: a resumed run must find the same data
}

// SplitBy cuts the data: a share of about train for training, the rest for validation. Rows and documents are permuted by the seed, a running text is
// cut once. train = 1 keeps everything for training.
func (d *Dataset) SplitBy(train float64, seed uint64) {
	n := 0
	switch {
	case d.Live != nil:
		return
	case d.Online != nil:
		d.Train, d.Valid = Split{Lo: 0, Hi: 1<<31 - 1}, Split{}
		return
	case d.Stream != nil: // all of it, in its order
		d.Train, d.Valid = Split{Lo: 0, Hi: int(d.Stream.Next - d.Stream.First)}, Split{}
		return
	case d.Table != nil:
		n = d.Table.N
	case d.Text != nil && d.Text.Docs != nil:
		n = len(d.Text.Docs) - 1
	case d.Text != nil:
		n = len(d.Text.Tokens)
		k := int(float64(n) * train)
		d.Train, d.Valid = Split{Lo: 0, Hi: k}, Split{Lo: k, Hi: n}
		return
	}
	rows := make([]int32, n)
	if train >= 1 {
		for i := range rows {
			rows[i] = int32(i)
		}
		d.Train, d.Valid = Split{Rows: rows}, Split{}
		return
	}
	rng.Named(seed, "split").Perm(rows, 0)
	k := int(float64(n) * train)
	d.Train, d.Valid = Split{Rows: rows[:k:k]}, Split{Rows: rows[k:]}
}
