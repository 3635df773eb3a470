package main

import "fmt"

// halved is how kernels of AVX2 take panels. A register has the numbers of 8 rows, half of a panel; tiles of more than 4 leave room for one half only, so their kernels go through the panel twice, and BX says which half
// it is: 0 or 16. Registers are too few to keep both the sums of a segment and those of rows: the latter grow in dst, where each segment adds to them.
type halved struct{ shape }

func (p halved) halves() int {
	if p.tile > 4 {
		return 1
	}
	return 2
}

// acc are sums of a segment or a block.
func (p halved) acc(panel, h, t int) string {
	return fmt.Sprintf("Y%d", (panel*p.halves()+h)*p.tile+t)
}

// w and v are words of codes, or scales and biases; c is what is multiplied with activations, Y15. tmp is for products; that of the last half is Y15 itself.
func (p halved) w(h int) string { return p.reg(12, 8, h) }
func (p halved) v(h int) string { return p.reg(13, 10, h) }
func (p halved) c(h int) string { return p.reg(14, 12, h) }
func (p halved) tmp(h int) string {
	if h == p.halves()-1 {
		return "Y15"
	}
	return "Y14"
}

func (p halved) reg(ofOne, ofTwo, h int) string {
	if p.halves() == 1 {
		return fmt.Sprintf("Y%d", ofOne)
	}
	return fmt.Sprintf("Y%d", ofTwo+h)
}

// at addresses half h of 16 numbers of 2 or 4 bytes, which are offset bytes from a register.
func (p halved) at(base string, offset, bytes, h int) string {
	if p.halves() == 1 {
		return fmt.Sprintf("%d(%s)(BX*%d)", offset, base, bytes/2)
	}
	return fmt.Sprintf("%d(%s)", offset+8*bytes*h, base)
}

// passes repeats body for each half that is taken alone.
func (p halved) passes(a *fn, body func()) {
	if p.halves() == 2 {
		body()
		return
	}
	a.note("BX: where the half is, in bytes of 16 bits a row")
	a.op("XORL BX, BX")
	again := a.label("half")
	a.mark(again)
	body()
	a.op("ADDQ $16, BX")
	a.op("CMPQ BX, $32")
	a.op("JNE %s", again)
}

// totals calls body for each vector, with R11 pointing to the sums of rows.
func (p halved) totals(a *fn, body func(t int)) {
	a.op("MOVQ DI, R11")
	for t := range p.tile {
		body(t)
		if t < p.tile-1 {
			a.op("ADDQ DX, R11")
		}
	}
}

// total addresses what totals points to.
func (p halved) total(panel, h int) string { return p.at("R11", 64*panel, 4, h) }

// clear begins sums of rows with zeros.
func (p halved) clear(a *fn) {
	a.op("VPXOR Y15, Y15, Y15")
	p.totals(a, func(int) {
		for panel := range p.panels {
			for h := range p.halves() {
				a.op("VMOVUPS Y15, %s", p.total(panel, h))
			}
		}
	})
}

// zero begins sums of a segment.
func (p halved) zero(a *fn) {
	for i := range p.panels * p.halves() * p.tile {
		a.op("VPXOR Y%d, Y%d, Y%d", i, i, i)
	}
}

// heads loads scales into w and biases into v.
func (p halved) heads(a *fn, c codes, s scale, from func(h, offset int) string) {
	for h := range p.halves() {
		a.widenHalf(s, p.w(h), from(h, 0))
		if c.biased {
			a.widenHalf(s, p.v(h), from(h, 16*s.bytes))
		}
	}
}

