package main

import (
	"fmt"
	"strings"
)

// Instructions of arm64 on vectors. Go's assembler does not have all of them, nor all forms, so all are written as words; each stands beside its text, which a test hands to a real assembler.

// word emits an instruction. Operands %d in text are registers of vectors: the first at bit 0, the second at bit 5, the third at bit 16.
func (a *fn) word(code uint32, text string, regs ...int) {
	args := make([]any, len(regs))
	for i, r := range regs {
		code |= uint32(r) << [3]int{0, 5, 16}[i]
		args[i] = r
	}
	fmt.Fprintf(&a.text, "\tWORD $0x%08x // %s\n", code, fmt.Sprintf(text, args...))
}

// lanesNEON are the ways to divide a register, and what they are in instructions on whole numbers.
var lanesNEON = map[string]uint32{"16b": 0, "8h": 1, "4s": 2, "2d": 3}

// instructions on registers of equal lanes: their words for bytes, or of floats for float32.
var instructions = map[string]uint32{
	"add": 0x4E208400, "sub": 0x6E208400, "uqsub": 0x6E202C00, "addp": 0x4E20BC00, "ushl": 0x6E204400,
	"umax": 0x6E206400, "umin": 0x6E206C00, "smax": 0x4E206400, "smin": 0x4E206C00, "cmgt": 0x4E203400, "cmtst": 0x4E208C00,
	"uzp1": 0x4E001800, "uzp2": 0x4E005800, "zip1": 0x4E003800, "zip2": 0x4E007800, "trn1": 0x4E002800, "trn2": 0x4E006800,
	"and": 0x4E201C00, "bic": 0x4E601C00, "orr": 0x4EA01C00, "eor": 0x6E201C00, "bsl": 0x6E601C00, "bit": 0x6EA01C00, "bif": 0x6EE01C00,
	"fadd": 0x4E20D400, "fsub": 0x4EA0D400, "fmul": 0x6E20DC00, "fdiv": 0x6E20FC00, "fmla": 0x4E20CC00, "fmls": 0x4EA0CC00, "fmax": 0x4E20F400, "fmin": 0x4EA0F400,
	"fcmgt": 0x6EA0E400, "fcmeq": 0x4E20E400, "facge": 0x6E20EC00, "faddp": 0x6E20D400,
	"fneg": 0x6EA0F800, "fabs": 0x4EA0F800, "frintn": 0x4E218800, "fcvtns": 0x4E21A800, "scvtf": 0x4E21D800, "ucvtf": 0x6E21D800,
}

// v emits one of instructions, the destination first.
func (a *fn) v(name, lanes string, regs ...int) {
	code, ok := instructions[name]
	size, known := lanesNEON[lanes]
	if !ok || !known {
		panic("no instruction " + name + " of " + lanes)
	}
	switch name {
	case "and", "bic", "orr", "eor", "bsl", "bit", "bif": // bits have no lanes
		size, lanes = 0, "16b"
	}
	if isFloat := strings.HasPrefix(name, "f") || strings.HasSuffix(name, "cvtf"); isFloat {
		size -= 2
	}
	a.word(code|size<<22, name+strings.Repeat(", v%d."+lanes, len(regs))[1:], regs...)
}

// move copies a register.
func (a *fn) move(d, n int) { a.v("orr", "16b", d, n, n) }

// negative makes ones of lanes whose highest bit is set, and zeros of others.
func (a *fn) negative(lanes string, d, n int) {
	a.word(0x4E20A800|lanesNEON[lanes]<<22, fmt.Sprintf("cmlt v%%d.%s, v%%d.%[1]s, #0", lanes), d, n)
}

