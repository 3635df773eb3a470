package main

import (
	"fmt"
	"math"
)

// cast converts 32 values at a time.
func (f *file) cast(wide bool, from, to number) {
	v := f.vecFn(wide, "cast"+from.name+"To"+to.name, "converts 32 values a block: see kernels.cast.", "dst *byte, src *byte, blocks int")
	const constants = 10
	v.arg("dst", "DI")
	v.arg("src", "SI")
	v.arg("blocks", "CX")
	v.narrowConstants(to, constants)
	v.countdown("CX", func() {
		for i, r := range v.batch() {
			v.widen(from, v.at32(from, i), r)
		}
		v.narrow(to, constants, v.batch()...)
		v.op("ADDQ $%d, SI", 32*from.bytes)
		v.op("ADDQ $%d, DI", 32*to.bytes)
	})
	v.ret()
	// decoders and encoders are the same with a slice of floats on one side
	if to.name == "F32" {
		f.alias(v.fn, "decode"+from.name, "dst *float32, src *byte, blocks int")
	}
	if from.name == "F32" {
		f.alias(v.fn, "encode"+to.name, "dst *byte, src *float32, blocks int")
	}
}

// alias is another name of a function, with other types of pointers.
func (f *file) alias(a *fn, name, list string) {
	level := a.name[len(a.name)-len("AVX2"):]
	if level == "X512" {
		level = "AVX512"
	}
	f.fn(name+level, "is "+a.name+".", list).op("JMP ·%s(SB)", a.name)
}

func (v vec) narrowConstants(n number, c int) {
	switch n.name {
	case "BF16":
		v.constant(1, c)
		v.constant(0x7FFF, c+1)
		v.constant(1<<31-1, c+2)
		v.constant(0x7F800000, c+3)
		v.constant(0x7FC0, c+4)
	case "F16":
		v.constant(0x80008000, c)
		v.constant(0x7C007C00, c+1)
		v.constant(0x7D007D00, c+2)
	}
}

// narrow rounds registers to nearest even and stores them, one after the other. NaN becomes MLX's.
func (v vec) narrow(n number, c int, regs ...int) {
	for i, r := range regs {
		at := fmt.Sprintf("%d(DI)", i*v.lanes()*n.bytes)
		switch n.name {
		case "BF16":
			v.do("VPSRLD", "$16", r, 4)
			v.and(c, 4, 4)
			v.do("VPADDD", r, 4, 4)
			v.do("VPADDD", c+1, 4, 4)
			v.do("VPSRLD", "$16", 4, 4)
			v.and(c+2, r, r)
			v.do("VPSUBD", r, c+3, r)
			v.do("VPSRAD", "$31", r, r)
			v.choose(r, c+4, 4)
			if v.wide {
				v.op("VPMOVDW Z%d, %s", r, at)
			} else {
				v.do("VPACKUSDW", r, r, r)
				v.do("VPERMQ", "$8", r, r)
				v.op("VMOVDQU X%d, %s", r, at)
			}
		case "F16":
			h := func(i int) string { return v.half(i) }
			v.op("VCVTPS2PH $0, %s, %s", v.reg(r), h(r))
			v.op("VPAND %s, %s, %s", h(c), h(r), h(4))
			v.op("VPOR %s, %s, %s", h(c+2), h(4), h(5))
			v.op("VPXOR %s, %s, %s", h(4), h(r), h(4))
			v.op("VPCMPGTW %s, %s, %s", h(c+1), h(4), h(4))
			v.op("VPBLENDVB %s, %s, %s, %s", h(4), h(5), h(r), h(r))
			v.op("VMOVDQU %s, %s", h(r), at)
		default:
			v.store(r, at)
		}
	}
}

// finite looks for values whose exponents are all ones, 128 bytes at a time: adding the lowest bit of the exponent to a magnitude then carries into the place of the sign.
func (f *file) finite(n number) {
	v := f.vecFn(false, "finite"+n.name, "counts the blocks of 128 bytes before the first that has NaN or infinity: see kernels.finite.", "src *byte, blocks int", "count int")
	const signs, one, magnitude = 13, 14, 15
	sign, lane := uint32(1<<31), "D"
	if n.bytes == 2 {
		sign, lane = 0x80008000, "W"
	}
	v.arg("src", "SI")
	v.arg("blocks", "CX")
	v.constant(sign, signs)
	v.constant(math.MaxUint32^sign, magnitude)
	v.constant(map[string]uint32{"F32": 1 << 23, "F16": 0x04000400, "BF16": 0x00800080}[n.name], one)
	found, again := v.label("found"), v.label("again")
	v.op("XORQ AX, AX")
	v.mark(again)
	for i := range 4 {
		v.do("VPAND", fmt.Sprintf("%d(SI)", 32*i), magnitude, i)
		v.do("VPADD"+lane, one, i, i)
	}
	v.or(0, 1, 0)
	v.or(2, 3, 2)
	v.or(0, 2, 0)
	v.do("VPTEST", signs, 0)
	v.op("JNZ %s", found)
	v.op("ADDQ $128, SI")
	v.op("INCQ AX")
	v.op("CMPQ AX, CX")
	v.op("JNE %s", again)
	v.mark(found)
	v.result("AX", "count")
}
