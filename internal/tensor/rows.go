package tensor

// On a processor with AMX, products of whole numbers with many vectors take activations in rows: sixteen vectors, 64 columns of each, fill one of its tiles. In this file tiles are the processor's, not those of an Input.

// tileVectors is the number of vectors that a product of tiles takes.
const tileVectors = 16

// leastForTiles is from how many vectors on they are used. By arithmetic a tile costs what the kernels of AVX-512 do with four vectors, whatever it holds.
const leastForTiles = 5

// tileProducts multiply a panel with rows.
type tileProducts struct {
	hasTiles bool // else there are no rows
	// by kind of codes, type of scales, and bytes of an activation less one; nil stands for plain Go
	tiles      [pairs][scaleTypes][2]func(dst *float32, stride int, panel, x *byte, steps *float32, scratch, shapes *byte, segments, segment, rooms, vectors int, rows uint64)
	placeBytes func(dst *byte, q *int32, order *byte, plane int)
}

// rows are the whole numbers of an Input as tiles take them, in planes of bytes: [columns/64][planes][rooms][64]. 8-bit activations are one plane, 16-bit ones 256 times the first, signed, plus the second, not signed.
// Inside of 64 columns they stand in the order of fours that mulIntegers says, of nibbles or octets.
type rows struct {
	rooms  int // vectors, padded to whole tiles; 0 where there are no tiles, or never enough vectors
	planes [2][2][]byte
	steps  [2][len(segmentSizes)][]float32 // [segments][2][rooms]: steps, then sums
}

// orders has the column of each byte: of nibbles and of octets.
var orders = [2][Block]byte{orderOf(nibbles), orderOf(octets)}

func orderOf(kind codesKind) (order [Block]byte) {
	for column := range order {
		quad, place := quadOf(kind, column)
		order[4*quad+place] = byte(column)
	}
	return order
}

// order is the place of a kind's in orders.
func (l *layout) order() int {
	if l.kind == octets {
		return 1
	}
	return 0
}

func (r *rows) allocate(vectors, stride int, a Arithmetic, matrices []*Matrix) {
	if !active.hasTiles || vectors < leastForTiles {
		return
	}
	r.rooms = padded(vectors, tileVectors)
	for _, m := range matrices {
		f, l := m.form(a), &m.layout
		if f == asFloats {
			continue
		}
		planes, steps := &r.planes[l.order()][f.width()-1], &r.steps[f.width()-1][l.level]
		if *planes == nil {
			*planes = make([]byte, r.rooms*stride*f.width())
		}
		if *steps == nil {
			*steps = make([]float32, 2*r.rooms*stride/l.segment)
		}
	}
}

func (r *rows) bytes() (n int64) {
	for i := range 2 {
		n += int64(len(r.planes[i][0]) + len(r.planes[i][1]))
		for _, s := range r.steps[i] {
			n += 4 * int64(len(s))
		}
	}
	return n
}

// inRows reports whether whole numbers of the present vectors are taken as rows.
func (in *Input) inRows() bool { return in.rows.rooms > 0 && in.n >= leastForTiles }

// sealRow makes the rows of 64 columns of vector t.
func (in *Input) sealRow(x []float32, t, block int, s *sealing) {
	r := &in.rows
	for width := 1; width <= 2; width++ {
		if r.planes[0][width-1] == nil && r.planes[1][width-1] == nil {
			continue
		}
		step := integersOf(&s.q, &s.sums, x, width)
		putSteps(&r.steps[width-1], in.stride, tile{0, r.rooms}, t, block, step, &s.sums)
		for order := range orders {
			if planes := r.planes[order][width-1]; planes != nil {
				for p := range width {
					placeBytes(planes[((block*width+p)*r.rooms+t)*Block:][:Block], &s.q, &orders[order], width-1-p)
				}
			}
		}
	}
}

// placeBytes writes bits 8*plane and up of whole numbers as bytes, in an order.
func placeBytes(dst []byte, q *[Block]int32, order *[Block]byte, plane int) {
	dst = dst[:Block]
	if active.placeBytes != nil {
		active.placeBytes(&dst[0], &q[0], &order[0], plane)
		return
	}
	for i, column := range order {
		dst[i] = byte(q[column%Block] >> (8 * plane))
	}
}

