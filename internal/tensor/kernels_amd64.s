#include "textflag.h"

// func mulFour(a *fourArgs)
//
// Two rows times four vectors. Eight columns are one step: of each row the even ones, then the odd ones, four floats each, which are sent to both halves of a register; of the vectors
// [A even, B even] [C even, D even] [A odd, B odd] [C odd, D odd]. even*even + odd*odd are the pairs of the reference, and a half of a sum has its four lanes. Nothing is fused.
TEXT ·mulFour(SB), NOSPLIT, $0-8
	MOVQ a+0(FP), AX
	MOVQ 0(AX), SI    // codes of row 0
	MOVQ 8(AX), DI    // codes of row 1
	MOVQ 16(AX), DX   // vectors
	MOVQ 24(AX), R8   // scales of row 0
	MOVQ 32(AX), R9   // scales of row 1
	MOVQ 40(AX), R10  // biases of row 0, or nil
	MOVQ 48(AX), R11  // biases of row 1
	MOVQ 56(AX), R12  // sums of groups, four vectors each
	MOVQ 64(AX), CX   // groups
	MOVQ 72(AX), R13  // blocks of a group
	MOVQ 80(AX), BX   // steps of a block
	VXORPS X14, X14, X14 // totals of row 0
	VXORPS X15, X15, X15 // totals of row 1

group:
	MOVQ R13, R14

block:
	VXORPS Y0, Y0, Y0 // row 0: A B
	VXORPS Y1, Y1, Y1 // row 0: C D
	VXORPS Y2, Y2, Y2 // row 1: A B
	VXORPS Y3, Y3, Y3 // row 1: C D
	MOVQ   BX, R15

step:
	VBROADCASTF128 (SI), Y4   // row 0 even
	VBROADCASTF128 16(SI), Y5 // row 0 odd
	VBROADCASTF128 (DI), Y6
	VBROADCASTF128 16(DI), Y7
	VMOVUPS (DX), Y8          // A B even
	VMOVUPS 64(DX), Y9        // A B odd
	VMULPS  Y8, Y4, Y10
	VMULPS  Y9, Y5, Y11
	VMULPS  Y8, Y6, Y12
	VMULPS  Y9, Y7, Y13
	VADDPS  Y11, Y10, Y10
	VADDPS  Y13, Y12, Y12
	VADDPS  Y10, Y0, Y0
	VADDPS  Y12, Y2, Y2
	VMOVUPS 32(DX), Y8        // C D even
	VMOVUPS 96(DX), Y9        // C D odd
	VMULPS  Y8, Y4, Y10
	VMULPS  Y9, Y5, Y11
	VMULPS  Y8, Y6, Y12
	VMULPS  Y9, Y7, Y13
	VADDPS  Y11, Y10, Y10
	VADDPS  Y13, Y12, Y12
	VADDPS  Y10, Y1, Y1
	VADDPS  Y12, Y3, Y3
	ADDQ    $32, SI
	ADDQ    $32, DI
	ADDQ    $128, DX
	DECQ    R15
	JNZ     step

	// (0+1) + (2+3) of each vector, as [A B C D]
	VHADDPS      Y1, Y0, Y0
	VHADDPS      Y0, Y0, Y0
	VEXTRACTF128 $1, Y0, X4
	VUNPCKLPS    X4, X0, X0
	VHADDPS      Y3, Y2, Y2
	VHADDPS      Y2, Y2, Y2
	VEXTRACTF128 $1, Y2, X4
	VUNPCKLPS    X4, X2, X2

	VBROADCASTSS (R8), X4
	VMULPS       X0, X4, X0
	VADDPS       X0, X14, X14
	VBROADCASTSS (R9), X4
	VMULPS       X2, X4, X2
	VADDPS       X2, X15, X15
	DECQ         R14
	JNZ          block

	ADDQ  $4, R8
	ADDQ  $4, R9
	TESTQ R10, R10
	JZ    next
	VMOVUPS      (R12), X5
	VBROADCASTSS (R10), X4
	VMULPS       X5, X4, X4
	VADDPS       X4, X14, X14
	VBROADCASTSS (R11), X4
	VMULPS       X5, X4, X4
	VADDPS       X4, X15, X15
	ADDQ         $4, R10
	ADDQ         $4, R11
	ADDQ         $16, R12

next:
	DECQ    CX
	JNZ     group
	VMOVUPS X14, 88(AX)
	VMOVUPS X15, 104(AX)
	VZEROUPPER
	RET

// func splitPairs(dst, src *float32, steps int)
//
// Of every eight floats the even ones, then the odd ones.
TEXT ·splitPairs(SB), NOSPLIT, $0-24
	MOVQ    dst+0(FP), DI
	MOVQ    src+8(FP), SI
	MOVQ    steps+16(FP), CX
	VMOVDQU order<>(SB), Y1

split:
	VMOVUPS (SI), Y0
	VPERMPS Y0, Y1, Y0
	VMOVUPS Y0, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DI
	DECQ    CX
	JNZ     split
	VZEROUPPER
	RET

DATA order<>+0(SB)/4, $0
DATA order<>+4(SB)/4, $2
DATA order<>+8(SB)/4, $4
DATA order<>+12(SB)/4, $6
DATA order<>+16(SB)/4, $1
DATA order<>+20(SB)/4, $3
DATA order<>+24(SB)/4, $5
DATA order<>+28(SB)/4, $7
GLOBL order<>(SB), RODATA, $32

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
