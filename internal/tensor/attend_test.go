package tensor

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// attention is a shape and a text to be attended to: keys and values [position][head][dim], queries [position][query head][dim].
type attention struct {
	shape                 KVShape
	heads, window         int
	keys, values, queries []float32
}

func (a attention) String() string {
	return fmt.Sprintf("%d heads on %d of %d, type %d, window %d", a.heads, a.shape.Heads, a.shape.HeadDim, a.shape.Type, a.window)
}

func (a attention) positions() int { return len(a.keys) / a.shape.Heads / a.shape.HeadDim }

func newAttention(rng *rand.Rand, shape KVShape, heads, window, positions int, numbers func(*rand.Rand, int) []float32) attention {
	n := positions * shape.Heads * shape.HeadDim
	return attention{shape, heads, window, numbers(rng, n), numbers(rng, n), numbers(rng, positions*heads*shape.HeadDim)}
}

// kv has the keys and values, of layer 1 of 2.
func (a attention) kv(t *testing.T) *KV {
	kv := newKV(t, a.shape, a.positions())
	a.put(kv, 0, a.positions())
	return kv
}

// newKV has room for positions until the test ends.
func newKV(t testing.TB, shape KVShape, positions int) *KV {
	t.Helper()
	kv := NewKV(shape)
	t.Cleanup(func() {
		if err := kv.Release(); err != nil {
			t.Error(err)
		}
	})
	if err := kv.Grow(positions); err != nil {
		t.Fatal(err)
	}
	return kv
}

// put writes positions.
func (a attention) put(kv *KV, from, to int) {
	d := a.shape.HeadDim
	for p := from; p < to; p++ {
		for h := range a.shape.Heads {
			at := (p*a.shape.Heads + h) * d
			kv.Put(1, h, p, a.keys[at:][:d], a.values[at:][:d])
		}
	}
}

func (a attention) scale() float32 { return float32(1 / math.Sqrt(float64(a.shape.HeadDim))) }

// run computes positions from to before to as one block of tokens.
func (a attention) run(kv *KV, from, to, workers int) []float32 {
	pool := NewPool(workers)
	defer pool.Close()
	if workers == 3 {
		pool.leave(2)
	}
	engine := NewAttention(a.shape, a.heads, workers, a.scale())
	places := make([]Place, to-from)
	for i := range places {
		places[i] = Place{kv, from + i}
	}
	size := a.heads * a.shape.HeadDim
	out := make([]float32, len(places)*size)
	row := func(t int) []float32 { return out[t*size:][:size] }
	engine.Plan(places, a.window)
	pool.Run(func(w int) { engine.Work(w, 1, a.queries[from*size:to*size], row) })
	if engine.Split() {
		pool.RunShares(workers, func(w int) { engine.Merge(w, row) })
	}
	return out
}

// exact is what run computes, in float64.
func (a attention) exact(position int) []float64 {
	d, group := a.shape.HeadDim, a.heads/a.shape.Heads
	out := make([]float64, a.heads*d)
	lo := 0
	if a.window > 0 {
		lo = max(0, position+1-a.window)
	}
	for h := range a.heads {
		var scores []float64
		most, total := math.Inf(-1), 0.0
		for p := lo; p <= position; p++ {
			var s float64
			for i := range d {
				s += float64(a.queries[(position*a.heads+h)*d+i]) * float64(a.keys[(p*a.shape.Heads+h/group)*d+i])
			}
			scores = append(scores, s*float64(a.scale()))
			most = max(most, s*float64(a.scale()))
		}
		for i, s := range scores {
			w := math.Exp(s - most)
			total += w
			for k := range d {
				out[h*d+k] += w * float64(a.values[((lo+i)*a.shape.Heads+h/group)*d+k])
			}
		}
		for k := range d {
			out[h*d+k] /= total
		}
	}
	return out
}

