package main

import "math"

// affineCodesNEON is round((x-bias)/scale) in a byte. Quotients are at most twice the largest code, so that 16 bits hold them until they are cut to 255.
func (f *file) affineCodesNEON(n number) {
	a := f.fn("affineCodes"+n.name+"NEON", "makes codes of "+n.name+" weights: see kernels.affineCodes.",
		"codes *byte, src *byte, scales *float32, biases *float32, inverses *float32, groups int, batches int, packed *byte, bytes int")
	const x, q, scale, bias, inverse = 0, 16, 24, 25, 26
	a.argsNEON("codes", "src", "scales", "biases", "inverses", "groups", "batches")
	a.loop("R5", func() {
		a.note("V%d: scale, V%d: bias, V%d: reciprocal of the scale", scale, bias, inverse)
		a.next("R2", scale)
		a.next("R3", bias)
		a.next("R4", inverse)
		a.op("MOVD R6, R7")
		a.loop("R7", func() {
			a.weights(n, "R1", x, q, 8)
			a.note("V%d and up: quotients", q)
			for i := range 8 {
				a.v("fsub", "4s", x+i, x+i, bias)
			}
			for i := range 8 {
				a.quotientNEON(x+i, q+i, scale, inverse)
				a.v("fcvtns", "4s", q+i, q+i)
			}
			for i := range 4 {
				a.v("uzp1", "8h", x+i, q+2*i, q+2*i+1)
			}
			for i := range 2 {
				a.short("uqxtn", "8h", q+i, x+2*i)
				a.short("uqxtn2", "8h", q+i, x+2*i+1)
			}
			a.op("VST1.P [V%d.B16, V%d.B16], 32(R0)", q, q+1)
		})
	})
	a.op("RET")
}

// intervalNEON replaces quotients by the number of their interval, with the sign in bit 5: see interval of the other levels. Its constants are in registers from c on.
func (a *fn) intervalNEON(q, tmp, c int) {
	a.shift("ushr", "4s", tmp, q, 31)
	a.v("and", "16b", q, q, c)
	a.v("uqsub", "4s", q, q, c+1)
	a.shift("ushr", "4s", q, q, 21)
	a.shift("sli", "4s", q, tmp, 5)
}

func (a *fn) intervalConstantsNEON(c int) {
	a.constantNEON(1<<31-1, c)
	a.constantNEON(firstInterval<<21+1, c+1)
}

// mx4CodesNEON: the scale is a power of two, so the product with its reciprocal is exact.
func (f *file) mx4CodesNEON(n number) {
	a := f.fn("mx4Codes"+n.name+"NEON", "finds the intervals of "+n.name+" weights, groups of 32: see kernels.mx4Codes.", "intervals *byte, src *byte, inverses *float32, groups int")
	const x, tmp, inverse, constants = 0, 16, 24, 25
	a.argsNEON("intervals", "src", "inverses", "groups")
	a.intervalConstantsNEON(constants)
	a.loop("R3", func() {
		a.next("R2", inverse)
		a.weights(n, "R1", x, tmp, 8)
		for i := range 8 {
			a.v("fmul", "4s", x+i, x+i, inverse)
			a.intervalNEON(x+i, tmp+i, constants)
		}
		a.joinBytes(x, 8)
		a.op("VST1.P [V%d.B16, V%d.B16], 32(R0)", x, x+1)
	})
	a.op("RET")
}

func (f *file) mx8CodesNEON(n number) {
	a := f.fn("mx8Codes"+n.name+"NEON", "makes E4M3 codes of "+n.name+" weights, groups of 32: see kernels.mx8Codes.", "codes *byte, src *byte, inverses *float32, groups int")
	const x, code, tmp, sign, inverse, magnitude, constants = 0, 8, 16, 17, 24, 25, 26
	a.argsNEON("codes", "src", "inverses", "groups")
	a.e4m3ConstantsNEON(constants)
	a.constantNEON(1<<31-1, magnitude)
	a.loop("R3", func() {
		a.next("R2", inverse)
		a.weights(n, "R1", x, code, 8)
		for i := range 8 {
			a.v("fmul", "4s", x+i, x+i, inverse)
			a.shift("ushr", "4s", sign, x+i, 31)
			a.v("and", "16b", x+i, x+i, magnitude)
			a.e4m3NEON(x+i, code+i, tmp, constants)
			a.shift("sli", "4s", code+i, sign, 7)
		}
		a.joinBytes(code, 8)
		a.op("VST1.P [V%d.B16, V%d.B16], 32(R0)", code, code+1)
	})
	a.op("RET")
}

// nv4CodesNEON rounds quotients to the type of the weights, which can move one onto a tie, before it looks for their interval.
func (f *file) nv4CodesNEON(n number) {
	a := f.fn("nv4Codes"+n.name+"NEON", "finds the intervals of "+n.name+" weights, groups of 16: see kernels.nv4Codes.",
		"intervals *byte, src *byte, scales *float32, inverses *float32, groups int")
	const x, q, scale, inverse, half, odd, kept, constants = 0, 4, 16, 17, 18, 19, 20, 21
	a.argsNEON("intervals", "src", "scales", "inverses", "groups")
	a.intervalConstantsNEON(constants)
	drop := map[string]int{"F16": 13, "BF16": 16}[n.name]
	if drop > 0 {
		a.constantNEON(1<<(drop-1)-1, half)
		a.constantNEON(1, odd)
		a.constantNEON(math.MaxUint32<<drop, kept)
	}
	a.loop("R4", func() {
		a.next("R2", scale)
		a.next("R3", inverse)
		a.weights(n, "R1", x, q, 4)
		for i := range 4 {
			a.quotientNEON(x+i, q+i, scale, inverse)
			if drop > 0 {
				a.shift("ushr", "4s", x+i, q+i, drop)
				a.v("and", "16b", x+i, x+i, odd)
				a.v("add", "4s", q+i, q+i, half)
				a.v("add", "4s", q+i, q+i, x+i)
				a.v("and", "16b", q+i, q+i, kept)
			}
			a.intervalNEON(q+i, x+i, constants)
		}
		a.joinBytes(q, 4)
		a.op("FMOVQ.P F%d, 16(R0)", q)
	})
	a.op("RET")
}
