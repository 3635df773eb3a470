package main

import "fmt"

// vec writes a function for vectors of 32 bytes (AVX2) or of 64 (AVX-512), so that one description serves both levels. Registers are numbers.
type vec struct {
	*fn
	wide bool
}

// vecFn begins a function whose name ends with its level.
func (f *file) vecFn(wide bool, name, doc, list string, results ...string) vec {
	level := "AVX2"
	if wide {
		level = "AVX512"
	}
	return vec{f.fn(name+level, doc, list, results...), wide}
}

func (v vec) reg(i int) string {
	if v.wide {
		return fmt.Sprintf("Z%d", i)
	}
	return fmt.Sprintf("Y%d", i)
}

// half is the lower half of a register.
func (v vec) half(i int) string {
	if v.wide {
		return fmt.Sprintf("Y%d", i)
	}
	return fmt.Sprintf("X%d", i)
}

// lanes is how many float32 a register has.
func (v vec) lanes() int {
	if v.wide {
		return 16
	}
	return 8
}

// do emits an instruction; operands that are numbers are registers, the destination last.
func (v vec) do(name string, operands ...any) {
	text := name + " "
	for i, o := range operands {
		if i > 0 {
			text += ", "
		}
		if r, ok := o.(int); ok {
			o = v.reg(r)
		}
		text += fmt.Sprint(o)
	}
	v.op("%s", text)
}

// pick is one of two mnemonics.
func (v vec) pick(wide, narrow string) string {
	if v.wide {
		return wide
	}
	return narrow
}

func (v vec) load(from string, dst int) { v.do(v.pick("VMOVDQU32", "VMOVDQU"), from, dst) }
func (v vec) store(src int, to string)  { v.do(v.pick("VMOVDQU32", "VMOVDQU"), src, to) }
func (v vec) and(a, b, dst int)         { v.do(v.pick("VPANDD", "VPAND"), a, b, dst) }
func (v vec) or(a, b, dst int)          { v.do(v.pick("VPORD", "VPOR"), a, b, dst) }
func (v vec) xor(a, b, dst int)         { v.do(v.pick("VPXORD", "VPXOR"), a, b, dst) }
func (v vec) andNot(a, not, dst int)    { v.do(v.pick("VPANDND", "VPANDN"), a, not, dst) } // a &^ not
func (v vec) round(a, dst int)          { v.do(v.pick("VRNDSCALEPS", "VROUNDPS"), "$8", a, dst) }
func (v vec) zero(dst int)              { v.xor(dst, dst, dst) }

// choose puts yes where mask is all ones, else no, into the register of the mask.
func (v vec) choose(mask, yes, no int) {
	if v.wide {
		v.do("VPTERNLOGD", "$0xCA", no, yes, mask)
	} else {
		v.do("VBLENDVPS", mask, yes, no, mask)
	}
}

// constant fills a register with a 32-bit word.
func (v vec) constant(word uint32, dst int) {
	v.do("VPBROADCASTD", v.table32(fmt.Sprintf("word%08x", word), word, word), dst)
}

// widen loads as many values as a register has lanes as float32.
func (v vec) widen(n number, from string, dst int) {
	switch n.name {
	case "BF16":
		v.do("VPMOVZXWD", from, dst)
		v.do("VPSLLD", "$16", dst, dst)
	case "F16":
		v.do("VCVTPH2PS", from, dst)
	default:
		v.load(from, dst)
	}
}

// byteOrder loads what storeBytes needs with AVX2, whose packing of dwords to bytes works in halves: it mixes them up, and VPERMD puts them in order.
func (v vec) byteOrder(dst int) {
	if !v.wide {
		v.load(v.table32("byteOrder", 0, 4, 1, 5, 2, 6, 3, 7), dst)
	}
}

// storeBytes stores the lanes of registers, whole numbers that are not negative, as bytes; larger ones than 255 become 255. It changes the registers. order is a
// register that has byteOrder; AVX2 takes one, two or four registers.
func (v vec) storeBytes(order int, to string, disp int, regs ...int) {
	if v.wide {
		for i, r := range regs {
			v.do("VPMOVUSDB", r, fmt.Sprintf("%d(%s)", disp+16*i, to))
		}
		return
	}
	at := fmt.Sprintf("%d(%s)", disp, to)
	first := regs[0]
	for i := 0; i < len(regs); i += 2 {
		v.do("VPACKUSDW", regs[min(i+1, len(regs)-1)], regs[i], regs[i])
	}
	v.do("VPACKUSWB", regs[len(regs)/4*2], first, first)
	v.do("VPERMD", first, order, first)
	switch len(regs) {
	case 1:
		v.op("VMOVQ X%d, %s", first, at)
	case 2:
		v.op("VMOVDQU X%d, %s", first, at)
	default:
		v.op("VMOVDQU Y%d, %s", first, at)
	}
}

// signs puts the signs of a register's lanes, or of one of them, into a general register: not 0 when any is set. It changes the vector.
func (v vec) signs(src, tmp int, dst string) {
	if v.wide {
		v.op("VEXTRACTI64X4 $1, Z%d, Y%d", src, tmp)
		v.op("VPOR Y%d, Y%d, Y%d", tmp, src, src)
	}
	v.op("VMOVMSKPS Y%d, %s", src, dst)
}
