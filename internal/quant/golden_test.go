package quant

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"testing"
)

// The files that testdata/make_golden.py wrote with real mlx: the proof that works without Python.
var (
	//go:embed testdata/golden.json
	goldenIndex []byte
	//go:embed testdata/golden.bin
	goldenData []byte
)

// place is an offset and a length in golden.bin.
type place [2]int

func (p place) bytes() []byte { return goldenData[p[0]:][:p[1]] }

type goldenFile struct {
	MLX        string `json:"mlx"`
	Rows, Cols int
	Inputs     map[string]place
	Cases      []struct {
		Mode                   Mode
		Bits                   int
		GroupSize              int `json:"group_size"`
		DType                  string
		Weight, Scales, Biases place
		Dequantized            map[string]string
	}
	Casts []struct{ From, To, SHA256 string }
}

func golden(t *testing.T) *goldenFile {
	t.Helper()
	var g goldenFile
	if err := json.Unmarshal(goldenIndex, &g); err != nil {
		t.Fatal(err)
	}
	if "mlx-cpu/"+g.MLX != Profile {
		t.Fatalf("golden.json is of mlx %s, the profile is %s: run testdata/make_golden.py with that mlx", g.MLX, Profile)
	}
	return &g
}

func TestGoldenQuantize(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		g := golden(t)
		if want := len(allSchemes()) * len(allFloats); len(g.Cases) != want {
			t.Errorf("%d cases, want %d", len(g.Cases), want)
		}
		for _, c := range g.Cases {
			s := Scheme{c.Mode, c.Bits, c.GroupSize}
			f, ok := ParseFloat(c.DType)
			if !ok {
				t.Fatalf("dtype %q", c.DType)
			}
			p := alloc(s, f, g.Rows, g.Cols)
			if err := s.Quantize(p, g.Inputs[c.DType].bytes(), f, g.Rows, g.Cols); err != nil {
				t.Fatalf("%s %s: %v", s, f, err)
			}
			for name, pair := range map[string][2][]byte{
				"weight": {p.Weight, c.Weight.bytes()}, "scales": {p.Scales, c.Scales.bytes()}, "biases": {p.Biases, c.Biases.bytes()},
			} {
				if diff := difference(pair[0], pair[1]); diff != "" {
					t.Errorf("%s %s: %s: %s", s, f, name, diff)
				}
			}
			for _, to := range allFloats {
				values := dequantizeTo(s, p, f, to, g.Rows, g.Cols)
				if got := digest(values); got != c.Dequantized[to.String()] {
					t.Errorf("%s %s: dequantized to %s: sha256 %s, want %s", s, f, to, got, c.Dequantized[to.String()])
				}
			}
		}
	})
}

func TestGoldenCast(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		for _, c := range golden(t).Casts {
			from, _ := ParseFloat(c.From)
			to, _ := ParseFloat(c.To)
			src := borders(from)
			dst := make([]byte, len(src)/from.Size()*to.Size())
			Cast(dst, to, src, from)
			if digest(dst) != c.SHA256 {
				t.Errorf("%s to %s: sha256 %s, want %s", from, to, digest(dst), c.SHA256)
			}
		}
	})
}

// borders returns all values of a short type; for F32 all signs, exponents and 4 bits of mantissa with lower bits around rounding borders. make_golden.py has
// the same.
func borders(f Float) []byte {
	var src []byte
	if f != F32 {
		for u := range 1 << 16 {
			src = binary.LittleEndian.AppendUint16(src, uint16(u))
		}
		return src
	}
	for upper := range uint32(1 << 13) {
		for _, lower := range []uint32{0, 1, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x18000, 0x17FFF, 0x7FFFF} {
			src = binary.LittleEndian.AppendUint32(src, upper<<19|lower)
		}
	}
	return src
}

// dequantizeTo is mx.dequantize(..., dtype=to) for weights that were of type f: in affine mode mlx computes in the type of the scales, then casts.
func dequantizeTo(s Scheme, p Packed, f, to Float, rows, cols int) []byte {
	dst := make([]byte, rows*cols*to.Size())
	if s.Mode != Affine {
		s.Dequantize(dst, p, to, rows, cols)
		return dst
	}
	own := make([]byte, rows*cols*f.Size())
	s.Dequantize(own, p, f, rows, cols)
	Cast(dst, to, own, f)
	return dst
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
