package main

import (
	"fmt"
	"math"
)

// What a model computes between its products, for NEON: see ops.go and seal.go. Sixteen numbers are four registers here.

func opsNEON() *file {
	f := newFile("internal/tensor", "ops_neon", "arm64", "")
	f.addNEON()
	f.blendNEON()
	f.scaleToNEON()
	f.sumSquaresNEON()
	f.normalizeNEON()
	f.turnNEON()
	f.siluMulNEON()
	f.expsNEON()
	f.softmaxNEON()
	f.narrowNEON()
	f.mulVectorsNEON()
	f.roundVectorsNEON()
	f.extremesNEON()
	f.largest64NEON()
	f.askNEON()
	f.round64NEON()
	f.packWordsNEON()
	f.packNibblesNEON()
	f.packOctetsNEON()
	f.turnFourNEON("turnFloats", "float32")
	f.turnFourNEON("turnBytes", "byte")
	return f
}

// keep64 is load64 that leaves the pointer where it is.
func (a *fn) keep64(pointer string, r int) {
	a.op("VLD1 (%s), [V%d.B16, V%d.B16, V%d.B16, V%d.B16]", pointer, r, r+1, r+2, r+3)
}

// each emits an instruction for four registers from d on, with those from n on and, of one only, m.
func (a *fn) each(name string, d, n, m int) {
	for i := range 4 {
		a.v(name, "4s", d+i, n+i, m)
	}
}

// pairwise is each for registers from m on.
func (a *fn) pairwise(name string, d, n, m int) {
	for i := range 4 {
		a.v(name, "4s", d+i, n+i, m+i)
	}
}

// askNEON is for numbers that are not used yet.
func (f *file) askNEON() {
	a := f.fn("askNEON", "asks for lines of 16 numbers: see ask.", "x *float32, lines int")
	a.argsNEON("x", "lines")
	a.loop("R1", func() {
		a.op("PRFM (R0), PLDL1KEEP")
		a.op("ADD $64, R0")
	})
	a.op("RET")
}

func (f *file) addNEON() {
	a := f.fn("addNEON", "adds x to dst, 16 numbers a step: see Add.", "dst *float32, x *float32, steps int")
	a.argsNEON("dst", "x", "steps")
	a.loop("R2", func() {
		a.keep64("R0", 0)
		a.load64("R1", 4)
		a.pairwise("fadd", 0, 0, 4)
		a.store64("R0", 0)
	})
	a.op("RET")
}

func (f *file) blendNEON() {
	a := f.fn("blendNEON", "makes dst*keep + x*take, 16 numbers a step: see blend.", "dst *float32, x *float32, keep float32, take float32, steps int")
	a.argsNEON("dst", "x")
	a.every("keep", 16)
	a.every("take", 17)
	a.argNEON("steps", "R2")
	a.loop("R2", func() {
		a.keep64("R0", 0)
		a.load64("R1", 4)
		a.each("fmul", 4, 4, 17)
		a.each("fmla", 4, 0, 16)
		a.store64("R0", 4)
	})
	a.op("RET")
}

func (f *file) scaleToNEON() {
	a := f.fn("scaleToNEON", "writes x*scale to dst, 16 numbers a step: see scaleTo.", "dst *float32, x *float32, scale float32, steps int")
	a.argsNEON("dst", "x")
	a.every("scale", 16)
	a.argNEON("steps", "R2")
	a.loop("R2", func() {
		a.load64("R1", 0)
		a.each("fmul", 0, 0, 16)
		a.store64("R0", 0)
	})
	a.op("RET")
}

// doubles widens four registers from n on to eight from d on.
func (a *fn) doubles(d, n int) {
	for i := range 4 {
		a.long("fcvtl", "2d", d+2*i, n+i)
		a.long("fcvtl2", "2d", d+2*i+1, n+i)
	}
}

