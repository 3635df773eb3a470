package main

import "fmt"

// floatKernel is a product in float32: a chain of fused multiply-adds for each block of 64 columns or a segment, scaled, and added to the row's sum.
type floatKernel struct {
	codes
	scale
	shape
}

// shape is how many panels a kernel multiplies with how many vectors. One vector alone takes four panels, so that there are chains enough to keep the units busy.
type shape struct{ panels, tile int }

var shapes = []shape{{4, 1}, {1, 4}, {1, 8}, {1, 12}}

func floatAVX512() *file {
	f := newFile("internal/tensor", "float_avx512", "amd64", importQuant)
	f.setter("floatsAVX512", "puts the kernels of this file into a table.", f.floats("AVX512", (*fn).float, (*fn).plainFloat))
	return f
}

// floats are the products in float32 that each level has. kernel writes one for codes with scales, plain one for weights as they are.
func (f *file) floats(level string, kernel, plain func(a *fn, k floatKernel)) (t table) {
	for i, sh := range shapes {
		for _, s := range scales {
			for _, c := range []codes{{"Nibble", true}, {"Byte", true}} {
				k := floatKernel{c, s, sh}
				kernel(k.fn(f, level), k)
				t.add("k.floats[%s][quant.%s][%d] = %s", kindNames[c.name], s.name, i, k.funcName(level))
			}
		}
		k := floatKernel{codes{"Mini", false}, scales[0], sh}
		kernel(k.fn(f, level), k)
		t.add("k.floats[minis][quant.BF16][%d] = %s", i, k.funcName(level))
		for _, name := range plainKinds {
			k := floatKernel{codes{name, false}, scale{}, sh}
			plain(k.fnPlain(f, level), k)
			t.add("k.plain[%s][%d] = %s", kindNames[name], i, k.funcName(level))
		}
	}
	return t
}

// plainKinds are the kinds of weights that are multiplied as they are.
var plainKinds = []string{"PairsBF16", "HalvesF16", "QuartersE4M3", "Wide"}

// stepBytes are those of four columns of plain weights.
func (k floatKernel) stepBytes() int {
	return map[string]int{"PairsBF16": 128, "HalvesF16": 128, "QuartersE4M3": 64, "Wide": 256}[k.codes.name]
}

// inSegments reports whether plain weights come in segments of 32 columns, behind the scales of their rows.
func (k floatKernel) inSegments() bool { return k.codes.name == "QuartersE4M3" }

func (k floatKernel) funcName(level string) string {
	return fmt.Sprintf("mul%s%sFloatBy%d%s", k.codes.name, k.scale.name, k.tile, level)
}

// fn begins the kernel of a level.
func (k floatKernel) fn(f *file, level string) *fn {
	return f.fn(k.funcName(level), fmt.Sprintf("multiplies %s of %s codes and %s scales with %s of float32: see mulFloats.", panelsText(k.panels), k.codes.name, k.scale.name, vectorsText(k.tile)),
		"dst *float32, stride int, panel *byte, panelStride int, codes *float32, x *float32, sums *float32, segments int, words int")
}

// fnPlain is fn for weights as they are.
func (k floatKernel) fnPlain(f *file, level string) *fn {
	return f.fn(k.funcName(level), fmt.Sprintf("multiplies %s of %s weights with %s of float32: see mulPlain.", panelsText(k.panels), k.codes.name, vectorsText(k.tile)),
		"dst *float32, stride int, panel *byte, panelStride int, x *float32, steps int")
}

func (k floatKernel) acc(p, t int) string   { return fmt.Sprintf("Z%d", p*k.tile+t) }
func (k floatKernel) total(p, t int) string { return fmt.Sprintf("Z%d", 12+p*k.tile+t) }

// panelAt addresses bytes of panel p; R12 is the stride of panels, R13 three times that.
func (k floatKernel) panelAt(p, offset int, base string) string {
	return fmt.Sprintf("%d(%s)%s", offset, base, [4]string{"", "(R12*1)", "(R12*2)", "(R13*1)"}[p])
}

