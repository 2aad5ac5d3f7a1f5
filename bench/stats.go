package main

import (
	"fmt"
	"slices"
)

// quantile is the value below which a share q of xs lies, interpolated between neighbours in order (as NumPy's default does). xs must not be empty.
func quantile(xs []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 >= len(s) {
		return s[len(s)-1]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}

func median(xs []float64) float64 { return quantile(xs, 0.5) }

// spread is a median with its quartiles.
type spread struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
}

func spreadOf(xs []float64) spread { return spread{median(xs), quantile(xs, 0.25), quantile(xs, 0.75)} }

// String writes a ratio: few digits where few are known.
func (s spread) String() string {
	return fmt.Sprintf("%s [%s, %s]", short(s.Median), short(s.Q1), short(s.Q3))
}

// short writes three digits that count.
func short(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// ratios divides round by round: both sides of a round ran one after the other, so that what slows the machine slows both.
func ratios(peer, own []float64) []float64 {
	r := make([]float64, min(len(peer), len(own)))
	for i := range r {
		r[i] = peer[i] / own[i]
	}
	return r
}

// duration writes seconds in the unit that suits them.
func duration(s float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}} {
		if s >= u.size {
			return short(s/u.size) + " " + u.name
		}
	}
	return short(s*1e9) + " ns"
}