func (f *file) sumSquaresNEON() {
	a := f.fn("sumSquaresNEON", "is the sum of squares of 16 numbers a step: see sumSquares.", "x *float32, steps int", "sum float64")
	a.argsNEON("x", "steps")
	a.note("V16 and up: 16 sums")
	for i := range 8 {
		a.movi8(16+i, 0)
	}
	a.loop("R1", func() {
		a.load64("R0", 0)
		a.doubles(4, 0)
		for i := range 8 {
			a.v("fmla", "2d", 16+i, 4+i, 4+i) // a square is exact
		}
	})
	a.note("lanes 8 apart, then 4, 2 and 1")
	for apart := 4; apart > 0; apart /= 2 {
		for i := range apart {
			a.v("fadd", "2d", 16+i, 16+i, 16+i+apart)
		}
	}
	a.v("faddp", "2d", 16, 16, 16)
	a.op("FMOVD F16, %s", a.at("sum"))
	a.op("RET")
}

func (f *file) normalizeNEON() {
	a := f.fn("normalizeNEON", "writes x*root, rounded to float32, times weight, 16 numbers a step: see RMSNorm.", "dst *float32, x *float32, weight *float32, root float64, steps int")
	a.argsNEON("dst", "x", "weight", "root", "steps")
	a.op("VDUP R3, V16.D2")
	a.loop("R4", func() {
		a.load64("R1", 0)
		a.load64("R2", 20)
		a.doubles(4, 0)
		for i := range 8 {
			a.v("fmul", "2d", 4+i, 4+i, 16)
			a.short([]string{"fcvtn", "fcvtn2"}[i%2], "2d", i/2, 4+i)
		}
		a.pairwise("fmul", 0, 0, 20)
		a.store64("R0", 0)
	})
	a.op("RET")
}

func (f *file) turnNEON() {
	a := f.fn("turnNEON", "turns pairs (low, high) in place, 16 a step: see Rope.Turn.", "low *float32, high *float32, cos *float32, sin *float32, steps int")
	a.argsNEON("low", "high", "cos", "sin", "steps")
	const low, high, cos, sin, products = 0, 4, 16, 20, 24
	a.loop("R4", func() {
		a.keep64("R0", low)
		a.keep64("R1", high)
		a.load64("R2", cos)
		a.load64("R3", sin)
		a.pairwise("fmul", products, high, sin)
		a.pairwise("fmul", products+4, high, cos)
		a.pairwise("fmul", high, low, sin)
		a.pairwise("fmul", low, low, cos)
		a.pairwise("fsub", low, low, products)
		a.pairwise("fadd", high, high, products+4)
		a.store64("R0", low)
		a.store64("R1", high)
	})
	a.op("RET")
}

// The constants of expNEON, in registers.
const (
	expMost = 16 + iota
	expLeast
	expLog2e
	expMagic // 3 * 2^22
	expLn2High
	expLn2Low
	expFactor // c6 to c2 of exp32, and 1
	expOne    = expFactor + 5
)

func (a *fn) expConstantsNEON() {
	words := []uint32{math.Float32bits(89), math.Float32bits(-104), math.Float32bits(math.Log2E), math.Float32bits(3 << 22), 0x3F317200, 0x35BFBE8E}
	for i := range expFactors {
		words = append(words, expFactors[len(expFactors)-1-i])
	}
	words = append(words, math.Float32bits(1))
	a.op("MOVD $%s, R12", a.table32("exp", words...))
	for i := range words {
		a.next("R12", expMost+i)
	}
}

// expNEON makes the exponential of register x, with registers 4 to 7: see exp32.
func (a *fn) expNEON(x int) {
	const t, n, p, q = 4, 5, 6, 7
	a.v("fmin", "4s", x, x, expMost) // NaN stays
	a.v("fmax", "4s", x, x, expLeast)
	a.move(t, expMagic)
	a.v("fmla", "4s", t, x, expLog2e)
	a.v("fsub", "4s", n, t, expMagic)
	a.v("fmls", "4s", x, n, expLn2High)
	a.v("fmls", "4s", x, n, expLn2Low)
	last, next := expFactor, p
	for _, c := range []int{expFactor + 1, expFactor + 2, expFactor + 3, expFactor + 4, expOne, expOne} {
		a.move(next, c)
		a.v("fmla", "4s", next, last, x)
		last, next = next, p+q-next
	}
	a.note("two powers of two, because an exponent does not hold -150; only the second product can round")
	a.v("sub", "4s", n, t, expMagic)
	a.shift("sshr", "4s", t, n, 1)
	a.v("sub", "4s", n, n, t)
	for _, e := range []int{t, n} {
		a.shift("shl", "4s", e, e, 23)
		a.v("add", "4s", e, e, expOne)
	}
	a.v("fmul", "4s", x, last, t)
	a.v("fmul", "4s", x, x, n)
}

