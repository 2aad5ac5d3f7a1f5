package gather

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/tensorfile"
)

func csvWith(f func(*CSVConfig)) CSVConfig {
	c := CSVConfig{Path: "t.csv", Normalize: "none", Delimiter: ","}
	if f != nil {
		f(&c)
	}
	return c
}

// describe writes the columns and facts of a table.
func describe(d *stages.Dataset) string {
	s := ""
	for _, c := range d.Table.Cols {
		s += fmt.Sprintf("%s%v=%v%v/%d ", c.Name, c.Shape, c.F32, c.I32, c.Max)
	}
	return s + fmt.Sprint(d.Facts)
}

const houses = "rooms, city ,price,area,kind\n3,Rome,100,70.5,flat\n4,Bern,250,90,house\n\n2,Rome,80,50,flat\n"

func TestCSV(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		cfg              func(*CSVConfig)
	}{
		{"numbers and categories", houses,
			"x(2)=[3 70.5 4 90 2 50][]/0 cats(2)=[][1 2 0 3 1 2]/4 y(1)=[100 250 80][]/0 map[cat_rows:4 features:2 outputs:1 rows:3]",
			func(c *CSVConfig) { c.Target = []string{"price"} }},
		{"a class", houses, "x(3)=[3 100 70.5 4 250 90 2 80 50][]/0 cats(1)=[][1 0 1]/2 y()=[][0 1 0]/2 map[cat_rows:2 classes:2 features:3 rows:3]",
			func(c *CSVConfig) { c.Target = []string{"kind"} }},
		{"columns, two targets", houses, "x(1)=[70.5 90 50][]/0 y(2)=[3 100 4 250 2 80][]/0 map[features:1 outputs:2 rows:3]",
			func(c *CSVConfig) { c.Columns, c.Target = []string{"area"}, []string{"rooms", "price"} }},
		{"numbers as categories, by value", "a,y\n10,1\n9,2\nx,3\n10,4\n", "cats(1)=[][1 0 2 1]/3 y(1)=[1 2 3 4][]/0 map[cat_rows:3 outputs:1 rows:4]",
			func(c *CSVConfig) { c.Target, c.Categorical = []string{"y"}, []string{"a"} }},
		{"a word nan among words", "a,b\nnan,1\nMia,2\n", "x(1)=[1 2][]/0 cats(1)=[][1 0]/2 map[cat_rows:2 features:1 rows:2]", nil},
		{"quotes, mark of byte order, carriage returns", "\xef\xbb\xbfa,\"b\"\"c\"\r\n\"1,5\",2\r\n\"x\ny\",3\r\n",
			"x(1)=[2 3][]/0 cats(1)=[][0 1]/2 map[cat_rows:2 features:1 rows:2]", nil},
		{"tabs", "a\tb\n1\t2\n", "x(2)=[1 2][]/0 map[features:2 rows:1]", func(c *CSVConfig) { c.Delimiter = "\t" }},
		{"minmax", "a,b\n1,5\n3,5\n2,5\n", "x(2)=[0 0 1 0 0.5 0][]/0 map[features:2 rows:3]", func(c *CSVConfig) { c.Normalize = "minmax" }},
		{"standard", "a\n1\n3\n", "x(1)=[-1 1][]/0 map[features:1 rows:2]", func(c *CSVConfig) { c.Normalize = "standard" }},
		{"targets keep their scale", "a,y\n1,5\n3,9\n", "x(1)=[-1 1][]/0 y(1)=[5 9][]/0 map[features:1 outputs:1 rows:2]",
			func(c *CSVConfig) { c.Normalize, c.Target = "standard", []string{"y"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := parseCSV("t.csv", []byte(c.text), csvWith(c.cfg))
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(d); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// The numbering of categories does not depend on the order of the rows.
func TestCategoriesAreSorted(t *testing.T) {
	ids := func(text string) map[string]int32 {
		d, err := parseCSV("t.csv", []byte("a,k\n"+text), csvWith(func(c *CSVConfig) { c.Target = []string{"k"} }))
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]int32{}
		for i, line := range strings.Fields(text) {
			m[line[2:]] = d.Table.Col("y").I32[i]
		}
		return m
	}
	a, b := ids("1,pear\n2,apple\n3,fig\n4,apple\n"), ids("4,apple\n3,fig\n2,apple\n1,pear\n")
	if fmt.Sprint(a) != "map[apple:0 fig:1 pear:2]" || fmt.Sprint(b) != fmt.Sprint(a) {
		t.Errorf("categories %v and %v", a, b)
	}
}

func TestCSVFindings(t *testing.T) {
	sixGood := "age,y\n1,1\n2,1\n3,1\n4,1\n5,1\n6,1\n"
	many := "age\n1\n" + strings.Repeat("x\n", 30)
	for _, c := range []struct {
		name, text string
		cfg        func(*CSVConfig)
		want       []string // one for each finding
	}{
		{"bad cell in row 7", sixGood + "abc,1\n8,1\n", nil, []string{`t.csv:8: row 7, column "age": "abc" is not a number (`}},
		{"after a blank line and a quoted break", "age,n\n1,\"a\nb\"\n\nabc,c\n", nil, []string{`t.csv:5: row 2, column "age": "abc"`}},
		{"NaN", sixGood + "NaN,1\n", nil, []string{`t.csv:8: row 7, column "age": "NaN" is not a finite float32`}},
		{"Inf", sixGood + "-inf,1\n", nil, []string{`t.csv:8: row 7, column "age": "-inf" is not a finite float32`}},
		{"nothing but NaN", "a\nnan\n", nil, []string{`t.csv:2: row 1, column "a": "nan" is not a finite float32`}},
		{"too large", sixGood + "1e39,1\n", nil, []string{`t.csv:8: row 7, column "age": "1e39" is not a finite float32`}},
		{"in the target", sixGood + "1,no\n", func(c *CSVConfig) { c.Target = []string{"y"} }, []string{`t.csv:8: row 7, column "y": "no" is not a number`}},
		{"empty cell", sixGood + ",1\n", nil, []string{`t.csv:8: row 7, column "age": the cell is empty`}},
		{"two at once", "a,b\n1,2\nx,2\n1,y\n", nil, []string{`t.csv:3: row 2, column "a"`, `t.csv:4: row 3, column "b"`}},
		{"ten at most", many, nil, slices.Repeat([]string{"is not a number"}, 10)},
		{"missing cell", "a,b\n1,2\n3\n", nil, []string{"t.csv:3:1: the row has another number of cells than the header"}},
		{"open quote", "a,b\n1,\"2\n", nil, []string{"t.csv:2:"}},
		{"no such target", "a,b\n1,2\n", func(c *CSVConfig) { c.Target = []string{"z"} }, []string{`t.csv:1: there is no column "z" (the columns are ["a" "b"])`}},
		{"no such column", "a,b\n1,2\n", func(c *CSVConfig) { c.Columns = []string{"z"} }, []string{`there is no column "z"`}},
		{"no such category", "a,b\n1,2\n", func(c *CSVConfig) { c.Categorical = []string{"z"} }, []string{`there is no column "z"`}},
		{"name twice", "a,a\n1,2\n", nil, []string{`t.csv:1: column "a" stands twice`}},
		{"empty", "", nil, []string{"t.csv: the file is empty"}},
		{"header alone", "a,b\n", nil, []string{"t.csv: there are no rows"}},
		{"delimiter", "a\n1\n", func(c *CSVConfig) { c.Delimiter = ",," }, []string{"delimiter: want one character"}},
		{"mixed targets", houses, func(c *CSVConfig) { c.Target = []string{"price", "kind"} }, []string{"several targets, one of them a category"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := parseCSV("t.csv", []byte(c.text), csvWith(c.cfg))
			checkFindings(t, d, err, c.want)
		})
	}
}

func checkFindings(t *testing.T, d *stages.Dataset, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, but %+v", d)
	}
	if stages.ExitCode(err) != stages.ExitUser {
		t.Errorf("exit code %d of %v", stages.ExitCode(err), err)
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d findings, want %d: %v", len(got), len(want), err)
	}
	for i, w := range want {
		if !strings.Contains(got[i], w) {
			t.Errorf("finding %s\nwant one with %s", got[i], w)
		}
	}
}

func TestJSONL(t *testing.T) {
	const text = "\xef\xbb\xbf{\"v\":[1,2,3],\"ok\":true,\"who\":\"eve\",\"y\":1}\n\n{\"y\":0,\"who\":\"adam\",\"v\":[4,5,6e0],\"ok\":false}"
	for _, c := range []struct {
		want string
		cfg  JSONLConfig
	}{
		{"x(4)=[1 1 2 3 0 4 5 6][]/0 cats(1)=[][1 0]/2 y(1)=[1 0][]/0 map[cat_rows:2 features:4 outputs:1 rows:2]", JSONLConfig{Target: []string{"y"}}},
		{"x(1)=[1 0][]/0 y(3)=[1 2 3 4 5 6][]/0 map[features:1 outputs:3 rows:2]", JSONLConfig{Target: []string{"v"}, Columns: []string{"y"}}},
		{"x(3)=[1 2 3 4 5 6][]/0 y()=[][1 0]/2 map[classes:2 features:3 rows:2]", JSONLConfig{Target: []string{"y"}, Columns: []string{"v"}, Categorical: []string{"y"}}},
	} {
		d, err := parseJSONL("t.jsonl", []byte(text), c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(d); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	list := `{"x":[` + strings.Repeat("0,", 11) + "1]}\n"
	d, err := parseJSONL("t.jsonl", []byte(list), JSONLConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if x := d.Table.Col("x").F32; len(x) != 12 || x[11] != 1 {
		t.Errorf("a list of 12 is read as %v", x)
	}
}

func TestJSONLFindings(t *testing.T) {
	for _, c := range []struct {
		name, text string
		cfg        JSONLConfig
		want       []string
	}{
		{"a text among numbers", `{"a":1}` + "\n\n" + `{"a":"abc"}`, JSONLConfig{}, []string{`t.jsonl:3: row 2, column "a": "abc" is not a number`}},
		{"too large", `{"a":1}` + "\n" + `{"a":1e99}`, JSONLConfig{}, []string{`t.jsonl:2: row 2, column "a": "1e99" is not a finite float32`}},
		{"not JSON", "{\"a\":1}\n{\"a\":\n", JSONLConfig{}, []string{"t.jsonl:2: not a JSON object"}},
		{"a list", "[1]\n", JSONLConfig{}, []string{"t.jsonl:1: not a JSON object"}},
		{"null", "null\n", JSONLConfig{}, []string{"t.jsonl:1: not a JSON object"}},
		{"a null field", `{"b":null,"a":null}`, JSONLConfig{}, []string{`t.jsonl:1: field "a": is null`}},
		{"an object in it", `{"a":{}}`, JSONLConfig{}, []string{`field "a": is an object`}},
		{"a list of texts", `{"a":[1,"x"]}`, JSONLConfig{}, []string{`field "a": element 2 of the list is not a number`}},
		{"field missing", `{"a":1,"b":2}` + "\n" + `{"a":1,"c":2}`, JSONLConfig{}, []string{`t.jsonl:2: the object lacks the value "b"`}},
		{"field too many", `{"a":1}` + "\n" + `{"a":1,"c":2}`, JSONLConfig{}, []string{"t.jsonl:2: the object has 2 values, the first one has 1"}},
		{"list of another length", `{"a":[1,2]}` + "\n" + `{"a":[1]}`, JSONLConfig{}, []string{"t.jsonl:2: the object has 1 values"}},
		{"name twice", `{"a.0":1,"a":[2]}`, JSONLConfig{}, []string{`field "a.0": the value "a.0" is given twice`}},
		{"no objects", "\n \n", JSONLConfig{}, []string{"t.jsonl: the file has no objects"}},
		{"no values", "{}\n", JSONLConfig{}, []string{"t.jsonl: there are no columns"}},
		{"no such target", `{"a":1}`, JSONLConfig{Target: []string{"z"}}, []string{`there is no column "z"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 5 { // maps have no order, errors do
				d, err := parseJSONL("t.jsonl", []byte(c.text), c.cfg)
				checkFindings(t, d, err, c.want)
			}
		})
	}
}

func TestText(t *testing.T) {
	show := func(d *stages.Dataset) string {
		return fmt.Sprintf("%v docs %v bos %d %q %v", d.Text.Tokens, d.Text.Docs, d.Text.BOS, d.Text.Vocab, d.Facts)
	}
	for _, c := range []struct {
		text, want string
		cfg        TextConfig
	}{
		{"ba\né", `[2 1 0 3] docs [] bos -1 ["\n" "a" "b" "é"] map[tokens:4 vocab:4]`, TextConfig{Tokens: "char", Docs: "none"}},
		{"ab\r\n\nb", `[0 1 1] docs [0 2 3] bos 2 ["a" "b" "<bos>"] map[docs:2 tokens:3 vocab:3]`, TextConfig{Tokens: "char", Docs: "lines"}},
		{"ab", `[1 0] docs [] bos -1 ["b" "a" "z"] map[tokens:2 vocab:3]`, TextConfig{Tokens: "char", Docs: "none", Alphabet: "baz"}},
	} {
		d, err := parseText("t.txt", []byte(c.text), c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := show(d); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	d, err := parseText("t.txt", []byte("\xff\na"), TextConfig{Tokens: "byte", Docs: "none"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Text.Tokens, []int32{255, 10, 97}) || d.Facts["vocab"] != 256 || d.Text.Vocab[255] != "\xff" {
		t.Errorf("bytes: %v", show(d))
	}
	d, err = parseText("t.txt", []byte("\xff\n\na\n"), TextConfig{Tokens: "byte", Docs: "lines"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Text.Tokens, []int32{255, 97}) || !slices.Equal(d.Text.Docs, []int{0, 1, 2}) || d.Text.BOS != 256 || d.Facts["vocab"] != 257 {
		t.Errorf("documents of bytes: %v", show(d))
	}
}

func TestTextFindings(t *testing.T) {
	for _, c := range []struct {
		name, text string
		cfg        TextConfig
		want       string
	}{
		{"outside of the alphabet", "aé\nabéx\n", TextConfig{Tokens: "char", Docs: "none", Alphabet: "abé\n"}, `t.txt:2:4: character 'x' is not in the alphabet (add it`},
		{"in documents", "a\nb\n", TextConfig{Tokens: "char", Docs: "lines", Alphabet: "a"}, `t.txt:2:1: character 'b'`},
		{"not UTF-8", "ab\nc\xffd", TextConfig{Tokens: "char", Docs: "none"}, "t.txt:2:2: byte 0xff is not UTF-8 (save the file as UTF-8"},
		{"empty", "", TextConfig{Tokens: "char", Docs: "none"}, "t.txt: the file holds no text"},
		{"blank lines", "\n\n", TextConfig{Tokens: "char", Docs: "lines"}, "t.txt: the file holds no text"},
		{"alphabet with a character twice", "a", TextConfig{Tokens: "char", Docs: "none", Alphabet: "aba"}, "alphabet: 'a' stands twice"},
		{"alphabet of bytes", "a", TextConfig{Tokens: "byte", Docs: "none", Alphabet: "a"}, "exclude each other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := parseText("t.txt", []byte(c.text), c.cfg)
			checkFindings(t, d, err, []string{c.want})
		})
	}
}

// load runs a source as a pipeline does.
func load[C any](t testing.TB, source, dir string, f func(*C)) (*stages.Dataset, error) {
	t.Helper()
	def := stages.FindSource(source)
	cfg := def.NewConfig()
	f(cfg.(*C))
	return def.Load(stages.LoadEnv{Seed: 3, Dir: dir}, cfg)
}

func mustLoad[C any](t testing.TB, source, dir string, f func(*C)) *stages.Dataset {
	t.Helper()
	d, err := load(t, source, dir, f)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMissingFiles(t *testing.T) {
	dir := t.TempDir()
	for source, err := range map[string]error{
		"csv":   failed(load(t, "csv", dir, func(c *CSVConfig) { c.Path = "gone" })),
		"jsonl": failed(load(t, "jsonl", dir, func(c *JSONLConfig) { c.Path = "gone" })),
		"text":  failed(load(t, "text", dir, func(c *TextConfig) { c.Path = "gone" })),
		"npy":   failed(load(t, "npy", dir, func(c *NpyConfig) { c.X, c.Y = "gone", "gone" })),
		"npz":   failed(load(t, "npz", dir, func(c *NpzConfig) { c.Path = "gone" })),
		"idx":   failed(load(t, "idx", dir, func(c *IdxConfig) { c.Images, c.Labels = "gone", "gone" })),
	} {
		if stages.ExitCode(err) != stages.ExitUser || !strings.Contains(fmt.Sprint(err), filepath.Join(dir, "gone")) {
			t.Errorf("%s: a missing file gives %v", source, err)
		}
	}
}

func failed(_ *stages.Dataset, err error) error { return err }

// Files of the sources, as a pipeline names them.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.csv", []byte("a,k\n1,u\n2,v\n"))
	write("a.jsonl", []byte("{\"a\":1,\"k\":\"u\"}\n{\"a\":2,\"k\":\"v\"}\n"))
	c := mustLoad(t, "csv", dir, func(c *CSVConfig) { c.Path, c.Target = "a.csv", []string{"k"} })
	j := mustLoad(t, "jsonl", dir, func(c *JSONLConfig) { c.Path, c.Target = "a.jsonl", []string{"k"} })
	if describe(c) != describe(j) || c.Check != j.Check {
		t.Errorf("csv and jsonl differ: %s and %s", describe(c), describe(j))
	}
	write("a.csv", []byte("a,k\n1,u\n3,v\n"))
	if d := mustLoad(t, "csv", dir, func(c *CSVConfig) { c.Path, c.Target = "a.csv", []string{"k"} }); d.Check == c.Check {
		t.Error("other values have the same check")
	}

	npy := func(name string, x tensor.Tensor) {
		t.Helper()
		var b bytes.Buffer
		if err := tensorfile.WriteNpy(&b, &x); err != nil {
			t.Fatal(err)
		}
		write(name, b.Bytes())
	}
	npy("x.npy", tensor.FromF32(tensor.Of(2, 3), []float32{1, 2, 3, 4, 5, 6}))
	npy("y.npy", tensor.FromI32(tensor.Of(2), []int32{2, 0}))
	npy("nan.npy", tensor.FromF32(tensor.Of(2), []float32{1, float32(math.NaN())}))
	npy("long.npy", tensor.FromF32(tensor.Of(3), []float32{1, 2, 3}))
	npy("minus.npy", tensor.FromI32(tensor.Of(2), []int32{1, -1}))
	npy("none.npy", tensor.New(tensor.F32, tensor.Of(2, 0)))
	d := mustLoad(t, "npy", dir, func(c *NpyConfig) { c.X, c.Y = "x.npy", "y.npy" })
	want := "x(3)=[1 2 3 4 5 6][]/0 y()=[][2 0]/3 map[classes:3 features:3 rows:2]"
	if got := describe(d); got != want {
		t.Errorf("npy: got %s, want %s", got, want)
	}
	for _, f := range [][3]string{{"x.npy", "nan.npy", "nan.npy: row 2, target 1 is NaN"}, {"nan.npy", "y.npy", "nan.npy: row 2, value 1 is NaN"},
		{"x.npy", "long.npy", "long.npy: there are 3 targets for 2 inputs"}, {"x.npy", "minus.npy", "minus.npy: row 2: target -1"},
		{"none.npy", "y.npy", "none.npy: want an array"}, {"x.npy", "none.npy", "none.npy: want an array"}} {
		_, err := load(t, "npy", dir, func(c *NpyConfig) { c.X, c.Y = f[0], f[1] })
		var find stages.Finding
		if !errors.As(err, &find) || !strings.Contains(err.Error(), f[2]) {
			t.Errorf("npy %s and %s: error %v, want %s", f[0], f[1], err, f[2])
		}
	}
	var z bytes.Buffer
	if err := tensorfile.WriteNpz(&z, []tensorfile.Entry{{Name: "in", T: tensor.FromF32(tensor.Of(2), []float32{1, 2})},
		{Name: "out", T: tensor.FromF32(tensor.Of(2, 2), []float32{3, 4, 5, 6})}}); err != nil {
		t.Fatal(err)
	}
	write("a.npz", z.Bytes())
	d = mustLoad(t, "npz", dir, func(c *NpzConfig) { c.Path, c.X, c.Y = "a.npz", "in", "out" })
	want = "x(1)=[1 2][]/0 y(2)=[3 4 5 6][]/0 map[features:1 outputs:2 rows:2]"
	if got := describe(d); got != want {
		t.Errorf("npz: got %s, want %s", got, want)
	}
	if _, err := load(t, "npz", dir, func(c *NpzConfig) { c.Path = "a.npz" }); err == nil || !strings.Contains(err.Error(), `the file has ["in" "out"]`) {
		t.Errorf("npz without x and y: %v", err)
	}

	images := append([]byte{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1}, 0, 255, 51, 102)
	write("images", images)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	if _, err := w.Write([]byte{0, 0, 8, 1, 0, 0, 0, 2, 7, 3}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write("labels", gz.Bytes())
	d = mustLoad(t, "idx", dir, func(c *IdxConfig) { c.Images, c.Labels = "images", "labels" })
	want = "x(2)=[0 1 0.2 0.4][]/0 y()=[][7 3]/8 map[classes:8 features:2 rows:2]"
	if got := describe(d); got != want {
		t.Errorf("idx: got %s, want %s", got, want)
	}
	write("images", images[:len(images)-1])
	if _, err := load(t, "idx", dir, func(c *IdxConfig) { c.Images, c.Labels = "images", "labels" }); stages.ExitCode(err) != stages.ExitUser {
		t.Errorf("truncated idx: %v", err)
	}
}

// Every source has a check of its content, and its example is written for it.
func TestSourcesAreDescribed(t *testing.T) {
	hex := regexp.MustCompile("^[0-9a-f]{64}$")
	d := mustLoad(t, "synthetic", "", func(c *SyntheticConfig) { c.Task = "weight" })
	text, err := parseText("t.txt", []byte("a"), TextConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if !hex.MatchString(d.Check) || !hex.MatchString(text.Check) {
		t.Errorf("checks %q and %q", d.Check, text.Check)
	}
	for _, s := range stages.RegisteredSources() {
		if !strings.HasPrefix(s.Example, "data: {source: "+s.Name+",") {
			t.Errorf("the example of %s is %q", s.Name, s.Example)
		}
	}
}

func FuzzCSV(f *testing.F) {
	for _, s := range []string{houses, "a,b\n1,2\n3\n", "a\n\"", "\xef\xbb\xbfa;b\n1;x\n", "a,a\n", "a\nNaN\n1e99\n", "a\n\xff\x00\n"} {
		f.Add([]byte(s), ",", "price", "area")
		f.Add([]byte(s), ";", "b", "")
	}
	f.Fuzz(func(t *testing.T, b []byte, delimiter, target, column string) {
		c := csvWith(func(c *CSVConfig) { c.Delimiter, c.Normalize = delimiter, "standard" })
		if target != "" {
			c.Target = []string{target}
		}
		if column != "" {
			c.Columns = []string{column}
		}
		d, err := parseCSV("f.csv", b, c)
		wellFormed(t, d, err)
	})
}

func FuzzJSONL(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":[1,2]}` + "\n" + `{"b":[3,4],"a":2}`, `{"a":"x"}`, `{"a":null}`, "[]", "null", `{"a.0":1,"a":[1]}`, "{}", `{"a":1e999}`,
		`{"":1}`, `{"a":[]}`} {
		f.Add([]byte(s), "a", "b")
		f.Add([]byte(s), "", "")
	}
	f.Fuzz(func(t *testing.T, b []byte, target, column string) {
		c := JSONLConfig{Normalize: "minmax"}
		if target != "" {
			c.Target = []string{target}
		}
		if column != "" {
			c.Columns = []string{column}
		}
		d, err := parseJSONL("f.jsonl", b, c)
		wellFormed(t, d, err)
		again, err2 := parseJSONL("f.jsonl", b, c)
		if fmt.Sprint(err) != fmt.Sprint(err2) || err == nil && d.Check != again.Check {
			t.Errorf("read twice: %v and %v", err, err2)
		}
	})
}

// wellFormed: an error of the user's, or a table that training can take.
func wellFormed(t *testing.T, d *stages.Dataset, err error) {
	t.Helper()
	if err != nil {
		if stages.ExitCode(err) != stages.ExitUser {
			t.Fatalf("exit code %d of %v", stages.ExitCode(err), err)
		}
		return
	}
	if d.Table.N < 1 || len(d.Table.Cols) == 0 || len(d.Check) != 64 {
		t.Fatalf("table of %d rows and %d columns, check %q", d.Table.N, len(d.Table.Cols), d.Check)
	}
	for _, c := range d.Table.Cols {
		if len(c.F32)+len(c.I32) != d.Table.N*c.Shape.Len() || c.Shape.Len() == 0 {
			t.Fatalf("column %s has %d values for %d rows of %v", c.Name, len(c.F32)+len(c.I32), d.Table.N, c.Shape)
		}
		for _, v := range c.F32 {
			if v-v != 0 {
				t.Fatalf("column %s holds %v", c.Name, v)
			}
		}
		for _, v := range c.I32 {
			if v < 0 || int(v) >= c.Max {
				t.Fatalf("column %s holds id %d of %d", c.Name, v, c.Max)
			}
		}
	}
}
