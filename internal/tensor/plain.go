package tensor

import "math"

// panelRows is the number of rows that lie side by side in a panel: as many float32 as the widest registers hold. Kernels for narrower ones take a panel in parts.
const panelRows = 16

// tileSizes are the numbers of vectors that kernels are written for; a tile of one goes through four panels at a time.
var tileSizes = [...]int{1, 4, 8, 12}

// shapes are the places of kernels in a table: those of tileSizes.
const shapes = len(tileSizes)

// shapeOf is the place of a tile's kernel.
func shapeOf(tile int) int { return (tile + 3) / 4 * min(tile/4, 1) }

// panelsOf is how many panels the kernel of a shape takes.
func panelsOf(shape int) int {
	if shape == 0 {
		return 4
	}
	return 1
}

// plainSteps are the columns of a step of a plain kernel: panels and tiles are padded with zeros to a multiple.
const plainSteps = 4

// mulPlain multiplies a panel of float32 [columns][16], with a tile of vectors [columns][tile], and writes row r times vector t to dst[t*stride+r]. In what order is part of what it is: for every 64
// columns a chain of fused multiply-adds from the left, beginning with 0; their results are added from the left. columns are a multiple of plainSteps.
func mulPlain(dst []float32, stride int, panel, x []float32, tile, columns int) {
	for t := range tile {
		out := dst[t*stride:][:panelRows]
		clear(out)
		for at := 0; at < columns; at += Block {
			var chain [panelRows]float32
			for k := at; k < min(at+Block, columns); k++ {
				v, w := x[k*tile+t], panel[k*panelRows:][:panelRows]
				for r := range chain {
					chain[r] = fma(w[r], v, chain[r])
				}
			}
			for r, c := range chain {
				out[r] += c
			}
		}
	}
}

// widenF16 is a float16 as float32, exactly; a NaN stays one.
func widenF16(h uint16) float32 {
	sign, magnitude := uint32(h&0x8000)<<16, uint32(h&0x7FFF)
	if magnitude >= 0x7C00 {
		return math.Float32frombits(sign | 0x7F800000 | magnitude<<13)
	}
	// the exponent moves from one bias to the other by a product, which makes numbers of subnormal ones too
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(magnitude<<13)*0x1p112))
}
