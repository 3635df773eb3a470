package main

import "fmt"

// quartered is how kernels of NEON take panels. A register has the numbers of 4 rows; vectors are taken four at a time, or one alone. Sums of a segment are in V0 and up; those of rows grow in dst.
type quartered struct{ panels, tile, from, quarters int }

// vectors are those that a pass takes.
func (p quartered) vectors() int { return min(p.tile, 4) }

// acc are sums of a quarter, of 0 to before quarters, and of a plane of activations.
func (p quartered) acc(panel, plane, q, t int) int {
	return ((panel+plane)*p.quarters+q)*p.vectors() + t
}

// begin loads arguments: R0 is dst, R1 the bytes between its rows, R15 the place of four vectors among those of a tile.
func (p quartered) begin(a *fn) {
	a.argNEON("dst", "R0")
	a.argNEON("stride", "R1")
	a.op("LSL $2, R1, R1")
	if p.tile > 4 {
		a.op("MOVD $0, R15")
	}
}

// groups repeats body for every four vectors.
func (p quartered) groups(a *fn, body func()) {
	if p.tile <= 4 {
		body()
		a.op("RET")
		return
	}
	again := a.label("group")
	a.mark(again)
	body()
	a.op("ADD R1<<2, R0, R0")
	a.op("ADD $16, R15, R15")
	a.op("CMP $%d, R15", 4*p.tile)
	a.op("BNE %s", again)
	a.op("RET")
}

// argOf loads a pointer to numbers of all vectors.
func (p quartered) argOf(a *fn, name, reg string) {
	a.argNEON(name, reg)
	if p.tile > 4 {
		a.op("ADD R15, %s, %s", reg, reg)
	}
}

// totals calls body for each vector, with R11 pointing to the sums of rows.
func (p quartered) totals(a *fn, body func(t int)) {
	a.op("MOVD R0, R11")
	for t := range p.vectors() {
		body(t)
		if t < p.vectors()-1 {
			a.op("ADD R1, R11, R11")
		}
	}
}

// total addresses a quarter of what totals points to.
func (p quartered) total(panel, q int) string { return fmt.Sprintf("%d(R11)", 64*panel+16*(p.from+q)) }

// clear begins sums of rows with zeros.
func (p quartered) clear(a *fn) {
	a.movi8(31, 0)
	p.totals(a, func(int) {
		for panel := range p.panels {
			for q := range p.quarters {
				a.op("FMOVQ F31, %s", p.total(panel, q))
			}
		}
	})
}

// heads loads scales into V16 and up, biases into V20 and up.
func (p quartered) heads(a *fn, c codes, s scale, base string) {
	for q := range p.quarters {
		a.widenQuarter(s, 16+q, fmt.Sprintf("%d(%s)", 4*s.bytes*(p.from+q), base))
		if c.biased {
			a.widenQuarter(s, 20+q, fmt.Sprintf("%d(%s)", 16*s.bytes+4*s.bytes*(p.from+q), base))
		}
	}
}

// widenQuarter loads 4 scales as float32.
func (a *fn) widenQuarter(s scale, reg int, from string) {
	switch s.name {
	case "BF16":
		a.op("FMOVD %s, F%d", from, reg)
		a.long("shll", "4s", reg, reg)
	case "F16":
		a.op("FMOVD %s, F%d", from, reg)
		a.long("fcvtl", "4s", reg, reg)
	default:
		a.load(from, reg)
	}
}

// split makes bytes of codes of the words at a place: in V16 and up, and of four-bit codes the other half in V20 and up. V29 is a mask, V30 the values of E2M1 codes.
func (p quartered) split(a *fn, c codes, at func(q int) string) {
	for q := range p.quarters {
		a.load(at(q), 16+q)
		if c.name == "Byte" {
			continue
		}
		a.shift("ushr", "16b", 20+q, 16+q, 4)
		a.v("and", "16b", 16+q, 16+q, 29)
		if c.name == "Mini" {
			a.tbl(16+q, 30, 1, 16+q)
			a.tbl(20+q, 30, 1, 20+q)
		}
	}
}

