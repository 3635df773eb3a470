package main

import (
	"fmt"
	"strings"
)

// Instructions on tiles, which Go's assembler does not have, are written as bytes. Each stands beside its text in Intel's order of operands, which a test hands to a real assembler.

// general are the general registers by number: Go's names, and Intel's.
var general = []string{"AX:rax", "CX:rcx", "DX:rdx", "BX:rbx", "SP:rsp", "BP:rbp", "SI:rsi", "DI:rdi", "R8:r8", "R9:r9", "R10:r10", "R11:r11", "R12:r12", "R13:r13", "R14:r14", "R15:r15"}

// register is the number of a register, and Intel's name of it.
func register(name string) (number byte, intel string) {
	for i, g := range general {
		if ours, theirs, _ := strings.Cut(g, ":"); ours == name {
			return byte(i), theirs
		}
	}
	panic("no register " + name)
}

// prefix is the two bits of a VEX prefix that stand for an older one.
type prefix byte

const (
	none prefix = iota
	x66
	xF3
	xF2
)

// vex emits an instruction of the map 0F38 with 128-bit VEX: third is its third operand, in the prefix; rex the upper bits of index (2) and base (1).
func (a *fn) vex(text string, p prefix, opcode, third, rex byte, rest ...byte) {
	code := append([]byte{0xC4, 0xE2 ^ rex<<5, (^third&15)<<3 | byte(p), opcode}, rest...)
	bytes := make([]string, len(code))
	for i, b := range code {
		bytes[i] = fmt.Sprintf("BYTE $0x%02x", b)
	}
	a.op("%s // %s", strings.Join(bytes, "; "), text)
}

// configure gives tiles the shapes that 64 bytes at a register say.
func (a *fn) configure(base string) {
	b, name := register(base)
	a.vex(fmt.Sprintf("ldtilecfg [%s]", name), none, 0x49, 0, b>>3, b&7)
}

// release takes the shapes away, and with them what the system has to save of the thread.
func (a *fn) release() { a.vex("tilerelease", none, 0x49, 0, 0, 0xC0) }

func (a *fn) zeroTile(t byte) { a.vex(fmt.Sprintf("tilezero tmm%d", t), xF2, 0x49, 0, 0, 0xC0|t<<3) }

// loadTile loads rows from base on, stride bytes apart.
func (a *fn) loadTile(t byte, base, stride string) {
	b, s, at := address(base, stride)
	a.vex(fmt.Sprintf("tileloadd tmm%d, %s", t, at), xF2, 0x4B, 0, s>>3<<1|b>>3, t<<3|4, s&7<<3|b&7)
}

// storeTile is the other way.
func (a *fn) storeTile(t byte, base, stride string) {
	b, s, at := address(base, stride)
	a.vex(fmt.Sprintf("tilestored %s, tmm%d", at, t), xF3, 0x4B, 0, s>>3<<1|b>>3, t<<3|4, s&7<<3|b&7)
}

func address(base, stride string) (b, s byte, text string) {
	b, baseName := register(base)
	s, strideName := register(stride)
	if b&7 == 5 || s == 4 {
		panic(base + " and " + stride + " have another encoding")
	}
	return b, s, fmt.Sprintf("[%s+%s*1]", baseName, strideName)
}

// dot adds to a tile of sums, for each of its rows and columns, the products of a row of x, four bytes at a time, and a column of w, four bytes at a time. Bytes of each are signed or not.
func (a *fn) dot(sums, x, w byte, xSigned, wSigned bool) {
	letter := map[bool]string{true: "s", false: "u"}
	p := map[[2]bool]prefix{{true, true}: xF2, {true, false}: xF3, {false, true}: x66, {false, false}: none}[[2]bool{xSigned, wSigned}]
	a.vex(fmt.Sprintf("tdpb%s%sd tmm%d, tmm%d, tmm%d", letter[xSigned], letter[wSigned], sums, x, w), p, 0x5E, w, 0, 0xC0|sums<<3|x)
}

// A kernel of tiles multiplies a panel with vectors, sixteen at a time: a tile has a row for each of them and a column for each row of the panel. One instruction makes the exact sums of a segment, 16,384 products where
// it has 64 columns; what follows is what the kernels of AVX-512 do. Tiles get their shapes and lose them again inside of one function, which Go's scheduler does not interrupt, so that no goroutine ever waits with tiles
// in use; the system saves and restores them around a signal.
//
// By throughputs of instructions as they are known, not by a measurement, sixteen vectors and a segment of 64 columns take a core some 45 cycles with 8-bit activations and some 60 with 16-bit ones, most of them loads for the scaling, beside which tiles
// are loaded, multiplied (16 or 32 cycles) and stored; AVX-512 takes 160 and 290. All this has been run in emulators only, and has been timed on no processor.

