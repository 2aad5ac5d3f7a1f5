package strict

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"vtpu/stages"
)

// Decode reads a node into the struct that dst points to, by the tags yaml, min, max, above, below, enum and required. What dst holds before are
// the defaults.
func Decode(n *Node, dst any) stages.Findings {
	var fs stages.Findings
	if n.IsNull() {
		missing(n, reflect.ValueOf(dst).Elem(), nil, &fs)
		return fs
	}
	decodeStruct(n, reflect.ValueOf(dst).Elem(), &fs)
	return fs
}

// fieldsOf are the fields of a struct that have a key.
func fieldsOf(t reflect.Type) []reflect.StructField {
	var out []reflect.StructField
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("yaml") != "" {
			out = append(out, f)
		}
	}
	return out
}

func decodeStruct(n *Node, v reflect.Value, fs *stages.Findings) {
	if !n.IsMap() {
		*fs = append(*fs, n.Finding("want a map of keys and values, got "+n.what(), keysFix(v.Type())))
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]bool{}
	for _, p := range n.Pairs() {
		key := p.Key.Text()
		at := slices.IndexFunc(fields, func(f reflect.StructField) bool { return f.Tag.Get("yaml") == key })
		if at < 0 {
			var names []string
			for _, f := range fields {
				names = append(names, f.Tag.Get("yaml"))
			}
			*fs = append(*fs, p.Key.Finding(fmt.Sprintf("unknown key %s", key), Suggest(key, names)))
			continue
		}
		f := fields[at]
		seen[key] = !p.Val.IsNull() || f.Type.Kind() == reflect.Pointer // "path:" with nothing behind it does not give a path
		decodeValue(p.Val, v.FieldByIndex(f.Index), key, f.Tag, fs)
	}
	missing(n, v, seen, fs)
}

func missing(n *Node, v reflect.Value, seen map[string]bool, fs *stages.Findings) {
	for _, f := range fieldsOf(v.Type()) {
		if key := f.Tag.Get("yaml"); f.Tag.Get("required") == "true" && !seen[key] {
			*fs = append(*fs, n.Finding(fmt.Sprintf("%s is missing", key), strings.TrimSuffix(f.Tag.Get("doc"), ".")))
		}
	}
}

