package main

import "fmt"

// The loops of internal/bandwidth: they read memory and do no more with it than they must, so that nothing but memory holds them up. In two threads of a Xeon (Emerald Rapids) they read 34.8 GB/s (AVX-512) and 33.7 (AVX2),
// where a loop in C reads 34.8 and plain Go 16.7.

// readBlock is what a step of a loop reads, in four registers of 64 bytes or eight of 32; readAhead is how far ahead it asks.
const readBlock, readAhead = 256, 4096

// What each of them is to Go.
const foldDoc, foldParams, foldResult = "is the exclusive or of all words of blocks of 256 bytes.", "src *byte, blocks int", "word uint64"

func bandwidthAMD64(wide bool) *file {
	name := "read_avx2"
	if wide {
		name = "read_avx512"
	}
	f := newFile("internal/bandwidth", name, "amd64", "")
	v := f.vecFn(wide, "fold", foldDoc, foldParams, foldResult)
	v.arg("src", "SI")
	v.arg("blocks", "CX")
	width := 4 * v.lanes()
	count := readBlock / width
	for r := range count {
		v.zero(r)
	}
	v.countdown("CX", func() {
		for line := 0; line < readBlock; line += 64 {
			v.op("PREFETCHT0 %d(SI)", readAhead+line)
		}
		for r := range count {
			v.do(v.pick("VPXORD", "VPXOR"), fmt.Sprintf("%d(SI)", r*width), r, r)
		}
		v.op("ADDQ $%d, SI", readBlock)
	})
	v.foldWords(count)
	v.op("MOVQ AX, %s", v.at("word"))
	v.ret()
	return f
}

// foldWords mixes the words of the first registers into AX.
func (v vec) foldWords(count int) {
	for r := 1; r < count; r++ {
		v.xor(r, 0, 0)
	}
	if v.wide {
		v.op("VEXTRACTI64X4 $1, Z0, Y1")
		v.op("VPXOR Y1, Y0, Y0")
	}
	v.op("VEXTRACTI128 $1, Y0, X1")
	v.op("VPXOR X1, X0, X0")
	v.op("VMOVQ X0, AX")
	v.op("VPEXTRQ $1, X0, DX")
	v.op("XORQ DX, AX")
}

// bandwidthNEON has not been timed on a processor: it was tested in an emulator alone.
func bandwidthNEON() *file {
	f := newFile("internal/bandwidth", "read_neon", "arm64", "")
	a := f.fn("foldNEON", foldDoc, foldParams, foldResult)
	a.argsNEON("src", "blocks")
	const count = readBlock / 16
	for r := range count {
		a.movi8(r, 0)
	}
	a.loop("R1", func() {
		for line := 0; line < readBlock; line += 64 {
			a.op("PRFM %d(R0), PLDL1KEEP", readAhead+line)
		}
		for r := 0; r < count; r += 4 {
			a.load64("R0", 16)
			for i := range 4 {
				a.v("eor", "16b", r+i, r+i, 16+i)
			}
		}
	})
	for r := 1; r < count; r++ {
		a.v("eor", "16b", 0, 0, r)
	}
	a.op("VMOV V0.D[0], R2")
	a.op("VMOV V0.D[1], R3")
	a.op("EOR R3, R2, R2")
	a.op("MOVD R2, %s", a.at("word"))
	a.op("RET")
	return f
}
