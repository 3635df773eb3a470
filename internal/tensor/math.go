package tensor

import "math"

// Exp, Log, Pow and SinCos are the FreeBSD and Cephes routines that package math is made of, with every product rounded before it is added to. The ones of package math are assembly on
// some machines, and fused by the compiler on others: their last bit is not the same everywhere, and a text made from logits would not be either.

// Exp is e to the x: 0 below -708 (there are no subnormal results), infinite above 709.7.
func Exp(x float64) float64 {
	const (
		ln2Hi = 6.93147180369123816490e-01
		ln2Lo = 1.90821492927058770002e-10
		p1    = 1.66666666666666657415e-01
		p2    = -2.77777777770155933842e-03
		p3    = 6.61375632143793436117e-05
		p4    = -1.65339022054652515390e-06
		p5    = 4.13813679705723846039e-08
	)
	switch {
	case x != x:
		return x
	case x > 7.09782712893383973096e+02:
		return math.Inf(1)
	case x < -708:
		return 0
	}
	half := 0.5
	if x < 0 {
		half = -0.5
	}
	k := int64(float64(math.Log2E*x) + half)
	hi := x - float64(float64(k)*ln2Hi)
	lo := float64(float64(k) * ln2Lo)
	r := hi - lo
	t := float64(r * r)
	c := p4 + float64(t*p5)
	c = p3 + float64(t*c)
	c = p2 + float64(t*c)
	c = p1 + float64(t*c)
	c = r - float64(t*c)
	y := 1 - ((lo - float64(r*c)/(2-c)) - hi)
	// y is in (0.7, 1.42) and the result not subnormal; k may be 1024, one more than an exponent holds
	return float64(float64(y*math.Float64frombits(uint64(1023+k/2)<<52)) * math.Float64frombits(uint64(1023+k-k/2)<<52))
}

// Log is the natural logarithm of a positive, finite, not subnormal x. For others it is NaN, but for 0: -Inf, and +Inf: +Inf.
func Log(x float64) float64 {
	const (
		ln2Hi = 6.93147180369123816490e-01
		ln2Lo = 1.90821492927058770002e-10
		l1    = 6.666666666666735130e-01
		l2    = 3.999999999940941908e-01
		l3    = 2.857142874366239149e-01
		l4    = 2.222219843214978396e-01
		l5    = 1.818357216161805012e-01
		l6    = 1.531383769920937332e-01
		l7    = 1.479819860511658591e-01
	)
	switch {
	case x == 0:
		return math.Inf(-1)
	case x > math.MaxFloat64:
		return x
	case !(x >= 0x1p-1022):
		return math.NaN()
	}
	u := math.Float64bits(x)
	e := int(u>>52) - 1022
	f1 := math.Float64frombits(u&(1<<52-1) | 1022<<52) // in [0.5, 1)
	if f1 < math.Sqrt2/2 {
		f1 *= 2
		e--
	}
	f, k := f1-1, float64(e)
	s := f / (2 + f)
	s2 := float64(s * s)
	s4 := float64(s2 * s2)
	t1 := l5 + float64(s4*l7)
	t1 = l3 + float64(s4*t1)
	t1 = l1 + float64(s4*t1)
	t1 = float64(s2 * t1)
	t2 := l4 + float64(s4*l6)
	t2 = l2 + float64(s4*t2)
	t2 = float64(s4 * t2)
	half := float64(0.5 * float64(f*f))
	rest := float64(s*(half+t1+t2)) + float64(k*ln2Lo)
	return float64(k*ln2Hi) - ((half - rest) - f)
}

// Pow is base to the exponent, for a positive base.
func Pow(base, exponent float64) float64 { return Exp(float64(exponent * Log(base))) }

// MaxAngle is the largest angle that SinCos reduces rightly.
const MaxAngle = 1 << 29

// SinCos gives sine and cosine of an angle from 0 to MaxAngle.
func SinCos(x float64) (sin, cos float64) {
	const (
		pi4a = 7.85398125648498535156e-1 // pi/4 in three parts; the first two have so few bits that their products with j are exact
		pi4b = 3.77489470793079817668e-8
		pi4c = 2.69515142907905952645e-15
	)
	j := uint64(x * (4 / math.Pi))
	j += j & 1
	y := float64(j)
	z := x - float64(y*pi4a)
	z -= float64(y * pi4b)
	z -= float64(y * pi4c)
	zz := float64(z * z)
	s := -2.50507477628578072866e-8 + float64(zz*1.58962301576546568060e-10)
	s = 2.75573136213857245213e-6 + float64(zz*s)
	s = -1.98412698295895385996e-4 + float64(zz*s)
	s = 8.33333333332211858878e-3 + float64(zz*s)
	s = -1.66666666666666307295e-1 + float64(zz*s)
	sin = z + float64(z*float64(zz*s))
	c := 2.08757008419747316778e-9 + float64(zz*-1.13585365213876817300e-11)
	c = -2.75573141792967388112e-7 + float64(zz*c)
	c = 2.48015872888517045348e-5 + float64(zz*c)
	c = -1.38888888888730564116e-3 + float64(zz*c)
	c = 4.16666666666665929218e-2 + float64(zz*c)
	cos = (1 - float64(0.5*zz)) + float64(float64(zz*zz)*c)
	switch j & 7 { // which quarter turn
	case 2:
		return cos, -sin
	case 4:
		return -sin, -cos
	case 6:
		return -cos, sin
	}
	return sin, cos
}