func panelAMX() *file {
	f := newFile("internal/tensor", "panel_amx", "amd64", importQuant)
	var t table
	add := func(k tileKernel) {
		k.write(f)
		t.add("k.tiles[%s][quant.%s][%d] = %s", kindNames[k.codes.name], k.scale.name, k.width-1, k.funcName())
	}
	for _, s := range scales {
		for _, c := range []codes{{"Nibble", true}, {"Byte", true}} {
			add(tileKernel{c, s, 1})
			add(tileKernel{c, s, 2})
		}
	}
	add(tileKernel{codes{"Mini", false}, scales[0], 2})
	f.placeBytes()
	t.add("k.placeBytes = placeBytesAMX")
	f.setter("tilesAMX", "puts the kernels of this file into a table.", t)
	return f
}

// tileKernel is a product in whole numbers of 8 bits. 16-bit activations are two planes of bytes, 256 times the first, which is signed, plus the second, which is not.
type tileKernel struct {
	codes
	scale
	width int // bytes of an activation
}

func (k tileKernel) funcName() string {
	return fmt.Sprintf("mul%s%sX%dTilesAMX", k.codes.name, k.scale.name, 8*k.width)
}

// Tiles, and where in the scratch memory sums and codes as bytes stand.
const (
	tileSums    = 0 // and the next: of the second plane
	tileWeights = 2
	tileX       = 3
	sumsBytes   = 1024
	bytesAt     = 2 * sumsBytes
)

func (k tileKernel) write(f *file) {
	a := f.fn(k.funcName(), fmt.Sprintf("multiplies a panel of %s codes and %s scales with rows of %d-bit activations: see mulTiles.", k.codes.name, k.scale.name, 8*k.width),
		"dst *float32, stride int, panel *byte, x *byte, steps *float32, scratch *byte, shapes *byte, segments int, segment int, rooms int, vectors int, rows uint64")
	a.arg("scratch", "BX")
	if k.codes.name != "Byte" {
		a.spreadNibbles(k)
	}
	a.arg("dst", "DI")
	a.arg("x", "R8")
	a.arg("steps", "R9")
	a.arg("vectors", "R15")
	a.op("KMOVQ %s, K1", a.at("rows"))
	a.note("DX: bytes of a plane of 64 columns; R14: of all its planes, less one row")
	a.arg("rooms", "DX")
	a.op("SHLQ $6, DX")
	a.op("LEAQ -64(DX), R14")
	if k.width == 2 {
		a.op("ADDQ DX, R14")
	}
	a.op("MOVQ $64, R13")
	a.arg("shapes", "AX")
	a.configure("AX")
	sixteen, done := a.label("sixteen"), a.label("done")
	a.mark(sixteen)
	a.note("Z16 and up: sums of rows, a vector each")
	for t := range 16 {
		a.op("VPXORD Z%d, Z%d, Z%d", 16+t, 16+t, 16+t)
	}
	a.arg("panel", "SI")
	a.op("LEAQ %d(BX), R10", bytesAt)
	a.op("XORL R11, R11")
	a.op("MOVQ R9, R12")
	a.arg("segments", "CX")
	a.countdown("CX", func() {
		a.tileDots(k)
		a.tileScaling(k)
		a.nextSegment(k)
	})
	a.arg("stride", "AX")
	a.op("SHLQ $2, AX")
	for t := range 16 {
		a.op("VMOVUPS Z%d, K1, (DI)", 16+t)
		a.op("ADDQ AX, DI")
		a.op("DECQ R15")
		a.op("JZ %s", done)
	}
	a.op("ADDQ $%d, R8", 16*64)
	a.op("ADDQ $%d, R9", 16*4)
	a.op("JMP %s", sixteen)
	a.mark(done)
	a.release()
	a.ret()
}

// spreadNibbles writes a panel's codes of 4 bits as bytes, once for all vectors, in the order of fours of columns that mulTiles has.
func (a *fn) spreadNibbles(k tileKernel) {
	a.arg("panel", "SI")
	a.op("LEAQ %d(BX), R10", bytesAt)
	a.op("VPBROADCASTD %s, Z31", a.table32("mask0f0f0f0f", 0x0F0F0F0F, 0x0F0F0F0F))
	if k.codes.name == "Mini" {
		a.op("VBROADCASTI32X4 %s, Z30", a.tableBytes("miniBytes", 0, 1, 2, 3, 4, 6, 8, 12, 0, 0xFF, 0xFE, 0xFD, 0xFC, 0xFA, 0xF8, 0xF4))
	}
	a.arg("segments", "CX")
	a.countdown("CX", func() {
		a.op("ADDQ $%d, SI", head(k.codes, k.scale))
		a.arg("segment", "AX")
		a.op("SHRQ $3, AX")
		a.countdown("AX", func() {
			a.op("VMOVDQU32 (SI), Z0")
			a.op("PREFETCHT0 %d(SI)", prefetchAhead)
			a.op("VPSRLW $4, Z0, Z1")
			for i := range 2 {
				a.op("VPANDD Z31, Z%d, Z%d", i, i)
				if k.codes.name == "Mini" {
					a.op("VPSHUFB Z%d, Z30, Z%d", i, i)
				}
				a.op("VMOVDQU32 Z%d, %d(R10)", i, 64*i)
			}
			a.op("ADDQ $64, SI")
			a.op("ADDQ $128, R10")
		})
	})
}

