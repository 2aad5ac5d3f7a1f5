//go:build amd64 && !purego

package kernel

// call is one call of assembly.
type call struct {
	do       kind
	rows     func(n, k int, x *float32, ldx int, w *float32, ldw int, y *float32, ldy int, bias *float32)
	n        [6]int
	p        [8]*float32
	a, b     float32
	product  func(m, n int, a *float32, lda int, b *float32, ldb int, c *float32, ldc int, acc int)
	dst, src []float32
}

type kind uint8

const (
	doCopy kind = iota
	doRows
	doProduct
	doReLU
	doReLUBackward
	doAdd
	doRMSNorm
	doRMSNormBackward
	doHeads
	doHeadsBackward
)

func (c *call) run() {
	n, p := &c.n, &c.p
	switch c.do {
	case doCopy:
		copy(c.dst, c.src)
	case doRows:
		c.rows(n[0], n[1], p[0], n[2], p[1], n[3], p[2], n[4], p[3])
	case doProduct:
		c.product(n[0], n[1], p[0], n[2], p[1], n[3], p[2], n[4], n[5])
	case doReLU:
		reluAVX512(n[0], p[0], p[1])
	case doReLUBackward:
		reluBackwardAVX512(n[0], p[0], p[1], p[2], n[1])
	case doAdd:
		addAVX512(n[0], p[0], p[1], p[2])
	case doRMSNorm:
		rmsNorm16AVX512(n[0], p[0], p[1], p[2], p[3], c.a, c.b)
	case doRMSNormBackward:
		rmsNormBackward16AVX512(n[0], p[0], p[1], p[2], p[3], p[4], c.a, n[1])
	case doHeads:
		headsAVX512(n[0], n[1], n[2], n[3], p[0], p[1], p[2], p[3], p[4], c.a)
	case doHeadsBackward:
		headsBackwardAVX512(n[0], n[1], n[2], n[3], p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], c.a)
	}
}

// Gemm is of Gemm, or of GemmBias where bias is not nil.
func (t *Tape) Gemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, bias []float32, acc bool) bool {
	from := fromZero
	switch {
	case bias != nil && acc:
		return false
	case bias != nil:
		need("bias", len(bias), n)
		from = fromBias
	case acc:
		from = fromC
	}
	if m == 0 || n == 0 {
		return true
	}
	checkGemm(f, m, n, k, a, lda, b, ldb, c, ldc)
	if !fitsSmall(f, m, n, k, from) {
		return false
	}
	x := call{do: doProduct, n: [6]int{m, n, 4 * lda, 4 * ldb, 4 * ldc, int(from)}}
	x.p[0], x.p[1], x.p[2], x.p[3] = &a[0], &b[0], &c[0], first(bias)
	switch f {
	case NT:
		x.do, x.rows, x.n[0], x.n[1] = doRows, smallNTs[m], n, k
	case NN:
		x.product, x.n[0], x.n[1] = smallNNs[m], n, k
	case TN:
		x.product = smallTNs[k]
	}
	return t.add(x)
}

// short says that a walk over n elements is worth a place on a tape.
func (t *Tape) short(n int) bool { return level == 2 && n > 0 && n <= tapeElems }

// ReLU is of ReLU.
func (t *Tape) ReLU(dst, x []float32) bool {
	check2(dst, x)
	return t.short(len(dst)) && t.add(call{do: doReLU, n: [6]int{len(dst)}, p: [8]*float32{&dst[0], &x[0]}})
}

// ReLUBackward is of ReLUBackward.
func (t *Tape) ReLUBackward(dx, dy, x []float32, acc bool) bool {
	check2(dx, x)
	check2(dx, dy)
	return t.short(len(dx)) && t.add(call{do: doReLUBackward, n: [6]int{len(dx), number(acc)}, p: [8]*float32{&dx[0], &dy[0], &x[0]}})
}

// Add is of Add.
func (t *Tape) Add(dst, x, y []float32) bool {
	need("x", len(x), len(dst))
	need("y", len(y), len(dst))
	return t.short(len(dst)) && t.add(call{do: doAdd, n: [6]int{len(dst)}, p: [8]*float32{&dst[0], &x[0], &y[0]}})
}

// RMSNorm is of RMSNorm.
func (t *Tape) RMSNorm(y, rstd, x, w []float32, rows, n int, eps float32) bool {
	need("x", len(x), rows*n)
	need("y", len(y), rows*n)
	need("rstd", len(rstd), rows)
	needParams(w, nil, n)
	return n == 16 && t.short(rows*n) && t.add(call{do: doRMSNorm, n: [6]int{rows}, p: [8]*float32{&y[0], &rstd[0], &x[0], first(w)}, a: 1 / float32(n), b: eps})
}

// RMSNormBackward is of RMSNormBackward without the gradient of a gain.
func (t *Tape) RMSNormBackward(dx, dy, x, rstd, w []float32, rows, n int, acc bool) bool {
	need("x", len(x), rows*n)
	need("dy", len(dy), rows*n)
	need("dx", len(dx), rows*n)
	need("rstd", len(rstd), rows)
	needParams(nil, w, n)
	return n == 16 && t.short(rows*n) &&
		t.add(call{do: doRMSNormBackward, n: [6]int{rows, number(acc)}, p: [8]*float32{&dx[0], &dy[0], &x[0], &rstd[0], first(w)}, a: 1 / float32(n)})
}

// Heads is of Heads.
func (t *Tape) Heads(att, ctx, q, k, v []float32, heads, n, hs, ldc, ld int, scale float32, causal bool) bool {
	need("att", len(att), heads*n*n)
	need("ctx", len(ctx), span(n, heads*hs, ldc))
	for _, s := range [][]float32{q, k, v} {
		need("a matrix", len(s), span(n, heads*hs, ld))
	}
	if fours(heads, n, hs) != heads {
		return false
	}
	for h := 0; h < heads; h += 4 {
		at := h * hs
		if !t.add(call{do: doHeads, n: [6]int{n, number(causal), ld, ldc}, p: [8]*float32{&att[h*n*n], &ctx[at], &q[at], &k[at], &v[at]}, a: scale}) {
			return false
		}
	}
	return true
}

// HeadsBackward is of HeadsBackward.
func (t *Tape) HeadsBackward(dq, dk, dv, g, q, k, v, att []float32, heads, n, hs, ldg, ld int, scale float32, causal bool) bool {
	need("att", len(att), heads*n*n)
	need("g", len(g), span(n, heads*hs, ldg))
	for _, s := range [][]float32{dq, dk, dv, q, k, v} {
		need("a matrix", len(s), span(n, heads*hs, ld))
	}
	if fours(heads, n, hs) != heads {
		return false
	}
	for h := 0; h < heads; h += 4 {
		at := h * hs
		if !t.add(call{do: doHeadsBackward, n: [6]int{n, number(causal), ld, ldg},
			p: [8]*float32{&dq[at], &dk[at], &dv[at], &g[at], &q[at], &k[at], &v[at], &att[h*n*n]}, a: scale}) {
			return false
		}
	}
	return true
}
