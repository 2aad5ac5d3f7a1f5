package gather

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"vtpu/stages"
)

// TextConfig is what a user may write under data with source text.
type TextConfig struct {
	Path     string `yaml:"path" required:"true" doc:"File in UTF-8."`
	Docs     string `yaml:"docs" enum:"none|lines" doc:"none is one running text; lines makes each line that is not empty a document between two marks (BOS)."`
	Alphabet string `yaml:"alphabet" doc:"Characters of the vocabulary, in order; those that occur, sorted, if left out."`
}

func init() {
	stages.MustRegisterSource(stages.SourceSpec[TextConfig]{
		Name: "text", Summary: "A text, one token a character: as one stream, or as one document a line.",
		Example: "data: {source: text, path: shakespeare.txt, split: 0.9}",
		Default: func() TextConfig { return TextConfig{Docs: "none"} },
		Load: func(env stages.LoadEnv, c TextConfig) (*stages.Dataset, error) {
			b, err := env.ReadFile(c.Path)
			if err != nil {
				return nil, err
			}
			return parseText(env.Path(c.Path), b, c)
		},
	})
}

func parseText(file string, b []byte, c TextConfig) (*stages.Dataset, error) {
	if i := invalidUTF8(b); i >= 0 {
		line := 1 + bytes.Count(b[:i], []byte("\n"))
		return nil, stages.Finding{File: file, Line: line, Col: i - bytes.LastIndexByte(b[:i], '\n'), Msg: "a byte that is not UTF-8"}
	}
	sum := sha256.Sum256(b)
	text := string(b)
	if c.Docs == "lines" {
		text = strings.ReplaceAll(text, "\r\n", "\n")
	}
	var alphabet []rune
	if c.Alphabet != "" {
		alphabet = []rune(c.Alphabet)
	} else {
		seen := map[rune]bool{}
		for _, r := range text {
			if !seen[r] && !(c.Docs == "lines" && r == '\n') {
				seen[r] = true
				alphabet = append(alphabet, r)
			}
		}
		slices.Sort(alphabet)
	}
	id := map[rune]int32{}
	t := &stages.Text{BOS: -1}
	for i, r := range alphabet {
		if _, twice := id[r]; twice {
			return nil, stages.Finding{File: file, Msg: fmt.Sprintf("alphabet: %q stands twice", r)}
		}
		id[r] = int32(i)
		t.Vocab = append(t.Vocab, string(r))
	}
	if c.Docs == "lines" {
		t.BOS = int32(len(t.Vocab))
		t.Vocab = append(t.Vocab, "<bos>")
		t.Docs = []int{0}
	}
	t.Tokens = make([]int32, 0, len(text))
	line, col := 1, 0
	end := func() {
		if n := len(t.Tokens); n > t.Docs[len(t.Docs)-1] {
			t.Docs = append(t.Docs, n)
		}
	}
	for _, r := range text {
		col++
		if r == '\n' {
			line, col = line+1, 0
			if t.Docs != nil {
				end()
				continue
			}
		}
		k, ok := id[r]
		if !ok {
			return nil, stages.Finding{File: file, Line: line, Col: col, Msg: fmt.Sprintf("character %q is not in the alphabet", r),
				Fix: "add it to data.alphabet, or leave the alphabet out"}
		}
		t.Tokens = append(t.Tokens, k)
	}
	if t.Docs != nil {
		end()
	}
	if len(t.Tokens) == 0 {
		return nil, stages.Finding{File: file, Msg: "the file holds no text"}
	}
	facts := map[string]int{"vocab": len(t.Vocab), "tokens": len(t.Tokens)}
	if t.Docs != nil {
		facts["docs"] = len(t.Docs) - 1
	}
	return &stages.Dataset{Text: t, Facts: facts, Check: hex.EncodeToString(sum[:])}, nil
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
