package gather

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// checkTable is the SHA-256 of a table: names, shapes and values.
func checkTable(t *stages.Table) string {
	h := sha256.New()
	var b []byte
	flush := func(all bool) {
		if all || len(b) > 1<<16 {
			h.Write(b)
			b = b[:0]
		}
	}
	for _, c := range t.Cols {
		b = fmt.Appendf(b, "%s %v %v %d\n", c.Name, c.DType, c.Shape, t.N)
		for _, v := range c.F32 {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			flush(false)
		}
		for _, v := range c.I32 {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
			flush(false)
		}
	}
	flush(true)
	return hex.EncodeToString(h.Sum(nil))
}

// maxBad is the number of bad cells that are reported at once.
const maxBad = 10

// records are what csv and jsonl have in common: named columns of cells, each with the line that it stands on.
type records struct {
	file  string
	names []string
	cells [][]string // by column, then row
	lines []int      // line of each row in the file
	bad   stages.Findings
}

// numeric says whether a column holds features rather than categories. One number is enough, so that a bad cell among numbers is found; nan and
// inf alone are words, unless there is nothing else.
func (r *records) numeric(col int) bool {
	words := 0
	for _, s := range r.cells[col] {
		v, err := strconv.ParseFloat(s, 64)
		if err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
			return true
		}
		if !errors.Is(err, strconv.ErrRange) && err != nil {
			words++
		}
	}
	return words == 0
}

func (r *records) missing(name string) error {
	return stages.Finding{File: r.file, Line: 1, Msg: fmt.Sprintf("there is no column %q", name), Fix: fmt.Sprintf("the columns are %q", r.names)}
}

func (r *records) fault(row int, name, what string) {
	r.bad = append(r.bad, stages.Finding{File: r.file, Line: r.lines[row], Msg: fmt.Sprintf("row %d, column %q: %s", row+1, name, what),
		Fix: "mend the cell, or list the column under categorical"})
}

// numbers parses a column into dst: row i goes to dst[i*stride].
func (r *records) numbers(col int, dst []float32, stride int) {
	for row, s := range r.cells[col] {
		v, err := strconv.ParseFloat(s, 32)
		switch {
		case len(r.bad) >= maxBad:
			return
		case s == "":
			r.fault(row, r.names[col], "the cell is empty")
		case err != nil && !math.IsInf(v, 0):
			r.fault(row, r.names[col], fmt.Sprintf("%.40q is not a number", s))
		case math.IsNaN(v) || math.IsInf(v, 0):
			r.fault(row, r.names[col], fmt.Sprintf("%.40q is not a finite float32", s))
		}
		dst[row*stride] = float32(v)
	}
}

// categories numbers the texts of a column from base on, and returns how many there are. The order is that of the texts, numbers before them by
// value; it does not depend on the order of the rows.
func (r *records) categories(col int, dst []int32, stride, base int) int {
	type category struct {
		text   string
		number bool
		v      float64
	}
	id := map[string]int32{}
	var cs []category
	for _, s := range r.cells[col] {
		if _, known := id[s]; !known {
			id[s] = 0
			v, err := strconv.ParseFloat(s, 64)
			cs = append(cs, category{s, err == nil && v == v, v})
		}
	}
	slices.SortFunc(cs, func(a, b category) int {
		switch {
		case a.number != b.number:
			if a.number {
				return -1
			}
			return 1
		case a.number && a.v != b.v:
			return cmp.Compare(a.v, b.v)
		}
		return strings.Compare(a.text, b.text)
	})
	for i, c := range cs {
		id[c.text] = int32(base + i)
	}
	for row, s := range r.cells[col] {
		dst[row*stride] = id[s]
	}
	return len(cs)
}

