package hub

import (
	"cmp"
	"slices"
)

// span is the bytes from one offset up to, and without, another.
type span struct{ from, to int64 }

func (s span) len() int64 { return s.to - s.from }

// spans are in order and do not touch.
type spans []span

// add puts a span in and says how many bytes of it are new.
func (s spans) add(x span) (spans, int64) {
	if x.len() <= 0 {
		return s, 0
	}
	before := s.total()
	i, _ := slices.BinarySearchFunc(s, x.from, func(e span, from int64) int { return cmp.Compare(e.to, from) }) // the first that ends at x.from or later
	j := i
	for j < len(s) && s[j].from <= x.to {
		x.from, x.to = min(x.from, s[j].from), max(x.to, s[j].to)
		j++
	}
	s = slices.Replace(s, i, j, x)
	return s, s.total() - before
}

func (s spans) total() (n int64) {
	for _, e := range s {
		n += e.len()
	}
	return n
}

// prefix is how much there is from the start without a gap.
func (s spans) prefix() int64 {
	if len(s) == 0 || s[0].from > 0 {
		return 0
	}
	return s[0].to
}

// gaps are the parts of a span that are not there.
func (s spans) gaps(in span) []span {
	var out []span
	for _, e := range s {
		if e.to <= in.from || e.from >= in.to {
			continue
		}
		if e.from > in.from {
			out = append(out, span{in.from, e.from})
		}
		in.from = e.to
	}
	if in.from < in.to {
		out = append(out, in)
	}
	return out
}