// shift moves each lane by a constant: shl and sli to the left, ushr, sshr and sri to the right.
func (a *fn) shift(name, lanes string, d, n, by int) {
	width := 8 << lanesNEON[lanes]
	place := width + by
	if strings.Contains(name, "r") {
		place = 2*width - by
	}
	code := map[string]uint32{"shl": 0x4F005400, "sli": 0x6F005400, "ushr": 0x6F000400, "sshr": 0x4F000400, "sri": 0x6F004400}[name]
	a.word(code|uint32(place)<<16, fmt.Sprintf("%s v%%d.%s, v%%d.%[2]s, #%d", name, lanes, by), d, n)
}

// halves are the lanes of half the width, as many as in the other register, and all of them.
var halves = map[string][2]string{"8h": {"8b", "16b"}, "4s": {"4h", "8h"}, "2d": {"2s", "4s"}}

// second takes the 2 from a name that works with the upper half of the narrow register, and says which narrow lanes there are.
func second(name, wide string) (plain, narrow string, bit uint32) {
	if plain, ok := strings.CutSuffix(name, "2"); ok {
		return plain, halves[wide][1], 1 << 30
	}
	return name, halves[wide][0], 0
}

// long makes lanes of twice the width: uxtl, sxtl, shll (which moves them to the upper half) and fcvtl, and those for the upper half of n.
func (a *fn) long(name, to string, d, n int) {
	plain, from, bit := second(name, to)
	size, by := lanesNEON[to]-1, ""
	code := map[string]uint32{"uxtl": 0x2F00A400 | 0x80000<<size, "sxtl": 0x0F00A400 | 0x80000<<size, "shll": 0x2E213800 | size<<22, "fcvtl": 0x0E217800 | (size-1)<<22}[plain]
	if plain == "shll" {
		by = fmt.Sprintf(", #%d", 8<<size)
	}
	a.word(code|bit, fmt.Sprintf("%s v%%d.%s, v%%d.%s%s", name, to, from, by), d, n)
}

// short makes lanes of half the width: xtn, uqxtn and fcvtn, and those for the upper half of d.
func (a *fn) short(name, from string, d, n int) {
	plain, to, bit := second(name, from)
	size := lanesNEON[from] - 1
	code := map[string]uint32{"xtn": 0x0E212800 | size<<22, "uqxtn": 0x2E214800 | size<<22, "fcvtn": 0x0E216800 | (size-1)<<22}[plain]
	a.word(code|bit, fmt.Sprintf("%s v%%d.%s, v%%d.%s", name, to, from), d, n)
}

// across joins all lanes to one.
func (a *fn) across(name, lanes string, d, n int) {
	code := map[string]uint32{"umaxv": 0x6E30A800, "uminv": 0x6E31A800, "smaxv": 0x4E30A800}[name]
	a.word(code|lanesNEON[lanes]<<22, fmt.Sprintf("%s %c%%d, v%%d.%s", name, lanes[1], lanes), d, n)
}

// tbl looks bytes up in some registers, the first of which is n; what is beyond them becomes 0.
func (a *fn) tbl(d, n, registers, m int) {
	list := "v%d.16b"
	for i := 1; i < registers; i++ {
		list += fmt.Sprintf(", v%d.16b", n+i)
	}
	a.word(0x4E000000|uint32(registers-1)<<13, "tbl v%d.16b, {"+list+"}, v%d.16b", d, n, m)
}

func (a *fn) ext(d, n, m, i int) {
	a.word(0x6E000000|uint32(i)<<11, fmt.Sprintf("ext v%%d.16b, v%%d.16b, v%%d.16b, #%d", i), d, n, m)
}

// lane is where an instruction by element keeps which of four it takes.
func lane(i int) uint32 { return uint32(i&1)<<21 | uint32(i>>1)<<11 }

