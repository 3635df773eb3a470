package quant

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
)

// TestFastIsReference holds every fast path to the plain arithmetic, on all kinds of input.
func TestFastIsReference(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		for i, s := range allSchemes() {
			for _, f := range allFloats {
				rows, cols := 2*len(kinds)+1, 3*s.GroupSize
				src := matrix(uint64(1000+10*i)+uint64(f), f, rows, cols, s.GroupSize)
				checkQuantize(t, s, f, src, rows, cols)
			}
		}
	})
}

// checkQuantize compares Quantize, Dequantize and DecodeRow with the reference.
func checkQuantize(t *testing.T, s Scheme, f Float, src []byte, rows, cols int) {
	t.Helper()
	got, want := alloc(s, f, rows, cols), alloc(s, f, rows, cols)
	gotErr, wantErr := s.Quantize(got, src, f, rows, cols), s.quantizeReference(want, src, f, cols)
	if wantErr != nil {
		if gotErr == nil || gotErr.Error() != wantErr.Error() {
			t.Fatalf("%s %s: error %v, want %v", s, f, gotErr, wantErr)
		}
		return
	}
	if gotErr != nil {
		t.Fatalf("%s %s: %v", s, f, gotErr)
	}
	for name, pair := range map[string][2][]byte{
		"weight": {got.Weight, want.Weight}, "scales": {got.Scales, want.Scales}, "biases": {got.Biases, want.Biases},
	} {
		if diff := difference(pair[0], pair[1]); diff != "" {
			t.Fatalf("%s %s: %s: %s", s, f, name, diff)
		}
	}
	checkDequantize(t, s, f, want, rows, cols)
}

// checkDequantize compares Dequantize and DecodeRow of any packed bytes with the reference.
func checkDequantize(t *testing.T, s Scheme, f Float, p Packed, rows, cols int) {
	t.Helper()
	for _, to := range allFloats {
		if s.Mode == Affine && to != f {
			continue
		}
		got, want := make([]byte, rows*cols*to.Size()), make([]byte, rows*cols*to.Size())
		s.Dequantize(got, p, to, rows, cols)
		s.dequantizeReference(want, p, to)
		if diff := difference(got, want); diff != "" {
			t.Fatalf("%s %s: dequantized to %s: %s", s, f, to, diff)
		}
	}
	got, want := make([]float32, cols), make([]float32, cols)
	for row := range rows {
		s.DecodeRow(got, p, f, row, cols)
		for g := range cols / s.GroupSize {
			s.decodeGroupReference(want[g*s.GroupSize:], p, row*(cols/s.GroupSize)+g, f)
		}
		for j := range got {
			if math.Float32bits(got[j]) != math.Float32bits(want[j]) {
				t.Fatalf("%s %s: decoded row %d, column %d: %v, want %v", s, f, row, j, got[j], want[j])
			}
		}
	}
}

func TestCastIsReference(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		for _, from := range allFloats {
			src := append(borders(from), castInputs(from)[:8*1000+from.Size()]...) // an odd number of values at the end
			for _, to := range allFloats {
				checkCast(t, src, from, to)
			}
			checkDecodeEncode(t, src, from)
		}
	})
}

func checkCast(t *testing.T, src []byte, from, to Float) {
	t.Helper()
	got, want := make([]byte, len(src)/from.Size()*to.Size()), make([]byte, len(src)/from.Size()*to.Size())
	Cast(got, to, src, from)
	if castReference(want, to, src, from); from == to {
		copy(want, src) // a NaN of F16 is made quiet when it is widened, but not when it is copied
	}
	if diff := difference(got, want); diff != "" {
		t.Fatalf("%s to %s: %s", from, to, diff)
	}
}

// checkDecodeEncode compares Decode and Encode with casts from and to F32.
func checkDecodeEncode(t *testing.T, src []byte, f Float) {
	t.Helper()
	n := len(src) / f.Size()
	values, wide := make([]float32, n), make([]byte, 4*n)
	f.Decode(values, src)
	castReference(wide, F32, src, f)
	for i, x := range values {
		if math.Float32bits(x) != math.Float32bits(F32.at(wide, i)) {
			t.Fatalf("%s: decoded value %d is %v, want %v", f, i, x, F32.at(wide, i))
		}
	}
	for _, to := range allFloats {
		got, want := make([]byte, n*to.Size()), make([]byte, n*to.Size())
		to.Encode(got, values)
		castReference(want, to, wide, F32)
		if diff := difference(got, want); diff != "" {
			t.Fatalf("encoded as %s: %s", to, diff)
		}
	}
}