// splitConstants loads what split needs.
func (a *fn) splitConstants(c codes) {
	if c.name != "Byte" {
		a.movi8(29, 15)
	}
	if c.name == "Mini" {
		a.op("MOVD $%s, R12", a.table("miniBytes", miniBytes()[:2]...))
		a.load("(R12)", 30)
	}
}

// The time of these kernels on a processor has not been measured: they were tested in an emulator alone.
func panelNEON() *file {
	f := newFile("internal/tensor", "panel_neon", "arm64", importQuant)
	table := f.integers("NEON", (*fn).integerNEON)
	table = append(table, f.transposes("NEON", f.transposeNEON)...)
	f.setter("integersNEON", "puts the kernels of this file into a table.", table)
	return f
}

// integerNEON is integer by SDOT of bytes. Activations of 16 bits are taken as two planes, x = 256*high + low, both signed; codes of eight bits less 128, which is made good by the sum of the activations.
func (a *fn) integerNEON(k integerKernel) {
	quarters := 4
	if k.width == 2 && k.tile > 1 {
		quarters = 2
	}
	p := quartered{1, k.tile, 0, quarters}
	p.begin(a)
	a.splitConstants(k.codes)
	if k.codes.name == "Byte" {
		a.movi8(30, 128)
	}
	p.groups(a, func() {
		for p.from = 0; p.from < 4; p.from += quarters {
			a.integerPassNEON(k, p)
		}
		p.from = 0
	})
}

// integerPassNEON multiplies some quarters of a panel with up to four vectors.
func (a *fn) integerPassNEON(k integerKernel, p quartered) {
	quads := k.columns() / 4
	p.clear(a)
	if k.width == 2 {
		a.movi16(31, 128)
	}
	a.argNEON("panel", "R4")
	p.argOf(a, "x", "R8")
	p.argOf(a, "scales", "R9")
	a.argNEON("segments", "R2")
	a.loop("R2", func() {
		for i := range k.width * p.quarters * p.vectors() {
			a.movi8(i, 0)
		}
		if k.codes.name == "Byte" {
			a.note("V20, V21: sums of activations, of each plane; V22: ones")
			a.movi8(20, 0)
			a.movi8(21, 0)
			a.movi8(22, 1)
		}
		a.op("ADD $%d, R4, R10", head(k.codes, k.scale))
		a.argNEON("steps", "R3")
		a.op("LSL $1, R3, R3")
		a.loop("R3", func() {
			p.split(a, k.codes, func(q int) string { return fmt.Sprintf("%d(R10)", 16*(p.from+q)) })
			x := a.quadsNEON(k, p, quads)
			for quad := range quads {
				for plane := range k.width {
					for t := range p.vectors() {
						reg, i := x(plane, quad, t)
						for q := range p.quarters {
							if k.codes.name == "Byte" && plane == 0 && t == 0 {
								a.v("eor", "16b", 16+q, 16+q, 30)
							}
							a.sdotLane(p.acc(0, plane, q, t), 16+4*quad+q, reg, i)
						}
					}
					if k.codes.name == "Byte" {
						reg, _ := x(plane, quad, 0)
						a.sdot(20+plane, reg, 22)
					}
				}
			}
			a.op("ADD $64, R10, R10")
			a.op("ADD $%d, R8, R8", 4*quads*k.width*k.tile)
		})
		a.integerSegmentNEON(k, p)
		a.op("MOVD R10, R4")
		a.op("ADD $%d, R9, R9", 8*k.tile)
	})
}

