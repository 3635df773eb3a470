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
	narrow     func(dst *uint16, x *float32, steps int)
	mulVectors func(dst, x *float32, vectors int)
	extremes   func(x *float32, steps int) (most float32, bits uint32)
	largest64  func(x *float32) uint32
	round64    func(q, sums *int32, x *float32, inverse float32)
	pack       [forms]func(dst *byte, q *int32)
	turnFloats func(dst *float32, stride int, a, b, c, d *float32, eights int)
	turnBytes  func(dst *byte, stride int, a, b, c, d *byte, eights int)

	attendF32 [len(attendTiles)]func(dst *float32, stride int, rows *float32, rowStride int, x *float32, steps, add int)
	attendF16 [len(attendTiles)]func(dst *float32, stride int, rows *uint16, rowStride int, x *float32, steps, add int)
	attendI8  [len(attendTiles)]func(dst *float32, stride int, rows *int8, rowStride int, x *float32, steps, add int)
}
