// Package mlxbuild_test checks the shape of the whole program: who imports whom.
package mlxbuild_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/mlxbuild/mlxbuild"

// A layer says which packages of ours a package may import, and why no others. Tests are free.
type layer struct {
	pkg string // a pattern of path.Match; the first that matches counts
	may string // patterns
	why string
}

// layers is the design as a table, lowest first.
var layers = []layer{
	{"schemas", "", "the schema is data"},
	{"internal/oracle", "", "it finds other programs for tests"},
	{"internal/atomicfile", "", "it stands below everything that writes"},
	{"internal/jsonx", "", "it stands below everything that reads JSON"},
	{"internal/hint", "", "it stands below everything that says errors"},
	{"internal/lazyregexp", "", "it is one function"},
	{"internal/snapshot", "", "metadata of files, whatever they are for"},
	{"internal/cpu", "", "it looks at the processor"},
	{"internal/asmgen", "", "it writes text"},
	{"internal/bandwidth", "internal/cpu", "memory is read whatever lies in it"},
	{"internal/sha", "internal/cpu", "a hash needs no files"},
	{"internal/quant", "internal/cpu", "arithmetic needs no files and no models"},
	{"internal/fault", "", "it runs any program and knows none"},
	{"internal/emulate", "", "it runs any program and knows none"},
	{"internal/term", "", "it knows terminals, not what is said on them"},
	{"internal/result", "internal/atomicfile", "result lines are what others are reduced to"},
	{"internal/safetensors", "internal/atomicfile internal/jsonx", "the file format knows nothing of models"},
	{"internal/tokenizer", "internal/jsonx", "text to ids needs a tokenizer.json and nothing else"},
	{"internal/chat", "internal/jsonx", "prompts to text needs a template and nothing else"},
	{"internal/metric", "internal/tensor", "figures are made of numbers, with the same bits on every machine; they know no models"},
	{"internal/machine", "", "it looks at the machine, whatever is measured there"},
	{"internal/prompt", "spec internal/tokenizer internal/chat", "text to ids, as a recipe asks for it"},
	{"internal/stat", "", "it is arithmetic"},
	{"internal/hub", "internal/atomicfile internal/jsonx internal/lazyregexp", "it speaks with the Hub, whatever its files are for"},
	{"internal/git", "", "it runs one program and knows nothing of what it reads"},
	{"internal/hub/hubtest", "", "a Hub that shared code with the client would share its mistakes"},
	{"internal/report/page", "", "it shows what it is given"},
	{"internal/judge", "spec internal/metric internal/stat internal/atomicfile internal/step/validate internal/step/benchmark", "it judges what a validation found, and runs nothing"},
	{"internal/report", "spec internal/metric internal/stat internal/judge internal/report/page internal/result internal/step/validate internal/step/benchmark internal/step/generate", "it writes results down and decides nothing"},
	{"internal/cache", "internal/atomicfile internal/jsonx", "bytes and keys, whatever they stand for"},
	{"internal/tensor", "internal/quant internal/cpu", "arithmetic needs no files and no models"},
	{"internal/lock", "internal/cache", "what is pinned, whoever pinned it"},

	{"internal/arch/all", "internal/arch internal/arch/*", "it is the list of architectures"},
	{"internal/arch", "internal/jsonx internal/quant internal/safetensors internal/tensor", "an architecture is read off config.json and headers"},
	{"internal/arch/*", "internal/arch internal/jsonx internal/quant internal/safetensors internal/tensor", "an architecture knows no other one, and no step"},
	{"internal/source", "internal/arch internal/arch/all internal/jsonx internal/safetensors internal/sha internal/cache", "a model folder knows nothing of what is made of it"},

	{"backend", "internal/quant internal/result", "the seam must not lean to one side"},
	{"backend/backendtest", "backend internal/safetensors internal/jsonx internal/quant", "every runtime passes the same tests"},
	{"backend/worker", "backend internal/atomicfile", "it speaks with a process and knows no model"},
	{"backend/*", "backend backend/worker internal/arch internal/arch/* internal/quant internal/safetensors internal/tensor internal/jsonx internal/tokenizer internal/machine", "runtimes run models; they decide nothing and know no steps"},

	{"spec", "schemas internal/lazyregexp", "a recipe is valid before anything is known about models"},
	{"internal/step", "spec internal/cache internal/result internal/snapshot", "what every kind of step is made of; it knows none of them"},
	{"internal/step/*", "internal/step internal/lazyregexp internal/snapshot spec internal/hint internal/cache internal/hub internal/result internal/source internal/arch internal/arch/* internal/safetensors internal/quant internal/jsonx internal/atomicfile backend internal/tokenizer internal/chat internal/prompt internal/metric internal/stat internal/machine",
		"a kind of step sees its inputs and parameters: not the planner, not the executor, no other kind"},
	{"planner", "spec internal/step internal/cache internal/hint", "it sees kinds only through internal/step, so that a new kind changes nothing here"},
	{"executor", "internal/step internal/snapshot planner internal/cache internal/atomicfile", "it obeys a plan and knows nothing about recipes, models or kinds of step"},

	{"internal/rebuild", "planner executor internal/step internal/cache internal/safetensors", "it makes a plan again and compares bytes; it knows no recipes and no kinds of step"},

	{"cmd/mlxbuild", "backend backend/* executor planner schemas spec internal/* internal/step/* internal/arch/* internal/report/*", "it puts the program together"},
	{"bench", "backend backend/builtin internal/stat internal/bandwidth", "it measures the program from outside, and the runtime with its model loaded"},
	{"internal/soak", "executor schemas spec internal/* internal/step/* internal/arch/* backend/*", "it tries the program from outside, and its parsers from inside"},
}

