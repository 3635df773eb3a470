package hub

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
)

// Repo is a repository of the Hub.
type Repo struct {
	Kind string // "models" or "datasets"
	ID   string // "org/name" or "name"
}

var (
	idPart     = lazyregexp.New(`^[A-Za-z0-9_.-]{1,96}$`)
	commitText = lazyregexp.New(`^[0-9a-f]{40}$`)
	sha256Text = lazyregexp.New(`^[0-9a-f]{64}$`)
)

// ParseRepo reads what stands behind "hf:": "org/name", "name" or "datasets/org/name".
func ParseRepo(ref string) (Repo, error) {
	r := Repo{Kind: "models", ID: ref}
	if id, ok := strings.CutPrefix(ref, "datasets/"); ok {
		r = Repo{Kind: "datasets", ID: id}
	}
	return r, r.check()
}

// check is the Hub's own rule for names.
func (r Repo) check() error {
	wrong := func(why string) error {
		return &Error{Class: Name, What: fmt.Sprintf("%q is no name of a repository: %s", clean(r.String()), why), Do: "write it as on its page, like org/name"}
	}
	if r.Kind != "models" && r.Kind != "datasets" {
		return wrong("its kind is neither models nor datasets")
	}
	parts := strings.Split(r.ID, "/")
	if len(parts) > 2 {
		return wrong("it has more than one /")
	}
	for _, p := range parts {
		switch {
		case !idPart().MatchString(p):
			return wrong("each part has 1 to 96 letters, digits, or characters of _ - .")
		case strings.ContainsAny(p[:1]+p[len(p)-1:], "-."):
			return wrong("a part begins or ends with - or .")
		case strings.Contains(p, "--") || strings.Contains(p, ".."):
			return wrong("it has -- or .. in it")
		case strings.HasSuffix(p, ".git"):
			return wrong("it ends in .git")
		}
	}
	return nil
}

// String is the text that ParseRepo reads.
func (r Repo) String() string {
	if r.Kind == "" || r.Kind == "models" {
		return r.ID
	}
	return r.Kind + "/" + r.ID
}

// File is one file of a repository at a commit.
type File struct {
	Path    string // with slashes, as the Hub says it; CheckPath says whether it may be used
	Size    int64  // bytes
	GitSHA1 string // 40 hex: the id of the git blob; for an LFS file that of its pointer
	SHA256  string // 64 hex; "" where the Hub knows only GitSHA1
}

// oid names the content of a file: its SHA-256 where the Hub knows it, else the id of its git blob.
func (f File) oid() string {
	if f.SHA256 != "" {
		return f.SHA256
	}
	return f.GitSHA1
}

const maxFile = 1 << 50

// check says whether a file can be fetched and proved.
func (f File) check() error {
	wrong := func(why string) error {
		return &Error{Class: Name, What: fmt.Sprintf("%q cannot be fetched: %s", clean(f.Path), why), Do: "list the files of the repository again"}
	}
	switch {
	case f.Path == "" || !utf8.ValidString(f.Path):
		return wrong("it has no name")
	case f.Size < 0 || f.Size > maxFile:
		return wrong(fmt.Sprintf("%d is no size", f.Size))
	case f.SHA256 != "" && !sha256Text().MatchString(f.SHA256) || f.SHA256 == "" && !commitText().MatchString(f.GitSHA1):
		return wrong("no hash of its content is known")
	}
	return nil
}

// quote a text for an address: everything but letters, digits and _.-~ and what is also named.
func quote(text, also string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-~"+also, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// CheckPath accepts a path that is a plain relative name on every operating system, whatever it is used on: names come from strangers.
func CheckPath(path string) error {
	why := pathProblem(path)
	if why == "" {
		return nil
	}
	return &Error{Class: Name, What: fmt.Sprintf("the file name %q is refused: %s", clean(path), why), Do: "leave it out of the files that the recipe asks for, and tell its author"}
}

const maxPath = 1024

func pathProblem(path string) string {
	switch {
	case path == "":
		return "it is empty"
	case !utf8.ValidString(path):
		return "it is not UTF-8"
	case len(path) > maxPath:
		return fmt.Sprintf("it has more than %d bytes", maxPath)
	case path[0] == '/':
		return "it begins with a /"
	}
	for _, c := range path {
		if strings.ContainsRune(`\:*?"<>|`, c) {
			return fmt.Sprintf("%q means something on some system", c)
		}
		if unicode.IsControl(c) || unicode.In(c, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || c == unicode.ReplacementChar {
			return fmt.Sprintf("it has the character %U in it", c)
		}
	}
	for part := range strings.SplitSeq(path, "/") {
		if why := partProblem(part); why != "" {
			return why
		}
	}
	return ""
}

func partProblem(part string) string {
	switch {
	case part == "":
		return "it has an empty part"
	case part == "." || part == "..":
		return "it leaves its folder"
	case len(part) > 255:
		return "a part has more than 255 bytes"
	case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
		return "a part ends with a dot or a blank, which Windows takes away"
	case strings.EqualFold(part, ".git"):
		return "git would take it for its own"
	case isDevice(part):
		return "it is a device on Windows"
	}
	return ""
}

// isDevice: CON, NUL, COM1 and so on, with any extension and blanks before it.
func isDevice(part string) bool {
	name, _, _ := strings.Cut(part, ".")
	name = strings.ToUpper(strings.TrimRight(name, " "))
	switch name {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$":
		return true
	}
	for _, port := range []string{"COM", "LPT"} {
		if digit, ok := strings.CutPrefix(name, port); ok && utf8.RuneCountInString(digit) == 1 && strings.Contains("0123456789¹²³", digit) {
			return true
		}
	}
	return false
}

// CheckPaths accepts paths that CheckPath accepts and that stay apart on file systems that know neither case nor Unicode's forms: no two are equal there, and none is a folder of another.
func CheckPaths(paths []string) error {
	seen := map[string]string{}
	for _, p := range paths {
		if err := CheckPath(p); err != nil {
			return err
		}
		if other, ok := seen[folded(p)]; ok {
			return clash(p, other)
		}
		seen[folded(p)] = p
	}
	for _, p := range paths {
		for f, i := folded(p), 0; i < len(f); i++ {
			if f[i] != '/' {
				continue
			}
			if other, ok := seen[f[:i]]; ok {
				return clash(p, other)
			}
		}
	}
	return nil
}

func clash(a, b string) error {
	return &Error{Class: Name, What: fmt.Sprintf("the file names %q and %q cannot stand side by side: they are the same on some systems", clean(b), clean(a)),
		Do: "leave one of them out of the files that the recipe asks for"}
}

// folded is equal for texts that differ in case or in Unicode's form only. Capitals first: a dotless i has the same as i.
func folded(text string) string {
	return norm.NFC.String(cases.Fold().String(strings.ToUpper(norm.NFD.String(text))))
}
