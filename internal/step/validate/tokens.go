package validate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/prompt"
	"github.com/mlxbuild/mlxbuild/internal/snapshot"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// tokensFile is what a tokens step writes.
const tokensFile = "tokens.json"

// Tokens are texts as ids, frozen: what every runtime gets.
type Tokens struct {
	Format    int               `json:"format"`    // 1
	Tokenizer string            `json:"tokenizer"` // SHA-256 of tokenizer.json
	Cut       Cut               `json:"cut"`
	Documents []prompt.Document `json:"documents"`
	Sequences []Sequence        `json:"sequences"`
}

// Cut says how documents become sequences. With Context 0 each document is one; else all documents together are cut into chunks.
type Cut struct {
	Context int  `json:"context,omitempty"` // tokens of a chunk
	Chunks  int  `json:"chunks,omitempty"`  // at most so many
	Half    bool `json:"half,omitempty"`    // only the second half is judged
}

// Sequence is one text. Judged are the logits after the tokens From to To-1: those after token i say what token i+1 should be.
type Sequence struct {
	IDs  []int32 `json:"ids"`
	From int     `json:"from"`
	To   int     `json:"to"`
}

// Positions that are judged.
func (s Sequence) Positions() []int {
	out := make([]int, 0, s.To-s.From)
	for i := s.From; i < s.To; i++ {
		out = append(out, i)
	}
	return out
}

// Label is the token that stands after position i, -1 when nothing does.
func (s Sequence) Label(i int) int {
	if i+1 < len(s.IDs) {
		return int(s.IDs[i+1])
	}
	return -1
}

// positions that are judged in all sequences.
func (t *Tokens) positions() (n int) {
	for _, s := range t.Sequences {
		n += s.To - s.From
	}
	return n
}

// maxJudged is the largest number of positions of one prompt that are judged, its last ones: what is kept of each is a whole vocabulary.
const maxJudged = 512

// cut encodes documents. The same documents and cut give the same sequences for the same tokenizer, so that another tokenizer can be held against them.
func cut(e *prompt.Encoder, documents []prompt.Document, c Cut) ([]Sequence, error) {
	if c.Context == 0 {
		return onePerDocument(e, documents)
	}
	first, err := begin(e)
	if err != nil {
		return nil, err
	}
	room := c.Context - len(first)
	if room < 2 {
		return nil, fmt.Errorf("a chunk of %d tokens has no room beside the tokens that begin a text", c.Context)
	}
	var stream []int32
	for _, d := range documents {
		ids, err := e.Tokenizer.Encode(d.Text, false)
		if err != nil {
			return nil, err
		}
		if stream = append(stream, ids...); len(stream) >= room*c.Chunks {
			break
		}
	}
	if len(stream) < room {
		return nil, fmt.Errorf("the corpus has %d tokens, not enough for one chunk of %d", len(stream), c.Context)
	}
	var out []Sequence
	for len(stream) >= room && len(out) < c.Chunks {
		s := Sequence{IDs: append(append([]int32{}, first...), stream[:room]...), From: 0, To: c.Context - 1}
		if c.Half {
			s.From = c.Context/2 - 1
		}
		out, stream = append(out, s), stream[room:]
	}
	return out, nil
}

func onePerDocument(e *prompt.Encoder, documents []prompt.Document) (out []Sequence, err error) {
	for i, d := range documents {
		ids, err := e.Encode(d)
		if err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			return nil, fmt.Errorf("prompt %d has no tokens", i+1)
		}
		out = append(out, Sequence{IDs: ids, From: max(0, len(ids)-maxJudged), To: len(ids)})
	}
	return out, nil
}

// begin are the tokens that the tokenizer puts before a text.
func begin(e *prompt.Encoder) ([]int32, error) {
	plain, err := e.Tokenizer.Encode("a", false)
	if err != nil {
		return nil, err
	}
	with, err := e.Tokenizer.Encode("a", true)
	if err != nil {
		return nil, err
	}
	for i := range with {
		if len(plain) > 0 && with[i] == plain[0] {
			return with[:i], nil
		}
	}
	return nil, nil
}

// sameTokens refuses a folder whose tokenizer gives other ids for the same text, or means another token by an id.
func sameTokens(t *Tokens, referenceDir, dir string) error {
	if sum, err := fileSum(filepath.Join(dir, "tokenizer.json")); err == nil && sum == t.Tokenizer {
		return nil
	}
	mine, err := prompt.Load(dir)
	if err != nil {
		return err
	}
	theirs, err := prompt.Load(referenceDir)
	if err != nil {
		return err
	}
	if what := theirs.Tokenizer.Differs(mine.Tokenizer); what != "" {
		return &TokenizerError{Dir: dir, What: what}
	}
	sequences, err := cut(mine, t.Documents, t.Cut)
	if err != nil {
		return err
	}
	for i, s := range t.Sequences {
		if i >= len(sequences) || !equal(s.IDs, sequences[i].IDs) {
			return &TokenizerError{Dir: dir, What: fmt.Sprintf("text %d becomes other ids", i+1)}
		}
	}
	return nil
}