// float is a kernel for codes with scales.
func (a *fn) float(k floatKernel) {
	a.floatArgs(k)
	a.arg("sums", "R9")
	a.arg("segments", "CX")
	a.floatConstants(k)
	a.zero("sums of rows, a vector each", k.total, k)
	a.countdown("CX", func() {
		a.zero("", k.acc, k)
		a.op("LEAQ %d(SI), R10", head(k.codes, k.scale))
		a.arg("words", "AX")
		perStep := k.columns()
		a.countdown("AX", func() {
			for p := range k.panels {
				a.op("VMOVDQU32 %s, Z%d", k.panelAt(p, 0, "R10"), 24+p)
			}
			for i := range perStep {
				if k.tile == 1 {
					a.op("VBROADCASTSS %d(R8), Z29", 4*i)
				}
				for p := range k.panels {
					w := "Z28"
					if k.panels == 1 {
						w = fmt.Sprintf("Z%d", 25+i%4)
					}
					a.code(k, i, fmt.Sprintf("Z%d", 24+p), w)
					a.fma(k, p, i, w)
				}
			}
			a.op("ADDQ $64, R10")
			a.op("ADDQ $%d, R8", 4*perStep*k.tile)
		})
		for p := range k.panels {
			a.note("Z24: scales, Z25: biases")
			a.widen(k.scale, "Z24", k.panelAt(p, 0, "SI"))
			if k.biased {
				a.widen(k.scale, "Z25", k.panelAt(p, 16*k.scale.bytes, "SI"))
				a.op("VFMADD231PS.BCST 64(R11), Z24, Z25")
			}
			for t := range k.tile {
				if k.biased {
					a.op("VFMADD231PS.BCST %d(R9), Z25, %s", 4*t, k.total(p, t))
				}
				a.op("VFMADD231PS %s, Z24, %s", k.acc(p, t), k.total(p, t))
			}
		}
		a.op("MOVQ R10, SI")
		if k.biased {
			a.op("ADDQ $%d, R9", 4*k.tile)
		}
	})
	a.storeTotals(k)
}

// plainFloat is a kernel for weights as they are. Steps are of four columns; 16 of them are a block.
func (a *fn) plainFloat(k floatKernel) {
	a.floatArgs(k)
	a.arg("steps", "CX")
	switch k.codes.name {
	case "PairsBF16":
		a.op("VPBROADCASTD %s, Z31", a.table32("high16", 0xFFFF0000, 0xFFFF0000))
	case "QuartersE4M3":
		a.op("VPBROADCASTD %s, Z31", a.table32("halfOfE4M3", halfOfE4M3, halfOfE4M3))
	}
	a.zero("sums of rows, a vector each", k.total, k)
	block := a.label("block")
	a.mark(block)
	a.zero("", k.acc, k)
	a.note("AX: steps of this block")
	a.op("MOVQ CX, AX")
	a.op("CMPQ AX, $16")
	short := a.label("short")
	a.op("JLE %s", short)
	a.op("MOVQ $16, AX")
	a.mark(short)
	a.op("SUBQ AX, CX")
	a.plainSteps(k, func() {
		for i := range 4 {
			if k.tile == 1 {
				a.op("VBROADCASTSS %d(R8), Z29", 4*i)
			}
			for p := range k.panels {
				w := fmt.Sprintf("Z%d", 24+(i*k.panels+p)%4)
				a.weight(k, p, i, w)
				a.fma(k, p, i, w)
			}
		}
		a.op("ADDQ $%d, SI", k.stepBytes())
		a.op("ADDQ $%d, R8", 16*k.tile)
	})
	for p := range k.panels {
		for t := range k.tile {
			a.op("VADDPS %s, %s, %s", k.acc(p, t), k.total(p, t), k.total(p, t))
		}
	}
	a.op("TESTQ CX, CX")
	a.op("JNZ %s", block)
	a.storeTotals(k)
}

// plainSteps repeats body AX times. Weights in segments have their scales at R10.
func (a *fn) plainSteps(k floatKernel, body func()) {
	if !k.inSegments() {
		a.countdown("AX", body)
		return
	}
	segment := a.label("segment")
	a.mark(segment)
	a.op("MOVQ SI, R10")
	a.op("ADDQ $64, SI")
	a.op("MOVQ $8, R9")
	a.countdown("R9", body)
	a.op("SUBQ $8, AX")
	a.op("JNZ %s", segment)
}

func panelsText(n int) string {
	if n == 1 {
		return "a panel"
	}
	return fmt.Sprintf("%d panels", n)
}

func vectorsText(n int) string {
	if n == 1 {
		return "a vector"
	}
	return fmt.Sprintf("a tile of %d vectors", n)
}

