//go:build !amd64 || purego

package kernel

func gatherRows(dst, table []float32, ids []int32, n int) { gatherRowsGeneric(dst, table, ids, n) }
func axpyRows(a float32, x, table []float32, ids []int32, n int) {
	axpyRowsGeneric(a, x, table, ids, n)
}
func prefetch([]float32, []int32, int) {}
func sumRows(dst, x []float32, order, starts []int32, n int) {
	sumRowsGeneric(dst, x, order, starts, n)
}
