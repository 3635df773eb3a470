package tokenizer

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// decoder is how tokens become text again, as a chain of at most four parts, in the order of their use:
// changes to single tokens, byte tokens, the joining of all tokens, and what is cut from both ends of the whole.
type decoder struct {
	none      bool                  // no decoder: tokens joined by blanks
	each      []func(string) string // Replace and Strip before the tokens are joined
	metaspace *metaspace
	fallback  bool // ByteFallback: "<0xHH>" are bytes
	byteLevel bool // ByteLevel: characters are bytes
	fused     bool // Fuse, or ByteLevel, has joined the tokens
	strip     []strip
}

// strip is the Strip decoder on the joined text.
type strip struct {
	char        rune
	start, stop int // at most so many are cut
}

func newDecoder(v any) (*decoder, error) {
	d := &decoder{none: v == nil}
	if v == nil {
		return d, nil
	}
	return d, d.add(v, 0)
}

func (d *decoder) add(v any, depth int) error {
	c, err := newComponent("decoder", v)
	if err != nil {
		return err
	}
	if c.kind == "Sequence" {
		list, err := c.list("decoders", depth)
		if err != nil {
			return err
		}
		for _, v := range list {
			if err := d.add(v, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	plain := !d.fused && !d.fallback && d.metaspace == nil
	switch c.kind {
	case "ByteLevel":
		if d.fused || d.fallback {
			return c.errorf("after a decoder that joins tokens is not supported")
		}
		d.byteLevel, d.fused = true, true
		return nil
	case "ByteFallback":
		if d.fused || d.fallback {
			return c.errorf("after a decoder that joins tokens is not supported")
		}
		d.fallback = true
		return nil
	case "Fuse":
		d.fused = true
		return nil
	case "Metaspace":
		if !plain {
			return c.errorf("after another decoder is not supported")
		}
		d.metaspace, err = newMetaspace(c)
		return err
	case "Replace":
		if !plain {
			return c.errorf("after another decoder is not supported")
		}
		f, err := replace(c)
		d.each = append(d.each, f)
		return err
	case "Strip":
		char, _ := utf8.DecodeRuneInString(c.text("content"))
		s := strip{char, c.count("start"), c.count("stop")}
		if c.err != nil {
			return c.err
		}
		if utf8.RuneCountInString(c.text("content")) != 1 {
			return c.errorf("content %q is not one character", c.text("content"))
		}
		switch {
		case d.fused:
			d.strip = append(d.strip, s)
		case plain:
			d.each = append(d.each, s.apply)
		default:
			return c.errorf("after another decoder is not supported")
		}
		return nil
	}
	return c.unsupported()
}

func (s strip) apply(text string) string {
	for range s.start {
		r, n := utf8.DecodeRuneInString(text)
		if n == 0 || r != s.char {
			break
		}
		text = text[n:]
	}
	for range s.stop {
		r, n := utf8.DecodeLastRuneInString(text)
		if n == 0 || r != s.char {
			break
		}
		text = text[:len(text)-n]
	}
	return text
}

// Stream turns ids into text as they come. The texts it returns, joined, are what Decode makes of all ids; none ends inside a character.
//
// Text is held back where later ids decide it: the bytes of an unfinished character, a run of byte tokens (Hugging Face reads a run as a whole), and what
// a Strip decoder may cut from the end.
type Stream struct {
	t       *Tokenizer
	skip    bool
	tokens  int    // decoded so far
	bytes   []byte // held: an unfinished character, or a run of byte tokens
	started []int  // for each Strip: how many characters are cut from the start; -1 when it is over
	tail    string // held: what a Strip may cut from the end
}

// Stream starts to decode a sequence of ids.
func (t *Tokenizer) Stream(skipSpecial bool) *Stream {
	return &Stream{t: t, skip: skipSpecial, started: make([]int, len(t.decoder.strip))}
}

// Decode returns the text of ids; unknown ids are left out. With skipSpecial, special tokens are left out too.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	s := t.Stream(skipSpecial)
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(s.Next(id))
	}
	b.WriteString(s.Flush())
	return b.String()
}

// Next takes an id and returns the text that is certain now.
func (s *Stream) Next(id int32) string {
	text, ok := s.t.text(id)
	if !ok || s.skip && s.t.special[id] {
		return ""
	}
	return s.ends(s.join(text), false)
}

// Flush ends the sequence and returns the rest of its text: a character that was never finished is U+FFFD.
func (s *Stream) Flush() string {
	rest := ""
	switch {
	case len(s.bytes) == 0:
	case s.t.decoder.byteLevel:
		rest = lossy(s.bytes)
	default:
		rest = fallbackText(s.bytes)
	}
	s.bytes = nil
	return s.ends(rest, true)
}

// join turns a token into text, without what must wait.
func (s *Stream) join(token string) string {
	d := s.t.decoder
	first := s.tokens == 0
	s.tokens++
	if d.none {
		if first {
			return token
		}
		return " " + token
	}
	for _, f := range d.each {
		token = f(token)
	}
	if d.metaspace != nil {
		blank := " "
		if first && d.metaspace.scheme != "never" {
			blank = ""
		}
		token = strings.ReplaceAll(token, d.metaspace.mark, blank)
	}
	switch {
	case d.byteLevel:
		return s.joinBytes(token)
	case d.fallback:
		if b, ok := byteToken(token); ok {
			s.bytes = append(s.bytes, b)
			return ""
		}
		if len(s.bytes) > 0 {
			token = fallbackText(s.bytes) + token
			s.bytes = s.bytes[:0]
		}
	}
	return token
}

// joinBytes adds a token in byte-level characters; a token with any other character stands for its own bytes.
func (s *Stream) joinBytes(token string) string {
	n := len(s.bytes)
	for _, r := range token {
		b, ok := runeToByte(r)
		if !ok {
			s.bytes = append(s.bytes[:n], token...)
			break
		}
		s.bytes = append(s.bytes, b)
	}
	whole := len(s.bytes) - unfinished(s.bytes)
	text := lossy(s.bytes[:whole])
	s.bytes = append(s.bytes[:0], s.bytes[whole:]...)
	return text
}

// ends applies the Strip decoders of the joined text.
func (s *Stream) ends(text string, last bool) string {
	for i, cut := range s.t.decoder.strip {
		for s.started[i] >= 0 && text != "" {
			r, n := utf8.DecodeRuneInString(text)
			if r != cut.char || s.started[i] >= cut.start {
				s.started[i] = -1
				break
			}
			s.started[i]++
			text = text[n:]
		}
	}
	if !slices.ContainsFunc(s.t.decoder.strip, func(c strip) bool { return c.stop > 0 }) {
		return text
	}
	return s.cutTail(text, last)
}

// cutTail holds back every character at the end that a Strip might still cut.
func (s *Stream) cutTail(text string, last bool) string {
	text = s.tail + text
	keep := text
	for _, cut := range s.t.decoder.strip {
		keep = strip{cut.char, 0, cut.stop}.apply(keep)
	}
	if last {
		s.tail = ""
		return keep
	}
	s.tail = text[len(keep):]
	return keep
}

// byteToken reads "<0xHH>".
func byteToken(s string) (byte, bool) {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return 0, false
	}
	var b byte
	for i, c := range []byte(s[3:5]) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		case i == 0 && c == '+': // Rust's from_str_radix takes a sign
			c = 0
		default:
			return 0, false
		}
		b = b<<4 | c
	}
	return b, true
}

