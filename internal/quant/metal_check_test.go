package quant

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// TestMetalCheck runs the script that Mac owners run and quantizes the inputs of its report: the bytes that the script saw on the CPU must be ours. So a report
// that comes back from a Mac can be compared with this package.
func TestMetalCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "golden.json")
	script := filepath.Join("..", "..", "backend", "mlx", "metal_check.py")
	if out, err := exec.Command(oracle.Python(t), script, "--json", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var report struct {
		Inputs map[string]struct {
			Shape  []int
			SHA256 string
			Data   string
		}
		Cases []struct {
			Mode          Mode
			Bits          int
			GroupSize     int `json:"group_size"`
			DType, Matrix string
			CPU           []string `json:"cpu_sha256"`
		}
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, c := range report.Cases {
		in := report.Inputs[c.Matrix+" "+c.DType]
		if in.Data == "" {
			continue // the large matrix: only its digest is in the report
		}
		src := inflate(t, in.Data)
		if digest(src) != in.SHA256 {
			t.Fatalf("%s %s: the data is not that of its digest", c.Matrix, c.DType)
		}
		f, _ := ParseFloat(c.DType)
		s := Scheme{c.Mode, c.Bits, c.GroupSize}
		p := alloc(s, f, in.Shape[0], in.Shape[1])
		if err := s.Quantize(p, src, f, in.Shape[0], in.Shape[1]); err != nil {
			t.Fatal(err)
		}
		for i, part := range [][]byte{p.Weight, p.Scales, p.Biases}[:len(c.CPU)] {
			if digest(part) != c.CPU[i] {
				t.Errorf("%s %s: part %d differs from what the script saw", s, f, i)
			}
		}
		checked++
	}
	if want := len(allSchemes()) * len(allFloats); checked != want {
		t.Errorf("%d cases compared, want %d", checked, want)
	}
}

// inflate undoes base64 and zlib.
func inflate(t *testing.T, text string) []byte {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