// mulRows is Mul with vectors as rows.
func (m *Matrix) mulRows(dst []float32, stride int, in *Input, lo, hi int, s *Scratch) {
	l, width := &m.layout, m.form(in.arithmetic).width()
	x, steps := in.rows.planes[l.order()][width-1], in.rows.steps[width-1][l.level]
	for row := lo; row < hi; row += panelRows {
		panel := m.panelsAt(row/panelRows, 1, s)
		tileProduct(dst[row:], stride, panel, l, x, width, steps, in.rows.rooms, in.n, min(panelRows, hi-row), s)
	}
}

// mulTiles multiplies a panel with vectors as rows, and writes row r times vector t to dst[t*stride+r], for as many rows as are wanted. Sums are those of mulIntegers.
func mulTiles(dst []float32, stride int, panel []byte, l *layout, x []byte, width int, steps []float32, rooms, vectors, wanted int) {
	values, perWord := l.values(), l.columnsPerWord()
	for t := range vectors {
		out := dst[t*stride:][:wanted]
		clear(out)
		for s := range l.segments {
			seg := panel[s*l.segmentBytes():][:l.segmentBytes()]
			step, sum := steps[2*s*rooms+t], steps[(2*s+1)*rooms+t]
			for r := range out {
				var dot int32
				for column := range l.segment {
					word := le.Uint32(seg[l.head+(column/perWord*panelRows+r)*4:])
					dot += values[codeOf(l.kind, word, column%perWord)] * rowActivation(x, l.kind, width, rooms, t, s*l.segment+column)
				}
				if l.biased {
					out[r] = fma(headOf(l, seg, panelRows+r), sum, out[r])
				}
				out[r] = fma(float32(headOf(l, seg, r)*step), float32(dot), out[r])
			}
		}
	}
}

// rowActivation is that of a column.
func rowActivation(x []byte, kind codesKind, width, rooms, t, column int) int32 {
	quad, place := quadOf(kind, column%Block)
	at := (column/Block*width*rooms+t)*Block + 4*quad + place
	if width == 1 {
		return int32(int8(x[at]))
	}
	return int32(int8(x[at]))<<8 + int32(x[at+rooms*Block])
}

// tileProduct is mulTiles by the best kernel.
func tileProduct(dst []float32, stride int, panel []byte, l *layout, x []byte, width int, steps []float32, rooms, vectors, wanted int, s *Scratch) {
	k := active.tiles[l.kind][l.scale][width-1]
	if k == nil {
		mulTiles(dst, stride, panel, l, x, width, steps, rooms, vectors, wanted)
		return
	}
	columns := l.segments * l.segment
	if len(s.tiles) < tileScratch(columns) {
		s.tiles = make([]byte, tileScratch(columns))
	}
	_, _, _, _ = panel[l.bytes-1], x[padded(columns, Block)*width*rooms-1], steps[2*l.segments*rooms-1], dst[(vectors-1)*stride+wanted-1]
	k(&dst[0], stride, &panel[0], &x[0], &steps[0], &s.tiles[0], &tileShapes[l.level][0], l.segments, l.segment, rooms, vectors, 1<<wanted-1)
}

// tileScratch is what a kernel needs: a tile of sums for each plane, and a panel's codes as bytes.
func tileScratch(columns int) int { return 2*4*tileVectors*panelRows + columns*panelRows }

// tileShapes are the shapes of tiles, as the processor takes them, for each of segmentSizes: 0 and 1 have sums, a row of 32-bit numbers for each vector; 2 has codes, four columns of 16 rows in each row; 3 and 4 have
// activations, a vector in each row.
var tileShapes = func() (shapes [len(segmentSizes)][64]byte) {
	for i, segment := range segmentSizes {
		c := shapes[i][:]
		c[0] = 1 // the only kind of shapes that there is
		for tile, shape := range [][2]int{{tileVectors, 4 * panelRows}, {tileVectors, 4 * panelRows}, {segment / 4, 4 * panelRows}, {tileVectors, segment}, {tileVectors, segment}} {
			le.PutUint16(c[16+2*tile:], uint16(shape[1]))
			c[48+tile] = byte(shape[0])
		}
	}
	return shapes
}()