// fallbackText reads a run of byte tokens: a run that is not UTF-8 as a whole is one U+FFFD for each byte.
func fallbackText(run []byte) string {
	if utf8.Valid(run) {
		return string(run)
	}
	return strings.Repeat("\uFFFD", len(run))
}

// lossy replaces each maximal part of invalid UTF-8 by U+FFFD (Unicode 3.9, "maximal subparts"), as Rust's from_utf8_lossy.
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = subpart(b)
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// subpart returns the length of the longest start of b that begins a well-formed character, at least 1.
func subpart(b []byte) int {
	low, high, need := byte(0x80), byte(0xBF), 0
	switch c := b[0]; {
	case 0xC2 <= c && c <= 0xDF:
		need = 1
	case c == 0xE0:
		low, need = 0xA0, 2
	case c == 0xED:
		high, need = 0x9F, 2
	case 0xE1 <= c && c <= 0xEF:
		need = 2
	case c == 0xF0:
		low, need = 0x90, 3
	case c == 0xF4:
		high, need = 0x8F, 3
	case 0xF1 <= c && c <= 0xF3:
		need = 3
	}
	n := 1
	for n <= need && n < len(b) && low <= b[n] && b[n] <= high {
		n, low, high = n+1, 0x80, 0xBF
	}
	return n
}

// unfinished returns how many bytes at the end of b begin a character that more bytes could finish.
func unfinished(b []byte) int {
	for n := 1; n <= 3 && n <= len(b); n++ {
		tail := b[len(b)-n:]
		if tail[0]&0xC0 == 0x80 {
			continue
		}
		if !utf8.FullRune(tail) && subpart(tail) == n {
			return n
		}
		return 0
	}
	return 0
}

func (t *Tokenizer) text(id int32) (string, bool) {
	if id < 0 || int(id) >= len(t.texts) || !t.known[id] {
		return "", false
	}
	return t.texts[id], true
}