// A home says which packages may import something from outside, and why only they.
type home struct {
	imports string // a package, or a folder with everything below it when it ends in /...
	in      string // patterns; "tests" stands for all test files
	why     string
}

// homes: a package from outside needs a line here; what the standard library has and this table does not name is free for all.
var homes = []home{
	{"gopkg.in/yaml.v3", "spec tests", "the library is no longer kept up: one place has the limits that make it safe, and tests read our own files"},
	{"github.com/santhosh-tekuri/jsonschema/v5", "tests", "it compiles every draft of the standard when a program starts; our own checker is held against it"},
	{"github.com/alecthomas/kong", "cmd/mlxbuild", "the command line is one package"},
	{"github.com/schollz/progressbar/v3", "internal/term", "one package knows terminals"},
	{"github.com/x448/float16", "internal/quant", "one package knows number formats"},
	{"github.com/ardanlabs/jinja/...", "internal/chat", "one place has the guards that make templates safe"},
	{"github.com/gofrs/flock", "internal/cache internal/hub", "locks are the cache's, and those of partial downloads"},
	{"golang.org/x/sys/...", "internal/cache internal/safetensors internal/atomicfile internal/term internal/tensor internal/cpu internal/bandwidth internal/machine internal/hub internal/fault internal/emulate internal/soak internal/snapshot executor bench", "system calls stay where files, terminals and facts of the machine are, and features of the CPU where arithmetic is"},
	{"golang.org/x/term", "internal/term", "one package knows terminals"},
	{"golang.org/x/text/...", "internal/tokenizer internal/hub", "only tokenizers need Unicode's tables, and names of files from strangers"},
	{"github.com/rogpeppe/go-internal/...", "tests", "it drives test scripts"},
	{"github.com/invopop/jsonschema", "tests", "the committed schema is compared with one made from Go types"},
	{"pgregory.net/rapid", "tests", "it makes test cases"},
	{"go.uber.org/goleak", "tests", "it finds goroutines that tests leave"},

	{"C", "", "the program is one static binary without cgo"},
	{"plugin", "", "the program is one static binary"},
	{"unsafe", "", "readers of untrusted files must not be able to read past them"},
	{"os/exec", "bench tests internal/oracle internal/fault internal/emulate internal/soak backend/worker internal/git", "the program runs no other program than the workers of runtimes, git, and where that was allowed the user's own"},
	{"net", "tests internal/hub internal/hub/hubtest", "one package talks to a network, and tests to the Hub that they make"},
	{"net/http/...", "tests internal/hub internal/hub/hubtest internal/soak", "one package talks to a network, and tests to the Hub that they make"},
}

func TestImports(t *testing.T) {
	files := parseTree(t)
	for _, f := range files {
		for _, what := range f.imports {
			if problem := check(f.pkg, f.test, what); problem != "" {
				t.Errorf("%s: %s", f.name, problem)
			}
		}
	}
	for _, l := range layers {
		if strings.Contains(l.pkg, "*") || strings.TrimSpace(l.may) == "" {
			continue
		}
		if !slices.ContainsFunc(files, func(f file) bool { return f.pkg == l.pkg }) {
			t.Logf("the table names %s, which does not exist", l.pkg)
		}
	}
}

// TestImportsAreRefused holds the table itself to account.
func TestImportsAreRefused(t *testing.T) {
	for _, c := range []struct {
		pkg, imports string
		test         bool
		want         string
	}{
		{"planner", module + "/internal/step/convert", false,
			"planner must not import internal/step/convert: it sees kinds only through internal/step, so that a new kind changes nothing here"},
		{"internal/step/generate", module + "/internal/step/convert", false, "internal/step/generate must not import internal/step/convert: a kind of step sees"},
		{"internal/step/generate", module + "/executor", false, "internal/step/generate must not import executor: "},
		{"executor", module + "/spec", false, "executor must not import spec: "},
		{"internal/cache", module + "/internal/oracle", false, "internal/cache must not import internal/oracle: it is for tests only"},
		{"internal/cache", module + "/internal/oracle", true, ""},
		{"internal/step/convert", "gopkg.in/yaml.v3", false, "internal/step/convert must not import gopkg.in/yaml.v3: "},
		{"spec", "gopkg.in/yaml.v3", false, ""},
		{"spec", "pgregory.net/rapid", false, "spec must not import pgregory.net/rapid: "},
		{"spec", "pgregory.net/rapid", true, ""},
		{"internal/soak", module + "/internal/hub/hubtest", false, ""},
		{"internal/soak", module + "/backend/backendtest", false, "internal/soak must not import backend/backendtest: it is for tests only"},
		{"cmd/mlxbuild", module + "/internal/hub/hubtest", false, "cmd/mlxbuild must not import internal/hub/hubtest: it is for tests only"},
		{"internal/hub", "net/http", false, ""},
		{"cmd/mlxbuild", "net/http/httputil", false, "cmd/mlxbuild must not import net/http/httputil: "},
		{"cmd/mlxbuild", "net/url", false, ""},
		{"cmd/mlxbuild", module + "/internal/step/convert", false, ""},
		{"internal/safetensors", "unsafe", true, "internal/safetensors must not import unsafe: "},
		{"spec", "example.com/new", false, "spec must not import example.com/new: deps_test.go says of each foreign package who may import it"},
		{"internal/util", module + "/spec", false, "internal/util must not import spec: deps_test.go does not say what internal/util may import"},
	} {
		got := check(c.pkg, c.test, c.imports)
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s importing %s: %q, want %q", c.pkg, c.imports, got, c.want)
		}
	}
}