func keysFix(t reflect.Type) string {
	var names []string
	for _, f := range fieldsOf(t) {
		names = append(names, f.Tag.Get("yaml"))
	}
	if len(names) == 0 {
		return "it takes no keys: write {}"
	}
	return "the keys are " + strings.Join(names, ", ")
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func decodeValue(n *Node, v reflect.Value, key string, tag reflect.StructTag, fs *stages.Findings) {
	fault := func(format string, args ...any) {
		*fs = append(*fs, n.Finding(key+": "+fmt.Sprintf(format, args...), ""))
	}
	if n.IsNull() && v.Kind() != reflect.Pointer {
		return // the default
	}
	if reflect.PointerTo(v.Type()).Implements(textUnmarshaler) {
		if !n.IsScalar() {
			fault("want a single value, got %s", n.what())
			return
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Text())); err != nil {
			fault("%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		e := reflect.New(v.Type().Elem())
		if n.IsNull() && e.Elem().Kind() != reflect.Struct {
			return
		}
		if n.IsNull() {
			missing(n, e.Elem(), nil, fs)
		} else {
			decodeValue(n, e.Elem(), key, tag, fs)
		}
		v.Set(e)
	case reflect.Struct:
		decodeStruct(n, v, fs)
	case reflect.Slice:
		items := n.Items()
		if !n.IsList() {
			if n.IsScalar() && v.Type().Elem().Kind() == reflect.String {
				items = []*Node{n} // target: price is target: [price]
			} else {
				fault("want a list, got %s", n.what())
				return
			}
		}
		out := reflect.MakeSlice(v.Type(), len(items), len(items))
		for i, it := range items {
			if it.IsNull() {
				*fs = append(*fs, it.Finding(key+": an element of the list is empty", ""))
				continue
			}
			decodeValue(it, out.Index(i), key, tag, fs)
		}
		v.Set(out)
	case reflect.Bool:
		if n.y.Tag != "!!bool" || !n.IsScalar() {
			fault("want true or false, got %s", n.what())
			return
		}
		v.SetBool(strings.EqualFold(n.Text(), "true"))
	case reflect.Uint64:
		x, err := strconv.ParseUint(strings.ReplaceAll(n.Text(), "_", ""), 10, 64)
		if i, ok := whole(n); ok && i >= 0 {
			x, err = uint64(i), nil
		}
		if !n.IsScalar() || quoted(n) || err != nil {
			fault("want a whole number from 0 to %d, got %s", uint64(math.MaxUint64), n.what())
			return
		}
		if inRange(float64(x), tag, fault) {
			v.SetUint(x)
		}
	case reflect.Int, reflect.Int64:
		x, ok := whole(n)
		if !ok {
			fault("want a whole number, got %s", n.what())
			return
		}
		if inRange(float64(x), tag, fault) {
			v.SetInt(x)
		}
	case reflect.Float64:
		x, err := strconv.ParseFloat(strings.ReplaceAll(n.Text(), "_", ""), 64)
		if err != nil || !n.IsScalar() || quoted(n) || math.IsInf(x, 0) || math.IsNaN(x) {
			fault("want a finite number, got %s", n.what())
			return
		}
		if inRange(x, tag, fault) {
			v.SetFloat(x)
		}
	case reflect.String:
		if !n.IsScalar() {
			fault("want a text, got %s", n.what())
			return
		}
		if enum := tag.Get("enum"); enum != "" {
			if all := strings.Split(enum, "|"); !slices.Contains(all, n.Text()) {
				*fs = append(*fs, n.Finding(fmt.Sprintf("%s: want one of %s, got %s", key, strings.Join(all, ", "), n.what()), Suggest(n.Text(), all)))
				return
			}
		}
		v.SetString(n.Text())
	default:
		panic(fmt.Sprintf("strict: key %s has type %v, which has no reader", key, v.Type()))
	}
}

func quoted(n *Node) bool { return n.y.Tag == "!!str" && n.y.Style != 0 }

// whole reads 2000, 2_000, 2e3 and 2000.0.
func whole(n *Node) (int64, bool) {
	if !n.IsScalar() || quoted(n) {
		return 0, false
	}
	s := strings.ReplaceAll(n.Text(), "_", "")
	if x, err := strconv.ParseInt(s, 10, 64); err == nil {
		return x, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

func inRange(x float64, tag reflect.StructTag, fault func(string, ...any)) bool {
	for _, lim := range []struct {
		tag, text string
		bad       func(x, l float64) bool
	}{
		{"min", "at least", func(x, l float64) bool { return x < l }},
		{"max", "at most", func(x, l float64) bool { return x > l }},
		{"above", "above", func(x, l float64) bool { return x <= l }},
		{"below", "below", func(x, l float64) bool { return x >= l }},
	} {
		s := tag.Get(lim.tag)
		if s == "" {
			continue
		}
		l, err := strconv.ParseFloat(s, 64)
		if err != nil {
			panic("strict: tag " + lim.tag + ": " + err.Error())
		}
		if lim.bad(x, l) {
			fault("want a number %s %s, got %v", lim.text, s, x)
			return false
		}
	}
	return true
}

// Suggest names the candidate that a misspelt word most likely means, or all of them.
func Suggest(word string, all []string) string {
	s := slices.Clone(all)
	slices.Sort(s) // callers collect names from maps; among equals the first is told
	best, dist := "", len(word)/3+2
	for _, c := range s {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < dist {
			best, dist = c, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	if len(s) == 0 {
		return ""
	}
	if s = slices.Compact(s); len(s) > 40 {
		s = append(s[:40], "...")
	}
	return "known: " + strings.Join(s, ", ")
}

// distance is the number of insertions, deletions, replacements and swaps of neighbours that turn a into b (Damerau-Levenshtein, restricted).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 1 << 10
	}
	x, y := []rune(a), []rune(b)
	d := make([][]int, len(x)+1)
	for i := range d {
		d[i] = make([]int, len(y)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(x)][len(y)]
}
