package main

import (
	"fmt"
	"math"
)

// What a model computes between its products, a number of neighbours at a time: internal/tensor's ops.go and exp.go have the references. Both levels of amd64 come from the same lines here; where 16 lanes
// are one register of AVX-512, they are two of AVX2.

// lanes is a width of registers.
type lanes struct {
	level string
	reg   string // Z or Y
	half  string // the register of half the width
	bytes int
}

var widths = []lanes{{"AVX2", "Y", "X", 32}, {"AVX512", "Z", "Y", 64}}

// r is a register of the width, and h one of half of it.
func (l lanes) r(i int) string { return fmt.Sprintf("%s%d", l.reg, i) }
func (l lanes) h(i int) string { return fmt.Sprintf("%s%d", l.half, i) }

// per16 is how many registers hold 16 float32.
func (l lanes) per16() int { return 64 / l.bytes }

// file is where kernels of this width stand.
func (l lanes) file(name string) *file {
	return newFile("internal/tensor", name+"_"+map[string]string{"AVX2": "avx2", "AVX512": "avx512"}[l.level], "amd64", "")
}

// all is a constant in 16 lanes, to be an operand.
func (f *file) all(name string, bits uint32) string {
	words := make([]uint32, 16)
	for i := range words {
		words[i] = bits
	}
	return f.table32(name, words...)
}

func (f *file) allFloat(name string, v float32) string { return f.all(name, math.Float32bits(v)) }

func ops(l lanes) *file {
	f := l.file("ops")
	f.add(l)
	f.blend(l)
	f.scaleTo(l)
	f.sumSquares(l)
	f.normalize(l)
	f.turn(l)
	f.siluMul(l)
	f.exps(l)
	f.softmax(l)
	f.narrow(l)
	f.mulVectors(l)
	f.roundVectors(l)
	if l.level == "AVX2" { // at the next level too: 64 numbers are few
		f.sealing()
		f.extremes()
		f.ask()
	}
	return f
}

// ask is for numbers that are not used yet.
func (f *file) ask() {
	a := f.fn("askAVX2", "asks for lines of 16 numbers: see ask.", "x *float32, lines int")
	a.arg("x", "SI")
	a.arg("lines", "CX")
	a.countdown("CX", func() {
		a.op("PREFETCHT0 (SI)")
		a.op("ADDQ $64, SI")
	})
	a.op("RET")
}

// extremes is the largest number and the largest magnitude. A NaN is no largest number, as it is the first operand of each comparison.
func (f *file) extremes() {
	a := f.fn("extremesAVX2", "is the largest of some numbers, 16 a step, and the bits of the largest magnitude: see Largest.", "x *float32, steps int", "most float32, bits uint32")
	a.arg("x", "SI")
	a.op("VBROADCASTSS %s, Y0", f.allFloat("lowest", float32(math.Inf(-1))))
	a.op("VMOVAPS Y0, Y1")
	a.op("VPXOR Y2, Y2, Y2")
	a.op("VPXOR Y3, Y3, Y3")
	a.op("VPCMPEQD Y4, Y4, Y4")
	a.op("VPSRLD $1, Y4, Y4")
	a.arg("steps", "CX")
	a.countdown("CX", func() {
		for i := range 2 {
			a.op("VMOVUPS %d(SI), Y%d", 32*i, 5+i)
			a.op("VMAXPS Y%d, Y%d, Y%d", i, 5+i, i)
			a.op("VPAND Y%d, Y4, Y%d", 5+i, 5+i)
			a.op("VPMAXUD Y%d, Y%d, Y%d", 5+i, 2+i, 2+i)
		}
		a.op("ADDQ $64, SI")
	})
	a.op("VMAXPS Y1, Y0, Y0")
	a.op("VPMAXUD Y3, Y2, Y2")
	a.op("VEXTRACTF128 $1, Y0, X1")
	a.op("VEXTRACTI128 $1, Y2, X3")
	a.op("VMAXPS X1, X0, X0")
	a.op("VPMAXUD X3, X2, X2")
	for _, lanes := range []int{0x4E, 0xB1} { // two apart, then one
		a.op("VPSHUFD $0x%02X, X0, X1", lanes)
		a.op("VMAXPS X1, X0, X0")
		a.op("VPSHUFD $0x%02X, X2, X3", lanes)
		a.op("VPMAXUD X3, X2, X2")
	}
	a.op("VMOVSS X0, %s", a.at("most"))
	a.op("VMOVSS X2, %s", a.at("bits"))
	a.ret()
}

