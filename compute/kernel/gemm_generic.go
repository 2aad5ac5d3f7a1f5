//go:build !amd64 || purego

package kernel

func gemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	gemmGeneric(f, m, n, k, a, lda, b, ldb, start, bias, c, ldc)
}

func smallGemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) bool {
	return false
}
