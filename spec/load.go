package spec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
	"github.com/mlxbuild/mlxbuild/schemas"
)

// Options of Load.
type Options struct {
	// Seen reports whether a recipe with this digest has passed the schema before; then it is not checked against it again.
	Seen func(digest [32]byte) bool
	// ReadFile reads recipes as they were at another time; nil: as they are.
	ReadFile func(path string) ([]byte, error)
}

const maxIncludes = 100

// Load reads a recipe and what it includes. With errors the recipe is nil; warnings come with a recipe.
func Load(path string, o Options) (*Recipe, Diags) {
	l := newLoader(o)
	data, err := l.readFile(path)
	if err != nil {
		return nil, Diags{{Pos: Pos{File: path}, Msg: err.Error(), Hints: []string{"check that the file is there and that its disk and permissions are well"}}}
	}
	return l.load(path, filepath.Dir(path), data)
}

// LoadBytes reads a recipe that is in memory; name stands for the file, and paths in it are relative to dir.
func LoadBytes(name, dir string, data []byte, o Options) (*Recipe, Diags) {
	return newLoader(o).load(name, dir, data)
}

// loader holds what is read.
type loader struct {
	options     Options
	diags       Diags
	texts       map[string][]string // lines of each file, for carets
	files       []string
	promptFiles []string
	sum         []byte
	stage       int               // 0 reading, 1 variables, 2 schema, 3 decoding
	opened      []string          // files on the way to the one being read, for include cycles
	dirs        map[string]string // file -> the folder that its paths are relative to
}

func newLoader(o Options) *loader {
	return &loader{options: o, texts: map[string][]string{}, dirs: map[string]string{}}
}

func (l *loader) load(name, dir string, data []byte) (*Recipe, Diags) {
	l.dirs[name] = dir
	root := l.parse(name, data)
	if root != nil {
		l.include(root, name, dir)
	}
	if root == nil || root.bad || root.kind != mapping {
		return nil, l.finish()
	}
	l.stage = 1
	l.substitute(root)
	r := &Recipe{File: name, Dir: dir, Files: l.files, Sums: l.sums(), Digest: sha256.Sum256(append(l.sum, schemas.Version...))}
	if l.options.Seen == nil || !l.options.Seen(r.Digest) {
		l.stage = 2
		l.checkSchema(root)
	}
	l.stage = 3
	l.decode(r, root)
	r.PromptFiles = l.promptFiles
	diags := l.finish()
	if diags.HasErrors() {
		return nil, diags
	}
	return r, diags
}

// sums are the digests of files, in their order.
func (l *loader) sums() (out [][32]byte) {
	for at := 0; at < len(l.sum); at += sha256.Size {
		out = append(out, [32]byte(l.sum[at:at+sha256.Size]))
	}
	return out
}

// finish sorts what was found and adds the source lines.
func (l *loader) finish() Diags {
	for i := range l.diags {
		p := l.diags[i].Pos
		if lines := l.texts[p.File]; p.Line > 0 && p.Line <= len(lines) {
			l.diags[i].Line = lines[p.Line-1]
		}
	}
	return l.diags.sorted()
}

func (l *loader) fail(pos Pos, hint, format string, args ...any) {
	d := Diag{Pos: pos, Msg: fmt.Sprintf(format, args...), stage: l.stage}
	if hint != "" {
		d.Hints = []string{hint}
	}
	l.diags = append(l.diags, d)
}

// readFile reads a file that is no larger than a recipe may be.
func (l *loader) readFile(path string) ([]byte, error) {
	if l.options.ReadFile != nil {
		return l.options.ReadFile(path)
	}
	info, err := os.Stat(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxBytes+1))
}