// steps runs body for every register of 16 numbers, as often as the argument says; offset is in bytes, of float32. Registers named move 64 bytes a step.
func (a *fn) steps(l lanes, body func(offset int), moving ...string) {
	a.arg("steps", "CX")
	a.countdown("CX", func() {
		for i := range l.per16() {
			body(i * l.bytes)
		}
		for _, reg := range moving {
			a.op("ADDQ $64, %s", reg)
		}
	})
}

func (f *file) add(l lanes) {
	a := f.fn("add"+l.level, "adds x to dst, 16 numbers a step: see Add.", "dst *float32, x *float32, steps int")
	a.arg("dst", "DI")
	a.arg("x", "SI")
	a.steps(l, func(at int) {
		a.op("VMOVUPS %d(SI), %s", at, l.r(0))
		a.op("VADDPS %d(DI), %s, %s", at, l.r(0), l.r(0))
		a.op("VMOVUPS %s, %d(DI)", l.r(0), at)
	}, "DI", "SI")
	a.ret()
}

func (f *file) blend(l lanes) {
	a := f.fn("blend"+l.level, "makes dst*keep + x*take, 16 numbers a step: see blend.", "dst *float32, x *float32, keep float32, take float32, steps int")
	a.arg("dst", "DI")
	a.arg("x", "SI")
	a.op("VBROADCASTSS %s, %s", a.at("keep"), l.r(2))
	a.op("VBROADCASTSS %s, %s", a.at("take"), l.r(3))
	a.steps(l, func(at int) {
		a.op("VMULPS %d(SI), %s, %s", at, l.r(3), l.r(0))
		a.op("VFMADD231PS %d(DI), %s, %s", at, l.r(2), l.r(0))
		a.op("VMOVUPS %s, %d(DI)", l.r(0), at)
	}, "DI", "SI")
	a.ret()
}

func (f *file) scaleTo(l lanes) {
	a := f.fn("scaleTo"+l.level, "writes x*scale to dst, 16 numbers a step: see scaleTo.", "dst *float32, x *float32, scale float32, steps int")
	a.arg("dst", "DI")
	a.arg("x", "SI")
	a.op("VBROADCASTSS %s, %s", a.at("scale"), l.r(1))
	a.steps(l, func(at int) {
		a.op("VMULPS %d(SI), %s, %s", at, l.r(1), l.r(0))
		a.op("VMOVUPS %s, %d(DI)", l.r(0), at)
	}, "DI", "SI")
	a.ret()
}

// sumSquares has its 16 sums of float64 in four registers of AVX2, or two of AVX-512.
func (f *file) sumSquares(l lanes) {
	a := f.fn("sumSquares"+l.level, "is the sum of squares of 16 numbers a step: see sumSquares.", "x *float32, steps int", "sum float64")
	a.arg("x", "SI")
	n := 2 * l.per16()
	a.note("%s and up: 16 sums", l.r(0))
	for i := range n {
		a.op("VXORPD %s, %s, %s", l.r(i), l.r(i), l.r(i))
	}
	a.arg("steps", "CX")
	a.countdown("CX", func() {
		for i := range n {
			a.op("VCVTPS2PD %d(SI), %s", i*l.bytes/2, l.r(8+i))
			a.op("VFMADD231PD %s, %s, %s", l.r(8+i), l.r(8+i), l.r(i))
		}
		a.op("ADDQ $64, SI")
	})
	a.note("lanes 8 apart, then 4, 2 and 1")
	for i := range n / 2 {
		a.op("VADDPD %s, %s, %s", l.r(n/2+i), l.r(i), l.r(i))
	}
	if l.reg == "Z" {
		a.op("VEXTRACTF64X4 $1, Z0, Y1")
	}
	a.op("VADDPD Y1, Y0, Y0")
	a.op("VEXTRACTF128 $1, Y0, X1")
	a.op("VADDPD X1, X0, X0")
	a.op("VPERMILPD $1, X0, X1")
	a.op("VADDPD X1, X0, X0")
	a.op("VMOVSD X0, %s", a.at("sum"))
	a.ret()
}