// widenHalf loads 8 scales as float32.
func (a *fn) widenHalf(s scale, reg, from string) {
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

// eight is a table of 32 bytes that repeats a word.
func (a *fn) eight(name string, word uint32) string {
	return a.table32(fmt.Sprintf("%s%08x", name, word), word, word, word, word, word, word, word, word)
}

func panelAVX2() *file {
	f := newFile("internal/tensor", "panel_avx2", "amd64", importQuant)
	table := f.integers("AVX2", (*fn).integerAVX2)
	table = append(table, f.transposes("AVX2", f.transposeAVX2)...)
	f.setter("integersAVX2", "puts the kernels of this file into a table.", table)
	return f
}

// transposeAVX2 is transposeAVX512 for eight rows, and then for the other eight: a register has the words of rows 0 and 4 in its two parts, and of rows 8 and 12.
func (f *file) transposeAVX2(order string) {
	a := f.fn("transpose"+order+"AVX2", "puts 16 rows of words side by side: see transpose.", "dst *byte, src *byte, stride int, fours int")
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
		a.op("VMOVDQU %s, Y15", a.eight("mask", 0x0F0F0F0F))
		a.op("VMOVDQU %s, Y14", a.eight("nibblePairs", 0x10011001))
		a.op("VBROADCASTI128 %s, Y13", a.tableBytes("nibbleOrder", 0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15))
	case "Byte":
		a.op("VBROADCASTI128 %s, Y13", a.tableBytes("byteOrder", 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15))
	case "Halves":
		a.op("VBROADCASTI128 %s, Y13", a.tableBytes("lowThenHigh", 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15))
	}
	a.countdown("CX", func() {
		a.nextRows()
		for half, rows := range [2][2]string{{"R8", "R9"}, {"R10", "R11"}} {
			for i, at := range []string{"", "(DX*1)", "(DX*2)", "(R12*1)"} {
				a.op("VMOVDQU (%s)%s, X%d", rows[0], at, i)
				a.op("VINSERTI128 $1, (%s)%s, Y%d, Y%d", rows[1], at, i, i)
				switch order {
				case "Nibble":
					a.op("VPAND Y15, Y%d, Y4", i)
					a.op("VPSRLW $4, Y%d, Y5", i)
					a.op("VPAND Y15, Y5, Y5")
					a.op("VPMADDUBSW Y14, Y4, Y4")
					a.op("VPMADDUBSW Y14, Y5, Y5")
					a.op("VPACKUSWB Y5, Y4, Y%d", i)
					a.op("VPSHUFB Y13, Y%d, Y%d", i, i)
				case "Byte":
					a.op("VPSHUFB Y13, Y%d, Y%d", i, i)
				}
			}
			a.op("VPUNPCKLDQ Y1, Y0, Y4")
			a.op("VPUNPCKHDQ Y1, Y0, Y5")
			a.op("VPUNPCKLDQ Y3, Y2, Y6")
			a.op("VPUNPCKHDQ Y3, Y2, Y7")
			a.op("VPUNPCKLQDQ Y6, Y4, Y0")
			a.op("VPUNPCKHQDQ Y6, Y4, Y1")
			a.op("VPUNPCKLQDQ Y7, Y5, Y2")
			a.op("VPUNPCKHQDQ Y7, Y5, Y3")
			for i := range 4 {
				if order == "Halves" {
					a.op("VPSHUFB Y13, Y%d, Y%d", i, i)
					a.op("VPERMQ $0xD8, Y%d, Y%d", i, i)
					a.op("VMOVDQU X%d, %d(DI)", i, 64*i+16*half)
					a.op("VEXTRACTI128 $1, Y%d, %d(DI)", i, 64*i+16*half+32)
					continue
				}
				a.op("VMOVDQU Y%d, %d(DI)", i, 64*i+32*half)
			}
		}
		for _, r := range []string{"R8", "R9", "R10", "R11"} {
			a.op("ADDQ $16, %s", r)
		}
		a.op("ADDQ $256, DI")
	})
	a.ret()
}

// integerAVX2 is integer by VPMADDWD of 16-bit numbers, to which everything else is widened, and by VPMADDUBSW where the sum of two products fits 16 bits, as those of four-bit codes do.
func (a *fn) integerAVX2(k integerKernel) {
	p := halved{shape{1, k.tile}}
	a.arg("dst", "DI")
	a.arg("stride", "DX")
	a.op("SHLQ $2, DX")
	p.passes(a, func() {
		a.arg("panel", "SI")
		a.arg("x", "R8")
		a.arg("scales", "R9")
		a.arg("segments", "CX")
		p.clear(a)
		a.countdown("CX", func() {
			p.zero(a)
			a.op("LEAQ %d(SI), R10", head(k.codes, k.scale))
			a.arg("steps", "AX")
			if mask := k.mask(); mask != 0 {
				a.op("VMOVDQU %s, %s", a.eight("all", mask), p.v(0))
			}
			perWord := k.codes.columns() / 2 * k.width / 2 // products of a vector and a word
			a.countdown("AX", func() {
				for word := range 2 {
					for h := range p.halves() {
						a.op("VMOVDQU %s, %s", p.at("R10", 64*word, 4, h), p.w(h))
					}
					a.ahead(k.tile, 64*word)
					a.wordAVX2(k, p, func(product, t int) string { return fmt.Sprintf("%d(R8)", 4*((word*perWord+product)*k.tile+t)) })
				}
				a.op("ADDQ $128, R10")
				a.op("ADDQ $%d, R8", 4*2*perWord*k.tile)
			})
			a.note("%s: scales, %s: biases, %s: a sum of rows", p.w(0), p.v(0), p.c(0))
			p.heads(a, k.codes, k.scale, func(h, offset int) string { return p.at("SI", offset, k.scale.bytes, h) })
			p.totals(a, func(t int) {
				for h := range p.halves() {
					a.op("VMOVUPS %s, %s", p.total(0, h), p.c(h))
					a.op("VCVTDQ2PS %s, %s", p.acc(0, h, t), p.acc(0, h, t))
				}
				if k.biased {
					a.op("VBROADCASTSS %d(R9), Y15", 4*(k.tile+t))
					for h := range p.halves() {
						a.op("VFMADD231PS Y15, %s, %s", p.v(h), p.c(h))
					}
				}
				a.op("VBROADCASTSS %d(R9), Y15", 4*t)
				for h := range p.halves() {
					a.op("VMULPS Y15, %s, %s", p.w(h), p.tmp(h))
					a.op("VFMADD231PS %s, %s, %s", p.acc(0, h, t), p.tmp(h), p.c(h))
					a.op("VMOVUPS %s, %s", p.c(h), p.total(0, h))
				}
			})
			a.op("MOVQ R10, SI")
			a.op("ADDQ $%d, R9", 8*k.tile)
		})
	})
	a.ret()
}

