package stages

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vtpu/stages/tensor"
)

func TestSplitBy(t *testing.T) {
	table := &Dataset{Table: &Table{N: 100}}
	docs := &Dataset{Text: &Text{Tokens: make([]int32, 500), Docs: make([]int, 101)}}
	for i := range docs.Text.Docs {
		docs.Text.Docs[i] = 5 * i
	}
	for name, d := range map[string]*Dataset{"rows": table, "documents": docs} {
		d.SplitBy(0.8, 7)
		train, valid := slices.Clone(d.Train.Rows), slices.Clone(d.Valid.Rows)
		if d.Train.Len() != 80 || d.Valid.Len() != 20 || len(train) != 80 || len(valid) != 20 {
			t.Errorf("%s: %d and %d, want 80 and 20", name, d.Train.Len(), d.Valid.Len())
		}
		all := slices.Sorted(slices.Values(slices.Concat(train, valid)))
		for i, r := range all {
			if int(r) != i {
				t.Errorf("%s: row %d is missing or there twice", name, i)
				break
			}
		}
		if slices.IsSorted(train) {
			t.Errorf("%s are not permuted", name)
		}
		if cap(d.Train.Rows) != 80 {
			t.Errorf("%s: appending to the training rows would change the others", name)
		}
		d.SplitBy(0.8, 7)
		if !slices.Equal(d.Train.Rows, train) || !slices.Equal(d.Valid.Rows, valid) {
			t.Errorf("%s: the same seed gives another split", name)
		}
		d.SplitBy(0.8, 8)
		if slices.Equal(d.Train.Rows, train) {
			t.Errorf("%s: another seed gives the same split", name)
		}
		d.SplitBy(1, 7)
		if d.Train.Len() != 100 || d.Valid.Len() != 0 || !slices.IsSorted(d.Train.Rows) {
			t.Errorf("%s: everything is for training, in order: %d and %d", name, d.Train.Len(), d.Valid.Len())
		}
	}

	text := &Dataset{Text: &Text{Tokens: make([]int32, 50)}}
	for _, x := range []struct {
		train float64
		k     int
	}{{0.9, 45}, {0.5, 25}, {1, 50}} {
		text.SplitBy(x.train, 7)
		if text.Train.Lo != 0 || text.Train.Hi != x.k || text.Valid.Lo != x.k || text.Valid.Hi != 50 ||
			text.Train.Len() != x.k || text.Valid.Len() != 50-x.k {
			t.Errorf("%v of a running text: %+v and %+v", x.train, text.Train, text.Valid)
		}
	}

	empty := &Dataset{Table: &Table{}}
	empty.SplitBy(0.5, 1)
	if empty.Train.Len() != 0 || empty.Valid.Len() != 0 {
		t.Error("there is nothing to split")
	}
}

func TestEncode(t *testing.T) {
	x := &Text{Vocab: []string{"a", "é", "世", "."}, BOS: 3}
	for _, c := range []struct {
		s    string
		want []int32
		err  string
	}{
		{"", []int32{}, ""},
		{"aé世a", []int32{0, 1, 2, 0}, ""},
		{"éb", nil, `character "b" (byte 3) is not in the vocabulary of 4`},
		{"a.", nil, `character "." (byte 2) is not in the vocabulary of 4`}, // it stands for the ends of a document
		{"a\xff", nil, `character "\xff" (byte 2) is not in the vocabulary of 4`},
	} {
		got, err := x.Encode(c.s)
		if text(err) != c.err || !slices.Equal(got, c.want) {
			t.Errorf("%q gives %v, %v; want %v, %q", c.s, got, err, c.want, c.err)
		}
	}
	x.BOS = -1
	if got, err := x.Encode("."); err != nil || !slices.Equal(got, []int32{3}) {
		t.Errorf("without a token for the ends: %v, %v", got, err)
	}
}

func TestColumn(t *testing.T) {
	tab := &Table{N: 1, Cols: []Column{{Name: "x"}, {Name: "y", DType: tensor.I32}}}
	if c := tab.Col("y"); c != &tab.Cols[1] || tab.Col("z") != nil {
		t.Error("columns are found by name")
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "own.csv"), []byte("own"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := LoadEnv{Dir: dir, Embedded: func(p string) ([]byte, error) {
		if p == "own.csv" || p == "preset.csv" {
			return []byte("embedded"), nil
		}
		return nil, fs.ErrNotExist
	}}
	for _, x := range []struct{ path, want string }{{"own.csv", "own"}, {filepath.Join(dir, "own.csv"), "own"}, {"preset.csv", "embedded"}} {
		if b, err := e.ReadFile(x.path); err != nil || string(b) != x.want {
			t.Errorf("%s: %q, %v", x.path, b, err)
		}
	}
	var f Finding
	for _, env := range []LoadEnv{e, {Dir: dir}} {
		_, err := env.ReadFile("none.csv")
		if !errors.As(err, &f) || f.File != filepath.Join(dir, "none.csv") || f.Msg != "no such file" || ExitCode(err) != ExitUser {
			t.Errorf("a file that is not there: %v", err)
		}
	}
	if _, err := e.ReadFile("."); !errors.As(err, &f) {
		t.Errorf("a directory is the user's mistake: %v", err)
	}
	if p := (LoadEnv{}).Path("a/b"); p != "a/b" {
		t.Errorf("without a directory the path is %s", p)
	}
}
