package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"strings"
	"testing"
)

func curve(n int, f func(i int) float64) Series {
	s := Series{Name: "training"}
	for i := range n {
		s.X, s.Y = append(s.X, float64(i+1)), append(s.Y, f(i))
	}
	return s
}

func TestDrawIsReadableAndRepeats(t *testing.T) {
	for name, s := range map[string]Series{
		"long":     curve(5000, func(i int) float64 { return 3 / float64(i+1) }),
		"one":      curve(1, func(int) float64 { return 2 }),
		"flat":     curve(9, func(int) float64 { return 2 }),
		"zero":     curve(9, func(i int) float64 { return float64(i) }),
		"not":      curve(9, func(i int) float64 { return []float64{1, math.NaN(), math.Inf(1)}[i%3] }),
		"nothing":  {},
		"negative": curve(9, func(i int) float64 { return -float64(i) }),
	} {
		t.Run(name, func(t *testing.T) {
			var a, b, p bytes.Buffer
			for _, w := range []io.Writer{&a, &b} {
				if err := Draw(w, "svg", "a <title> & more", []Series{s}); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(a.Bytes(), b.Bytes()) {
				t.Error("the same data gave two pictures")
			}
			for d := xml.NewDecoder(&a); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if err := Draw(&p, "png", "title", []Series{s}); err != nil {
				t.Fatal(err)
			}
			if _, err := png.Decode(&p); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTerminal(t *testing.T) {
	out := Terminal(curve(3000, func(i int) float64 { return 1000 / float64(i+1) }), 60, 8)
	if !strings.Contains(out, "log10") || !strings.Contains(out, "steps") || strings.Count(out, "\n") < 8 {
		t.Errorf("not a chart:\n%s", out)
	}
	if Terminal(Series{}, 60, 8) != "" {
		t.Error("a chart of nothing")
	}
}

func TestTheLineThroughANoisyCurveIsItsMean(t *testing.T) {
	s := curve(200, func(i int) float64 { return 5 + float64(i%2) })
	m := through(s, 20)
	for i := 20; i < 200; i++ {
		if math.Abs(m.Y[i]-5.5) > 0.1 {
			t.Fatalf("point %d: %v, want about 5.5", i, m.Y[i])
		}
	}
	if m.Y[0] != 5 || len(m.X) != 200 {
		t.Errorf("begins at %v, has %d points", m.Y[0], len(m.X))
	}
	var b bytes.Buffer
	if err := Draw(&b, "svg", "t", []Series{s}); err != nil || !strings.Contains(b.String(), "training, mean of 10 steps") {
		t.Errorf("no line through the curve (%v)", err)
	}
	if err := Draw(&b, "gif", "t", []Series{s}); err == nil {
		t.Error("a format that there is not")
	}
}
