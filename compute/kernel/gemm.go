package kernel

// Form says how the operands of a matrix product lie in memory; C is (M,N), row-major with row stride ldc, in every form.
type Form uint8

const (
	// NN has A (M,K) and B (K,N).
	NN Form = iota
	// NT has A (M,K) and B (N,K): weights as PyTorch keeps them, (OC,C).
	NT
	// TN has A (K,M) and B (K,N): the gradient of a weight.
	TN
)

// Gemm is a matrix product:
//
//	for i in 0..m, j in 0..n:
//		s = acc ? C[i,j] : 0
//		for p in 0..k: s = FMA(A[i,p], B[p,j], s)
//		C[i,j] = s
func Gemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, acc bool) {
	if m == 0 || n == 0 {
		return
	}
	checkGemm(f, m, n, k, a, lda, b, ldb, c, ldc)
	from := fromZero
	if acc {
		from = fromC
	}
	if smallGemm(f, m, n, k, a, lda, b, ldb, from, nil, c, ldc) {
		return
	}
	gemm(f, m, n, k, a, lda, b, ldb, from, nil, c, ldc)
}

// start says where the elements of a product start.
type start uint8

const (
	fromZero start = iota
	fromC
	fromBias
)

// GemmBias is Gemm with every row of C starting at bias (N).
func GemmBias(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, bias []float32) {
	if m == 0 || n == 0 {
		return
	}
	checkGemm(f, m, n, k, a, lda, b, ldb, c, ldc)
	need("bias", len(bias), n)
	if smallGemm(f, m, n, k, a, lda, b, ldb, fromBias, bias, c, ldc) {
		return
	}
	gemm(f, m, n, k, a, lda, b, ldb, fromBias, bias, c, ldc)
}

func span(rows, cols, ld int) int {
	if rows == 0 || cols == 0 {
		return 0
	}
	return (rows-1)*ld + cols
}

func checkGemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	need("C", len(c), span(m, n, ldc))
	if f == TN {
		need("A", len(a), span(k, m, lda))
	} else {
		need("A", len(a), span(m, k, lda))
	}
	if f == NT {
		need("B", len(b), span(n, k, ldb))
	} else {
		need("B", len(b), span(k, n, ldb))
	}
}

// gemmGeneric is the loop that Gemm's documentation gives.
func gemmGeneric(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, start start, bias []float32, c []float32, ldc int) {
	for i := range m {
		switch start {
		case fromZero:
			clear(c[i*ldc : i*ldc+n])
		case fromBias:
			copy(c[i*ldc:i*ldc+n], bias)
		}
	}
	if k == 0 {
		return
	}
	switch f {
	case NN:
		for i := range m {
			row := c[i*ldc : i*ldc+n]
			for p := range k {
				axpyGeneric(a[i*lda+p], b[p*ldb:p*ldb+n], row)
			}
		}
	case TN:
		for p := range k {
			for i := range m {
				axpyGeneric(a[p*lda+i], b[p*ldb:p*ldb+n], c[i*ldc:i*ldc+n])
			}
		}
	case NT:
		for i := range m {
			x := a[i*lda : i*lda+k]
			j := 0
			for ; j+4 <= n; j += 4 { // four chains hide the latency of one
				b0 := b[j*ldb : j*ldb+k]
				b1 := b[(j+1)*ldb : (j+1)*ldb+k]
				b2 := b[(j+2)*ldb : (j+2)*ldb+k]
				b3 := b[(j+3)*ldb : (j+3)*ldb+k]
				r := c[i*ldc+j : i*ldc+j+4 : i*ldc+j+4]
				s0, s1, s2, s3 := r[0], r[1], r[2], r[3]
				for p, v := range x {
					s0 = FMA(v, b0[p], s0)
					s1 = FMA(v, b1[p], s1)
					s2 = FMA(v, b2[p], s2)
					s3 = FMA(v, b3[p], s3)
				}
				r[0], r[1], r[2], r[3] = s0, s1, s2, s3
			}
			for ; j < n; j++ {
				y := b[j*ldb : j*ldb+k]
				s := c[i*ldc+j]
				for p, v := range x {
					s = FMA(v, y[p], s)
				}
				c[i*ldc+j] = s
			}
		}
	}
}

// MatVec multiplies a matrix (M,K) by a vector: y[i] = Dot(A[i], x), or y[i] + that where acc is set.
func MatVec(m, k int, a []float32, lda int, x, y []float32, acc bool) {
	need("A", len(a), span(m, k, lda))
	need("x", len(x), k)
	need("y", len(y), m)
	x = x[:k]
	if k == 1 { // FMA(a, x, 0) is a·x, and a tree of zeros adds +0
		for i := range m {
			d := float32(a[i*lda]*x[0]) + 0
			if acc {
				d = y[i] + d
			}
			y[i] = d
		}
		return
	}
	i := 0
	if !acc {
		i = matVec(m, k, a, lda, x, y)
	}
	for ; i < m; i++ {
		d := Dot(a[i*lda:i*lda+k], x)
		if acc {
			d = y[i] + d
		}
		y[i] = d
	}
}

// VecMat multiplies a vector by a matrix (K,N), rows ascending: y[j] = (acc ? y[j] : 0), then y[j] = FMA(x[r], A[r,j], y[j]) for r from 0 on.
func VecMat(k, n int, x, a []float32, lda int, y []float32, acc bool) {
	need("x", len(x), k)
	need("A", len(a), span(k, n, lda))
	need("y", len(y), n)
	y = y[:n]
	if !acc {
		clear(y)
	}
	for r := vecMat(k, n, x, a, lda, y); r < k; r++ {
		Axpy(x[r], a[r*lda:r*lda+n], y)
	}
}

// ColSum adds rows: dst[j] = (acc ? dst[j] : 0) + A[0,j] + A[1,j] + ...
func ColSum(rows, n int, a []float32, lda int, dst []float32, acc bool) {
	need("A", len(a), span(rows, n, lda))
	need("dst", len(dst), n)
	dst = dst[:n]
	if colSum(rows, n, a, lda, dst, acc) {
		return
	}
	if !acc {
		clear(dst)
	}
	for r := range rows {
		addTo(dst, a[r*lda:r*lda+n])
	}
}

// AddBias adds bias (N) to each row.
func AddBias(rows, n int, a []float32, lda int, bias []float32) {
	need("A", len(a), span(rows, n, lda))
	need("bias", len(bias), n)
	if addBias(rows, n, a, lda, bias) {
		return
	}
	for r := range rows {
		addTo(a[r*lda:r*lda+n], bias[:n])
	}
}