func (f *file) siluMulNEON() {
	a := f.fn("siluMulNEON", "writes gate / (1 + exp(-gate)) * up, 16 numbers a step: see SiLUMul.", "dst *float32, gate *float32, up *float32, steps int")
	a.argsNEON("dst", "gate", "up", "steps")
	a.expConstantsNEON()
	a.loop("R3", func() {
		a.load64("R1", 8)
		a.load64("R2", 28)
		for i := range 4 {
			a.v("fneg", "4s", i, 8+i)
			a.expNEON(i)
			a.v("fadd", "4s", i, i, expOne)
			a.v("fdiv", "4s", i, 8+i, i)
			a.v("fmul", "4s", i, i, 28+i)
		}
		a.store64("R0", 0)
	})
	a.op("RET")
}

func (f *file) expsNEON() {
	a := f.fn("expsNEON", "replaces 16 numbers a step by their exponentials: see exp32.", "x *float32, steps int")
	a.argsNEON("x", "steps")
	a.expConstantsNEON()
	a.loop("R1", func() {
		a.keep64("R0", 0)
		for i := range 4 {
			a.expNEON(i)
		}
		a.store64("R0", 0)
	})
	a.op("RET")
}

// largerNEON makes register d what larger makes of x and d: x where it is larger.
func (a *fn) largerNEON(d, x, tmp int) {
	a.v("fcmgt", "4s", tmp, x, d)
	a.v("bit", "16b", d, x, tmp)
}

// foldNEON joins 16 lanes, in four registers from r on, to one number in lane 0 of r: lanes 8 apart, then 4, 2 and 1. join adds its second register to its first.
func (a *fn) foldNEON(r int, join func(d, x int)) {
	join(r, r+2)
	join(r+1, r+3)
	join(r, r+1)
	for _, bytes := range []int{8, 4} {
		a.ext(r+1, r, r, bytes)
		join(r, r+1)
	}
}

// softmaxNEON goes over the scores twice, as softmax does.
func (f *file) softmaxNEON() {
	a := f.fn("softmaxNEON", "makes weights of scores, blocks of 64 that are stride bytes apart: see softmax.", "scores *float32, stride int, blocks int, scale float32", "most float32, total float32")
	const factor, most, lanes = 8, 8, 28
	larger := func(d, x int) { a.largerNEON(d, x, 9) }
	add := func(d, x int) { a.v("fadd", "4s", d, d, x) }
	a.argNEON("stride", "R1")
	a.op("SUB $256, R1, R1")
	a.every("scale", factor)
	a.expConstantsNEON()
	a.note("V%d and up: the largest, later sums", lanes)
	a.constantNEON(math.Float32bits(-math.MaxFloat32), lanes)
	for i := 1; i < 4; i++ {
		a.move(lanes+i, lanes)
	}
	a.eachBlockNEON(func() {
		a.each("fmul", 0, 0, factor)
		for i := range 4 {
			larger(lanes+i, i)
		}
	})
	a.foldNEON(lanes, larger)
	a.op("FMOVS F%d, %s", lanes, a.at("most"))
	a.dup32(most, lanes, 0)
	for i := range 4 {
		a.movi8(lanes+i, 0)
	}
	a.eachBlockNEON(func() {
		for i := range 4 {
			a.v("fsub", "4s", i, i, most)
			a.expNEON(i)
			add(lanes+i, i)
		}
	})
	a.foldNEON(lanes, add)
	a.op("FMOVS F%d, %s", lanes, a.at("total"))
	a.op("RET")
}

