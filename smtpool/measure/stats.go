// Package measure runs loops on lanes, alone and together, in turns, and says what the figures are worth.
package measure

import (
	"fmt"
	"math"
	"slices"
)

// A Figure is a median with an interval that holds the true median with 95% confidence, from order statistics: no distribution is assumed.
type Figure struct {
	Median float64 `json:"median"`
	Lo     float64 `json:"lo"`
	Hi     float64 `json:"hi"`
	N      int     `json:"n"`
}

// String writes three digits that count.
func (f Figure) String() string {
	if f.N == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%s [%s, %s]", short(f.Median), short(f.Lo), short(f.Hi))
}

func short(x float64) string {
	a := math.Abs(x)
	switch {
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	case a >= 1 || a == 0:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

// Of summarises samples. Values that are not finite are left out.
func Of(xs []float64) Figure {
	s := make([]float64, 0, len(xs))
	for _, x := range xs {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			s = append(s, x)
		}
	}
	n := len(s)
	if n == 0 {
		return Figure{}
	}
	slices.Sort(s)
	k := rank(n, 0.95)
	return Figure{Median: Quantile(s, 0.5), Lo: s[k-1], Hi: s[n-k], N: n}
}

// rank is the largest k for which the k-th smallest and the k-th largest of n samples hold the median between them with the confidence wanted:
// P(Bin(n, 1/2) < k) <= (1-confidence)/2. It is 1 where n is too small for that; the interval then is the whole range and says less.
func rank(n int, confidence float64) int {
	tail, k := 0.0, 0
	logHalf := float64(n) * math.Log(0.5)
	for i := 0; i < n; i++ {
		lg := logChoose(n, i) + logHalf
		if tail+math.Exp(lg) > (1-confidence)/2 {
			break
		}
		tail += math.Exp(lg)
		k = i + 1
	}
	return max(1, k)
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// Quantile is the value below which a share q of the sorted samples lies, interpolated between neighbours.
func Quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// WeightedSpeedup is ws: the sum over the threads of rate together / rate alone, which is time alone / time together. A pair reaches 2 at most,
// but for noise.
func WeightedSpeedup(together, alone []float64) float64 {
	ws := 0.0
	for i := range together {
		ws += together[i] / alone[i]
	}
	return ws
}

// Conflict is the share of the two threads' work that the pair loses: 1 - ws/2.
func Conflict(ws float64) float64 { return 1 - ws/2 }
