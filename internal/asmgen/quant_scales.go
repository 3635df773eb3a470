package main

import (
	"fmt"
	"math"
)

// ranges finds the smallest and the largest weight of each group. Floats are sign and magnitude; with all bits of the negative ones turned round, and the sign of the others, they are in the
// order of unsigned integers, NaN beyond infinity on both sides. Of a maximum the complement is a minimum, for which there is VPHMINPOSUW. Half of a vector of 64 bytes would be empty here:
// both levels use this.
func (f *file) ranges(n number, group int) {
	v := f.vecFn(false, fmt.Sprintf("ranges%sBy%d", n.name, group), fmt.Sprintf("finds the ranges of groups of %d: see kernels.ranges.", group),
		"lowest *float32, highest *float32, src *byte, groups int")
	const (
		low, high, a, b = 0, 1, 2, 3
		ones, sign      = 14, 15
	)
	lane, signs := "D", uint32(1<<31)
	if n.bytes == 2 {
		lane, signs = "W", 0x80008000
	}
	v.arg("lowest", "DI")
	v.arg("highest", "R8")
	v.arg("src", "SI")
	v.arg("groups", "CX")
	v.constant(signs, sign)
	v.constant(math.MaxUint32, ones)
	v.countdown("CX", func() {
		v.note("Y0: lowest, Y1: highest, in the order of unsigned integers")
		vectors := group * n.bytes / 32
		for i := range vectors {
			to := a
			if i == 0 {
				to = low
			}
			v.load(fmt.Sprintf("%d(SI)", 32*i), a)
			v.do("VPSRA"+lane, fmt.Sprintf("$%d", 8*n.bytes-1), a, b)
			v.or(sign, b, b)
			v.xor(a, b, to)
			switch {
			case i == 1:
				v.do("VPMAXU"+lane, a, low, high)
				v.do("VPMINU"+lane, a, low, low)
			case i > 1:
				v.do("VPMAXU"+lane, a, high, high)
				v.do("VPMINU"+lane, a, low, low)
			}
		}
		if vectors == 1 {
			high := low // one vector is both
			v.op("VEXTRACTI128 $1, Y%d, X%d", high, a)
			v.op("VPMAXU%s X%d, X%d, X%d", lane, a, high, 1)
		} else {
			v.op("VEXTRACTI128 $1, Y%d, X%d", high, b)
			v.op("VPMAXU%s X%d, X%d, X%d", lane, b, high, high)
			v.op("VEXTRACTI128 $1, Y%d, X%d", low, a)
		}
		v.op("VPMINU%s X%d, X%d, X%d", lane, a, low, low)
		v.op("VPXOR X%d, X%d, X%d", ones, high, high)
		if n.bytes == 2 {
			v.op("VPHMINPOSUW X%d, X%d", low, low)
			v.op("VPHMINPOSUW X%d, X%d", high, high)
			v.op("VMOVD X%d, (DI)", low)
			v.op("VMOVD X%d, (R8)", high)
		} else {
			v.op("VPUNPCKLDQ X%d, X%d, X%d", high, low, a)
			v.op("VPUNPCKHDQ X%d, X%d, X%d", high, low, b)
			v.op("VPMINUD X%d, X%d, X%d", a, b, a)
			v.op("VPSHUFD $0x4E, X%d, X%d", a, b)
			v.op("VPMINUD X%d, X%d, X%d", a, b, a)
			v.op("VMOVD X%d, (DI)", a)
			v.op("VPEXTRD $1, X%d, (R8)", a)
		}
		v.op("ADDQ $4, DI")
		v.op("ADDQ $4, R8")
		v.op("ADDQ $%d, SI", group*n.bytes)
	})
	v.note("back to floats, eight groups at a time; the upper half of what VPHMINPOSUW gave is no part of it")
	v.arg("lowest", "DI")
	v.arg("highest", "R8")
	v.arg("groups", "CX")
	v.op("ADDQ $7, CX")
	v.op("SHRQ $3, CX")
	v.constant(1<<31, sign)
	v.constant(0xFFFF0000, 13)
	v.countdown("CX", func() {
		for _, end := range []struct {
			at         string
			complement bool
		}{{"(DI)", false}, {"(R8)", true}} {
			v.load(end.at, a)
			if n.bytes == 2 {
				v.do("VPSLLD", "$16", a, a)
			}
			if end.complement {
				v.xor(ones, a, a)
			}
			v.xor(ones, a, b)
			v.do("VPSRAD", "$31", b, b)
			v.or(sign, b, b)
			v.xor(b, a, a)
			if n.bytes == 2 {
				v.and(13, a, a)
			}
			if n.name == "F16" {
				v.do("VPSRLD", "$16", a, a)
				v.do("VPACKUSDW", a, a, a)
				v.do("VPERMQ", "$8", a, a)
				v.do("VCVTPH2PS", v.half(a), a)
			}
			v.store(a, end.at)
		}
		v.op("ADDQ $32, DI")
		v.op("ADDQ $32, R8")
	})
	v.ret()
}

