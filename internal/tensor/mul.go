package tensor

import (
	"encoding/binary"
	"math"

	"github.com/mlxbuild/mlxbuild/internal/quant"
)

var le = binary.LittleEndian

// Scratch is what one worker needs for Mul.
type Scratch struct {
	codes       []float32 // [widest row, padded]
	scale, bias []float32 // [most groups in a row]
	table       *[Block / 2 * 256]float32
	columns     [2][]float32 // [tableRows]
	tile        []tileRow    // made when first needed
	touched     byte         // keeps reads that are done for the cache alone
}

// tableRows are the rows that one table of products is used for before the next is made, so that their weights stay in the cache from one block to the next.
const tableRows = 2048

// panelBytes, of each of tableRows, fit the cache of a core.
const panelBytes = 320

// minTableRows is the number of rows from which making a table is quicker than doing without.
const minTableRows = 128

// NewScratch makes room for matrices of up to cols columns.
func NewScratch(cols int) *Scratch {
	s := &Scratch{codes: make([]float32, (cols+Block-1)/Block*Block), scale: make([]float32, cols/16+1), bias: make([]float32, cols/16+1), table: new([Block / 2 * 256]float32)}
	for i := range s.columns {
		s.columns[i] = make([]float32, tableRows)
	}
	return s
}

// Bytes of the buffers.
func (s *Scratch) Bytes() int64 {
	return 4 * int64(len(s.codes)+len(s.scale)+len(s.bias)+len(s.table)+len(s.columns)*tableRows)
}

// Vectors is a span of the vectors of an Input, From to before To.
type Vectors struct{ From, To int }

// Mul writes the products of rows lo to before hi with some vectors of in: dst[t*stride+row] is row times vector t. mulReference says in what order sums are made; every way below keeps it,
// so that a result does not depend on how many rows or vectors are computed together.
func (m *Matrix) Mul(dst []float32, stride int, in *Input, v Vectors, lo, hi int, s *Scratch) {
	if in.Pack && useFour {
		if first, last := (v.From+3)/4*4, v.To/4*4; first < last {
			m.mulFours(dst, stride, in, first, last, lo, hi, s)
			if v.From < first {
				m.Mul(dst, stride, in, Vectors{v.From, first}, lo, hi, s)
			}
			if last < v.To {
				m.Mul(dst, stride, in, Vectors{last, v.To}, lo, hi, s)
			}
			return
		}
	}
	one := v.To-v.From == 1
	switch {
	case m.Scheme.Bits == 4 && hi-lo >= minTableRows:
		for at := lo; at < hi; at += tableRows {
			m.mulTable(dst, stride, in, v, at, min(at+tableRows, hi), s)
		}
	case one && m.Scheme.Mode == "" && m.Float == quant.BF16:
		m.mulBF16(dst[v.From*stride:], in.padded(v.From), lo, hi, s)
	case one && m.Scheme.Bits == 8:
		m.mulOctets(dst[v.From*stride:], in, v.From, lo, hi, s)
	default:
		for row := lo; row < hi; row++ {
			m.mulRow(dst[row:], stride, in, v, row, s)
		}
	}
}

// ByVectors reports whether many products are quicker when workers share the vectors instead of the rows: where most of the work is done for each vector anew.
func (m *Matrix) ByVectors() bool { return !useFour && m.Scheme.Bits == 4 && m.Rows >= minTableRows }

// mulRow decodes a row once and multiplies it with all vectors, two at a time.
func (m *Matrix) mulRow(dst []float32, stride int, in *Input, v Vectors, row int, s *Scratch) {
	codes := s.codes[:in.stride]
	clear(codes[m.Cols:])
	m.codes(codes, row)
	if m.groups == 0 {
		t := v.From
		for ; t+2 <= v.To; t += 2 {
			dst[t*stride], dst[(t+1)*stride] = plain2(codes, in.padded(t), in.padded(t+1))
		}
		if t < v.To {
			dst[t*stride] = plain(codes, in.padded(t))
		}
		return
	}
	m.scales(s.scale, s.bias, row)
	t := v.From
	for ; t+2 <= v.To; t += 2 {
		dst[t*stride], dst[(t+1)*stride] = m.scaled2(codes, in, t, s)
	}
	if t < v.To {
		dst[t*stride] = m.scaled(codes, in, t, s)
	}
}

func plain(codes, x []float32) (total float32) {
	for len(codes) >= Block && len(x) >= Block {
		total += dot(codes[:Block], x[:Block])
		codes, x = codes[Block:], x[Block:]
	}
	return total
}

