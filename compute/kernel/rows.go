package kernel

// SoftmaxRows writes the softmax of scale·x to y, row by row; rows lie ld apart. With causal set, row r of each block of cols rows uses its first
// r mod cols + 1 elements and sets the others to 0. For one row, with n elements in use:
//
//	z = scale·x (rounded); m = max z; e = Exp32(z-m); s = Sum(e); y = e·(1/s)
//
// y may be x.
func SoftmaxRows(y, x []float32, rows, cols, ld int, scale float32, causal bool) {
	need("x", len(x), span(rows, cols, ld))
	need("y", len(y), span(rows, cols, ld))
	if cols == 0 || softmaxRows(y, x, rows, cols, ld, scale, causal, nil) {
		return
	}
	for r := range rows {
		n := cols
		if causal {
			n = r%cols + 1
		}
		softmaxRow(y[r*ld:r*ld+n], x[r*ld:r*ld+n], scale)
		clear(y[r*ld+n : r*ld+cols])
	}
}

// softmaxRow returns the maximum m and the sum s.
func softmaxRow(y, x []float32, scale float32) (m, s float32) {
	for i, v := range x {
		y[i] = float32(v * scale)
	}
	m = largest(y)
	for i, v := range y {
		y[i] = Exp32(v - m)
	}
	s = sumGeneric(y)
	inv := 1 / s
	for i, v := range y {
		y[i] = float32(v * inv)
	}
	return m, s
}

// SoftmaxBackward: dx = scale·y·(dy - Dot(dy, y)), row by row as SoftmaxRows; elements that are not in use get 0. dx may be dy.
func SoftmaxBackward(dx, dy, y []float32, rows, cols, ld int, scale float32, causal bool) {
	for _, s := range [][]float32{dx, dy, y} {
		need("a matrix", len(s), span(rows, cols, ld))
	}
	if cols == 0 || softmaxBackward(dx, dy, y, rows, cols, ld, scale, causal) {
		return
	}
	for r := range rows {
		n := cols
		if causal {
			n = r%cols + 1
		}
		g, p, d := dy[r*ld:r*ld+n], y[r*ld:r*ld+n], dx[r*ld:r*ld+n]
		t := dotGeneric(g, p)
		for i := range d {
			d[i] = float32(scale*p[i]) * (g[i] - t)
		}
		clear(dx[r*ld+n : r*ld+cols])
	}
}

// SoftmaxXent writes the softmax of each row of logits (rows,v) to probs and the cross-entropy to loss (rows): Log32(s) - (z_t - m), with m and s
// as in SoftmaxRows. A target of -1 is padding: its loss is 0. probs may be logits.
func SoftmaxXent(loss, probs, logits []float32, targets []int32, rows, v int) {
	need("logits", len(logits), rows*v)
	need("probs", len(probs), rows*v)
	need("targets", len(targets), rows)
	need("loss", len(loss), rows)
	// Rows of padding split the others into groups; the numbers of a group wait in z and stats for the logarithm.
	const group = 64
	var z, sums [group]float32
	var stats [2 * group]float32
	for r := 0; r < rows; {
		if targets[r] < 0 {
			loss[r] = 0
			clear(probs[r*v : r*v+v])
			r++
			continue
		}
		n := 0
		for ; n < group && r+n < rows && targets[r+n] >= 0; n++ {
			z[n] = logits[(r+n)*v+int(targets[r+n])]
		}
		x, p := logits[r*v:(r+n)*v], probs[r*v:(r+n)*v]
		if !softmaxRows(p, x, n, v, v, 1, false, stats[:]) {
			for i := range n {
				stats[2*i], stats[2*i+1] = softmaxRow(p[i*v:i*v+v], x[i*v:i*v+v], 1)
			}
		}
		for i := range n {
			z[i], sums[i] = z[i]-stats[2*i], stats[2*i+1]
		}
		l := loss[r : r+n]
		copy(l, sums[:])
		Log(l, l)
		for i := range l {
			l[i] -= z[i]
		}
		r += n
	}
}

