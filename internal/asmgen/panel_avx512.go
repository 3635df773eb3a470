package main

import "fmt"

// A panel kernel multiplies a panel, 16 rows of a matrix that lie side by side, with a tile of vectors. internal/tensor/panel.go says how both lie in memory and in what order sums are made; the
// references beside it are the same, plainly. A register has one number of each of the 16 rows.

// scale is how the scales and biases of a panel are stored.
type scale struct {
	name  string
	bytes int // of one
}

var scales = []scale{{"BF16", 2}, {"F16", 2}, {"F32", 4}}

// tiles are the numbers of vectors that kernels are written for.
var tiles = []int{1, 4, 12}

// codes are the ways in which weights lie in a panel.
type codes struct {
	name   string
	biased bool
}

func panelAVX512() *file {
	f := newFile("internal/tensor", "panel_avx512", "amd64", "")
	for _, s := range scales {
		for _, t := range tiles {
			f.integer(integerKernel{codes{"Nibble", true}, s, t, 2})
			f.integer(integerKernel{codes{"Byte", true}, s, t, 2})
			f.integer(integerKernel{codes{"Nibble", true}, s, t, 1})
			f.integer(integerKernel{codes{"Byte", true}, s, t, 1})
		}
	}
	for _, t := range tiles {
		f.integer(integerKernel{codes{"Mini", false}, scales[0], t, 2})
	}
	return f
}

// integerKernel is a product in whole numbers: VPDPWSSD of 16-bit vectors, or VPDPBUSD of 8-bit ones, summed up exactly over a segment, then scaled.
type integerKernel struct {
	codes
	scale
	tile  int
	width int // bytes of an activation
}

func (k integerKernel) funcName() string {
	return fmt.Sprintf("mul%s%sX%dBy%dAVX512", k.codes.name, k.scale.name, 8*k.width, k.tile)
}

func (f *file) integer(k integerKernel) {
	a := f.fn(k.funcName(), fmt.Sprintf("multiplies a panel of %s codes and %s scales with a tile of %d vectors of %d-bit activations: see mulIntegers.", k.codes.name, k.scale.name, k.tile, 8*k.width),
		"dst *float32, stride int, panel *byte, x *byte, scales *float32, segments int, steps int")
	// chains of one vector: as many as keep two units busy for the five cycles that a product takes
	chains := map[int]int{1: 4, 4: 2, 12: 1}[k.tile]
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
		head := 32 * k.scale.bytes
		if !k.biased {
			head /= 2
		}
		a.op("LEAQ %d(SI), R10", head)
		a.arg("steps", "AX")
		a.countdown("AX", func() {
			for s := range 2 {
				a.op("VMOVDQU32 %d(R10), Z24", 64*s)
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