func plain2(codes, x, y []float32) (a, b float32) {
	for len(codes) >= Block && len(x) >= Block && len(y) >= Block {
		c, d := dot2(codes[:Block], x[:Block], y[:Block])
		a += c
		b += d
		codes, x, y = codes[Block:], x[Block:], y[Block:]
	}
	return a, b
}

func (m *Matrix) scaled(codes []float32, in *Input, t int, s *Scratch) (total float32) {
	x, sums, affine := in.padded(t), in.groupSums(m.Scheme.GroupSize, t), m.Scheme.Mode == quant.Affine
	for g, scale := range s.scale[:m.groups] {
		for at := g * m.Scheme.GroupSize; at < (g+1)*m.Scheme.GroupSize; at += m.block {
			total += float32(scale * dot(codes[at:][:m.block], x[at:][:m.block]))
		}
		if affine {
			total += float32(s.bias[g] * sums[g])
		}
	}
	return total
}

// scaled2 is scaled for vectors t and t+1.
func (m *Matrix) scaled2(codes []float32, in *Input, t int, s *Scratch) (a, b float32) {
	x, y, affine := in.padded(t), in.padded(t+1), m.Scheme.Mode == quant.Affine
	sumsX, sumsY := in.groupSums(m.Scheme.GroupSize, t), in.groupSums(m.Scheme.GroupSize, t+1)
	for g, scale := range s.scale[:m.groups] {
		for at := g * m.Scheme.GroupSize; at < (g+1)*m.Scheme.GroupSize; at += m.block {
			c, d := dot2(codes[at:][:m.block], x[at:][:m.block], y[at:][:m.block])
			a += float32(scale * c)
			b += float32(scale * d)
		}
		if affine {
			a += float32(s.bias[g] * sumsX[g])
			b += float32(s.bias[g] * sumsY[g])
		}
	}
	return a, b
}

// dot is the sum of one block's products: pairs in four sums. Lengths are equal and multiples of 8.
func dot(q, x []float32) float32 {
	var a0, a1, a2, a3 float32
	for len(q) >= 8 && len(x) >= 8 {
		a0 += float32(q[0]*x[0]) + float32(q[1]*x[1])
		a1 += float32(q[2]*x[2]) + float32(q[3]*x[3])
		a2 += float32(q[4]*x[4]) + float32(q[5]*x[5])
		a3 += float32(q[6]*x[6]) + float32(q[7]*x[7])
		q, x = q[8:], x[8:]
	}
	return (a0 + a1) + (a2 + a3)
}

// dot2 is dot for two vectors.
func dot2(q, x, y []float32) (float32, float32) {
	var a0, a1, a2, a3 float32
	var b0, b1, b2, b3 float32
	for len(q) >= 8 && len(x) >= 8 && len(y) >= 8 {
		p, r := q[0], q[1]
		a0 += float32(p*x[0]) + float32(r*x[1])
		b0 += float32(p*y[0]) + float32(r*y[1])
		p, r = q[2], q[3]
		a1 += float32(p*x[2]) + float32(r*x[3])
		b1 += float32(p*y[2]) + float32(r*y[3])
		p, r = q[4], q[5]
		a2 += float32(p*x[4]) + float32(r*x[5])
		b2 += float32(p*y[4]) + float32(r*y[5])
		p, r = q[6], q[7]
		a3 += float32(p*x[6]) + float32(r*x[7])
		b3 += float32(p*y[6]) + float32(r*y[7])
		q, x, y = q[8:], x[8:], y[8:]
	}
	return (a0 + a1) + (a2 + a3), (b0 + b1) + (b2 + b3)
}

// mulTable multiplies rows of 4-bit codes. A byte holds two codes, and what two codes and their activations come to is one of 256 sums: for each pair of activations in a block those are
// worked out once, and then every row only looks them up. Sums of rows grow in dst.
func (m *Matrix) mulTable(dst []float32, stride int, in *Input, v Vectors, lo, hi int, s *Scratch) {
	scale, bias, panel := s.columns[0][:hi-lo], s.columns[1][:hi-lo], m.panelGroups()
	for t := v.From; t < v.To; t++ {
		clear(dst[t*stride:][lo:hi])
	}
	for g := range m.groups {
		if g%panel == 0 {
			s.touched += m.touch(lo, hi, g, min(g+panel, m.groups))
		}
		m.scaleColumn(scale, bias, lo, g)
		for t := v.From; t < v.To; t++ {
			total := dst[t*stride:][lo:hi]
			m.lookGroup(total, scale, in.padded(t), lo, g, s.table)
			if m.Scheme.Mode == quant.Affine {
				addScaled(total, bias, in.groupSums(m.Scheme.GroupSize, t)[g])
			}
		}
	}
}

