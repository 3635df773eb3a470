package tokenizer

import (
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A normalizer rewrites text before it is cut into words.
type normalizer func(string) string

func newNormalizer(v any, depth int) (normalizer, error) {
	if v == nil {
		return nil, nil
	}
	c, err := newComponent("normalizer", v)
	if err != nil {
		return nil, err
	}
	switch c.kind {
	case "Sequence":
		return sequence(c, depth)
	case "NFC":
		return form{norm.NFC, false, true}.apply, nil
	case "NFD":
		return form{norm.NFD, false, false}.apply, nil
	case "NFKC":
		return form{norm.NFKC, true, true}.apply, nil
	case "NFKD":
		return form{norm.NFKD, true, false}.apply, nil
	case "Lowercase":
		return lowercase, nil
	case "Prepend":
		prefix := c.text("prepend")
		return func(s string) string {
			if s == "" {
				return s
			}
			return prefix + s
		}, c.err
	case "Strip":
		left, right := c.flag("strip_left", false), c.flag("strip_right", false)
		return func(s string) string {
			if left {
				s = strings.TrimLeftFunc(s, isSpace)
			}
			if right {
				s = strings.TrimRightFunc(s, isSpace)
			}
			return s
		}, c.err
	case "Replace":
		return replace(c)
	}
	return nil, c.unsupported()
}

func sequence(c *component, depth int) (normalizer, error) {
	list, err := c.list("normalizers", depth)
	if err != nil {
		return nil, err
	}
	var all []normalizer
	for _, v := range list {
		n, err := newNormalizer(v, depth+1)
		if err != nil {
			return nil, err
		}
		if n != nil {
			all = append(all, n)
		}
	}
	return func(s string) string {
		for _, n := range all {
			s = n(s)
		}
		return s
	}, nil
}

// replace reads a Replace normalizer or decoder.
func replace(c *component) (normalizer, error) {
	isRegex, pattern := c.pattern()
	content := c.text("content")
	if c.err != nil {
		return nil, c.err
	}
	if !isRegex {
		return func(s string) string { return strings.ReplaceAll(s, pattern, content) }, nil
	}
	next, err := compile(pattern)
	if err != nil {
		return nil, c.errorf("with pattern %q is not supported: %v", pattern, err)
	}
	return func(s string) string {
		var b strings.Builder
		for _, p := range (splitStep{next: next, behavior: "Isolated"}).spans(s) {
			if p.match {
				b.WriteString(content)
			} else {
				b.WriteString(s[p.start:p.end])
			}
		}
		return b.String()
	}, nil
}

// lowercase maps each character by itself, as Rust's char::to_lowercase does: no rule looks at the neighbours.
func lowercase(s string) string {
	return strings.Map(func(r rune) rune {
		for _, n := range newLower {
			if n.first <= r && r <= n.last {
				return r + n.add
			}
		}
		return unicode.ToLower(r)
	}, strings.ReplaceAll(s, "İ", "i̇"))
}

// newLower are the lower case letters that Unicode 16 and 17 added.
var newLower = []struct{ first, last, add rune }{
	{0x1C89, 0x1C89, 1},
	{0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
	{0xA7CC, 0xA7CC, 1},
	{0xA7CE, 0xA7CE, 1},
	{0xA7D2, 0xA7D2, 1},
	{0xA7D4, 0xA7D4, 1},
	{0xA7DA, 0xA7DA, 1},
	{0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
	{0x10D50, 0x10D65, 32},
	{0x16EA0, 0x16EB8, 27},
}

// form is one of the four normalization forms of Unicode.
type form struct {
	fast    norm.Form
	compat  bool
	compose bool
}

// apply normalizes as Hugging Face's library does. golang.org/x/text differs from it in two ways: it follows Stream-Safe Text and puts U+034F into runs of
// more than 30 combining characters, and it knows newer characters. Text that could show either goes the slow way, in pieces that begin with a blank or a
// line end, which no form joins with what stands before.
func (f form) apply(s string) string {
	if f.fast.IsNormalString(s) {
		return s
	}
	var b strings.Builder
	for s != "" {
		piece := s
		if len(s) > minPiece {
			if i := strings.IndexAny(s[minPiece:], " \n"); i >= 0 {
				piece = s[:minPiece+i]
			}
		}
		s = s[len(piece):]
		if needsSlow(piece) {
			b.WriteString(f.slow(piece))
		} else {
			b.WriteString(f.fast.String(piece))
		}
	}
	return b.String()
}

// minPiece is the least number of bytes that are normalized together; it only saves calls.
const minPiece = 256

// longRun is a number of combining characters in a row that cannot come to 30 by decomposition: none becomes more than three.
const longRun = 9

func needsSlow(s string) bool {
	known, classes := normalTable(), classTable()
	run := 0
	for _, r := range s {
		if r < 0x300 {
			run = 0
			continue
		}
		if !known[r] && inNewer(r) {
			return true
		}
		jamo := 0x1160 <= r && r <= 0x11FF // x/text counts vowels and finals too
		if !jamo && classOfRune(classes, r) != classMark {
			run = 0
		} else if run++; run >= longRun {
			return true
		}
	}
	return false
}

// inNewer reports that x/text would decompose or reorder r.
func inNewer(r rune) bool {
	var b [utf8.UTFMax]byte
	p := norm.NFKD.Properties(b[:utf8.EncodeRune(b[:], r)])
	return p.CCC() != 0 || p.Decomposition() != nil
}

// normalTable decodes normalRuns.
var normalTable = sync.OnceValue(func() *[unicode.MaxRune + 1]bool {
	var t [unicode.MaxRune + 1]bool
	eachRun(normalRuns, func(start, end int, value byte) bool {
		for ; value == 1 && start < end; start++ {
			t[start] = true
		}
		return true
	})
	return &t
})

// reordered is a character with its canonical combining class.
type reordered struct {
	r   rune
	ccc uint8
}

// slow follows the definition (Unicode 3.11, D108 to D117): decompose, order the marks, compose.
func (f form) slow(s string) string {
	known := normalTable()
	var text []reordered
	for _, r := range s {
		if !known[r] {
			text = append(text, reordered{r, 0})
			continue
		}
		parts := norm.NFD
		if f.compat {
			parts = norm.NFKD
		}
		for _, d := range parts.String(string(r)) {
			text = append(text, reordered{d, cccOf(known, d)})
		}
	}
	for i := 0; i < len(text); i++ {
		start := i
		for i < len(text) && text[i].ccc != 0 {
			i++
		}
		slices.SortStableFunc(text[start:i], func(a, b reordered) int { return int(a.ccc) - int(b.ccc) })
	}
	if f.compose {
		text = composeMarks(known, text)
	}
	var b strings.Builder
	for _, m := range text {
		b.WriteRune(m.r)
	}
	return b.String()
}

func cccOf(known *[unicode.MaxRune + 1]bool, r rune) uint8 {
	if !known[r] {
		return 0
	}
	return norm.NFD.PropertiesString(string(r)).CCC()
}

func composeMarks(known *[unicode.MaxRune + 1]bool, text []reordered) []reordered {
	out := text[:0]
	starter := -1 // in out
	last := uint8(0)
	for _, m := range text {
		adjacent := starter == len(out)-1
		if starter >= 0 && (adjacent || last < m.ccc) {
			if c, ok := composePair(out[starter].r, m.r); ok && known[c] {
				out[starter].r = c
				continue
			}
		}
		if m.ccc == 0 {
			starter = len(out)
		}
		last = m.ccc
		out = append(out, m)
	}
	return out
}

// composePair returns the primary composite of two characters.
func composePair(a, b rune) (rune, bool) {
	s := norm.NFC.String(string(a) + string(b))
	r, n := utf8.DecodeRuneInString(s)
	return r, n == len(s)
}
