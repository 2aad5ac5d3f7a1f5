package tensorfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

func coord(t testing.TB, s string) weights.Coord {
	t.Helper()
	c, err := weights.ParseCoord(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// some are tensors of all kinds, with values whose bits are easily lost.
func some(t testing.TB) []Entry {
	odd := []float32{0, float32(math.Copysign(0, -1)), 1e-45, -1e-40, math.MaxFloat32, 1.0 / 3, -2, 16777217}
	return []Entry{
		{"h0.dense.weight", tensor.FromF32(tensor.Of(2, 4), odd), coord(t, "1.1.1/1.1.1/1.1.2")},
		{"h0.dense.bias", tensor.FromF32(tensor.Of(1), []float32{0.1}), coord(t, "1.1.1/1.1.2/1.1.1")},
		{"count", tensor.FromI32(tensor.Of(3), []int32{math.MinInt32, 0, math.MaxInt32}), coord(t, "2.1.1/1.1.1/1.1.1")},
		{"scalar", tensor.FromF32(tensor.Of(), []float32{7}), coord(t, "2.1.1/1.1.1/2047.1.2047")},
		{"empty", tensor.New(tensor.F32, tensor.Of(0, 3)), coord(t, "2047.1.1/1.1.1/1.1.1")},
		{"cube", tensor.FromF32(tensor.Of(2, 1, 2, 1), []float32{1, 2, 3, 4}), coord(t, "2047.1.1/1.1.1/1.1.2")},
	}
}

// equal compares to the bit; homes count where the format keeps them.
func equal(t testing.TB, got, want []Entry, homes bool) {
	t.Helper()
	want = sorted(want)
	if len(got) != len(want) {
		t.Fatalf("%d tensors, want %d", len(got), len(want))
	}
	bits := func(v []float32) (b []uint32) {
		for _, x := range v {
			b = append(b, math.Float32bits(x))
		}
		return b
	}
	for i, w := range want {
		g := got[i]
		if g.Name != w.Name || g.T.DType != w.T.DType || g.T.Shape != w.T.Shape || homes && g.Coord != w.Coord {
			t.Errorf("read %s %v %v at %s, want %s %v %v at %s", g.Name, g.T.DType, g.T.Shape, g.Coord, w.Name, w.T.DType, w.T.Shape, w.Coord)
		} else if !slices.Equal(bits(g.T.F32), bits(w.T.F32)) || !slices.Equal(g.T.I32, w.T.I32) {
			t.Errorf("%s: %v %v, want %v %v", g.Name, g.T.F32, g.T.I32, w.T.F32, w.T.I32)
		}
	}
}

func TestEveryFormatReadsBackToTheBit(t *testing.T) {
	want := some(t)
	for _, ext := range []string{".safetensors", ".npz", ".phext", ".SAFETENSORS"} {
		path := filepath.Join(t.TempDir(), "a"+ext)
		if err := Save(path, want, map[string]string{"vtpu.step": "7"}); err != nil {
			t.Fatal(err)
		}
		got, meta, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		st := strings.EqualFold(ext, ".safetensors")
		equal(t, got, want, ext != ".npz")
		if st && meta["vtpu.step"] != "7" {
			t.Errorf("metadata %v", meta)
		}
		first, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(want)
		if err := Save(path, want, map[string]string{"vtpu.step": "7"}); err != nil {
			t.Fatal(err)
		}
		if second, err := os.ReadFile(path); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: the order of the tensors changes the file (%v)", ext, err)
		}
	}
	path := filepath.Join(t.TempDir(), "one.npy")
	var b bytes.Buffer
	if err := WriteNpy(&b, &want[0].T); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, []Entry{{Name: "one", T: want[0].T}}, false)
}

