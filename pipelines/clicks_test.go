package pipelines_test

import (
	"fmt"
	"testing"

	"vtpu/pipelines"
)

// The clicks preset finds most of the planted rule.
func TestClicksLearn(t *testing.T) {
	if d := train(t, pipelines.Options{File: "clicks", LookAhead: -1}); d.AUC < 0.82 || d.AUC > 0.848 {
		t.Errorf("AUC %.4f, the planted rule itself has 0.848", d.AUC)
	}
}

// Rows are read ahead while earlier steps change them: whatever the depth and the lanes, the bits are those of a run step by step. The harder the ids are
// skewed, the more rows are forwarded; with three ids every row of a step is.
func TestClicksAhead(t *testing.T) {
	for _, c := range []struct {
		ids  int
		skew float64
	}{{3, 2}, {50, 1}, {1000, 0}} {
		o := pipelines.Options{File: "clicks", Steps: 30, Sets: []string{fmt.Sprintf("data.ids=%d", c.ids), fmt.Sprintf("data.skew=%g", c.skew), "data.rows=4000"}}
		o.Lanes, o.LookAhead = "d=1,s=0", 0
		want := bits(train(t, o))
		for i := range 9 {
			o.LookAhead = i
			o.Lanes = []string{"d=1,s=1", "d=1,s=2", "d=2,s=1", "d=2,s=2", "d=2,s=0"}[i%5]
			if got := bits(train(t, o)); got != want {
				t.Errorf("%d ids, skew %g, look-ahead %d, lanes %s: %s\nwant %s", c.ids, c.skew, i, o.Lanes, got, want)
			}
		}
	}
}
