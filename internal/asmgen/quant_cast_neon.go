package main

// lanes are those that numbers of a type are compared in.
func (n number) lanes() string { return map[int]string{2: "8h", 4: "4s"}[n.bytes] }

// weights loads 4*count values as float32 into registers from d on and moves the pointer behind them; count is 4 or 8, and registers from tmp on hold what was read.
func (a *fn) weights(n number, pointer string, d, tmp, count int) {
	if n.name == "F32" {
		for i := 0; i < count; i += 4 {
			a.load64(pointer, d+i)
		}
		return
	}
	if count == 8 {
		a.load64(pointer, tmp)
	} else {
		a.op("VLD1.P 32(%s), [V%d.B16, V%d.B16]", pointer, tmp, tmp+1)
	}
	name := map[string]string{"BF16": "shll", "F16": "fcvtl"}[n.name]
	for i := range count / 2 {
		a.long(name, "4s", d+2*i, tmp+i)
		a.long(name+"2", "4s", d+2*i+1, tmp+i)
	}
}

// The registers that rounding to a type takes, beside those it rounds.
const (
	roundTmp       = 16 // and three after it
	roundConstants = 28 // and three after it
)

func (a *fn) roundConstants(n number) {
	const c = roundConstants
	switch n.name {
	case "BF16":
		a.constantNEON(1, c)
		a.constantNEON(0x7FFF, c+1)
		a.constantNEON(0x7FC07FC0, c+2)
	case "F16":
		a.constantNEON(0x80008000, c)
		a.constantNEON(0x7FFF7FFF, c+1)
		a.constantNEON(0x7C007C00, c+2)
		a.constantNEON(0x7D007D00, c+3)
	}
}

// round rounds registers r and r+1 to nearest even, into the eight lanes of register r. NaN becomes MLX's.
func (a *fn) round(n number, r int) {
	const t, c = roundTmp, roundConstants
	if n.name == "F16" {
		a.short("fcvtn", "4s", r, r)
		a.short("fcvtn2", "4s", r, r+1)
		a.v("and", "16b", t, r, c+1)
		a.v("cmgt", "8h", t, t, c+2)
		a.move(t+1, c)
		a.v("bsl", "16b", t+1, r, c+3)
		a.v("bit", "16b", r, t+1, t)
		return
	}
	for i := range 2 {
		a.shift("ushr", "4s", t+i, r+i, 16)
		a.v("and", "16b", t+i, t+i, c)
		a.v("add", "4s", t+2+i, r+i, c+1)
		a.v("add", "4s", t+i, t+i, t+2+i)
		a.v("fcmeq", "4s", r+i, r+i, r+i)
	}
	a.v("uzp1", "8h", t+2, r, r+1) // ones unless NaN
	a.v("uzp2", "8h", r, t, t+1)
	a.v("bif", "16b", r, c+2, t+2)
}

func (f *file) castNEON(from, to number) {
	a := f.fn("cast"+from.name+"To"+to.name+"NEON", "converts 32 values a block: see kernels.cast.", "dst *byte, src *byte, blocks int")
	a.argsNEON("dst", "src", "blocks")
	a.roundConstants(to)
	a.loop("R2", func() {
		a.weights(from, "R1", 0, 8, 8)
		if to.name == "F32" {
			a.store64("R0", 0)
			a.store64("R0", 4)
			return
		}
		for r := 0; r < 8; r += 2 {
			a.round(to, r)
			a.op("FMOVQ.P F%d, 16(R0)", r)
		}
	})
	a.op("RET")
	if to.name == "F32" {
		f.alias(a, "decode"+from.name, "dst *float32, src *byte, blocks int")
	}
	if from.name == "F32" {
		f.alias(a, "encode"+to.name, "dst *byte, src *float32, blocks int")
	}
}

// finiteNEON finds the largest magnitude of 128 bytes.
func (f *file) finiteNEON(n number) {
	a := f.fn("finite"+n.name+"NEON", "counts the blocks of 128 bytes before the first that has NaN or infinity: see kernels.finite.", "src *byte, blocks int", "count int")
	found, again := a.label("found"), a.label("again")
	magnitude := map[int]uint32{2: 0x7FFF7FFF, 4: 0x7FFFFFFF}[n.bytes]
	a.argsNEON("src", "blocks")
	a.constantNEON(magnitude, 16)
	a.op("MOVD $0, R2")
	a.op("MOVD $0x%x, R3", map[string]int{"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}[n.name])
	a.mark(again)
	a.load64("R0", 0)
	a.load64("R0", 4)
	for i := range 8 {
		a.v("and", "16b", i, i, 16)
	}
	for apart := 4; apart > 0; apart /= 2 {
		for i := range apart {
			a.v("umax", n.lanes(), i, i, i+apart)
		}
	}
	a.across("umaxv", n.lanes(), 0, 0)
	a.op("FMOVS F0, R4")
	a.op("CMPW R3, R4")
	a.op("BHS %s", found)
	a.op("ADD $1, R2, R2")
	a.op("CMP R1, R2")
	a.op("BNE %s", again)
	a.mark(found)
	a.op("MOVD R2, %s", a.at("count"))
	a.op("RET")
}