// mask is what a kernel keeps in v.
func (k integerKernel) mask() uint32 {
	switch {
	case k.codes.name == "Byte":
		return 0x00FF00FF
	case k.codes.name == "Nibble" && k.width == 2:
		return 0x000F000F
	}
	return 0
}

// wordAVX2 multiplies the words in w with activations, whose places x knows.
func (a *fn) wordAVX2(k integerKernel, p halved, x func(product, t int) string) {
	each := func(f func(h int)) {
		for h := range p.halves() {
			f(h)
		}
	}
	// multiply adds the products of c, pairs of 16 bits, after prepare has made pairs of activations
	multiply := func(product int, prepare ...string) {
		for t := range p.tile {
			a.op("VPBROADCASTD %s, Y15", x(product, t))
			for _, op := range prepare {
				a.op("%s, Y15, Y15", op)
			}
			each(func(h int) {
				a.op("VPMADDWD Y15, %s, %s", p.c(h), p.tmp(h))
				a.op("VPADDD %s, %s, %s", p.tmp(h), p.acc(0, h, t), p.acc(0, h, t))
			})
		}
	}
	switch {
	case k.codes.name == "Mini":
		each(func(h int) {
			a.op("VMOVDQU %s, Y15", a.table("miniBytes", miniBytes()...))
			a.op("VPSRLW $4, %s, %s", p.w(h), p.v(h))
			for _, reg := range []string{p.w(h), p.v(h)} {
				a.op("VPAND %s, %s, %s", a.eight("all", 0x0F0F0F0F), reg, reg)
				a.op("VPSHUFB %s, Y15, %s", reg, reg)
			}
		})
		for product := range 4 {
			each(func(h int) {
				from := [2]string{p.w(h), p.v(h)}[product%2]
				if product < 2 {
					a.op("VPSLLW $8, %s, %s", from, p.c(h))
					from = p.c(h)
				}
				a.op("VPSRAW $8, %s, %s", from, p.c(h))
			})
			multiply(product)
		}
	case k.codes.name == "Nibble" && k.width == 2:
		for product := range 4 {
			each(func(h int) {
				from := p.w(h)
				if product > 0 {
					a.op("VPSRLW $%d, %s, %s", 4*product, from, p.c(h))
					from = p.c(h)
				}
				if product < 3 {
					a.op("VPAND %s, %s, %s", p.v(0), from, p.c(h))
				}
			})
			multiply(product)
		}
	case k.codes.name == "Nibble":
		each(func(h int) {
			a.op("VPSRLW $4, %s, %s", p.w(h), p.v(h))
			a.op("VPAND %s, %s, %s", a.eight("all", 0x0F0F0F0F), p.v(h), p.v(h))
			a.op("VPAND %s, %s, %s", a.eight("all", 0x0F0F0F0F), p.w(h), p.w(h))
		})
		for t := range p.tile {
			a.op("VPBROADCASTD %s, Y15", x(0, t))
			each(func(h int) { a.op("VPMADDUBSW Y15, %s, %s", p.w(h), p.c(h)) })
			a.op("VPBROADCASTD %s, Y15", x(1, t))
			each(func(h int) {
				a.op("VPMADDUBSW Y15, %s, %s", p.v(h), p.tmp(h))
				a.op("VPADDW %s, %s, %s", p.tmp(h), p.c(h), p.c(h))
				a.op("VPMADDWD %s, %s, %s", a.eight("all", 0x00010001), p.c(h), p.c(h))
				a.op("VPADDD %s, %s, %s", p.c(h), p.acc(0, h, t), p.acc(0, h, t))
			})
		}
	default: // bytes; activations of 8 bits are widened, as the sum of two products may not fit 16 bits
		first, second, secondAt := []string(nil), []string(nil), 1
		if k.width == 1 {
			first, second, secondAt = []string{"VPSLLW $8", "VPSRAW $8"}, []string{"VPSRAW $8"}, 0
		}
		each(func(h int) { a.op("VPAND %s, %s, %s", p.v(0), p.w(h), p.c(h)) })
		multiply(0, first...)
		each(func(h int) { a.op("VPSRLW $8, %s, %s", p.w(h), p.c(h)) })
		multiply(secondAt, second...)
	}
}

// miniBytes are twice the values of E2M1 codes, as bytes, once for each half of a register.
func miniBytes() []uint64 {
	var words [2]uint64
	for i, v := range []int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12} {
		words[i/8] |= uint64(uint8(v)) << (i % 8 * 8)
	}
	return []uint64{words[0], words[1], words[0], words[1]}
}
