package quant

import (
	"os"
	"syscall"
	"testing"
)

// fenced returns n bytes with an inaccessible page right behind them, or right before.
func fenced(t *testing.T, n int, behind bool) []byte {
	t.Helper()
	page := os.Getpagesize()
	size := (n + page - 1) / page * page
	all, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(all) })
	for _, fence := range [][]byte{all[:page], all[page+size:]} {
		if err := syscall.Mprotect(fence, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	if behind {
		return all[page+size-n : page+size : page+size]
	}
	return all[page : page+n : page+n]
}

// TestEdges: with inaccessible memory at every edge, one byte beside a slice that was touched would end the program.
func TestEdges(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		for _, behind := range []bool{true, false} {
			for _, s := range allSchemes() {
				for _, f := range allFloats {
					for _, groups := range []int{1, 3, 8, blockWeights/s.GroupSize + 1} {
						checkEdges(t, s, f, groups, behind)
					}
				}
			}
		}
	})
}

func checkEdges(t *testing.T, s Scheme, f Float, groups int, behind bool) {
	t.Helper()
	cols := groups * s.GroupSize
	weight, scales, biases := s.Sizes(1, cols, f)
	src := fenced(t, cols*f.Size(), behind)
	copy(src, normalMatrix(f, cols))
	p := Packed{fenced(t, weight, behind), fenced(t, scales, behind), fenced(t, biases, behind)}
	want := alloc(s, f, 1, cols)
	if err := s.Quantize(p, src, f, 1, cols); err != nil {
		t.Fatal(err)
	}
	if err := s.quantizeReference(want, src, f, cols); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2][]byte{"weight": {p.Weight, want.Weight}, "scales": {p.Scales, want.Scales}, "biases": {p.Biases, want.Biases}} {
		if diff := difference(pair[0], pair[1]); diff != "" {
			t.Fatalf("%s %s, %d groups: %s: %s", s, f, groups, name, diff)
		}
	}
	values := make([]byte, len(src))
	s.dequantizeReference(values, p, f)
	s.Dequantize(src, p, f, 1, cols)
	if diff := difference(src, values); diff != "" {
		t.Fatalf("%s %s, %d groups: dequantized: %s", s, f, groups, diff)
	}
}

// TestCastEdges is TestEdges for casts, and for the search for what is not finite.
func TestCastEdges(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		for _, behind := range []bool{true, false} {
			for _, n := range []int{1, 31, 32, 33, 64, 65, 129, 1000} {
				for _, from := range allFloats {
					src := fenced(t, n*from.Size(), behind)
					copy(src, normalMatrix(from, n))
					if i, bad := FirstNonFinite(src, from); bad {
						t.Fatalf("%s: value %d of %d is not finite", from, i, n)
					}
					for _, to := range allFloats {
						dst, want := fenced(t, n*to.Size(), behind), make([]byte, n*to.Size())
						Cast(dst, to, src, from)
						castReference(want, to, src, from)
						if diff := difference(dst, want); diff != "" {
							t.Fatalf("%s to %s: %s", from, to, diff)
						}
					}
				}
			}
		}
	})
}
