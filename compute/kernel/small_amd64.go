//go:build amd64 && !purego

package kernel

//go:generate go run -C _gen/small . -pkg kernel -out ../../small_avx512_amd64.s -stubs ../../small_stubs_avx512_amd64.go

// Products with a side of at most 16 take one call of assembly that packs nothing: of a step of a tiny GPT the walk through packing and blocks was
// the greater part.

// smallSide is the largest side of a product that smallGemm takes: rows of C, or k of TN.
const smallSide = 16

// smallWork is the number of multiplications of one row that smallGemm takes: some 20 µs with 16 rows.
const smallWork = 1 << 17

var smallNTs = [smallSide + 1]func(n, k int, x *float32, ldx int, w *float32, ldw int, y *float32, ldy int, bias *float32){
	1: smallNT1AVX512, 2: smallNT2AVX512, 3: smallNT3AVX512, 4: smallNT4AVX512, 5: smallNT5AVX512, 6: smallNT6AVX512, 7: smallNT7AVX512, 8: smallNT8AVX512,
	9: smallNT9AVX512, 10: smallNT10AVX512, 11: smallNT11AVX512, 12: smallNT12AVX512, 13: smallNT13AVX512, 14: smallNT14AVX512, 15: smallNT15AVX512,
	16: smallNT16AVX512,
}

var smallNNs = [smallSide + 1]func(n, k int, x *float32, ldx int, w *float32, ldw int, y *float32, ldy int, acc int){
	1: smallNN1AVX512, 2: smallNN2AVX512, 3: smallNN3AVX512, 4: smallNN4AVX512, 5: smallNN5AVX512, 6: smallNN6AVX512, 7: smallNN7AVX512, 8: smallNN8AVX512,
	9: smallNN9AVX512, 10: smallNN10AVX512, 11: smallNN11AVX512, 12: smallNN12AVX512, 13: smallNN13AVX512, 14: smallNN14AVX512, 15: smallNN15AVX512,
	16: smallNN16AVX512,
}

var smallTNs = [smallSide + 1]func(m, n int, a *float32, lda int, b *float32, ldb int, c *float32, ldc int, acc int){
	1: smallTN1AVX512, 2: smallTN2AVX512, 3: smallTN3AVX512, 4: smallTN4AVX512, 5: smallTN5AVX512, 6: smallTN6AVX512, 7: smallTN7AVX512, 8: smallTN8AVX512,
	9: smallTN9AVX512, 10: smallTN10AVX512, 11: smallTN11AVX512, 12: smallTN12AVX512, 13: smallTN13AVX512, 14: smallTN14AVX512, 15: smallTN15AVX512,
	16: smallTN16AVX512,
}

// fitsSmall says whether smallGemm takes a product.
func fitsSmall(f Form, m, n, k int, start start) bool {
	if level != 2 || k == 0 {
		return false
	}
	switch f {
	case NT:
		return m <= smallSide && n >= 16 && k&3 == 0 && start != fromC && n*k <= smallWork
	case NN:
		return m <= smallSide && start != fromBias && n*k <= smallWork
	}
	return k <= smallSide && start != fromBias && m*n <= smallWork
}

// smallGemm is gemm for small products; false says that it did nothing.
func smallGemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) bool {
	if !fitsSmall(f, m, n, k, start) {
		return false
	}
	switch f {
	case NT:
		smallNTs[m](n, k, &a[0], 4*lda, &b[0], 4*ldb, &c[0], 4*ldc, first(bias))
	case NN:
		smallNNs[m](n, k, &a[0], 4*lda, &b[0], 4*ldb, &c[0], 4*ldc, int(start))
	case TN:
		smallTNs[k](m, n, &a[0], 4*lda, &b[0], 4*ldb, &c[0], 4*ldc, int(start))
	}
	return true
}
