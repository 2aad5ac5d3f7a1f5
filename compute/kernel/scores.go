package kernel

// causalBlock is the number of positions of a block: with a mask, the products of attention leave out the blocks that lie beyond it altogether. It belongs to
// the order of operations, so it is the same for every instruction set.
const causalBlock = 32

// Pairs is the number of pairs of positions that a product of attention over t positions takes: with a mask, some of those beyond it are left out.
func Pairs(t int, causal bool) int {
	if !causal {
		return t * t
	}
	n := 0
	for lo := 0; lo < t; lo += causalBlock {
		n += min(causalBlock, t-lo) * (t - lo)
	}
	return n
}

// Scores is attention's weights, for each of the heads: att = softmax(scale·q·kᵀ), row by row as Gemm and SoftmaxRows do it. q, k (T,heads·hs) with rows ld
// apart, att (heads,T,T).
func Scores(att, q, k []float32, heads, t, hs, ld int, scale float32, causal bool) {
	need("att", len(att), heads*t*t)
	need("q", len(q), span(t, heads*hs, ld))
	need("k", len(k), span(t, heads*hs, ld))
	if t == 0 || scores(att, q, k, heads, t, hs, ld, scale, causal) {
		return
	}
	for h := range heads {
		outer(att[h*t*t:], q[h*hs:], k[h*hs:], t, hs, ld, ld, causal)
	}
	SoftmaxRows(att[:heads*t*t], att, heads*t, t, t, scale, causal)
}

// outer is c = a·bᵀ (T,T) for a, b (T,hs); with causal set, blocks of columns begin at the rows that see them.
func outer(c, a, b []float32, t, hs, lda, ldb int, causal bool) {
	wide := t
	if causal {
		wide = causalBlock
	}
	for j := 0; j < t; j += wide {
		lo := 0
		if causal {
			lo = j
		}
		Gemm(NT, t-lo, min(wide, t-j), hs, a[lo*lda:], lda, b[j*ldb:], ldb, c[lo*t+j:], t, false)
	}
}

// ScoresBackward is the gradient of one head's scores: datt = SoftmaxBackward(g·vᵀ, att). g (T,hs) with rows ldg apart, v (T,hs) with rows ld apart; att, datt
// (T,T).
func ScoresBackward(datt, g, v, att []float32, t, hs, ldg, ld int, scale float32, causal bool) {
	need("datt", len(datt), t*t)
	need("att", len(att), t*t)
	need("g", len(g), span(t, hs, ldg))
	need("v", len(v), span(t, hs, ld))
	if t == 0 || scoresBackward(datt, g, v, att, t, hs, ldg, ld, scale, causal) {
		return
	}
	outer(datt, g, v, t, hs, ldg, ld, causal)
	SoftmaxBackward(datt[:t*t], datt, att, t, t, t, scale, causal)
}

// Attend is y = att·v for one head, as Gemm: y, v (T,hs) with rows ldy and ldv apart, att (T,T). With causal set, att is 0 beyond the diagonal, and a row takes
// the positions up to the end of its block of 32 alone.
func Attend(y, att, v []float32, t, hs, ldy, ldv int, causal bool) {
	need("att", len(att), t*t)
	high := t
	if causal {
		high = causalBlock
	}
	for i := 0; i < t; i += high {
		k := min(i+high, t)
		Gemm(NN, k-i, hs, k, att[i*t:], t, v, ldv, y[i*ldy:], ldy, false)
	}
}

// AttendBackward is y = attᵀ·g for one head, as Gemm: y, g (T,hs) with rows ldy and ldg apart, att (T,T). With causal set, att is 0 beyond the diagonal, and a
// position takes the rows from the beginning of its block of 32 on alone.
func AttendBackward(y, att, g []float32, t, hs, ldy, ldg int, causal bool) {
	need("att", len(att), t*t)
	high := t
	if causal {
		high = causalBlock
	}
	for j := 0; j < t; j += high {
		lo := 0
		if causal {
			lo = j
		}
		Gemm(TN, min(high, t-j), hs, t-lo, att[lo*t+j:], t, g[lo*ldg:], ldg, y[j*ldy:], ldy, false)
	}
}

// Heads is attention for each of the heads: att as Scores makes it, ctx = Attend of it. q, k, v (T,heads·hs) with rows ld apart, att (heads,T,T), ctx
// (T,heads·hs) with rows ldc apart.
func Heads(att, ctx, q, k, v []float32, heads, t, hs, ldc, ld int, scale float32, causal bool) {
	need("att", len(att), heads*t*t)
	need("ctx", len(ctx), span(t, heads*hs, ldc))
	need("q", len(q), span(t, heads*hs, ld))
	need("k", len(k), span(t, heads*hs, ld))
	need("v", len(v), span(t, heads*hs, ld))
	done := attend(att, ctx, q, k, v, heads, t, hs, ldc, ld, scale, causal)
	if done == heads || t == 0 {
		return
	}
	at := done * hs
	Scores(att[done*t*t:], q[at:], k[at:], heads-done, t, hs, ld, scale, causal)
	for h := done; h < heads; h++ {
		Attend(ctx[h*hs:], att[h*t*t:], v[h*hs:], t, hs, ldc, ld, causal)
	}
}

// HeadsBackward is the gradient of Heads: datt = ScoresBackward, dq = Attend(datt, k), dk and dv = AttendBackward(datt, q) and (att, g). g is the gradient of ctx, with rows ldg
// apart; dq, dk, dv have rows as q, k, v. datt (T,T) is room to work in.
func HeadsBackward(dq, dk, dv, datt, g, q, k, v, att []float32, heads, t, hs, ldg, ld int, scale float32, causal bool) {
	need("att", len(att), heads*t*t)
	need("g", len(g), span(t, heads*hs, ldg))
	for _, s := range [][]float32{dq, dk, dv, q, k, v} {
		need("a matrix", len(s), span(t, heads*hs, ld))
	}
	if t == 0 {
		return
	}
	for h := attendBackward(dq, dk, dv, g, q, k, v, att, heads, t, hs, ldg, ld, scale, causal); h < heads; h++ {
		a, at := att[h*t*t:][:t*t], h*hs
		ScoresBackward(datt, g[at:], v[at:], a, t, hs, ldg, ld, scale, causal)
		AttendBackward(dv[at:], a, g[at:], t, hs, ld, ldg, causal)
		Attend(dq[at:], datt, k[at:], t, hs, ld, ld, causal)
		AttendBackward(dk[at:], datt, q[at:], t, hs, ld, ld, causal)
	}
}