// tileDots makes the exact sums of a segment, and stores them at BX. Codes that are bytes already are taken from the panel.
func (a *fn) tileDots(k tileKernel) {
	if k.codes.name == "Byte" {
		a.op("LEAQ %d(SI), R10", head(k.codes, k.scale))
	}
	a.note("AX: the segment's columns of sixteen vectors")
	a.op("MOVQ R11, AX")
	a.op("SHRQ $6, AX")
	a.op("IMULQ R14, AX")
	a.op("ADDQ R11, AX")
	a.op("ADDQ R8, AX")
	a.loadTile(tileWeights, "R10", "R13")
	for plane := range k.width {
		sums, x := byte(tileSums+plane), byte(tileX+plane)
		a.zeroTile(sums)
		a.loadTile(x, "AX", "R13")
		a.dot(sums, x, tileWeights, plane == 0, k.codes.name == "Mini")
		if plane == 0 {
			a.storeTile(sums, "BX", "R13")
			if k.width == 2 {
				a.op("ADDQ DX, AX")
			}
		} else {
			a.op("LEAQ %d(BX), AX", sumsBytes)
			a.storeTile(sums, "AX", "R13")
		}
	}
}

// tileScaling adds a segment's sums, scaled, to those of the rows.
func (a *fn) tileScaling(k tileKernel) {
	a.note("Z0: scales, Z1: biases; R12: steps, AX: sums of activations")
	a.widen(k.scale, "Z0", "(SI)")
	if k.biased {
		a.widen(k.scale, "Z1", fmt.Sprintf("%d(SI)", 16*k.scale.bytes))
	}
	a.arg("rooms", "AX")
	a.op("LEAQ (R12)(AX*4), AX")
	for t := range 16 {
		if k.width == 2 {
			a.op("VPSLLD $8, %d(BX), Z3", 64*t)
			a.op("VPADDD %d(BX), Z3, Z3", sumsBytes+64*t)
			a.op("VCVTDQ2PS Z3, Z3")
		} else {
			a.op("VCVTDQ2PS %d(BX), Z3", 64*t)
		}
		a.op("VMULPS.BCST %d(R12), Z0, Z2", 4*t)
		if k.biased {
			a.op("VFMADD231PS.BCST %d(AX), Z1, Z%d", 4*t, 16+t)
		}
		a.op("VFMADD231PS Z3, Z2, Z%d", 16+t)
	}
}

// nextSegment moves on: SI in the panel, R10 in the codes as bytes, R11 in columns, R12 in steps.
func (a *fn) nextSegment(k tileKernel) {
	a.arg("rooms", "AX")
	a.op("LEAQ (R12)(AX*8), R12")
	a.arg("segment", "AX")
	a.op("ADDQ AX, R11")
	if k.codes.name == "Byte" {
		a.op("SHLQ $4, AX")
		a.op("LEAQ %d(SI)(AX*1), SI", head(k.codes, k.scale))
		return
	}
	a.op("LEAQ %d(SI)(AX*8), SI", head(k.codes, k.scale))
	a.op("SHLQ $4, AX")
	a.op("ADDQ AX, R10")
}

// placeBytes is how vectors come into the order of fours.
func (f *file) placeBytes() {
	a := f.fn("placeBytesAMX", "writes bits 8*plane and up of 64 whole numbers as bytes, in the given order: see placeBytes.", "dst *byte, q *int32, order *byte, plane int")
	a.arg("dst", "DI")
	a.arg("q", "SI")
	a.arg("order", "DX")
	a.arg("plane", "AX")
	a.op("SHLQ $3, AX")
	a.op("VMOVQ AX, X4")
	for i := range 4 {
		a.op("VMOVDQU32 %d(SI), Z%d", 64*i, i)
		a.op("VPSRAD X4, Z%d, Z%d", i, i)
		a.op("VPMOVDB Z%d, X%d", i, i)
	}
	a.op("VINSERTI32X4 $1, X1, Z0, Z0")
	a.op("VINSERTI32X4 $2, X2, Z0, Z0")
	a.op("VINSERTI32X4 $3, X3, Z0, Z0")
	a.op("VMOVDQU8 (DX), Z1")
	a.op("VPERMB Z0, Z1, Z0")
	a.op("VMOVDQU8 Z0, (DI)")
	a.ret()
}
