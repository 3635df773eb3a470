package main

// The kernels of internal/quant, which internal/quant/level.go describes. All work through a matrix in stages, so that few kernels cover many formats: the ranges of groups, their scales, the
// codes as bytes, the packing of bytes. What the stages hand over stays in the first cache.

// number is a type of weights.
type number struct {
	name  string
	bytes int
}

// numbers are in the order of quant.Float.
var numbers = []number{{"F32", 4}, {"F16", 2}, {"BF16", 2}}

var (
	rangeGroups = []int{16, 32, 64, 128}
	packBits    = []int{1, 2, 3, 4, 5, 6}
)

func quantAVX2() *file {
	f := newFile("internal/quant", "kernels_avx2", "amd64", "")
	for _, n := range numbers {
		for _, group := range rangeGroups {
			f.ranges(n, group)
		}
		f.finite(n)
	}
	f.quant(false)
	return f
}

func quantAVX512() *file {
	f := newFile("internal/quant", "kernels_avx512", "amd64", "")
	f.quant(true)
	return f
}

// quant are the kernels that both levels have, each in its own width.
func (f *file) quant(wide bool) {
	f.affineGrid(wide, false)
	f.affineGrid(wide, true)
	f.largest(wide)
	f.powerScales(wide)
	f.e4m3Scales(wide)
	for _, n := range numbers {
		f.affineCodes(wide, n)
		f.mx4Codes(wide, n)
		f.mx8Codes(wide, n)
		f.nv4Codes(wide, n)
	}
	for _, bits := range packBits {
		f.pack(wide, bits, false)
	}
	f.pack(wide, 4, true)
	for _, bits := range packBits {
		f.unpack(wide, bits)
	}
	for _, n := range numbers {
		f.affineValues(wide, n)
	}
	f.microValues(wide, 4)
	f.microValues(wide, 8)
	for _, from := range numbers {
		for _, to := range numbers {
			if from != to || from.name == "F32" {
				f.cast(wide, from, to)
			}
		}
	}
}
