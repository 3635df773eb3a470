package main

import "fmt"

// What makes tiles of integers of activations: internal/tensor's seal.go has the references.

func (f *file) sealing() {
	f.largest64()
	f.round64()
	f.packWords()
	f.packNibbles()
	f.packOctets()
	f.turnFour("turnFloats", "float32")
	f.turnFour("turnBytes", "byte")
}

// largest64 is the largest of 64 magnitudes, as bits.
func (f *file) largest64() {
	a := f.fn("largest64AVX2", "is the bits of the largest of 64 magnitudes: see integersOf.", "x *float32", "bits uint32")
	a.arg("x", "SI")
	a.op("VPCMPEQD Y1, Y1, Y1")
	a.op("VPSRLD $1, Y1, Y1")
	a.op("VPAND (SI), Y1, Y0")
	for i := 1; i < 8; i++ {
		a.op("VPAND %d(SI), Y1, Y2", 32*i)
		a.op("VPMAXUD Y2, Y0, Y0")
	}
	a.op("VEXTRACTI128 $1, Y0, X2")
	a.op("VPMAXUD X2, X0, X0")
	for _, lanes := range []int{0x4E, 0xB1} { // two apart, then one
		a.op("VPSHUFD $0x%02X, X0, X2", lanes)
		a.op("VPMAXUD X2, X0, X0")
	}
	a.op("VMOVD X0, AX")
	a.op("MOVL AX, %s", a.at("bits"))
	a.ret()
}

// round64 rounds to nearest, ties to even, as the processor's mode is.
func (f *file) round64() {
	a := f.fn("round64AVX2", "makes whole numbers of 64 products with inverse, and their sums by 16: see integersOf.", "q *int32, sums *int32, x *float32, inverse float32")
	a.arg("q", "DI")
	a.arg("sums", "DX")
	a.arg("x", "SI")
	a.op("VBROADCASTSS %s, Y15", a.at("inverse"))
	a.note("Y0 to Y3: sums of 16, eight lanes each")
	for i := range 8 {
		to := fmt.Sprintf("Y%d", 4+i%2)
		a.op("VMULPS %d(SI), Y15, %s", 32*i, to)
		a.op("VCVTPS2DQ %s, %s", to, to)
		a.op("VMOVDQU %s, %d(DI)", to, 32*i)
		if i%2 == 1 {
			a.op("VPADDD Y5, Y4, Y%d", i/2)
		}
	}
	a.op("VPHADDD Y1, Y0, Y0")
	a.op("VPHADDD Y3, Y2, Y2")
	a.op("VPHADDD Y2, Y0, Y0")
	a.op("VEXTRACTI128 $1, Y0, X1")
	a.op("VPADDD X1, X0, X0")
	a.op("VMOVDQU X0, (DX)")
	a.ret()
}

const packList = "dst *byte, q *int32"

// packWords narrows in halves of registers, which are put in order again.
func (f *file) packWords() {
	a := f.fn("packWordsAVX2", "writes 64 integers as 16-bit ones: see pack.", packList)
	a.arg("dst", "DI")
	a.arg("q", "SI")
	for i := range 4 {
		a.op("VMOVDQU %d(SI), Y%d", 64*i, i)
		a.op("VPACKSSDW %d(SI), Y%d, Y%d", 64*i+32, i, i)
		a.op("VPERMQ $0xD8, Y%d, Y%d", i, i)
		a.op("VMOVDQU Y%d, %d(DI)", i, 32*i)
	}
	a.ret()
}

// narrow32 narrows 32 integers at SI to bytes: columns 0-3, 8-11, 16-19, 24-27 and 4-7, 12-15, 20-23, 28-31.
func (a *fn) narrow32(at int, reg string) {
	for i := range 2 {
		a.op("VMOVDQU %d(SI), Y%d", at+64*i, 14+i)
		a.op("VPACKSSDW %d(SI), Y%d, Y%d", at+64*i+32, 14+i, 14+i)
	}
	a.op("VPACKSSWB Y15, Y14, %s", reg)
}

// packNibbles unpacks the halves into each other: columns 0, 4, 1, 5, 2, 6, 3, 7 of every eight.
func (f *file) packNibbles() {
	a := f.fn("packNibblesAVX2", "writes 64 integers as 8-bit ones in the order of nibbles: see pack.", packList)
	a.arg("dst", "DI")
	a.arg("q", "SI")
	for i := range 2 {
		a.narrow32(128*i, "Y0")
		a.op("VEXTRACTI128 $1, Y0, X1")
		a.op("VPUNPCKLBW X1, X0, X2")
		a.op("VPUNPCKHBW X1, X0, X3")
		a.op("VMOVDQU X2, %d(DI)", 32*i)
		a.op("VMOVDQU X3, %d(DI)", 32*i+16)
	}
	a.ret()
}

// packOctets puts fours in order, and then columns 0, 2, 1, 3 of each.
func (f *file) packOctets() {
	a := f.fn("packOctetsAVX2", "writes 64 integers as 8-bit ones in the order of octets: see pack.", packList)
	a.arg("dst", "DI")
	a.arg("q", "SI")
	a.op("VMOVDQU %s, Y4", a.table32("fours", 0, 4, 1, 5, 2, 6, 3, 7))
	order := []byte{0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15}
	a.op("VMOVDQU %s, Y5", a.tableBytes("octets", append(order, order...)...))
	for i := range 2 {
		a.narrow32(128*i, "Y0")
		a.op("VPERMD Y0, Y4, Y0")
		a.op("VPSHUFB Y5, Y0, Y0")
		a.op("VMOVDQU Y0, %d(DI)", 32*i)
	}
	a.ret()
}

// turnFour turns blocks of eight columns about in two rounds of unpacking, in both halves of registers: column 0 stands beside column 4 then.
func (f *file) turnFour(name, typ string) {
	list := fmt.Sprintf("dst *%[1]s, stride int, a *%[1]s, b *%[1]s, c *%[1]s, d *%[1]s, eights int", typ)
	a := f.fn(name+"AVX2", "writes four rows of words as columns, stride bytes apart: see "+name+".", list)
	a.arg("dst", "DI")
	a.arg("stride", "DX")
	rows := []string{"R8", "R9", "R10", "R11"}
	for i, r := range rows {
		a.arg(string("abcd"[i]), r)
	}
	a.arg("eights", "CX")
	a.op("LEAQ (DX)(DX*2), R12")
	a.op("LEAQ (DI)(DX*4), SI")
	a.countdown("CX", func() {
		for i, r := range rows {
			a.op("VMOVUPS (%s), Y%d", r, i)
			a.op("ADDQ $32, %s", r)
		}
		for i, in := range [][2]int{{0, 1}, {2, 3}} {
			a.op("VUNPCKLPS Y%d, Y%d, Y%d", in[1], in[0], 4+2*i)
			a.op("VUNPCKHPS Y%d, Y%d, Y%d", in[1], in[0], 5+2*i)
		}
		a.op("VUNPCKLPD Y6, Y4, Y0")
		a.op("VUNPCKHPD Y6, Y4, Y1")
		a.op("VUNPCKLPD Y7, Y5, Y2")
		a.op("VUNPCKHPD Y7, Y5, Y3")
		for i, at := range []string{"", "(DX*1)", "(DX*2)", "(R12*1)"} {
			a.op("VMOVUPS X%d, (DI)%s", i, at)
			a.op("VEXTRACTF128 $1, Y%d, (SI)%s", i, at)
		}
		a.op("LEAQ (DI)(DX*8), DI")
		a.op("LEAQ (SI)(DX*8), SI")
	})
	a.ret()
}
