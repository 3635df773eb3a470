package main

import (
	"fmt"
	"math"
	"slices"
)

// The kernels of internal/quant for NEON: the stages of quant.go, in registers of 16 bytes. No processor has timed them: where there was a choice, the way with fewer instructions was taken. What the
// other levels ask memory for ahead of time is left to the processor here.

func quantNEON() *file {
	f := newFile("internal/quant", "kernels_neon", "arm64", "")
	for _, n := range numbers {
		for _, group := range rangeGroups {
			f.rangesNEON(n, group)
		}
		f.finiteNEON(n)
	}
	f.affineGridNEON(false)
	f.affineGridNEON(true)
	f.largestNEON()
	f.powerScalesNEON()
	f.e4m3ScalesNEON()
	for _, n := range numbers {
		f.affineCodesNEON(n)
		f.mx4CodesNEON(n)
		f.mx8CodesNEON(n)
		f.nv4CodesNEON(n)
	}
	for _, bits := range packBits {
		f.packNEON(bits, false)
	}
	f.packNEON(4, true)
	for _, bits := range packBits {
		f.unpackNEON(bits)
	}
	for _, n := range numbers {
		f.affineValuesNEON(n)
	}
	f.e2m1ValuesNEON()
	f.e4m3ValuesNEON()
	for _, from := range numbers {
		for _, to := range numbers {
			if from != to || from.name == "F32" {
				f.castNEON(from, to)
			}
		}
	}
	return f
}

// lanes are those that numbers of a type are compared in.
func (n number) lanes() string { return map[int]string{2: "8h", 4: "4s"}[n.bytes] }

// weights loads 4*count values as float32 into registers from d on and moves the pointer behind them; count is 4 or 8, and registers from tmp on hold what was read.
func (a *fn) weights(n number, pointer string, d, tmp, count int) {
	if n.name == "F32" {
		for i := 0; i < count; i += 4 {
			a.load64(pointer, d+i)
		}
		return
	}
	if count == 8 {
		a.load64(pointer, tmp)
	} else {
		a.op("VLD1.P 32(%s), [V%d.B16, V%d.B16]", pointer, tmp, tmp+1)
	}
	name := map[string]string{"BF16": "shll", "F16": "fcvtl"}[n.name]
	for i := range count / 2 {
		a.long(name, "4s", d+2*i, tmp+i)
		a.long(name+"2", "4s", d+2*i+1, tmp+i)
	}
}

// The registers that rounding to a type takes, beside those it rounds.
const (
	roundTmp       = 16 // and three after it
	roundConstants = 28 // and three after it
)

func (a *fn) roundConstants(n number) {
	const c = roundConstants
	switch n.name {
	case "BF16":
		a.constantNEON(1, c)
		a.constantNEON(0x7FFF, c+1)
		a.constantNEON(0x7FC07FC0, c+2)
	case "F16":
		a.constantNEON(0x80008000, c)
		a.constantNEON(0x7FFF7FFF, c+1)
		a.constantNEON(0x7C007C00, c+2)
		a.constantNEON(0x7D007D00, c+3)
	}
}

// round rounds registers r and r+1 to nearest even, into the eight lanes of register r. NaN becomes MLX's.
func (a *fn) round(n number, r int) {
	const t, c = roundTmp, roundConstants
	if n.name == "F16" {
		a.short("fcvtn", "4s", r, r)
		a.short("fcvtn2", "4s", r, r+1)
		a.v("and", "16b", t, r, c+1)
		a.v("cmgt", "8h", t, t, c+2)
		a.move(t+1, c)
		a.v("bsl", "16b", t+1, r, c+3)
		a.v("bit", "16b", r, t+1, t)
		return
	}
	for i := range 2 {
		a.shift("ushr", "4s", t+i, r+i, 16)
		a.v("and", "16b", t+i, t+i, c)
		a.v("add", "4s", t+2+i, r+i, c+1)
		a.v("add", "4s", t+i, t+i, t+2+i)
		a.v("fcmeq", "4s", r+i, r+i, r+i)
	}
	a.v("uzp1", "8h", t+2, r, r+1) // ones unless NaN
	a.v("uzp2", "8h", r, t, t+1)
	a.v("bif", "16b", r, c+2, t+2)
}

