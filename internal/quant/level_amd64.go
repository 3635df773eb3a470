package quant

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernelsOf are those of a level, or the best below it.
func kernelsOf(l cpu.Level) *kernels {
	switch l {
	case cpu.AVX2:
		return &avx2
	case cpu.AVX512, cpu.AMX:
		return &avx512
	}
	return nil
}

// avx2 are the kernels for vectors of 32 bytes.
var avx2 = kernels{
	lanes: 8,
	ranges: [3][4]func(*float32, *float32, *byte, int){
		{rangesF32By16AVX2, rangesF32By32AVX2, rangesF32By64AVX2, rangesF32By128AVX2},
		{rangesF16By16AVX2, rangesF16By32AVX2, rangesF16By64AVX2, rangesF16By128AVX2},
		{rangesBF16By16AVX2, rangesBF16By32AVX2, rangesBF16By64AVX2, rangesBF16By128AVX2},
	},
	grid:         affineGridAVX2,
	twoValueGrid: twoValueGridAVX2,
	affineCodes:  [3]func(*byte, *byte, *float32, *float32, *float32, int, int, *byte, int){affineCodesF32AVX2, affineCodesF16AVX2, affineCodesBF16AVX2},

	largest:     largestAVX2,
	powerScales: powerScalesAVX2,
	e4m3Scales:  e4m3ScalesAVX2,
	mx8Codes:    [3]func(*byte, *byte, *float32, int){mx8CodesF32AVX2, mx8CodesF16AVX2, mx8CodesBF16AVX2},
	mx4Codes:    [3]func(*byte, *byte, *float32, int){mx4CodesF32AVX2, mx4CodesF16AVX2, mx4CodesBF16AVX2},
	nv4Codes:    [3]func(*byte, *byte, *float32, *float32, int){nv4CodesF32AVX2, nv4CodesF16AVX2, nv4CodesBF16AVX2},

	pack:     [7]func(*byte, *byte, int){1: pack1AVX2, pack2AVX2, pack3AVX2, pack4AVX2, pack5AVX2, pack6AVX2},
	packE2M1: packE2M1AVX2,

	cast: [3][3]func(*byte, *byte, int){
		F32:  {F16: castF32ToF16AVX2, BF16: castF32ToBF16AVX2},
		F16:  {F32: castF16ToF32AVX2, BF16: castF16ToBF16AVX2},
		BF16: {F32: castBF16ToF32AVX2, F16: castBF16ToF16AVX2},
	},

	unpack:       [7]func(*byte, *byte, int){1: unpack1AVX2, unpack2AVX2, unpack3AVX2, unpack4AVX2, unpack5AVX2, unpack6AVX2},
	affineValues: [3]func(*float32, *byte, *float32, *float32, int, int){affineValuesF32AVX2, affineValuesF16AVX2, affineValuesBF16AVX2},
	e2m1Values:   e2m1ValuesAVX2,
	e4m3Values:   e4m3ValuesAVX2,

	decode: [3]func(*float32, *byte, int){decodeF32AVX2, decodeF16AVX2, decodeBF16AVX2},
	encode: [3]func(*byte, *float32, int){encodeF32AVX2, encodeF16AVX2, encodeBF16AVX2},
	finite: [3]func(*byte, int) int{finiteF32AVX2, finiteF16AVX2, finiteBF16AVX2},
}

// avx512 are the kernels for vectors of 64 bytes; ranges and finite are shared.
var avx512 = kernels{
	lanes: 16,
	ranges: [3][4]func(*float32, *float32, *byte, int){
		{rangesF32By16AVX2, rangesF32By32AVX2, rangesF32By64AVX2, rangesF32By128AVX2},
		{rangesF16By16AVX2, rangesF16By32AVX2, rangesF16By64AVX2, rangesF16By128AVX2},
		{rangesBF16By16AVX2, rangesBF16By32AVX2, rangesBF16By64AVX2, rangesBF16By128AVX2},
	},
	grid:         affineGridAVX512,
	twoValueGrid: twoValueGridAVX512,
	affineCodes:  [3]func(*byte, *byte, *float32, *float32, *float32, int, int, *byte, int){affineCodesF32AVX512, affineCodesF16AVX512, affineCodesBF16AVX512},

	largest:     largestAVX512,
	powerScales: powerScalesAVX512,
	e4m3Scales:  e4m3ScalesAVX512,
	mx8Codes:    [3]func(*byte, *byte, *float32, int){mx8CodesF32AVX512, mx8CodesF16AVX512, mx8CodesBF16AVX512},
	mx4Codes:    [3]func(*byte, *byte, *float32, int){mx4CodesF32AVX512, mx4CodesF16AVX512, mx4CodesBF16AVX512},
	nv4Codes:    [3]func(*byte, *byte, *float32, *float32, int){nv4CodesF32AVX512, nv4CodesF16AVX512, nv4CodesBF16AVX512},

	pack:     [7]func(*byte, *byte, int){1: pack1AVX512, pack2AVX512, pack3AVX512, pack4AVX512, pack5AVX512, pack6AVX512},
	packE2M1: packE2M1AVX512,

	cast: [3][3]func(*byte, *byte, int){
		F32:  {F16: castF32ToF16AVX512, BF16: castF32ToBF16AVX512},
		F16:  {F32: castF16ToF32AVX512, BF16: castF16ToBF16AVX512},
		BF16: {F32: castBF16ToF32AVX512, F16: castBF16ToF16AVX512},
	},

	unpack:       [7]func(*byte, *byte, int){1: unpack1AVX512, unpack2AVX512, unpack3AVX512, unpack4AVX512, unpack5AVX512, unpack6AVX512},
	affineValues: [3]func(*float32, *byte, *float32, *float32, int, int){affineValuesF32AVX512, affineValuesF16AVX512, affineValuesBF16AVX512},
	e2m1Values:   e2m1ValuesAVX512,
	e4m3Values:   e4m3ValuesAVX512,

	decode: [3]func(*float32, *byte, int){decodeF32AVX512, decodeF16AVX512, decodeBF16AVX512},
	encode: [3]func(*byte, *float32, int){encodeF32AVX512, encodeF16AVX512, encodeBF16AVX512},
	finite: [3]func(*byte, int) int{finiteF32AVX2, finiteF16AVX2, finiteBF16AVX2},
}
