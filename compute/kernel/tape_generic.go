//go:build !amd64 || purego

package kernel

type call struct {
	do       kind
	dst, src []float32
}

type kind uint8

const doCopy kind = 0

func (c *call) run() { copy(c.dst, c.src) }

// Without assembly there is nothing to put on a tape.

// Gemm is of Gemm, or of GemmBias where bias is not nil.
func (t *Tape) Gemm(f Form, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, bias []float32, acc bool) bool {
	return false
}

// ReLU is of ReLU.
func (t *Tape) ReLU(dst, x []float32) bool { return false }

// ReLUBackward is of ReLUBackward.
func (t *Tape) ReLUBackward(dx, dy, x []float32, acc bool) bool { return false }

// Add is of Add.
func (t *Tape) Add(dst, x, y []float32) bool { return false }

// RMSNorm is of RMSNorm.
func (t *Tape) RMSNorm(y, rstd, x, w []float32, rows, n int, eps float32) bool { return false }

// RMSNormBackward is of RMSNormBackward without the gradient of a gain.
func (t *Tape) RMSNormBackward(dx, dy, x, rstd, w []float32, rows, n int, acc bool) bool {
	return false
}

// Heads is of Heads.
func (t *Tape) Heads(att, ctx, q, k, v []float32, heads, n, hs, ldc, ld int, scale float32, causal bool) bool {
	return false
}

// HeadsBackward is of HeadsBackward.
func (t *Tape) HeadsBackward(dq, dk, dv, g, q, k, v, att []float32, heads, n, hs, ldg, ld int, scale float32, causal bool) bool {
	return false
}