// attentionShapes have fast and odd head dims, and groups of all tiles and of more than a tile.
var attentionShapes = []struct{ heads, kvHeads, dim, window int }{
	{9, 3, 64, 0}, {8, 2, 128, 0}, {2, 2, 16, 0}, {4, 2, 80, 0}, {5, 1, 14, 0}, {6, 1, 96, 0}, {7, 1, 32, 0}, {8, 1, 6, 0}, {11, 1, 64, 0}, {32, 1, 20, 0}, {3, 3, 64, 0}, {9, 3, 64, 100}, {4, 1, 72, 7}, {2, 1, 256, 300},
}

func TestAttentionIsAccurate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, s := range attentionShapes {
		for typ, tolerance := range map[KVType]float64{KVFloat32: 1e-6, KVFloat16: 3e-3, KVInt8: 6e-2} {
			a := newAttention(rng, KVShape{2, s.kvHeads, s.dim, typ}, s.heads, s.window, 2*PagePositions+9, randomFloats)
			kv, size := a.kv(t), a.heads*s.dim
			got := a.run(kv, 0, a.positions(), 2)
			for _, p := range []int{0, 1, 3, 63, 64, 65, chunk - 1, chunk, PagePositions, a.positions() - 1} {
				for i, want := range a.exact(p) {
					near(t, fmt.Sprintf("%v: position %d, number %d", a, p, i), got[p*size+i], want, tolerance)
				}
			}
		}
	}
}

// checkAttention computes the last tokens of a text in all ways: in plain Go, with kernels, together, one by one, by some workers. All have to agree.
func checkAttention(t *testing.T, a attention, tokens int) {
	t.Helper()
	kv, to := a.kv(t), a.positions()
	from := max(0, to-tokens)
	var want []float32
	asReference(func() { want = a.run(kv, from, to, 1) })
	for workers := 1; workers <= 3; workers++ {
		equalBits(t, fmt.Sprintf("%v: %d tokens by %d workers", a, to-from, workers), a.run(kv, from, to, workers), want)
		size := a.heads * a.shape.HeadDim
		for p := from; p < to; p += max(1, (to-from)/3) {
			equalBits(t, fmt.Sprintf("%v: position %d alone by %d workers", a, p, workers), a.run(kv, p, p+1, workers), want[(p-from)*size:][:size])
		}
	}
}

func TestAttentionAtEachLevel(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 1))
		for _, s := range attentionShapes {
			for _, typ := range []KVType{KVFloat32, KVFloat16, KVInt8} {
				for _, positions := range []int{1, 63, 65, PagePositions + 3} {
					shape := KVShape{2, s.kvHeads, s.dim, typ}
					checkAttention(t, newAttention(rng, shape, s.heads, s.window, positions, randomFloats), 5)
				}
			}
		}
	})
}

// TestAttentionOfLongTexts has enough chunks that jobs have several of them.
func TestAttentionOfLongTexts(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 1))
		for _, typ := range []KVType{KVFloat32, KVFloat16, KVInt8} {
			for _, window := range []int{0, 1500} {
				checkAttention(t, newAttention(rng, KVShape{2, 3, 16, typ}, 6, window, 25*chunk+3, randomFloats), 2)
			}
		}
	})
}

func TestAttentionOfOddNumbers(t *testing.T) {
	same := func(rng *rand.Rand, n int) []float32 {
		x, v := make([]float32, n), float32(rng.NormFloat64())
		for i := range x {
			x[i] = v
		}
		return x
	}
	large := func(rng *rand.Rand, n int) []float32 {
		x := randomFloats(rng, n)
		for i := range x {
			x[i] *= 1e4
		}
		return x
	}
	huge := func(rng *rand.Rand, n int) []float32 {
		x := randomFloats(rng, n)
		for i := range x {
			x[i] *= 1e30
		}
		return x
	}
	small := func(rng *rand.Rand, n int) []float32 {
		x := randomFloats(rng, n)
		for i := range x {
			x[i] *= 1e-40
		}
		return x
	}
	rare := func(rng *rand.Rand, n int) []float32 {
		x := randomFloats(rng, n)
		x[rng.IntN(n)] = anyFloats(rng, 1)[0]
		return x
	}
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(2, 3))
		for name, numbers := range map[string]func(*rand.Rand, int) []float32{"same": same, "large": large, "huge": huge, "small": small, "rare": rare, "any": anyFloats} {
			t.Run(name, func(t *testing.T) {
				for range 4 {
					for _, typ := range []KVType{KVFloat32, KVFloat16, KVInt8} {
						checkAttention(t, newAttention(rng, KVShape{2, 2, 20, typ}, 6, 0, PagePositions+5, numbers), 5)
					}
				}
			})
		}
	})
}