func (f *file) normalize(l lanes) {
	a := f.fn("normalize"+l.level, "writes x*root, rounded to float32, times weight, 16 numbers a step: see RMSNorm.", "dst *float32, x *float32, weight *float32, root float64, steps int")
	a.arg("dst", "DI")
	a.arg("x", "SI")
	a.arg("weight", "R8")
	a.op("VBROADCASTSD %s, %s", a.at("root"), l.r(15))
	narrow := map[string]string{"Y": "VCVTPD2PSY", "Z": "VCVTPD2PS"}[l.reg]
	a.arg("steps", "CX")
	a.countdown("CX", func() {
		for i := range 2 * l.per16() {
			at := i * l.bytes / 2
			a.op("VCVTPS2PD %d(SI), %s", at, l.r(i))
			a.op("VMULPD %s, %s, %s", l.r(15), l.r(i), l.r(i))
			a.op("%s %s, %s", narrow, l.r(i), l.h(i))
			a.op("VMULPS %d(R8), %s, %s", at, l.h(i), l.h(i))
			a.op("VMOVUPS %s, %d(DI)", l.h(i), at)
		}
		for _, reg := range []string{"SI", "R8", "DI"} {
			a.op("ADDQ $64, %s", reg)
		}
	})
	a.ret()
}

func (f *file) turn(l lanes) {
	a := f.fn("turn"+l.level, "turns pairs (low, high) in place, 16 a step: see Rope.Turn.", "low *float32, high *float32, cos *float32, sin *float32, steps int")
	a.arg("low", "DI")
	a.arg("high", "SI")
	a.arg("cos", "R8")
	a.arg("sin", "R9")
	a.steps(l, func(at int) {
		low, high, cos, sin := l.r(0), l.r(1), l.r(2), l.r(3)
		a.op("VMOVUPS %d(DI), %s", at, low)
		a.op("VMOVUPS %d(SI), %s", at, high)
		a.op("VMOVUPS %d(R8), %s", at, cos)
		a.op("VMOVUPS %d(R9), %s", at, sin)
		a.op("VMULPS %s, %s, %s", cos, low, l.r(4))
		a.op("VMULPS %s, %s, %s", sin, high, l.r(5))
		a.op("VMULPS %s, %s, %s", sin, low, l.r(6))
		a.op("VMULPS %s, %s, %s", cos, high, l.r(7))
		a.op("VSUBPS %s, %s, %s", l.r(5), l.r(4), l.r(4))
		a.op("VADDPS %s, %s, %s", l.r(7), l.r(6), l.r(6))
		a.op("VMOVUPS %s, %d(DI)", l.r(4), at)
		a.op("VMOVUPS %s, %d(SI)", l.r(6), at)
	}, "DI", "SI", "R8", "R9")
	a.ret()
}

func (f *file) siluMul(l lanes) {
	a := f.fn("siluMul"+l.level, "writes gate / (1 + exp(-gate)) * up, 16 numbers a step: see SiLUMul.", "dst *float32, gate *float32, up *float32, steps int")
	a.arg("dst", "DI")
	a.arg("gate", "SI")
	a.arg("up", "R8")
	a.steps(l, func(at int) {
		a.op("VMOVUPS %d(SI), %s", at, l.r(8))
		a.op("VXORPS %s, %s, %s", a.all("signs", 1<<31), l.r(8), l.r(0))
		a.exp(l, 0)
		a.op("VADDPS %s, %s, %s", a.allFloat("ones", 1), l.r(0), l.r(0))
		a.op("VDIVPS %s, %s, %s", l.r(0), l.r(8), l.r(0))
		a.op("VMULPS %d(R8), %s, %s", at, l.r(0), l.r(0))
		a.op("VMOVUPS %s, %d(DI)", l.r(0), at)
	}, "DI", "SI", "R8")
	a.ret()
}

