package tensor

// Scratch is what one worker needs for Mul, and to seal what is multiplied. It is kept because what kernels are given is never on the stack.
type Scratch struct {
	out    [4 * panelRows * 12]float32 // results of a tile that are not all wanted
	panels []byte                      // those of weights that stay as they are stored
	tiles  []byte                      // sums and codes of products with tiles
	layer  layer
	sealing
}

// groupPanels are the panels that are multiplied together where one vector alone goes through four of them.
const groupPanels = 4

// NewScratch is empty; it grows with the matrices that it is used for.
func NewScratch() *Scratch { return &Scratch{} }

// Unit is the number of rows that a worker's share of a product with in should be a multiple of.
func (m *Matrix) Unit(in *Input) int { return m.group(in) * panelRows }

// group is the number of panels that are multiplied together.
func (m *Matrix) group(in *Input) int {
	if m.form(in.arithmetic) == asFloats && in.tiles[len(in.tiles)-1].size == 1 {
		return groupPanels
	}
	return 1
}

// Mul writes the products of rows lo to before hi with all vectors of in: dst[t*stride+row] is row times vector t. lo is a multiple of 16.
//
// mulReference says in what order sums are made. It is the same for every number of vectors and rows, so that a result does not depend on what is computed together.
func (m *Matrix) Mul(dst []float32, stride int, in *Input, lo, hi int, s *Scratch) {
	if in.inRows() && m.form(in.arithmetic) != asFloats {
		m.mulRows(dst, stride, in, lo, hi, s)
		return
	}
	group := m.group(in)
	for row := lo; row < hi; row += group * panelRows {
		rows := min(group*panelRows, hi-row)
		panels := m.panelsAt(row/panelRows, (rows+panelRows-1)/panelRows, s)
		for _, at := range in.tiles {
			if at.size == 1 && rows == group*panelRows {
				m.mulTile(dst, stride, in, at, row, rows, panels, s)
				continue
			}
			for r := 0; r < rows; r += panelRows {
				m.mulTile(dst, stride, in, at, row+r, min(panelRows, rows-r), panels[r/panelRows*m.layout.bytes:], s)
			}
		}
	}
}

// panelsAt are n panels from p on: as they were laid out, or laid out now.
func (m *Matrix) panelsAt(p, n int, s *Scratch) []byte {
	l := &m.layout
	if m.panels != nil {
		return m.panels[p*l.bytes:][:n*l.bytes]
	}
	s.layer.fit(m)
	if len(s.panels) < groupPanels*l.bytes {
		s.panels = make([]byte, groupPanels*l.bytes)
	}
	for i := range n {
		s.layer.lay(m, s.panels[i*l.bytes:][:l.bytes], p+i)
	}
	return s.panels[:n*l.bytes]
}

// mulTile multiplies rows, of one panel or a group of them, with a tile.
func (m *Matrix) mulTile(dst []float32, stride int, in *Input, at tile, row, rows int, panels []byte, s *Scratch) {
	vectors := min(at.size, in.n-at.from)
	out, width := dst[at.from*stride+row:], stride
	kernelRows := panelRows
	if m.form(in.arithmetic) == asFloats {
		kernelRows *= panelsOf(shapeOf(at.size))
	}
	direct := vectors == at.size && rows == kernelRows
	if !direct {
		out, width = s.out[:], kernelRows
	}
	m.kernel(out, width, in, at, panels, rows)
	if direct {
		return
	}
	for t := range vectors {
		copy(dst[(at.from+t)*stride+row:][:rows], out[t*width:])
	}
}

// kernel runs the one for the tile's form. Where there are fewer panels than it takes, it takes the same one again.
func (m *Matrix) kernel(out []float32, width int, in *Input, at tile, panels []byte, rows int) {
	l := &m.layout
	panelStride := l.bytes
	if rows < groupPanels*panelRows {
		panelStride = 0
	}
	level, f := l.level, m.form(in.arithmetic)
	if f != asFloats {
		bytes := f.width()
		x, steps := in.bytes[f][at.from*in.stride*bytes:], in.steps[bytes-1][level][2*at.from*in.stride/l.segment:]
		integers(out, width, panels, l, x, bytes, steps, at.size)
		return
	}
	x := in.tiled[at.from*in.stride:]
	if l.plain() {
		plainPanels(out, width, panels, panelStride, l, x, at.size)
		return
	}
	floats(out, width, panels, panelStride, l, x, in.sums[level][at.from*in.stride/l.segment:], at.size)
}

// Lay lays the codes of a quantized matrix out for Mul, in memory of a, unless that has been done. Others stay as they are stored, and so does a matrix that there is no memory for: Mul then lays out what it needs, each
// time. The result is the number of bytes that were taken.
func (m *Matrix) Lay(p *Pool, a *Arena) int64 {
	if m.panels != nil || m.layout.segments == 0 {
		return 0
	}
	panels, err := a.take(m.panelCount() * m.layout.bytes)
	if err != nil {
		return 0
	}
	p.Run(func(share int) {
		var k layer
		k.fit(m)
		lo, hi := p.Share(share, m.panelCount(), 1)
		for i := lo; i < hi; i++ {
			k.lay(m, panels[i*m.layout.bytes:][:m.layout.bytes], i)
		}
	})
	m.panels = panels
	if a.Laid != nil {
		a.Laid(m)
	}
	return int64(len(panels))
}
