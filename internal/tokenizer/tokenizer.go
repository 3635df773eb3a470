// Package tokenizer turns text into token ids and back by a tokenizer.json: byte-level BPE and the SentencePiece-style BPE of Llama 2.
//
// It promises the ids and the text of Hugging Face tokenizers 0.23 for the same file. A file that asks for anything this package does not do is refused
// with the name of what it asks for. The truncation and padding of a file are ignored, as transformers ignores them.
package tokenizer

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"unicode/utf8"
)

// Code names this package's behaviour in cache keys: it changes when an id or a text could.
const Code = "tokenizer/1"

const (
	maxFile  = 256 << 20 // bytes of a tokenizer.json; the largest in use, Gemma's, has 33 MB
	maxVocab = 4 << 20   // tokens, and the largest id
)

// A Tokenizer may be used by several goroutines at once.
type Tokenizer struct {
	model     bpe
	normalize normalizer // nil = none
	steps     []step
	raw       bool // words are bytes: the last step is ByteLevel
	templates []template
	decoder   *decoder

	raws    addedSet // added tokens that are looked for in the text as it is
	normals addedSet // added tokens that are looked for in normalized text
	ids     map[string]int32
	texts   []string // by id, as decoding sees it
	known   []bool
	special []bool

	mu   sync.Mutex
	idle []*encoder
}

// Load reads tokenizer.json in dir.
func Load(dir string) (*Tokenizer, error) {
	path := filepath.Join(dir, "tokenizer.json")
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("tokenizer: %s is not a regular file", path)
	} else if info.Size() > maxFile {
		return nil, fmt.Errorf("tokenizer: %s has %d bytes; the limit is %d", path, info.Size(), maxFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	t, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Encode returns the ids of text. addSpecial adds what the file's post-processor puts around it, such as a token for its beginning.
func (t *Tokenizer) Encode(text string, addSpecial bool) ([]int32, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("tokenizer: the text is not valid UTF-8")
	}
	e := t.encoder()
	defer t.release(e)
	if err := e.encode(text); err != nil {
		return nil, err
	}
	ids := make([]int32, len(e.out))
	copy(ids, e.out)
	for _, p := range t.templates {
		ids = p.apply(ids, addSpecial)
	}
	return ids, nil
}

// ID returns the id of a token as it is written in the file.
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.ids[token]
	if !ok {
		id, ok = t.model.ids[token]
	}
	return id, ok
}

// Special reports whether Decode leaves id out with skipSpecial.
func (t *Tokenizer) Special(id int32) bool {
	return id >= 0 && int(id) < len(t.special) && t.special[id]
}

// VocabSize returns one more than the largest id.
func (t *Tokenizer) VocabSize() int { return len(t.texts) }

// encoder is the working memory of one Encode.
type encoder struct {
	t       *Tokenizer
	out     []int32
	err     error
	chain   []func(string, bool) // chain[i] takes what step i-1 emits
	scratch []int32
	work    workspace
	cache   wordCache
}

// workspace is what merging needs, kept from word to word.
type workspace struct {
	text       []byte
	ranks      []uint32
	next, prev []int32
	heap       []candidate
}

// encoder takes an idle encoder or makes one: its word cache is warm and needs no lock.
func (t *Tokenizer) encoder() *encoder {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		e := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return e
	}
	e := &encoder{t: t}
	e.chain = make([]func(string, bool), len(t.steps)+1)
	e.chain[len(t.steps)] = func(word string, _ bool) { e.words(word) }
	for i, s := range t.steps {
		e.chain[i] = func(piece string, first bool) { s.split(piece, first, e.chain[i+1]) }
	}
	return e
}

const (
	maxIdle    = 16      // encoders that are kept, each with a cache
	maxScratch = 1 << 16 // ids, or bytes, of the longest word whose buffers are kept
	maxOut     = 1 << 18 // ids of the longest text whose buffer is kept
)

func (t *Tokenizer) release(e *encoder) {
	e.out, e.err = e.out[:0], nil
	if cap(e.out) > maxOut {
		e.out = nil
	}
	if max(cap(e.scratch), cap(e.work.text)) > maxScratch {
		e.scratch, e.work = nil, workspace{} // one huge word made them huge
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) < maxIdle {
		t.idle = append(t.idle, e)
	}
}