// SoftmaxXentBackward: dlogits = scale·(probs - onehot(target)), or FMA(scale, probs - onehot(target), dlogits) where acc is set; 0 for targets of -1.
// dlogits may be probs where acc is not set.
func SoftmaxXentBackward(dlogits, probs []float32, targets []int32, rows, v int, scale float32, acc bool) {
	need("probs", len(probs), rows*v)
	need("dlogits", len(dlogits), rows*v)
	need("targets", len(targets), rows)
	if !acc {
		// All rows at once; what a row's target had is put aside first, as dlogits may be probs.
		const group = 64
		var aside [group]float32
		for at := 0; at < rows; at += group {
			n := min(group, rows-at)
			d, p, ts := dlogits[at*v:(at+n)*v], probs[at*v:(at+n)*v], targets[at:at+n]
			for r, t := range ts {
				if t >= 0 {
					aside[r] = p[r*v+int(t)]
				}
			}
			Scale(d, p, scale)
			for r, t := range ts {
				if t >= 0 {
					d[r*v+int(t)] = scale * (aside[r] - 1)
				} else {
					clear(d[r*v : r*v+v])
				}
			}
		}
		return
	}
	for r := range rows {
		d, p := dlogits[r*v:r*v+v], probs[r*v:r*v+v]
		t := int(targets[r])
		if t < 0 {
			continue
		}
		pt := p[t] - 1
		old := d[t]
		Axpy(scale, p, d)
		d[t] = FMA(scale, pt, old)
	}
}

// LayerNorm writes y = (x - mean)·rstd·w + b for each row of n: mean = Sum(x)·(1/n), var = Sum of squares of (x - mean), ·(1/n), rstd =
// 1/√(var + eps); y = FMA((x-mean)·rstd, w, b). w and b may be nil. Source: Ba et al. 2016, arXiv:1607.06450.
func LayerNorm(y, mean, rstd, x, w, b []float32, rows, n int, eps float32) {
	need("x", len(x), rows*n)
	need("y", len(y), rows*n)
	need("mean", len(mean), rows)
	need("rstd", len(rstd), rows)
	needParams(w, b, n)
	inv := 1 / float32(n)
	if layerNorm(y, mean, rstd, x, w, b, rows, n, inv, eps) {
		return
	}
	for r := range rows {
		xr, yr := x[r*n:r*n+n], y[r*n:r*n+n]
		m := sumGeneric(xr) * inv
		for i, v := range xr {
			yr[i] = v - m
		}
		s := 1 / Sqrt32(FMA(dotGeneric(yr, yr), inv, eps))
		for i := range yr {
			h := float32(yr[i] * s)
			switch {
			case w != nil && b != nil:
				h = FMA(h, w[i], b[i])
			case w != nil:
				h = h * w[i]
			case b != nil:
				h = h + b[i]
			}
			yr[i] = h
		}
		mean[r], rstd[r] = m, s
	}
}

// needParams checks parameters of n elements that may be nil.
func needParams(w, b []float32, n int) {
	if w != nil {
		need("w", len(w), n)
	}
	if b != nil {
		need("b", len(b), n)
	}
}

