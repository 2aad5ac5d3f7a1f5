package kernel

// op names an elementwise kernel in the tables of an instruction set.
type op uint8

const (
	opExp op = iota
	opLog
	opTanh
	opErf
	opSigmoid
	opSiLU
	opReLU
	opSquaredReLU
	opGeluErf
	opGeluTanh
	opAdd
	opSub
	opMul
	opMulAdd
	opScale
	opAxpy
	opLerp
	opClampAbs
	ops
)
