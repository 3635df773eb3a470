package main

import (
	"fmt"
	"math"
)

// unpack takes codes apart, 64 at a time.
func (f *file) unpack(wide bool, bits int) {
	v := f.vecFn(wide, fmt.Sprintf("unpack%d", bits), fmt.Sprintf("unpacks codes of %d bits: see kernels.unpack.", bits), "codes *byte, packed *byte, blocks int")
	v.arg("codes", "DI")
	v.arg("packed", "SI")
	v.arg("blocks", "CX")
	var unpack func()
	if wide {
		unpack = v.unpackShifts(bits)
	} else {
		unpack = v.unpackWords(bits)
	}
	v.countdown("CX", func() {
		unpack()
		v.op("ADDQ $64, DI")
		v.op("ADDQ $%d, SI", 8*bits)
	})
	v.ret()
}

// unpackShifts moves the bytes of eight codes into each 64-bit lane and takes from there eight bits for each code, of which those that are its own stay.
func (v vec) unpackShifts(bits int) func() {
	const codes, spread, shifts, own = 0, 1, 2, 3
	var from, by []byte
	for lane := range 8 {
		for i := range 8 {
			from, by = append(from, byte(lane*bits+min(i, bits-1))), append(by, byte(i*bits))
		}
	}
	v.load(v.tableBytes(fmt.Sprintf("spread%d", bits), from...), spread)
	v.load(v.tableBytes(fmt.Sprintf("shifts%d", bits), by...), shifts)
	v.constant((1<<bits-1)*0x01010101, own)
	return func() {
		v.load("(SI)", codes)
		v.do("VPERMB", codes, spread, codes)
		v.do("VPMULTISHIFTQB", codes, shifts, codes)
		v.and(own, codes, codes)
		v.store(codes, "(DI)")
	}
}

// unpackWords moves the two bytes in which a code lies into a word for each, and shifts away what is above it, by a product, and what is below.
func (v vec) unpackWords(bits int) func() {
	const spread, up = 14, 15
	var from []byte
	var product []uint32
	for i := range 16 {
		at := i * bits
		from = append(from, byte(at/8), byte(at/8+1))
		word := uint32(1) << (16 - bits - at%8)
		if i%2 == 0 {
			product = append(product, word)
		} else {
			product[i/2] |= word << 16
		}
	}
	v.load(v.tableBytes(fmt.Sprintf("spread%d", bits), from...), spread)
	v.load(v.table32(fmt.Sprintf("products%d", bits), product...), up)
	return func() {
		for i := range 4 {
			v.do("VBROADCASTI128", fmt.Sprintf("%d(SI)", 2*bits*i), i)
			v.do("VPSHUFB", spread, i, i)
			v.do("VPMULLW", up, i, i)
			v.do("VPSRLW", fmt.Sprintf("$%d", 16-bits), i, i)
		}
		for i := 0; i < 4; i += 2 {
			v.do("VPACKUSWB", i+1, i, i)
			v.do("VPERMQ", "$0xD8", i, i)
			v.store(i, fmt.Sprintf("%d(DI)", 16*i))
		}
	}
}

// sixteen repeats body for the registers that hold 16 values: it is told the register and the place of its first value.
func (v vec) sixteen(body func(r, first int)) {
	for i := range 16 / v.lanes() {
		body(i, i*v.lanes())
	}
}

// affineValues is scale*code, rounded to the type, + bias.
func (f *file) affineValues(wide bool, n number) {
	v := f.vecFn(wide, "affineValues"+n.name, "computes values of codes, rounded to "+n.name+" in between: see kernels.affineValues.",
		"dst *float32, codes *byte, scales *float32, biases *float32, groups int, sixteens int")
	const scale, bias, tmp, odd, half, kept = 8, 9, 10, 11, 12, 13
	v.arg("dst", "DI")
	v.arg("codes", "SI")
	v.arg("scales", "R8")
	v.arg("biases", "R9")
	v.arg("groups", "CX")
	v.arg("sixteens", "R10")
	if n.name == "BF16" {
		v.constant(1, odd)
		v.constant(0x7FFF, half)
		v.constant(0xFFFF0000, kept)
	}
	v.countdown("CX", func() {
		v.do("VBROADCASTSS", "(R8)", scale)
		v.do("VBROADCASTSS", "(R9)", bias)
		v.op("MOVQ R10, AX")
		v.countdown("AX", func() {
			v.sixteen(func(r, first int) {
				v.do("VPMOVZXBD", fmt.Sprintf("%d(SI)", first), r)
				v.do("VCVTDQ2PS", r, r)
				v.do("VMULPS", scale, r, r)
				switch n.name {
				case "BF16":
					v.do("VPSRLD", "$16", r, tmp)
					v.and(odd, tmp, tmp)
					v.do("VPADDD", half, r, r)
					v.do("VPADDD", tmp, r, r)
					v.and(kept, r, r)
				case "F16":
					v.do("VCVTPS2PH", "$0", r, v.half(r))
					v.do("VCVTPH2PS", v.half(r), r)
				}
				v.do("VADDPS", bias, r, r)
				v.store(r, fmt.Sprintf("%d(DI)", 4*first))
			})
			v.op("ADDQ $16, SI")
			v.op("ADDQ $64, DI")
		})
		v.op("ADDQ $4, R8")
		v.op("ADDQ $4, R9")
	})
	v.ret()
}

