// Package lock is mlxbuild.lock: which commit, files, sizes and digests a recipe's sources on the Hub have, and which versions its tools.
//
// It is kept in git beside the recipe. One entry a line, sorted, so that two branches merge; it holds facts only, and nothing of the machine that wrote it:
//
//	mlxbuild-lock 1
//	file hf:org/name@COMMIT config.json 658 sha256:…
//	model hf:org/name@main COMMIT llama sha256:…
//	tool mlx 0.32.4
//
// A `model` line says what a name in a recipe was resolved to, with the config's model_type, because that is what the keys of conversions need before anything is fetched, and the digest of all its
// files, because a line that was lost in a merge would be missed by nobody; a `dataset` line is the same for a corpus, of which only single files are taken. `file` lines belong to a commit. What a person edits or a merge leaves is read with care: anything that is not a lock is refused with its line.
package lock

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/cache"
)

// Name of the file, beside the recipe.
const Name = "mlxbuild.lock"

// Version of the format.
const Version = 1

const magic = "mlxbuild-lock "

// limits of what is read: a lock of a thousand models has some 20,000 lines.
const (
	MaxSize  = 64 << 20 // bytes
	maxLines = 1 << 20
)

// Lock is a file's content. Maps are never nil.
type Lock struct {
	Pins  map[string]Pin    // by source as a recipe asks for it: "hf:org/name@main", without @ for the default branch
	Files map[string][]File // by source at a commit ("hf:org/name@COMMIT"), sorted by path
	Tools map[string]string // version by name
}

// Pin is what a source was resolved to.
type Pin struct {
	Kind   string       // model, dataset
	Commit string       // 40 hexadecimal digits
	Type   string       // model_type of config.json; "-" where there is none
	Tree   cache.Digest // of a model: Tree of its files
}

// File of a commit.
type File struct {
	Path   string // slash-separated
	Size   int64  // bytes
	SHA256 cache.Digest
}

// Tree is the digest of files: the SHA-256 of the sorted lines `0644 SIZE SHA256 PATH`, as of any tree of files.
func Tree(files []File) cache.Digest {
	lines := make([]string, len(files))
	for i, f := range files {
		lines[i] = fmt.Sprintf("0644 %d %s %s\n", f.Size, f.SHA256, f.Path)
	}
	sort.Strings(lines)
	return cache.SumBytes([]byte(strings.Join(lines, "")))
}

// Error is a lock that cannot be used.
type Error struct {
	File string
	Line int // 0 = the whole
	What string
	Do   string
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.What)
	}
	return e.File + ": " + e.What
}

// Hint says what to do.
func (e *Error) Hint() string { return e.Do }

// New is an empty lock.
func New() *Lock {
	return &Lock{Pins: map[string]Pin{}, Files: map[string][]File{}, Tools: map[string]string{}}
}

// At names a source at a commit, as file lines do. source is what a recipe asks for.
func At(source, commit string) string {
	uri, _, _ := strings.Cut(source, "@")
	return uri + "@" + commit
}

// Of finds what a source was resolved to, with its files; false when it is not there, or not whole.
func (l *Lock) Of(source string) (Pin, []File, bool) {
	p, ok := l.Pins[source]
	files := l.Files[At(source, p.Commit)]
	return p, files, ok && len(files) > 0
}

// Prune drops what none of these sources needs: wanted has them, with the paths of the files that are taken of a data set; nil stands for all.
func (l *Lock) Prune(wanted map[string][]string) {
	for source, p := range l.Pins {
		paths, ok := wanted[source]
		if !ok {
			delete(l.Pins, source)
		} else if p.Kind == "dataset" && paths != nil {
			at := At(source, p.Commit)
			l.Files[at] = slices.DeleteFunc(l.Files[at], func(f File) bool { return !slices.Contains(paths, f.Path) })
		}
	}
}

// Set puts a source in, in the place of what was there.
func (l *Lock) Set(source string, p Pin, files []File) {
	if p.Kind == "model" {
		p.Tree = Tree(files)
	}
	l.Pins[source] = p
	files = slices.Clone(files)
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	l.Files[At(source, p.Commit)] = files
}

// Lines are the entries, sorted. Files of a commit that nothing is pinned to are left out: a merge may leave them.
func (l *Lock) Lines() []string {
	var lines []string
	used := map[string]bool{}
	for source, p := range l.Pins {
		line := strings.Join([]string{p.Kind, quote(source), p.Commit, quote(p.Type)}, " ")
		if p.Kind == "model" {
			line += " sha256:" + p.Tree.String()
		}
		lines = append(lines, line)
		used[At(source, p.Commit)] = true
	}
	for at, files := range l.Files {
		if !used[at] {
			continue
		}
		for _, f := range files {
			lines = append(lines, fmt.Sprintf("file %s %s %d sha256:%s", at, quote(f.Path), f.Size, f.SHA256))
		}
	}
	for name, version := range l.Tools {
		lines = append(lines, "tool "+quote(name)+" "+quote(version))
	}
	sort.Strings(lines)
	return lines
}

// Format writes the file.
func (l *Lock) Format() []byte {
	var b bytes.Buffer
	b.WriteString(magic + strconv.Itoa(Version) + "\n")
	for _, line := range l.Lines() {
		b.WriteString(line + "\n")
	}
	return b.Bytes()
}

// Diff lists lines that went (-) and came (+) between two locks.
func Diff(old, new *Lock) (out []string) {
	a, b := old.Lines(), new.Lines()
	for _, line := range a {
		if _, found := slices.BinarySearch(b, line); !found {
			out = append(out, "-"+line)
		}
	}
	for _, line := range b {
		if _, found := slices.BinarySearch(a, line); !found {
			out = append(out, "+"+line)
		}
	}
	return out
}

// plain words stand in a line as they are; anything else is quoted as in Go, in ASCII. (No regular expressions here: a build with nothing to do reads its lock.)
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '_', c == '/', c == '+', c == '=', c == '~', c == ',', c == '@', c == ':', c == '-':
		default:
			return false
		}
	}
	return s != ""
}

func quote(s string) string {
	if plain(s) {
		return s
	}
	return strconv.QuoteToASCII(s)
}
