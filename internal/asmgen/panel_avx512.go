package main

import (
	"fmt"
	"strings"
)

// A panel kernel multiplies a panel, 16 rows of a matrix that lie side by side, with a tile of vectors. internal/tensor/panel.go says how both lie in memory and in what order sums are made; the
// references beside it are the same, plainly. A register has one number of each of the 16 rows.

// scale is how the scales and biases of a panel are stored.
type scale struct {
	name  string
	bytes int // of one
}

var scales = []scale{{"BF16", 2}, {"F16", 2}, {"F32", 4}}

// tiles are the numbers of vectors that kernels are written for.
var tiles = []int{1, 4, 8, 12}

// codes are the ways in which weights lie in a panel.
type codes struct {
	name   string
	biased bool
}

func panelAVX512() *file {
	f := newFile("internal/tensor", "panel_avx512", "amd64", importQuant)
	table := f.integers("AVX512", (*fn).integer)
	table = append(table, f.transposes("AVX512", f.transposeAVX512)...)
	f.setter("integersAVX512", "puts the kernels of this file into a table.", table)
	return f
}

// integers are the products in whole numbers that each level has. kernel writes one.
func (f *file) integers(level string, kernel func(a *fn, k integerKernel)) (t table) {
	for shape, tile := range tiles {
		for _, s := range scales {
			for _, c := range []codes{{"Nibble", true}, {"Byte", true}} {
				for _, width := range []int{1, 2} {
					k := integerKernel{c, s, tile, width}
					kernel(k.fn(f, level), k)
					t.add("k.integers[%s][quant.%s][%d][%d] = %s", kindNames[c.name], s.name, width-1, shape, k.funcName(level))
				}
			}
		}
		k := integerKernel{codes{"Mini", false}, scales[0], tile, 2}
		kernel(k.fn(f, level), k)
		t.add("k.integers[minis][quant.BF16][1][%d] = %s", shape, k.funcName(level))
	}
	return t
}

// transposes are those that each level has. kernel writes one.
func (f *file) transposes(level string, kernel func(order string)) (t table) {
	for _, order := range []string{"Nibble", "Byte", "Words", "Halves"} {
		kernel(order)
	}
	for _, kind := range []string{"nibbles:Nibble", "minis:Nibble", "octets:Byte", "pairs:Words", "halves:Halves", "quarters:Halves", "wide:Words"} {
		name, order, _ := strings.Cut(kind, ":")
		t.add("k.transpose[%s] = transpose%s%s", name, order, level)
	}
	return t
}

const importQuant = "import \"github.com/mlxbuild/mlxbuild/internal/quant\"\n"

// kindNames are what internal/tensor calls the kinds of codes.
var kindNames = map[string]string{"Nibble": "nibbles", "Mini": "minis", "Byte": "octets", "PairsBF16": "pairs", "HalvesF16": "halves", "QuartersE4M3": "quarters", "Wide": "wide"}

// table collects the lines that put kernels into internal/tensor's table of a level.
type table []string

func (t *table) add(format string, args ...any) { *t = append(*t, fmt.Sprintf(format, args...)) }

// setter is a Go function of those lines.
func (f *file) setter(name, doc string, t table) {
	fmt.Fprintf(&f.decls, "\n// %s %s\nfunc %s(k *kernels) {\n%s\n}\n", name, doc, name, strings.Join(t, "\n"))
}

// nextRows asks for as much of the next panel as a step of this one takes, in the order of memory: sixteen rows side by side are no stream that a processor would read ahead in.
func (a *fn) nextRows() {
	for i := range 4 {
		a.op("PREFETCHT0 %d(R13)", 64*i)
	}
	a.op("ADDQ $256, R13")
}

