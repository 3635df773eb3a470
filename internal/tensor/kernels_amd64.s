#include "textflag.h"

// func dotPair(out *[2]float32, q, k0, k1 *float32, steps int)
//
// q times two vectors, eight columns a step: dot of ops.go. A horizontal add makes the pairs (0,1) (2,3) of both vectors in the low half of a register and (4,5) (6,7) in the high half, so that each
// of the eight sums is one lane of dot.
TEXT ·dotPair(SB), NOSPLIT, $0-40
	MOVQ   out+0(FP), DI
	MOVQ   q+8(FP), SI
	MOVQ   k0+16(FP), R8
	MOVQ   k1+24(FP), R9
	MOVQ   steps+32(FP), CX
	VXORPS Y0, Y0, Y0

pair:
	VMOVUPS (SI), Y1
	VMULPS  (R8), Y1, Y2
	VMULPS  (R9), Y1, Y3
	VHADDPS Y3, Y2, Y2
	VADDPS  Y2, Y0, Y0
	ADDQ    $32, SI
	ADDQ    $32, R8
	ADDQ    $32, R9
	DECQ    CX
	JNZ     pair

	VHADDPS      Y0, Y0, Y0 // low: 0+1 of both; high: 2+3 of both
	VEXTRACTF128 $1, Y0, X1
	VADDPS       X1, X0, X0
	VMOVLPS      X0, (DI)
	VZEROUPPER
	RET

// func addFour(dst, v *float32, stride, steps int, w *[4]float32)
//
// dst += (w0*v0 + w1*v1) + (w2*v2 + w3*v3), eight columns a step; the vectors are stride bytes apart.
TEXT ·addFour(SB), NOSPLIT, $0-40
	MOVQ         dst+0(FP), DI
	MOVQ         v+8(FP), SI
	MOVQ         stride+16(FP), R8
	MOVQ         steps+24(FP), CX
	MOVQ         w+32(FP), AX
	VBROADCASTSS 0(AX), Y4
	VBROADCASTSS 4(AX), Y5
	VBROADCASTSS 8(AX), Y6
	VBROADCASTSS 12(AX), Y7
	LEAQ         (SI)(R8*1), R9
	LEAQ         (SI)(R8*2), R10
	LEAQ         (R9)(R8*2), R11

add:
	VMULPS  (SI), Y4, Y0
	VMULPS  (R9), Y5, Y1
	VMULPS  (R10), Y6, Y2
	VMULPS  (R11), Y7, Y3
	VADDPS  Y1, Y0, Y0
	VADDPS  Y3, Y2, Y2
	VADDPS  Y2, Y0, Y0
	VADDPS  (DI), Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ    $32, SI
	ADDQ    $32, R9
	ADDQ    $32, R10
	ADDQ    $32, R11
	ADDQ    $32, DI
	DECQ    CX
	JNZ     add
	VZEROUPPER
	RET