func (f *file) exps(l lanes) {
	a := f.fn("exps"+l.level, "replaces 16 numbers a step by their exponentials: see exp32.", "x *float32, steps int")
	a.arg("x", "DI")
	a.steps(l, func(at int) {
		a.op("VMOVUPS %d(DI), %s", at, l.r(0))
		a.exp(l, 0)
		a.op("VMOVUPS %s, %d(DI)", l.r(0), at)
	}, "DI")
	a.ret()
}

// expFactors are c2 to c6 of exp32.
var expFactors = []uint32{0x3EFFFFFE, 0x3E2AAA49, 0x3D2AAC79, 0x3C091CF1, 0x3AB5121A}

// exp makes the exponential of register x, with the four registers after it: see exp32. What is below the least becomes 0 by a mask: a number that leaves the range of float32 downwards takes the processor 80 ns, and
// attention has -infinity wherever a token must not see. That was a quarter of a prompt's attention.
func (a *fn) exp(l lanes, x int) {
	v, n, t, p, seen := l.r(x), l.r(x+1), l.r(x+2), l.r(x+3), l.r(x+4)
	if l.reg == "Z" {
		seen = "K1"
	}
	const notLess = 0x15 // true where one is NaN
	a.op("VMOVUPS %s, %s", a.allFloat("expLeast", -104), t)
	a.op("VCMPPS $0x%x, %s, %s, %s", notLess, t, v, seen)
	// a maximum or minimum is its second operand, the first here, where one is NaN
	a.op("VMAXPS %s, %s, %s", v, t, v)
	a.op("VMOVUPS %s, %s", a.allFloat("expMost", 89), t)
	a.op("VMINPS %s, %s, %s", v, t, v)
	a.op("VMOVUPS %s, %s", a.allFloat("log2e", math.Log2E), t)
	magic := a.allFloat("float3to22", 3<<22)
	a.op("VFMADD213PS %s, %s, %s", magic, v, t)
	a.op("VSUBPS %s, %s, %s", magic, t, n)
	a.op("VFNMADD231PS %s, %s, %s", a.all("ln2high", 0x3F317200), n, v)
	a.op("VFNMADD231PS %s, %s, %s", a.all("ln2low", 0x35BFBE8E), n, v)
	a.op("VMOVUPS %s, %s", a.all("exp6", expFactors[4]), p)
	for i := 3; i >= 0; i-- {
		a.op("VFMADD213PS %s, %s, %s", a.all(fmt.Sprintf("exp%d", i+2), expFactors[i]), v, p)
	}
	ones := a.allFloat("ones", 1)
	a.op("VFMADD213PS %s, %s, %s", ones, v, p)
	a.op("VFMADD213PS %s, %s, %s", ones, v, p)
	if l.reg == "Z" {
		a.op("VSCALEFPS.Z %s, %s, %s, %s", n, p, seen, v)
		return
	}
	a.op("VANDPS %s, %s, %s", seen, p, p)
	// two powers of two, because an exponent does not hold -150; only the second product can round
	a.op("VPSUBD %s, %s, %s", magic, t, n)
	a.op("VPSRAD $1, %s, %s", n, t)
	a.op("VPSUBD %s, %s, %s", t, n, n)
	for _, e := range []string{t, n} {
		a.op("VPSLLD $23, %s, %s", e, e)
		a.op("VPADDD %s, %s, %s", ones, e, e)
	}
	a.op("VMULPS %s, %s, %s", t, p, p)
	a.op("VMULPS %s, %s, %s", n, p, v)
}