// eachBlockNEON runs body for every 16 scores, in V0 to V3, which are then stored again. R1 has the bytes between blocks.
func (a *fn) eachBlockNEON(body func()) {
	a.argNEON("scores", "R0")
	a.argNEON("blocks", "R2")
	a.loop("R2", func() {
		a.op("MOVD $4, R3")
		a.loop("R3", func() {
			a.keep64("R0", 0)
			body()
			a.store64("R0", 0)
		})
		a.op("ADD R1, R0, R0")
	})
}

func (f *file) narrowNEON() {
	a := f.fn("narrowNEON", "rounds 16 numbers a step to float16: see narrowF16.", "dst *byte, x *float32, steps int")
	a.argsNEON("dst", "x", "steps")
	a.loop("R2", func() {
		a.load64("R1", 0)
		for i := range 4 {
			a.short([]string{"fcvtn", "fcvtn2"}[i%2], "4s", 4+i/2, i)
		}
		a.op("VST1.P [V4.B16, V5.B16], 32(R0)")
	})
	a.op("RET")
}

// mulVectorsNEON has the factors in half of all registers.
func (f *file) mulVectorsNEON() {
	a := f.fn("mulVectorsNEON", "multiplies vectors of 64 in dst with one of them: see mulVectors.", "dst *float32, x *float32, vectors int")
	a.argsNEON("dst", "x", "vectors")
	for i := range 4 {
		a.load64("R1", 16+4*i)
	}
	a.loop("R2", func() {
		for i := range 4 {
			a.keep64("R0", 4*i)
			a.pairwise("fmul", 4*i, 4*i, 16+4*i)
			a.store64("R0", 4*i)
		}
	})
	a.op("RET")
}

// roundVectorsNEON has 64 numbers in half of all registers.
func (f *file) roundVectorsNEON() {
	a := f.fn("roundVectorsNEON", "makes 16-bit whole numbers of vectors of 64 in x, times factors: see vectors.round.", "words *byte, steps *float32, x *float32, factors *float32, vectors int")
	const most, factors, magnitudes, magnitude, largest, one = 16, 20, 24, 28, 29, 30
	a.argsNEON("words", "steps", "x", "factors", "vectors")
	a.constantNEON(1<<31-1, magnitude)
	a.constantNEON(math.Float32bits(127*256), largest)
	a.constantNEON(math.Float32bits(1), one)
	a.op("MOVD $0x7F800000, R5")
	a.op("MOVD $0x00800000, R6")
	a.loop("R4", func() {
		small, broken, none, next := a.label("small"), a.label("broken"), a.label("none"), a.label("next")
		a.op("MOVD R3, R7")
		for i := range 4 {
			a.load64("R2", 4*i)
			a.load64("R7", factors)
			a.pairwise("fmul", 4*i, 4*i, factors)
			if i == 0 {
				a.each("and", most, 0, magnitude)
				continue
			}
			a.each("and", magnitudes, 4*i, magnitude)
			a.pairwise("umax", most, most, magnitudes)
		}
		a.foldNEON(most, func(d, x int) { a.v("umax", "4s", d, d, x) })
		a.op("FMOVS F%d, R8", most)
		a.op("CMPW R5, R8")
		a.op("BHS %s", broken)
		a.op("FDIVS F%d, F%d, F%d", largest, most, most)
		a.op("FMOVS F%d, R8", most)
		a.op("CMPW R6, R8")
		a.op("BLO %s", small)
		a.op("FMOVS.P F%d, 4(R1)", most)
		a.op("FDIVS F%d, F%d, F%d", most, one, most)
		for i := range 16 {
			a.fmulLane(i, i, most, 0)
			a.v("fcvtns", "4s", i, i)
		}
		for i := range 8 {
			a.v("uzp1", "8h", i, 2*i, 2*i+1)
		}
		a.op("JMP %s", next)
		a.mark(broken)
		a.op("MOVD $0x7FC00000, R8")
		a.op("JMP %s", none)
		a.mark(small)
		a.op("MOVD $0, R8")
		a.mark(none)
		a.op("MOVW.P R8, 4(R1)")
		for i := range 8 {
			a.movi8(i, 0)
		}
		a.mark(next)
		a.store64("R0", 0)
		a.store64("R0", 4)
	})
	a.op("RET")
}

