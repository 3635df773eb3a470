package main

import (
	"fmt"
	"slices"
)

// pack puts codes together, 64 at a time: neighbours are joined by multiplying the second with a power of two and adding, to words, to 32 and to 64 bits, until a lane has whole bytes of them,
// which are then moved to the front. Intervals of E2M1 are looked up before.
func (f *file) pack(wide bool, bits int, intervals bool) {
	name, doc := fmt.Sprintf("pack%d", bits), fmt.Sprintf("packs codes of %d bits: see kernels.pack.", bits)
	if intervals {
		name, doc = "packE2M1", "looks intervals up and packs the codes: see kernels.packE2M1."
	}
	v := f.vecFn(wide, name, doc, "dst *byte, codes *byte, blocks int")
	const codes, most, pairs, fours, eights, gather = 0, 8, 9, 10, 11, 12
	lane := laneOf(bits)
	bytes := lane * bits / 8 // of a lane of that many codes
	v.arg("dst", "DI")
	v.arg("codes", "SI")
	v.arg("blocks", "CX")
	v.constant((1<<bits-1)*0x01010101, most)
	v.constant(0x00010001|0x01000100<<bits, pairs)
	if lane >= 4 {
		v.constant(1|1<<(16+2*bits), fours)
	}
	if lane == 8 {
		v.do("VPBROADCASTQ", v.table(fmt.Sprintf("up%d", bits), uint64(32-4*bits)), eights)
	}
	v.load(f.gatherTable(v, lane, bytes), gather)
	if intervals {
		v.lookUpConstants()
	}
	if wide && bits > 2 && bits != 4 {
		v.op("MOVQ $0x%x, AX", uint64(1)<<(8*bits)-1)
		v.op("KMOVQ AX, K1")
	}
	width := 4 * v.lanes()
	v.countdown("CX", func() {
		for at := 0; at < 64; at += width {
			v.load(fmt.Sprintf("%d(SI)", at), codes)
			if intervals {
				v.lookUp(codes)
			} else {
				v.do("VPMINUB", most, codes, codes)
			}
			v.do("VPMADDUBSW", pairs, codes, codes)
			if lane >= 4 {
				v.do("VPMADDWD", fours, codes, codes)
			}
			if lane == 8 {
				v.do("VPSLLVD", eights, codes, codes)
				v.do("VPSRLQ", fmt.Sprintf("$%d", 32-4*bits), codes, codes)
			}
			v.storeGathered(codes, gather, bytes*width/lane, at*bits/8)
		}
		v.op("ADDQ $64, SI")
		v.op("ADDQ $%d, DI", 8*bits)
	})
	v.ret()
}

// laneOf is how many codes it takes to fill whole bytes: two, four or eight.
func laneOf(bits int) int {
	for _, n := range []int{2, 4} {
		if n*bits%8 == 0 {
			return n
		}
	}
	return 8
}

// gatherTable moves the first bytes of each lane of codes together: through all of a wide register, else in each half.
func (f *file) gatherTable(v vec, lane, bytes int) string {
	reach := 16
	if v.wide {
		reach = 64
	}
	var index []byte
	for l := 0; l < reach; l += lane {
		for b := range bytes {
			index = append(index, byte(l+b))
		}
	}
	index = append(index, slices.Repeat([]byte{0x80}, reach-len(index))...)
	if !v.wide {
		index = append(index, index...)
	}
	return f.tableBytes(fmt.Sprintf("gather%dOf%d", bytes, lane), index...)
}

// storeGathered stores exactly n bytes, for which a wide register may have a mask in K1.
func (v vec) storeGathered(r, gather, n, disp int) {
	if v.wide {
		v.do("VPERMB", r, gather, r)
		switch n {
		case 8:
			v.op("VMOVQ X%d, %d(DI)", r, disp)
		case 16:
			v.op("VMOVDQU X%d, %d(DI)", r, disp)
		case 32:
			v.op("VMOVDQU Y%d, %d(DI)", r, disp)
		default:
			v.op("VMOVDQU8 Z%d, K1, %d(DI)", r, disp)
		}
		return
	}
	v.do("VPSHUFB", gather, r, r)
	for half := range 2 {
		if half == 1 {
			v.op("VEXTRACTI128 $1, Y%d, X%d", r, r)
		}
		v.storeLow(r, n/2, disp+half*n/2)
	}
}

// storeLow stores the lowest n bytes of an X register.
func (v vec) storeLow(r, n, disp int) {
	at := 0
	if n >= 8 {
		v.op("VMOVQ X%d, %d(DI)", r, disp)
		at = 8
	}
	if n-at >= 4 {
		v.op("VPEXTRD $%d, X%d, %d(DI)", at/4, r, disp+at)
		at += 4
	}
	if n-at >= 2 {
		v.op("VPEXTRW $%d, X%d, %d(DI)", at/2, r, disp+at)
	}
}

// e2m1 is e2m1Codes of internal/quant: the codes of intervals, those of the other sign from 32 on.
func e2m1(interval int) byte {
	borders := []int{1, 7, 10, 12, 14, 16, 18} // where codes 1 to 7 begin
	code := byte(0)
	for _, b := range borders {
		if interval%32 >= b {
			code++
		}
	}
	if code > 0 && interval >= 32 {
		code |= 8
	}
	return code
}

// look are the registers of lookUp, beside those of pack.
var look = struct{ code, magnitude, sign, above, signBit, seventeen, table, fifteen, magnitudeBits int }{1, 2, 3, 4, 5, 6, 13, 14, 15}

// lookUpConstants loads the table; AVX2 looks at 16 bytes only.
func (v vec) lookUpConstants() {
	var codes []byte
	for i := range 64 {
		codes = append(codes, e2m1(i))
	}
	if v.wide {
		v.load(v.tableBytes("e2m1", codes...), look.table)
		return
	}
	v.load(v.tableBytes("e2m1", slices.Concat(codes[:16], codes[:16])...), look.table)
	v.constant(0x0F0F0F0F, look.fifteen)
	v.constant(0x11111111, look.seventeen)
	v.constant(0x1F1F1F1F, look.magnitudeBits)
	v.constant(0x20202020, look.signBit)
}

// lookUp replaces intervals by codes.
func (v vec) lookUp(r int) {
	if v.wide {
		v.do("VPERMB", look.table, r, r)
		return
	}
	v.note("intervals 16 and 17 are code 6, those above code 7")
	v.do("VPAND", look.magnitudeBits, r, look.magnitude)
	v.do("VPMINUB", look.fifteen, look.magnitude, look.code)
	v.do("VPSHUFB", look.code, look.table, look.code)
	for _, most := range []int{look.fifteen, look.seventeen} {
		v.do("VPCMPGTB", most, look.magnitude, look.above)
		v.do("VPSUBB", look.above, look.code, look.code)
	}
	v.note("the sign becomes bit 3, but code 0 has none")
	v.do("VPAND", look.signBit, r, look.sign)
	v.do("VPSRLW", "$2", look.sign, look.sign)
	v.zero(look.above)
	v.do("VPCMPGTB", look.above, look.code, look.above)
	v.do("VPAND", look.above, look.sign, look.sign)
	v.do("VPOR", look.sign, look.code, r)
}
