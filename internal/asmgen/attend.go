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
	name string
	size int // of a number
	side int // columns that lie side by side
}

var kvTypes = []kvType{{"F32", 4, 1}, {"F16", 2, 1}, {"I8", 1, 2}}

func attend(l lanes) *file {
	f := l.file("attend")
	for _, t := range kvTypes {
		for _, tile := range attendTiles {
			f.attend(attendKernel{l, t, tile, widest(l, t, tile)})
		}
	}
	return f
}

// widest is how many registers of rows a tile has room for. A column's weights or its activations need registers too, whichever are fewer, and the other of them one; and so does a product that is added on its own.
func widest(l lanes, t kvType, tile int) int {
	room, wide := 31, 4
	if l.reg == "Y" {
		room, wide = 15, 8
		if t.side == 2 {
			room--
		}
	}
	for wide*tile+min(wide, tile) > room {
		wide /= 2
	}
	return wide
}

// rowBytes are those of a register of rows in memory.
func (k attendKernel) rowBytes() int { return k.bytes / 4 * k.size * k.side }

func (k attendKernel) sum(p, t int) string { return k.r(t*k.wide + p) }

// temp are the registers after the sums.
func (k attendKernel) temp(i int) string { return k.r(k.tile*k.wide + i) }

func (f *file) attend(k attendKernel) {
	x, perVector := "x *float32", ""
	if k.side == 2 {
		x, perVector = "x *byte", ", scales *float32"
	}
	a := f.fn(fmt.Sprintf("attend%sBy%d%s", k.name, k.tile, k.level), fmt.Sprintf("multiplies 64 rows of %s with %s: see mulRows.", k.name, vectorsText(k.tile)),
		"dst *float32, stride int, rows *byte, rowStride int, "+x+perVector+", steps int, add int, ahead *byte")
	a.arg("dst", "DI")
	a.arg("stride", "DX")
	a.arg("rows", "SI")
	a.arg("rowStride", "R12")
	a.op("LEAQ (R12)(R12*2), R13")
	a.arg("add", "R11")
	if k.asks() {
		a.arg("ahead", "AX")
	}
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
			for i := range 4 / k.side {
				if k.asks() {
					a.rowsAhead(k)
				}
				a.column(k, i)
			}
			a.op("LEAQ (R10)(R12*%d), R10", 4/k.side)
			a.op("ADDQ $%d, R8", 16/k.side)
		})
		if k.side == 2 {
			a.storeWhole(k)
		} else {
			a.storeSums(k)
		}
		a.op("ADDQ $%d, SI", k.wide*k.rowBytes())
		a.op("ADDQ $%d, DI", k.wide*k.bytes)
	})
	a.ret()
}

// fromColumn addresses column i of four, or pair i of two, at bytes further on.
func fromColumn(at, i int) string {
	return fmt.Sprintf("%d(R10)%s", at, [4]string{"", "(R12*1)", "(R12*2)", "(R13*1)"}[i])
}

// column adds the products of column i of four. What there are fewer of, vectors or registers of rows, stays in registers meanwhile.
func (a *fn) column(k attendKernel, i int) {
	x, row, product := k.temp(min(k.tile, k.wide)), k.temp(min(k.tile, k.wide)), k.temp(min(k.tile, k.wide)+1)
	if k.tile <= k.wide {
		for t := range k.tile {
			a.broadcast(k, i, t, k.temp(t))
		}
		for p := range k.wide {
			a.loadRows(k, i, p, row)
			for t := range k.tile {
				a.addProduct(k, row, k.temp(t), k.sum(p, t), product)
			}
		}
		return
	}
	for p := range k.wide {
		a.loadRows(k, i, p, k.temp(p))
	}
	for t := range k.tile {
		a.broadcast(k, i, t, x)
		for p := range k.wide {
			a.addProduct(k, k.temp(p), x, k.sum(p, t), product)
		}
	}
}

