package kernel

import "math"

// Optimizers keep averages that decay. Where a gradient stays 0 (a dead unit, an id that never comes) they would end among the denormal numbers
// and stay there, since rounding brings 0.9 times the smallest of them back to it, and each of them would cost hundreds of cycles in every step. So an
// average below the normal range (1.2e-38) becomes 0: that is settle32 below.

// settle32 is x, or 0 where x is below the normal range.
func settle32(x float32) float32 {
	if math.Float32bits(x)&0x7f800000 == 0 {
		return 0
	}
	return x
}

// SGD is w = FMA(-lr, g', w) with g' = FMA(wd, w, g).
func SGD(w, g []float32, lr, wd float32) {
	need("g", len(g), len(w))
	if wd == 0 && len(w) == 1 {
		w[0] = FMA(-lr, g[0], w[0])
		return
	}
	if wd == 0 {
		Axpy(-lr, g[:len(w)], w)
		return
	}
	if sgd(w, g, -lr, wd) {
		return
	}
	for i, v := range w {
		w[i] = FMA(-lr, FMA(wd, v, g[i]), v)
	}
}

// SGDMomentum is PyTorch's SGD with momentum: g' = FMA(wd, w, g); v = settle32(first ? g' : FMA(mu, v, (1-damp)·g')); u = nesterov ? FMA(mu, v, g') : v; w =
// FMA(-lr, u, w).
func SGDMomentum(w, g, v []float32, lr, mu, damp, wd float32, nesterov, first bool) {
	need("g", len(g), len(w))
	need("v", len(v), len(w))
	keep := 1 - damp
	if !first && momentum(w, g, v, -lr, mu, keep, wd, nesterov) {
		return
	}
	for i, x := range w {
		d := FMA(wd, x, g[i])
		m := d
		if !first {
			m = FMA(mu, v[i], float32(keep*d))
		}
		m = settle32(m)
		v[i] = m
		if nesterov {
			m = FMA(mu, m, d)
		}
		w[i] = FMA(-lr, m, x)
	}
}

// AdamParams are the scalars of one Adam step. Correct1 and Correct2 are 1 - Beta^t for the number t of steps, this one included.
type AdamParams struct {
	LR, Beta1, Beta2, Eps, WeightDecay float32
	Decoupled                          bool // weight decay acts on w directly (AdamW), not through g
	Correct1, Correct2                 float32
}

// Adam is Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1, in the form at the end of its section 2; Decoupled is Loshchilov and Hutter 2019,
// arXiv:1711.05101, Algorithm 2:
//
//	w = Decoupled ? w·(1 - lr·wd) : w;  g' = Decoupled ? g : FMA(wd, w, g)
//	m = settle32(FMA(1-Beta1, g', Beta1·m));  v = settle32(FMA((1-Beta2)·g', g', Beta2·v))
//	w = FMA(-lr/Correct1·√Correct2, m / (√v + eps·√Correct2), w)
func Adam(w, g, m, v []float32, p *AdamParams) {
	c := p.Step()
	c.Apply(w, g, m, v)
}

// AdamStep is what all elements have in common in a step of Adam: it is made once for several tensors.
type AdamStep struct{ beta1, rest1, beta2, rest2, step, eps, shrink, wd float32 }

// Step makes the numbers of a step.
func (p *AdamParams) Step() AdamStep {
	root := Sqrt32(p.Correct2)
	c := AdamStep{beta1: p.Beta1, rest1: 1 - p.Beta1, beta2: p.Beta2, rest2: 1 - p.Beta2, step: float32(-(p.LR / p.Correct1) * root),
		eps: float32(p.Eps * root), shrink: 1, wd: p.WeightDecay}
	if p.Decoupled {
		c.shrink, c.wd = 1-float32(p.LR*p.WeightDecay), 0
	}
	return c
}

