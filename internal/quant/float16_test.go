package quant

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/x448/float16"
)

// A second implementation agrees with ours on every half, and on every float32 at and beside the middle between two halves.
func TestHalfAgainstFloat16(t *testing.T) {
	half := func(f float32) uint16 {
		dst := make([]byte, 2)
		F16.Encode(dst, []float32{f})
		return binary.LittleEndian.Uint16(dst)
	}
	for h := range 1 << 16 {
		theirs := float16.Frombits(uint16(h))
		var ours [1]float32
		F16.Decode(ours[:], binary.LittleEndian.AppendUint16(nil, uint16(h)))
		if theirs.IsNaN() {
			if ours[0] == ours[0] {
				t.Fatalf("%#04x: %v", h, ours[0])
			}
			continue
		}
		if math.Float32bits(ours[0]) != math.Float32bits(theirs.Float32()) {
			t.Fatalf("%#04x: %v, want %v", h, ours[0], theirs.Float32())
		}
		if theirs.IsInf(0) || h&0x7FFF == 0x7BFF {
			continue
		}
		next := float16.Frombits(uint16(h + 1)).Float32()
		middle := ours[0] + float32(next-ours[0])/2
		for _, f := range []float32{middle, math.Nextafter32(middle, 0), math.Nextafter32(middle, float32(math.Inf(1))), -middle} {
			if got, want := half(f), float16.Fromfloat32(f).Bits(); got != want {
				t.Fatalf("%v: %#04x, want %#04x", f, got, want)
			}
		}
	}
	for _, f := range []float32{65519.996, 65520, 65504, float32(math.Inf(1)), float32(math.Inf(-1)), 2.9802322e-08, 5.9604645e-08, 0, float32(math.Copysign(0, -1))} {
		if got, want := half(f), float16.Fromfloat32(f).Bits(); got != want {
			t.Errorf("%v: %#04x, want %#04x", f, got, want)
		}
	}
}