// quadsNEON loads activations of a word of codes, and says where those of four columns are: the register and which of its four parts.
func (a *fn) quadsNEON(k integerKernel, p quartered, quads int) func(plane, quad, t int) (reg, i int) {
	if k.tile == 1 {
		load := [3]string{"FMOVS", "FMOVD", "FMOVQ"}[quads/2+k.width-1]
		a.op("%s (R8), F28", load)
		if k.width == 2 {
			a.v("add", "8h", 28, 28, 31)
			a.v("eor", "16b", 28, 28, 31)
			a.ext(25, 28, 28, 4*quads)
			a.v("trn2", "16b", 26, 28, 25)
			a.v("trn1", "16b", 28, 28, 25)
		}
		return func(plane, quad, _ int) (reg, i int) { return 28 - 2*plane, quad }
	}
	for i := range quads * k.width {
		a.load(fmt.Sprintf("%d(R8)", 4*k.tile*i), 24+i)
		if k.width == 2 {
			a.v("add", "8h", 24+i, 24+i, 31)
			a.v("eor", "16b", 24+i, 24+i, 31)
		}
	}
	if k.width == 1 {
		return func(_, quad, t int) (reg, i int) { return 24 + quad, t }
	}
	low := [2]int{28, 26}
	for quad := range quads {
		first, second := 24+quad, 24+quad+quads
		a.v("trn1", "16b", low[quad], first, second)
		a.v("trn2", "16b", first, first, second)
	}
	return func(plane, quad, t int) (reg, i int) { return [2]int{low[quad], 24 + quad}[plane], t }
}

// integerSegmentNEON adds a segment to the sums of rows.
func (a *fn) integerSegmentNEON(k integerKernel, p quartered) {
	if k.codes.name == "Byte" {
		if k.width == 2 {
			a.shift("shl", "4s", 21, 21, 8)
			a.v("add", "4s", 20, 20, 21)
		}
		a.shift("shl", "4s", 20, 20, 7)
	}
	for t := range p.vectors() {
		if k.codes.name == "Byte" {
			a.dup32(24, 20, t)
		}
		for q := range p.quarters {
			d := p.acc(0, 0, q, t)
			if k.width == 2 {
				a.shift("shl", "4s", p.acc(0, 1, q, t), p.acc(0, 1, q, t), 8)
				a.v("add", "4s", d, d, p.acc(0, 1, q, t))
			}
			if k.codes.name == "Byte" {
				a.v("add", "4s", d, d, 24)
			}
			a.v("scvtf", "4s", d, d)
		}
	}
	a.note("V16 and up: scales, V20 and up: biases; V25: what activations are worth, V26: their sums")
	p.heads(a, k.codes, k.scale, "R4")
	load := "FMOVQ"
	if k.tile == 1 {
		load = "FMOVS"
	}
	a.op("%s (R9), F25", load)
	if k.biased {
		a.op("%s %d(R9), F26", load, 4*k.tile)
	}
	p.totals(a, func(t int) {
		for q := range p.quarters {
			a.fmulLane(24, 16+q, 25, t)
			a.load(p.total(0, q), 27)
			if k.biased {
				a.fmlaLane(27, 20+q, 26, t)
			}
			a.v("fmla", "4s", 27, 24, p.acc(0, 0, q, t))
			a.op("FMOVQ F27, %s", p.total(0, q))
		}
	})
}

func floatNEON() *file {
	f := newFile("internal/tensor", "float_neon", "arm64", importQuant)
	f.setter("floatsNEON", "puts the kernels of this file into a table.", f.floats("NEON", (*fn).floatNEON, (*fn).plainFloatNEON))
	return f
}

// panelPointers loads R4 and up: the panels.
func (p quartered) panelPointers(a *fn) {
	a.argNEON("panel", "R4")
	if p.panels > 1 {
		a.argNEON("panelStride", "R12")
		for panel := 1; panel < p.panels; panel++ {
			a.op("ADD R12, R%d, R%d", 3+panel, 4+panel)
		}
	}
}

// activations calls body with the register and its part that have the activation of column i and vector t.
func (p quartered) activations(a *fn, i int, body func(t, reg, part int)) {
	if p.tile == 1 {
		if i%4 == 0 {
			a.load(fmt.Sprintf("%d(R8)", 4*i), 28)
		}
		body(0, 28, i%4)
		return
	}
	a.load(fmt.Sprintf("%d(R8)", 4*i*p.tile), 28)
	for t := range p.vectors() {
		body(t, 28, t)
	}
}

