package exec

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestAUC(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		s, y []float32
		want float64
	}{
		{nil, nil, 0},
		{[]float32{1, 2}, []float32{1, 1}, 0},
		{[]float32{1, 2}, []float32{0, 1}, 1},
		{[]float32{2, 1}, []float32{0, 1}, 0},
		{[]float32{1, 1, 1}, []float32{0, 1, 0}, 0.5},
		{[]float32{1, 2, 3, 4}, []float32{0, 1, 0, 1}, 0.75},
		{[]float32{nan, 2}, []float32{0, 1}, 0},
	} {
		if got := AUC(c.s, c.y); got != c.want {
			t.Errorf("AUC(%v, %v) = %v, want %v", c.s, c.y, got, c.want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	s, y := make([]float32, 300), make([]float32, 300)
	for i := range s {
		y[i] = float32(r.IntN(2))
		s[i] = float32(r.IntN(40)) + 8*y[i]
	}
	var right, pairs float64 // by its definition
	for i := range s {
		for j := range s {
			if y[i] == 1 && y[j] == 0 {
				pairs++
				if s[i] > s[j] {
					right++
				} else if s[i] == s[j] {
					right += 0.5
				}
			}
		}
	}
	if got := AUC(s, y); math.Abs(got-right/pairs) > 1e-12 {
		t.Errorf("AUC %v, counted %v", got, right/pairs)
	}
}
