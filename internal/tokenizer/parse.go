package tokenizer

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Parse reads the text of a tokenizer.json.
func Parse(data []byte) (*Tokenizer, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("tokenizer.json: %d bytes; the limit is %d", len(data), maxFile)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("tokenizer.json: not valid UTF-8")
	}
	p := &parser{r: reader{data: data}, parts: map[string]any{}}
	if err := p.file(); err != nil {
		return nil, err
	}
	return p.assemble()
}

// parser collects the parts of a file. The order of the keys is free.
type parser struct {
	r      reader
	parts  map[string]any // the small parts
	model  map[string]any // the small fields of the model
	vocab  vocabulary
	merges []mergeText
	arena  []byte // texts of merges
	seen   bool   // there is a model
}

// vocabulary is the model's vocab in the order of the file.
type vocabulary struct {
	seen  bool
	arena []byte
	ends  []int // in arena
	ids   []int32
}

// mergeText is a merge in the parser's arena.
type mergeText struct{ start, middle, end int }

func (p *parser) file() error {
	err := p.r.object(func(key []byte) error {
		switch k := string(key); k {
		case "model":
			if p.seen {
				return p.r.errorf("model is given twice")
			}
			p.seen = true
			return p.readModel()
		case "version", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder":
			if _, again := p.parts[k]; again {
				return p.r.errorf("%s is given twice", k)
			}
			v, err := p.r.value()
			p.parts[k] = v
			return err
		}
		return p.r.skip()
	})
	if err != nil {
		return err
	}
	if p.r.peek(); p.r.pos < len(p.r.data) {
		return p.r.errorf("something after the end: %s", p.r.here())
	}
	if !p.seen {
		return fmt.Errorf("tokenizer.json: there is no model")
	}
	return nil
}

func (p *parser) readModel() error {
	p.model = map[string]any{}
	merges := false
	err := p.r.object(func(key []byte) error {
		switch k := string(key); k {
		case "vocab":
			if p.vocab.seen {
				return p.r.errorf("vocab is given twice")
			}
			p.vocab.seen = true
			if p.r.peek() != '{' {
				return fmt.Errorf("tokenizer.json: model Unigram or another kind with a list as vocab is not supported; BPE is")
			}
			return p.vocab.read(&p.r)
		case "merges":
			if merges {
				return p.r.errorf("merges is given twice")
			}
			merges = true
			return p.r.array(p.merge)
		default:
			if _, again := p.model[k]; again {
				return p.r.errorf("%s is given twice", k)
			}
			v, err := p.r.value()
			p.model[k] = v
			return err
		}
	})
	if err != nil {
		return err
	}
	if kind, given := p.model["type"]; given && kind != "BPE" {
		return fmt.Errorf("tokenizer.json: model %v is not supported; BPE is", kind)
	}
	if !p.vocab.seen || !merges {
		return fmt.Errorf("tokenizer.json: the model lacks vocab or merges; only BPE is supported")
	}
	return nil
}

func (v *vocabulary) read(r *reader) error {
	return r.object(func(key []byte) error {
		v.arena = append(v.arena, key...)
		v.ends = append(v.ends, len(v.arena))
		id, err := r.uint()
		if err != nil {
			return err
		}
		if id >= maxVocab || len(v.ids) >= maxVocab {
			return r.errorf("more than %d tokens, or an id above that", maxVocab)
		}
		v.ids = append(v.ids, int32(id))
		return nil
	})
}

// merge reads "a b" or ["a", "b"].
func (p *parser) merge() error {
	if len(p.merges) >= maxVocab {
		return p.r.errorf("more than %d merges", maxVocab)
	}
	m := mergeText{start: len(p.arena)}
	if p.r.peek() == '"' {
		s, err := p.r.text()
		if err != nil {
			return err
		}
		if bytes.HasPrefix(s, []byte("#version")) {
			return nil
		}
		i := bytes.IndexByte(s, ' ')
		if i < 0 || bytes.IndexByte(s[i+1:], ' ') >= 0 {
			return p.r.errorf("merge %q is not two tokens with a blank between", s)
		}
		p.arena = append(append(p.arena, s[:i]...), s[i+1:]...)
		m.middle = m.start + i
	} else {
		n := 0
		err := p.r.array(func() error {
			s, err := p.r.text()
			if n++; n == 2 {
				m.middle = len(p.arena)
			}
			p.arena = append(p.arena, s...)
			return err
		})
		if err != nil {
			return err
		}
		if n != 2 {
			return p.r.errorf("a merge of %d tokens", n)
		}
	}
	m.end = len(p.arena)
	p.merges = append(p.merges, m)
	return nil
}

