//go:build linux && amd64 && !purego

#include "textflag.h"

// func call(code unsafe.Pointer, a unsafe.Pointer)
TEXT ·call(SB), 0, $64-16
	MOVQ code+0(FP), AX
	MOVQ a+8(FP), DI
	CALL AX
	RET