func (a *fn) sdot(d, n, m int) { a.word(0x4E809400, "sdot v%d.4s, v%d.16b, v%d.16b", d, n, m) }
func (a *fn) sdotLane(d, n, m, i int) {
	a.word(0x4F80E000|lane(i), fmt.Sprintf("sdot v%%d.4s, v%%d.16b, v%%d.4b[%d]", i), d, n, m)
}
func (a *fn) fmlaLane(d, n, m, i int) {
	a.word(0x4F801000|lane(i), fmt.Sprintf("fmla v%%d.4s, v%%d.4s, v%%d.s[%d]", i), d, n, m)
}
func (a *fn) fmulLane(d, n, m, i int) {
	a.word(0x4F809000|lane(i), fmt.Sprintf("fmul v%%d.4s, v%%d.4s, v%%d.s[%d]", i), d, n, m)
}

// smlalLane and smlal2Lane multiply 16-bit numbers, of the lower or the upper half of n, with lane i of eight of m, one of the first 16 registers, and add the products to 32-bit ones.
func (a *fn) smlalLane(d, n, m, i int) {
	a.word(0x0F402000|lane16(i), fmt.Sprintf("smlal v%%d.4s, v%%d.4h, v%%d.h[%d]", i), d, n, m)
}
func (a *fn) smlal2Lane(d, n, m, i int) {
	a.word(0x4F402000|lane16(i), fmt.Sprintf("smlal2 v%%d.4s, v%%d.8h, v%%d.h[%d]", i), d, n, m)
}

// lane16 is lane for one of eight.
func lane16(i int) uint32 { return uint32(i&1)<<20 | uint32(i>>1&1)<<21 | uint32(i>>2)<<11 }

func (a *fn) dup32(d, n, i int) {
	a.word(0x4E000400|uint32(i<<3|4)<<16, fmt.Sprintf("dup v%%d.4s, v%%d.s[%d]", i), d, n)
}

// imm8 is where moves of constants keep them.
func imm8(v int) uint32 { return uint32(v>>5)<<16 | uint32(v&31)<<5 }

func (a *fn) movi8(d, v int) {
	a.word(0x4F00E400|imm8(v), fmt.Sprintf("movi v%%d.16b, #%d", v), d)
}
func (a *fn) movi16(d, v int) {
	a.word(0x4F008400|imm8(v), fmt.Sprintf("movi v%%d.8h, #%d", v), d)
}
func (a *fn) mvniHigh(d int) { a.word(0x6F00C400|imm8(255), "mvni v%d.4s, #255, msl #8", d) }

// load fills a register.
func (a *fn) load(at string, r int) { a.op("FMOVQ %s, F%d", at, r) }

// constantNEON fills a register with a 32-bit word.
func (a *fn) constantNEON(word uint32, d int) {
	a.op("MOVD $0x%08x, R12", word)
	a.op("VDUP R12, V%d.S4", d)
}

// tableNEON loads tables of 16 bytes into registers from d on.
func (a *fn) tableNEON(d int, name string, values ...byte) {
	a.op("MOVD $%s, R12", a.tableBytes(name, values...))
	for i := range len(values) / 16 {
		a.load(fmt.Sprintf("%d(R12)", 16*i), d+i)
	}
}

// loop is countdown for arm64.
func (a *fn) loop(reg string, body func()) {
	again := a.label("again")
	a.mark(again)
	body()
	a.op("SUBS $1, %s, %s", reg, reg)
	a.op("BNE %s", again)
}

// argNEON is arg for arm64.
func (a *fn) argNEON(name, reg string) { a.op("MOVD %s, %s", a.at(name), reg) }

// argsNEON loads arguments into R0 and up.
func (a *fn) argsNEON(names ...string) {
	for i, name := range names {
		a.argNEON(name, fmt.Sprintf("R%d", i))
	}
}

// load64 loads four registers from r on and moves the pointer behind what it read.
func (a *fn) load64(pointer string, r int) {
	a.op("VLD1.P 64(%s), [V%d.B16, V%d.B16, V%d.B16, V%d.B16]", pointer, r, r+1, r+2, r+3)
}

func (a *fn) store64(pointer string, r int) {
	a.op("VST1.P [V%d.B16, V%d.B16, V%d.B16, V%d.B16], 64(%s)", r, r+1, r+2, r+3, pointer)
}