// dataset makes a table: x (N,F) of the numeric columns in their order, cats (N,K) of the others, whose ids do not overlap, y of the targets: (N,O)
// numbers or N classes.
func (r *records) dataset(targets, categorical []string, normalize string) (*stages.Dataset, error) {
	index := map[string]int{}
	for i, n := range r.names {
		if _, twice := index[n]; twice {
			return nil, stages.Finding{File: r.file, Line: 1, Msg: fmt.Sprintf("column %q stands twice in the header", n)}
		}
		index[n] = i
	}
	for _, list := range [][]string{targets, categorical} {
		for _, n := range list {
			if _, ok := index[n]; !ok {
				return nil, r.missing(n)
			}
		}
	}
	n := len(r.lines)
	if len(r.names) == 0 {
		return nil, stages.Finding{File: r.file, Msg: "there are no columns"}
	}
	if n == 0 {
		return nil, stages.Finding{File: r.file, Msg: "there are no rows"}
	}
	isCat := func(i int) bool { return slices.Contains(categorical, r.names[i]) || !r.numeric(i) }
	var nums, cats, tnum, tcat []int
	for i, name := range r.names {
		switch t := slices.Contains(targets, name); {
		case t && isCat(i):
			tcat = append(tcat, i)
		case t:
			tnum = append(tnum, i)
		case isCat(i):
			cats = append(cats, i)
		default:
			nums = append(nums, i)
		}
	}
	if len(tcat) > 0 && len(tcat)+len(tnum) > 1 {
		return nil, stages.Finding{File: r.file, Line: 1, Msg: "several targets, one of them a category", Fix: "one category, or numbers alone"}
	}
	t := &stages.Table{N: n}
	facts := map[string]int{"rows": n}
	if len(nums) > 0 {
		x := make([]float32, n*len(nums))
		for k, i := range nums {
			r.numbers(i, x[k:], len(nums))
		}
		t.Cols = append(t.Cols, stages.Column{Name: "x", Shape: tensor.Of(len(nums)), F32: x})
		facts["features"] = len(nums)
		scaleColumns(x, len(nums), normalize)
	}
	if len(cats) > 0 {
		ids := make([]int32, n*len(cats))
		base := 0
		for k, i := range cats {
			base += r.categories(i, ids[k:], len(cats), base)
		}
		t.Cols = append(t.Cols, stages.Column{Name: "cats", DType: tensor.I32, Shape: tensor.Of(len(cats)), I32: ids, Max: base})
		facts["cat_rows"] = base
	}
	switch {
	case len(tcat) == 1:
		y := make([]int32, n)
		k := r.categories(tcat[0], y, 1, 0)
		t.Cols = append(t.Cols, stages.Column{Name: "y", DType: tensor.I32, I32: y, Max: k})
		facts["classes"] = k
	case len(tnum) > 0:
		y := make([]float32, n*len(tnum))
		for k, i := range tnum {
			r.numbers(i, y[k:], len(tnum))
		}
		t.Cols = append(t.Cols, stages.Column{Name: "y", Shape: tensor.Of(len(tnum)), F32: y})
		facts["outputs"] = len(tnum)
	}
	if err := r.bad.Err(); err != nil {
		return nil, err
	}
	return &stages.Dataset{Table: t, Facts: facts, Check: checkTable(t)}, nil
}

// scaleColumns brings each column to mean 0 and standard deviation 1 (standard) or to 0..1 (minmax), by float64 sums over the rows in order.
func scaleColumns(x []float32, cols int, how string) {
	if how == "none" || how == "" {
		return
	}
	n := len(x) / cols
	for c := range cols {
		var sub, div float64
		if how == "minmax" {
			lo, hi := math.Inf(1), math.Inf(-1)
			for r := range n {
				v := float64(x[r*cols+c])
				lo, hi = min(lo, v), max(hi, v)
			}
			sub, div = lo, hi-lo
		} else {
			var sum, sq float64
			for r := range n {
				sum += float64(x[r*cols+c])
			}
			sub = sum / float64(n)
			for r := range n {
				d := float64(x[r*cols+c]) - sub
				sq += float64(d * d)
			}
			div = math.Sqrt(sq / float64(n))
		}
		if div == 0 {
			div = 1
		}
		for r := range n {
			x[r*cols+c] = float32((float64(x[r*cols+c]) - sub) / div)
		}
	}
}
