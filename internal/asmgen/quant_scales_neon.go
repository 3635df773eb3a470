package main

import (
	"fmt"
	"math"
)

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