func (f *file) extremesNEON() {
	a := f.fn("extremesNEON", "is the largest of 16 numbers a step, and the bits of the largest magnitude: see extremes.", "x *float32, steps int", "most float32, bits uint32")
	const magnitude, most, bits = 24, 16, 20
	a.argsNEON("x", "steps")
	a.constantNEON(1<<31-1, magnitude)
	a.constantNEON(math.Float32bits(float32(math.Inf(-1))), most)
	a.movi8(bits, 0)
	for i := 1; i < 4; i++ {
		a.move(most+i, most)
		a.move(bits+i, bits)
	}
	a.loop("R1", func() {
		a.load64("R0", 0)
		a.each("and", 4, 0, magnitude)
		a.pairwise("fmax", most, most, 0)
		a.pairwise("umax", bits, bits, 4)
	})
	a.foldNEON(most, func(d, x int) { a.v("fmax", "4s", d, d, x) })
	a.foldNEON(bits, func(d, x int) { a.v("umax", "4s", d, d, x) })
	a.op("FMOVS F%d, %s", most, a.at("most"))
	a.op("FMOVS F%d, %s", bits, a.at("bits"))
	a.op("RET")
}

// largest64NEON is the largest of 64 magnitudes, as bits.
func (f *file) largest64NEON() {
	a := f.fn("largest64NEON", "is the bits of the largest of 64 magnitudes: see integersOf.", "x *float32", "bits uint32")
	a.argNEON("x", "R0")
	a.constantNEON(1<<31-1, 16)
	for i := 0; i < 16; i += 4 {
		a.load64("R0", i)
		a.each("and", i, i, 16)
	}
	for apart := 8; apart > 0; apart /= 2 {
		for i := range apart {
			a.v("umax", "4s", i, i, i+apart)
		}
	}
	a.across("umaxv", "4s", 0, 0)
	a.op("FMOVS F0, %s", a.at("bits"))
	a.op("RET")
}

func (f *file) round64NEON() {
	a := f.fn("round64NEON", "makes whole numbers of 64 products with inverse, and their sums by 16: see integersOf.", "q *int32, sums *int32, x *float32, inverse float32")
	a.argsNEON("q", "sums", "x")
	a.every("inverse", 16)
	for i := range 4 {
		a.load64("R2", 0)
		a.each("fmul", 0, 0, 16)
		for r := range 4 {
			a.v("fcvtns", "4s", r, r)
		}
		a.store64("R0", 0)
		a.v("add", "4s", 0, 0, 1)
		a.v("add", "4s", 2, 2, 3)
		a.v("add", "4s", 20+i, 0, 2)
	}
	a.v("addp", "4s", 20, 20, 21)
	a.v("addp", "4s", 21, 22, 23)
	a.v("addp", "4s", 20, 20, 21)
	a.op("FMOVQ F20, (R1)")
	a.op("RET")
}

// narrow64 loads 64 integers as 16-bit ones into V0 to V7; name is how two registers become one.
func (a *fn) narrow64(name string) {
	a.argsNEON("dst", "q")
	for i := range 4 {
		a.load64("R1", 16)
		a.v(name, "8h", 2*i, 16, 17)
		a.v(name, "8h", 2*i+1, 18, 19)
	}
}

func (f *file) packWordsNEON() {
	a := f.fn("packWordsNEON", "writes 64 integers as 16-bit ones: see pack.", packList)
	a.narrow64("uzp1")
	a.store64("R0", 0)
	a.store64("R0", 4)
	a.op("RET")
}

// packNibblesNEON takes columns 0 to 3 and 4 to 7 in turn when it narrows them.
func (f *file) packNibblesNEON() {
	a := f.fn("packNibblesNEON", "writes 64 integers as 8-bit ones in the order of nibbles: see pack.", packList)
	a.narrow64("trn1")
	for i := range 4 {
		a.v("uzp1", "16b", i, 2*i, 2*i+1)
	}
	a.store64("R0", 0)
	a.op("RET")
}

