package tensor

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// BenchmarkAttention is all layers of SmolLM2-135M: one token at some positions, and blocks of a prompt. It prints the time of the fastest, how fast that read keys and values, and what of them the same workers read at
// that moment when they do nothing else.
func BenchmarkAttention(b *testing.B) {
	const layers, heads, kvHeads, dim = 30, 9, 3, 64
	workers := min(2, runtime.GOMAXPROCS(0))
	for name, typ := range map[string]KVType{"f32": KVFloat32, "f16": KVFloat16, "i8": KVInt8} {
		for _, c := range []struct{ tokens, positions int }{{1, 65}, {1, 257}, {1, 1025}, {1, 4097}, {1, 8193}, {64, 512}, {512, 512}} {
			b.Run(fmt.Sprintf("%s/tokens=%d/positions=%d", name, c.tokens, c.positions), func(b *testing.B) {
				kv := newKV(b, KVShape{layers, kvHeads, dim, typ}, c.positions)
				rng := rand.New(rand.NewPCG(1, 1))
				x := randomFloats(rng, 4096+dim)
				for l := range layers {
					for h := range kvHeads {
						for p := range c.positions {
							kv.Put(l, h, p, x[p%4000:][:dim], x[p%3999:][:dim])
						}
					}
				}
				pool := NewPool(workers)
				defer pool.Close()
				engine := NewAttention(kv.shape, heads, workers, 0.125)
				q, out := randomFloats(rng, c.tokens*heads*dim), make([]float32, c.tokens*heads*dim)
				row := func(t int) []float32 { return out[t*heads*dim:][:heads*dim] }
				var layer int
				work, merge := func(w int) { engine.Work(w, layer, q, row) }, func(w int) { engine.Merge(w, row) }
				places := make([]Place, c.tokens)
				for i := range places {
					places[i] = Place{kv, c.positions - c.tokens + i}
				}
				read := func(w int) {
					lo, hi := pool.Share(w, len(kv.pages), 1)
					for _, p := range kv.pages[lo:hi] {
						bytes.Count(p.data, []byte{1})
					}
				}
				fastest, plain := time.Hour, time.Hour
				for b.Loop() {
					start := time.Now()
					pool.Run(read)
					plain = min(plain, time.Since(start))
					start = time.Now()
					for layer = range layers {
						engine.Plan(places, 0)
						pool.Run(work)
						if engine.Split() {
							pool.RunShares(workers, merge)
						}
					}
					fastest = min(fastest, time.Since(start))
				}
				b.ReportMetric(float64(fastest.Microseconds())/1000, "ms")
				b.ReportMetric(float64(kv.shape.PageBytes())/PagePositions*float64(c.positions)/1e9/fastest.Seconds(), "GB/s")
				b.ReportMetric(float64(kv.Bytes())/1e9/plain.Seconds(), "read-GB/s")
			})
		}
	}
}

// BenchmarkMulRows is one product of 64 rows and 64 columns in the first cache.
func BenchmarkMulRows(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, typ := range map[string]KVType{"f32": KVFloat32, "f16": KVFloat16, "i8": KVInt8} {
		kv := newKV(b, KVShape{1, 1, Block, typ}, Block)
		x, dst := newVectors(maxTile*Block, typ), make([]float32, maxTile*Block)
		copy(x.floats, randomFloats(rng, maxTile*Block))
		for p := range Block {
			kv.Put(0, 0, p, x.floats[p:], x.floats[p:])
		}
		if typ == KVInt8 {
			x.round(0, maxTile, &ones)
		}
		for _, tile := range attendTiles {
			b.Run(fmt.Sprintf("%s/%d", name, tile), func(b *testing.B) {
				for b.Loop() {
					mulRows(dst, Block, kv.keys(0, 0, 0), Block, &x, 0, tile, Block/4, false, kv.keys(0, 0, 0))
				}
				b.ReportMetric(2*Block*Block*float64(tile*b.N)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
			})
		}
	}
}

// BenchmarkSoftmax makes weights of the scores of a chunk.
func BenchmarkSoftmax(b *testing.B) {
	scores := randomFloats(rand.New(rand.NewPCG(1, 1)), chunk)
	for b.Loop() {
		softmax(scores, Block, chunkBlocks, 1)
	}
}
