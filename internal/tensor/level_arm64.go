package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernelsOf are those of a level.
func kernelsOf(l cpu.Level) (k kernels) {
	if l == cpu.NEON {
		k.opsKernels = opsNEON
		attendNEON(&k)
		integersNEON(&k)
		floatsNEON(&k)
	}
	return k
}

var opsNEON = opsKernels{
	add: addNEON, blend: blendNEON, scaleTo: scaleToNEON, sumSquares: sumSquaresNEON, normalize: normalizeNEON,
	turn: turnNEON, siluMul: siluMulNEON, exps: expsNEON, softmax: softmaxNEON, narrow: narrowNEON, mulVectors: mulVectorsNEON, roundVectors: roundVectorsNEON, extremes: extremesNEON, largest64: largest64NEON, ask: askNEON, round64: round64NEON,
	pack: [forms]func(*byte, *int32){asWords: packWordsNEON, asNibbleBytes: packNibblesNEON, asOctetBytes: packOctetsNEON}, turnFloats: turnFloatsNEON, turnBytes: turnBytesNEON,
}