// floatNEON is float for quarters of panels.
func (a *fn) floatNEON(k floatKernel) {
	p := quartered{k.panels, k.tile, 0, 4}
	p.begin(a)
	a.splitConstants(k.codes)
	if k.biased {
		a.note("V30: the centre of codes; see codeTable")
		a.argNEON("codes", "R12")
		a.op("FMOVS 64(R12), F30")
		a.dup32(30, 30, 0)
	}
	p.groups(a, func() {
		p.clear(a)
		p.panelPointers(a)
		p.argOf(a, "x", "R8")
		if k.biased {
			p.argOf(a, "sums", "R9")
		}
		a.argNEON("segments", "R2")
		a.loop("R2", func() {
			for i := range 16 {
				a.movi8(i, 0)
			}
			a.note("R13: bytes of a segment")
			a.argNEON("words", "R3")
			a.op("LSL $6, R3, R13")
			a.op("ADD $%d, R13, R13", head(k.codes, k.scale))
			for panel := range k.panels {
				a.op("ADD $%d, R%d, R%d", head(k.codes, k.scale), 4+panel, 4+panel)
			}
			a.loop("R3", func() {
				for panel := range k.panels {
					p.split(a, k.codes, func(q int) string { return fmt.Sprintf("%d(R%d)", 16*q, 4+panel) })
					for i := range k.columns() {
						for q := range 4 {
							a.codeNEON(k, i, q)
						}
						p.activations(a, i, func(t, reg, part int) {
							for q := range 4 {
								a.fmlaLane(p.acc(panel, 0, q, t), 24+q, reg, part)
							}
						})
					}
					a.op("ADD $64, R%d, R%d", 4+panel, 4+panel)
				}
				a.op("ADD $%d, R8, R8", 4*k.columns()*k.tile)
			})
			for panel := range k.panels {
				a.floatSegmentNEON(k, p, panel)
			}
			if k.biased {
				a.op("ADD $%d, R9, R9", 4*k.tile)
			}
		})
	})
}

// codeNEON makes weights of column i in V24 and up.
func (a *fn) codeNEON(k floatKernel, i, q int) {
	from, at, to := 16+4*(i/2%2)+q, i%2*2+i/4, 24+q
	if k.codes.name == "Byte" {
		from, at = 16+q, i%2*2+i/2
	}
	if at < 3 {
		a.shift("shl", "4s", to, from, 24-8*at)
		from = to
	}
	if !k.biased {
		a.shift("sshr", "4s", to, from, 24)
		a.v("scvtf", "4s", to, to)
		return
	}
	a.shift("ushr", "4s", to, from, 24)
	a.v("scvtf", "4s", to, to)
	a.v("fsub", "4s", to, to, 30)
}

// floatSegmentNEON adds a segment to the sums of rows.
func (a *fn) floatSegmentNEON(k floatKernel, p quartered, panel int) {
	a.note("V16 and up: scales, V20 and up: biases, V28: sums of activations")
	a.op("SUB R13, R%d, R12", 4+panel)
	p.heads(a, k.codes, k.scale, "R12")
	if k.biased {
		for q := range 4 {
			a.v("fmla", "4s", 20+q, 30, 16+q)
		}
		if k.tile == 1 {
			a.op("FMOVS (R9), F28")
		} else {
			a.load("(R9)", 28)
		}
	}
	p.totals(a, func(t int) {
		for q := range 4 {
			a.load(p.total(panel, q), 24)
			if k.biased {
				a.fmlaLane(24, 20+q, 28, t)
			}
			a.v("fmla", "4s", 24, 16+q, p.acc(panel, 0, q, t))
			a.op("FMOVQ F24, %s", p.total(panel, q))
		}
	})
}