// microValues is scale*code for codes of E2M1 or E4M3.
func (f *file) microValues(wide bool, bits int) {
	name := map[int]string{4: "e2m1", 8: "e4m3"}[bits]
	v := f.vecFn(wide, name+"Values", "computes values of "+name+" codes: see kernels.e2m1Values.", "dst *float32, codes *byte, scales *float32, groups int, sixteens int")
	const scale, sign = 8, 9
	v.arg("dst", "DI")
	v.arg("codes", "SI")
	v.arg("scales", "R8")
	v.arg("groups", "CX")
	v.arg("sixteens", "R10")
	v.constant(1<<31, sign)
	value := v.e2m1Value
	if bits == 8 {
		value = v.e4m3Value
	}
	value(-1, sign)
	v.countdown("CX", func() {
		v.do("VBROADCASTSS", "(R8)", scale)
		v.op("MOVQ R10, AX")
		v.countdown("AX", func() {
			v.sixteen(func(r, first int) {
				v.do("VPMOVZXBD", fmt.Sprintf("%d(SI)", first), r)
				value(r, sign)
				v.do("VMULPS", scale, r, r)
				v.store(r, fmt.Sprintf("%d(DI)", 4*first))
			})
			v.op("ADDQ $16, SI")
			v.op("ADDQ $64, DI")
		})
		v.op("ADDQ $4, R8")
	})
	v.ret()
}

// e2m1Value looks a code up by its lowest three bits, for which the narrow register has room; bit 3 is the sign. Of register -1 it loads the table.
func (v vec) e2m1Value(r, sign int) {
	const table, tmp = 15, 2
	if r < 0 {
		var values []uint32
		for range v.lanes() / 8 {
			for _, x := range []float32{0, 0.5, 1, 1.5, 2, 3, 4, 6} {
				values = append(values, math.Float32bits(x))
			}
		}
		v.load(v.table32("e2m1Values", values...), table)
		return
	}
	v.do("VPSLLD", "$28", r, tmp)
	v.and(sign, tmp, tmp)
	v.do("VPERMPS", table, r, r)
	v.xor(tmp, r, r)
}

// e4m3Value: see fromE4M3. Of register -1 it loads constants.
func (v vec) e4m3Value(r, sign int) {
	const tmp, mask, rebias, unit, magnitude, firstNormal, last, nan = 2, 3, 10, 11, 12, 13, 14, 15
	if r < 0 {
		v.constant(120<<23, rebias)
		v.constant(math.Float32bits(0x1p-9), unit)
		v.constant(0x7F, magnitude)
		v.constant(8, firstNormal)
		v.constant(0x7E, last)
		v.constant(0x7FF00000, nan)
		return
	}
	const signs, subnormal = 4, 5
	v.do("VPSLLD", "$24", r, signs)
	v.and(sign, signs, signs)
	v.and(magnitude, r, r)
	v.do("VPSUBD", firstNormal, r, subnormal)
	v.do("VPSRAD", "$31", subnormal, subnormal)
	v.do("VPSUBD", r, last, mask)
	v.do("VPSRAD", "$31", mask, mask)
	v.do("VCVTDQ2PS", r, tmp)
	v.do("VMULPS", unit, tmp, tmp)
	v.do("VPSLLD", "$20", r, r)
	v.do("VPADDD", rebias, r, r)
	v.choose(subnormal, tmp, r)
	v.choose(mask, nan, subnormal)
	v.or(signs, mask, r)
}