// fold joins 16 lanes, in one register or two, to one number in lane 0 of x: lanes 8 apart, then 4, 2 and 1. op takes the upper lanes first.
func (a *fn) fold(l lanes, op string, x, second, temp int) {
	if l.reg == "Z" {
		a.op("VEXTRACTF64X4 $1, Z%d, Y%d", x, second)
	}
	a.op("%s Y%d, Y%d, Y%d", op, x, second, x)
	a.op("VEXTRACTF128 $1, Y%d, X%d", x, temp)
	a.op("%s X%d, X%d, X%d", op, x, temp, x)
	a.op("VPERMILPS $0x4E, X%d, X%d", x, temp)
	a.op("%s X%d, X%d, X%d", op, x, temp, x)
	a.op("VPERMILPS $0xB1, X%d, X%d", x, temp)
	a.op("%s X%d, X%d, X%d", op, x, temp, x)
}

// softmax goes over the scores twice: to find the largest, and to replace each by the exponential of its distance from that.
func (f *file) softmax(l lanes) {
	a := f.fn("softmax"+l.level, "makes weights of scores, blocks of 64 that are stride bytes apart: see softmax.", "scores *float32, stride int, blocks int, scale float32", "most float32, total float32")
	n := l.per16()
	largest, sum := 8, 10 // registers; AVX2 has two of each
	a.arg("stride", "DX")
	a.op("VBROADCASTSS %s, %s", a.at("scale"), l.r(12))
	a.note("%s and up: the largest; %s and up: sums", l.r(largest), l.r(sum))
	for i := range n {
		a.op("VMOVUPS %s, %s", a.allFloat("leastFloat", -math.MaxFloat32), l.r(largest+i))
		a.op("VXORPS %s, %s, %s", l.r(sum+i), l.r(sum+i), l.r(sum+i))
	}
	a.eachBlock(l, func(at, lane int) {
		a.op("VMULPS %d(DI), %s, %s", at, l.r(12), l.r(0))
		a.op("VMOVUPS %s, %d(DI)", l.r(0), at)
		a.op("VMAXPS %s, %s, %s", l.r(largest+lane), l.r(0), l.r(largest+lane))
	})
	a.fold(l, "VMAXPS", largest, largest+1, 0)
	a.op("VMOVSS X%d, %s", largest, a.at("most"))
	a.op("VBROADCASTSS X%d, %s", largest, l.r(12))
	a.eachBlock(l, func(at, lane int) {
		a.op("VMOVUPS %d(DI), %s", at, l.r(0))
		a.op("VSUBPS %s, %s, %s", l.r(12), l.r(0), l.r(0))
		a.exp(l, 0)
		a.op("VMOVUPS %s, %d(DI)", l.r(0), at)
		a.op("VADDPS %s, %s, %s", l.r(0), l.r(sum+lane), l.r(sum+lane))
	})
	a.fold(l, "VADDPS", sum, sum+1, 0)
	a.op("VMOVSS X%d, %s", sum, a.at("total"))
	a.ret()
}

// eachBlock runs body for the registers of 64 scores, as often as there are blocks.
func (a *fn) eachBlock(l lanes, body func(at, lane int)) {
	a.arg("scores", "DI")
	a.arg("blocks", "CX")
	a.countdown("CX", func() {
		for i := range 4 * l.per16() {
			body(i*l.bytes, i%l.per16())
		}
		a.op("ADDQ DX, DI")
	})
}

func (f *file) narrow(l lanes) {
	a := f.fn("narrow"+l.level, "rounds 16 numbers a step to float16: see narrowF16.", "dst *byte, x *float32, steps int")
	a.arg("dst", "DI")
	a.arg("x", "SI")
	a.arg("steps", "CX")
	a.countdown("CX", func() {
		for i := range l.per16() {
			a.op("VMOVUPS %d(SI), %s", i*l.bytes, l.r(i))
			a.op("VCVTPS2PH $0, %s, %d(DI)", l.r(i), i*l.bytes/2)
		}
		a.op("ADDQ $64, SI")
		a.op("ADDQ $32, DI")
	})
	a.ret()
}

