package main

import (
	"fmt"
	"slices"
)

// apart addresses four registers from r on whose bytes alternate in memory.
func apart(r int) string {
	return fmt.Sprintf("[V%d.B16, V%d.B16, V%d.B16, V%d.B16]", r, r+1, r+2, r+3)
}

// packNEON puts 64 codes together. They are loaded into four registers, each of which has every fourth, so that those that meet in a byte stand in the same place of different registers.
func (f *file) packNEON(bits int, intervals bool) {
	name, doc := fmt.Sprintf("pack%d", bits), fmt.Sprintf("packs codes of %d bits: see kernels.pack.", bits)
	if intervals {
		name, doc = "packE2M1", "looks intervals up and packs the codes: see kernels.packE2M1."
	}
	a := f.fn(name+"NEON", doc, "dst *byte, codes *byte, blocks int")
	const codes, most, table = 0, 16, 20
	a.argsNEON("dst", "codes", "blocks")
	if intervals {
		var all []byte
		for i := range 64 {
			all = append(all, e2m1(i))
		}
		a.tableNEON(table, "e2m1", all...)
	} else {
		a.movi8(most, 1<<bits-1)
	}
	if bits == 5 {
		a.fiveTable(table)
	}
	a.loop("R2", func() {
		if bits == 5 {
			a.load64("R1", codes)
		} else {
			a.op("VLD4.P 64(R1), %s", apart(codes))
		}
		for r := codes; r < codes+4; r++ {
			if intervals {
				a.tbl(r, table, 4, r)
			} else {
				a.v("umin", "16b", r, r, most)
			}
		}
		a.packed(bits, table)
	})
	a.op("RET")
}

// packed packs what packNEON has loaded and stores it.
func (a *fn) packed(bits, table int) {
	switch bits {
	case 1:
		for r := 1; r < 4; r++ {
			a.shift("sli", "16b", 0, r, r)
		}
		a.v("uzp2", "16b", 1, 0, 0)
		a.v("uzp1", "16b", 0, 0, 0)
		a.shift("sli", "16b", 0, 1, 4)
		a.op("FMOVD.P F0, 8(R0)")
	case 2:
		for r := 1; r < 4; r++ {
			a.shift("sli", "16b", 0, r, 2*r)
		}
		a.op("FMOVQ.P F0, 16(R0)")
	case 3:
		a.note("two codes are one of 6 bits, of which V0 and V2 have every second; then V4 to V7 have every fourth")
		a.shift("sli", "16b", 0, 1, 3)
		a.shift("sli", "16b", 2, 3, 3)
		for i, from := range []int{0, 2} {
			a.v("uzp1", "16b", 4+i, from, from)
			a.v("uzp2", "16b", 6+i, from, from)
		}
		a.threeOfFour(4)
		a.op("VST3.P [V4.B8, V5.B8, V6.B8], 24(R0)")
	case 4:
		a.shift("sli", "16b", 0, 1, 4)
		a.shift("sli", "16b", 2, 3, 4)
		a.move(1, 2)
		a.op("VST2.P [V0.B16, V1.B16], 32(R0)")
	case 5:
		a.note("neighbours join, up to eight codes, of 40 bits, in a lane of 64; then the empty bytes go")
		for r := range 4 {
			for i, lanes := range []string{"8h", "4s", "2d"} {
				a.shift("ushr", lanes, 4+r, r, 8<<i)
				a.shift("sli", lanes, r, 4+r, 5<<i)
			}
		}
		for i := range 3 {
			a.tbl(4+i, 0, 4, table+i)
		}
		a.op("VST1.P [V4.B16, V5.B16], 32(R0)")
		a.op("FMOVD.P F6, 8(R0)")
	case 6:
		a.threeOfFour(0)
		a.op("VST3.P [V0.B16, V1.B16, V2.B16], 48(R0)")
	}
}

// threeOfFour makes three bytes of four codes of 6 bits, in registers from r on.
func (a *fn) threeOfFour(r int) {
	a.shift("sli", "16b", r, r+1, 6)
	a.shift("ushr", "16b", r+1, r+1, 2)
	a.shift("sli", "16b", r+1, r+2, 4)
	a.shift("ushr", "16b", r+2, r+2, 4)
	a.shift("sli", "16b", r+2, r+3, 2)
}

