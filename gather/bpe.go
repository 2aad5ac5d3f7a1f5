package gather

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"vtpu/stages"
)

// bpe is GPT-2's tokenizer: a text is cut into words, a word into bytes, and neighbours are joined in the order of a list of merges. Source: Sennrich et al. 2016,
// arXiv:1508.07909, Algorithm 1; Radford et al. 2019, section 2.2. The files are those that GPT-2 was published with: vocab.json maps tokens to numbers, merges.txt
// has one pair a line, the first merged first; both write a byte as a printable character.
type bpe struct {
	ids   map[string]int32  // by the bytes of a token
	ranks map[[2]string]int // of a pair of tokens
	vocab []string          // bytes of each token
	known map[string][]int32
	sum   [32]byte // of both files
}

// byteRunes is the character that the files write for each byte: itself where it is printable, else one from U+0100 on.
func byteRunes() (of [256]rune, back map[rune]byte) {
	back = map[rune]byte{}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if !(b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae) {
			r = next
			next++
		}
		of[b], back[r] = r, byte(b)
	}
	return of, back
}

func readBPE(dir string) (*bpe, error) {
	read := func(name string) (string, []byte, error) {
		file := filepath.Join(dir, name)
		b, err := os.ReadFile(file)
		if err != nil {
			return file, nil, stages.Finding{File: file, Msg: "can't be read: " + err.Error(), Fix: "data.bpe names the folder with GPT-2's vocab.json and merges.txt"}
		}
		return file, b, nil
	}
	vfile, vb, err := read("vocab.json")
	if err != nil {
		return nil, err
	}
	mfile, mb, err := read("merges.txt")
	if err != nil {
		return nil, err
	}
	t := &bpe{ids: map[string]int32{}, ranks: map[[2]string]int{}, known: map[string][]int32{}, sum: sha256.Sum256(append(append([]byte{}, vb...), mb...))}
	_, back := byteRunes()
	text := func(s string) (string, bool) {
		var b []byte
		for _, r := range s {
			c, ok := back[r]
			if !ok {
				return "", false
			}
			b = append(b, c)
		}
		return string(b), true
	}
	var numbers map[string]int32
	if err := json.Unmarshal(vb, &numbers); err != nil {
		return nil, stages.Finding{File: vfile, Msg: "want a JSON object of tokens and their numbers: " + err.Error()}
	}
	t.vocab = make([]string, len(numbers))
	seen := make([]bool, len(numbers))
	for s, id := range numbers {
		b, ok := text(s)
		if !ok {
			b = s // a special token, such as one of a fine-tuned model
		}
		if id < 0 || int(id) >= len(numbers) || seen[id] {
			return nil, stages.Finding{File: vfile, Msg: fmt.Sprintf("token %q has the number %d, want each of 0..%d once", s, id, len(numbers)-1)}
		}
		seen[id] = true
		t.vocab[id], t.ids[b] = b, id
	}
	for b := range 256 {
		if _, ok := t.ids[string([]byte{byte(b)})]; !ok {
			return nil, stages.Finding{File: vfile, Msg: fmt.Sprintf("there is no token for the byte %d", b)}
		}
	}
	n := 0
	for line := range strings.Lines(string(mb)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || n == 1 && strings.HasPrefix(line, "#version") {
			continue
		}
		l, r, ok := strings.Cut(line, " ")
		a, ok1 := text(l)
		b, ok2 := text(r)
		if _, there := t.ids[a+b]; !ok || !ok1 || !ok2 || !there {
			return nil, stages.Finding{File: mfile, Line: n, Msg: fmt.Sprintf("%q is not a pair of tokens that join to a token of vocab.json", line)}
		}
		if _, twice := t.ranks[[2]string{a, b}]; !twice {
			t.ranks[[2]string{a, b}] = len(t.ranks)
		}
	}
	return t, nil
}

// load makes a running text of a file.
func (t *bpe) load(file string, b []byte, c TextConfig) (*stages.Dataset, error) {
	if c.Alphabet != "" {
		return nil, stages.Finding{File: file, Msg: "an alphabet and tokens: bpe exclude each other", Fix: "leave out data.alphabet"}
	}
	if i := invalidUTF8(b); i >= 0 {
		return nil, stages.Finding{File: file, Line: 1 + bytes.Count(b[:i], []byte("\n")), Msg: fmt.Sprintf("byte %#x is not UTF-8", b[i]), Fix: "save the file as UTF-8"}
	}
	toks, err := t.encode(string(b))
	if err != nil {
		return nil, err
	}
	if len(toks) == 0 {
		return nil, stages.Finding{File: file, Msg: "the file holds no text"}
	}
	x := &stages.Text{Tokens: toks, Vocab: t.vocab, BOS: -1, Tokenize: t.encode}
	if err := pad(x, file, c.Size); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append(t.sum[:], b...))
	return &stages.Dataset{Text: x, Facts: map[string]int{"vocab": len(x.Vocab), "tokens": len(toks)}, Check: hex.EncodeToString(sum[:])}, nil
}

func (t *bpe) encode(s string) ([]int32, error) {
	var out []int32
	for len(s) > 0 {
		n := word(s)
		w := s[:n]
		s = s[n:]
		ids, ok := t.known[w]
		if !ok {
			ids = t.merge(w)
			t.known[strings.Clone(w)] = ids
		}
		out = append(out, ids...)
	}
	return out, nil
}

// merge joins the bytes of a word: again and again the pair that stands first in the list, everywhere it occurs, from the left.
func (t *bpe) merge(w string) []int32 {
	parts := make([]string, len(w))
	for i := range len(w) {
		parts[i] = w[i : i+1]
	}
	for len(parts) > 1 {
		best := -1
		var pair [2]string
		for i := range len(parts) - 1 {
			p := [2]string{parts[i], parts[i+1]}
			if r, ok := t.ranks[p]; ok && (best < 0 || r < best) {
				best, pair = r, p
			}
		}
		if best < 0 {
			break
		}
		n := 0
		for i := 0; i < len(parts); i++ {
			if i+1 < len(parts) && parts[i] == pair[0] && parts[i+1] == pair[1] {
				parts[n] = pair[0] + pair[1]
				i++
			} else {
				parts[n] = parts[i]
			}
			n++
		}
		parts = parts[:n]
	}
	ids := make([]int32, len(parts))
	for i, p := range parts {
		ids[i] = t.ids[p]
	}
	return ids
}

// word is the length of the first word of s, as GPT-2's pattern cuts it: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func word(s string) int {
	for _, end := range [...]string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
		if strings.HasPrefix(s, end) {
			return len(end)
		}
	}
	at := 0
	if s[0] == ' ' {
		at = 1
	}
	if r, _ := utf8.DecodeRuneInString(s[at:]); at < len(s) && !space(r) {
		return at + run(s[at:], kind(r))
	}
	// White space: the last character before something else is left to that.
	n := run(s, spaces)
	if n == len(s) {
		return n
	}
	_, last := utf8.DecodeLastRuneInString(s[:n])
	if n > last {
		return n - last
	}
	return n
}

func space(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

const (
	spaces = iota
	letters
	digits
	others
)

func kind(r rune) int {
	switch {
	case space(r):
		return spaces
	case unicode.IsLetter(r):
		return letters
	case unicode.IsNumber(r):
		return digits
	}
	return others
}

// run is the length of the characters of a kind that s begins with.
func run(s string, k int) int {
	for i, r := range s {
		if kind(r) != k {
			return i
		}
	}
	return len(s)
}