// parse turns a file's bytes into a tree; nil when it is not YAML at all.
func (l *loader) parse(file string, data []byte) *node {
	l.files = append(l.files, file)
	sum := sha256.Sum256(data)
	l.sum = append(l.sum, sum[:]...)
	top := Pos{file, 1, 1}
	switch {
	case len(data) > maxBytes:
		l.fail(Pos{File: file}, "split it with `include`, or put prompts into a file of their own", "a recipe may have %d bytes, and this has more", maxBytes)
		return nil
	case bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")):
		l.fail(top, "save it as UTF-8", "the recipe is UTF-16, not UTF-8")
		return nil
	case !utf8.Valid(data):
		l.fail(top, "save it as UTF-8", "the recipe is not UTF-8")
		return nil
	}
	l.texts[file] = strings.Split(string(data), "\n")
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		l.fail(top, "a recipe begins with version: 1; mlxbuild init writes one", "the recipe is empty")
		return nil
	} else if err != nil {
		l.syntax(file, err)
		return nil
	}
	var second yaml.Node
	if err := d.Decode(&second); err == nil {
		l.fail(Pos{file, second.Line, second.Column}, "put the second one into a file of its own", "a recipe is one YAML document, and here a second begins")
	} else if !errors.Is(err, io.EOF) {
		l.syntax(file, err)
	}
	r := treeReader{file: file, diags: &l.diags, open: map[*yaml.Node]bool{}}
	root := r.read(doc.Content[0], 0)
	if r.nodes > maxNodes {
		return nil
	}
	if root.kind != mapping && !l.diags.HasErrors() {
		l.fail(root.pos, "it begins with version: 1", "a recipe is a mapping of sections such as models and quantizations")
	}
	return root
}

var yamlLine = lazyregexp.New(`line (\d+): (.*)`)

// syntax puts a YAML error into words. The library's line is often one too early, so the cause is looked for in both.
func (l *loader) syntax(file string, err error) {
	line, what := 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine().FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		what = m[2]
	}
	lines := l.texts[file]
	pos, hint := Pos{file, min(line, len(lines)), 1}, ""
	for n := line; n <= line+1 && n <= len(lines); n++ {
		if col, h := usualMistake(lines[n-1]); h != "" {
			pos, hint = Pos{file, n, col}, h
			break
		}
	}
	if hint == "" {
		for n, text := range lines { // errors without a line: an alias without an anchor, mostly
			if col, h := usualMistake(text); h != "" && !yamlLine().MatchString(err.Error()) {
				pos, hint = Pos{file, n + 1, col}, h
				break
			}
		}
	}
	l.fail(pos, hint, "this is not YAML: %s", what)
}

var mistakes = []struct {
	pattern func() *regexp.Regexp
	hint    string
}{
	{lazyregexp.New(`[\[{,:]\s*\$\{`), `put quotes around it: "${vars.name}"`},
	{lazyregexp.New(`(?:^\s*-\s*|:\s+|[\[,]\s*)\*`), `a value that begins with * must be quoted: "*/q4"`},
	{lazyregexp.New("(?:^\\s*-\\s*|:\\s+|[\\[,]\\s*)[@`%]"), "a value that begins with @, ` or % must be quoted"},
	{lazyregexp.New(`^ *\t`), "indent with spaces, not with tabs"},
}

func usualMistake(line string) (col int, hint string) {
	for _, m := range mistakes {
		if at := m.pattern().FindStringIndex(line); at != nil {
			return utf8.RuneCountInString(line[:at[1]-1]) + 1, m.hint
		}
	}
	return 0, ""
}

// sections that included files share with the including one, name by name.
var sharedSections = []string{"vars", "models", "quantizations", "prompts", "corpora", "generate", "validate", "benchmark", "publish"}

