package chart

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// A Core is a box of the topology picture.
type Core struct {
	Name  string
	Group string // cores with the same group stand in one row
	CPUs  []int
	Slow  bool
}

// svg collects the elements of a picture.
type svg struct {
	strings.Builder
	w, h float64
}

func (s *svg) rect(x, y, w, h float64, fill, stroke, title string) {
	s.w, s.h = max(s.w, x+w+10), max(s.h, y+h+10)
	fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" stroke="%s">`, x, y, w, h, fill, stroke)
	if title != "" {
		fmt.Fprintf(s, "<title>%s</title>", html.EscapeString(title))
	}
	s.WriteString("</rect>\n")
}

func (s *svg) text(x, y float64, anchor, t string) {
	s.w, s.h = max(s.w, x+7*float64(len(t))), max(s.h, y+10)
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(t))
}

func (s *svg) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
%s</svg>
`, s.w, s.h, s.w, s.h, s.String())
	return err
}

// Cores draws the logical CPUs as boxes in the boxes of their cores.
func Cores(w io.Writer, cores []Core) error {
	const perRow, cpuW, cpuH = 8, 56.0, 40.0
	var s svg
	y := 10.0
	for i := 0; i < len(cores); {
		g := cores[i].Group
		s.text(10, y+12, "start", g)
		y += 20
		x, inRow, tall := 10.0, 0, 0.0
		for ; i < len(cores) && cores[i].Group == g; i++ {
			if inRow == perRow {
				x, inRow = 10, 0
				y += tall + 10
			}
			c := cores[i]
			wide := cpuW*float64(len(c.CPUs)) + 8*float64(len(c.CPUs)+1)
			tall = cpuH + 34
			fill := "#e8f0fa"
			if c.Slow {
				fill = "#eee"
			}
			s.rect(x, y, wide, tall, fill, "#333", c.Name)
			s.text(x+wide/2, y+15, "middle", c.Name)
			for k, id := range c.CPUs {
				at := x + 8 + float64(k)*(cpuW+8)
				s.rect(at, y+22, cpuW, cpuH, "white", "#1f77b4", fmt.Sprintf("logical CPU %d", id))
				s.text(at+cpuW/2, y+22+cpuH/2+4, "middle", fmt.Sprintf("CPU %d", id))
			}
			x += wide + 10
			inRow++
		}
		y += tall + 16
	}
	return s.write(w)
}

// A Span is a stretch of time that a lane spent on something, in seconds.
type Span struct {
	Lane       string
	What       string
	Begin, End float64
}

// shades are the colours of what lanes do, in order of appearance.
var shades = []string{"#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#bbbbbb"}

// Timeline draws what each lane did over time.
func Timeline(w io.Writer, title string, spans []Span) error {
	if len(spans) == 0 {
		return fmt.Errorf("chart: a timeline needs spans")
	}
	const left, width, row = 90.0, 700.0, 30.0
	lo, hi := spans[0].Begin, spans[0].End
	lanes, kinds := []string{}, []string{}
	index := func(list *[]string, s string) int {
		for i, x := range *list {
			if x == s {
				return i
			}
		}
		*list = append(*list, s)
		return len(*list) - 1
	}
	for _, p := range spans {
		lo, hi = min(lo, p.Begin), max(hi, p.End)
		index(&lanes, p.Lane)
		index(&kinds, p.What)
	}
	if hi <= lo {
		hi = lo + 1e-9
	}
	var s svg
	s.text(10, 18, "start", title)
	x := func(t float64) float64 { return left + width*(t-lo)/(hi-lo) }
	for _, p := range spans {
		y := 30 + row*float64(index(&lanes, p.Lane))
		s.rect(x(p.Begin), y, max(0.5, x(p.End)-x(p.Begin)), row-8, shades[index(&kinds, p.What)%len(shades)], "none",
			fmt.Sprintf("%s: %s, %.1f µs", p.Lane, p.What, 1e6*(p.End-p.Begin)))
	}
	for i, l := range lanes {
		s.text(10, 30+row*float64(i)+15, "start", l)
	}
	y := 30 + row*float64(len(lanes)) + 14
	for i := range 6 {
		t := lo + (hi-lo)*float64(i)/5
		s.text(x(t), y, "middle", fmt.Sprintf("%.0f µs", 1e6*(t-lo)))
	}
	for i, k := range kinds {
		at := left + 150*float64(i%5)
		yy := y + 16 + 18*float64(i/5)
		s.rect(at, yy, 12, 12, shades[i%len(shades)], "none", "")
		s.text(at+16, yy+11, "start", k)
	}
	return s.write(w)
}
