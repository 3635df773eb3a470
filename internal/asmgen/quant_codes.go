package main

import (
	"fmt"
	"math"
)

// batch are the registers that hold 32 weights.
func (v vec) batch() []int {
	if v.wide {
		return []int{0, 1}
	}
	return []int{0, 1, 2, 3}
}

// at32 addresses vector i of those 32 weights.
func (v vec) at32(n number, i int) string { return fmt.Sprintf("%d(SI)", i*v.lanes()*n.bytes) }

// quantBlock is blockWeights of internal/quant.
const quantBlock = 4096

// prefetch asks for the weights of the next block in place of those that are worked on, so that memory is read while codes are made, which wait for no memory. From memory a core quantizes
// 1.5 times as fast to 4 bits, and again 1.1 to 1.2 times when affineCodes asks for the memory to write to as well.
func (v vec) prefetch(n number, weights int) {
	for line := 0; line < weights*n.bytes; line += 64 {
		v.op("PREFETCHT0 %d(SI)", quantBlock*n.bytes+line)
	}
}

// quotient divides x by scale, exactly rounded, into q; x is lost. With a correctly rounded reciprocal one correction of the product is enough; the test beside the kernel tries it where
// it is hardest, next to ties, and for those all pairs of mantissas have been tried once. One core quantizes 11.0 GB/s of bfloat16 to 4 bits so, and 6.9 with a division (AVX-512, from cache).
func (v vec) quotient(x, q, scale, inverse int) {
	v.do("VMULPS", inverse, x, q)
	v.do("VFNMADD231PS", scale, q, x)
	v.do("VFMADD231PS", inverse, x, q)
}

// affineCodes is round((x-bias)/scale) in a byte.
func (f *file) affineCodes(wide bool, n number) {
	v := f.vecFn(wide, "affineCodes"+n.name, "makes codes of "+n.name+" weights: see kernels.affineCodes.",
		"codes *byte, src *byte, scales *float32, biases *float32, inverses *float32, groups int, batches int, packed *byte, bytes int")
	const scale, bias, inverse, order = 8, 9, 10, 11
	v.arg("codes", "DI")
	v.arg("src", "SI")
	v.arg("scales", "R8")
	v.arg("biases", "R9")
	v.arg("inverses", "R10")
	v.arg("groups", "CX")
	v.arg("batches", "R11")
	v.arg("packed", "R12")
	v.arg("bytes", "R13")
	v.note("R12: where the next block is packed to")
	v.op("IMUL3Q $%d, R13, AX", quantBlock/32)
	v.op("ADDQ AX, R12")
	v.byteOrder(order)
	v.countdown("CX", func() {
		v.note("%s: scale, %s: bias, %s: reciprocal of the scale", v.reg(scale), v.reg(bias), v.reg(inverse))
		v.do("VBROADCASTSS", "(R8)", scale)
		v.do("VBROADCASTSS", "(R9)", bias)
		v.do("VBROADCASTSS", "(R10)", inverse)
		v.op("MOVQ R11, AX")
		v.countdown("AX", func() {
			for i, r := range v.batch() {
				v.widen(n, v.at32(n, i), r)
			}
			v.note("%s and up: quotients, then codes", v.reg(4))
			for _, r := range v.batch() {
				v.do("VSUBPS", bias, r, r)
				v.quotient(r, r+4, scale, inverse)
				v.do("VCVTPS2DQ", r+4, r)
			}
			v.storeBytes(order, "DI", 0, v.batch()...)
			v.prefetch(n, 32)
			v.op("PREFETCHT0 (R12)")
			v.op("ADDQ R13, R12")
			v.op("ADDQ $32, DI")
			v.op("ADDQ $%d, SI", 32*n.bytes)
		})
		for _, p := range []string{"R8", "R9", "R10"} {
			v.op("ADDQ $4, %s", p)
		}
	})
	v.ret()
}

// firstInterval is the interval below 1/4 in the upper bits of a magnitude: see e2m1Codes in internal/quant.
const firstInterval = 125<<2 - 1

// interval replaces quotients by the number of their interval, with the sign in bit 5. None is above 9 (where the scale of nvfp4 is subnormal, and lost a third), so that five bits are enough.
// Its constants are in registers from c on.
func (v vec) interval(q, tmp, c int) {
	v.do("VPSRLD", "$26", q, tmp)
	v.and(c, tmp, tmp)
	v.and(c+1, q, q)
	v.do("VPSUBD", c+2, q, q)
	v.do("VPSRAD", "$21", q, q)
	v.do("VPMAXSD", c+3, q, q)
	v.or(tmp, q, q)
}

func (v vec) intervalConstants(c int) {
	v.constant(1<<5, c)
	v.constant(1<<31-1, c+1)
	v.constant(firstInterval<<21+1, c+2)
	v.zero(c + 3)
}

