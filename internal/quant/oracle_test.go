package quant

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// oracleScript quantizes and dequantizes the files that the job list names, with real mlx on its CPU device.
const oracleScript = `
import json, sys
import numpy as np
import mlx.core as mx
assert mx.__version__ == "0.32.4", mx.__version__
mx.set_default_device(mx.cpu)
folder = sys.argv[1]
TYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
RAW = {"F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
def read(name, t, shape):
    return mx.array(np.fromfile(f"{folder}/{name}", RAW[t])).view(TYPES[t]).reshape(shape)
def write(name, a):
    mx.eval(a)
    a = a.view(mx.uint32 if a.itemsize == 4 else mx.uint16 if a.itemsize == 2 else mx.uint8)
    np.array(a).tofile(f"{folder}/{name}")
for i, j in enumerate(json.load(open(f"{folder}/jobs.json"))):
    if j["Op"] == "cast":
        write(f"{i}.out", read(f"{i}.src", j["From"], (-1,)).astype(TYPES[j["To"]]))
        continue
    p = dict(group_size=j["GroupSize"], bits=j["Bits"], mode=j["Mode"])
    if j["Op"] == "dequantize":
        w = mx.array(np.fromfile(f"{folder}/{i}.w", np.uint32)).reshape(j["Rows"], -1)
        if j["Mode"] == "affine":
            q = [w] + [read(f"{i}.{n}", j["From"], (j["Rows"], -1)) for n in "sb"]
        else:
            q = [w, mx.array(np.fromfile(f"{folder}/{i}.s", np.uint8)).reshape(j["Rows"], -1)]
    else:
        q = mx.quantize(read(f"{i}.src", j["From"], (j["Rows"], j["Cols"])), **p)
        for a, name in zip(q, "wsb"):
            write(f"{i}.{name}", a)
    for t in TYPES:
        write(f"{i}.{t}", mx.dequantize(*q, dtype=TYPES[t], **p))
`

// job is one line of the oracle's list; its files are named by its place in the list.
type job struct {
	Op, Mode        string
	Bits, GroupSize int
	From, To        string
	Rows, Cols      int
}

// batch collects jobs and their input files for one Python process.
type batch struct {
	dir  string
	jobs []job
}

func (b *batch) add(t *testing.T, j job, files map[string][]byte) int {
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(b.dir, fmt.Sprintf("%d.%s", len(b.jobs), name)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.jobs = append(b.jobs, j)
	return len(b.jobs) - 1
}

func (b *batch) run(t *testing.T) {
	list, err := json.Marshal(b.jobs)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "jobs.json"), list, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	oracle.Run(t, oracleScript, b.dir)
}