// The sizes of scales for which the codes can be worked out with a reciprocal, and with nothing infinite on the way.
const (
	smallScale = (127 - 100) << 23 // 2^-100
	largeScale = (127 + 100) << 23
)

// unlessBetween collects in odd, in the place of signs, whether magnitudes are beyond those sizes; low and high hold them.
func (v vec) unlessBetween(magnitude, low, high, tmp, odd int) {
	v.do("VPSUBD", low, magnitude, tmp)
	v.or(tmp, odd, odd)
	v.do("VPSUBD", magnitude, high, tmp)
	v.or(tmp, odd, odd)
}

// result stores a general register as the function's result and ends it.
func (v vec) result(reg, name string) {
	v.op("MOVQ %s, %s", reg, v.at(name))
	v.ret()
}

// affineGrid is affineGrid of the reference, lane by lane.
func (f *file) affineGrid(wide, twoValues bool) {
	name, doc := "affineGrid", "makes scales of ranges: see kernels.grid."
	if twoValues {
		name, doc = "twoValueGrid", "makes scales of ranges for codes of one bit: see kernels.grid."
	}
	v := f.vecFn(wide, name, doc, "scales *float32, biases *float32, inverses *float32, lowest *float32, highest *float32, vectors int, steps float32", "odd uint64")
	const (
		low, high, scale, edge, a, b   = 0, 1, 2, 3, 4, 5
		nonzero, odd                   = 6, 7
		small, large, one, sign        = 9, 10, 11, 12
		magnitude, smallestStep, steps = 13, 14, 15
	)
	v.arg("scales", "DI")
	v.arg("biases", "R8")
	v.arg("inverses", "R9")
	v.arg("lowest", "SI")
	v.arg("highest", "R10")
	v.arg("vectors", "CX")
	v.constant(smallScale, small)
	v.constant(largeScale, large)
	v.constant(math.Float32bits(1), one)
	v.constant(1<<31, sign)
	v.constant(1<<31-1, magnitude)
	v.constant(math.Float32bits(1e-7), smallestStep)
	v.do("VBROADCASTSS", v.at("steps"), steps)
	v.zero(odd)
	v.countdown("CX", func() {
		v.load("(SI)", low)
		v.load("(R10)", high)
		v.note("%s: lowest, %s: highest, %s: scale, %s: the edge, later the bias", v.reg(low), v.reg(high), v.reg(scale), v.reg(edge))
		v.do("VSUBPS", low, high, scale)
		if twoValues {
			v.do("VMAXPS", scale, smallestStep, nonzero) // of NaN the maximum is NaN
			v.do("VMOVAPS", low, edge)
		} else {
			v.do("VDIVPS", steps, scale, scale)
			v.do("VMAXPS", scale, smallestStep, scale) // of NaN the maximum is NaN
			v.note("the edge is the end further from zero; the scale is negative when that is the highest")
			v.and(magnitude, high, a)
			v.and(magnitude, low, edge)
			v.do("VPSUBD", edge, a, edge)
			v.do("VPSRAD", "$31", edge, edge)
			v.andNot(sign, edge, a)
			v.xor(a, scale, scale)
			v.choose(edge, low, high)
			v.do("VDIVPS", scale, edge, a)
			v.round(a, a)
			v.do("VDIVPS", a, edge, b)
			v.note("where the edge is no step away from zero there is no bias, and the scale stays")
			v.and(magnitude, a, a)
			v.zero(nonzero)
			v.do("VPSUBD", a, nonzero, nonzero)
			v.do("VPSRAD", "$31", nonzero, nonzero)
			v.and(nonzero, edge, edge)
			v.choose(nonzero, b, scale)
		}
		v.do("VDIVPS", nonzero, one, b)
		v.store(nonzero, "(DI)")
		v.store(edge, "(R8)")
		v.store(b, "(R9)")
		v.and(magnitude, nonzero, nonzero)
		v.unlessBetween(nonzero, small, large, a, odd)
		for _, p := range []string{"DI", "R8", "R9", "SI", "R10"} {
			v.op("ADDQ $%d, %s", 4*v.lanes(), p)
		}
	})
	v.signs(odd, a, "AX")
	v.result("AX", "odd")
}