// check says what is wrong with pkg importing what, or "".
func check(pkg string, test bool, what string) string {
	refuse := func(why string) string {
		return pkg + " must not import " + strings.TrimPrefix(what, module+"/") + ": " + why
	}
	if ours, ok := strings.CutPrefix(what, module+"/"); ok {
		switch {
		case test:
			return ""
		case pkg == "internal/soak" && ours == "internal/hub/hubtest": // a program that is a test
			return ""
		case ours == "internal/oracle" || strings.HasSuffix(ours, "test"):
			return refuse("it is for tests only")
		}
		i := slices.IndexFunc(layers, func(l layer) bool { return matches(l.pkg, pkg) })
		if i < 0 {
			return refuse("deps_test.go does not say what " + pkg + " may import")
		}
		if !slices.ContainsFunc(strings.Fields(layers[i].may), func(p string) bool { return matches(p, ours) }) {
			return refuse(layers[i].why)
		}
		return ""
	}
	for _, h := range homes {
		if what != strings.TrimSuffix(h.imports, "/...") && !(strings.HasSuffix(h.imports, "/...") && strings.HasPrefix(what, strings.TrimSuffix(h.imports, "..."))) {
			continue
		}
		if slices.ContainsFunc(strings.Fields(h.in), func(p string) bool { return matches(p, pkg) || p == "tests" && test }) {
			return ""
		}
		return refuse(h.why)
	}
	if strings.Contains(strings.Split(what, "/")[0], ".") {
		return refuse("deps_test.go says of each foreign package who may import it")
	}
	return ""
}

func matches(pattern, pkg string) bool {
	ok, err := path.Match(pattern, pkg)
	if err != nil {
		panic(err)
	}
	return ok
}

// TestPackages wants a comment that says what each package is for, and nothing that runs before main.
func TestPackages(t *testing.T) {
	comment := map[string]bool{}
	for _, f := range parseTree(t) {
		if f.init {
			t.Errorf("%s: func init: what exists must not depend on what is linked; write an explicit list", f.name)
		}
		if !f.test {
			comment[f.pkg] = comment[f.pkg] || f.doc != ""
		}
		if f.doc != "" && f.name != "deps_test.go" && f.ident != "main" && !strings.HasPrefix(f.doc, "Package "+f.ident+" ") {
			t.Errorf("%s: the package comment must begin with %q", f.name, "Package "+f.ident)
		}
	}
	for pkg, ok := range comment {
		if !ok {
			t.Errorf("%s has no package comment: one sentence on what it promises", pkg)
		}
	}
}

// file is what the tests want to know of a Go file.
type file struct {
	name    string // from the root, with slashes
	pkg     string // its folder, likewise
	ident   string // the name in its package clause
	test    bool
	doc     string
	imports []string
	init    bool
}

// parseTree reads every Go file of the module, for whatever platform it is, but those outside the build.
func parseTree(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || slices.Contains([]string{"testdata", "models", "build"}, base)) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		f, err := parseFile(name)
		if err == nil && !f.ignored() {
			files = append(files, f.file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %d Go files found: the test looks in the wrong place", len(files))
	}
	return files
}

type parsed struct {
	file
	syntax *ast.File
}

func parseFile(name string) (parsed, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return parsed{}, err
	}
	name = filepath.ToSlash(name)
	p := parsed{file{name: name, pkg: path.Dir(name), ident: f.Name.Name, test: strings.HasSuffix(name, "_test.go"), doc: f.Doc.Text()}, f}
	for _, spec := range f.Imports {
		what, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return parsed{}, err
		}
		p.imports = append(p.imports, what)
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		p.init = p.init || ok && fn.Recv == nil && fn.Name.Name == "init"
	}
	return p, nil
}

// ignored: a program that is run by hand (go run file.go), not part of the package.
func (p parsed) ignored() bool {
	for _, group := range p.syntax.Comments {
		if group.Pos() > p.syntax.Package {
			break
		}
		for _, c := range group.List {
			if c.Text == "//go:build ignore" {
				return true
			}
		}
	}
	return false
}