// fourOfThree is the other way, from registers b on into registers from r on; those of six are a mask of 6 bits.
func (a *fn) fourOfThree(r, b, six int) {
	a.v("and", "16b", r, b, six)
	a.shift("ushr", "16b", r+1, b, 6)
	a.shift("sli", "16b", r+1, b+1, 2)
	a.v("and", "16b", r+1, r+1, six)
	a.shift("ushr", "16b", r+2, b+1, 4)
	a.shift("sli", "16b", r+2, b+2, 4)
	a.v("and", "16b", r+2, r+2, six)
	a.shift("ushr", "16b", r+3, b+2, 2)
}

// fiveTable says where in 64 bytes the first five of every eight are.
func (a *fn) fiveTable(d int) {
	var index []byte
	for i := range 40 {
		index = append(index, byte(i/5*8+i%5))
	}
	a.tableNEON(d, "fiveOfEight", append(index, slices.Repeat([]byte{0xFF}, 8)...)...)
}

// unpackNEON takes 64 codes apart, the other way.
func (f *file) unpackNEON(bits int) {
	a := f.fn(fmt.Sprintf("unpack%dNEON", bits), fmt.Sprintf("unpacks codes of %d bits: see kernels.unpack.", bits), "codes *byte, packed *byte, blocks int")
	const own = 16
	a.argsNEON("codes", "packed", "blocks")
	a.movi8(own, 1<<bits-1)
	if bits == 5 {
		a.loop("R2", a.unpackFives(own))
		a.op("RET")
		return
	}
	if bits == 1 {
		a.movi8(17, 15)
	}
	if bits == 3 {
		a.movi8(17, 63)
	}
	a.loop("R2", func() {
		switch bits {
		case 1:
			a.op("FMOVD.P 8(R1), F4")
			a.shift("ushr", "16b", 5, 4, 4)
			a.v("and", "16b", 4, 4, 17)
			a.v("zip1", "16b", 4, 4, 5)
			a.spread(4, bits, own)
		case 2:
			a.op("FMOVQ.P 16(R1), F4")
			a.spread(4, bits, own)
		case 3:
			a.note("codes of 6 bits are two; V0 has the first and the third of four")
			a.op("VLD3.P 24(R1), [V4.B8, V5.B8, V6.B8]")
			a.fourOfThree(20, 4, 17)
			a.v("zip1", "16b", 0, 20, 22)
			a.v("zip1", "16b", 2, 21, 23)
			a.shift("ushr", "16b", 1, 0, 3)
			a.shift("ushr", "16b", 3, 2, 3)
			a.v("and", "16b", 0, 0, own)
			a.v("and", "16b", 2, 2, own)
		case 4:
			a.op("VLD2.P 32(R1), [V4.B16, V5.B16]")
			a.v("and", "16b", 0, 4, own)
			a.shift("ushr", "16b", 1, 4, 4)
			a.v("and", "16b", 2, 5, own)
			a.shift("ushr", "16b", 3, 5, 4)
		case 6:
			a.op("VLD3.P 48(R1), [V4.B16, V5.B16, V6.B16]")
			a.fourOfThree(0, 4, own)
		}
		a.op("VST4.P %s, 64(R0)", apart(0))
	})
	a.op("RET")
}

// spread makes V0 to V3 of the four codes in each byte of a register.
func (a *fn) spread(from, bits, own int) {
	a.v("and", "16b", 0, from, own)
	for i := 1; i < 4; i++ {
		a.shift("ushr", "16b", i, from, i*bits)
		a.v("and", "16b", i, i, own)
	}
}

// unpackFives moves the two bytes in which a code lies into a lane for each, and shifts away what is below it; what is above goes with the mask.
func (a *fn) unpackFives(own int) func() {
	var from, down []byte
	for i := range 16 {
		at := 5 * i
		from, down = append(from, byte(at/8), byte(at/8+1)), append(down, byte(-at%8), 0)
	}
	a.tableNEON(20, "spread5", from...)
	a.tableNEON(22, "down5", down[:16]...)
	return func() {
		for i := range 4 {
			a.load(fmt.Sprintf("%d(R1)", 10*i), 7)
			for half := range 2 {
				a.tbl(4+half, 7, 1, 20+half)
				a.v("ushl", "8h", 4+half, 4+half, 22)
			}
			a.v("uzp1", "16b", i, 4, 5)
			a.v("and", "16b", i, i, own)
		}
		a.op("ADD $40, R1, R1")
		a.store64("R0", 0)
	}
}