// include merges what a file includes into its tree.
func (l *loader) include(root *node, file, dir string) {
	l.opened = append(l.opened, absolute(file))
	defer func() { l.opened = l.opened[:len(l.opened)-1] }()
	list := root.get("include")
	if list == nil {
		return
	}
	for _, item := range list.items {
		name, ok := item.scalar.(string)
		if !ok {
			continue // the schema says what is wrong
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if at := indexOf(l.opened, absolute(path)); at >= 0 {
			l.fail(item.pos, "", "include goes in a circle: %s", strings.Join(bases(append(l.opened[at:], absolute(path))), " -> "))
			continue
		}
		if len(l.files) > maxIncludes {
			l.fail(item.pos, "", "more than %d files are included", maxIncludes)
			return
		}
		data, err := l.readFile(path)
		if err != nil {
			l.fail(item.pos, "paths in include are relative to the file that includes", "%s: %v", name, err)
			continue
		}
		l.dirs[path] = filepath.Dir(path)
		if sub := l.parse(path, data); sub != nil {
			l.include(sub, path, filepath.Dir(path))
			l.mergeFile(root, sub)
		}
	}
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func indexOf(list []string, s string) int {
	for i, e := range list {
		if e == s {
			return i
		}
	}
	return -1
}

func bases(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = filepath.Base(p)
	}
	return out
}

// mergeFile puts the sections of an included file into root. A name that both have is an error, which names both places.
func (l *loader) mergeFile(root, sub *node) {
	for _, f := range sub.fields {
		if f.key == "version" || f.key == "include" || strings.HasPrefix(f.key, "x-") {
			continue
		}
		have := root.get(f.key)
		if have == nil {
			root.fields = append(root.fields, f)
			continue
		}
		if indexOf(sharedSections, f.key) < 0 || have.kind != mapping || f.value.kind != mapping {
			l.fail(f.pos, "keep it in one of the files", "%s is also at %s", f.key, have.pos)
			continue
		}
		for _, entry := range f.value.fields {
			if other := have.get(entry.key); other != nil {
				l.fail(entry.pos, "give one of them another name", "%s.%s is also at %s", f.key, entry.key, other.pos)
				continue
			}
			have.fields = append(have.fields, entry)
		}
	}
}

var variable = lazyregexp.New(`\$\{([^}]*)\}`)

// substitute puts variables in: nothing but ${vars.name} is expanded. A value that is only a variable takes its type too.
func (l *loader) substitute(root *node) {
	vars := root.get("vars")
	for _, f := range root.fields {
		if f.key != "vars" && !strings.HasPrefix(f.key, "x-") {
			l.substituteIn(f.value, vars)
		}
	}
}

func (l *loader) substituteIn(n *node, vars *node) {
	for _, f := range n.fields {
		l.substituteIn(f.value, vars)
	}
	for _, item := range n.items {
		l.substituteIn(item, vars)
	}
	text, ok := n.scalar.(string)
	if !ok || !strings.Contains(text, "${") {
		return
	}
	if m := variable().FindStringSubmatch(text); m != nil && m[0] == text {
		if v := l.variable(n, m[1], vars); v != nil {
			n.scalar, n.raw = v.scalar, v.raw
		}
		return
	}
	out := variable().ReplaceAllStringFunc(text, func(ref string) string {
		if v := l.variable(n, ref[2:len(ref)-1], vars); v != nil {
			return v.raw
		}
		return ref
	})
	n.scalar, n.raw = out, out
}

func (l *loader) variable(at *node, ref string, vars *node) *node {
	name, ok := strings.CutPrefix(ref, "vars.")
	if !ok {
		l.fail(at.pos, "only ${vars.name} is expanded: no environment, no expressions", "${%s} means nothing in a recipe", ref)
		return nil
	}
	v := vars.get(name)
	if v == nil {
		var names []string
		if vars != nil {
			for _, f := range vars.fields {
				names = append(names, f.key)
			}
		}
		l.fail(at.pos, didYouMean(name, names), "there is no variable %s", name)
		return nil
	}
	if v.kind != scalar {
		return nil // the schema says that vars hold scalars
	}
	return v
}

func didYouMean(word string, among []string) string {
	if near := Closest(word, among); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}