// transposeAVX512 puts 16 rows of words side by side, four words at a time: the words of rows 0, 4, 8 and 12 stand in the four parts of one register, those of the next rows in the next ones, and four rounds of
// unpacking turn each part about. The order inside words is changed on the way.
func (f *file) transposeAVX512(order string) {
	a := f.fn("transpose"+order+"AVX512", "puts 16 rows of words side by side: see transpose.", "dst *byte, src *byte, stride int, fours int")
	a.arg("dst", "DI")
	a.arg("src", "SI")
	a.arg("stride", "DX")
	a.arg("fours", "CX")
	a.note("R8, R9, R10, R11: rows 0, 4, 8 and 12")
	a.op("MOVQ SI, R8")
	a.op("LEAQ (SI)(DX*4), R9")
	a.op("LEAQ (R9)(DX*4), R10")
	a.op("LEAQ (R10)(DX*4), R11")
	a.op("LEAQ (DX)(DX*2), R12")
	a.note("R13: the next panel's rows, one behind the other")
	a.op("LEAQ (R11)(DX*4), R13")
	switch order {
	case "Nibble":
		a.op("VPBROADCASTD %s, Z31", a.table32("mask0f0f0f0f", 0x0F0F0F0F, 0x0F0F0F0F))
		a.op("VPBROADCASTD %s, Z30", a.table32("nibblePairs", 0x10011001, 0x10011001))
		a.op("VBROADCASTI32X4 %s, Z29", a.tableBytes("nibbleOrder", 0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15))
	case "Byte":
		a.op("VBROADCASTI32X4 %s, Z29", a.tableBytes("byteOrder", 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15))
	case "Halves":
		a.op("VMOVDQU32 %s, Z29", a.table32("lowThenHigh", lowThenHigh()...))
	}
	a.countdown("CX", func() {
		a.nextRows()
		for i, at := range []string{"", "(DX*1)", "(DX*2)", "(R12*1)"} {
			a.op("VMOVDQU32 (R8)%s, X%d", at, i)
			a.op("VINSERTI32X4 $1, (R9)%s, Z%d, Z%d", at, i, i)
			a.op("VINSERTI32X4 $2, (R10)%s, Z%d, Z%d", at, i, i)
			a.op("VINSERTI32X4 $3, (R11)%s, Z%d, Z%d", at, i, i)
			switch order {
			case "Nibble":
				a.op("VPANDD Z31, Z%d, Z4", i)
				a.op("VPSRLW $4, Z%d, Z5", i)
				a.op("VPANDD Z31, Z5, Z5")
				a.op("VPMADDUBSW Z30, Z4, Z4")
				a.op("VPMADDUBSW Z30, Z5, Z5")
				a.op("VPACKUSWB Z5, Z4, Z%d", i)
				a.op("VPSHUFB Z29, Z%d, Z%d", i, i)
			case "Byte":
				a.op("VPSHUFB Z29, Z%d, Z%d", i, i)
			}
		}
		a.op("VPUNPCKLDQ Z1, Z0, Z4")
		a.op("VPUNPCKHDQ Z1, Z0, Z5")
		a.op("VPUNPCKLDQ Z3, Z2, Z6")
		a.op("VPUNPCKHDQ Z3, Z2, Z7")
		a.op("VPUNPCKLQDQ Z6, Z4, Z0")
		a.op("VPUNPCKHQDQ Z6, Z4, Z1")
		a.op("VPUNPCKLQDQ Z7, Z5, Z2")
		a.op("VPUNPCKHQDQ Z7, Z5, Z3")
		for i := range 4 {
			if order == "Halves" {
				a.op("VPERMW Z%d, Z29, Z%d", i, i)
			}
			a.op("VMOVDQU32 Z%d, %d(DI)", i, 64*i)
		}
		for _, r := range []string{"R8", "R9", "R10", "R11"} {
			a.op("ADDQ $16, %s", r)
		}
		a.op("ADDQ $256, DI")
	})
	a.ret()
}

// lowThenHigh are the places of the lower halves of 16 words, and then of the upper ones, two in each word.
func lowThenHigh() (places []uint32) {
	for i := range uint32(16) {
		first := 4*i%32 + i/8
		places = append(places, first|(first+2)<<16)
	}
	return places
}

// integerKernel is a product in whole numbers: VPDPWSSD of 16-bit vectors, or VPDPBUSD of 8-bit ones, summed up exactly over a segment, then scaled.
type integerKernel struct {
	codes
	scale
	tile  int
	width int // bytes of an activation
}