// TestFastConversions compares single values over whole ranges: every F16, every E4M3 and E2M1 border.
func TestFastConversions(t *testing.T) {
	for u := range uint32(1 << 16) {
		if got, want := fastF16ToFloat(uint16(u)), f16ToFloat(uint16(u)); math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("F16 %#04x: %v, want %v", u, got, want)
		}
	}
	for b := range 256 {
		if got, want := fastE8M0(byte(b)), fromE8M0(byte(b)); got != want {
			t.Fatalf("E8M0 %#02x: %v, want %v", b, got, want)
		}
	}
	r := rand.New(rand.NewPCG(5, 5))
	for upper := range uint32(1 << 13) {
		for _, lower := range []uint32{0, 1, 1<<19 - 1, r.Uint32() >> 13} {
			u := upper<<19 | lower
			x := math.Float32frombits(u)
			if got, want := fastFloatToF16(u), floatToF16(x); got != want {
				t.Fatalf("%v to F16: %#04x, want %#04x", x, got, want)
			}
			if x-x != 0 {
				continue
			}
			if got, want := fastE4M3(u), toE4M3(x); got != want {
				t.Fatalf("%v to E4M3: %#02x, want %#02x", x, got, want)
			}
			if got, want := fastE2M1(u), toE2M1(x); abs(x) < 1<<20 && got != want {
				t.Fatalf("%v to E2M1: %d, want %d", x, got, want)
			}
		}
	}
}

func TestNonFinite(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		for _, s := range allSchemes() {
			for _, f := range allFloats {
				for _, value := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0xFFC12345)} {
					rows, cols := 3, (blockWeights/s.GroupSize/2+1)*s.GroupSize // what is bad is in the second block
					src := make([]byte, rows*cols*f.Size())
					for i := range rows * cols {
						f.put(src, i, float32(i%1000)-10)
					}
					at := 2*cols + s.GroupSize + 7
					f.put(src, at, value)
					f.put(src, at+1, value)
					var bad *NonFiniteError
					if err := s.Quantize(alloc(s, f, rows, cols), src, f, rows, cols); !errors.As(err, &bad) {
						t.Fatalf("%s %s: error %v", s, f, err)
					}
					same := bad.Value == value || bad.Value != bad.Value && value != value
					if bad.Row != 2 || bad.Col != s.GroupSize+7 || !same {
						t.Errorf("%s %s: %v", s, f, bad)
					}
					if i, ok := FirstNonFinite(src, f); !ok || i != at {
						t.Errorf("%s: FirstNonFinite = %d, %v, want %d", f, i, ok, at)
					}
				}
			}
		}
		const want = "weight at row 1, column 2 is +Inf: only finite weights can be quantized"
		if err := (&NonFiniteError{1, 2, float32(math.Inf(1))}); err.Error() != want {
			t.Errorf("message %q, want %q", err, want)
		}
	})
}

// TestFirstNonFinite puts each kind of value at each place of short inputs, among the largest finite neighbours.
func TestFirstNonFinite(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		edges := map[Float][]float32{F32: {math.MaxFloat32}, F16: {65504}, BF16: {0x1.FEp127}}
		for _, f := range allFloats {
			for _, n := range []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 63, 64, 65, 130, 257} {
				src := make([]byte, n*f.Size())
				for i := range n {
					f.put(src, i, edges[f][0]*float32(1-2*(i&1)))
				}
				if i, ok := FirstNonFinite(src, f); ok {
					t.Fatalf("%s: value %d of %d finite ones", f, i, n)
				}
				for at := range n {
					bad := bytes.Clone(src)
					f.put(bad, at, float32(math.Inf(-1)))
					if i, ok := FirstNonFinite(bad, f); !ok || i != at {
						t.Fatalf("%s: FirstNonFinite = %d, %v, want %d of %d", f, i, ok, at, n)
					}
				}
			}
		}
	})
}