// lookGroup adds the blocks of one group of neighbouring rows to their totals.
func (m *Matrix) lookGroup(total, scale, x []float32, lo, g int, table *[Block / 2 * 256]float32) {
	for at := g * m.Scheme.GroupSize; at < (g+1)*m.Scheme.GroupSize; at += m.block {
		pairTable(table, m.values, x[at:][:m.block])
		codes := m.Packed.Weight[lo*m.rowBytes+at/2:]
		switch m.block {
		case 64:
			look64(total, scale, table, codes, m.rowBytes)
		case 32:
			look32(total, scale, table, codes, m.rowBytes)
		default:
			look16(total, scale, table, codes, m.rowBytes)
		}
	}
}

func addScaled(total, x []float32, by float32) {
	x = x[:len(total)]
	for i := range total {
		total[i] += float32(x[i] * by)
	}
}

// panelGroups is the number of groups whose codes are brought into the cache together: about panelBytes of each row.
func (m *Matrix) panelGroups() int {
	panels := (m.rowBytes + panelBytes - 1) / panelBytes
	return (m.groups + panels - 1) / panels
}

// touch reads a byte of every cache line of some groups of rows, in the order of the memory. What comes after walks through the same lines column by column, which from memory would be
// several times slower.
func (m *Matrix) touch(lo, hi, from, to int) (sum byte) {
	groupBytes := m.rowBytes / m.groups
	for row := lo; row < hi; row++ {
		w := m.Packed.Weight[row*m.rowBytes:][from*groupBytes : to*groupBytes]
		for i := 0; i < len(w); i += 64 {
			sum += w[i]
		}
		sum += w[len(w)-1]
	}
	return sum
}

// scaleColumn writes what scales writes, for one group of neighbouring rows.
func (m *Matrix) scaleColumn(scale, bias []float32, lo, g int) {
	at := lo*m.groups + g
	if m.Scheme.Mode != quant.Affine {
		for i := range scale {
			scale[i] = m.scaleU8[m.Packed.Scales[at+i*m.groups]]
		}
		return
	}
	if m.Float == quant.BF16 {
		for i := range scale {
			k := 2 * (at + i*m.groups)
			scale[i] = math.Float32frombits(uint32(le.Uint16(m.Packed.Scales[k:])) << 16)
			bias[i] = math.Float32frombits(uint32(le.Uint16(m.Packed.Biases[k:]))<<16) + float32(scale[i]*m.center)
		}
		return
	}
	size := m.Float.Size()
	for i := range scale {
		k := size * (at + i*m.groups)
		m.Float.Decode(scale[i:i+1], m.Packed.Scales[k:][:size])
		m.Float.Decode(bias[i:i+1], m.Packed.Biases[k:][:size])
		bias[i] += float32(scale[i] * m.center)
	}
}

// pairTable works out, for each pair of activations and each byte, low code times first plus high code times second.
func pairTable(table *[Block / 2 * 256]float32, values *[256]float32, x []float32) {
	for p := range len(x) / 2 {
		of := (*[256]float32)(table[p*256:])
		var low [16]float32
		for c := range low {
			low[c] = float32(values[c] * x[2*p])
		}
		for c, v := range values[:16] {
			high := float32(v * x[2*p+1])
			sums := (*[16]float32)(of[c*16:])
			for i := 0; i < 16; i += 4 {
				sums[i] = low[i] + high
				sums[i+1] = low[i+1] + high
				sums[i+2] = low[i+2] + high
				sums[i+3] = low[i+3] + high
			}
		}
	}
}

// look64, look32 and look16 add scale times dot, by the table, to the totals of rows that are stride bytes apart, for blocks of that many codes.
func look64(total, scale []float32, table *[Block / 2 * 256]float32, codes []byte, stride int) {
	scale = scale[:len(total)]
	for r := range total {
		c := codes[r*stride:][:32]
		var a0, a1, a2, a3 float32
		for i := 0; i < 32; i += 8 {
			v, of := le.Uint64(c[i:]), table[i*256:][:2048]
			a0 += of[v&255]
			a1 += of[256+v>>8&255]
			a2 += of[512+v>>16&255]
			a3 += of[768+v>>24&255]
			a0 += of[1024+v>>32&255]
			a1 += of[1280+v>>40&255]
			a2 += of[1536+v>>48&255]
			a3 += of[1792+v>>56]
		}
		total[r] += float32(scale[r] * ((a0 + a1) + (a2 + a3)))
	}
}

