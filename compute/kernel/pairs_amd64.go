//go:build amd64 && !purego

package kernel

// maxPairs is the number of vectors up to which one call for their gradients stays below some 50 µs.
const maxPairs = 512

func pairDots(f, d int, u, y []float32) {
	const cols = 32 // of a panel
	if level == 0 || f < 2 || d == 0 || d > maxDepth {
		pairDotsGeneric(f, d, u, y)
		return
	}
	s := borrow()
	for j := 0; j < f-1; j += cols { // a panel of vectors, and all vectors after the first of it
		n := min(cols, f-j)
		if level == 2 && n >= 16 && d%4 == 0 {
			// The first 16 columns last: they are read first, each register of them from the store that wrote it.
			packT16AVX512(d, &u[(j+n-16)*d], 4*d, &s.b[n-16], 4*cols)
			packT16AVX512(d, &u[j*d], 4*d, &s.b[0], 4*cols)
		} else {
			packT(u[j*d:], d, n, d, cols, s.b)
		}
		for i, step := j+1, max(8, 1<<16/d); i < f; i += step {
			to := min(f, i+step)
			row, at := &u[i*d], &y[i*(i-1)/2+j]
			if level == 2 {
				pairDotsAVX512(i-j, to-j, d, row, &s.b[0], at, i)
			} else {
				pairDotsAVX2(i-j, to-j, d, row, &s.b[0], at, i)
			}
		}
	}
	s.back()
}

func pairDotsBackward(f, d int, dy, u, du0, du []float32) {
	w := 8 * level
	if level == 2 && d%16 != 0 {
		w = 8
	}
	if level == 0 || d%8 != 0 || f < 2 || f > maxPairs {
		pairDotsBackwardGeneric(f, d, dy, u, du0, du)
		return
	}
	for c := 0; c < d; c += w {
		if w == 16 {
			pairDotsBackwardAVX512(f, d, &dy[0], &u[c], &du0[c], &du[c])
		} else {
			pairDotsBackwardAVX2(f, d, &dy[0], &u[c], &du0[c], &du[c])
		}
	}
}