// largest is the largest magnitude of a range, by the largest code.
func (f *file) largest(wide bool) {
	v := f.vecFn(wide, "largest", "divides the largest magnitudes of ranges by the largest code: see kernels.largest.", "dst *float32, lowest *float32, highest *float32, vectors int, code float32")
	v.arg("dst", "DI")
	v.arg("lowest", "SI")
	v.arg("highest", "R8")
	v.arg("vectors", "CX")
	v.constant(1<<31-1, 15)
	v.do("VBROADCASTSS", v.at("code"), 14)
	v.countdown("CX", func() {
		v.load("(SI)", 0)
		v.load("(R8)", 1)
		v.and(15, 0, 0)
		v.and(15, 1, 1)
		v.do("VPMAXUD", 0, 1, 0)
		v.do("VDIVPS", 14, 0, 0)
		v.store(0, "(DI)")
		for _, p := range []string{"DI", "SI", "R8"} {
			v.op("ADDQ $%d, %s", 4*v.lanes(), p)
		}
	})
	v.ret()
}

// powerScales rounds up to powers of two: adding all of a mantissa carries into the exponent unless the mantissa was zero.
func (f *file) powerScales(wide bool) {
	v := f.vecFn(wide, "powerScales", "rounds scales up to E8M0: see kernels.powerScales.", "stored *byte, inverses *float32, scales *float32, vectors int", "odd uint64")
	const (
		a, exponent, nonzero, tmp, odd                  = 0, 1, 2, 3, 4
		order, small, large, mantissa, exponentOf1, sum = 5, 6, 7, 8, 9, 10
	)
	v.arg("stored", "DI")
	v.arg("inverses", "R8")
	v.arg("scales", "SI")
	v.arg("vectors", "CX")
	v.byteOrder(order)
	v.constant(smallScale, small)
	v.constant(largeScale, large)
	v.constant(1<<23-1, mantissa)
	v.constant(127, exponentOf1)
	v.constant(254, sum)
	v.zero(odd)
	v.countdown("CX", func() {
		v.load("(SI)", a)
		v.zero(nonzero)
		v.do("VPSUBD", a, nonzero, nonzero)
		v.do("VPSRAD", "$31", nonzero, nonzero)
		v.do("VPSUBD", small, a, tmp)
		v.and(nonzero, tmp, tmp)
		v.or(tmp, odd, odd)
		v.do("VPSUBD", a, large, tmp)
		v.or(tmp, odd, odd)
		v.do("VPADDD", mantissa, a, exponent)
		v.do("VPSRLD", "$23", exponent, exponent)
		v.note("a group of zeros has scale 1")
		v.choose(nonzero, exponent, exponentOf1)
		v.do("VPSUBD", nonzero, sum, tmp)
		v.do("VPSLLD", "$23", tmp, tmp)
		v.store(tmp, "(R8)")
		v.storeBytes(order, "DI", 0, nonzero)
		v.op("ADDQ $%d, DI", v.lanes())
		v.op("ADDQ $%d, R8", 4*v.lanes())
		v.op("ADDQ $%d, SI", 4*v.lanes())
	})
	v.signs(odd, a, "AX")
	v.result("AX", "odd")
}

