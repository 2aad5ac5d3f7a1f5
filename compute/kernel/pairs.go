package kernel

// PairDots is the dots of all pairs of f vectors of d elements, each product in the order of Gemm:
//
//	for i in 1..f-1, j in 0..i-1:
//		s = 0
//		for p in 0..d-1: s = FMA(u[i,p], u[j,p], s)
//		y[i(i-1)/2 + j] = s
func PairDots(f, d int, u, y []float32) {
	need("u", len(u), f*d)
	need("y", len(y), f*(f-1)/2)
	pairDots(f, d, u, y)
}

func pairDotsGeneric(f, d int, u, y []float32) {
	for i := 1; i < f; i++ {
		a := u[i*d : i*d+d]
		for j := range i {
			s := float32(0)
			for p, v := range u[j*d : j*d+d] {
				s = FMA(a[p], v, s)
			}
			y[j] = s
		}
		y = y[i:]
	}
}

// PairDotsBackward is the gradient of PairDots: du0 (d) of the first vector, du (f-1,d) of the others. With dy of i and j for the gradient of their dot, 0
// where i is j:
//
//	for i in 0..f-1, c in 0..d-1:
//		s = 0
//		for j in 0..f-1: s = FMA(dy of i and j, u[j,c], s)
//		du of i, c = s
func PairDotsBackward(f, d int, dy, u, du0, du []float32) {
	if f == 0 {
		return
	}
	need("dy", len(dy), f*(f-1)/2)
	need("u", len(u), f*d)
	need("du0", len(du0), d)
	need("du", len(du), (f-1)*d)
	pairDotsBackward(f, d, dy, u, du0, du)
}

func pairDotsBackwardGeneric(f, d int, dy, u, du0, du []float32) {
	for i := range f {
		row := du0[:d]
		if i > 0 {
			row = du[(i-1)*d : i*d]
		}
		clear(row)
		for j := range f {
			var g float32
			if j != i {
				hi, lo := max(i, j), min(i, j)
				g = dy[hi*(hi-1)/2+lo]
			}
			axpyGeneric(g, u[j*d:j*d+d], row)
		}
	}
}