// plainFloatNEON is plainFloat for quarters of panels.
func (a *fn) plainFloatNEON(k floatKernel) {
	p := quartered{k.panels, k.tile, 0, 4}
	p.begin(a)
	switch k.codes.name {
	case "PairsBF16":
		a.mvniHigh(29)
	case "QuartersE4M3":
		a.constantNEON(halfOfE4M3, 29)
	}
	p.groups(a, func() {
		p.clear(a)
		p.panelPointers(a)
		p.argOf(a, "x", "R8")
		a.argNEON("steps", "R2")
		block, short := a.label("block"), a.label("short")
		a.mark(block)
		for i := range 16 {
			a.movi8(i, 0)
		}
		a.note("R3: steps of this block")
		a.op("MOVD R2, R3")
		a.op("CMP $16, R3")
		a.op("BLE %s", short)
		a.op("MOVD $16, R3")
		a.mark(short)
		a.op("SUB R3, R2, R2")
		a.plainStepsNEON(k, func() {
			for i := range 4 {
				for panel := range k.panels {
					for q := range 4 {
						a.weightNEON(k, panel, i, q)
					}
					p.activations(a, i, func(t, reg, part int) {
						for q := range 4 {
							a.fmlaLane(p.acc(panel, 0, q, t), 24+q, reg, part)
						}
					})
				}
			}
			for panel := range k.panels {
				a.op("ADD $%d, R%d, R%d", k.stepBytes(), 4+panel, 4+panel)
			}
			a.op("ADD $%d, R8, R8", 16*k.tile)
		})
		p.totals(a, func(t int) {
			for panel := range k.panels {
				for q := range 4 {
					a.load(p.total(panel, q), 24)
					a.v("fadd", "4s", 24, 24, p.acc(panel, 0, q, t))
					a.op("FMOVQ F24, %s", p.total(panel, q))
				}
			}
		})
		a.op("CBNZ R2, %s", block)
	})
}

// scalesNEON point to the scales of weights in segments, of each panel.
var scalesNEON = [4]string{"R9", "R10", "R13", "R14"}

// plainStepsNEON is plainSteps for R3.
func (a *fn) plainStepsNEON(k floatKernel, body func()) {
	if !k.inSegments() {
		a.loop("R3", body)
		return
	}
	segment := a.label("segment")
	a.mark(segment)
	for panel, scales := range scalesNEON[:k.panels] {
		a.op("MOVD R%d, %s", 4+panel, scales)
		a.op("ADD $64, R%d, R%d", 4+panel, 4+panel)
	}
	a.op("MOVD $8, R12")
	a.loop("R12", body)
	a.op("SUBS $8, R3, R3")
	a.op("BNE %s", segment)
}

// weightNEON loads weights of column i of a step of four into V24 and up.
func (a *fn) weightNEON(k floatKernel, panel, i, q int) {
	base, to := fmt.Sprintf("R%d", 4+panel), 24+q
	switch k.codes.name {
	case "Wide":
		a.load(fmt.Sprintf("%d(%s)", 64*i+16*q, base), to)
		return
	case "HalvesF16":
		a.op("FMOVD %d(%s), F%d", 32*i+8*q, base, to)
		a.long("fcvtl", "4s", to, to)
		return
	case "QuartersE4M3":
		a.op("FMOVD %d(%s), F%d", i/2*32+8*q, base, to)
		if i%2 == 0 {
			a.shift("shl", "8h", to, to, 8)
		}
		a.shift("sshr", "8h", to, to, 1)
		a.v("and", "16b", to, to, 29)
		a.long("fcvtl", "4s", to, to)
		a.load(fmt.Sprintf("%d(%s)", 16*q, scalesNEON[panel]), 20)
		a.v("fmul", "4s", to, to, 20)
		return
	}
	a.load(fmt.Sprintf("%d(%s)", i/2*64+16*q, base), to)
	if i%2 == 0 {
		a.shift("shl", "4s", to, to, 16)
	} else {
		a.v("and", "16b", to, to, 29)
	}
}
