// Package strict reads YAML into config structs without forgiving anything: an unknown key, a wrong type or a value out of range is a finding with
// its line and column and, where one can be guessed, what was meant. All findings are reported at once.
package strict

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

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

// Line and Col are 1-based.
func (n *Node) Line() int { return n.y.Line }

// Col is the column of the node's first character.
func (n *Node) Col() int { return n.y.Column }

// File is the name under which the node was read.
func (n *Node) File() string { return n.file }

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
	case n.y.Tag == "!!str":
		return fmt.Sprintf("the text %q", n.y.Value)
	case n.y.Tag == "!!bool":
		return n.y.Value
	}
	return "the number " + n.y.Value
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// Parse reads one document. lookup finds the variables of ${NAME} and ${NAME:default}; $${ is a plain ${.
func Parse(file string, src []byte, lookup func(string) (string, bool)) (*Node, stages.Findings) {
	if len(src) > maxSize {
		return nil, stages.Findings{{File: file, Msg: fmt.Sprintf("%d bytes, a pipeline has at most %d", len(src), maxSize)}}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(src)))
	var doc, more yaml.Node
	if err := decodeNode(dec, &doc); err != nil {
		if errors.Is(err, errEmpty) {
			return nil, stages.Findings{{File: file, Msg: "the file is empty", Fix: "vtpu new writes one to start from"}}
		}
		m := yamlLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
		line, _ := strconv.Atoi(m[1])
		f := stages.Finding{File: file, Line: line, Msg: "not YAML: " + m[2]}
		if strings.Contains(m[2], "cannot start any token") {
			f.Fix = "indent with spaces, not with tabs; quote texts that begin with a special character"
		}
		return nil, stages.Findings{f}
	}
	if err := decodeNode(dec, &more); !errors.Is(err, errEmpty) {
		return nil, stages.Findings{{File: file, Line: more.Line, Msg: "a second document", Fix: "one file holds one pipeline; remove the line ---"}}
	}
	root := &Node{doc.Content[0], file}
	var fs stages.Findings
	check(root, 0, lookup, &fs)
	return root, fs
}

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

// check finds what no part of a pipeline may contain, and expands variables.
func check(n *Node, depth int, lookup func(string) (string, bool), fs *stages.Findings) {
	if depth > maxDepth {
		*fs = append(*fs, n.Finding(fmt.Sprintf("nested deeper than %d", maxDepth), ""))
		return
	}
	switch {
	case n.y.Kind == yaml.AliasNode || n.y.Anchor != "":
		*fs = append(*fs, n.Finding("anchors and aliases are not supported", "use repeat, or write it out"))
	case n.IsMap():
		seen := map[string]*Node{}
		for _, p := range n.Pairs() {
			k := p.Key.Text()
			switch first := seen[k]; {
			case p.Key.y.Kind != yaml.ScalarNode:
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
	case n.y.Kind == yaml.ScalarNode:
		if strings.HasPrefix(n.y.Tag, "!") && !strings.HasPrefix(n.y.Tag, "!!") || n.y.Style&yaml.TaggedStyle != 0 {
			*fs = append(*fs, n.Finding("tags are not supported", "remove "+n.y.Tag))
			return
		}
		expand(n, lookup, fs)
	}
}

var variable = regexp.MustCompile(`\$?\$\{([A-Za-z_][A-Za-z0-9_]*)(:[^}]*)?\}`)

func expand(n *Node, lookup func(string) (string, bool), fs *stages.Findings) {
	if !strings.Contains(n.y.Value, "${") {
		return
	}
	s := variable.ReplaceAllStringFunc(n.y.Value, func(m string) string {
		if strings.HasPrefix(m, "$$") {
			return m[1:]
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
	if n.y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		n.y.Tag = "" // what it is now is to be seen from the new text
		n.y.Tag = n.y.ShortTag()
	}
}