// LayerNormBackward, row by row, with h = (x-mean)·rstd and g = dy·w: dx = rstd·(g - mean(g) - h·mean(g·h)); dw += dy·h, db += dy over rows
// ascending. dw, db, w and dx may be nil. accX and accW add to what is there.
func LayerNormBackward(dx, dw, db, dy, x, mean, rstd, w []float32, rows, n int, accX, accW bool) {
	need("x", len(x), rows*n)
	need("dy", len(dy), rows*n)
	if !accW {
		clear(dw)
		clear(db)
	}
	need("mean", len(mean), rows)
	need("rstd", len(rstd), rows)
	if dx != nil {
		need("dx", len(dx), rows*n)
	}
	needParams(dw, db, n)
	needParams(w, nil, n)
	inv := 1 / float32(n)
	if layerNormBackward(dx, dw, db, dy, x, mean, rstd, w, rows, n, inv, accX) {
		return
	}
	for r := range rows {
		xr, gr, m, s := x[r*n:r*n+n], dy[r*n:r*n+n], mean[r], rstd[r]
		if db != nil {
			for i, g := range gr {
				db[i] += g
			}
		}
		if dw != nil {
			for i, g := range gr {
				dw[i] = FMA(g, float32((xr[i]-m)*s), dw[i])
			}
		}
		if dx == nil {
			continue
		}
		var sg, sh [lanes]float32
		for i, g := range gr {
			if w != nil {
				g = float32(g * w[i])
			}
			l := i % lanes
			sg[l] += g
			sh[l] = FMA(g, float32((xr[i]-m)*s), sh[l])
		}
		mg, mh := tree(&sg)*inv, tree(&sh)*inv
		d := dx[r*n : r*n+n]
		for i, g := range gr {
			if w != nil {
				g = float32(g * w[i])
			}
			h := float32((xr[i] - m) * s)
			put(d, i, float32(s*FMA(-h, mh, g-mg)), accX)
		}
	}
}

// RMSNorm writes y = x·rstd·w for each row of n, rstd = 1/√(SumSq(x)·(1/n) + eps). w may be nil. Source: Zhang and Sennrich 2019, arXiv:1910.07467.
func RMSNorm(y, rstd, x, w []float32, rows, n int, eps float32) {
	need("x", len(x), rows*n)
	need("y", len(y), rows*n)
	need("rstd", len(rstd), rows)
	needParams(w, nil, n)
	inv := 1 / float32(n)
	if rmsNorm(y, rstd, x, w, rows, n, inv, eps) {
		return
	}
	for r := range rows {
		xr, yr := x[r*n:r*n+n], y[r*n:r*n+n]
		s := 1 / Sqrt32(FMA(dotGeneric(xr, xr), inv, eps))
		for i, v := range xr {
			h := float32(v * s)
			if w != nil {
				h = float32(h * w[i])
			}
			yr[i] = h
		}
		rstd[r] = s
	}
}

// RMSNormBackward, row by row, with h = x·rstd and g = dy·w: dx = rstd·(g - h·mean(g·h)); dw += dy·h over rows ascending. dw, w and dx may be nil.
func RMSNormBackward(dx, dw, dy, x, rstd, w []float32, rows, n int, accX, accW bool) {
	need("x", len(x), rows*n)
	need("dy", len(dy), rows*n)
	if !accW {
		clear(dw)
	}
	need("rstd", len(rstd), rows)
	if dx != nil {
		need("dx", len(dx), rows*n)
	}
	needParams(dw, w, n)
	inv := 1 / float32(n)
	if rmsNormBackward(dx, dw, dy, x, rstd, w, rows, n, inv, accX) {
		return
	}
	for r := range rows {
		xr, gr, s := x[r*n:r*n+n], dy[r*n:r*n+n], rstd[r]
		if dw != nil {
			for i, g := range gr {
				dw[i] = FMA(g, float32(xr[i]*s), dw[i])
			}
		}
		if dx == nil {
			continue
		}
		var sh [lanes]float32
		for i, g := range gr {
			if w != nil {
				g = float32(g * w[i])
			}
			l := i % lanes
			sh[l] = FMA(g, float32(xr[i]*s), sh[l])
		}
		mh := tree(&sh) * inv
		d := dx[r*n : r*n+n]
		for i, g := range gr {
			if w != nil {
				g = float32(g * w[i])
			}
			put(d, i, float32(s*FMA(-float32(xr[i]*s), mh, g)), accX)
		}
	}
}
