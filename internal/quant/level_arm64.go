package quant

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernelsOf are those of a level.
func kernelsOf(l cpu.Level) *kernels {
	if l == cpu.NEON {
		return &neon
	}
	return nil
}

// neon are the kernels for vectors of 16 bytes.
var neon = kernels{
	lanes: 4,
	ranges: [3][4]func(*float32, *float32, *byte, int){
		{rangesF32By16NEON, rangesF32By32NEON, rangesF32By64NEON, rangesF32By128NEON},
		{rangesF16By16NEON, rangesF16By32NEON, rangesF16By64NEON, rangesF16By128NEON},
		{rangesBF16By16NEON, rangesBF16By32NEON, rangesBF16By64NEON, rangesBF16By128NEON},
	},
	grid:         affineGridNEON,
	twoValueGrid: twoValueGridNEON,
	affineCodes:  [3]func(*byte, *byte, *float32, *float32, *float32, int, int, *byte, int){affineCodesF32NEON, affineCodesF16NEON, affineCodesBF16NEON},

	largest:     largestNEON,
	powerScales: powerScalesNEON,
	e4m3Scales:  e4m3ScalesNEON,
	mx8Codes:    [3]func(*byte, *byte, *float32, int){mx8CodesF32NEON, mx8CodesF16NEON, mx8CodesBF16NEON},
	mx4Codes:    [3]func(*byte, *byte, *float32, int){mx4CodesF32NEON, mx4CodesF16NEON, mx4CodesBF16NEON},
	nv4Codes:    [3]func(*byte, *byte, *float32, *float32, int){nv4CodesF32NEON, nv4CodesF16NEON, nv4CodesBF16NEON},

	pack:     [7]func(*byte, *byte, int){1: pack1NEON, pack2NEON, pack3NEON, pack4NEON, pack5NEON, pack6NEON},
	packE2M1: packE2M1NEON,

	cast: [3][3]func(*byte, *byte, int){
		F32:  {F16: castF32ToF16NEON, BF16: castF32ToBF16NEON},
		F16:  {F32: castF16ToF32NEON, BF16: castF16ToBF16NEON},
		BF16: {F32: castBF16ToF32NEON, F16: castBF16ToF16NEON},
	},

	unpack:       [7]func(*byte, *byte, int){1: unpack1NEON, unpack2NEON, unpack3NEON, unpack4NEON, unpack5NEON, unpack6NEON},
	affineValues: [3]func(*float32, *byte, *float32, *float32, int, int){affineValuesF32NEON, affineValuesF16NEON, affineValuesBF16NEON},
	e2m1Values:   e2m1ValuesNEON,
	e4m3Values:   e4m3ValuesNEON,

	decode: [3]func(*float32, *byte, int){decodeF32NEON, decodeF16NEON, decodeBF16NEON},
	encode: [3]func(*byte, *float32, int){encodeF32NEON, encodeF16NEON, encodeBF16NEON},
	finite: [3]func(*byte, int) int{finiteF32NEON, finiteF16NEON, finiteBF16NEON},
}
