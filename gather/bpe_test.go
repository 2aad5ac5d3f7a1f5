package gather

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vtpu/stages"
)

// writeBPE writes a tokenizer: the bytes, in the order of their characters as GPT-2 has them, then one token for each merge.
func writeBPE(t *testing.T, merges ...string) string {
	t.Helper()
	dir := t.TempDir()
	of, _ := byteRunes()
	ids := map[string]int{}
	var order []rune
	order = append(order, of[:]...)
	slices.Sort(order)
	for i, r := range order {
		ids[string(r)] = i
	}
	for _, m := range merges {
		ids[strings.ReplaceAll(m, " ", "")] = len(ids)
	}
	b, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"vocab.json": b, "merges.txt": []byte("#version: 0.2\n" + strings.Join(merges, "\n") + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBPE(t *testing.T) {
	dir := writeBPE(t, "Ġ t", "h e", "Ġt he", "l o", "lo w", "Ġ low", "e r", "Ã ©")
	tok, err := readBPE(dir)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"the lower":       "t|he| low|er", // "the" without a space: no merge of t and he
		" the  the":       " the| | the",
		"slow\n\n low":    "s|low|\n|\n| low",
		"I'll don't 12ab": "I|'|l|l| |d|o|n|'|t| |1|2|a|b",
		"é!":              "é|!",
		"\t x ":           "\t| |x| ",
		"":                "",
	} {
		ids, err := tok.encode(in)
		if err != nil {
			t.Fatal(err)
		}
		var parts []string
		for _, id := range ids {
			parts = append(parts, tok.vocab[id])
		}
		if got := strings.Join(parts, "|"); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	// GPT-2 numbers the bytes by their characters: "!" is 0, space is 220, line break 198.
	if ids, _ := tok.encode("! \n"); !slices.Equal(ids, []int32{0, 220, 198}) {
		t.Errorf("numbers %v", ids)
	}
}

// Words are cut as GPT-2's regular expression cuts them.
func TestBPEWords(t *testing.T) {
	for in, want := range map[string]string{
		"Hello world":             "Hello| world",
		"it's we'll I'm 'tis o'x": "it|'s| we|'ll| I|'m| '|tis| o|'|x",
		"a  b   c":                "a| | b|  | c",
		"x\n\n\ty":                "x|\n\n|\t|y",
		"3.14 $5 ①½":              "3|.|14| $|5| ①½",
		"end  \n":                 "end|  \n",
		"日本 語!?":                  "日本| 語|!?",
		" \u00a0x":                " |\u00a0|x",
	} {
		var got []string
		for s := in; s != ""; {
			n := word(s)
			got = append(got, s[:n])
			s = s[n:]
		}
		if g := strings.Join(got, "|"); g != want {
			t.Errorf("%q is cut into %q, want %q", in, g, want)
		}
	}
}

func TestBPEFindings(t *testing.T) {
	dir := writeBPE(t, "h e")
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, []byte("he has it"), 0o644); err != nil {
		t.Fatal(err)
	}
	use := func(f func(*TextConfig)) error {
		_, err := load(t, "text", "", func(c *TextConfig) { c.Path, c.Tokens, c.BPE = text, "bpe", dir; f(c) })
		return err
	}
	if err := use(func(*TextConfig) {}); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]func(*TextConfig){
		"vocab.json and merges.txt": func(c *TextConfig) { c.BPE = t.TempDir() },
		"alphabet":                  func(c *TextConfig) { c.Alphabet = "ab" },
		"data.size says 256":        func(c *TextConfig) { c.Size = 256 },
		"docs":                      func(c *TextConfig) { c.Docs = "lines" },
		"merges.txt:2":              func(c *TextConfig) { c.BPE = edit(t, "merges.txt", "#version: 0.2\nq x\n") },
		"no token for the byte":     func(c *TextConfig) { c.BPE = edit(t, "vocab.json", `{"a": 0}`) },
		"JSON object":               func(c *TextConfig) { c.BPE = edit(t, "vocab.json", `[]`) },
		"want each of 0..1 once":    func(c *TextConfig) { c.BPE = edit(t, "vocab.json", `{"a": 1, "b": 1}`) },
	} {
		if err := use(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// edit is a tokenizer with another file.
func edit(t *testing.T, name, text string) string {
	dir := writeBPE(t, "h e")
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTokenNumbers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ids.txt")
	if err := os.WriteFile(file, []byte("3 0\n7\t50256"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := mustLoad(t, "text", "", func(c *TextConfig) { c.Path, c.Tokens, c.Size = file, "ids", 50257 })
	if !slices.Equal(d.Text.Tokens, []int32{3, 0, 7, 50256}) || d.Facts["vocab"] != 50257 || d.Text.Vocab[7] != "7 " {
		t.Errorf("tokens %v, facts %v", d.Text.Tokens, d.Facts)
	}
	if got, err := d.Text.Encode("12 5"); err != nil || !slices.Equal(got, []int32{12, 5}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"-1", "50257", "x"} {
		if _, err := d.Text.Encode(s); err == nil {
			t.Errorf("%q is no token number", s)
		}
	}
	b := mustLoad(t, "text", "", func(c *TextConfig) { c.Path, c.Tokens, c.Size = file, "byte", 300 })
	if b.Facts["vocab"] != 300 || b.Text.Vocab[299] != "<299>" {
		t.Errorf("facts %v", b.Facts)
	}
	var f stages.Finding
	if _, err := load(t, "text", "", func(c *TextConfig) { c.Path, c.Tokens, c.Size = file, "char", 300 }); err == nil {
		t.Errorf("size with characters: %v %v", err, f)
	}
}
