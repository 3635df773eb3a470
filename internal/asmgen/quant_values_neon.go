package main

import "math"

// affineValuesNEON is scale*code, rounded to the type, + bias.
func (f *file) affineValuesNEON(n number) {
	a := f.fn("affineValues"+n.name+"NEON", "computes values of codes, rounded to "+n.name+" in between: see kernels.affineValues.",
		"dst *float32, codes *byte, scales *float32, biases *float32, groups int, sixteens int")
	const scale, bias, odd, half, kept = 16, 17, 18, 19, 20
	a.argsNEON("dst", "codes", "scales", "biases", "groups", "sixteens")
	if n.name == "BF16" {
		a.constantNEON(1, odd)
		a.constantNEON(0x7FFF, half)
		a.constantNEON(0xFFFF0000, kept)
	}
	a.loop("R4", func() {
		a.next("R2", scale)
		a.next("R3", bias)
		a.op("MOVD R5, R6")
		a.loop("R6", func() {
			a.op("FMOVQ.P 16(R1), F6")
			a.long("uxtl", "8h", 4, 6)
			a.long("uxtl2", "8h", 5, 6)
			for i := range 4 {
				a.long([]string{"uxtl", "uxtl2"}[i%2], "4s", i, 4+i/2)
			}
			for i := range 4 {
				a.v("ucvtf", "4s", i, i)
				a.v("fmul", "4s", i, i, scale)
				switch n.name {
				case "BF16":
					a.shift("ushr", "4s", 4+i, i, 16)
					a.v("and", "16b", 4+i, 4+i, odd)
					a.v("add", "4s", i, i, half)
					a.v("add", "4s", i, i, 4+i)
					a.v("and", "16b", i, i, kept)
				case "F16":
					a.short("fcvtn", "4s", i, i)
					a.long("fcvtl", "4s", i, i)
				}
				a.v("fadd", "4s", i, i, bias)
			}
			a.store64("R0", 0)
		})
	})
	a.op("RET")
}

// microValuesNEON is scale*code: value makes float32 in V0 to V3 of the codes in V6, and loads what it needs before.
func (f *file) microValuesNEON(name string, constants, value func(a *fn)) {
	a := f.fn(name+"ValuesNEON", "computes values of "+name+" codes: see kernels.e2m1Values.", "dst *float32, codes *byte, scales *float32, groups int, sixteens int")
	const scale = 16
	a.argsNEON("dst", "codes", "scales", "groups", "sixteens")
	constants(a)
	a.loop("R3", func() {
		a.next("R2", scale)
		a.op("MOVD R4, R5")
		a.loop("R5", func() {
			a.op("FMOVQ.P 16(R1), F6")
			value(a)
			for i := range 4 {
				a.v("fmul", "4s", i, i, scale)
			}
			a.store64("R0", 0)
		})
	})
	a.op("RET")
}

// e2m1ValuesNEON looks the two upper bytes of values up; the others are 0.
func (f *file) e2m1ValuesNEON() {
	f.microValuesNEON("e2m1", func(a *fn) {
		var lower, upper []byte
		for i := range 16 {
			value := math.Float32bits([]float32{0, 0.5, 1, 1.5, 2, 3, 4, 6}[i%8]) | uint32(i/8)<<31
			lower, upper = append(lower, byte(value>>16)), append(upper, byte(value>>24))
		}
		a.tableNEON(20, "e2m1Values", append(lower, upper...)...)
	}, func(a *fn) {
		a.tbl(4, 20, 1, 6)
		a.tbl(5, 21, 1, 6)
		a.v("zip1", "16b", 6, 4, 5)
		a.v("zip2", "16b", 7, 4, 5)
		for i := range 4 {
			a.long([]string{"shll", "shll2"}[i%2], "4s", i, 6+i/2)
		}
	})
}

// e4m3ValuesNEON makes float16 of codes by moving their bits, which leaves the exponent 8 too small. The largest magnitude, 480 then, is the code of NaN.
func (f *file) e4m3ValuesNEON() {
	const positive, rebias, largest, nan = 20, 21, 22, 23
	f.microValuesNEON("e4m3", func(a *fn) {
		a.constantNEON(0xBFFFBFFF, positive)
		a.constantNEON(math.Float32bits(256), rebias)
		a.constantNEON(math.Float32bits(480), largest)
		a.constantNEON(0x7FF00000, nan)
	}, func(a *fn) {
		a.long("sxtl", "8h", 4, 6)
		a.long("sxtl2", "8h", 5, 6)
		for r := 4; r < 6; r++ {
			a.shift("shl", "8h", r, r, 7)
			a.v("and", "16b", r, r, positive) // what the sign was extended to
		}
		for i := range 4 {
			a.long([]string{"fcvtl", "fcvtl2"}[i%2], "4s", i, 4+i/2)
		}
		for i := range 4 {
			a.v("fmul", "4s", i, i, rebias)
			a.v("facge", "4s", 4+i, i, largest)
			a.v("and", "16b", 4+i, 4+i, nan)
			a.v("orr", "16b", i, i, 4+i)
		}
	})
}