// octetOrder has columns 0, 2, 1, 3 of every four.
var octetOrder = []byte{0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15}

func (f *file) packOctetsNEON() {
	a := f.fn("packOctetsNEON", "writes 64 integers as 8-bit ones in the order of octets: see pack.", packList)
	a.tableNEON(20, "octets", octetOrder...)
	a.narrow64("uzp1")
	for i := range 4 {
		a.v("uzp1", "16b", i, 2*i, 2*i+1)
		a.tbl(i, i, 1, 20)
	}
	a.store64("R0", 0)
	a.op("RET")
}

// turnWords turns four registers of words from r on about, with four from tmp on.
func (a *fn) turnWords(r, tmp int) {
	for i := 0; i < 4; i += 2 {
		a.v("trn1", "4s", tmp+i, r+i, r+i+1)
		a.v("trn2", "4s", tmp+i+1, r+i, r+i+1)
	}
	for i := range 2 {
		a.v("zip1", "2d", r+i, tmp+i, tmp+2+i)
		a.v("zip2", "2d", r+2+i, tmp+i, tmp+2+i)
	}
}

func (f *file) turnFourNEON(name, typ string) {
	list := fmt.Sprintf("dst *%[1]s, stride int, a *%[1]s, b *%[1]s, c *%[1]s, d *%[1]s, eights int", typ)
	a := f.fn(name+"NEON", "writes four rows of words as columns, stride bytes apart: see "+name+".", list)
	a.argsNEON("dst", "stride", "a", "b", "c", "d", "eights")
	a.op("LSL $1, R6, R6")
	a.loop("R6", func() {
		for i := range 4 {
			a.op("FMOVQ.P 16(R%d), F%d", 2+i, i)
		}
		a.turnWords(0, 4)
		for i := range 4 {
			a.op("VST1.P [V%d.B16], (R0)(R1)", i)
		}
	})
	a.op("RET")
}

// transposeNEON puts 16 rows of words side by side, four rows and four words at a time. The order inside words is changed on the way.
func (f *file) transposeNEON(order string) {
	a := f.fn("transpose"+order+"NEON", "puts 16 rows of words side by side: see transpose.", "dst *byte, src *byte, stride int, fours int")
	a.argsNEON("dst", "src", "stride", "fours")
	if order == "Byte" {
		a.tableNEON(20, "octets", octetOrder...)
	}
	a.loop("R3", func() {
		a.op("MOVD R1, R4")
		for quarter := range 4 {
			for r := range 4 {
				a.op("VLD1.P (R4)(R2), [V%d.B16]", r)
			}
			switch order {
			case "Nibble":
				a.nibblePairs(0, 1)
				a.nibblePairs(2, 3)
			case "Byte":
				for r := range 4 {
					a.tbl(r, r, 1, 20)
				}
			}
			a.turnWords(0, 4)
			for word := range 4 {
				if order == "Halves" {
					a.v("uzp1", "8h", 4, word, word)
					a.v("uzp2", "8h", 5, word, word)
					a.op("FMOVD F4, %d(R0)", 64*word+8*quarter)
					a.op("FMOVD F5, %d(R0)", 64*word+8*quarter+32)
					continue
				}
				a.op("FMOVQ F%d, %d(R0)", word, 64*word+16*quarter)
			}
		}
		a.op("ADD $16, R1, R1")
		a.op("ADD $256, R0, R0")
	})
	a.op("RET")
}

// nibblePairs puts the first four bits of all bytes of a word into its lower half, and the others into its upper half, in two registers.
func (a *fn) nibblePairs(r, s int) {
	const even, odd, upper = 4, 5, 6
	a.v("uzp1", "16b", even, r, s)
	a.v("uzp2", "16b", odd, r, s)
	a.move(upper, odd)
	a.shift("sri", "16b", upper, even, 4)
	a.shift("sli", "16b", even, odd, 4)
	a.v("zip1", "8h", r, even, upper)
	a.v("zip2", "8h", s, even, upper)
}
