//go:build amd64 && !purego

package kernel

import "unsafe"

//go:generate go run -C _gen ./rows -isa avx2 -pkg kernel -out ../rows_avx2_amd64.s -stubs ../rows_stubs_avx2_amd64.go
//go:generate go run -C _gen ./rows -isa avx512 -pkg kernel -out ../rows_avx512_amd64.s -stubs ../rows_stubs_avx512_amd64.go

// piece is the number of elements of one call of an assembly loop, which keeps it to some 20 µs: Go never interrupts assembly.
const piece = 1 << 14

// breathe is where the runtime may stop this thread, for a collection or a profile. A call of assembly looks at nothing, and a signal hardly ever meets the
// loop around it; the beginning of a Go function that calls another does look.
//
//go:noinline
func breathe() { nothing() }

//go:noinline
func nothing() {}

// after is where the piece after the one at i starts, of n elements.
func after(i, n int) int {
	if i += piece; i < n {
		breathe()
	}
	return i
}

// The elementwise kernels, for AVX2 and for AVX-512.

var map1s = [2][ops]func(n int, dst, x *float32){
	{opExp: expAVX2, opLog: logAVX2, opTanh: tanhAVX2, opErf: erfAVX2, opSigmoid: sigmoidAVX2, opSiLU: siluAVX2, opReLU: reluAVX2, opSquaredReLU: squaredReLUAVX2, opGeluErf: geluErfAVX2, opGeluTanh: geluTanhAVX2},
	{opExp: expAVX512, opLog: logAVX512, opTanh: tanhAVX512, opErf: erfAVX512, opSigmoid: sigmoidAVX512, opSiLU: siluAVX512, opReLU: reluAVX512, opSquaredReLU: squaredReLUAVX512, opGeluErf: geluErfAVX512, opGeluTanh: geluTanhAVX512},
}

var map2s = [2][ops]func(n int, dst, x, y *float32){
	{opAdd: addAVX2, opSub: subAVX2, opMul: mulAVX2, opMulAdd: mulAddAVX2},
	{opAdd: addAVX512, opSub: subAVX512, opMul: mulAVX512, opMulAdd: mulAddAVX512},
}

var mapAs = [2][ops]func(n int, dst, x *float32, a float32){
	{opScale: scaleAVX2, opAxpy: axpyAVX2, opLerp: lerpAVX2, opClampAbs: clampAbsAVX2},
	{opScale: scaleAVX512, opAxpy: axpyAVX512, opLerp: lerpAVX512, opClampAbs: clampAbsAVX512},
}

var mapDs = [2][ops]func(n int, y, d, x *float32){
	{opGeluErf: geluErfDAVX2, opGeluTanh: geluTanhDAVX2, opSiLU: siluDAVX2},
	{opGeluErf: geluErfDAVX512, opGeluTanh: geluTanhDAVX512, opSiLU: siluDAVX512},
}

