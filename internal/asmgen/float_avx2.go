package main

import (
	"math"
)

func floatAVX2() *file {
	f := newFile("internal/tensor", "float_avx2", "amd64", importQuant)
	f.setter("floatsAVX2", "puts the kernels of this file into a table.", f.floats("AVX2", (*fn).floatAVX2, (*fn).plainFloatAVX2))
	return f
}

// floatArgsAVX2 loads what all kernels of floats have but once.
func (a *fn) floatArgsAVX2(k floatKernel) {
	a.arg("dst", "DI")
	a.arg("stride", "DX")
	a.op("SHLQ $2, DX")
	if k.panels > 1 {
		a.arg("panelStride", "R12")
		a.op("LEAQ (R12)(R12*2), R13")
	}
}

// panelAt addresses half h of 16 numbers of a panel; R12 is the stride of panels, R13 three times that.
func (p halved) panelAt(panel int, base string, offset, bytes, h int) string {
	return p.at(base, offset, bytes, h) + [4]string{"", "(R12*1)", "(R12*2)", "(R13*1)"}[panel]
}

// floatAVX2 is float for halves of panels.
func (a *fn) floatAVX2(k floatKernel) {
	p := halved{k.shape}
	a.floatArgsAVX2(k)
	a.arg("codes", "R14")
	p.passes(a, func() {
		a.arg("panel", "SI")
		a.arg("x", "R8")
		a.arg("sums", "R9")
		a.arg("segments", "CX")
		p.clear(a)
		a.countdown("CX", func() {
			p.zero(a)
			a.op("LEAQ %d(SI), R10", head(k.codes, k.scale))
			a.arg("words", "AX")
			a.countdown("AX", func() {
				for panel := range k.panels {
					for h := range p.halves() {
						a.op("VMOVDQU %s, %s", p.panelAt(panel, "R10", 0, 4, h), p.w(h))
						switch k.codes.name {
						case "Nibble":
							a.op("VPSRLD $12, %s, %s", p.w(h), p.v(h))
							a.op("VPSLLD $4, %s, %s", p.w(h), p.w(h))
						case "Byte":
							a.op("VPSRLD $16, %s, %s", p.w(h), p.v(h))
						}
					}
					for i := range k.columns() {
						for h := range p.halves() {
							a.codeAVX2(k, i, p.w(h), p.v(h), p.c(h))
						}
						a.fmaAVX2(p, panel, i)
					}
				}
				a.op("ADDQ $64, R10")
				a.op("ADDQ $%d, R8", 4*k.columns()*k.tile)
			})
			for panel := range k.panels {
				a.segmentAVX2(k, p, panel)
			}
			a.op("MOVQ R10, SI")
			if k.biased {
				a.op("ADDQ $%d, R9", 4*k.tile)
			}
		})
	})
	a.ret()
}

// segmentAVX2 adds a segment to the sums of rows.
func (a *fn) segmentAVX2(k floatKernel, p halved, panel int) {
	a.note("%s: scales, %s: biases, %s: a sum of rows", p.w(0), p.v(0), p.c(0))
	p.heads(a, k.codes, k.scale, func(h, offset int) string { return p.panelAt(panel, "SI", offset, k.scale.bytes, h) })
	if k.biased {
		a.op("VBROADCASTSS %d(R14), Y15", 4*16)
		for h := range p.halves() {
			a.op("VFMADD231PS Y15, %s, %s", p.w(h), p.v(h))
		}
	}
	p.totals(a, func(t int) {
		if k.biased {
			a.op("VBROADCASTSS %d(R9), Y15", 4*t)
		}
		for h := range p.halves() {
			a.op("VMOVUPS %s, %s", p.total(panel, h), p.c(h))
			if k.biased {
				a.op("VFMADD231PS Y15, %s, %s", p.v(h), p.c(h))
			}
			a.op("VFMADD231PS %s, %s, %s", p.acc(panel, h, t), p.w(h), p.c(h))
			a.op("VMOVUPS %s, %s", p.c(h), p.total(panel, h))
		}
	})
}

// fmaAVX2 adds the weights in c times the activations of column i of every vector.
func (a *fn) fmaAVX2(p halved, panel, i int) {
	for t := range p.tile {
		a.op("VBROADCASTSS %d(R8), Y15", 4*(i*p.tile+t))
		for h := range p.halves() {
			a.op("VFMADD231PS Y15, %s, %s", p.c(h), p.acc(panel, h, t))
		}
	}
}