// e4m3 rounds magnitudes in register a to E4M3, into the register code. Its constants are in registers from c on: see e4m3Constants.
func (v vec) e4m3(a, code, tmp, c int) {
	v.do("VMINPS", c, a, a) // of NaN the minimum is 448
	v.note("normal results drop 20 bits of the mantissa, ties to even; the exponent's bias of 127 becomes 7")
	v.do("VPSRLD", "$20", a, code)
	v.and(c+1, code, code)
	v.do("VPADDD", a, code, code)
	v.do("VPADDD", c+2, code, code)
	v.do("VPSRLD", "$20", code, code)
	v.note("subnormal ones are multiples of 2^-9, the unit of 2^14")
	v.do("VPSUBD", c+3, a, tmp)
	v.do("VPSRAD", "$31", tmp, tmp)
	v.do("VADDPS", c+4, a, a)
	v.and(c+5, a, a)
	v.choose(tmp, a, code)
	v.do(v.pick("VMOVDQA32", "VMOVDQA"), tmp, code)
}

func (v vec) e4m3Constants(c int) {
	v.constant(math.Float32bits(448), c)
	v.constant(1, c+1)
	rebias := uint32(120 << 23)
	v.constant(0x7FFFF-rebias, c+2)
	v.constant(121<<23, c+3)
	v.constant(math.Float32bits(0x1p14), c+4)
	v.constant(0xFF, c+5)
}

// e4m3Scales rounds scales to E4M3 and widens them again.
func (f *file) e4m3Scales(wide bool) {
	v := f.vecFn(wide, "e4m3Scales", "rounds scales to E4M3: see kernels.e4m3Scales.", "stored *byte, rounded *float32, inverses *float32, scales *float32, vectors int", "odd uint64")
	const (
		a, code, tmp, odd         = 0, 1, 2, 3
		order, largest, unit, one = 4, 5, 6, 7
		constant, rebias          = 8, 14
		subnormal                 = 15
	)
	v.arg("stored", "DI")
	v.arg("rounded", "R9")
	v.arg("inverses", "R8")
	v.arg("scales", "SI")
	v.arg("vectors", "CX")
	v.byteOrder(order)
	v.e4m3Constants(constant)
	v.constant(0x7D, largest)
	v.constant(math.Float32bits(0x1p-9), unit)
	v.constant(120<<23, rebias)
	v.constant(math.Float32bits(1), one)
	v.zero(odd)
	v.countdown("CX", func() {
		v.load("(SI)", a)
		v.e4m3(a, code, tmp, constant)
		v.do("VPSUBD", code, largest, tmp)
		v.or(tmp, odd, odd)
		v.note("normal codes need only the exponent's bias of a float32; subnormal ones are multiples of 2^-9")
		v.do("VPSLLD", "$20", code, a)
		v.do("VPADDD", rebias, a, a)
		v.do("VPSUBD", constant+3, a, subnormal)
		v.do("VPSRAD", "$31", subnormal, subnormal)
		v.do("VCVTDQ2PS", code, tmp)
		v.do("VMULPS", unit, tmp, tmp)
		v.choose(subnormal, tmp, a)
		v.do(v.pick("VMOVDQA32", "VMOVDQA"), subnormal, a)
		v.store(a, "(R9)")
		v.note("scale 0 makes all codes 0, for which its reciprocal has to be finite")
		v.zero(tmp)
		v.do("VPSUBD", code, tmp, tmp)
		v.do("VPSRAD", "$31", tmp, tmp)
		v.do("VDIVPS", a, one, a)
		v.and(tmp, a, a)
		v.store(a, "(R8)")
		v.storeBytes(order, "DI", 0, code)
		v.op("ADDQ $%d, DI", v.lanes())
		for _, p := range []string{"R8", "R9", "SI"} {
			v.op("ADDQ $%d, %s", 4*v.lanes(), p)
		}
	})
	v.signs(odd, a, "AX")
	v.result("AX", "odd")
}
