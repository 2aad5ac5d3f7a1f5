//go:build !amd64 || purego

package kernel

// Without assembly the loops do the work: each of these says that it did nothing.

func map1(op, []float32, []float32) bool                                     { return false }
func map2(op, []float32, []float32, []float32) bool                          { return false }
func mapA(op, []float32, []float32, float32) bool                            { return false }
func mapD(op, []float32, []float32, []float32) bool                          { return false }
func mapB(op, []float32, []float32, []float32, bool) bool                    { return false }
func dot(x, y []float32) float32                                             { return dotGeneric(x, y) }
func sum(x []float32) float32                                                { return sumGeneric(x) }
func allFinite(x []float32) bool                                             { return allFiniteGeneric(x) }
func copyPast(dst, src []float32) int                                        { return 0 }
func colSum(rows, n int, a []float32, lda int, dst []float32, acc bool) bool { return false }
func addBias(rows, n int, a []float32, lda int, bias []float32) bool         { return false }
func squaredError(dx, x, y []float32, scale float32) float32 {
	return squaredErrorGeneric(dx, x, y, scale)
}
func matVec(m, k int, a []float32, lda int, x, y []float32) int { return 0 }
func vecMat(k, n int, x, a []float32, lda int, y []float32) int { return 0 }
func softmaxRows(y, x []float32, rows, cols, ld int, scale float32, causal bool, stats []float32) bool {
	return false
}
func softmaxBackward(dx, dy, y []float32, rows, cols, ld int, scale float32, causal bool) bool {
	return false
}
func layerNorm(y, mean, rstd, x, w, b []float32, rows, n int, inv, eps float32) bool { return false }
func layerNormBackward(dx, dw, db, dy, x, mean, rstd, w []float32, rows, n int, inv float32, acc bool) bool {
	return false
}
func rmsNorm(y, rstd, x, w []float32, rows, n int, inv, eps float32) bool { return false }
func rmsNormBackward(dx, dw, dy, x, rstd, w []float32, rows, n int, inv float32, acc bool) bool {
	return false
}
func adam(w, g, m, v []float32, c *AdamStep) bool                                  { return false }
func sgd(w, g []float32, step, wd float32) bool                                    { return false }
func momentum(w, g, v []float32, step, mu, keep, wd float32, nesterov bool) bool   { return false }
func adagrad(w, g, h []float32, step, eps, wd float32) bool                        { return false }
func rmsprop(w, g, sq, mom []float32, step, alpha, keep, eps, wd, mu float32) bool { return false }
func lion(w, g, m []float32, step, b1, c1, b2, c2, wd float32) bool                { return false }
func scores(att, q, k []float32, heads, t, hs, ld int, scale float32, causal bool) bool {
	return false
}
func scoresBackward(datt, g, v, att []float32, t, hs, ldg, ld int, scale float32, causal bool) bool {
	return false
}
func attend(att, ctx, q, k, v []float32, heads, t, hs, ldc, ld int, scale float32, causal bool) int {
	return 0
}
func attendBackward(dq, dk, dv, g, q, k, v, att []float32, heads, t, hs, ldg, ld int, scale float32, causal bool) int {
	return 0
}

func regress(rows, n int, x, w, b, target, y, d, dy []float32, scale float32, dw []float32) int {
	return 0
}

func adamTensors([]AdamTensor, *AdamStep) bool { return false }