func (k integerKernel) funcName(level string) string {
	return fmt.Sprintf("mul%s%sX%dBy%d%s", k.codes.name, k.scale.name, 8*k.width, k.tile, level)
}

// fn begins the kernel of a level.
func (k integerKernel) fn(f *file, level string) *fn {
	return f.fn(k.funcName(level), fmt.Sprintf("multiplies a panel of %s codes and %s scales with a tile of %d vectors of %d-bit activations: see mulIntegers.", k.codes.name, k.scale.name, k.tile, 8*k.width),
		"dst *float32, stride int, panel *byte, x *byte, scales *float32, segments int, steps int")
}

// head is how many bytes of scales and biases stand before the codes of a segment.
func head(c codes, s scale) int {
	if c.biased {
		return 32 * s.bytes
	}
	return 16 * s.bytes
}

// columns of a word.
func (c codes) columns() int { return map[string]int{"Nibble": 8, "Mini": 8, "Byte": 4}[c.name] }

func (a *fn) integer(k integerKernel) {
	// chains of one vector: as many as keep two units busy for the five cycles that a product takes
	chains := map[int]int{1: 4, 4: 2, 8: 1, 12: 1}[k.tile]
	perStep := map[string]int{"Nibble": 4, "Mini": 4, "Byte": 2}[k.codes.name] * k.width / 2 // products of a vector and a step
	chains = min(chains, 2*perStep)
	acc := func(t, c int) string { return fmt.Sprintf("Z%d", t*chains+c) }
	total := func(t int) string { return fmt.Sprintf("Z%d", 12+t) }
	a.arg("dst", "DI")
	a.arg("stride", "DX")
	a.op("SHLQ $2, DX")
	a.arg("panel", "SI")
	a.arg("x", "R8")
	a.arg("scales", "R9")
	a.arg("segments", "CX")
	a.constants(k)
	a.note("Z12 and up: sums of rows, a vector each")
	for t := range k.tile {
		a.op("VPXORD %s, %s, %s", total(t), total(t), total(t))
	}
	a.countdown("CX", func() {
		for i := range k.tile * chains {
			a.op("VPXORD Z%d, Z%d, Z%d", i, i, i)
		}
		a.op("LEAQ %d(SI), R10", head(k.codes, k.scale))
		a.arg("steps", "AX")
		a.countdown("AX", func() {
			for s := range 2 {
				a.op("VMOVDQU32 %d(R10), Z24", 64*s)
				a.ahead(k.tile, 64*s)
				a.products(k, s*perStep, func(product int, operand string) {
					for t := range k.tile {
						from := fmt.Sprintf("%d(R8)", 4*((s*perStep+product)*k.tile+t))
						a.op("%s.BCST %s, %s, %s", map[int]string{1: "VPDPBUSD", 2: "VPDPWSSD"}[k.width], from, operand, acc(t, (s*perStep+product)%chains))
					}
				})
			}
			a.op("ADDQ $128, R10")
			a.op("ADDQ $%d, R8", 4*2*perStep*k.tile)
		})
		a.note("Z24: scales, Z25: biases")
		a.widen(k.scale, "Z24", "(SI)")
		if k.biased {
			a.widen(k.scale, "Z25", fmt.Sprintf("%d(SI)", 16*k.scale.bytes))
		}
		a.op("MOVQ R10, SI")
		for t := range k.tile {
			for c := 1; c < chains; c++ {
				a.op("VPADDD %s, %s, %s", acc(t, c), acc(t, 0), acc(t, 0))
			}
			scaled := fmt.Sprintf("Z%d", 26+t%3)
			a.op("VMULPS.BCST %d(R9), Z24, %s", 4*t, scaled)
			a.op("VCVTDQ2PS %s, %s", acc(t, 0), acc(t, 0))
			if k.biased {
				a.op("VFMADD231PS.BCST %d(R9), Z25, %s", 4*(k.tile+t), total(t))
			}
			a.op("VFMADD231PS %s, %s, %s", acc(t, 0), scaled, total(t))
		}
		a.op("ADDQ $%d, R9", 8*k.tile)
	})
	for t := range k.tile {
		a.op("VMOVUPS %s, (DI)", total(t))
		a.op("ADDQ DX, DI")
	}
	a.ret()
}