// Apply is Adam.
func (c *AdamStep) Apply(w, g, m, v []float32) {
	need("g", len(g), len(w))
	need("m", len(m), len(w))
	need("v", len(v), len(w))
	if adam(w, g, m, v, c) {
		return
	}
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	for i, x := range w {
		x = float32(x * c.shrink)
		d := FMA(c.wd, x, g[i])
		mi := settle32(FMA(c.rest1, d, float32(c.beta1*m[i])))
		vi := settle32(FMA(float32(c.rest2*d), d, float32(c.beta2*v[i])))
		m[i], v[i] = mi, vi
		w[i] = FMA(c.step, mi/(Sqrt32(vi)+c.eps), x)
	}
}

// AdamTensor is what Apply works on.
type AdamTensor struct{ W, G, M, V []float32 }

// ApplyAll is Apply for each of several tensors: the way to the loop is walked once.
func (c *AdamStep) ApplyAll(ts []AdamTensor) {
	for i := range ts {
		t := &ts[i]
		need("g", len(t.G), len(t.W))
		need("m", len(t.M), len(t.W))
		need("v", len(t.V), len(t.W))
	}
	if adamTensors(ts, c) {
		return
	}
	for i := range ts {
		c.Apply(ts[i].W, ts[i].G, ts[i].M, ts[i].V)
	}
}

// Adagrad is Duchi et al. 2011: g' = FMA(wd, w, g); h = FMA(g', g', h); w = FMA(-lr, g'/(√h + eps), w).
func Adagrad(w, g, h []float32, lr, eps, wd float32) {
	need("g", len(g), len(w))
	need("h", len(h), len(w))
	if adagrad(w, g, h, -lr, eps, wd) {
		return
	}
	for i, x := range w {
		d := FMA(wd, x, g[i])
		h[i] = FMA(d, d, h[i])
		w[i] = FMA(-lr, d/(Sqrt32(h[i])+eps), x)
	}
}

// RMSProp is Tieleman and Hinton 2012, lecture 6.5, in PyTorch's form: g' = FMA(wd, w, g); sq = settle32(FMA((1-alpha)·g', g', alpha·sq));
// u = g'/(√sq + eps); with mom: mom = settle32(FMA(mu, mom, u)), u = mom; w = FMA(-lr, u, w).
func RMSProp(w, g, sq, mom []float32, lr, alpha, eps, wd, mu float32) {
	need("g", len(g), len(w))
	need("sq", len(sq), len(w))
	if mom != nil {
		need("mom", len(mom), len(w))
	}
	keep := 1 - alpha
	if rmsprop(w, g, sq, mom, -lr, alpha, keep, eps, wd, mu) {
		return
	}
	for i, x := range w {
		d := FMA(wd, x, g[i])
		sq[i] = settle32(FMA(float32(keep*d), d, float32(alpha*sq[i])))
		u := d / (Sqrt32(sq[i]) + eps)
		if mom != nil {
			u = settle32(FMA(mu, mom[i], u))
			mom[i] = u
		}
		w[i] = FMA(-lr, u, x)
	}
}

// Lion is Chen et al. 2023, arXiv:2302.06675, Algorithm 2: u = sign(FMA(1-b1, g, b1·m)); w = FMA(-lr, FMA(wd, w, u), w); m = settle32(FMA(1-b2, g, b2·m)).
func Lion(w, g, m []float32, lr, b1, b2, wd float32) {
	need("g", len(g), len(w))
	need("m", len(m), len(w))
	c1, c2 := 1-b1, 1-b2
	if lion(w, g, m, -lr, b1, c1, b2, c2, wd) {
		return
	}
	for i, x := range w {
		u := FMA(c1, g[i], float32(b1*m[i]))
		switch {
		case u > 0:
			u = 1
		case u < 0:
			u = -1
		}
		w[i] = FMA(-lr, FMA(wd, x, u), x)
		m[i] = settle32(FMA(c2, g[i], float32(b2*m[i])))
	}
}