func TestFilesOfNumPy(t *testing.T) {
	b, err := os.ReadFile("testdata/want.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct {
		DType  string
		Shape  []int
		Values []float64
	}
	if err := json.Unmarshal(b, &all); err != nil || len(all) < 20 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	for name, want := range all {
		read := ReadNpy
		if strings.HasPrefix(name, "images") {
			read = ReadIdx
		}
		got, err := read(filepath.Join("testdata", name))
		if err != nil {
			t.Error(err)
			continue
		}
		var v []float64
		for _, x := range got.F32 {
			v = append(v, float64(x))
		}
		for _, x := range got.I32 {
			v = append(v, float64(x))
		}
		if got.DType.String() != want.DType || !slices.Equal(got.Shape.Slice(), want.Shape) || !slices.Equal(v, want.Values) {
			t.Errorf("%s: %v %v %v, want %+v", name, got.DType, got.Shape, v, want)
		}
	}
	parts := []Entry{{Name: "a", T: tensor.FromF32(tensor.Of(2, 3), []float32{0, 1, 2, 3, 4, 5})},
		{Name: "h0.dense.weight", T: tensor.FromF32(tensor.Of(3), []float32{0, 1, 2})}}
	for _, name := range []string{"plain.npz", "packed.npz"} {
		got, _, err := Load(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, parts, false)
	}
	got, meta, err := Load("testdata/numpy.safetensors")
	if err != nil || meta["format"] != "np" {
		t.Fatal(err, meta)
	}
	equal(t, got, []Entry{{Name: "a", T: tensor.FromI32(tensor.Of(3, 2), []int32{0, 1, 2, 3, 4, 5})},
		{Name: "b", T: tensor.FromF32(tensor.Of(4), []float32{0, 1, 2, 3})}}, false)
}

func TestHalf(t *testing.T) {
	for h, want := range map[uint16]float32{0: 0, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0400: 6.103515625e-05, 0x0001: 5.960464477539063e-08, 0x83ff: -6.097555160522461e-05,
		0x7c00: float32(math.Inf(1)), 0xfc00: float32(math.Inf(-1)), 0x3555: 0.333251953125} {
		if got := half(h); got != want {
			t.Errorf("half(%#x) = %v, want %v", h, got, want)
		}
	}
	if n := half(0x7e00); n == n {
		t.Error("a NaN is lost")
	}
	if z := half(0x8000); z != 0 || !math.Signbit(float64(z)) {
		t.Error("-0 is lost")
	}
}

// st makes a safetensors file by hand.
func st(claim uint64, head string, data int) string {
	b := binary.LittleEndian.AppendUint64(nil, claim)
	return string(b) + head + strings.Repeat("\x00", data)
}

func stOf(head string, data int) string { return st(uint64(len(head)), head, data) }

func npy(head string, data int) string {
	return npyMagic + string([]byte{1, 0, byte(len(head)), byte(len(head) >> 8)}) + head + strings.Repeat("\x00", data)
}

const npyHead = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"