// assemble makes the tokenizer of the parts.
func (p *parser) assemble() (*Tokenizer, error) {
	t := &Tokenizer{}
	if v, given := p.parts["version"]; given && v != "1.0" {
		return nil, fmt.Errorf("tokenizer.json: version %v is not supported; 1.0 is", v)
	}
	if err := p.fields(&t.model); err != nil {
		return nil, err
	}
	p.vocab.index(&t.model)
	if err := p.rank(&t.model); err != nil {
		return nil, err
	}
	t.model.index()
	var err error
	if t.normalize, err = newNormalizer(p.parts["normalizer"], 0); err != nil {
		return nil, err
	}
	if t.steps, t.raw, err = preTokenizer(p.parts["pre_tokenizer"]); err != nil {
		return nil, err
	}
	if m := &t.model; t.raw && (m.byteFallback || m.prefix != "" || m.suffix != "") {
		t.raw = false // characters decide what happens
		t.steps[len(t.steps)-1].(*byteLevelStep).encode = true
	}
	if t.templates, err = postProcessor(p.parts["post_processor"], 0); err != nil {
		return nil, err
	}
	if t.decoder, err = newDecoder(p.parts["decoder"]); err != nil {
		return nil, err
	}
	return t, t.addTokens(p.parts["added_tokens"])
}

// fields reads the small fields of the model.
func (p *parser) fields(m *bpe) error {
	c := &component{role: "model", kind: "BPE", fields: p.model}
	if d, ok := p.model["dropout"].(number); ok && d != "0" && d != "0.0" {
		return c.errorf("dropout %s is not supported: its ids are random", d)
	}
	m.fuseUnk = c.flag("fuse_unk", false)
	m.byteFallback = c.flag("byte_fallback", false)
	m.ignoreMerges = c.flag("ignore_merges", false)
	for key, s := range map[string]*string{"unk_token": &m.unk, "continuing_subword_prefix": &m.prefix, "end_of_word_suffix": &m.suffix} {
		if v, given := p.model[key]; given && v != nil {
			*s = c.text(key)
		}
	}
	return c.err
}

// index makes the maps of a vocabulary. A token that stands twice has its last id, as in Rust's maps.
func (v *vocabulary) index(m *bpe) {
	all := string(v.arena)
	size := 0
	for _, id := range v.ids {
		size = max(size, int(id)+1)
	}
	m.ids = make(map[string]int32, len(v.ids))
	m.texts, m.known = make([]string, size), make([]bool, size)
	start := 0
	for i, id := range v.ids {
		token := all[start:v.ends[i]]
		start = v.ends[i]
		if old, again := m.ids[token]; again && m.texts[old] == token {
			m.known[old] = false
		}
		m.ids[token] = id
		m.texts[id], m.known[id] = token, true
	}
}

// rank makes the table of merges.
func (p *parser) rank(m *bpe) error {
	var err error
	if m.merges, err = newMergeTable(len(p.merges), len(m.texts)); err != nil {
		return err
	}
	joined := newJoints(len(p.merges))
	if m.prefix == "" && m.suffix == "" {
		m.joints = &joined
	}
	text := string(p.arena)
	for rank, t := range p.merges {
		a, b := text[t.start:t.middle], text[t.middle:t.end]
		left, okLeft := m.ids[a]
		right, okRight := m.ids[b]
		if !okLeft || !okRight {
			return fmt.Errorf("tokenizer.json: merge %d, %q and %q: not both are in the vocabulary", rank, a, b)
		}
		whole := text[t.start:t.end]
		if m.prefix != "" {
			if len(b) < len(m.prefix) {
				return fmt.Errorf("tokenizer.json: merge %d: %q is shorter than continuing_subword_prefix", rank, b)
			}
			whole = a + b[len(m.prefix):]
		}
		id, ok := m.ids[whole]
		if !ok {
			return fmt.Errorf("tokenizer.json: merge %d makes %q, which is not in the vocabulary", rank, whole)
		}
		m.merges.set(left, right, rank, id)
		joined.add(a, b)
	}
	return nil
}

