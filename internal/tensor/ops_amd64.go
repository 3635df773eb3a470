package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// opsOf are those of a level.
func opsOf(l cpu.Level) opsKernels {
	switch l {
	case cpu.AVX2:
		return opsKernels{
			add: addAVX2, blend: blendAVX2, scaleTo: scaleToAVX2, sumSquares: sumSquaresAVX2, normalize: normalizeAVX2,
			turn: turnAVX2, siluMul: siluMulAVX2, exps: expsAVX2, softmax: softmaxAVX2, narrow: narrowAVX2, mulVectors: mulVectorsAVX2, roundVectors: roundVectorsAVX2, extremes: extremesAVX2, largest64: largest64AVX2, ask: askAVX2, round64: round64AVX2,
			pack: [forms]func(*byte, *int32){asWords: packWordsAVX2, asNibbleBytes: packNibblesAVX2, asOctetBytes: packOctetsAVX2}, turnFloats: turnFloatsAVX2, turnBytes: turnBytesAVX2,
			attend: [...][len(attendTiles)]func(*float32, int, *byte, int, *float32, int, int, *byte){
				{attendF32By1AVX2, attendF32By2AVX2, attendF32By3AVX2, attendF32By4AVX2, attendF32By6AVX2, attendF32By8AVX2, attendF32By12AVX2},
				{attendF16By1AVX2, attendF16By2AVX2, attendF16By3AVX2, attendF16By4AVX2, attendF16By6AVX2, attendF16By8AVX2, attendF16By12AVX2},
			},
			attendI8: [...]func(*float32, int, *byte, int, *byte, *float32, int, int, *byte){attendI8By1AVX2, attendI8By2AVX2, attendI8By3AVX2, attendI8By4AVX2, attendI8By6AVX2, attendI8By8AVX2, attendI8By12AVX2},
		}
	case cpu.AVX512, cpu.AMX:
		return opsKernels{
			add: addAVX512, blend: blendAVX512, scaleTo: scaleToAVX512, sumSquares: sumSquaresAVX512, normalize: normalizeAVX512,
			turn: turnAVX512, siluMul: siluMulAVX512, exps: expsAVX512, softmax: softmaxAVX512, narrow: narrowAVX512, mulVectors: mulVectorsAVX512, roundVectors: roundVectorsAVX512, extremes: extremesAVX2, largest64: largest64AVX2, ask: askAVX2, round64: round64AVX2,
			pack: [forms]func(*byte, *int32){asWords: packWordsAVX2, asNibbleBytes: packNibblesAVX2, asOctetBytes: packOctetsAVX2}, turnFloats: turnFloatsAVX2, turnBytes: turnBytesAVX2,
			attend: [...][len(attendTiles)]func(*float32, int, *byte, int, *float32, int, int, *byte){
				{attendF32By1AVX512, attendF32By2AVX512, attendF32By3AVX512, attendF32By4AVX512, attendF32By6AVX512, attendF32By8AVX512, attendF32By12AVX512},
				{attendF16By1AVX512, attendF16By2AVX512, attendF16By3AVX512, attendF16By4AVX512, attendF16By6AVX512, attendF16By8AVX512, attendF16By12AVX512},
			},
			attendI8: [...]func(*float32, int, *byte, int, *byte, *float32, int, int, *byte){attendI8By1AVX512, attendI8By2AVX512, attendI8By3AVX512, attendI8By4AVX512, attendI8By6AVX512, attendI8By8AVX512, attendI8By12AVX512},
		}
	}
	return opsKernels{}
}
