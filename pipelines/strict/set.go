package strict

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"vtpu/stages"
)

// Set changes the value at a path of keys joined by dots: run.steps=10. In a list of stages a step of the path is the name of a stage, name#2 the second
// of that name, or a number counted from 0.
func Set(root *Node, assignment string) *stages.Finding {
	fault := func(format string, args ...any) *stages.Finding {
		return &stages.Finding{File: "--set " + assignment, Msg: fmt.Sprintf(format, args...)}
	}
	path, text, ok := strings.Cut(assignment, "=")
	steps := strings.Split(path, ".")
	if !ok || slices.Contains(steps, "") {
		return fault("want key.key=value")
	}
	var doc yaml.Node
	if err := decodeNode(yaml.NewDecoder(strings.NewReader(text)), &doc); err != nil {
		if text != "" && !errors.Is(err, errEmpty) {
			_, msg := yamlError(err)
			f := fault("the value is not YAML: %s", msg)
			f.Fix = `quote a text with special characters: key='"*"'`
			return f
		}
		doc.Content = []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!null"}}
	}
	val := located(doc.Content[0], assignment)
	var fs stages.Findings
	if check(&Node{val, root.file}, 0, nil, &fs); len(fs) > 0 {
		return &fs[0]
	}
	at := root.y
	for i, step := range steps {
		last := i == len(steps)-1
		switch at.Kind {
		case yaml.SequenceNode:
			item, f := pick(at, step)
			if f != "" {
				return fault("%s", f)
			}
			if last {
				if _, err := strconv.Atoi(step); err == nil {
					*item = *val
				} else {
					setKey(item, strings.SplitN(step, "#", 2)[0], val)
				}
				return nil
			}
			if _, err := strconv.Atoi(step); err == nil {
				at = item
				continue
			}
			at = child(item, strings.SplitN(step, "#", 2)[0], assignment)
		case yaml.MappingNode:
			if last {
				setKey(at, step, val)
				return nil
			}
			at = child(at, step, assignment)
		default:
			return fault("%s is a single value, there is nothing below it", strings.Join(steps[:i], "."))
		}
	}
	return nil
}

// located marks a value as one from the command line, for findings. A comment is where a node has room for that.
func located(v *yaml.Node, assignment string) *yaml.Node {
	v.FootComment = "--set " + assignment
	for _, c := range v.Content {
		located(c, assignment)
	}
	return v
}

// child is the value of a key that more keys follow; nothing becomes a map.
func child(m *yaml.Node, key, assignment string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			v := m.Content[i+1]
			if v.Kind == yaml.ScalarNode && v.Tag == "!!null" {
				*v = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: v.Line, Column: v.Column}
			}
			return v
		}
	}
	v := located(&yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, assignment)
	setKey(m, key, v)
	return v
}

func setKey(m *yaml.Node, key string, v *yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content[i+1] = v
			return
		}
	}
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: m.Line, Column: m.Column, FootComment: v.FootComment}, v)
}

// pick finds an element of a list by number, or by the key or name of a stage.
func pick(list *yaml.Node, step string) (*yaml.Node, string) {
	if i, err := strconv.Atoi(step); err == nil {
		if i < 0 || i >= len(list.Content) {
			return nil, fmt.Sprintf("there is no element %d, the list has %d", i, len(list.Content))
		}
		return list.Content[i], ""
	}
	name, nth, numbered := strings.Cut(step, "#")
	var found []*yaml.Node
	var names []string
	for _, e := range list.Content {
		if e.Kind == yaml.ScalarNode { // "- relu" is "- relu: {}"
			names = append(names, e.Value)
			if e.Value == name {
				key := *e
				*e = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: e.Line, Column: e.Column,
					Content: []*yaml.Node{&key, {Kind: yaml.MappingNode, Tag: "!!map", Line: e.Line, Column: e.Column}}}
				found = append(found, e)
			}
			continue
		}
		for i := 0; i+1 < len(e.Content) && e.Kind == yaml.MappingNode; i += 2 {
			names = append(names, e.Content[i].Value)
			if e.Content[i].Value == name {
				found = append(found, e)
			}
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Sprintf("the list has no %s; it has %s", name, strings.Join(slices.Compact(names), ", "))
	case numbered:
		i, err := strconv.Atoi(nth)
		if err != nil || i < 1 || i > len(found) {
			return nil, fmt.Sprintf("%s: there are %d of them, counted from #1", step, len(found))
		}
		return found[i-1], ""
	case len(found) > 1:
		return nil, fmt.Sprintf("%s stands %d times; write %s#1 or %s#2", name, len(found), name, name)
	}
	return found[0], ""
}
