package weights

import (
	"fmt"
	"strconv"
	"strings"
)

// Dims is the number of dimensions of phext space; MaxDim is the largest value of each, 11 bits.
const (
	Dims   = 11
	MaxDim = 2047
)

// Coord is a phext coordinate: library, shelf, series, collection, volume, book, chapter, section, scroll, line, column, each 1..2047. The zero Coord is
// no coordinate.
type Coord [Dims]uint16

var dimNames = [Dims]string{"library", "shelf", "series", "collection", "volume", "book", "chapter", "section", "scroll", "line", "column"}

// Origin is 1.1.1/1.1.1/1.1.1, line 1, column 1.
func Origin() (c Coord) {
	for i := range c {
		c[i] = 1
	}
	return c
}

// ParseCoord reads library.shelf.series/collection.volume.book/chapter.section.scroll and, if it is there, /line.column.
func ParseCoord(s string) (Coord, error) {
	var c Coord
	groups := strings.Split(s, "/")
	if len(groups) != 3 && len(groups) != 4 {
		return c, fmt.Errorf("coordinate %q has %d groups between slashes, want 3 or 4, as in 1.1.1/1.1.1/1.1.1", s, len(groups))
	}
	i := 0
	for g, group := range groups {
		want := 3
		if g == 3 {
			want = 2
		}
		parts := strings.Split(group, ".")
		if len(parts) != want {
			return Coord{}, fmt.Errorf("coordinate %q: group %q has %d numbers, want %d", s, group, len(parts), want)
		}
		for _, p := range parts {
			n, err := strconv.ParseUint(p, 10, 16)
			if err != nil || n < 1 || n > MaxDim || p[0] == '0' || p[0] == '+' {
				return Coord{}, fmt.Errorf("coordinate %q: %s is %q, want a number in 1..%d", s, dimNames[i], p, MaxDim)
			}
			c[i] = uint16(n)
			i++
		}
	}
	for ; i < Dims; i++ {
		c[i] = 1
	}
	return c, nil
}

// String is the text form that ParseCoord reads; line and column are left out where both are 1.
func (c Coord) String() string {
	s := fmt.Sprintf("%d.%d.%d/%d.%d.%d/%d.%d.%d", c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
	if c[9] != 1 || c[10] != 1 {
		s += fmt.Sprintf("/%d.%d", c[9], c[10])
	}
	return s
}

// MarshalText is String.
func (c Coord) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseCoord.
func (c *Coord) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCoord(string(b))
	return err
}

// Pack puts the 121 bits into two words, library highest, so that packed coordinates order as coordinates do. Chapter straddles the words: its upper
// bits are the lowest of hi.
func (c Coord) Pack() (hi, lo uint64) {
	for _, d := range c {
		hi = hi<<11 | lo>>53
		lo = lo<<11 | uint64(d)
	}
	return hi, lo
}

// Unpack is the opposite of Pack.
func Unpack(hi, lo uint64) (Coord, error) {
	var c Coord
	h, l := hi, lo
	for i := Dims - 1; i >= 0; i-- {
		c[i] = uint16(l & MaxDim)
		l = l>>11 | h<<53
		h >>= 11
	}
	if h != 0 || l != 0 {
		return Coord{}, fmt.Errorf("packed coordinate %#x %#x has more than 121 bits", hi, lo)
	}
	for i, d := range c {
		if d == 0 {
			return Coord{}, fmt.Errorf("packed coordinate %#x %#x: %s is 0", hi, lo, dimNames[i])
		}
	}
	return c, nil
}

// Compare orders coordinates: -1, 0 or 1.
func (c Coord) Compare(d Coord) int {
	for i := range c {
		if c[i] != d[i] {
			if c[i] < d[i] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// Walk is the coordinate n places after c: columns first, then lines, scrolls and so on. Row r of a table lives at home.Walk(r), so neighbours
// stay neighbours.
func (c Coord) Walk(n int) (Coord, error) {
	if n < 0 {
		return Coord{}, fmt.Errorf("walk of %d places from %s", n, c)
	}
	carry := uint64(n)
	for i := Dims - 1; i >= 0 && carry > 0; i-- {
		v := uint64(c[i]-1) + carry
		c[i] = uint16(v%MaxDim) + 1
		carry = v / MaxDim
	}
	if carry > 0 {
		return Coord{}, fmt.Errorf("%d places lead out of phext space", n)
	}
	return c, nil
}

// Index is the number of places from home to c, the opposite of Walk; false where c lies before home or further than an int counts.
func (c Coord) Index(home Coord) (int, bool) {
	n := int64(0)
	for i := range c {
		if n > (1<<62)/MaxDim || n < -(1<<62)/MaxDim {
			return 0, false
		}
		n = n*MaxDim + int64(c[i]) - int64(home[i])
	}
	return int(n), n >= 0
}