// TestRowsAreIndependent quantizes blocks of rows at the same time into one destination.
func TestRowsAreIndependent(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		const rows, cols, block = 24, 384, 5
		for _, s := range allSchemes() {
			src := matrix(77, BF16, rows, cols, s.GroupSize)
			whole, parts := alloc(s, BF16, rows, cols), alloc(s, BF16, rows, cols)
			if err := s.Quantize(whole, src, BF16, rows, cols); err != nil {
				t.Fatal(err)
			}
			var wait sync.WaitGroup
			for first := 0; first < rows; first += block {
				n := min(block, rows-first)
				w0, s0, b0 := s.Sizes(first, cols, BF16)
				w1, s1, b1 := s.Sizes(first+n, cols, BF16)
				part := Packed{parts.Weight[w0:w1], parts.Scales[s0:s1], parts.Biases[b0:b1]}
				wait.Go(func() {
					if err := s.Quantize(part, src[first*cols*2:(first+n)*cols*2], BF16, n, cols); err != nil {
						t.Error(err)
					}
				})
			}
			wait.Wait()
			if !bytes.Equal(whole.Weight, parts.Weight) || !bytes.Equal(whole.Scales, parts.Scales) || !bytes.Equal(whole.Biases, parts.Biases) {
				t.Errorf("%s: blocks of rows differ from the whole", s)
			}
		}
	})
}

func TestNothingIsAllocated(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		for _, s := range allSchemes() {
			const rows, cols = 2, 256
			src := normalMatrix(BF16, rows*cols)
			p, out, row := alloc(s, BF16, rows, cols), make([]byte, len(src)), make([]float32, cols)
			allocations := testing.AllocsPerRun(10, func() {
				if err := s.Quantize(p, src, BF16, rows, cols); err != nil {
					t.Fatal(err)
				}
				s.Dequantize(out, p, BF16, rows, cols)
				s.DecodeRow(row, p, BF16, 1, cols)
			})
			if allocations != 0 {
				t.Errorf("%s: %v allocations", s, allocations)
			}
		}
	})
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		scheme Scheme
		want   string
	}{
		{Scheme{Affine, 7, 64}, "bits must be one of 1, 2, 3, 4, 5, 6, 8 in mode affine, not 7"},
		{Scheme{Affine, 4, 16}, "group_size must be one of 32, 64, 128 in mode affine, not 16"},
		{Scheme{MXFP4, 8, 32}, "bits must be 4 in mode mxfp4, not 8"},
		{Scheme{MXFP8, 8, 64}, "group_size must be 32 in mode mxfp8, not 64"},
		{Scheme{NVFP4, 4, 32}, "group_size must be 16 in mode nvfp4, not 32"},
		{Scheme{"int4", 4, 32}, `mode must be one of affine, mxfp4, mxfp8, nvfp4, not "int4"`},
		{Scheme{}, `mode must be one of affine, mxfp4, mxfp8, nvfp4, not ""`},
	} {
		if err := tc.scheme.Validate(); err == nil || err.Error() != tc.want {
			t.Errorf("%v: error %v, want %s", tc.scheme, err, tc.want)
		}
	}
	for _, s := range allSchemes() {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestSizesThatDoNotFit(t *testing.T) {
	s := Scheme{Affine, 4, 64}
	for _, tc := range []struct {
		rows, cols, bytes int
		want              string
	}{
		{1, 96, 192, "a 1 x 96 matrix cannot be quantized in groups of 64: the columns must be a multiple of the group size"},
		{-1, 64, 0, "a -1 x 64 matrix cannot be quantized in groups of 64: the columns must be a multiple of the group size"},
		{2, 64, 254, "a 2 x 64 matrix of BF16 has 256 bytes, not 254"},
		{4, 64, 512, "a 4 x 64 matrix in affine 4-bit group 64 needs 128, 8 and 8 bytes for weight, scales and biases, not 64, 4 and 4"},
	} {
		err := s.Quantize(alloc(s, BF16, 2, 64), make([]byte, tc.bytes), BF16, tc.rows, tc.cols)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%d x %d: error %v, want %s", tc.rows, tc.cols, err, tc.want)
		}
	}
	if err := s.Quantize(Packed{}, nil, BF16, 0, 64); err != nil {
		t.Errorf("no rows: %v", err)
	}
}

func TestModes(t *testing.T) {
	all := Modes()
	all[0].Bits[0] = 99 // the caller's own copy
	for _, m := range Modes() {
		if d, ok := Defaults(m.Mode); !ok || d != m.Default || d.Validate() != nil {
			t.Errorf("%s: default %v, %v", m.Mode, d, ok)
		}
		if m.HasBiases != m.Default.HasBiases() {
			t.Errorf("%s: HasBiases %v", m.Mode, m.HasBiases)
		}
	}
	if _, ok := Defaults("int4"); ok {
		t.Error("int4 has a default")
	}
}

