package gather

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"

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

// A column of text is a category, a column of numbers a feature.
func (r *records) numeric(col int) bool {
	for _, s := range r.cells[col] {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return true // one number makes it a column of numbers, so that a bad cell among them is found
		}
	}
	return false
}

func (r *records) fault(row int, name, cell, what string) {
	r.bad = append(r.bad, stages.Finding{File: r.file, Line: r.lines[row], Msg: fmt.Sprintf("row %d, column %q: %s", row+1, name, what),
		Fix: "mend the cell, or list the column under categorical"})
}

// numbers parses a column into dst, one number in stride.
func (r *records) numbers(col int, dst []float32, stride int) {
	for row, s := range r.cells[col] {
		v, err := strconv.ParseFloat(s, 32)
		switch {
		case len(r.bad) >= maxBad:
			return
		case s == "":
			r.fault(row, r.names[col], s, "the cell is empty")
		case err != nil && !math.IsInf(v, 0):
			r.fault(row, r.names[col], s, fmt.Sprintf("%q is not a number", s))
		case math.IsNaN(v) || math.IsInf(v, 0):
			r.fault(row, r.names[col], s, fmt.Sprintf("%q is not a finite float32", s))
		}
		dst[row*stride] = float32(v)
	}
}

// categories numbers the texts of a column in sorted order, from base on, and returns how many there are.
func (r *records) categories(col int, dst []int32, stride, base int) int {
	uniq := slices.Clone(r.cells[col])
	slices.Sort(uniq)
	uniq = slices.Compact(uniq)
	for row, s := range r.cells[col] {
		i, _ := slices.BinarySearch(uniq, s)
		dst[row*stride] = int32(base + i)
	}
	return len(uniq)
}

// dataset makes a table: x of the numeric columns, cats of the others, y of the targets.
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
				return nil, stages.Finding{File: r.file, Line: 1, Msg: fmt.Sprintf("there is no column %q", n), Fix: fmt.Sprintf("the columns are %q", r.names)}
			}
		}
	}
	n := len(r.lines)
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
		sub, div := 0.0, 1.0
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
