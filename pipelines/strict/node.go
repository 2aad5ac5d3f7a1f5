// Package strict reads YAML into config structs without forgiving anything: an unknown key, a wrong type or a value out of range is a finding with
// its line and column and, where one can be guessed, what was meant. All findings are reported at once.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"vtpu/stages"
)

// Limits of a file.
const (
	maxSize  = 1 << 20
	maxDepth = 64
)

// A Node is a piece of a YAML file that knows where it stands.
type Node struct {
	y    *yaml.Node
	file string
}

// Line is 1-based.
func (n *Node) Line() int { return n.y.Line }

// Finding is a finding at this place.
func (n *Node) Finding(msg, fix string) stages.Finding {
	if strings.HasPrefix(n.y.FootComment, "--set ") {
		return stages.Finding{File: n.y.FootComment, Msg: msg, Fix: fix}
	}
	return stages.Finding{File: n.file, Line: n.y.Line, Col: n.y.Column, Msg: msg, Fix: fix}
}

// IsMap, IsList and IsScalar say what the node is; a null is none of them.
func (n *Node) IsMap() bool { return n.y.Kind == yaml.MappingNode }

// IsList says that the node is a sequence.
func (n *Node) IsList() bool { return n.y.Kind == yaml.SequenceNode }

// IsNull says that nothing stands there.
func (n *Node) IsNull() bool { return n.y.Kind == yaml.ScalarNode && n.y.Tag == "!!null" }

// IsScalar says that the node is a single value.
func (n *Node) IsScalar() bool { return n.y.Kind == yaml.ScalarNode && n.y.Tag != "!!null" }

// Text is the value of a scalar as it was written, without quotes.
func (n *Node) Text() string { return n.y.Value }

// A Pair is one entry of a map.
type Pair struct {
	Key, Val *Node
}

// Pairs are the entries of a map in the order written; nil for other nodes.
func (n *Node) Pairs() []Pair {
	if !n.IsMap() {
		return nil
	}
	var ps []Pair
	for i := 0; i+1 < len(n.y.Content); i += 2 {
		ps = append(ps, Pair{&Node{n.y.Content[i], n.file}, &Node{n.y.Content[i+1], n.file}})
	}
	return ps
}

// Get is the value of a key of a map, or nil.
func (n *Node) Get(key string) *Node {
	for _, p := range n.Pairs() {
		if p.Key.Text() == key {
			return p.Val
		}
	}
	return nil
}

// Items are the elements of a list; nil for other nodes.
func (n *Node) Items() []*Node {
	if !n.IsList() {
		return nil
	}
	var ns []*Node
	for _, y := range n.y.Content {
		ns = append(ns, &Node{y, n.file})
	}
	return ns
}

// Without is a copy of a map that lacks some keys.
func (n *Node) Without(keys ...string) *Node {
	c := *n.y
	c.Content = nil
	for i := 0; i+1 < len(n.y.Content); i += 2 {
		drop := false
		for _, k := range keys {
			drop = drop || n.y.Content[i].Value == k
		}
		if !drop {
			c.Content = append(c.Content, n.y.Content[i], n.y.Content[i+1])
		}
	}
	return &Node{&c, n.file}
}