func FuzzAttention(f *testing.F) {
	f.Add(uint64(1), uint8(8), uint8(2), uint8(3), uint16(100), uint16(0), true)
	f.Fuzz(func(t *testing.T, seed uint64, dim, kvHeads, group uint8, positions, window uint16, odd bool) {
		rng, numbers := rand.New(rand.NewPCG(seed, 0)), randomFloats
		if odd {
			numbers = anyFloats
		}
		shape := KVShape{2, int(kvHeads)%3 + 1, int(dim)%130 + 1, KVType(seed % 3)}
		a := newAttention(rng, shape, shape.Heads*(int(group)%14+1), int(window)%600, int(positions)%600+1, numbers)
		checkAttention(t, a, int(seed%20)+1)
	})
}

// TestWholeNumbersOfVectors holds those of queries and weights to integersOf, for numbers of all kinds.
func TestWholeNumbersOfVectors(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(6, 6))
		for round := range 200 {
			numbers := [...]func(*rand.Rand, int) []float32{randomFloats, anyFloats}[round%2]
			n := rng.IntN(maxTile) + 1
			got, want := newVectors((n+1)*Block, KVInt8), newVectors((n+1)*Block, KVInt8)
			copy(got.floats, numbers(rng, len(got.floats)))
			if round%5 == 0 {
				scale := math.Float32frombits(uint32(rng.IntN(254)) << 23)
				for i := range got.floats {
					got.floats[i] *= scale
				}
			}
			copy(want.floats, got.floats)
			factors := [Block]float32(numbers(rng, Block))
			got.round(1, n, &factors)
			asReference(func() { want.round(1, n, &factors) })
			equalBits(t, "steps", got.steps, want.steps)
			if !bytes.Equal(got.words, want.words) {
				t.Fatalf("round %d: %v is not %v", round, got.words, want.words)
			}
		}
	})
}

// TestAttentionSeesNothingElse writes positions behind the last, and afterwards those of another text from one of them on: what was there must not be seen.
func TestAttentionSeesNothingElse(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(4, 4))
		nan := func(rng *rand.Rand, n int) []float32 {
			x := make([]float32, n)
			for i := range x {
				x[i] = [...]float32{float32(math.NaN()), float32(math.Inf(1)), 1e30}[rng.IntN(3)]
			}
			return x
		}
		for _, typ := range []KVType{KVFloat32, KVFloat16, KVInt8} {
			for _, last := range []int{1, 62, 63, 64, 250, 255, 256, 300} {
				shape := KVShape{2, 1, 64, typ}
				clean := newAttention(rng, shape, 3, 0, last+1, randomFloats)
				kv := clean.kv(t)
				want := clean.run(kv, last, last+1, 1)
				broken := newAttention(rng, shape, 3, 0, last+6, nan)
				if err := kv.Grow(last + 6); err != nil {
					t.Fatal(err)
				}
				broken.put(kv, last+1, last+6)
				equalBits(t, "with a broken text behind", clean.run(kv, last, last+1, 1), want)

				// in one tile with tokens that see what is broken
				mixed := attention{shape, 3, 0, append(clean.keys, broken.keys[len(clean.keys):]...), append(clean.values, broken.values[len(clean.values):]...), append(clean.queries, broken.queries[len(clean.queries):]...)}
				both := mixed.run(kv, last, last+3, 1)
				equalBits(t, "beside a broken text", both[:len(want)], want)
				if v := both[len(both)-1]; v == v {
					t.Errorf("a token that sees NaN is %v", v)
				}

				other := newAttention(rng, shape, 3, 0, last+6, randomFloats)
				other.put(kv, 0, last+1)
				fresh := other.kv(t)
				equalBits(t, "written again", other.run(kv, last, last+1, 1), other.run(fresh, last, last+1, 1))
			}
		}
	})
}