// mulVectors has the factors in as many registers as hold 64.
func (f *file) mulVectors(l lanes) {
	a := f.fn("mulVectors"+l.level, "multiplies vectors of 64 in dst with one of them: see mulVectors.", "dst *float32, x *float32, vectors int")
	a.arg("dst", "DI")
	a.arg("x", "SI")
	a.arg("vectors", "CX")
	n := 4 * l.per16()
	for i := range n {
		a.op("VMOVUPS %d(SI), %s", i*l.bytes, l.r(8+i))
	}
	a.countdown("CX", func() {
		for i := range n {
			a.op("VMULPS %d(DI), %s, %s", i*l.bytes, l.r(8+i), l.r(i))
			a.op("VMOVUPS %s, %d(DI)", l.r(i), i*l.bytes)
		}
		a.op("ADDQ $256, DI")
	})
	a.ret()
}

// roundVectors has 64 numbers in as many registers as hold them, and the bits of the largest magnitude in another.
func (f *file) roundVectors(l lanes) {
	a := f.fn("roundVectors"+l.level, "makes 16-bit whole numbers of vectors of 64 in x, times factors: see vectors.round.", "words *byte, steps *float32, x *float32, factors *float32, vectors int")
	a.arg("words", "DI")
	a.arg("steps", "DX")
	a.arg("x", "SI")
	a.arg("factors", "R8")
	a.arg("vectors", "CX")
	n := 4 * l.per16()
	magnitude, most, inverse := l.r(8), l.r(9), l.r(10)
	a.op("VMOVUPS %s, %s", a.all("magnitudes", 1<<31-1), l.r(11))
	a.countdown("CX", func() {
		small, broken, next := a.label("small"), a.label("broken"), a.label("next")
		for i := range n {
			a.op("VMOVUPS %d(SI), %s", i*l.bytes, l.r(i))
			a.op("VMULPS %d(R8), %s, %s", i*l.bytes, l.r(i), l.r(i))
			a.op("VANDPS %s, %s, %s", l.r(11), l.r(i), magnitude)
			if i == 0 {
				a.op("VMOVAPS %s, %s", magnitude, most)
			} else {
				a.op("VPMAXUD %s, %s, %s", magnitude, most, most)
			}
		}
		a.fold(l, "VPMAXUD", 9, 8, 8)
		a.op("VMOVD X9, AX")
		a.op("CMPL AX, $0x7F800000")
		a.op("JCC %s", broken)
		a.op("VDIVSS %s, X9, X9", a.allFloat("most2", 127*256))
		a.op("VMOVD X9, AX")
		a.op("CMPL AX, $0x00800000")
		a.op("JCS %s", small)
		a.op("MOVL AX, (DX)")
		a.op("VMOVSS %s, X8", a.allFloat("ones", 1))
		a.op("VDIVSS X9, X8, X8")
		a.op("VBROADCASTSS X8, %s", inverse)
		for i := range n {
			a.op("VMULPS %s, %s, %s", inverse, l.r(i), l.r(i))
			a.op("VCVTPS2DQ %s, %s", l.r(i), l.r(i))
		}
		for i := 0; i < n; i += l.per16() {
			if l.reg == "Z" {
				a.op("VPMOVDW Z%d, %d(DI)", i, 32*i)
				continue
			}
			a.op("VPACKSSDW Y%d, Y%d, Y%d", i+1, i, i)
			a.op("VPERMQ $0xD8, Y%d, Y%d", i, i)
			a.op("VMOVDQU Y%d, %d(DI)", i, 16*i)
		}
		a.op("JMP %s", next)
		a.mark(broken)
		a.op("MOVL $0x7FC00000, AX")
		a.op("JMP %s", small+"too")
		a.mark(small)
		a.op("XORL AX, AX")
		a.mark(small + "too")
		a.op("MOVL AX, (DX)")
		a.op("VPXOR Y0, Y0, Y0")
		for at := 0; at < 128; at += 32 {
			a.op("VMOVDQU Y0, %d(DI)", at)
		}
		a.mark(next)
		a.op("ADDQ $256, SI")
		a.op("ADDQ $128, DI")
		a.op("ADDQ $4, DX")
	})
	a.ret()
}