// what names the kind of a node for a message.
func (n *Node) what() string {
	switch {
	case n.IsMap():
		return "a map"
	case n.IsList():
		return "a list"
	case n.IsNull():
		return "nothing"
	case n.y.Tag == "!!bool":
		return n.y.Value
	case n.y.Tag == "!!int", n.y.Tag == "!!float":
		return "the number " + n.y.Value
	}
	return fmt.Sprintf("the text %.60q", n.y.Value)
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// Parse reads one document. lookup finds the variables of ${NAME} and ${NAME:default}; $${ is a plain ${.
func Parse(file string, src []byte, lookup func(string) (string, bool)) (*Node, stages.Findings) {
	if len(src) > maxSize {
		return nil, stages.Findings{{File: file, Msg: fmt.Sprintf("%d bytes, a pipeline has at most %d", len(src), maxSize)}}
	}
	if i := unreadable(src); i >= 0 {
		return nil, stages.Findings{spot(file, src, i, fmt.Sprintf("byte %#x is neither text in UTF-8 nor a line break", src[i]), "save the file as UTF-8")}
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc, more yaml.Node
	if err := decodeNode(dec, &doc); err != nil {
		if errors.Is(err, errEmpty) {
			return nil, stages.Findings{{File: file, Msg: "the file is empty", Fix: "vtpu new writes one to start from"}}
		}
		return nil, stages.Findings{notYAML(file, src, err)}
	}
	switch err := decodeNode(dec, &more); {
	case errors.Is(err, errEmpty):
	case err != nil:
		return nil, stages.Findings{notYAML(file, src, err)}
	default:
		return nil, stages.Findings{{File: file, Line: more.Line, Msg: "a second document", Fix: "one file holds one pipeline; remove the line ---"}}
	}
	root := &Node{doc.Content[0], file}
	var fs stages.Findings
	check(root, 0, lookup, &fs)
	return root, fs
}

// notYAML is the finding for an error of the YAML library.
func notYAML(file string, src []byte, err error) stages.Finding {
	line, msg := yamlError(err)
	f := stages.Finding{File: file, Line: min(max(line, 1), 1+bytes.Count(bytes.TrimSuffix(src, []byte("\n")), []byte("\n"))), Msg: "not YAML: " + msg}
	switch {
	case strings.Contains(msg, "unexpected end of stream"):
		f.Fix = "close the quotes"
	case strings.Contains(msg, "cannot start any token"):
		f.Fix = "indent with spaces, not with tabs; quote texts that begin with a special character"
	case strings.Contains(msg, "mapping values are not allowed"):
		f.Fix = "keys of one map stand in the same column; a text with a colon needs quotes"
	case strings.HasPrefix(msg, "did not find expected"):
		f.Line = failing(src, err)
		f.Fix = "entries of one map or list stand in the same column; close { and ["
		if bareVariable.Match(src) {
			f.Fix = `between { and } a variable needs quotes: {units: "${UNITS:8}"}`
		}
	}
	if m := unknownAnchor.FindStringSubmatch(msg); m != nil {
		return spot(file, src, bytes.Index(src, []byte("*"+m[1])), noAnchors, noAnchorsFix)
	}
	return f
}

const noAnchors, noAnchorsFix = "anchors and aliases are not supported", "use repeat, or write it out; a text that begins with * or & needs quotes"

var unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced`)

// yamlError takes the line, where there is one, from an error of the YAML library.
func yamlError(err error) (line int, msg string) {
	m := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	line, _ = strconv.Atoi(m[1])
	return line, m[2]
}

// failing is the line with which the text begins to fail as it does. The library names the line where the enclosing map or list begins, which may be
// far above, or the line before.
func failing(src []byte, err error) int {
	var ends []int // of lines
	for i, c := range src {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	if n := len(ends); n == 0 || ends[n-1] < len(src) {
		ends = append(ends, len(src))
	}
	i, _ := slices.BinarySearchFunc(ends, 0, func(end, _ int) int {
		dec := yaml.NewDecoder(bytes.NewReader(src[:end]))
		for {
			var n yaml.Node
			switch e := decodeNode(dec, &n); {
			case errors.Is(e, errEmpty):
				return -1
			case e != nil && e.Error() == err.Error():
				return 0
			case e != nil:
				return -1
			}
		}
	})
	return min(i+1, len(ends))
}

// spot is a finding at a byte of a file.
func spot(file string, src []byte, at int, msg, fix string) stages.Finding {
	before := src[:max(at, 0)]
	return stages.Finding{File: file, Line: 1 + bytes.Count(before, []byte("\n")), Col: 1 + utf8.RuneCount(before[1+bytes.LastIndexByte(before, '\n'):]), Msg: msg, Fix: fix}
}

// unreadable is the first byte that no YAML file may have, or -1.
func unreadable(src []byte) int {
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f {
			return i
		}
		i += n
	}
	return -1
}

// bareVariable is a variable in a map on one line, where its brace would end the map.
var bareVariable = regexp.MustCompile(`\{[^"'\n]*\$\{`)

var errEmpty = errors.New("empty")

// decodeNode keeps a panic of the YAML library, should some input cause one, from the user.
func decodeNode(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	if err := dec.Decode(n); err != nil {
		if err.Error() == "EOF" {
			return errEmpty
		}
		return err
	}
	if len(n.Content) == 0 {
		return errEmpty
	}
	return nil
}

// tagged says that a tag stands before the node.
func (n *Node) tagged() bool {
	return strings.HasPrefix(n.y.Tag, "!") && !strings.HasPrefix(n.y.Tag, "!!") || n.y.Style&yaml.TaggedStyle != 0
}

// check finds what no part of a pipeline may contain, and expands variables, unless lookup is nil.
func check(n *Node, depth int, lookup func(string) (string, bool), fs *stages.Findings) {
	if depth > maxDepth {
		*fs = append(*fs, n.Finding(fmt.Sprintf("nested deeper than %d", maxDepth), ""))
		return
	}
	switch {
	case n.y.Kind == yaml.AliasNode || n.y.Anchor != "":
		*fs = append(*fs, n.Finding(noAnchors, noAnchorsFix))
	case n.tagged():
		*fs = append(*fs, n.Finding("tags are not supported", "remove "+n.y.Tag))
	case n.IsMap():
		seen := map[string]*Node{}
		for _, p := range n.Pairs() {
			k := p.Key.Text()
			switch first := seen[k]; {
			case p.Key.y.Kind != yaml.ScalarNode || p.Key.IsNull() || p.Key.y.Anchor != "" || p.Key.tagged():
				*fs = append(*fs, p.Key.Finding("a key must be a plain text", ""))
			case k == "<<" && p.Key.y.Tag == "!!merge":
				*fs = append(*fs, p.Key.Finding("merge keys are not supported", "write it out"))
			case first != nil:
				*fs = append(*fs, p.Key.Finding(fmt.Sprintf("key %s stands twice", k), fmt.Sprintf("the first one is in line %d", first.Line())))
			default:
				seen[k] = p.Key
			}
			check(p.Val, depth+1, lookup, fs)
		}
	case n.IsList():
		for _, e := range n.Items() {
			check(e, depth+1, lookup, fs)
		}
	case n.y.Kind == yaml.ScalarNode && lookup != nil:
		expand(n, lookup, fs)
	}
}

// variable is what stands for something else in a text: $${ for a plain ${, a variable, or a ${ that begins none.
var variable = regexp.MustCompile(`\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:[^}]*)?\}|\$\{`)

func expand(n *Node, lookup func(string) (string, bool), fs *stages.Findings) {
	if !strings.Contains(n.y.Value, "${") {
		return
	}
	alone := variable.FindString(n.y.Value) == n.y.Value && n.y.Value != "$${"
	s := variable.ReplaceAllStringFunc(n.y.Value, func(m string) string {
		switch m {
		case "$${":
			return "${"
		case "${":
			*fs = append(*fs, n.Finding("${ begins no variable", "write ${NAME} or ${NAME:default}; a plain ${ is $${"))
			return m
		}
		g := variable.FindStringSubmatch(m)
		if v, ok := lookup(g[1]); ok {
			return v
		}
		if g[2] == "" {
			*fs = append(*fs, n.Finding(fmt.Sprintf("the environment has no variable %s", g[1]), fmt.Sprintf("set it, or write ${%s:default}", g[1])))
		}
		return strings.TrimPrefix(g[2], ":")
	})
	n.y.Value = s
	// What it is now is to be seen from the new text.
	now := yaml.Node{Kind: yaml.ScalarNode, Value: s}
	switch tag := now.ShortTag(); {
	case n.y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0:
		n.y.Tag = tag
	case alone && (tag == "!!int" || tag == "!!float" || tag == "!!bool"):
		// Between { and } a variable can't stand without quotes: they don't make its number a text.
		n.y.Tag, n.y.Style = tag, 0
	}
}