// encode cuts text at added tokens, normalizes what is between, cuts that at the added tokens of normalized text, and encodes the rest by words.
func (e *encoder) encode(text string) error {
	t := e.t
	token := func(a *addedToken) { e.out = append(e.out, a.id) }
	t.raws.split(text, func(s string, at int) {
		if t.normalize != nil {
			s = t.normalize(s)
		}
		t.normals.split(s, func(s string, inner int) {
			e.chain[0](s, at == 0 && inner == 0)
		}, token)
	}, token)
	return e.err
}

// words encodes a word. One that the cache does not take is cut wherever no merge could reach over: a text without a pre-tokenizer is one word, and so becomes many that the
// cache knows (Gemma's prose 8 times as fast, Llama 2's without blanks 4 times).
func (e *encoder) words(word string) {
	m := &e.t.model
	if len(word) <= cacheWord || m.joints == nil {
		e.word(word, m.ignoreMerges)
		return
	}
	if m.ignoreMerges {
		if id, ok := m.whole(word, e.t.raw, &e.work); ok {
			e.out = append(e.out, id)
			return
		}
	}
	start, before, known := 0, rune(0), false
	for i := 0; i < len(word); {
		r, size, id := m.char(word, i, e.t.raw)
		if known && id >= 0 && !m.joints.has(before, r) {
			e.word(word[start:i], false)
			start = i
		}
		before, known = r, id >= 0
		i += size
	}
	e.word(word[start:], false)
}

// word encodes a word or, with whole false, a part of one, which counts as a token of the vocabulary only where merges make it.
func (e *encoder) word(word string, whole bool) {
	if e.err != nil {
		return
	}
	if ids, ok := e.cache.get(word, whole); ok {
		e.out = append(e.out, ids...)
		return
	}
	ids, err := e.t.model.encode(e.scratch[:0], word, e.t.raw, whole, &e.work)
	if err != nil {
		e.err = err
		return
	}
	e.scratch = ids
	e.cache.put(word, whole, ids)
	e.out = append(e.out, ids...)
}

// encode appends the ids of a word.
func (m *bpe) encode(dst []int32, word string, raw, whole bool, w *workspace) ([]int32, error) {
	if whole {
		if id, ok := m.whole(word, raw, w); ok {
			return append(dst, id), nil
		}
	}
	s, err := m.symbols(dst, word, raw)
	if err != nil {
		return nil, err
	}
	return m.merge(s, w), nil
}

// whole finds a word in the vocabulary.
func (m *bpe) whole(word string, raw bool, w *workspace) (id int32, ok bool) {
	if !raw {
		id, ok = m.ids[word]
		return id, ok
	}
	w.text = appendByteLevel(w.text[:0], word)
	id, ok = m.ids[string(w.text)]
	return id, ok
}

// template is a TemplateProcessing post-processor for one text: ids before, between and after copies of it.
type template []templatePart

type templatePart struct {
	text bool
	ids  []int32
}

func (p template) apply(ids []int32, addSpecial bool) []int32 {
	out := make([]int32, 0, len(ids)+2)
	for _, part := range p {
		if part.text {
			out = append(out, ids...)
		} else if addSpecial {
			out = append(out, part.ids...)
		}
	}
	return out
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err == nil && (n < 0 || n > 1<<20) {
		err = strconv.ErrRange
	}
	return n, err
}

func parseID(s string) (int32, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 || n >= maxVocab {
		return 0, fmt.Errorf("%q is not an id", s)
	}
	return int32(n), nil
}

// Differs says in words where two tokenizers have different tokens for an id, or "" when every id means the same.
func (t *Tokenizer) Differs(other *Tokenizer) string {
	for id := range max(len(t.texts), len(other.texts)) {
		a, known := t.text(int32(id))
		b, otherKnown := other.text(int32(id))
		if a != b || known != otherKnown {
			return fmt.Sprintf("id %d is %q in one and %q in the other", id, a, b)
		}
	}
	return ""
}
