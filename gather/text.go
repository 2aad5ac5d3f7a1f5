package gather

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"vtpu/stages"
)

// TextConfig is what a user may write under data with source text.
type TextConfig struct {
	Path     string `yaml:"path" required:"true" doc:"File in UTF-8."`
	Tokens   string `yaml:"tokens" enum:"char|byte|bpe|ids" doc:"char makes a character a token; byte makes a byte a token, 256 of them, whatever the file holds; bpe is GPT-2's tokenizer; ids reads a file of token numbers."`
	BPE      string `yaml:"bpe" doc:"bpe: folder with GPT-2's vocab.json and merges.txt."`
	Size     int    `yaml:"size" min:"0" max:"16777216" doc:"byte, bpe, ids: tokens of the vocabulary, those that the file lacks included; 0 is as many as are known."`
	Docs     string `yaml:"docs" enum:"none|lines" doc:"none is one running text; lines makes each line that is not empty a document between two marks (BOS)."`
	Alphabet string `yaml:"alphabet" doc:"Characters of the vocabulary, in order; those that occur, sorted, if left out. Not with bytes."`
}

func init() {
	stages.MustRegisterSource(stages.SourceSpec[TextConfig]{
		Name: "text", Summary: "A text, one token a character or byte: as one stream, or as one document a line.",
		Example: "data: {source: text, path: shakespeare.txt, split: 0.9}",
		Default: func() TextConfig { return TextConfig{Tokens: "char", Docs: "none"} },
		Load: func(env stages.LoadEnv, c TextConfig) (*stages.Dataset, error) {
			b, err := env.ReadFile(c.Path)
			if err != nil {
				return nil, err
			}
			if c.Tokens == "bpe" {
				if c.Docs == "lines" {
					return nil, errors.New("bpe reads one running text: leave out data.docs")
				}
				t, err := readBPE(env.Path(c.BPE))
				if err != nil {
					return nil, err
				}
				return t.load(env.Path(c.Path), b, c)
			}
			return parseText(env.Path(c.Path), b, c)
		},
	})
}

func parseText(file string, b []byte, c TextConfig) (*stages.Dataset, error) {
	sum := sha256.Sum256(b)
	lines := c.Docs == "lines"
	if lines {
		b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	}
	t := &stages.Text{BOS: -1}
	var err error
	switch {
	case c.Tokens == "byte":
		err = octets(t, file, b, c, lines)
	case c.Tokens == "ids":
		err = numbers(t, file, b, c, lines)
	case c.Size > 0:
		err = errors.New("data.size is for byte, bpe and ids; the vocabulary of char is the alphabet")
	default:
		err = chars(t, file, b, c, lines)
	}
	if err == nil {
		err = pad(t, file, c.Size)
	}
	if err != nil {
		return nil, err
	}
	if len(t.Tokens) == 0 {
		return nil, stages.Finding{File: file, Msg: "the file holds no text"}
	}
	facts := map[string]int{"vocab": len(t.Vocab), "tokens": len(t.Tokens)}
	if lines {
		facts["docs"] = len(t.Docs) - 1
	}
	return &stages.Dataset{Text: t, Facts: facts, Check: hex.EncodeToString(sum[:])}, nil
}

// open starts a text of documents; the mark comes after the other tokens.
func open(t *stages.Text) {
	t.BOS = int32(len(t.Vocab))
	t.Vocab = append(t.Vocab, "<bos>")
	t.Docs = []int{0}
}

// end closes a document, unless it is empty.
func end(t *stages.Text) {
	if n := len(t.Tokens); n > t.Docs[len(t.Docs)-1] {
		t.Docs = append(t.Docs, n)
	}
}

// octets makes each byte a token, whose number is its value.
func octets(t *stages.Text, file string, b []byte, c TextConfig, lines bool) error {
	if c.Alphabet != "" {
		return stages.Finding{File: file, Msg: "an alphabet and tokens: byte exclude each other", Fix: "leave out data.alphabet"}
	}
	if c.Size > 0 && lines {
		return errors.New("data.size and docs: lines exclude each other")
	}
	for i := range 256 {
		t.Vocab = append(t.Vocab, string([]byte{byte(i)}))
	}
	t.Tokenize = func(s string) ([]int32, error) {
		toks := make([]int32, len(s))
		for i := range len(s) {
			toks[i] = int32(s[i])
		}
		return toks, nil
	}
	t.Tokens = make([]int32, 0, len(b))
	if lines {
		open(t)
		defer end(t)
	}
	for _, x := range b {
		if lines && x == '\n' {
			end(t)
			continue
		}
		t.Tokens = append(t.Tokens, int32(x))
	}
	return nil
}

