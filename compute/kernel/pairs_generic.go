//go:build !amd64 || purego

package kernel

func pairDots(f, d int, u, y []float32) { pairDotsGeneric(f, d, u, y) }
func pairDotsBackward(f, d int, dy, u, du0, du []float32) {
	pairDotsBackwardGeneric(f, d, dy, u, du0, du)
}