var mapBs = [2][ops]func(n int, dx, dy, u *float32, acc int){
	{opReLU: reluBackwardAVX2, opSquaredReLU: squaredReLUBackwardAVX2, opTanh: tanhBackwardAVX2, opSigmoid: sigmoidBackwardAVX2, opSiLU: siluBackwardAVX2, opGeluErf: geluErfBackwardAVX2, opGeluTanh: geluTanhBackwardAVX2, opMul: mulBackwardAVX2},
	{opReLU: reluBackwardAVX512, opSquaredReLU: squaredReLUBackwardAVX512, opTanh: tanhBackwardAVX512, opSigmoid: sigmoidBackwardAVX512, opSiLU: siluBackwardAVX512, opGeluErf: geluErfBackwardAVX512, opGeluTanh: geluTanhBackwardAVX512, opMul: mulBackwardAVX512},
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Each of the following says whether it did the work.

func map1(o op, dst, x []float32) bool {
	if level == 0 {
		return false
	}
	f := map1s[level-1][o]
	for i := 0; i < len(dst); i = after(i, len(dst)) {
		f(min(len(dst)-i, piece), &dst[i], &x[i])
	}
	return true
}

func map2(o op, dst, x, y []float32) bool {
	if level == 0 {
		return false
	}
	f := map2s[level-1][o]
	for i := 0; i < len(dst); i = after(i, len(dst)) {
		f(min(len(dst)-i, piece), &dst[i], &x[i], &y[i])
	}
	return true
}

func mapA(o op, dst, x []float32, a float32) bool {
	if level == 0 {
		return false
	}
	f := mapAs[level-1][o]
	for i := 0; i < len(dst); i = after(i, len(dst)) {
		f(min(len(dst)-i, piece), &dst[i], &x[i], a)
	}
	return true
}

func mapD(o op, y, d, x []float32) bool {
	if level == 0 {
		return false
	}
	f := mapDs[level-1][o]
	for i := 0; i < len(x); i = after(i, len(x)) {
		f(min(len(x)-i, piece), &y[i], &d[i], &x[i])
	}
	return true
}

func mapB(o op, dx, dy, u []float32, acc bool) bool {
	if level == 0 {
		return false
	}
	f, a := mapBs[level-1][o], number(acc)
	for i := 0; i < len(dx); i = after(i, len(dx)) {
		f(min(len(dx)-i, piece), &dx[i], &dy[i], &u[i], a)
	}
	return true
}

// first is where a slice's elements begin; nil for an empty one.
func first(x []float32) *float32 { return unsafe.SliceData(x) }

func dot(x, y []float32) float32 {
	if level == 0 {
		return dotGeneric(x, y)
	}
	if len(x) <= piece {
		return dotBlock(x, y, nil)
	}
	var s [lanes]float32
	for ; len(x) > piece; x, y = x[piece:], y[piece:] {
		dotBlock(x[:piece], y, &s)
		breathe()
	}
	dotBlock(x, y, &s)
	return tree(&s)
}

func dotBlock(x, y []float32, s *[lanes]float32) float32 {
	if level == 2 {
		return dotAVX512(len(x), first(x), first(y), s)
	}
	return dotAVX2(len(x), first(x), first(y), s)
}

func squaredError(dx, x, y []float32, scale float32) float32 {
	if level == 0 {
		return squaredErrorGeneric(dx, x, y, scale)
	}
	if len(dx) <= piece {
		return squaredErrorBlock(dx, x, y, scale, nil)
	}
	var s [lanes]float32
	for ; len(dx) > piece; dx, x, y = dx[piece:], x[piece:], y[piece:] {
		squaredErrorBlock(dx[:piece], x, y, scale, &s)
	}
	squaredErrorBlock(dx, x, y, scale, &s)
	return tree(&s)
}

func squaredErrorBlock(dx, x, y []float32, scale float32, s *[lanes]float32) float32 {
	if level == 2 {
		return squaredErrorAVX512(len(dx), first(dx), first(x), first(y), scale, s)
	}
	return squaredErrorAVX2(len(dx), first(dx), first(x), first(y), scale, s)
}

func sum(x []float32) float32 {
	if level == 0 {
		return sumGeneric(x)
	}
	if len(x) <= piece {
		return sumBlock(x, nil)
	}
	var s [lanes]float32
	for ; len(x) > piece; x = x[piece:] {
		sumBlock(x[:piece], &s)
		breathe()
	}
	sumBlock(x, &s)
	return tree(&s)
}

func sumBlock(x []float32, s *[lanes]float32) float32 {
	if level == 2 {
		return sumAVX512(len(x), first(x), s)
	}
	return sumAVX2(len(x), first(x), s)
}

func allFinite(x []float32) bool {
	if level == 0 {
		return allFiniteGeneric(x)
	}
	for ; len(x) > 0; x = x[min(len(x), piece):] {
		var bad float32
		if b := x[:min(len(x), piece)]; level == 2 {
			bad = unfitAVX512(len(b), first(b), nil)
		} else {
			bad = unfitAVX2(len(b), first(b), nil)
		}
		if bad != 0 { // NaN too
			return false
		}
		if len(x) > piece {
			breathe()
		}
	}
	return true
}

// copyPast says how many elements from the first on it has copied.
func copyPast(dst, src []float32) int {
	const line = 16
	if level == 0 || len(src) < 2*line {
		return 0
	}
	n := int(-uintptr(unsafe.Pointer(&dst[0]))&63) / 4 // up to the first line of dst
	if uintptr(unsafe.Pointer(&dst[n]))&63 != 0 {
		return 0
	}
	copy(dst[:n], src[:n])
	for k := (len(src) - n) &^ (line - 1); k > 0; {
		m := min(k, piece)
		if level == 2 {
			copyPastAVX512(m, &dst[n], &src[n])
		} else {
			copyPastAVX2(m, &dst[n], &src[n])
		}
		n += m
		if k -= m; k > 0 {
			breathe()
		}
	}
	return n
}

func colSum(rows, n int, a []float32, lda int, dst []float32, acc bool) bool {
	if level == 0 || rows == 0 || n == 0 {
		return false
	}
	height := min(rows, piece)
	width := max(piece/height/lanes, 1) * lanes
	for j := 0; j < n; j += width {
		w, more := min(width, n-j), number(acc)
		for r := 0; r < rows; r += height {
			h := min(height, rows-r)
			if level == 2 {
				colSumAVX512(h, w, &a[r*lda+j], lda, &dst[j], more)
			} else {
				colSumAVX2(h, w, &a[r*lda+j], lda, &dst[j], more)
			}
			more = 1
			breathe()
		}
	}
	return true
}

func addBias(rows, n int, a []float32, lda int, bias []float32) bool {
	if level == 0 || n == 0 {
		return false
	}
	per := max(piece/n, 1)
	for r := 0; r < rows; r += per {
		if r > 0 {
			breathe()
		}
		if h := min(per, rows-r); level == 2 {
			addRowsAVX512(h, n, &a[r*lda], lda, &bias[0], 0)
		} else {
			addRowsAVX2(h, n, &a[r*lda], lda, &bias[0], 0)
		}
	}
	return true
}

// matVec takes four rows at a time, and says how many it took. Without the registers of AVX-512 one row at a time is as fast.
func matVec(m, k int, a []float32, lda int, x, y []float32) (done int) {
	if level < 2 || k > piece || k == 0 {
		return 0
	}
	for ; done+4 <= m; done += 4 {
		dot4AVX512(k, &a[done*lda], lda, &x[0], &y[done])
	}
	return done
}

// vecMat takes four rows at a time, and says how many it took.
func vecMat(k, n int, x, a []float32, lda int, y []float32) (done int) {
	if level == 0 || n > piece || n == 0 {
		return 0
	}
	f := axpy4AVX2
	if level == 2 {
		f = axpy4AVX512
	}
	for ; done+4 <= k; done += 4 {
		f(n, &y[0], &a[done*lda], lda, &x[done])
	}
	return done
}

// A group is rows for one call: h rows from r on, the first with n elements in use, each other with step more than the one before it or, beyond
// the columns, with 1.
type group struct {
	r, h, n, step int
	phase         int // rows of the matrix before these
}

func (g *group) next(rows, cols int, causal bool) bool {
	g.r += g.h
	if g.r >= rows {
		return false
	}
	if g.h > 0 {
		breathe()
	}
	g.h, g.n, g.step = min(rows-g.r, max(piece/cols, 1)), cols, 0
	if causal {
		g.n, g.step = (g.phase+g.r)%cols+1, 1
	}
	return true
}

// overlaps says that rows are worked on in place and in registers that reach into the next row: it can't be loaded before the store of the one before
// it is done, so a copy pays.
func overlaps(y, x []float32, cols, ld int) bool {
	return len(x) > 0 && &y[0] == &x[0] && cols < lanes && ld < lanes && cols%16 != 0
}

func softmaxRows(y, x []float32, rows, cols, ld int, scale float32, causal bool, stats []float32) bool {
	if level == 0 {
		return false
	}
	if !overlaps(y, x, cols, ld) {
		softmaxFrom(0, y, x, rows, cols, ld, scale, causal, stats)
		return true
	}
	var copied [8 * lanes]float32
	for per, r := len(copied)/ld, 0; r < rows; r += per {
		h := min(per, rows-r)
		part := x[r*ld : r*ld+span(h, cols, ld)]
		copy(copied[:], part)
		s := stats
		if s != nil {
			s = stats[2*r:]
		}
		softmaxFrom(r, part, copied[:], h, cols, ld, scale, causal, s)
	}
	return true
}

// softmaxFrom is softmaxRows for rows after the first so many of a matrix.
func softmaxFrom(before int, y, x []float32, rows, cols, ld int, scale float32, causal bool, stats []float32) {
	if level == 2 && !causal && cols <= 32 && rows > 0 {
		for r := 0; r < rows; r += piece / 32 {
			s := first(stats)
			if s != nil {
				s = &stats[2*r]
			}
			softmax32AVX512(min(rows-r, piece/32), cols, ld, &y[r*ld], &x[r*ld], scale, s)
		}
		return
	}
	for g := (group{phase: before}); g.next(rows, cols, causal); {
		s := first(stats)
		if s != nil {
			s = &stats[2*g.r]
		}
		if at := g.r * ld; level == 2 {
			softmaxRowsAVX512(g.h, g.n, g.step, cols, ld, &y[at], &x[at], scale, s)
		} else {
			softmaxRowsAVX2(g.h, g.n, g.step, cols, ld, &y[at], &x[at], scale, s)
		}
	}
}

func softmaxBackward(dx, dy, y []float32, rows, cols, ld int, scale float32, causal bool) bool {
	if level == 0 {
		return false
	}
	if !overlaps(dx, dy, cols, ld) {
		softmaxBackwardFrom(0, dx, dy, y, rows, cols, ld, scale, causal)
		return true
	}
	var copied [8 * lanes]float32
	for per, r := len(copied)/ld, 0; r < rows; r += per {
		h := min(per, rows-r)
		part := dy[r*ld : r*ld+span(h, cols, ld)]
		copy(copied[:], part)
		softmaxBackwardFrom(r, part, copied[:], y[r*ld:], h, cols, ld, scale, causal)
	}
	return true
}

// softmaxBackwardFrom is softmaxBackward for rows after the first so many of a matrix.
func softmaxBackwardFrom(before int, dx, dy, y []float32, rows, cols, ld int, scale float32, causal bool) {
	for g := (group{phase: before}); g.next(rows, cols, causal); {
		if at := g.r * ld; level == 2 {
			softmaxBackwardAVX512(g.h, g.n, g.step, cols, ld, &dx[at], &dy[at], &y[at], scale)
		} else {
			softmaxBackwardAVX2(g.h, g.n, g.step, cols, ld, &dx[at], &dy[at], &y[at], scale)
		}
	}
}

// fits says that a row of scores fits a register and a head the frame of the assembly.
func fits(t, hs, ld int) bool {
	return level == 2 && t > 0 && t <= 16 && (hs == 4 || hs == 8) && ld < 1<<24
}

func rowLengths(t int, causal bool) (first, step int) {
	if causal {
		return 1, 1
	}
	return t, 0
}

func scores(att, q, k []float32, heads, t, hs, ld int, scale float32, causal bool) bool {
	if !fits(t, hs, ld) {
		return false
	}
	n, step := rowLengths(t, causal)
	for h := range heads {
		scoresAVX512(t, hs, n, step, ld, ld, &att[h*t*t], &q[h*hs], &k[h*hs], scale)
	}
	return true
}

func scoresBackward(datt, g, v, att []float32, t, hs, ldg, ld int, scale float32, causal bool) bool {
	if !fits(t, hs, ld) {
		return false
	}
	n, step := rowLengths(t, causal)
	scoresBackwardAVX512(t, hs, n, step, ld, ldg, &datt[0], &g[0], &v[0], &att[0], scale)
	return true
}

// fours is the number of heads that the kernels for four heads of four channels take.
func fours(heads, t, hs int) int {
	if level != 2 || hs != 4 || t < 4 || t > 16 {
		return 0
	}
	return heads &^ 3
}

// attend is Heads for the first heads; it returns their number.
func attend(att, ctx, q, k, v []float32, heads, t, hs, ldc, ld int, scale float32, causal bool) int {
	n := fours(heads, t, hs)
	for h := 0; h < n; h += 4 {
		headsAVX512(t, number(causal), ld, ldc, &att[h*t*t], &ctx[h*hs], &q[h*hs], &k[h*hs], &v[h*hs], scale)
	}
	return n
}

func attendBackward(dq, dk, dv, g, q, k, v, att []float32, heads, t, hs, ldg, ld int, scale float32, causal bool) int {
	n := fours(heads, t, hs)
	for h := 0; h < n; h += 4 {
		at := h * hs
		headsBackwardAVX512(t, number(causal), ld, ldg, &dq[at], &dk[at], &dv[at], &g[at], &q[at], &k[at], &v[at], &att[h*t*t], scale)
	}
	return n
}

func layerNorm(y, mean, rstd, x, w, b []float32, rows, n int, inv, eps float32) bool {
	if level == 0 || n == 0 {
		return false
	}
	for g := (group{}); g.next(rows, n, false); {
		if at := g.r * n; level == 2 {
			layerNormAVX512(g.h, n, &y[at], &mean[g.r], &rstd[g.r], &x[at], first(w), first(b), inv, eps)
		} else {
			layerNormAVX2(g.h, n, &y[at], &mean[g.r], &rstd[g.r], &x[at], first(w), first(b), inv, eps)
		}
	}
	return true
}

func rmsNorm(y, rstd, x, w []float32, rows, n int, inv, eps float32) bool {
	if level == 0 || n == 0 {
		return false
	}
	if n == 16 && level == 2 && rows > 0 {
		for r := 0; r < rows; r += piece / 16 {
			rmsNorm16AVX512(min(rows-r, piece/16), &y[16*r], &rstd[r], &x[16*r], first(w), inv, eps)
		}
		return true
	}
	for g := (group{}); g.next(rows, n, false); {
		if at := g.r * n; level == 2 {
			rmsNormAVX512(g.h, n, &y[at], &rstd[g.r], &x[at], first(w), inv, eps)
		} else {
			rmsNormAVX2(g.h, n, &y[at], &rstd[g.r], &x[at], first(w), inv, eps)
		}
	}
	return true
}

func layerNormBackward(dx, dw, db, dy, x, mean, rstd, w []float32, rows, n int, inv float32, acc bool) bool {
	if level == 0 || n == 0 {
		return false
	}
	for g := (group{}); g.next(rows, n, false); {
		at := g.r * n
		d := first(dx)
		if d != nil {
			d = &dx[at]
		}
		if level == 2 {
			layerNormBackwardAVX512(g.h, n, d, first(dw), first(db), &dy[at], &x[at], &mean[g.r], &rstd[g.r], first(w), inv, number(acc))
		} else {
			layerNormBackwardAVX2(g.h, n, d, first(dw), first(db), &dy[at], &x[at], &mean[g.r], &rstd[g.r], first(w), inv, number(acc))
		}
	}
	return true
}

func rmsNormBackward(dx, dw, dy, x, rstd, w []float32, rows, n int, inv float32, acc bool) bool {
	if level == 0 || n == 0 {
		return false
	}
	if n == 16 && level == 2 && rows > 0 && dw == nil && dx != nil {
		for r := 0; r < rows; r += piece / 16 {
			rmsNormBackward16AVX512(min(rows-r, piece/16), &dx[16*r], &dy[16*r], &x[16*r], &rstd[r], first(w), inv, number(acc))
		}
		return true
	}
	for g := (group{}); g.next(rows, n, false); {
		at := g.r * n
		d := first(dx)
		if d != nil {
			d = &dx[at]
		}
		if level == 2 {
			rmsNormBackwardAVX512(g.h, n, d, first(dw), &dy[at], &x[at], &rstd[g.r], first(w), inv, number(acc))
		} else {
			rmsNormBackwardAVX2(g.h, n, d, first(dw), &dy[at], &x[at], &rstd[g.r], first(w), inv, number(acc))
		}
	}
	return true
}

func adam(w, g, m, v []float32, c *AdamStep) bool {
	if level == 0 {
		return false
	}
	f := adamAVX2
	switch {
	case level == 2 && roomy: // a root of 64 bytes takes its divider no longer than steps instead of it take its multipliers
		f = adamDividingAVX512
	case level == 2:
		f = adamAVX512
	}
	for i := 0; i < len(w); i = after(i, len(w)) {
		f(min(len(w)-i, piece), &w[i], &g[i], &m[i], &v[i], c.beta1, c.rest1, c.beta2, c.rest2, c.step, c.eps, c.shrink, c.wd)
	}
	return true
}

// adamTensors is for few elements, without a decay.
func adamTensors(ts []AdamTensor, c *AdamStep) bool {
	n := 0
	for i := range ts {
		n += len(ts[i].W)
	}
	if level != 2 || !roomy || n == 0 || n > piece || c.wd != 0 || c.shrink != 1 {
		return false
	}
	adamTensorsAVX512(len(ts), &ts[0].W, c.beta1, c.rest1, c.beta2, c.rest2, c.step, c.eps)
	return true
}

func sgd(w, g []float32, step, wd float32) bool {
	if level == 0 {
		return false
	}
	f := sgdAVX2
	if level == 2 {
		f = sgdAVX512
	}
	for i := 0; i < len(w); i = after(i, len(w)) {
		f(min(len(w)-i, piece), &w[i], &g[i], step, wd)
	}
	return true
}

func momentum(w, g, v []float32, step, mu, keep, wd float32, nesterov bool) bool {
	if level == 0 {
		return false
	}
	f := momentumAVX2
	if level == 2 {
		f = momentumAVX512
	}
	for i := 0; i < len(w); i = after(i, len(w)) {
		f(min(len(w)-i, piece), &w[i], &g[i], &v[i], step, mu, keep, wd, number(nesterov))
	}
	return true
}

func adagrad(w, g, h []float32, step, eps, wd float32) bool {
	if level == 0 {
		return false
	}
	f := adagradAVX2
	if level == 2 {
		f = adagradAVX512
	}
	for i := 0; i < len(w); i = after(i, len(w)) {
		f(min(len(w)-i, piece), &w[i], &g[i], &h[i], step, eps, wd)
	}
	return true
}

func rmsprop(w, g, sq, mom []float32, step, alpha, keep, eps, wd, mu float32) bool {
	if level == 0 {
		return false
	}
	f := rmspropAVX2
	if level == 2 {
		f = rmspropAVX512
	}
	for i := 0; i < len(w); i = after(i, len(w)) {
		m := first(mom)
		if m != nil {
			m = &mom[i]
		}
		f(min(len(w)-i, piece), &w[i], &g[i], &sq[i], m, step, alpha, keep, eps, wd, mu)
	}
	return true
}

func lion(w, g, m []float32, step, b1, c1, b2, c2, wd float32) bool {
	if level == 0 {
		return false
	}
	f := lionAVX2
	if level == 2 {
		f = lionAVX512
	}
	for i := 0; i < len(w); i = after(i, len(w)) {
		f(min(len(w)-i, piece), &w[i], &g[i], &m[i], step, b1, c1, b2, c2, wd)
	}
	return true
}

// regress is Regression for the first rows; it returns their number.
func regress(rows, n int, x, w, b, target, y, d, dy []float32, scale float32, dw []float32) int {
	if level != 2 || n == 0 || n%lanes != 0 {
		return 0
	}
	done, ahead := 0, 1
	if roomy { // a fetch takes the place of a load there, and half of the rows come by themselves
		ahead = 0
	}
	for most := max(2*piece/(regressionRows*n), 1); ; breathe() {
		blocks := min((rows-done)/regressionRows, most)
		if blocks == 0 || regressionRows*n > 8*piece {
			return done
		}
		regressAVX512(blocks, n, &x[done*n], n, &w[0], first(b), &target[done], &y[done], &d[done], &dy[done], scale, &dw[0], number(done > 0), ahead)
		done += blocks * regressionRows
	}
}
