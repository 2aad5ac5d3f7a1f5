package kernel

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
		Gemm(NT, t, t, hs, q[h*hs:], ld, k[h*hs:], ld, att[h*t*t:], t, false)
	}
	SoftmaxRows(att[:heads*t*t], att, heads*t, t, t, scale, causal)
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
	Gemm(NT, t, t, hs, g, ldg, v, ld, datt, t, false)
	SoftmaxBackward(datt[:t*t], datt, att, t, t, t, scale, causal)
}
