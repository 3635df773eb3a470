package tensor

// opsKernels are the operations between products in assembly, 16 numbers a step; nil stands for plain Go.
type opsKernels struct {
	add        func(dst, x *float32, steps int)
	blend      func(dst, x *float32, keep, take float32, steps int)
	scaleTo    func(dst, x *float32, scale float32, steps int)
	sumSquares func(x *float32, steps int) float64
	normalize  func(dst, x, weight *float32, root float64, steps int)
	turn       func(low, high, cos, sin *float32, steps int)
	siluMul    func(dst, gate, up *float32, steps int)
	exps       func(x *float32, steps int)
	softmax    func(scores *float32, stride, blocks int, scale float32) (most, total float32)
	narrow     func(dst *byte, x *float32, steps int)
	mulVectors func(dst, x *float32, vectors int)
	extremes   func(x *float32, steps int) (most float32, bits uint32)
	largest64  func(x *float32) uint32
	ask        func(x *float32, lines int)
	round64    func(q, sums *int32, x *float32, inverse float32)
	pack       [forms]func(dst *byte, q *int32)
	turnFloats func(dst *float32, stride int, a, b, c, d *float32, eights int)
	turnBytes  func(dst *byte, stride int, a, b, c, d *byte, eights int)

	// of vectors of 64, times factors
	roundVectors func(words *byte, steps, x, factors *float32, vectors int)

	// by type of keys and values, and size of the tile
	attend   [KVInt8][len(attendTiles)]func(dst *float32, stride int, rows *byte, rowStride int, x *float32, steps, add int, ahead *byte)
	attendI8 [len(attendTiles)]func(dst *float32, stride int, rows *byte, rowStride int, x *byte, scales *float32, steps, add int, ahead *byte)
}