func (b *batch) read(t *testing.T, job int, name string) []byte {
	data, err := os.ReadFile(filepath.Join(b.dir, fmt.Sprintf("%d.%s", job, name)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestOracleQuantize: every mode x bits x group size x source type on every kind of input gives mlx's bytes, there and back.
func TestOracleQuantize(t *testing.T) {
	oracle.Python(t)
	b := &batch{dir: t.TempDir()}
	type shape struct{ rows, cols int }
	for _, s := range allSchemes() {
		for _, f := range allFloats {
			for _, sh := range []shape{{3 * len(kinds), s.GroupSize}, {37, 1024}, {1, 3 * 128}, {33, 128 * 5}} {
				switch {
				case s.GroupSize == 32 && sh.cols == 640:
					sh.cols = 672 // an odd number of groups
				case s.GroupSize == 16 && sh.cols == 16:
					sh.cols = 48
					sh.rows = 2 * len(kinds) // mlx itself wants a multiple of 32 weights
				}
				j := job{"quantize", string(s.Mode), s.Bits, s.GroupSize, f.String(), "", sh.rows, sh.cols}
				b.add(t, j, map[string][]byte{"src": matrix(uint64(len(b.jobs)), f, sh.rows, sh.cols, s.GroupSize)})
			}
			const rows, cols = 5, 1920 // as models have them, so that kernels see it to the end
			b.add(t, job{"quantize", string(s.Mode), s.Bits, s.GroupSize, f.String(), "", rows, cols}, map[string][]byte{"src": normalMatrix(f, rows*cols)})
		}
	}
	b.run(t)
	atEachLevel(t, func(t *testing.T) { b.compareAll(t) })
}

// compareAll quantizes what the oracle quantized.
func (b *batch) compareAll(t *testing.T) {
	weights := 0
	for i, j := range b.jobs {
		s := Scheme{Mode(j.Mode), j.Bits, j.GroupSize}
		f, _ := ParseFloat(j.From)
		src := b.read(t, i, "src")
		p := alloc(s, f, j.Rows, j.Cols)
		if err := s.Quantize(p, src, f, j.Rows, j.Cols); err != nil {
			t.Fatal(err)
		}
		weights += j.Rows * j.Cols
		b.compare(t, i, "w", p.Weight)
		b.compare(t, i, "s", p.Scales)
		if s.HasBiases() {
			b.compare(t, i, "b", p.Biases)
		}
		b.compareDequantized(t, i, s, f, p)
	}
	t.Logf("%d weights in %d matrices", weights, len(b.jobs))
}

// TestOracleDequantize: packed bytes that no quantizer wrote (random codes, scales and biases, NaN and infinity among them) come back as in mlx.
func TestOracleDequantize(t *testing.T) {
	oracle.Python(t)
	b := &batch{dir: t.TempDir()}
	r := rand.New(rand.NewPCG(7, 7))
	for _, s := range allSchemes() {
		for _, f := range allFloats {
			if s.Mode != Affine && f != F32 {
				continue // the source type does not show in the packed form
			}
			rows, cols := 16, 16*s.GroupSize
			p := alloc(s, f, rows, cols)
			randomBytes(r, p.Weight)
			randomBytes(r, p.Scales)
			randomBytes(r, p.Biases)
			if s.Mode != Affine {
				for i := range p.Scales { // every byte
					p.Scales[i] = byte(i)
				}
			}
			b.add(t, job{"dequantize", string(s.Mode), s.Bits, s.GroupSize, f.String(), "", rows, cols},
				map[string][]byte{"w": p.Weight, "s": p.Scales, "b": p.Biases})
		}
	}
	b.run(t)
	atEachLevel(t, func(t *testing.T) {
		for i, j := range b.jobs {
			f, _ := ParseFloat(j.From)
			p := Packed{b.read(t, i, "w"), b.read(t, i, "s"), b.read(t, i, "b")}
			b.compareDequantized(t, i, Scheme{Mode(j.Mode), j.Bits, j.GroupSize}, f, p)
		}
	})
}

// TestOracleCast: mlx's astype on all 65,536 values of the short types, and on F32 values near every rounding border.
func TestOracleCast(t *testing.T) {
	oracle.Python(t)
	b := &batch{dir: t.TempDir()}
	for _, from := range allFloats {
		for _, to := range allFloats {
			b.add(t, job{Op: "cast", From: from.String(), To: to.String()}, map[string][]byte{"src": castInputs(from)})
		}
	}
	b.run(t)
	atEachLevel(t, func(t *testing.T) {
		for i, j := range b.jobs {
			from, _ := ParseFloat(j.From)
			to, _ := ParseFloat(j.To)
			src := b.read(t, i, "src")
			got := make([]byte, len(src)/from.Size()*to.Size())
			Cast(got, to, src, from)
			b.compare(t, i, "out", got)
		}
	})
}

// castInputs returns borders and, for F32, random bits.
func castInputs(f Float) []byte {
	src := borders(f)
	if f != F32 {
		return src
	}
	r := rand.New(rand.NewPCG(3, 3))
	for range 1 << 18 {
		src = binary.LittleEndian.AppendUint32(src, r.Uint32())
	}
	for range 1 << 16 { // F16's own range, subnormals included
		src = binary.LittleEndian.AppendUint32(src, r.Uint32()&0x80000000|0x32000000+r.Uint32N(0x16000000))
	}
	return src
}

func randomBytes(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// compareDequantized compares our Dequantize of p in every type with the oracle's.
func (b *batch) compareDequantized(t *testing.T, i int, s Scheme, f Float, p Packed) {
	t.Helper()
	j := b.jobs[i]
	for _, to := range allFloats {
		b.compare(t, i, to.String(), dequantizeTo(s, p, f, to, j.Rows, j.Cols))
	}
}

func (b *batch) compare(t *testing.T, i int, name string, got []byte) {
	t.Helper()
	if diff := difference(got, b.read(t, i, name)); diff != "" {
		t.Errorf("%+v: %s: %s", b.jobs[i], name, diff)
	}
}
