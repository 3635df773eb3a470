package main

import "fmt"

// attendNEON is attend for NEON: a register has 4 of the 64 rows.
type attendNEON struct {
	kvType
	tile int // vectors
	wide int // registers of rows that a pass takes
	half int // vectors whose sums are in registers: all, or half of them
}

// attendNEONs are the kernels by tile: as many sums as there is room for beside two registers of rows and one for each vector.
func attendNEONs(t kvType) (out []attendNEON) {
	for i, wide := range []int{16, 8, 8, 4, 4, 2, 4} {
		k := attendNEON{t, attendTiles[i], wide, attendTiles[i]}
		if k.tile == 12 {
			k.half = 6
		}
		out = append(out, k)
	}
	return out
}

func attendFileNEON() *file {
	f := newFile("internal/tensor", "attend_neon", "arm64", "")
	var list table
	for _, t := range kvTypes {
		for i, k := range attendNEONs(t) {
			f.attendNEON(k)
			place := map[string]string{"F32": "attend[KVFloat32]", "F16": "attend[KVFloat16]", "I8": "attendI8"}[k.name]
			list.add("k.%s[%d] = attend%sBy%dNEON", place, i, k.name, k.tile)
		}
	}
	f.setter("attendNEON", "puts the kernels of this file into a table.", list)
	return f
}

// The registers of vectors come first, because products of whole numbers take lanes of the first 16 only; then the sums, and two registers of rows.
func (k attendNEON) x(t int) int      { return t }
func (k attendNEON) sum(p, t int) int { return k.half + t*k.wide + p }
func (k attendNEON) rows() int        { return k.half * (k.wide + 1) }

// column is the bytes of a column of a vector.
func (k attendNEON) column() int { return map[int]int{1: 4, 2: 2}[k.side] }

func (f *file) attendNEON(k attendNEON) {
	x := "x *float32"
	if k.side == 2 {
		x = "x *byte, scales *float32"
	}
	a := f.fn(fmt.Sprintf("attend%sBy%dNEON", k.name, k.tile), fmt.Sprintf("multiplies 64 rows of %s with %s: see mulRows.", k.name, vectorsText(k.tile)),
		"dst *float32, stride int, rows *byte, rowStride int, "+x+", steps int, add int, ahead *byte")
	a.argsNEON("dst", "stride", "rows", "rowStride", "x")
	a.argNEON("add", "R6")
	if k.side == 2 {
		a.argNEON("scales", "R12")
	}
	if k.half == k.tile {
		a.attendPassesNEON(k)
		a.op("RET")
		return
	}
	a.op("MOVD $%d, R14", k.tile/k.half)
	a.loop("R14", func() {
		a.attendPassesNEON(k)
		a.note("the next vectors, from the first row on")
		a.argNEON("rows", "R2")
		a.op("ADD $%d, R4, R4", 64*k.column()*k.half)
		if k.side == 2 {
			a.op("ADD $%d, R12, R12", 4*k.half)
		}
		a.op("SUB $256, R0, R0")
		a.op("MOVD $%d, R7", k.half)
		a.op("MADD R7, R0, R1, R0")
	})
	a.op("RET")
}

// attendPassesNEON takes all rows, some at a time.
func (a *fn) attendPassesNEON(k attendNEON) {
	a.op("MOVD $%d, R7", 16/k.wide)
	a.loop("R7", func() {
		a.note("R8: rows, R9: vectors, R10: steps of 4 columns")
		for i := range k.half * k.wide {
			a.movi8(k.sum(0, 0)+i, 0)
		}
		a.op("MOVD R2, R8")
		a.op("MOVD R4, R9")
		a.argNEON("steps", "R10")
		a.loop("R10", func() {
			for t := range k.half {
				a.op("%s %d(R9), F%d", map[int]string{1: "FMOVQ", 2: "FMOVD"}[k.side], 64*k.column()*t, k.x(t))
			}
			a.op("ADD $%d, R9, R9", 4*k.column())
			for column := 0; column < 4; column += k.side {
				for p := 0; p < k.wide; p += 2 {
					a.rowPairNEON(k, p)
					for t := range k.half {
						a.productsNEON(k, p, t, column)
					}
				}
				a.op("ADD R3, R8, R8")
			}
		})
		a.attendSumsNEON(k)
		a.op("ADD $%d, R2, R2", 4*k.wide*k.size*k.side)
		a.op("ADD $%d, R0, R0", 16*k.wide)
	})
}

// rowPairNEON loads rows for sums p and p+1: of a column as float32, or of two columns as whole numbers, a column in each register.
func (a *fn) rowPairNEON(k attendNEON, p int) {
	r, at := k.rows(), 4*p*k.size*k.side
	switch k.name {
	case "F32":
		a.op("FLDPQ %d(R8), (F%d, F%d)", at, r, r+1)
	case "F16":
		a.load(fmt.Sprintf("%d(R8)", at), r)
		a.long("fcvtl2", "4s", r+1, r)
		a.long("fcvtl", "4s", r, r)
	case "I8":
		a.load(fmt.Sprintf("%d(R8)", at), r)
		a.shift("sshr", "8h", r+1, r, 8)
		a.shift("shl", "8h", r, r, 8)
		a.shift("sshr", "8h", r, r, 8)
	}
}

// productsNEON adds those rows times vector t to its sums.
func (a *fn) productsNEON(k attendNEON, p, t, column int) {
	for i := range 2 {
		if k.side == 1 {
			a.fmlaLane(k.sum(p+i, t), k.rows()+i, k.x(t), column)
			continue
		}
		a.smlalLane(k.sum(p, t), k.rows()+i, k.x(t), column+i)
		a.smlal2Lane(k.sum(p+1, t), k.rows()+i, k.x(t), column+i)
	}
}

// attendSumsNEON adds the sums to what stands in dst, or to 0, which makes 0 of a sum that is -0. Exact sums are added as the product with the step of their vector.
func (a *fn) attendSumsNEON(k attendNEON) {
	r, first, done := k.rows(), a.label("first"), a.label("done")
	each := func(old func(p int)) {
		a.op("MOVD R0, R11")
		for t := range k.half {
			if k.side == 2 {
				a.op("FMOVS %d(R12), F%d", 4*t, k.x(0))
			}
			for p := 0; p < k.wide; p += 2 {
				old(p)
				for i := range 2 {
					if k.side == 1 {
						a.v("fadd", "4s", r+i, r+i, k.sum(p+i, t))
						continue
					}
					a.v("scvtf", "4s", k.sum(p+i, t), k.sum(p+i, t))
					a.fmlaLane(r+i, k.sum(p+i, t), k.x(0), 0)
				}
				a.op("FSTPQ (F%d, F%d), %d(R11)", r, r+1, 16*p)
			}
			a.op("ADD R1, R11, R11")
		}
	}
	a.op("CBZ R6, %s", first)
	each(func(p int) { a.op("FLDPQ %d(R11), (F%d, F%d)", 16*p, r, r+1) })
	a.op("JMP %s", done)
	a.mark(first)
	each(func(int) {
		a.movi8(r, 0)
		a.movi8(r+1, 0)
	})
	a.mark(done)
}