func look32(total, scale []float32, table *[Block / 2 * 256]float32, codes []byte, stride int) {
	scale = scale[:len(total)]
	for r := range total {
		c := codes[r*stride:][:16]
		var a0, a1, a2, a3 float32
		for i := 0; i < 16; i += 8 {
			v, of := le.Uint64(c[i:]), table[i*256:][:2048]
			a0 += of[v&255]
			a1 += of[256+v>>8&255]
			a2 += of[512+v>>16&255]
			a3 += of[768+v>>24&255]
			a0 += of[1024+v>>32&255]
			a1 += of[1280+v>>40&255]
			a2 += of[1536+v>>48&255]
			a3 += of[1792+v>>56]
		}
		total[r] += float32(scale[r] * ((a0 + a1) + (a2 + a3)))
	}
}

func look16(total, scale []float32, table *[Block / 2 * 256]float32, codes []byte, stride int) {
	scale = scale[:len(total)]
	for r := range total {
		v := le.Uint64(codes[r*stride:])
		a0 := table[v&255] + table[1024+v>>32&255]
		a1 := table[256+v>>8&255] + table[1280+v>>40&255]
		a2 := table[512+v>>16&255] + table[1536+v>>48&255]
		a3 := table[768+v>>24&255] + table[1792+v>>56]
		total[r] += float32(scale[r] * ((a0 + a1) + (a2 + a3)))
	}
}

// mulBF16 multiplies rows of BF16 with one vector without decoding them first.
func (m *Matrix) mulBF16(dst, x []float32, lo, hi int, s *Scratch) {
	whole := m.Cols / Block * Block
	for row := lo; row < hi; row++ {
		w := m.Packed.Weight[row*m.rowBytes:][:m.rowBytes]
		total := blocksBF16(w[:2*whole], x)
		if whole < m.Cols {
			tail := s.codes[:Block]
			clear(tail)
			quant.BF16.Decode(tail[:m.Cols-whole], w[2*whole:])
			total += dot(tail, x[whole:][:Block])
		}
		dst[row] = total
	}
}

func blocksBF16(w []byte, x []float32) (total float32) {
	const high = 0xFFFF0000
	for len(w) >= 2*Block && len(x) >= Block {
		var a0, a1, a2, a3 float32
		wb, xb := w[:2*Block], x[:Block]
		for len(wb) >= 16 && len(xb) >= 8 {
			u, v := le.Uint64(wb), le.Uint64(wb[8:])
			a0 += float32(math.Float32frombits(uint32(u)<<16)*xb[0]) + float32(math.Float32frombits(uint32(u)&high)*xb[1])
			a1 += float32(math.Float32frombits(uint32(u>>32)<<16)*xb[2]) + float32(math.Float32frombits(uint32(u>>32)&high)*xb[3])
			a2 += float32(math.Float32frombits(uint32(v)<<16)*xb[4]) + float32(math.Float32frombits(uint32(v)&high)*xb[5])
			a3 += float32(math.Float32frombits(uint32(v>>32)<<16)*xb[6]) + float32(math.Float32frombits(uint32(v>>32)&high)*xb[7])
			wb, xb = wb[16:], xb[8:]
		}
		total += (a0 + a1) + (a2 + a3)
		w, x = w[2*Block:], x[Block:]
	}
	return total
}

// mulOctets multiplies rows of 8-bit codes with one vector without decoding them first.
func (m *Matrix) mulOctets(dst []float32, in *Input, t, lo, hi int, s *Scratch) {
	x, sums, size, affine := in.padded(t), in.groupSums(m.Scheme.GroupSize, t), m.Scheme.GroupSize, m.Scheme.Mode == quant.Affine
	for row := lo; row < hi; row++ {
		m.scales(s.scale, s.bias, row)
		w := m.Packed.Weight[row*m.rowBytes:][:m.rowBytes]
		var total float32
		for g, scale := range s.scale[:m.groups] {
			for at := g * size; at < (g+1)*size; at += m.block {
				total += float32(scale * dotOctets(m.values, w[at:][:m.block], x[at:][:m.block]))
			}
			if affine {
				total += float32(s.bias[g] * sums[g])
			}
		}
		dst[row] = total
	}
}

// dotOctets is dot for 8-bit codes.
func dotOctets(values *[256]float32, w []byte, x []float32) float32 {
	var a0, a1, a2, a3 float32
	for len(w) >= 8 && len(x) >= 8 {
		v := le.Uint64(w)
		a0 += float32(values[v&255]*x[0]) + float32(values[v>>8&255]*x[1])
		a1 += float32(values[v>>16&255]*x[2]) + float32(values[v>>24&255]*x[3])
		a2 += float32(values[v>>32&255]*x[4]) + float32(values[v>>40&255]*x[5])
		a3 += float32(values[v>>48&255]*x[6]) + float32(values[v>>56]*x[7])
		w, x = w[8:], x[8:]
	}
	return (a0 + a1) + (a2 + a3)
}
