package main

import "fmt"

// The products of attention: 64 rows that lie side by side, positions of keys or dims of values, with some vectors. internal/tensor/attend.go says how they lie and in what order sums are made.

// attendTiles are the numbers of vectors that kernels are written for.
var attendTiles = []int{1, 2, 3, 4, 6, 8, 12}

// attendKernel keeps the sums of so many vectors with so many registers of rows at a time, and passes over the columns until all rows had their turn.
type attendKernel struct {
	lanes
	kvType
	tile int
	wide int // registers
}

// kvType is how rows are kept.
type kvType struct {
	name    string
	pointer string
	size    int // of a number
}

var kvTypes = []kvType{{"F32", "*float32", 4}, {"F16", "*uint16", 2}, {"I8", "*int8", 1}}

func attend(l lanes) *file {
	f := l.file("attend")
	for _, t := range kvTypes {
		for _, tile := range attendTiles {
			f.attend(attendKernel{l, t, tile, widest(l, tile)})
		}
	}
	return f
}

// widest is how many registers of rows a tile has room for: 24 sums of 32 registers, 12 of 16. A column's weights or its activations need registers too, whichever are fewer.
func widest(l lanes, tile int) int {
	room, wide := 24, 4
	if l.reg == "Y" {
		room, wide = 12, 8
	}
	for wide*tile > room {
		wide /= 2
	}
	return wide
}

// rowBytes are those of a register of rows in memory.
func (k attendKernel) rowBytes() int { return k.bytes / 4 * k.size }

func (k attendKernel) sum(p, t int) string { return k.r(t*k.wide + p) }

// temp are the registers after the sums.
func (k attendKernel) temp(i int) string { return k.r(k.tile*k.wide + i) }

func (f *file) attend(k attendKernel) {
	a := f.fn(fmt.Sprintf("attend%sBy%d%s", k.name, k.tile, k.level), fmt.Sprintf("multiplies 64 rows of %s with %s: see mulRows.", k.name, vectorsText(k.tile)),
		"dst *float32, stride int, rows "+k.pointer+", rowStride int, x *float32, steps int, add int")
	a.arg("dst", "DI")
	a.arg("stride", "DX")
	a.arg("rows", "SI")
	a.arg("rowStride", "R12")
	a.op("LEAQ (R12)(R12*2), R13")
	a.arg("add", "R11")
	a.op("MOVQ $%d, BX", 64*4/k.bytes/k.wide)
	a.countdown("BX", func() {
		a.note("R10: rows, R8: vectors, CX: steps of 4 columns")
		for i := range k.tile * k.wide {
			a.op("VXORPS %s, %s, %s", k.r(i), k.r(i), k.r(i))
		}
		a.op("MOVQ SI, R10")
		a.arg("x", "R8")
		a.arg("steps", "CX")
		a.countdown("CX", func() {
			for i := range 4 {
				a.rowsAhead(k, i)
				a.column(k, i)
			}
			a.op("LEAQ (R10)(R12*4), R10")
			a.op("ADDQ $16, R8")
		})
		a.storeSums(k)
		a.op("ADDQ $%d, SI", k.wide*k.rowBytes())
		a.op("ADDQ $%d, DI", k.wide*k.bytes)
	})
	a.ret()
}

// column adds the products of column i of four. What there are fewer of, vectors or registers of rows, stays in registers meanwhile.
func (a *fn) column(k attendKernel, i int) {
	if k.tile <= k.wide {
		for t := range k.tile {
			a.op("VBROADCASTSS %d(R8), %s", 256*t+4*i, k.temp(t))
		}
		for p := range k.wide {
			a.loadRows(k, i, p, k.temp(k.tile))
			for t := range k.tile {
				a.op("VFMADD231PS %s, %s, %s", k.temp(k.tile), k.temp(t), k.sum(p, t))
			}
		}
		return
	}
	for p := range k.wide {
		a.loadRows(k, i, p, k.temp(p))
	}
	for t := range k.tile {
		a.op("VBROADCASTSS %d(R8), %s", 256*t+4*i, k.temp(k.wide))
		for p := range k.wide {
			a.op("VFMADD231PS %s, %s, %s", k.temp(p), k.temp(k.wide), k.sum(p, t))
		}
	}
}

// rowsAhead asks for rows of a column that is attendAhead bytes further, for few vectors, which wait for memory.
func (a *fn) rowsAhead(k attendKernel, i int) {
	if k.tile > 4 {
		return
	}
	for at := 0; at < k.wide*k.rowBytes(); at += 64 {
		a.op("PREFETCHT0 %d(R10)%s", attendAhead+at, [4]string{"", "(R12*1)", "(R12*2)", "(R13*1)"}[i])
	}
}

// attendAhead takes a tenth of the time of a token at 4096 positions, as 8 KiB would.
const attendAhead = 4096

// loadRows loads a register of rows of column i of four.
func (a *fn) loadRows(k attendKernel, i, p int, to string) {
	from := fmt.Sprintf("%d(R10)%s", p*k.rowBytes(), [4]string{"", "(R12*1)", "(R12*2)", "(R13*1)"}[i])
	switch k.name {
	case "F32":
		a.op("VMOVUPS %s, %s", from, to)
	case "F16":
		a.op("VCVTPH2PS %s, %s", from, to)
	case "I8":
		a.op("VPMOVSXBD %s, %s", from, to)
		a.op("VCVTDQ2PS %s, %s", to, to)
	}
}

// storeSums adds the sums to what stands in dst, or to 0, which makes 0 of a sum that is -0.
func (a *fn) storeSums(k attendKernel) {
	first, done, zero := a.label("first"), a.label("done"), k.temp(0)
	a.op("MOVQ DI, R9")
	a.op("TESTQ R11, R11")
	a.op("JZ %s", first)
	for t := range k.tile {
		for p := range k.wide {
			a.op("VADDPS %d(R9), %s, %s", p*k.bytes, k.sum(p, t), k.sum(p, t))
			a.op("VMOVUPS %s, %d(R9)", k.sum(p, t), p*k.bytes)
		}
		a.op("ADDQ DX, R9")
	}
	a.op("JMP %s", done)
	a.mark(first)
	a.op("VXORPS %s, %s, %s", zero, zero, zero)
	for t := range k.tile {
		for p := range k.wide {
			a.op("VADDPS %s, %s, %s", zero, k.sum(p, t), k.sum(p, t))
			a.op("VMOVUPS %s, %d(R9)", k.sum(p, t), p*k.bytes)
		}
		a.op("ADDQ DX, R9")
	}
	a.mark(done)
}