// prefetchAhead is how far before its use a panel is asked for, in bytes. Small tiles wait for memory, and one stream a core does not keep memory busy: on two cores of an Intel server CPU one text at 4 bits then makes
// 340 tokens a second instead of 190 (2 KiB: 280, 4 KiB: 330), and eight texts 780 instead of 610. Behind the last panel there may be nothing: a prefetch does not fault.
const prefetchAhead = 8192

// ahead asks for the words of a panel that are as far behind those at offset.
func (a *fn) ahead(tile, offset int) {
	if tile <= 8 {
		a.op("PREFETCHT0 %d(R10)", prefetchAhead+offset)
	}
}

// constants loads what splits codes: Z31 a mask, Z30 the values of codes that are not their own.
func (a *fn) constants(k integerKernel) {
	mask := map[string]map[int]uint32{"Nibble": {2: 0x000F000F, 1: 0x0F0F0F0F}, "Byte": {2: 0x00FF00FF}}[k.codes.name][k.width]
	if mask != 0 {
		a.op("VPBROADCASTD %s, Z31", a.table32(fmt.Sprintf("mask%08x", mask), mask, mask))
	}
	if k.codes.name == "Mini" {
		a.op("VMOVDQU32 %s, Z30", a.table("miniWords", miniWords()...))
	}
}

// miniWords are twice the values of E2M1 codes, as 16-bit words; twice 16 of them, because VPERMW looks at five bits.
func miniWords() (words []uint64) {
	values := [16]int16{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
	for i := 0; i < 32; i += 4 {
		var w uint64
		for j := range 4 {
			w |= uint64(uint16(values[(i+j)%16])) << (16 * j)
		}
		words = append(words, w)
	}
	return words
}

// products splits the codes in Z24 into operands, one after the other in Z25 to Z28, each to be multiplied with the activations that belong to it.
func (a *fn) products(k integerKernel, turn int, use func(product int, operand string)) {
	reg := func(i int) string { return fmt.Sprintf("Z%d", 25+(turn+i)%4) }
	switch {
	case k.codes.name == "Mini":
		for i := range 4 {
			from := "Z24"
			if i > 0 {
				a.op("VPSRLW $%d, Z24, %s", 4*i, reg(i))
				from = reg(i)
			}
			a.op("VPERMW Z30, %s, %s", from, reg(i))
			use(i, reg(i))
		}
	case k.codes.name == "Nibble" && k.width == 2:
		a.op("VPANDD Z31, Z24, %s", reg(0))
		use(0, reg(0))
		for i := 1; i < 4; i++ {
			a.op("VPSRLW $%d, Z24, %s", 4*i, reg(i))
			if i < 3 {
				a.op("VPANDD Z31, %s, %s", reg(i), reg(i))
			}
			use(i, reg(i))
		}
	case k.codes.name == "Nibble":
		a.op("VPANDD Z31, Z24, %s", reg(0))
		use(0, reg(0))
		a.op("VPSRLW $4, Z24, %s", reg(1))
		a.op("VPANDD Z31, %s, %s", reg(1), reg(1))
		use(1, reg(1))
	case k.width == 2:
		a.op("VPANDD Z31, Z24, %s", reg(0))
		use(0, reg(0))
		a.op("VPSRLW $8, Z24, %s", reg(1))
		use(1, reg(1))
	default:
		use(0, "Z24")
	}
}

// widen loads 16 scales as float32.
func (a *fn) widen(s scale, reg, from string) {
	switch s.name {
	case "BF16":
		a.op("VPMOVZXWD %s, %s", from, reg)
		a.op("VPSLLD $16, %s, %s", reg, reg)
	case "F16":
		a.op("VCVTPH2PS %s, %s", from, reg)
	default:
		a.op("VMOVUPS %s, %s", from, reg)
	}
}