// codeAVX2 makes weights of code i of words. low has the words, of nibbles moved up by four bits, as a centre of a half needs one bit more; high has the upper halves of them in the same places, or is free.
func (a *fn) codeAVX2(k floatKernel, i int, low, high, to string) {
	if k.codes.name == "Mini" {
		shift := [8]int{0, 16, 4, 20, 8, 24, 12, 28}[i]
		index := low // VPERMPS looks at three bits, the magnitude
		if shift > 0 {
			a.op("VPSRLD $%d, %s, %s", shift, low, to)
			index = to
		}
		a.op("VPSLLD $%d, %s, %s", 28-shift, low, high)
		a.op("VPERMPS %s, %s, %s", a.table32("magnitudes", magnitudes()...), index, to)
		a.op("VPAND %s, %s, %s", a.eight("all", 1<<31), high, high)
		a.op("VPOR %s, %s, %s", high, to, to)
		return
	}
	// a code that stays where it is, in a float32 whose exponent makes its lowest bit 1; the table at R14 has that and the centre, to be subtracted
	from, at, mask := [2]string{low, high}[i%2], 4+i/2*4, uint32(15)
	if k.codes.name == "Byte" {
		at, mask = i/2*8, 255
	}
	one := math.Float32bits(float32(int(1) << (23 - at)))
	a.op("VPAND %s, %s, %s", a.eight("all", mask<<at), from, to)
	a.op("VPOR %s, %s, %s", a.eight("all", one), to, to)
	a.op("VBROADCASTSS %d(R14), Y15", 4*(17+at/4))
	a.op("VSUBPS Y15, %s, %s", to, to)
}

func magnitudes() (words []uint32) {
	for _, v := range []float32{0, 1, 2, 3, 4, 6, 8, 12} {
		words = append(words, math.Float32bits(v))
	}
	return words
}

// plainFloatAVX2 is plainFloat for halves of panels.
func (a *fn) plainFloatAVX2(k floatKernel) {
	p := halved{k.shape}
	a.floatArgsAVX2(k)
	p.passes(a, func() {
		a.arg("panel", "SI")
		a.arg("x", "R8")
		a.arg("steps", "CX")
		p.clear(a)
		block := a.label("block")
		a.mark(block)
		p.zero(a)
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
				for panel := range k.panels {
					for h := range p.halves() {
						a.weightAVX2(k, p, panel, i, h)
					}
					a.fmaAVX2(p, panel, i)
				}
			}
			a.op("ADDQ $%d, SI", k.stepBytes())
			a.op("ADDQ $%d, R8", 16*k.tile)
		})
		for panel := range k.panels {
			p.totals(a, func(t int) {
				for h := range p.halves() {
					a.op("VADDPS %s, %s, %s", p.total(panel, h), p.acc(panel, h, t), p.c(h))
					a.op("VMOVUPS %s, %s", p.c(h), p.total(panel, h))
				}
			})
		}
		a.op("TESTQ CX, CX")
		a.op("JNZ %s", block)
	})
	a.ret()
}

// weightAVX2 loads weights of column i of a step of four.
func (a *fn) weightAVX2(k floatKernel, p halved, panel, i, h int) {
	switch k.codes.name {
	case "Wide":
		a.op("VMOVUPS %s, %s", p.panelAt(panel, "SI", 64*i, 4, h), p.c(h))
		return
	case "HalvesF16":
		a.op("VCVTPH2PS %s, %s", p.panelAt(panel, "SI", 32*i, 2, h), p.c(h))
		return
	case "QuartersE4M3":
		half := "X" + p.c(h)[1:]
		a.op("VMOVDQU %s, %s", p.panelAt(panel, "SI", i/2*32, 2, h), half)
		if i%2 == 0 {
			a.op("VPSLLW $8, %s, %s", half, half)
		}
		a.op("VPSRAW $1, %s, %s", half, half)
		a.op("VPAND %s, %s, %s", a.eight("all", halfOfE4M3), half, half)
		a.op("VCVTPH2PS %s, %s", half, p.c(h))
		a.op("VMULPS %s, %s, %s", p.panelAt(panel, "R10", 0, 4, h), p.c(h), p.c(h))
		return
	}
	a.op("VMOVDQU %s, %s", p.panelAt(panel, "SI", i/2*64, 4, h), p.c(h))
	if i%2 == 0 {
		a.op("VPSLLD $16, %s, %s", p.c(h), p.c(h))
	} else {
		a.op("VPAND %s, %s, %s", a.eight("all", 0xFFFF0000), p.c(h), p.c(h))
	}
}