func TestBrokenFilesAreNamed(t *testing.T) {
	t.Chdir(t.TempDir())
	zipped := func(member, content string) string {
		var b bytes.Buffer
		if err := zipOf(&b, member, content); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, c := range []struct{ file, content, want string }{
		{"a.safetensors", "", "truncated: 0 bytes are too few"},
		{"a.safetensors", "1234567", "truncated: 7 bytes are too few"},
		{"a.safetensors", st(1<<62, "{}", 0), "the header claims 4611686018427387904 bytes, the file has 10"},
		{"a.safetensors", st(3, "{}", 0), "the header claims 3 bytes"},
		{"a.safetensors", stOf("[]", 0), "the header is not a JSON object"},
		{"a.safetensors", stOf("{", 0), "the header is not JSON"},
		{"a.safetensors", stOf(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 7), `tensor "a" lies at 0..8, want it to begin at 0 and to end by 7 (truncated?)`},
		{"a.safetensors", stOf(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 9), "1 bytes follow the last tensor"},
		{"a.safetensors", stOf(`{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}}`, 8), `tensor "a": shape [4611686018427387904] is too large`},
		{"a.safetensors", stOf(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}`, 8), `shape [-1] is too large`},
		{"a.safetensors", stOf(`{"a":{"dtype":"F32","shape":[65536,65536],"data_offsets":[0,0]}}`, 0), `shape [65536 65536] is too large`},
		{"a.safetensors", stOf(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}`, 8), `tensor "a" has the shape (1) and 8 bytes, want 4`},
		{"a.safetensors", stOf(`{"a":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]}}`, 4), `5 dimensions, at most 4`},
		{"a.safetensors", stOf(`{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}`, 8), `the type "C64", which can't be read`},
		{"a.safetensors", stOf(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), `lies at 4..8, want it to begin at 0`},
		{"a.safetensors", stOf(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `the header has "a" twice`},
		{"a.safetensors", stOf(`{"__metadata__":{"a":1}}`, 0), "the metadata is not a map of texts"},
		{"a.safetensors", stOf(`{"__metadata__":{"phext:a":"0.1"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), `tensor "a": `},
		{"a.safetensors", stOf(`{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`, 7) + "\x01", "does not fit into 32 bits"},
		{"a.npy", "", "not a npy file, or truncated"},
		{"a.npy", npy(npyHead, 23), "shape [2 3] needs 24 bytes, there are 23 (truncated?)"},
		{"a.npy", npy(npyHead, 25), "1 bytes follow the array"},
		{"a.npy", npy(strings.Replace(npyHead, "2, 3", "4611686018427387904,", 1), 24), "is too large"},
		{"a.npy", npy(strings.Replace(npyHead, "2, 3", "99999999999999999999,", 1), 24), "can't be read"},
		{"a.npy", npy(strings.Replace(npyHead, "<f4", "<c8", 1), 24), `numbers of the type "c8" can't be read`},
		{"a.npy", npy(strings.Replace(npyHead, "'<f4'", "[('a', '<f4')]", 1), 24), "want an array of plain numbers"},
		{"a.npy", npy(strings.Replace(npyHead, "2, 3", "1, 1, 1, 1, 1, 6", 1), 24), "6 dimensions, at most 4"},
		{"a.npy", npyMagic + "\x01\x00\xff\xff{", "truncated: the header claims 65535 bytes, 1 are left"},
		{"a.npy", npyMagic + "\x02\x00\xff\xff\xff\xff{", "truncated: the header claims 4294967295 bytes, 1 are left"},
		{"a.npy", npyMagic + "\x09\x00\x00\x00\x00\x00", "npy version 9 can't be read"},
		{"a.npz", "PK", "not a npz file, or truncated"},
		{"a.npz", zipped("a.npy", npy(npyHead, 3)), `member "a.npy": shape [2 3] needs 24 bytes`},
		{"a.npz", zipped("a.txt", ""), `member "a.txt" is not a npy file`},
		{"a.idx", "\x00\x00\x08", "not an idx file"},
		{"a.idx", "\x00\x00\x07\x01\x00\x00\x00\x00", "idx type 0x7 can't be read"},
		{"a.idx", "\x00\x00\x08\x02\x00\x00\x00\x01", "truncated in the header"},
		{"a.idx", "\x00\x00\x08\x01\x00\x00\x00\x05abc", "shape [5] needs 5 bytes, there are 3 (truncated?)"},
		{"a.idx", "\x00\x00\x0e\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "is too large"},
		{"a.idx", "\x00\x00\x08\x01\x00\x00\x00\x01ab", "1 bytes follow the values"},
		{"a.idx", "\x1f\x8b\x08\x00\x00", "not a gzip file"},
		{"a.phext", "a float32\n1", `scroll 1.1.1/1.1.1/1.1.1: first line "a float32", want: name float32 (2,3)`},
		{"a.phext", "a float64 (1)\n1\n", `type "float64", want float32 or int32`},
		{"a.phext", "a float32 (2)\n1.25\n", "1 values, want 2"},
		{"a.phext", "a float32 (1)\n1 2\n", "more than 1 values"},
		{"a.phext", "\x17\x17a float32 (1)\nx\n", `scroll 1.1.1/1.1.1/1.1.3: value 1 is "x", not a float32`},
		{"a.phext", "a int32 (1)\n2147483648\n", "not an int32"},
		{"a.phext", "a float32 (1)\n1\n\x17a float32 (1)\n1\n", "tensor a stands twice"},
		{"a.phext", "a float32 (2000000000)\n1\n", "shape [2000000000] needs"},
		{"a.phext", "a float32 2,3\n1\n", `shape "2,3", want (2,3)`},
		{"a.phext", strings.Repeat("\x01", 2047), "more than 2047 delimiters"},
		{"a.bin", "", "unknown kind of file (want .safetensors, .npz, .npy or .phext)"},
	} {
		if err := os.WriteFile(c.file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(c.file, ".idx") {
			_, err = ReadIdx(c.file)
		} else {
			_, _, err = Load(c.file)
		}
		if stages.ExitCode(err) != stages.ExitUser || !strings.HasPrefix(err.Error(), c.file+": ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %d bytes: error %v, want %s", c.file, len(c.content), err, c.want)
		}
	}
	if _, _, err := Load("none.npz"); stages.ExitCode(err) != stages.ExitUser || err.Error() != "none.npz: no such file" {
		t.Errorf("a file that is missing: %v", err)
	}
	if err := os.Mkdir("dir.npz", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load("dir.npz"); stages.ExitCode(err) != stages.ExitUser || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("a directory: %v", err)
	}
}

// Every prefix of a good file is an error, and costs no more memory than the file.
func TestTruncatedFiles(t *testing.T) {
	for name, write := range writers {
		var b bytes.Buffer
		if err := write(&b, some(t)); err != nil {
			t.Fatal(err)
		}
		for n := range b.Len() {
			es, err := parse(name, b.Bytes()[:n])
			if err == nil && name == "phext" { // text may end anywhere between two scrolls
				continue
			}
			if stages.ExitCode(err) != stages.ExitUser {
				t.Fatalf("%s cut to %d of %d bytes: %d tensors, %v", name, n, b.Len(), len(es), err)
			}
		}
	}
}

var writers = map[string]func(io.Writer, []Entry) error{
	"safetensors": func(w io.Writer, es []Entry) error { return WriteSafetensors(w, es, nil) },
	"npz":         WriteNpz,
	"phext":       WritePhext,
}

func parse(format string, b []byte) ([]Entry, error) {
	switch format {
	case "safetensors":
		es, _, err := parseSafetensors("f", b)
		return es, err
	case "npz":
		return parseNpz("f", bytes.NewReader(b), int64(len(b)))
	}
	return parsePhext("f", b)
}

func TestWhatCannotBeWritten(t *testing.T) {
	one := tensor.FromF32(tensor.Of(1), []float32{1})
	at := coord(t, "1.1.1/1.1.1/1.1.1")
	for _, c := range []struct {
		format string
		es     []Entry
		want   string
	}{
		{"safetensors", []Entry{{Name: "a", T: one}, {Name: "a", T: one}}, "two tensors are called a"},
		{"phext", []Entry{{Name: "a", T: one}}, "a has no home"},
		{"phext", []Entry{{"a", one, at}, {"b", one, at}}, "tensors a and b have the same home"},
		{"phext", []Entry{{"a b", one, at}}, "can't stand in a phext file"},
		{"phext", []Entry{{"a", one, coord(t, "1.1.1/1.1.1/1.1.1/1.2")}}, "inside of a scroll"},
	} {
		if err := writers[c.format](io.Discard, c.es); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %v: %v, want %s", c.format, c.es, err, c.want)
		}
	}
	if err := Save("a.bin", nil, nil); stages.ExitCode(err) != stages.ExitUser {
		t.Errorf("an unknown kind of file: %v", err)
	}
	if err := Save(filepath.Join(t.TempDir(), "none", "a.npz"), nil, nil); stages.ExitCode(err) != stages.ExitEnv || !strings.Contains(err.Error(), "make the directory first") {
		t.Errorf("a directory that is missing: %v", err)
	}
}

// What can't be written whole leaves the old file and nothing else.
func TestAFailedWriteKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.npz")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := WriteFile(path, func(w io.Writer) error {
		if _, err := w.Write([]byte("new")); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) || stages.ExitCode(err) != stages.ExitEnv {
		t.Errorf("error %v", err)
	}
	finding := stages.Finding{Msg: "the user's mistake"}
	if err := WriteFile(path, func(io.Writer) error { return finding }); stages.ExitCode(err) != stages.ExitUser {
		t.Errorf("error %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
		t.Errorf("%s, %v", b, err)
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 1 {
		t.Errorf("files left: %v, %v", es, err)
	}
}

func zipOf(w io.Writer, member, content string) error {
	z := zip.NewWriter(w)
	f, err := z.Create(member)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(f, content); err != nil {
		return err
	}
	return z.Close()
}

// seeds are good files of a format, and some that are not.
func seeds(f *testing.F, names ...string) {
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join("testdata", n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	for format, write := range writers {
		if strings.Contains(f.Name(), "Fuzz"+strings.ToUpper(format[:1])+format[1:]) {
			var b bytes.Buffer
			if err := write(&b, some(f)); err != nil {
				f.Fatal(err)
			}
			f.Add(b.Bytes())
		}
	}
}

// wellFormed: an error of the user's, or tensors that a file of that size can hold.
func wellFormed(t *testing.T, size int, es []Entry, err error) {
	t.Helper()
	if err != nil {
		if stages.ExitCode(err) != stages.ExitUser {
			t.Fatalf("exit code %d of %v", stages.ExitCode(err), err)
		}
		return
	}
	total := 0
	for i, e := range es {
		if len(e.T.F32)+len(e.T.I32) != e.T.Shape.Len() || e.T.Shape.Rank > tensor.MaxRank || (e.T.DType == tensor.I32) != (len(e.T.I32) > 0) && e.T.Len() > 0 {
			t.Fatalf("%q is %v %v with %d and %d values", e.Name, e.T.DType, e.T.Shape, len(e.T.F32), len(e.T.I32))
		}
		if i > 0 && es[i-1].Name >= e.Name {
			t.Fatalf("%q after %q", e.Name, es[i-1].Name)
		}
		total += e.T.Len()
	}
	if total > (size+1)*maxInflate {
		t.Fatalf("%d values from %d bytes", total, size)
	}
}

// again: what was read can be written and reads back to the same bits.
func again(t *testing.T, format string, es []Entry, homes bool) {
	t.Helper()
	var b bytes.Buffer
	if err := writers[format](&b, es); err != nil {
		t.Fatal(err)
	}
	got, err := parse(format, b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, es, homes)
}

func FuzzSafetensors(f *testing.F) {
	seeds(f, "numpy.safetensors")
	for _, s := range []string{st(1<<62, "{}", 0), stOf("{}", 0), stOf(`{"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}`, 2), stOf(`{"__metadata__":null}`, 0)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		es, _, err := parseSafetensors("f", b)
		wellFormed(t, len(b), es, err)
		if err == nil {
			again(t, "safetensors", es, true)
		}
	})
}

func FuzzNpy(f *testing.F) {
	seeds(f, "f_bf8.npy", "i_lu2.npy", "fortran.npy", "scalar.npy", "empty.npy", "version2.npy", "bool.npy")
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseNpy(b)
		if err != nil {
			return
		}
		wellFormed(t, len(b), []Entry{{Name: "x", T: x}}, nil)
		var out bytes.Buffer
		if err := WriteNpy(&out, &x); err != nil {
			t.Fatal(err)
		}
		y, err := parseNpy(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, []Entry{{Name: "x", T: y}}, []Entry{{Name: "x", T: x}}, false)
	})
}

func FuzzNpz(f *testing.F) {
	seeds(f, "plain.npz", "packed.npz")
	f.Fuzz(func(t *testing.T, b []byte) {
		es, err := parse("npz", b)
		wellFormed(t, len(b), es, err)
	})
}

func FuzzIdx(f *testing.F) {
	seeds(f, "images.idx", "images.idx.gz")
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseIdx("f", b)
		wellFormed(t, len(b), []Entry{{Name: "x", T: x}}, err)
	})
}

func FuzzPhext(f *testing.F) {
	seeds(f)
	for _, s := range []string{"a float32 (2,3)\n1 2 3\n4 5 6\n", "a int32 ()\n-1", "\x01\x1f\x1e\x1d\x1c\x1b\x19\x18\x17b float32 (0)\n", "a float32 (2)\nNaN +Inf\n", "\x17\n\n\x17"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		es, err := parsePhext("f", b)
		wellFormed(t, len(b), es, err)
		if err != nil {
			return
		}
		for _, e := range es {
			for _, v := range e.T.F32 {
				if v != v {
					return // text keeps no payload of a NaN
				}
			}
		}
		again(t, "phext", es, true)
	})
}

func ExampleWritePhext() {
	err := WritePhext(os.Stdout, []Entry{{"dense.weight", tensor.FromF32(tensor.Of(2, 2), []float32{1, 0.5, -2, 1e-7}), weights.Origin()}})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// dense.weight float32 (2,2)
	// 1 0.5
	// -2 1e-07
}