func equal(a, b []int32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TokenizerError says that the two sides do not mean the same by the same text, so that nothing can be compared.
type TokenizerError struct{ Dir, What string }

func (e *TokenizerError) Error() string {
	return fmt.Sprintf("the tokenizer of %s is not that of the reference: %s", e.Dir, e.What)
}

// Hint says what to do.
func (e *TokenizerError) Hint() string {
	return "figures of different tokens cannot be compared; build both sides from the same model, or copy tokenizer.json from the source"
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	d, err := cache.SumReader(f)
	return d.String(), err
}

// freeze makes the ids of a validation.
type freeze struct{ entry spec.Validation }

// Key has the texts themselves, or how the corpus is cut.
func (f *freeze) Key(k *cache.KeyWriter) {
	k.Code(append([]string{tokensCode}, prompt.Codes...)...)
	if c := f.entry.Corpus; c != nil {
		k.Param("context", c.Context)
		k.Param("chunks", c.Chunks)
		k.Param("score", c.Score)
		k.Param("chat", c.Chat)
		k.Param("lines", isLines(c.Path))
		return
	}
	k.Param("chat", f.entry.Prompts.Chat)
	k.Param("system", f.entry.Prompts.System)
	k.Param("prompts", prompt.Values(f.entry.Prompts.Prompts))
}

// Where finds the recipe line of a changed parameter.
func (f *freeze) Where(name, path string) (spec.Pos, bool) {
	if f.entry.Corpus != nil {
		return f.entry.Corpus.Pos, true
	}
	return f.entry.Prompts.Pos, true
}

// Prepare has nothing to decide.
func (f *freeze) Prepare() (*step.Forecast, error) {
	if c := f.entry.Corpus; c != nil {
		return &step.Forecast{Summary: fmt.Sprintf("up to %d chunks of %d tokens", c.Chunks, c.Context)}, nil
	}
	return &step.Forecast{Summary: plural(len(f.entry.Prompts.Prompts), "prompt")}, nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Run reads, renders and encodes.
func (f *freeze) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	enc, err := prompt.Load(e.Inputs[0].Dir)
	if err != nil {
		return nil, err
	}
	t := Tokens{Format: 1}
	if t.Tokenizer, err = fileSum(filepath.Join(e.Inputs[0].Dir, "tokenizer.json")); err != nil {
		return nil, err
	}
	if c := f.entry.Corpus; c != nil {
		t.Cut = Cut{Context: c.Context, Chunks: c.Chunks, Half: c.Score != "all"}
		t.Documents, err = readCorpus(enc, *c, e.Inputs[1])
	} else {
		t.Documents, err = render(enc, f.entry.Prompts)
	}
	if err != nil {
		return nil, err
	}
	if t.Sequences, err = cut(enc, t.Documents, t.Cut); err != nil {
		return nil, err
	}
	if c := f.entry.Corpus; c != nil && len(t.Sequences) < c.Chunks {
		e.Warn(fmt.Sprintf("the corpus gives %s of %d tokens, not %d", plural(len(t.Sequences), "chunk"), c.Context, c.Chunks))
	}
	data, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	file, err := writeFile(e, tokensFile, data)
	return &step.Result{Files: []step.File{file}, Value: json.RawMessage(fmt.Sprintf(`{"sequences":%d,"positions":%d}`, len(t.Sequences), t.positions()))}, err
}

func render(e *prompt.Encoder, set spec.PromptSet) (out []prompt.Document, err error) {
	for _, p := range set.Prompts {
		d, err := e.Render(p, prompt.Options{Chat: set.Chat, System: set.System, Now: prompt.SomeDay})
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// maxCorpus is the largest corpus file that is read, in bytes; maxLine the longest line of a JSON lines file.
const (
	maxCorpus = 256 << 20
	maxLine   = 16 << 20
)

// readCorpus reads as much of a corpus as its chunks can need: no tokenizer makes a token of more than 32 bytes of ordinary text on average.
func readCorpus(e *prompt.Encoder, c spec.Corpus, in step.Input) ([]prompt.Document, error) {
	data, err := os.ReadFile(in.Dir)
	if err != nil {
		return nil, err
	}
	if cache.SumBytes(data) != in.Digest {
		return nil, fmt.Errorf("%s changed while it was read; run again", in.Dir)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("the corpus %s is not UTF-8", c.Path)
	}
	enough := c.Context * c.Chunks * 32
	if isLines(c.Path) {
		return readLines(e, c, data, enough)
	}
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	if len(text) > enough {
		if i := strings.LastIndexByte(text[:enough], '\n'); i > 0 {
			text = text[:i]
		}
	}
	return []prompt.Document{{Text: text, Special: false}}, nil
}

func isLines(path string) bool {
	ext := strings.ToLower(filepath.Ext(path))
	return ext == ".jsonl" || ext == ".ndjson"
}

// readLines reads {"text": ...} and {"messages": [...]}, a document a line.
func readLines(e *prompt.Encoder, c spec.Corpus, data []byte, enough int) (out []prompt.Document, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxLine)
	n := 0
	for i := 1; lines.Scan() && n < enough; i++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		d, err := lineDocument(e, c, lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", c.Path, i, err)
		}
		n += len(d.Text)
		out = append(out, d)
	}
	return out, lines.Err()
}

func lineDocument(e *prompt.Encoder, c spec.Corpus, line []byte) (prompt.Document, error) {
	var v struct {
		Text     *string `json:"text"`
		Messages []struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return prompt.Document{}, fmt.Errorf("it is not JSON: %w", err)
	}
	if (v.Text == nil) == (v.Messages == nil) {
		return prompt.Document{}, errors.New(`it has neither "text" nor "messages", or both`)
	}
	if v.Text != nil {
		return prompt.Document{Text: *v.Text + "\n\n"}, nil
	}
	if !c.Chat {
		return prompt.Document{}, errors.New("it has messages, which need chat: true")
	}
	p := spec.Prompt{}
	for _, m := range v.Messages {
		p.Messages = append(p.Messages, spec.Message{Role: m.Role, Content: m.Content})
	}
	return e.Render(p, prompt.Options{Now: prompt.SomeDay})
}

// corpusFile is a text on this machine, read in place and known by its content.
type corpusFile struct{ path string }

// Dir is the file itself.
func (f corpusFile) Dir() string   { return f.path }
func (f corpusFile) After() string { return "hashing" }

// Ready is true: what is read in place is there.
func (f corpusFile) Ready(*cache.Cache) bool { return true }

// Check looks whether the file is as it was.
func (f corpusFile) Check(_ context.Context, c *cache.Cache, proved cache.Digest) error {
	d, _, err := c.FileDigest(f.path, nil)
	if err == nil && d != proved {
		err = fmt.Errorf("the corpus %s changed while the build ran; run again", f.path)
	}
	return err
}

func (f corpusFile) Size() int64 {
	if info, err := os.Stat(f.path); err == nil {
		return info.Size()
	}
	return 0
}

// Watch names the file.
func (f corpusFile) Watch(t *snapshot.Taker) bool {
	t.File(f.path)
	return true
}

// Known answers from metadata.
func (f corpusFile) Known(c *cache.Cache) (cache.Digest, bool) {
	d, _, ok := c.KnownFileDigest(f.path)
	return d, ok
}

// Read hashes the file.
func (f corpusFile) Read(ctx context.Context, e *step.Env) (cache.Digest, error) {
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return cache.Digest{}, fmt.Errorf("there is no corpus %s", f.path)
	case err != nil:
		return cache.Digest{}, err
	case !info.Mode().IsRegular():
		return cache.Digest{}, fmt.Errorf("the corpus %s is not a file", f.path)
	case info.Size() > maxCorpus:
		return cache.Digest{}, fmt.Errorf("the corpus %s has %d bytes; %d are allowed", f.path, info.Size(), maxCorpus)
	}
	d, _, err := e.Cache.FileDigest(f.path, e.Progress)
	return d, err
}

// readTokens reads what a tokens step wrote.
func readTokens(in step.Input) (*Tokens, error) {
	t := &Tokens{}
	return t, readJSON(in, tokensFile, t)
}

func readJSON(in step.Input, name string, v any) error {
	f, err := os.Open(in.Files[name])
	if err != nil {
		return fmt.Errorf("%s of %s: %w", name, in.Name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<30))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// writeFile writes a small output.
func writeFile(e *step.Env, name string, data []byte) (step.File, error) {
	f := step.File{Path: name, Digest: cache.SumBytes(data), Size: int64(len(data))}
	return f, os.WriteFile(e.Stage.Path(name), data, 0o644)
}