func (f *file) castNEON(from, to number) {
	a := f.fn("cast"+from.name+"To"+to.name+"NEON", "converts 32 values a block: see kernels.cast.", "dst *byte, src *byte, blocks int")
	a.argsNEON("dst", "src", "blocks")
	a.roundConstants(to)
	a.loop("R2", func() {
		a.weights(from, "R1", 0, 8, 8)
		if to.name == "F32" {
			a.store64("R0", 0)
			a.store64("R0", 4)
			return
		}
		for r := 0; r < 8; r += 2 {
			a.round(to, r)
			a.op("FMOVQ.P F%d, 16(R0)", r)
		}
	})
	a.op("RET")
	if to.name == "F32" {
		f.alias(a, "decode"+from.name, "dst *float32, src *byte, blocks int")
	}
	if from.name == "F32" {
		f.alias(a, "encode"+to.name, "dst *byte, src *float32, blocks int")
	}
}

// finiteNEON finds the largest magnitude of 128 bytes.
func (f *file) finiteNEON(n number) {
	a := f.fn("finite"+n.name+"NEON", "counts the blocks of 128 bytes before the first that has NaN or infinity: see kernels.finite.", "src *byte, blocks int", "count int")
	found, again := a.label("found"), a.label("again")
	magnitude := map[int]uint32{2: 0x7FFF7FFF, 4: 0x7FFFFFFF}[n.bytes]
	a.argsNEON("src", "blocks")
	a.constantNEON(magnitude, 16)
	a.op("MOVD $0, R2")
	a.op("MOVD $0x%x, R3", map[string]int{"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}[n.name])
	a.mark(again)
	a.load64("R0", 0)
	a.load64("R0", 4)
	for i := range 8 {
		a.v("and", "16b", i, i, 16)
	}
	for apart := 4; apart > 0; apart /= 2 {
		for i := range apart {
			a.v("umax", n.lanes(), i, i, i+apart)
		}
	}
	a.across("umaxv", n.lanes(), 0, 0)
	a.op("FMOVS F0, R4")
	a.op("CMPW R3, R4")
	a.op("BHS %s", found)
	a.op("ADD $1, R2, R2")
	a.op("CMP R1, R2")
	a.op("BNE %s", again)
	a.mark(found)
	a.op("MOVD R2, %s", a.at("count"))
	a.op("RET")
}

// rangesNEON compares weights as whole numbers. Floats are sign and magnitude: of signed numbers the largest is the largest weight, unless all are negative; of unsigned ones the largest is the smallest weight, if any is
// negative; and otherwise the smallest unsigned number is what is looked for. NaN is beyond infinity on both sides.
func (f *file) rangesNEON(n number, group int) {
	a := f.fn(fmt.Sprintf("ranges%sBy%dNEON", n.name, group), fmt.Sprintf("finds the ranges of groups of %d: see kernels.ranges.", group), "lowest *float32, highest *float32, src *byte, groups int")
	a.argsNEON("lowest", "highest", "src", "groups")
	vectors := group * n.bytes / 16
	a.loop("R3", func() {
		a.note("V16: the largest signed, V17: the largest unsigned, V18: the smallest unsigned number")
		batch := min(vectors, 4)
		for first := 0; first < vectors; first += batch {
			if batch == 4 {
				a.load64("R2", 0)
			} else {
				a.op("VLD1.P 32(R2), [V0.B16, V1.B16]")
			}
			for i, name := range []string{"smax", "umax", "umin"} {
				sum, tmp := 16+i, 20+2*i
				if first > 0 {
					sum = tmp
				}
				a.v(name, n.lanes(), sum, 0, 1)
				if batch == 4 {
					a.v(name, n.lanes(), tmp+1, 2, 3)
					a.v(name, n.lanes(), sum, sum, tmp+1)
				}
				if first > 0 {
					a.v(name, n.lanes(), 16+i, 16+i, tmp)
				}
			}
		}
		for i, name := range []string{"smaxv", "umaxv", "uminv"} {
			a.across(name, n.lanes(), 16+i, 16+i)
		}
		a.note("V0: lowest, V1: highest")
		a.negative(n.lanes(), 1, 16)
		a.negative(n.lanes(), 0, 17)
		a.v("bsl", "16b", 1, 18, 16)
		a.v("bsl", "16b", 0, 17, 18)
		for i, to := range []string{"R0", "R1"} {
			switch n.name {
			case "BF16":
				a.long("shll", "4s", i, i)
			case "F16":
				a.long("fcvtl", "4s", i, i)
			}
			a.op("FMOVS.P F%d, 4(%s)", i, to)
		}
	})
	a.op("RET")
}

// unlessBetweenNEON is unlessBetween of the other levels.
func (a *fn) unlessBetweenNEON(magnitude, low, high, tmp, odd int) {
	a.v("sub", "4s", tmp, magnitude, low)
	a.v("orr", "16b", odd, odd, tmp)
	a.v("sub", "4s", tmp, high, magnitude)
	a.v("orr", "16b", odd, odd, tmp)
}

// oddResult ends a function with whether a lane of odd is negative.
func (a *fn) oddResult(odd int) {
	a.shift("ushr", "4s", odd, odd, 31)
	a.across("umaxv", "4s", odd, odd)
	a.op("FMOVS F%d, R0", odd)
	a.op("MOVD R0, %s", a.at("odd"))
	a.op("RET")
}

// every fills a register with a float32 argument.
func (a *fn) every(name string, d int) {
	a.op("FMOVS %s, F%d", a.at(name), d)
	a.dup32(d, d, 0)
}

// affineGridNEON is affineGrid of the reference, lane by lane.
func (f *file) affineGridNEON(twoValues bool) {
	name, doc := "affineGrid", "makes scales of ranges: see kernels.grid."
	if twoValues {
		name, doc = "twoValueGrid", "makes scales of ranges for codes of one bit: see kernels.grid."
	}
	a := f.fn(name+"NEON", doc, "scales *float32, biases *float32, inverses *float32, lowest *float32, highest *float32, vectors int, steps float32", "odd uint64")
	const (
		low, high, scale, edge, t, other = 0, 1, 2, 3, 4, 5
		nonzero, odd                     = 6, 7
		small, large, one, sign          = 16, 17, 18, 19
		magnitude, smallestStep, steps   = 20, 21, 22
	)
	a.argsNEON("scales", "biases", "inverses", "lowest", "highest", "vectors")
	a.constantNEON(smallScale, small)
	a.constantNEON(largeScale, large)
	a.constantNEON(math.Float32bits(1), one)
	a.constantNEON(1<<31, sign)
	a.constantNEON(1<<31-1, magnitude)
	a.constantNEON(math.Float32bits(1e-7), smallestStep)
	a.every("steps", steps)
	a.movi8(odd, 0)
	a.loop("R5", func() {
		a.op("FMOVQ.P 16(R3), F%d", low)
		a.op("FMOVQ.P 16(R4), F%d", high)
		a.note("V%d: lowest, V%d: highest, V%d: scale, V%d: the edge, later the bias", low, high, scale, edge)
		a.v("fsub", "4s", scale, high, low)
		if twoValues {
			a.v("fmax", "4s", nonzero, scale, smallestStep) // of NaN the maximum is NaN
			a.move(edge, low)
		} else {
			a.v("fdiv", "4s", scale, scale, steps)
			a.v("fmax", "4s", scale, scale, smallestStep)
			a.note("the edge is the end further from zero; the scale is negative when that is the highest")
			a.v("and", "16b", t, high, magnitude)
			a.v("and", "16b", edge, low, magnitude)
			a.v("cmgt", "4s", edge, edge, t)
			a.v("bic", "16b", t, sign, edge)
			a.v("eor", "16b", scale, scale, t)
			a.v("bsl", "16b", edge, low, high)
			a.v("fdiv", "4s", t, edge, scale)
			a.v("frintn", "4s", t, t)
			a.v("fdiv", "4s", other, edge, t)
			a.note("where the edge is no step away from zero there is no bias, and the scale stays")
			a.v("cmtst", "4s", nonzero, t, magnitude)
			a.v("and", "16b", edge, edge, nonzero)
			a.v("bsl", "16b", nonzero, other, scale)
		}
		a.v("fdiv", "4s", other, one, nonzero)
		a.op("FMOVQ.P F%d, 16(R0)", nonzero)
		a.op("FMOVQ.P F%d, 16(R1)", edge)
		a.op("FMOVQ.P F%d, 16(R2)", other)
		a.v("and", "16b", nonzero, nonzero, magnitude)
		a.unlessBetweenNEON(nonzero, small, large, t, odd)
	})
	a.oddResult(odd)
}

func (f *file) largestNEON() {
	a := f.fn("largestNEON", "divides the largest magnitudes of ranges by the largest code: see kernels.largest.", "dst *float32, lowest *float32, highest *float32, vectors int, code float32")
	a.argsNEON("dst", "lowest", "highest", "vectors")
	a.every("code", 16)
	a.constantNEON(1<<31-1, 17)
	a.loop("R3", func() {
		a.op("FMOVQ.P 16(R1), F0")
		a.op("FMOVQ.P 16(R2), F1")
		a.v("and", "16b", 0, 0, 17)
		a.v("and", "16b", 1, 1, 17)
		a.v("umax", "4s", 0, 0, 1)
		a.v("fdiv", "4s", 0, 0, 16)
		a.op("FMOVQ.P F0, 16(R0)")
	})
	a.op("RET")
}

// storeFour stores four lanes as bytes.
func (a *fn) storeFour(r int, to string) {
	a.v("uzp1", "8h", r, r, r)
	a.v("uzp1", "16b", r, r, r)
	a.op("FMOVS.P F%d, 4(%s)", r, to)
}

// powerScalesNEON rounds up to powers of two as powerScales does.
func (f *file) powerScalesNEON() {
	a := f.fn("powerScalesNEON", "rounds scales up to E8M0: see kernels.powerScales.", "stored *byte, inverses *float32, scales *float32, vectors int", "odd uint64")
	const (
		x, exponent, nonzero, tmp, odd           = 0, 1, 2, 3, 4
		small, large, mantissa, exponentOf1, sum = 16, 17, 18, 19, 20
	)
	a.argsNEON("stored", "inverses", "scales", "vectors")
	a.constantNEON(smallScale, small)
	a.constantNEON(largeScale, large)
	a.constantNEON(1<<23-1, mantissa)
	a.constantNEON(127, exponentOf1)
	a.constantNEON(254, sum)
	a.movi8(odd, 0)
	a.loop("R3", func() {
		a.op("FMOVQ.P 16(R2), F%d", x)
		a.v("cmtst", "4s", nonzero, x, x)
		a.v("sub", "4s", tmp, x, small)
		a.v("and", "16b", tmp, tmp, nonzero)
		a.v("orr", "16b", odd, odd, tmp)
		a.v("sub", "4s", tmp, large, x)
		a.v("orr", "16b", odd, odd, tmp)
		a.v("add", "4s", exponent, x, mantissa)
		a.shift("ushr", "4s", exponent, exponent, 23)
		a.note("a group of zeros has scale 1")
		a.v("bsl", "16b", nonzero, exponent, exponentOf1)
		a.v("sub", "4s", tmp, sum, nonzero)
		a.shift("shl", "4s", tmp, tmp, 23)
		a.op("FMOVQ.P F%d, 16(R1)", tmp)
		a.storeFour(nonzero, "R0")
	})
	a.oddResult(odd)
}

// e4m3NEON rounds magnitudes in register x to E4M3, into the register code. Its constants are in registers from c on.
func (a *fn) e4m3NEON(x, code, tmp, c int) {
	a.v("umin", "4s", x, x, c) // of NaN the minimum is 448
	a.note("normal results drop 20 bits of the mantissa, ties to even; the exponent's bias of 127 becomes 7")
	a.shift("ushr", "4s", code, x, 20)
	a.v("and", "16b", code, code, c+1)
	a.v("add", "4s", code, code, x)
	a.v("add", "4s", code, code, c+2)
	a.shift("ushr", "4s", code, code, 20)
	a.note("subnormal ones are multiples of 2^-9, the unit of 2^14")
	a.v("cmgt", "4s", tmp, c+3, x)
	a.v("fadd", "4s", x, x, c+4)
	a.v("and", "16b", x, x, c+5)
	a.v("bit", "16b", code, x, tmp)
}

func (a *fn) e4m3ConstantsNEON(c int) {
	rebias := uint32(120 << 23)
	for i, word := range []uint32{math.Float32bits(448), 1, 0x7FFFF - rebias, 121 << 23, math.Float32bits(0x1p14), 0xFF} {
		a.constantNEON(word, c+i)
	}
}

// e4m3ScalesNEON rounds scales to E4M3 and widens them again.
func (f *file) e4m3ScalesNEON() {
	a := f.fn("e4m3ScalesNEON", "rounds scales to E4M3: see kernels.e4m3Scales.", "stored *byte, rounded *float32, inverses *float32, scales *float32, vectors int", "odd uint64")
	const (
		x, code, tmp, odd, subnormal = 0, 1, 2, 3, 4
		largest, unit, one, rebias   = 16, 17, 18, 19
		constants                    = 20
	)
	a.argsNEON("stored", "rounded", "inverses", "scales", "vectors")
	a.e4m3ConstantsNEON(constants)
	a.constantNEON(0x7D, largest)
	a.constantNEON(math.Float32bits(0x1p-9), unit)
	a.constantNEON(math.Float32bits(1), one)
	a.constantNEON(120<<23, rebias)
	a.movi8(odd, 0)
	a.loop("R4", func() {
		a.op("FMOVQ.P 16(R3), F%d", x)
		a.e4m3NEON(x, code, tmp, constants)
		a.v("sub", "4s", tmp, largest, code)
		a.v("orr", "16b", odd, odd, tmp)
		a.note("normal codes need only the exponent's bias of a float32; subnormal ones are multiples of 2^-9")
		a.shift("shl", "4s", x, code, 20)
		a.v("add", "4s", x, x, rebias)
		a.v("cmgt", "4s", subnormal, constants+3, x)
		a.v("scvtf", "4s", tmp, code)
		a.v("fmul", "4s", tmp, tmp, unit)
		a.v("bit", "16b", x, tmp, subnormal)
		a.op("FMOVQ.P F%d, 16(R1)", x)
		a.note("scale 0 makes all codes 0, for which its reciprocal has to be finite")
		a.v("cmtst", "4s", tmp, code, code)
		a.v("fdiv", "4s", x, one, x)
		a.v("and", "16b", x, x, tmp)
		a.op("FMOVQ.P F%d, 16(R2)", x)
		a.storeFour(code, "R0")
	})
	a.oddResult(odd)
}

// quotientNEON is quotient of the other levels: x is lost.
func (a *fn) quotientNEON(x, q, scale, inverse int) {
	a.v("fmul", "4s", q, x, inverse)
	a.v("fmls", "4s", x, q, scale)
	a.v("fmla", "4s", q, x, inverse)
}

// next fills a register with the next number of an array.
func (a *fn) next(pointer string, d int) { a.op("VLD1R.P 4(%s), [V%d.S4]", pointer, d) }

// joinBytes takes the lowest bytes of lanes of registers together, into the first of them, in order.
func (a *fn) joinBytes(r, count int) {
	for _, lanes := range []string{"8h", "16b"} {
		count /= 2
		for i := range count {
			a.v("uzp1", lanes, r+i, r+2*i, r+2*i+1)
		}
	}
}

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

// apart addresses four registers from r on whose bytes alternate in memory.
func apart(r int) string {
	return fmt.Sprintf("[V%d.B16, V%d.B16, V%d.B16, V%d.B16]", r, r+1, r+2, r+3)
}

// packNEON puts 64 codes together. They are loaded into four registers, each of which has every fourth, so that those that meet in a byte stand in the same place of different registers.
func (f *file) packNEON(bits int, intervals bool) {
	name, doc := fmt.Sprintf("pack%d", bits), fmt.Sprintf("packs codes of %d bits: see kernels.pack.", bits)
	if intervals {
		name, doc = "packE2M1", "looks intervals up and packs the codes: see kernels.packE2M1."
	}
	a := f.fn(name+"NEON", doc, "dst *byte, codes *byte, blocks int")
	const codes, most, table = 0, 16, 20
	a.argsNEON("dst", "codes", "blocks")
	if intervals {
		var all []byte
		for i := range 64 {
			all = append(all, e2m1(i))
		}
		a.tableNEON(table, "e2m1", all...)
	} else {
		a.movi8(most, 1<<bits-1)
	}
	if bits == 5 {
		a.fiveTable(table)
	}
	a.loop("R2", func() {
		if bits == 5 {
			a.load64("R1", codes)
		} else {
			a.op("VLD4.P 64(R1), %s", apart(codes))
		}
		for r := codes; r < codes+4; r++ {
			if intervals {
				a.tbl(r, table, 4, r)
			} else {
				a.v("umin", "16b", r, r, most)
			}
		}
		a.packed(bits, table)
	})
	a.op("RET")
}

// packed packs what packNEON has loaded and stores it.
func (a *fn) packed(bits, table int) {
	switch bits {
	case 1:
		for r := 1; r < 4; r++ {
			a.shift("sli", "16b", 0, r, r)
		}
		a.v("uzp2", "16b", 1, 0, 0)
		a.v("uzp1", "16b", 0, 0, 0)
		a.shift("sli", "16b", 0, 1, 4)
		a.op("FMOVD.P F0, 8(R0)")
	case 2:
		for r := 1; r < 4; r++ {
			a.shift("sli", "16b", 0, r, 2*r)
		}
		a.op("FMOVQ.P F0, 16(R0)")
	case 3:
		a.note("two codes are one of 6 bits, of which V0 and V2 have every second; then V4 to V7 have every fourth")
		a.shift("sli", "16b", 0, 1, 3)
		a.shift("sli", "16b", 2, 3, 3)
		for i, from := range []int{0, 2} {
			a.v("uzp1", "16b", 4+i, from, from)
			a.v("uzp2", "16b", 6+i, from, from)
		}
		a.threeOfFour(4)
		a.op("VST3.P [V4.B8, V5.B8, V6.B8], 24(R0)")
	case 4:
		a.shift("sli", "16b", 0, 1, 4)
		a.shift("sli", "16b", 2, 3, 4)
		a.move(1, 2)
		a.op("VST2.P [V0.B16, V1.B16], 32(R0)")
	case 5:
		a.note("neighbours join, up to eight codes, of 40 bits, in a lane of 64; then the empty bytes go")
		for r := range 4 {
			for i, lanes := range []string{"8h", "4s", "2d"} {
				a.shift("ushr", lanes, 4+r, r, 8<<i)
				a.shift("sli", lanes, r, 4+r, 5<<i)
			}
		}
		for i := range 3 {
			a.tbl(4+i, 0, 4, table+i)
		}
		a.op("VST1.P [V4.B16, V5.B16], 32(R0)")
		a.op("FMOVD.P F6, 8(R0)")
	case 6:
		a.threeOfFour(0)
		a.op("VST3.P [V0.B16, V1.B16, V2.B16], 48(R0)")
	}
}

// threeOfFour makes three bytes of four codes of 6 bits, in registers from r on.
func (a *fn) threeOfFour(r int) {
	a.shift("sli", "16b", r, r+1, 6)
	a.shift("ushr", "16b", r+1, r+1, 2)
	a.shift("sli", "16b", r+1, r+2, 4)
	a.shift("ushr", "16b", r+2, r+2, 4)
	a.shift("sli", "16b", r+2, r+3, 2)
}

// fourOfThree is the other way, from registers b on into registers from r on; those of six are a mask of 6 bits.
func (a *fn) fourOfThree(r, b, six int) {
	a.v("and", "16b", r, b, six)
	a.shift("ushr", "16b", r+1, b, 6)
	a.shift("sli", "16b", r+1, b+1, 2)
	a.v("and", "16b", r+1, r+1, six)
	a.shift("ushr", "16b", r+2, b+1, 4)
	a.shift("sli", "16b", r+2, b+2, 4)
	a.v("and", "16b", r+2, r+2, six)
	a.shift("ushr", "16b", r+3, b+2, 2)
}

// fiveTable says where in 64 bytes the first five of every eight are.
func (a *fn) fiveTable(d int) {
	var index []byte
	for i := range 40 {
		index = append(index, byte(i/5*8+i%5))
	}
	a.tableNEON(d, "fiveOfEight", append(index, slices.Repeat([]byte{0xFF}, 8)...)...)
}

// unpackNEON takes 64 codes apart, the other way.
func (f *file) unpackNEON(bits int) {
	a := f.fn(fmt.Sprintf("unpack%dNEON", bits), fmt.Sprintf("unpacks codes of %d bits: see kernels.unpack.", bits), "codes *byte, packed *byte, blocks int")
	const own = 16
	a.argsNEON("codes", "packed", "blocks")
	a.movi8(own, 1<<bits-1)
	if bits == 5 {
		a.loop("R2", a.unpackFives(own))
		a.op("RET")
		return
	}
	if bits == 1 {
		a.movi8(17, 15)
	}
	if bits == 3 {
		a.movi8(17, 63)
	}
	a.loop("R2", func() {
		switch bits {
		case 1:
			a.op("FMOVD.P 8(R1), F4")
			a.shift("ushr", "16b", 5, 4, 4)
			a.v("and", "16b", 4, 4, 17)
			a.v("zip1", "16b", 4, 4, 5)
			a.spread(4, bits, own)
		case 2:
			a.op("FMOVQ.P 16(R1), F4")
			a.spread(4, bits, own)
		case 3:
			a.note("codes of 6 bits are two; V0 has the first and the third of four")
			a.op("VLD3.P 24(R1), [V4.B8, V5.B8, V6.B8]")
			a.fourOfThree(20, 4, 17)
			a.v("zip1", "16b", 0, 20, 22)
			a.v("zip1", "16b", 2, 21, 23)
			a.shift("ushr", "16b", 1, 0, 3)
			a.shift("ushr", "16b", 3, 2, 3)
			a.v("and", "16b", 0, 0, own)
			a.v("and", "16b", 2, 2, own)
		case 4:
			a.op("VLD2.P 32(R1), [V4.B16, V5.B16]")
			a.v("and", "16b", 0, 4, own)
			a.shift("ushr", "16b", 1, 4, 4)
			a.v("and", "16b", 2, 5, own)
			a.shift("ushr", "16b", 3, 5, 4)
		case 6:
			a.op("VLD3.P 48(R1), [V4.B16, V5.B16, V6.B16]")
			a.fourOfThree(0, 4, own)
		}
		a.op("VST4.P %s, 64(R0)", apart(0))
	})
	a.op("RET")
}

// spread makes V0 to V3 of the four codes in each byte of a register.
func (a *fn) spread(from, bits, own int) {
	a.v("and", "16b", 0, from, own)
	for i := 1; i < 4; i++ {
		a.shift("ushr", "16b", i, from, i*bits)
		a.v("and", "16b", i, i, own)
	}
}

// unpackFives moves the two bytes in which a code lies into a lane for each, and shifts away what is below it; what is above goes with the mask.
func (a *fn) unpackFives(own int) func() {
	var from, down []byte
	for i := range 16 {
		at := 5 * i
		from, down = append(from, byte(at/8), byte(at/8+1)), append(down, byte(-at%8), 0)
	}
	a.tableNEON(20, "spread5", from...)
	a.tableNEON(22, "down5", down[:16]...)
	return func() {
		for i := range 4 {
			a.load(fmt.Sprintf("%d(R1)", 10*i), 7)
			for half := range 2 {
				a.tbl(4+half, 7, 1, 20+half)
				a.v("ushl", "8h", 4+half, 4+half, 22)
			}
			a.v("uzp1", "16b", i, 4, 5)
			a.v("and", "16b", i, i, own)
		}
		a.op("ADD $40, R1, R1")
		a.store64("R0", 0)
	}
}

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