// mx4Codes: the scale is a power of two, so the product with its reciprocal is exact.
func (f *file) mx4Codes(wide bool, n number) {
	v := f.vecFn(wide, "mx4Codes"+n.name, "finds the intervals of "+n.name+" weights, groups of 32: see kernels.mx4Codes.", "intervals *byte, src *byte, inverses *float32, groups int")
	const inverse, order, constants = 4, 5, 12
	v.arg("intervals", "DI")
	v.arg("src", "SI")
	v.arg("inverses", "R10")
	v.arg("groups", "CX")
	v.byteOrder(order)
	v.intervalConstants(constants)
	v.countdown("CX", func() {
		v.do("VBROADCASTSS", "(R10)", inverse)
		for i, r := range v.batch() {
			v.widen(n, v.at32(n, i), r)
		}
		for _, r := range v.batch() {
			v.do("VMULPS", inverse, r, r)
			v.interval(r, r+6, constants)
		}
		v.storeBytes(order, "DI", 0, v.batch()...)
		v.prefetch(n, 32)
		v.op("ADDQ $32, DI")
		v.op("ADDQ $%d, SI", 32*n.bytes)
		v.op("ADDQ $4, R10")
	})
	v.ret()
}

func (f *file) mx8Codes(wide bool, n number) {
	v := f.vecFn(wide, "mx8Codes"+n.name, "makes E4M3 codes of "+n.name+" weights, groups of 32: see kernels.mx8Codes.", "codes *byte, src *byte, inverses *float32, groups int")
	const inverse, order, sign, code, tmp, constants = 4, 5, 6, 7, 8, 9
	v.arg("codes", "DI")
	v.arg("src", "SI")
	v.arg("inverses", "R10")
	v.arg("groups", "CX")
	v.byteOrder(order)
	v.e4m3Constants(constants)
	v.constant(1<<31, 15)
	v.countdown("CX", func() {
		v.do("VBROADCASTSS", "(R10)", inverse)
		for i, r := range v.batch() {
			v.widen(n, v.at32(n, i), r)
		}
		for _, r := range v.batch() {
			v.and(15, r, sign)
			v.do("VPSRLD", "$24", sign, sign)
			v.do("VMULPS", inverse, r, r)
			v.andNot(r, 15, r)
			v.e4m3(r, code, tmp, constants)
			v.or(code, sign, r)
		}
		v.storeBytes(order, "DI", 0, v.batch()...)
		v.prefetch(n, 32)
		v.op("ADDQ $32, DI")
		v.op("ADDQ $%d, SI", 32*n.bytes)
		v.op("ADDQ $4, R10")
	})
	v.ret()
}

// nv4Codes rounds quotients to the type of the weights, which can move one onto a tie, before it looks for their interval.
func (f *file) nv4Codes(wide bool, n number) {
	v := f.vecFn(wide, "nv4Codes"+n.name, "finds the intervals of "+n.name+" weights, groups of 16: see kernels.nv4Codes.",
		"intervals *byte, src *byte, scales *float32, inverses *float32, groups int")
	const scale, inverse, order, half, odd, kept, constants = 4, 5, 6, 7, 8, 9, 12
	v.arg("intervals", "DI")
	v.arg("src", "SI")
	v.arg("scales", "R8")
	v.arg("inverses", "R10")
	v.arg("groups", "CX")
	v.byteOrder(order)
	v.intervalConstants(constants)
	drop := map[string]int{"F16": 13, "BF16": 16}[n.name]
	if drop > 0 {
		v.constant(1<<(drop-1)-1, half)
		v.constant(1, odd)
		v.constant(math.MaxUint32<<drop, kept)
	}
	regs := []int{0, 1}[:16/v.lanes()]
	v.countdown("CX", func() {
		v.do("VBROADCASTSS", "(R8)", scale)
		v.do("VBROADCASTSS", "(R10)", inverse)
		for i, r := range regs {
			v.widen(n, v.at32(n, i), r)
			v.quotient(r, r+2, scale, inverse)
			if drop > 0 {
				v.do("VPSRLD", fmt.Sprintf("$%d", drop), r+2, r)
				v.and(odd, r, r)
				v.do("VPADDD", half, r, r)
				v.do("VPADDD", r, r+2, r+2)
				v.and(kept, r+2, r+2)
			}
			v.do(v.pick("VMOVDQA32", "VMOVDQA"), r+2, r)
			v.interval(r, r+2, constants)
		}
		v.storeBytes(order, "DI", 0, regs...)
		v.prefetch(n, 16)
		v.op("ADDQ $16, DI")
		v.op("ADDQ $%d, SI", 16*n.bytes)
		v.op("ADDQ $4, R8")
		v.op("ADDQ $4, R10")
	})
	v.ret()
}
