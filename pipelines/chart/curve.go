package chart

import (
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A Line is a curve with intervals.
type Line struct {
	Name   string
	X, Y   []float64
	Lo, Hi []float64 // ends of the intervals, or nil
	Dashed bool      // a bound or a prediction, not a measurement
}

var hues = []color.Color{color.RGBA{0x1f, 0x77, 0xb4, 0xff}, color.RGBA{0xd6, 0x27, 0x28, 0xff}, color.RGBA{0x2c, 0xa0, 0x2c, 0xff}, color.RGBA{0xff, 0x7f, 0x0e, 0xff},
	color.RGBA{0x94, 0x67, 0xbd, 0xff}}

// bars makes error bars for gonum.
type bars struct {
	plotter.XYs
	plotter.YErrors
}

// Curves draws lines as SVG. Intervals are bars.
func Curves(w io.Writer, title, x, y string, lines []Line) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	for i, l := range lines {
		pts := make(plotter.XYs, len(l.X))
		errs := make(plotter.YErrors, len(l.X))
		for j := range l.X {
			pts[j].X, pts[j].Y = l.X[j], l.Y[j]
			if l.Lo != nil {
				errs[j].Low, errs[j].High = l.Y[j]-l.Lo[j], l.Hi[j]-l.Y[j]
			}
		}
		line, err := plotter.NewLine(pts)
		if err != nil {
			return fmt.Errorf("chart: %s: %w", l.Name, err)
		}
		line.Color, line.Width = hues[i%len(hues)], vg.Points(1.3)
		if l.Dashed {
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		}
		p.Add(line)
		p.Legend.Add(l.Name, line)
		if l.Lo != nil {
			eb, err := plotter.NewYErrorBars(bars{pts, errs})
			if err != nil {
				return fmt.Errorf("chart: %s: %w", l.Name, err)
			}
			eb.Color = hues[i%len(hues)]
			p.Add(eb)
		}
	}
	p.Y.Min = min(p.Y.Min, 0)
	p.Y.Max += 0.25 * (p.Y.Max - p.Y.Min) // room for the legend
	return writeSVG(w, p, 18*vg.Centimeter, 11*vg.Centimeter)
}

// A Bar is a row of a bar chart: what was measured, and what was expected of it.
type Bar struct {
	Name             string
	Measured, Lo, Hi float64
	Expected         float64 // a bound or a prediction; 0: none
}

// Bars draws rows as horizontal bars in SVG; a dash marks what was expected.
func Bars(w io.Writer, title, x string, rows []Bar) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, x
	p.Add(plotter.NewGrid())
	n := len(rows)
	vals, names := make(plotter.Values, n), make([]string, n)
	var ends plotter.XYs
	var errs plotter.XErrors
	for i, r := range rows {
		k := n - 1 - i // the first row on top
		vals[k], names[k] = r.Measured, r.Name
		ends = append(ends, plotter.XY{X: r.Measured, Y: float64(k)})
		errs = append(errs, struct{ Low, High float64 }{r.Measured - r.Lo, r.Hi - r.Measured})
	}
	b, err := plotter.NewBarChart(vals, vg.Points(12))
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	b.Horizontal, b.Color, b.LineStyle.Width = true, hues[0], 0
	p.Add(b)
	eb, err := plotter.NewXErrorBars(struct {
		plotter.XYs
		plotter.XErrors
	}{ends, errs})
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	p.Add(eb)
	marks := plotter.XYs{}
	for i, r := range rows {
		if r.Expected > 0 {
			marks = append(marks, plotter.XY{X: r.Expected, Y: float64(n - 1 - i)})
		}
	}
	if len(marks) > 0 {
		sc, err := plotter.NewScatter(marks)
		if err != nil {
			return fmt.Errorf("chart: %w", err)
		}
		sc.Color, sc.Shape, sc.Radius = hues[1], draw.CrossGlyph{}, vg.Points(4)
		p.Add(sc)
		p.Legend.Add("expected", sc)
		p.Legend.Top = true
		p.Y.Max = float64(n) + 0.5
	}
	p.X.Min = min(p.X.Min, 0)
	p.NominalY(names...)
	return writeSVG(w, p, 18*vg.Centimeter, vg.Length(3+0.7*float64(n))*vg.Centimeter)
}

func writeSVG(w io.Writer, p *plot.Plot, width, height vg.Length) error {
	c, err := p.WriterTo(width, height, "svg")
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	if _, err := c.WriteTo(w); err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	return nil
}
