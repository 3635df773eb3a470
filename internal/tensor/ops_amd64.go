package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// opsOf are those of a level.
func opsOf(l cpu.Level) opsKernels {
	switch l {
	case cpu.AVX2:
		return opsKernels{
			add: addAVX2, blend: blendAVX2, scaleTo: scaleToAVX2, sumSquares: sumSquaresAVX2, normalize: normalizeAVX2,
			turn: turnAVX2, siluMul: siluMulAVX2, exps: expsAVX2, softmax: softmaxAVX2, narrow: narrowAVX2,
		}
	case cpu.AVX512, cpu.AMX:
		return opsKernels{
			add: addAVX512, blend: blendAVX512, scaleTo: scaleToAVX512, sumSquares: sumSquaresAVX512, normalize: normalizeAVX512,
			turn: turnAVX512, siluMul: siluMulAVX512, exps: expsAVX512, softmax: softmaxAVX512, narrow: narrowAVX512,
		}
	}
	return opsKernels{}
}
