package quant

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// normalMatrix returns weights as a model has them.
func normalMatrix(t Float, n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	src := make([]byte, n*t.Size())
	for i := range n {
		t.put(src, i, float32(r.NormFloat64()*0.02))
	}
	return src
}

// report adds weights per second to the benchmark's bytes of source per second.
func report(b *testing.B, weights, bytes int) {
	b.SetBytes(int64(bytes))
	b.ReportMetric(float64(weights)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mweights/s")
}

const benchRows, benchCols = 256, 4096

var benchSchemes = []Scheme{
	{Affine, 4, 64}, {Affine, 1, 64}, {Affine, 2, 64}, {Affine, 3, 64}, {Affine, 5, 64}, {Affine, 6, 64}, {Affine, 8, 64}, {Affine, 4, 32}, {Affine, 4, 128},
	{MXFP4, 4, 32}, {MXFP8, 8, 32}, {NVFP4, 4, 16},
}

func BenchmarkQuantize(b *testing.B) {
	for _, f := range []Float{BF16, F16, F32} {
		src := normalMatrix(f, benchRows*benchCols)
		for _, s := range benchSchemes {
			b.Run(fmt.Sprintf("%s-%d-%d/%s", s.Mode, s.Bits, s.GroupSize, f), func(b *testing.B) {
				p := alloc(s, f, benchRows, benchCols)
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Quantize(p, src, f, benchRows, benchCols); err != nil {
						b.Fatal(err)
					}
				}
				report(b, benchRows*benchCols, len(src))
			})
		}
	}
}

// matrixVar names a file of BF16 weights for BenchmarkMatrix, rows of benchCols. bench/quantize.go gives MLX the same.
const matrixVar = "MLXBUILD_BENCH_MATRIX"

// BenchmarkMatrix quantizes a matrix that is larger than most caches, by one goroutine and by one for each CPU, and says what came out.
func BenchmarkMatrix(b *testing.B) {
	src := normalMatrix(BF16, 4096*benchCols)
	if name := os.Getenv(matrixVar); name != "" {
		var err error
		if src, err = os.ReadFile(name); err != nil {
			b.Fatal(err)
		}
	}
	rows := len(src) / BF16.Size() / benchCols
	for _, s := range benchSchemes {
		p := alloc(s, BF16, rows, benchCols)
		for _, threads := range []int{1, runtime.NumCPU()} {
			b.Run(fmt.Sprintf("%s-%d-%d/threads=%d", s.Mode, s.Bits, s.GroupSize, threads), func(b *testing.B) {
				for b.Loop() {
					inParts(b, s, p, src, rows, threads)
				}
				report(b, rows*benchCols, len(src))
				b.Logf("sha256 %s", digest(slices.Concat(p.Weight, p.Scales, p.Biases)))
			})
		}
	}
}

// inParts quantizes as many blocks of rows as there are threads, at the same time.
func inParts(b *testing.B, s Scheme, p Packed, src []byte, rows, threads int) {
	var wait sync.WaitGroup
	for i := range threads {
		first, end := rows*i/threads, rows*(i+1)/threads
		wait.Go(func() {
			part := s.part(p, BF16, first*benchCols, (end-first)*benchCols)
			if err := s.Quantize(part, src[first*benchCols*2:end*benchCols*2], BF16, end-first, benchCols); err != nil {
				b.Error(err)
			}
		})
	}
	wait.Wait()
}

func BenchmarkDequantize(b *testing.B) {
	for _, f := range []Float{BF16, F16, F32} {
		src := normalMatrix(f, benchRows*benchCols)
		for _, s := range benchSchemes {
			b.Run(fmt.Sprintf("%s-%d-%d/%s", s.Mode, s.Bits, s.GroupSize, f), func(b *testing.B) {
				p := alloc(s, f, benchRows, benchCols)
				if err := s.Quantize(p, src, f, benchRows, benchCols); err != nil {
					b.Fatal(err)
				}
				out := make([]byte, len(src))
				b.ReportAllocs()
				for b.Loop() {
					s.Dequantize(out, p, f, benchRows, benchCols)
				}
				report(b, benchRows*benchCols, len(out))
			})
		}
	}
}

func BenchmarkDecodeRow(b *testing.B) {
	src := normalMatrix(BF16, benchRows*benchCols)
	for _, s := range benchSchemes {
		b.Run(fmt.Sprintf("%s-%d-%d", s.Mode, s.Bits, s.GroupSize), func(b *testing.B) {
			p := alloc(s, BF16, benchRows, benchCols)
			if err := s.Quantize(p, src, BF16, benchRows, benchCols); err != nil {
				b.Fatal(err)
			}
			out := make([]float32, benchCols)
			b.ReportAllocs()
			row := 0
			for b.Loop() {
				s.DecodeRow(out, p, BF16, row, benchCols)
				row = (row + 1) % benchRows
			}
			report(b, benchCols, 4*benchCols)
		})
	}
}

func BenchmarkCast(b *testing.B) {
	for _, from := range allFloats {
		src := normalMatrix(from, 1<<20)
		for _, to := range allFloats {
			dst := make([]byte, 1<<20*to.Size())
			b.Run(from.String()+"-"+to.String(), func(b *testing.B) {
				for b.Loop() {
					Cast(dst, to, src, from)
				}
				report(b, 1<<20, len(src))
			})
		}
	}
}

func BenchmarkFirstNonFinite(b *testing.B) {
	for _, f := range allFloats {
		src := normalMatrix(f, 1<<20)
		b.Run(f.String(), func(b *testing.B) {
			for b.Loop() {
				FirstNonFinite(src, f)
			}
			report(b, 1<<20, len(src))
		})
	}
}
