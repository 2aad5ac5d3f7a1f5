package kernel

// regressionRows is the number of rows that stay in the first-level cache between their product and their share of the gradient.
const regressionRows = 4

// Regression is linear regression with a squared error for rows of n elements, its gradient included, in one walk over x:
//
//	for r in 0..rows:
//		y[r] = Dot(x[r], w) + b; d[r] = y[r] - target[r]; dy[r] = d[r]·scale
//	for j in 0..n:
//		dw[j] = 0, then dw[j] = FMA(dy[r], x[r,j], dw[j]) for r from 0 on
//
// b has one element, or is nil: nothing is added.
func Regression(rows, n int, x, w, b, target, y, d, dy []float32, scale float32, dw []float32) {
	need("x", len(x), rows*n)
	need("w", len(w), n)
	need("dw", len(dw), n)
	for _, s := range [][]float32{target, y, d, dy} {
		need("a column", len(s), rows)
	}
	if b != nil {
		need("b", len(b), 1)
	}
	if rows == 0 {
		clear(dw[:n])
	}
	for lo := regress(rows, n, x, w, b, target, y, d, dy, scale, dw); lo < rows; lo += regressionRows {
		hi := min(lo+regressionRows, rows)
		block := x[lo*n : hi*n]
		MatVec(hi-lo, n, block, n, w, y[lo:hi], false)
		for i := lo; i < hi; i++ {
			if b != nil {
				y[i] += b[0]
			}
			d[i] = y[i] - target[i]
			dy[i] = d[i] * scale
		}
		VecMat(hi-lo, n, dy[lo:hi], block, n, dw, lo > 0)
	}
}