func TestSizesAndShapes(t *testing.T) {
	for _, s := range allSchemes() {
		rows, cols := 3, 5*s.GroupSize
		weight, scales, biases := s.Sizes(rows, cols, F16)
		w, g := s.Shapes(int64(rows), int64(cols))
		if int64(weight) != w[0]*w[1]*4 {
			t.Errorf("%s: %d bytes of weight, shape %v", s, weight, w)
		}
		wantScales, wantBiases := g[0]*g[1], int64(0)
		if s.HasBiases() {
			wantScales, wantBiases = 2*g[0]*g[1], 2*g[0]*g[1]
		}
		if int64(scales) != wantScales || int64(biases) != wantBiases {
			t.Errorf("%s: %d bytes of scales and %d of biases, shape %v", s, scales, biases, g)
		}
	}
}

func TestFloatNames(t *testing.T) {
	for _, f := range allFloats {
		if got, ok := ParseFloat(f.String()); !ok || got != f {
			t.Errorf("ParseFloat(%q) = %v, %v", f, got, ok)
		}
	}
	if _, ok := ParseFloat("float16"); ok {
		t.Error("float16 is not a name of safetensors")
	}
}

// FuzzQuantize compares all paths with the reference on arbitrary bits, NaN and infinity included.
func FuzzQuantize(f *testing.F) {
	for i := range allSchemes() {
		f.Add(byte(i), byte(i), matrix(uint64(i), allFloats[i%3], 1, 256, 16))
	}
	f.Fuzz(func(t *testing.T, scheme, float byte, data []byte) {
		s, fl := allSchemes()[int(scheme)%len(allSchemes())], allFloats[int(float)%3]
		groups := len(data) / (s.GroupSize * fl.Size())
		data = data[:groups*s.GroupSize*fl.Size()]
		for _, l := range cpu.Levels() {
			atLevel(l, func() {
				checkQuantize(t, s, fl, data, 1, groups*s.GroupSize)
				checkQuantize(t, s, fl, tame(data, fl), 1, groups*s.GroupSize)
			})
		}
	})
}

// FuzzDequantize compares the decoders with the reference on arbitrary codes, scales and biases.
func FuzzDequantize(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 9))
	for i := range allSchemes() {
		data := make([]byte, 300)
		randomBytes(r, data)
		f.Add(byte(i), byte(i), data)
	}
	f.Fuzz(func(t *testing.T, scheme, float byte, data []byte) {
		s, fl := allSchemes()[int(scheme)%len(allSchemes())], allFloats[int(float)%3]
		weight, scales, biases := s.Sizes(1, s.GroupSize, fl)
		groups := len(data) / (weight + scales + biases)
		p := Packed{Weight: data[:groups*weight], Scales: data[groups*weight:][:groups*scales]}
		p.Biases = data[groups*(weight+scales):][:groups*biases]
		for _, l := range cpu.Levels() {
			atLevel(l, func() { checkDequantize(t, s, fl, p, 1, groups*s.GroupSize) })
		}
	})
}

// FuzzCast compares casts, Decode, Encode and FirstNonFinite with the reference on arbitrary bits.
func FuzzCast(f *testing.F) {
	for i, from := range allFloats {
		f.Add(byte(i), byte(i+1), borders(from)[:4099])
	}
	f.Fuzz(func(t *testing.T, from, to byte, data []byte) {
		a, b := allFloats[int(from)%3], allFloats[int(to)%3]
		data = data[:len(data)/a.Size()*a.Size()]
		for _, l := range cpu.Levels() {
			atLevel(l, func() {
				checkCast(t, data, a, b)
				checkDecodeEncode(t, data, a)
				checkFinite(t, data, a)
			})
		}
	})
}

func checkFinite(t *testing.T, data []byte, f Float) {
	t.Helper()
	first, found := FirstNonFinite(data, f)
	for i := range len(data) / f.Size() {
		if x := f.at(data, i); x-x != 0 {
			if !found || first != i {
				t.Fatalf("FirstNonFinite = %d, %v, want %d", first, found, i)
			}
			return
		}
	}
	if found {
		t.Fatalf("FirstNonFinite = %d, but all are finite", first)
	}
}

func ExampleScheme_Quantize() {
	s, _ := Defaults(MXFP4)
	src := make([]byte, 32*F32.Size())
	F32.Encode(src, []float32{0.5, -1, 3, 6}) // and 28 zeros
	weight, scales, biases := s.Sizes(1, 32, F32)
	p := Packed{make([]byte, weight), make([]byte, scales), make([]byte, biases)}
	if err := s.Quantize(p, src, F32, 1, 32); err != nil {
		panic(err)
	}
	fmt.Printf("%s: scale 2^%d, codes % x...\n", s, int(p.Scales[0])-127, p.Weight[:2])
	// Output: mxfp4 4-bit group 32: scale 2^0, codes a1 75...
}