func (a *fn) floatArgs(k floatKernel) {
	a.arg("dst", "DI")
	a.arg("stride", "DX")
	a.op("SHLQ $2, DX")
	a.arg("panel", "SI")
	if k.panels > 1 {
		a.arg("panelStride", "R12")
		a.op("LEAQ (R12)(R12*2), R13")
	}
	a.arg("x", "R8")
}

func (a *fn) zero(note string, reg func(p, t int) string, k floatKernel) {
	if note != "" {
		a.note("%s and up: %s", reg(0, 0), note)
	}
	for p := range k.panels {
		for t := range k.tile {
			a.op("VPXORD %s, %s, %s", reg(p, t), reg(p, t), reg(p, t))
		}
	}
}

// fma adds weights of column i times the activations of every vector.
func (a *fn) fma(k floatKernel, p, i int, w string) {
	if k.tile == 1 {
		a.op("VFMADD231PS %s, Z29, %s", w, k.acc(p, 0))
		return
	}
	for t := range k.tile {
		a.op("VFMADD231PS.BCST %d(R8), %s, %s", 4*(i*k.tile+t), w, k.acc(p, t))
	}
}

// storeTotals writes the sums: of one vector all panels' side by side, else a row each stride.
func (a *fn) storeTotals(k floatKernel) {
	for p := range k.panels {
		for t := range k.tile {
			a.op("VMOVUPS %s, %d(DI)", k.total(p, t), 64*p)
			if k.tile > 1 {
				a.op("ADDQ DX, DI")
			}
		}
	}
	a.ret()
}

// floatConstants loads what codes become, R11 being the table of it (see codeTable): Z30 the values of four bits, or Z30 and Z31 what makes a float32 of eight.
func (a *fn) floatConstants(k floatKernel) {
	a.arg("codes", "R11")
	if k.codes.name != "Byte" {
		a.op("VMOVUPS (R11), Z30")
		return
	}
	a.op("VPBROADCASTD %s, Z31", a.table32("mask000000ff", 0xFF, 0xFF))
	a.op("VPBROADCASTD %s, Z30", a.table32("float2to23", 0x4B000000, 0x4B000000))
}

// code makes weights of code i of the dwords in from.
func (a *fn) code(k floatKernel, i int, from, to string) {
	if k.codes.name == "Byte" {
		shift := [4]int{0, 16, 8, 24}[i]
		a.op("VPSRLD $%d, %s, %s", shift, from, to)
		a.op("VPTERNLOGD $0xEA, Z30, Z31, %s", to)
		a.op("VSUBPS.BCST 68(R11), %s, %s", to, to)
		return
	}
	if shift := [8]int{0, 16, 4, 20, 8, 24, 12, 28}[i]; shift > 0 {
		a.op("VPSRLD $%d, %s, %s", shift, from, to)
		from = to
	}
	a.op("VPERMPS Z30, %s, %s", from, to)
}

// halfOfE4M3 has the bits of a float16 that an E4M3 code becomes, twice: the sign, and the other seven one place lower. That is the code's value / 256, of subnormal codes too, and widening it knows no slow numbers.
//
// Products of a 2048 x 2048 matrix with 1, 8 and 96 vectors are 2.8, 1.7 and 0.8 times as fast as with bfloat16 (BenchmarkMul): half the bytes are read, and six instructions widen them, again for each tile of 12 vectors.
const halfOfE4M3 = 0xBF80BF80

// weight loads weights of column i of a step of four.
func (a *fn) weight(k floatKernel, p, i int, to string) {
	switch {
	case k.codes.name == "Wide":
		a.op("VMOVUPS %s, %s", k.panelAt(p, 64*i, "SI"), to)
	case k.codes.name == "HalvesF16":
		a.op("VCVTPH2PS %s, %s", k.panelAt(p, 32*i, "SI"), to)
	case k.codes.name == "QuartersE4M3":
		from, half := k.panelAt(p, i/2*32, "SI"), "Y"+to[1:]
		if i%2 == 0 {
			a.op("VPSLLW $8, %s, %s", from, half)
			from = half
		}
		a.op("VPSRAW $1, %s, %s", from, half)
		a.op("VPANDD Y31, %s, %s", half, half)
		a.op("VCVTPH2PS %s, %s", half, to)
		a.op("VMULPS %s, %s, %s", k.panelAt(p, 0, "R10"), to, to)
	case i%2 == 0:
		a.op("VPSLLD $16, %s, %s", k.panelAt(p, 32*i, "SI"), to)
	default:
		a.op("VPANDD %s, Z31, %s", k.panelAt(p, 32*(i-1), "SI"), to)
	}
}
