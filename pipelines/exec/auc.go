package exec

import (
	"cmp"
	"slices"
)

// AUC is the area under the receiver operating characteristic: the share of pairs of a yes (target above 0.5) and a no in which the yes has the higher score,
// ties counted half. It is 0 where there is no yes or no no. Source: Mann and Whitney 1947; Fawcett 2006, "An introduction to ROC analysis".
func AUC(scores, targets []float32) float64 {
	order := make([]int32, len(scores))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(scores[a], scores[b]) })
	var yes, no, above float64 // above: pairs in the right order
	for i := 0; i < len(order); {
		var y, n float64 // of equal scores
		for j := i; i < len(order) && scores[order[i]] == scores[order[j]]; i++ {
			if targets[order[i]] > 0.5 {
				y++
			} else {
				n++
			}
		}
		if y+n == 0 { // NaN equals nothing
			return 0
		}
		above += y * (no + n/2)
		yes += y
		no += n
	}
	if yes == 0 || no == 0 {
		return 0
	}
	return above / (yes * no)
}