// broadcast fills a register with column i of vector t, or with two columns.
func (a *fn) broadcast(k attendKernel, i, t int, to string) {
	if k.side == 2 {
		a.op("VPBROADCASTD %d(R8), %s", 128*t+4*i, to)
	} else {
		a.op("VBROADCASTSS %d(R8), %s", 256*t+4*i, to)
	}
}

// addProduct adds rows times vectors to sums.
func (a *fn) addProduct(k attendKernel, rows, x, sums, product string) {
	switch {
	case k.side == 1:
		a.op("VFMADD231PS %s, %s, %s", rows, x, sums)
	case k.reg == "Z":
		a.op("VPDPWSSD %s, %s, %s", rows, x, sums)
	default:
		a.op("VPMADDWD %s, %s, %s", rows, x, product)
		a.op("VPADDD %s, %s, %s", product, sums, sums)
	}
}

// asks reports whether a kernel asks for what is read next: those for few vectors wait for memory.
func (k attendKernel) asks() bool { return k.tile <= 4 }

// rowsAhead asks for as many bytes at ahead, which it moves on, as a column's rows are: in the second cache, because requests of the first wait for each other where much comes from memory. In a loop of such products over 170 MB
// that is 41 GB/s instead of 37.
func (a *fn) rowsAhead(k attendKernel) {
	n := k.wide * k.rowBytes()
	for at := 0; at < n; at += 64 {
		a.op("PREFETCHT1 %d(AX)", at)
	}
	a.op("ADDQ $%d, AX", n)
}

// loadRows loads a register of rows of column i of four.
func (a *fn) loadRows(k attendKernel, i, p int, to string) {
	load := map[string]string{"F32": "VMOVUPS", "F16": "VCVTPH2PS", "I8": "VPMOVSXBW"}[k.name]
	a.op("%s %s, %s", load, fromColumn(p*k.rowBytes(), i), to)
}

// storeSums adds the sums to what stands in dst, or to 0, which makes 0 of a sum that is -0.
func (a *fn) storeSums(k attendKernel) {
	zero := k.temp(0)
	a.store(k, func() {
		a.op("VXORPS %s, %s, %s", zero, zero, zero)
	}, func(t, p int, add bool) {
		before := zero
		if add {
			before = fmt.Sprintf("%d(R9)", p*k.bytes)
		}
		a.op("VADDPS %s, %s, %s", before, k.sum(p, t), k.sum(p, t))
		a.op("VMOVUPS %s, %d(R9)", k.sum(p, t), p*k.bytes)
	})
}

// storeWhole adds the exact sums, times the step of their vector.
func (a *fn) storeWhole(k attendKernel) {
	step, before := k.temp(0), k.temp(1)
	a.arg("scales", "R8")
	a.store(k, func() {}, func(t, p int, add bool) {
		if p == 0 {
			a.op("VBROADCASTSS %d(R8), %s", 4*t, step)
		}
		a.op("VCVTDQ2PS %s, %s", k.sum(p, t), k.sum(p, t))
		if add {
			a.op("VMOVUPS %d(R9), %s", p*k.bytes, before)
		} else {
			a.op("VXORPS %s, %s, %s", before, before, before)
		}
		a.op("VFMADD231PS %s, %s, %s", k.sum(p, t), step, before)
		a.op("VMOVUPS %s, %d(R9)", before, p*k.bytes)
	})
}

// store runs one, R9 being where the results of a vector belong, for each register of sums: they are added to what stands there, or are the first.
func (a *fn) store(k attendKernel, first func(), one func(t, p int, add bool)) {
	fresh, done := a.label("first"), a.label("done")
	each := func(add bool) {
		for t := range k.tile {
			for p := range k.wide {
				one(t, p, add)
			}
			a.op("ADDQ DX, R9")
		}
	}
	a.op("MOVQ DI, R9")
	a.op("TESTQ R11, R11")
	a.op("JZ %s", fresh)
	each(true)
	a.op("JMP %s", done)
	a.mark(fresh)
	first()
	each(false)
	a.mark(done)
}