// addTokens enters added_tokens. As in Hugging Face the id in the file does not count: a token of the vocabulary keeps its id there, others are numbered on.
func (t *Tokenizer) addTokens(v any) error {
	m := &t.model
	t.ids, t.texts, t.known = map[string]int32{}, m.texts, m.known
	list, ok := v.([]any)
	if v != nil && !ok {
		return fmt.Errorf("tokenizer.json: added_tokens is not a list")
	}
	if len(list)+len(m.ids) > maxVocab {
		return fmt.Errorf("tokenizer.json: more than %d tokens", maxVocab)
	}
	next := int32(len(m.ids))
	byID := map[int32]*addedToken{}
	special := map[string]bool{}
	var order []int32
	for _, v := range list {
		a, err := readAdded(v)
		if err != nil {
			return err
		}
		if a.content == "" {
			continue
		}
		if a.id, ok = t.ID(a.content); !ok {
			a.id = next
			next++
		}
		t.ids[a.content] = a.id
		if a.special {
			special[a.content] = true
		}
		if byID[a.id] == nil {
			order = append(order, a.id)
		}
		byID[a.id] = &a
	}
	for _, id := range order {
		if err := t.enter(byID[id]); err != nil {
			return err
		}
	}
	t.special = make([]bool, len(t.texts))
	for id, text := range t.texts {
		t.special[id] = t.known[id] && special[text]
	}
	return nil
}

// enter makes an added token known to encoding and decoding.
func (t *Tokenizer) enter(a *addedToken) error {
	for int(a.id) >= len(t.texts) {
		t.texts, t.known = append(t.texts, ""), append(t.known, false)
	}
	set, pattern := &t.raws, a.content
	if a.normalized {
		set = &t.normals
		if t.normalize != nil {
			pattern = t.normalize(pattern)
		}
	}
	if pattern == "" || !set.add(pattern, a) {
		return fmt.Errorf("tokenizer.json: added token %q: empty, or the same as another, once it is normalized", a.content)
	}
	t.texts[a.id], t.known[a.id] = pattern, true // Hugging Face 0.23 decodes a token to what it looks for
	return nil
}

// postProcessor reads the post_processor: only what adds ids counts here; ByteLevel only moves offsets.
func postProcessor(v any, depth int) ([]template, error) {
	if v == nil {
		return nil, nil
	}
	c, err := newComponent("post_processor", v)
	if err != nil {
		return nil, err
	}
	switch c.kind {
	case "ByteLevel":
		return nil, nil
	case "Sequence":
		list, err := c.list("processors", depth)
		if err != nil {
			return nil, err
		}
		var all []template
		for _, v := range list {
			more, err := postProcessor(v, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
		return all, nil
	case "TemplateProcessing":
		t, err := newTemplate(c)
		return []template{t}, err
	}
	return nil, c.unsupported()
}

// maxTemplate bounds the parts of a template, and the ids of a part.
const maxTemplate = 64

func newTemplate(c *component) (template, error) {
	single, ok := c.fields["single"].([]any)
	if !ok || len(single) > maxTemplate {
		return nil, c.errorf("single is missing, not a list or longer than %d", maxTemplate)
	}
	tokens, _ := c.fields["special_tokens"].(map[string]any)
	var out template
	texts := 0
	for _, v := range single {
		piece, _ := v.(map[string]any)
		seq, isText := piece["Sequence"].(map[string]any)
		tok, isToken := piece["SpecialToken"].(map[string]any)
		switch {
		case isText && seq["id"] == "A":
			texts++
			out = append(out, templatePart{text: true})
		case isToken:
			name, _ := tok["id"].(string)
			ids, err := templateIDs(tokens[name])
			if err != nil {
				return nil, c.errorf("special token %q: %v", name, err)
			}
			out = append(out, templatePart{ids: ids})
		default:
			return nil, c.errorf("a part of single is neither Sequence A nor a SpecialToken")
		}
	}
	if texts > 1 {
		return nil, c.errorf("single holds the text %d times", texts)
	}
	return out, nil
}

func templateIDs(v any) ([]int32, error) {
	token, _ := v.(map[string]any)
	list, ok := token["ids"].([]any)
	if !ok || len(list) > maxTemplate {
		return nil, fmt.Errorf("special_tokens gives it no ids, or more than %d", maxTemplate)
	}
	var ids []int32
	for _, v := range list {
		n, _ := v.(number)
		id, err := parseID(string(n))
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
