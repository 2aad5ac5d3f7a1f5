// Package chart draws the loss of a run: in the terminal, as SVG and as PNG.
package chart

import (
	"fmt"
	"image/color"
	"io"
	"math"

	"github.com/guptarohit/asciigraph"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A Series is a curve: loss over steps.
type Series struct {
	Name string
	X, Y []float64
}

// maxPoints is what a curve is thinned to: more can't be seen.
const maxPoints = 1000

// thin averages neighbours until at most n points are left; what is not finite is left out.
func thin(s Series, n int) Series {
	out := Series{Name: s.Name}
	for i := range s.X {
		if !math.IsNaN(s.Y[i]) && !math.IsInf(s.Y[i], 0) {
			out.X, out.Y = append(out.X, s.X[i]), append(out.Y, s.Y[i])
		}
	}
	if len(out.X) <= n {
		return out
	}
	all := out
	out.X, out.Y = nil, nil
	for b := range n {
		lo, hi := b*len(all.X)/n, (b+1)*len(all.X)/n
		var x, y float64
		for i := lo; i < hi; i++ {
			x += all.X[i]
			y += all.Y[i]
		}
		out.X, out.Y = append(out.X, x/float64(hi-lo)), append(out.Y, y/float64(hi-lo))
	}
	return out
}

// steep says that a logarithmic axis shows more: all values above 0, the largest 50 times the smallest.
func steep(all []Series) bool {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, s := range all {
		for _, y := range s.Y {
			lo, hi = min(lo, y), max(hi, y)
		}
	}
	return lo > 0 && hi/lo > 50
}

// Terminal draws the first curve with characters, width columns wide.
func Terminal(s Series, width, height int) string {
	s = thin(s, max(width, 10))
	if len(s.Y) < 2 {
		return ""
	}
	caption := s.Name
	y := s.Y
	if steep([]Series{s}) {
		caption += " (log10)"
		y = nil
		for _, v := range s.Y {
			y = append(y, math.Log10(v))
		}
	}
	return asciigraph.Plot(y, asciigraph.Height(height), asciigraph.Width(max(width, 10)), asciigraph.Precision(3),
		asciigraph.Caption(fmt.Sprintf("%s, steps %.0f to %.0f", caption, s.X[0], s.X[len(s.X)-1])))
}

var colours = []color.RGBA{{0x1f, 0x77, 0xb4, 0xff}, {0xd6, 0x27, 0x28, 0xff}, {0x2c, 0xa0, 0x2c, 0xff}}

// pale is a colour mixed with white.
func pale(c color.RGBA) color.Color {
	mix := func(v uint8) uint8 { return uint8((int(v) + 2*255) / 3) }
	return color.RGBA{mix(c.R), mix(c.G), mix(c.B), 255}
}

// noisy is the number of points from which on a curve is drawn pale, with a line through its means.
const noisy = 100

// through is the curve of running means, over a window of n points centred on each.
func through(s Series, n int) Series {
	out := Series{Name: fmt.Sprintf("%s, mean of %d", s.Name, n), X: s.X}
	for i := range s.Y {
		h := min(n/2, i) // symmetric at the beginning, where a loss falls
		near := s.Y[i-h : min(i+h+1, len(s.Y))]
		sum := 0.0
		for _, y := range near {
			sum += y
		}
		out.Y = append(out.Y, sum/float64(len(near)))
	}
	return out
}

// Draw writes all curves as "svg" or "png".
func Draw(w io.Writer, format, title string, all []Series) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, "step", "loss"
	p.Title.Padding = vg.Points(4)
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	var drawn []Series
	add := func(s Series, c color.Color, wide vg.Length) error {
		pts := make(plotter.XYs, len(s.X))
		for j := range s.X {
			pts[j].X, pts[j].Y = s.X[j], s.Y[j]
		}
		line, err := plotter.NewLine(pts)
		if err != nil {
			return fmt.Errorf("chart: %s: %w", s.Name, err)
		}
		line.Color, line.Width = c, wide
		p.Add(line)
		p.Legend.Add(s.Name, line)
		if len(s.X) == 1 {
			dot, err := plotter.NewScatter(pts)
			if err != nil {
				return fmt.Errorf("chart: %s: %w", s.Name, err)
			}
			dot.Color, dot.Shape = c, draw.CircleGlyph{}
			p.Add(dot)
		}
		return nil
	}
	for i, s := range all {
		steps := len(s.X)
		s = thin(s, maxPoints)
		if len(s.X) == 0 {
			continue
		}
		drawn = append(drawn, s)
		c := colours[i%len(colours)]
		if len(s.X) < noisy {
			if err := add(s, c, vg.Points(1.5)); err != nil {
				return err
			}
			continue
		}
		n := len(s.X) / 20
		mean := through(s, n)
		mean.Name = fmt.Sprintf("%s, mean of %d steps", s.Name, n*max(1, steps/len(s.X)))
		if err := add(s, pale(c), vg.Points(0.8)); err != nil {
			return err
		}
		if err := add(mean, c, vg.Points(1.8)); err != nil {
			return err
		}
	}
	if steep(drawn) {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	if p.Y.Min == p.Y.Max {
		p.Y.Min, p.Y.Max = p.Y.Min-1, p.Y.Max+1
	}
	if p.X.Min == p.X.Max {
		p.X.Min, p.X.Max = p.X.Min-1, p.X.Max+1
	}
	var c interface {
		vg.CanvasSizer
		io.WriterTo
	}
	switch format {
	case "svg":
		c = vgsvg.New(width, height)
	case "png":
		c = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(192))}
	default:
		return fmt.Errorf("chart: unknown format %q", format)
	}
	// Room at the right, so that the last label and the last dot are whole.
	p.Draw(draw.Crop(draw.New(c), vg.Points(4), -vg.Points(14), vg.Points(4), -vg.Points(4)))
	if _, err := c.WriteTo(w); err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	return nil
}

const width, height = 17 * vg.Centimeter, 10 * vg.Centimeter
