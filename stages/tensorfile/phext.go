package tensorfile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// The delimiters of phext, from the slowest dimension to the fastest: library, shelf, series, collection, volume, book, chapter, section, scroll.
const delimiters = "\x01\x1f\x1e\x1d\x1c\x1b\x19\x18\x17"

// WritePhext writes entries as phext text: the scroll at an entry's home holds a line `name float32 (d0,d1)` and then the values, a row of the last
// dimension a line, in the shortest decimal form that reads back to the same bits.
func WritePhext(w io.Writer, entries []Entry) error {
	es := slices.Clone(entries)
	slices.SortFunc(es, func(a, b Entry) int { return a.Coord.Compare(b.Coord) })
	bw := bufio.NewWriterSize(w, 1<<16)
	at := weights.Origin()
	for i, e := range es {
		if e.Coord == (weights.Coord{}) {
			return fmt.Errorf("tensor %s has no home in phext space", e.Name)
		}
		if e.Coord[9] != 1 || e.Coord[10] != 1 {
			return fmt.Errorf("tensor %s has its home inside of a scroll, at %s", e.Name, e.Coord)
		}
		if i > 0 && es[i-1].Coord == e.Coord {
			return fmt.Errorf("tensors %s and %s have the same home %s", es[i-1].Name, e.Name, e.Coord)
		}
		if strings.ContainsAny(e.Name, " \n"+delimiters) {
			return fmt.Errorf("tensor name %q can't stand in a phext file", e.Name)
		}
		for d := range len(delimiters) {
			if e.Coord[d] != at[d] {
				for range e.Coord[d] - at[d] {
					bw.WriteByte(delimiters[d]) // a bufio.Writer keeps its first error for Flush
				}
				at[d] = e.Coord[d]
				for k := d + 1; k < len(delimiters); k++ {
					at[k] = 1
				}
			}
		}
		fmt.Fprintf(bw, "%s %v %v\n", e.Name, e.T.DType, e.T.Shape)
		last := max(e.T.Shape.Last(), 1)
		var b []byte
		for j := range e.T.Len() {
			if e.T.DType == tensor.I32 {
				b = strconv.AppendInt(b[:0], int64(e.T.I32[j]), 10)
			} else {
				b = strconv.AppendFloat(b[:0], float64(e.T.F32[j]), 'g', -1, 32)
			}
			if j%last == last-1 {
				b = append(b, '\n')
			} else {
				b = append(b, ' ')
			}
			bw.Write(b)
		}
	}
	return bw.Flush()
}

// ReadPhext reads what WritePhext writes; scrolls that are empty are passed over.
func ReadPhext(path string) ([]Entry, error) {
	b, err := ReadAll(path)
	if err != nil {
		return nil, err
	}
	return parsePhext(path, b)
}

func parsePhext(path string, b []byte) ([]Entry, error) {
	var es []Entry
	seen := map[string]bool{}
	at := weights.Origin()
	for {
		end := bytes.IndexAny(b, delimiters)
		text := b
		if end >= 0 {
			text = b[:end]
		}
		if len(bytes.TrimSpace(text)) > 0 {
			e, err := parseScroll(string(text))
			if err != nil {
				return nil, bad(path, "scroll %s: %v", at, err)
			}
			if seen[e.Name] {
				return nil, bad(path, "scroll %s: tensor %s stands twice", at, e.Name)
			}
			seen[e.Name] = true
			e.Coord = at
			es = append(es, e)
		}
		if end < 0 {
			return sorted(es), nil
		}
		d := strings.IndexByte(delimiters, b[end])
		if at[d]++; at[d] > weights.MaxDim {
			return nil, bad(path, "more than %d delimiters of one dimension in a row", weights.MaxDim)
		}
		for k := d + 1; k < len(delimiters); k++ {
			at[k] = 1
		}
		b = b[end+1:]
	}
}

func parseScroll(s string) (Entry, error) {
	var e Entry
	head, body, _ := strings.Cut(strings.TrimLeft(s, "\n"), "\n")
	f := strings.Fields(head)
	if len(f) != 3 {
		return e, fmt.Errorf("first line %.60q, want: name float32 (2,3)", head)
	}
	e.Name = f[0]
	d := tensor.F32
	switch f[1] {
	case "float32":
	case "int32":
		d = tensor.I32
	default:
		return e, fmt.Errorf("type %q, want float32 or int32", f[1])
	}
	dims := strings.TrimSuffix(strings.TrimPrefix(f[2], "("), ")")
	if len(dims)+2 != len(f[2]) {
		return e, fmt.Errorf("shape %q, want (2,3)", f[2])
	}
	var ns []int64
	for p := range strings.SplitSeq(dims, ",") {
		if dims == "" {
			break
		}
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil {
			return e, fmt.Errorf("shape %q, want (2,3)", f[2])
		}
		ns = append(ns, n)
	}
	// Every value takes two bytes at least, itself and what separates it; the last needs only one.
	shape, err := shapeOf(ns, 2, int64(len(body))+1)
	if err != nil {
		return e, err
	}
	e.T = tensor.New(d, shape)
	i := 0
	for v := range strings.FieldsSeq(body) {
		if i == shape.Len() {
			return e, fmt.Errorf("more than %d values", i)
		}
		if d == tensor.I32 {
			x, err := strconv.ParseInt(v, 10, 32)
			if err != nil {
				return e, fmt.Errorf("value %d is %.30q, not an int32", i+1, v)
			}
			e.T.I32[i] = int32(x)
		} else {
			x, err := strconv.ParseFloat(v, 32)
			if err != nil {
				return e, fmt.Errorf("value %d is %.30q, not a float32", i+1, v)
			}
			e.T.F32[i] = float32(x)
		}
		i++
	}
	if i != shape.Len() {
		return e, fmt.Errorf("%d values, want %d", i, shape.Len())
	}
	return e, nil
}