// pad adds tokens that no text has, up to size.
func pad(t *stages.Text, file string, size int) error {
	if size == 0 {
		return nil
	}
	if size < len(t.Vocab) {
		return stages.Finding{File: file, Msg: fmt.Sprintf("there are %d tokens, data.size says %d", len(t.Vocab), size), Fix: fmt.Sprintf("at least size: %d", len(t.Vocab))}
	}
	for len(t.Vocab) < size {
		t.Vocab = append(t.Vocab, fmt.Sprintf("<%d>", len(t.Vocab)))
	}
	return nil
}

// maxID bounds the numbers that a text of token numbers may hold.
const maxID = 1<<24 - 1

// numbers reads token numbers with white space between them.
func numbers(t *stages.Text, file string, b []byte, c TextConfig, lines bool) error {
	if c.Alphabet != "" || lines {
		return stages.Finding{File: file, Msg: "tokens: ids goes with neither an alphabet nor docs: lines"}
	}
	var err error
	if t.Tokens, err = parseNumbers(string(b), maxID); err != nil {
		return stages.Finding{File: file, Msg: err.Error()}
	}
	top := int32(0)
	for _, id := range t.Tokens {
		top = max(top, id)
	}
	for i := range max(int(top)+1, c.Size) {
		t.Vocab = append(t.Vocab, strconv.Itoa(i)+" ")
	}
	n := len(t.Vocab)
	t.Tokenize = func(s string) ([]int32, error) { return parseNumbers(s, n-1) }
	return nil
}

func parseNumbers(s string, largest int) ([]int32, error) {
	toks := make([]int32, 0, len(s)/4)
	for w := range strings.FieldsSeq(s) {
		n, err := strconv.Atoi(w)
		if err != nil || n < 0 || n > largest {
			return nil, fmt.Errorf("number %d of the text is %q, want a token number in 0..%d", len(toks)+1, w, largest)
		}
		toks = append(toks, int32(n))
	}
	return toks, nil
}

// chars makes each character a token.
func chars(t *stages.Text, file string, b []byte, c TextConfig, lines bool) error {
	if i := invalidUTF8(b); i >= 0 {
		line := 1 + bytes.Count(b[:i], []byte("\n"))
		return stages.Finding{File: file, Line: line, Col: i - bytes.LastIndexByte(b[:i], '\n'), Msg: fmt.Sprintf("byte %#x is not UTF-8", b[i]),
			Fix: "save the file as UTF-8, or set data.tokens: byte"}
	}
	text := string(b)
	alphabet := []rune(c.Alphabet)
	if len(alphabet) == 0 {
		seen := map[rune]bool{}
		for _, r := range text {
			if !seen[r] && !(lines && r == '\n') {
				seen[r] = true
				alphabet = append(alphabet, r)
			}
		}
		slices.Sort(alphabet)
	}
	id := map[rune]int32{}
	for i, r := range alphabet {
		if _, twice := id[r]; twice {
			return stages.Finding{File: file, Msg: fmt.Sprintf("alphabet: %q stands twice", r)}
		}
		id[r] = int32(i)
		t.Vocab = append(t.Vocab, string(r))
	}
	t.Tokens = make([]int32, 0, utf8.RuneCountInString(text))
	if lines {
		open(t)
		defer end(t)
	}
	line, col := 1, 0
	for _, r := range text {
		col++
		switch k, ok := id[r]; {
		case lines && r == '\n':
			end(t)
		case !ok:
			return stages.Finding{File: file, Line: line, Col: col, Msg: fmt.Sprintf("character %q is not in the alphabet", r),
				Fix: "add it to data.alphabet, or leave the alphabet out"}
		default:
			t.Tokens = append(t.Tokens, k)
		}
		if r == '\n' {
			line, col = line+1, 0
		}
	}
	return nil
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}