func TestKVGrowsByPages(t *testing.T) {
	for _, typ := range []KVType{KVFloat32, KVFloat16, KVInt8} {
		shape := KVShape{2, 3, 10, typ}
		kv := newKV(t, shape, 1)
		for _, positions := range []int{PagePositions, PagePositions + 1, 2*PagePositions + 9, 5} {
			if err := kv.Grow(positions); err != nil {
				t.Fatal(err)
			}
		}
		if kv.Bytes() != 3*shape.PageBytes() {
			t.Errorf("%d bytes for 3 pages of %d", kv.Bytes(), shape.PageBytes())
		}
		for range 2 {
			if err := kv.Release(); err != nil || kv.Bytes() != 0 {
				t.Errorf("%d bytes after it was released: %v", kv.Bytes(), err)
			}
		}
	}
}

// TestNarrowF16 compares with a search for the nearest float16.
func TestNarrowF16(t *testing.T) {
	check := func(x float32) {
		got := narrowF16(x)
		wide := float64(widenF16(got))
		if x != x {
			if wide == wide {
				t.Fatalf("NaN becomes %x", got)
			}
			return
		}
		if math.Abs(float64(x)) >= 65520 {
			if !math.IsInf(wide, 0) || (wide > 0) != (x > 0) {
				t.Fatalf("%g becomes %x", x, got)
			}
			return
		}
		off := math.Abs(wide - float64(x))
		for _, beside := range []uint16{got - 1, got + 1} {
			d := math.Abs(float64(widenF16(beside)) - float64(x))
			if got&0x7FFF == 0 && beside > got || got&0x7FFF != 0 {
				if d < off || d == off && got&1 == 1 {
					t.Fatalf("%x becomes %x, %x is nearer", x, got, beside)
				}
			}
		}
		if math.Signbit(wide) != math.Signbit(float64(x)) {
			t.Fatalf("%x becomes %x", x, got)
		}
	}
	for bits := uint64(0); bits < 1<<32; bits += 3001 {
		check(math.Float32frombits(uint32(bits)))
	}
	for h := range 1 << 16 {
		if x := widenF16(uint16(h)); x == x && narrowF16(x) != uint16(h) {
			t.Fatalf("%x becomes %x", h, narrowF16(x))
		}
	}
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 1))
		for n := range 70 {
			x := anyFloats(rng, n)
			for i := range x {
				if rng.IntN(2) == 0 {
					x[i] = math.Float32frombits(rng.Uint32()>>4 | 0x30000000) // about the size of float16
				}
			}
			row := make([]byte, 2*n)
			narrow(row, x)
			for i, v := range x {
				if got, want := le.Uint16(row[2*i:]), narrowF16(v); got != want && v == v {
					t.Fatalf("%x becomes %x, not %x", v, got, want)
				}
			}
		}
	})
}

// TestAttendShare has workers take from both ends of a share at the same time: each piece goes to one of them.
func TestAttendShare(t *testing.T) {
	for n := range 200 {
		var s attendShare
		s.begin(7, 7+n)
		taken := make([]atomic.Int32, n)
		var workers sync.WaitGroup
		for w := range 4 {
			workers.Go(func() {
				for lo, hi, ok := s.take(w > 0); ok; lo, hi, ok = s.take(w > 0) {
					for i := lo; i < hi; i++ {
						taken[i-7].Add(1)
					}
				}
			})
		}
		workers.Wait()
		for i := range taken {
			if got := taken[i].Load(); got != 1 {
				t.Fatalf("piece %d of %d was taken %d times", i, n, got)
			}
		}
	}
}
