package executor_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// statementProblems holds a document against the rules of in-toto Statement v1, its ResourceDescriptor, and SLSA provenance v1 (the documents of 2023, unchanged since):
//
//	S1  _type is https://in-toto.io/Statement/v1
//	S2  subject is a list that is not empty; each is a descriptor with a digest, and names that are there are unique
//	S3  predicateType is a TypeURI, here https://slsa.dev/provenance/v1; predicate is an object
//	D1  a descriptor has at least one of uri, digest, content; name, uri, downloadLocation, mediaType are strings, annotations an object
//	D2  a digest is a map from algorithm to a string that is not empty; sha256 is 64, gitCommit 40 or 64 digits of lower-case hexadecimal; other algorithms have names of letters and digits
//	D3  a uri is one by RFC 3986: it has a scheme and no blanks
//	P1  buildDefinition and runDetails are there and are objects; nothing else is in the predicate but what is named with a vendor's prefix
//	P2  buildType is a TypeURI; externalParameters is an object; internalParameters, where there, is one too; resolvedDependencies is a list of descriptors
//	P3  runDetails.builder.id is a TypeURI; version is a map from string to string
//	P4  metadata has invocationId (a string), startedOn and finishedOn: RFC 3339 in UTC, ending in Z, and not the wrong way round; other fields have a vendor's prefix with an underscore
//	P5  byproducts, where there, is a list of descriptors
//
// Fields that no document names are refused: a consumer would not look at them.
func statementProblems(data []byte) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var doc map[string]any
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil {
		return []string{err.Error()}
	}
	object := func(where string, v any) map[string]any {
		m, ok := v.(map[string]any)
		if !ok {
			bad("%s is no object", where)
		}
		return m
	}
	only := func(where string, m map[string]any, names string) {
		for k := range m {
			if !strings.Contains(" "+names+" ", " "+k+" ") && !vendor.MatchString(k) {
				bad("%s has the unknown field %s", where, k)
			}
		}
	}
	uri := func(where string, v any) {
		text, _ := v.(string)
		u, err := url.Parse(text)
		if err != nil || u.Scheme == "" || strings.ContainsAny(text, " \t\n\\<>\"{}|^`") || u.Opaque == "" && u.Host == "" && u.Path == "" {
			bad("%s: %q is no URI", where, text)
		}
	}
	list := func(where string, v any) []any {
		l, ok := v.([]any)
		if !ok {
			bad("%s is no list", where)
		}
		return l
	}
	descriptor := func(where string, v any) map[string]any {
		d := object(where, v)
		only(where, d, "name uri digest content downloadLocation mediaType annotations")
		if d["uri"] == nil && d["digest"] == nil && d["content"] == nil {
			bad("%s has none of uri, digest, content", where)
		}
		if u, ok := d["uri"]; ok {
			uri(where+".uri", u)
		}
		if name, ok := d["name"]; ok {
			if s, isText := name.(string); !isText || s == "" {
				bad("%s.name is no text", where)
			}
		}
		if digests, ok := d["digest"]; ok {
			m := object(where+".digest", digests)
			if len(m) == 0 {
				bad("%s.digest is empty", where)
			}
			for algorithm, v := range m {
				hex, _ := v.(string)
				form := map[string]*regexp.Regexp{"sha256": regexp.MustCompile(`^[0-9a-f]{64}$`), "gitCommit": regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)}[algorithm]
				if form == nil {
					form = regexp.MustCompile(`^[0-9a-f]+$`)
				}
				if !regexp.MustCompile(`^[A-Za-z0-9]+$`).MatchString(algorithm) || !form.MatchString(hex) {
					bad("%s.digest: %s %q", where, algorithm, hex)
				}
			}
		}
		return d
	}

	only("the statement", doc, "_type subject predicateType predicate")
	if doc["_type"] != "https://in-toto.io/Statement/v1" {
		bad("_type is %v", doc["_type"])
	}
	subject := list("subject", doc["subject"])
	if len(subject) == 0 {
		bad("subject is empty")
	}
	names := map[any]bool{}
	for i, s := range subject {
		d := descriptor(fmt.Sprintf("subject[%d]", i), s)
		if d["digest"] == nil {
			bad("subject[%d] has no digest", i)
		}
		if names[d["name"]] {
			bad("subject[%d]: the name %v is there twice", i, d["name"])
		}
		names[d["name"]] = true
	}
	uri("predicateType", doc["predicateType"])
	if doc["predicateType"] != "https://slsa.dev/provenance/v1" {
		bad("predicateType is %v", doc["predicateType"])
	}
	p := object("predicate", doc["predicate"])
	only("predicate", p, "buildDefinition runDetails")

	build := object("buildDefinition", p["buildDefinition"])
	only("buildDefinition", build, "buildType externalParameters internalParameters resolvedDependencies")
	uri("buildType", build["buildType"])
	object("externalParameters", build["externalParameters"])
	if v, ok := build["internalParameters"]; ok {
		object("internalParameters", v)
	}
	if v, ok := build["resolvedDependencies"]; ok {
		for i, d := range list("resolvedDependencies", v) {
			descriptor(fmt.Sprintf("resolvedDependencies[%d]", i), d)
		}
	}
	details := object("runDetails", p["runDetails"])
	only("runDetails", details, "builder metadata byproducts")
	builder := object("builder", details["builder"])
	only("builder", builder, "id version builderDependencies")
	uri("builder.id", builder["id"])
	if v, ok := builder["version"]; ok {
		for k, text := range object("builder.version", v) {
			if _, ok := text.(string); !ok {
				bad("builder.version.%s is no text", k)
			}
		}
	}
	if v, ok := details["metadata"]; ok {
		m := object("metadata", v)
		only("metadata", m, "invocationId startedOn finishedOn")
		var times []time.Time
		for _, name := range []string{"startedOn", "finishedOn"} {
			if text, ok := m[name]; ok {
				s, _ := text.(string)
				at, err := time.Parse(time.RFC3339, s)
				if err != nil || !strings.HasSuffix(s, "Z") {
					bad("metadata.%s is %q", name, s)
				}
				times = append(times, at)
			}
		}
		if len(times) == 2 && times[1].Before(times[0]) {
			bad("it was finished before it was started")
		}
	}
	if v, ok := details["byproducts"]; ok {
		for i, d := range list("byproducts", v) {
			descriptor(fmt.Sprintf("byproducts[%d]", i), d)
		}
	}
	return problems
}

// vendor is the form of names that a producer may add.
var vendor = regexp.MustCompile(`^[a-z]+_[A-Za-z]+$`)

// TestStatementRules breaks each rule in turn, so that the rules are known to be looked at.
func TestStatementRules(t *testing.T) {
	data, err := os.ReadFile("../cmd/mlxbuild/testdata/versions/provenance.2.json")
	if err != nil {
		t.Fatal(err)
	}
	if problems := statementProblems(data); problems != nil {
		t.Fatal(problems)
	}
	hex := regexp.MustCompile(`"sha256": "[0-9a-f]{64}"`).FindString(string(data))
	for _, c := range []struct{ old, new, want string }{
		{`"_type": "https://in-toto.io/Statement/v1"`, `"_type": "https://in-toto.io/Statement/v0.1"`, "_type is"},
		{`"predicateType": "https://slsa.dev/provenance/v1"`, `"predicateType": "provenance"`, "is no URI"},
		{`"name": "tokenizer.json"`, `"name": "config.json"`, "is there twice"},
		{`"name": "config.json",`, `"name": "",`, "name is no text"},
		{`"name": "config.json",`, `"nome": "config.json",`, "unknown field nome"},
		{hex, `"sha256": "ABC"`, "sha256 \"ABC\""},
		{hex, `"sha256": ""`, "digest: sha256"},
		{hex, `"sha-256": "00"`, "digest: sha-256"},
		{`"uri": "path:tiny"`, `"uri": "my models/tiny"`, "is no URI"},
		{`"uri": "path:tiny/config.json"`, `"uri": "path:my models/tiny"`, "is no URI"},
		{`"buildType": "https`, `"buildType": "//https`, "buildType"},
		{`"externalParameters": {`, `"externalParameters": [], "slsa_x": {`, "externalParameters is no object"},
		{`"internalParameters": {`, `"internalParams": {`, "unknown field internalParams"},
		{`"resolvedDependencies": [`, `"resolvedDependencies": [{"name": "x"}, `, "none of uri, digest, content"},
		{`"runDetails": {`, `"runDetails": {"byproducts": 1, `, "byproducts is no list"},
		{`"id": "https://github.com/mlxbuild/mlxbuild"`, `"id": ""`, "builder.id"},
		{`"mlxbuild": "x"`, `"mlxbuild": 1`, "builder.version.mlxbuild is no text"},
		{`"startedOn": "2026-11-20T12:30:15Z"`, `"startedOn": "2026-11-20T12:30:15+01:00"`, "metadata.startedOn"},
		{`"startedOn": "2026-11-20T12:30:15Z"`, `"startedOn": "2026-11-20T12:30:16Z"`, "finished before"},
		{`"mlxbuild_host"`, `"host"`, "unknown field host"},
	} {
		if !bytes.Contains(data, []byte(c.old)) {
			t.Errorf("the sample has no %s", c.old)
			continue
		}
		if got := strings.Join(statementProblems(bytes.Replace(data, []byte(c.old), []byte(c.new), 1)), "; "); !strings.Contains(got, c.want) {
			t.Errorf("%s -> %s: %q, want %q", c.old, c.new, got, c.want)
		}
	}
}

// described is a source that says where it is from, as one of the Hub does.
type described struct{ *fakeSource }

func (described) Dependencies(*cache.Cache) []step.Dependency {
	return []step.Dependency{{Name: "org/name", URI: "https://huggingface.co/org/name", Digest: map[string]string{"gitCommit": strings.Repeat("0a", 20)}},
		{Name: "org/name/config.json", URI: "https://huggingface.co/org/name/resolve/" + strings.Repeat("0a", 20) + "/config.json", Digest: map[string]string{"sha256": strings.Repeat("0b", 32)}}}
}

// What is written of steps of every form keeps the rules, and names no more than it should.
func TestProvenance(t *testing.T) {
	w := newWorld(t, fake{name: "src", source: "s"}, fake{name: "a", needs: []string{"src"}, param: "p"}, fake{name: "b", needs: []string{"a"}})
	secretDir := "/home/somebody/models/m"
	for _, c := range []struct {
		name, source string
		described    bool
		want, not    []string
	}{
		{"a path", "path:models/m", false, []string{`"uri": "path:models/m"`, `"mlxbuildTree": "`}, nil},
		{"a path with blanks", "path:my models/mä", false, []string{`"uri": "path:my%20models/m%C3%A4"`}, nil},
		{"an absolute path", "path:" + secretDir, false, []string{`"mlxbuildTree": "`}, []string{`"uri": "path:/home`}},
		{"a Hub repository", "hf:org/name", true, []string{`"gitCommit": "0a0a`, `"uri": "https://huggingface.co/org/name/resolve/0a0a`, `"sha256": "0b0b`}, []string{"mlxbuildTree"}},
		{"nothing", "", false, []string{`"mlxbuildTree": "`}, []string{`"uri"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := w.plan()
			for id := range g.Steps {
				s := &g.Steps[id]
				s.Origin = map[string]string{"source": c.source, "revision": ""}
				if src, ok := s.Source.(*fakeSource); ok && c.described {
					s.Source = described{src}
				}
			}
			want, err := g.Select(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(w.dir, "build")); err != nil {
				t.Fatal(err)
			}
			if _, err := executor.Run(t.Context(), g, want, executor.Options{Cache: w.cache, Version: "v1.2.3", Machine: "os/arch"}); err != nil {
				t.Fatal(err)
			}
			for _, target := range []string{"a", "b"} {
				folder := filepath.Join(w.dir, "build", target)
				data, err := os.ReadFile(executor.ProvenanceFile(folder))
				if err != nil {
					t.Fatal(err)
				}
				if problems := statementProblems(data); problems != nil {
					t.Errorf("%s: %v\n%s", target, problems, data)
				}
				p := executor.ReadProvenance(folder)
				if p == nil || p.Target != target || p.Key == (cache.Digest{}) || p.Tree == (cache.Digest{}) || p.Mlxbuild != "v1.2.3" || p.Files["out"] != cache.SumBytes([]byte(w.read(target))) {
					t.Errorf("%s is read as %+v", target, p)
				}
				if bytes.Contains(data, []byte(w.dir)) {
					t.Errorf("%s names the folder that it was built in", data)
				}
				if target == "b" { // takes nothing from outside
					if !bytes.Contains(data, []byte(`"resolvedDependencies": []`)) {
						t.Errorf("%s", data)
					}
					continue
				}
				_, dependencies, _ := strings.Cut(string(data), `"resolvedDependencies"`)
				for _, text := range c.want {
					if !strings.Contains(dependencies, text) {
						t.Errorf("no %s in %s", text, data)
					}
				}
				for _, text := range c.not {
					if strings.Contains(dependencies, text) {
						t.Errorf("%s in %s", text, data)
					}
				}
			}
		})
	}
}

// What is no provenance of ours is none, and never a crash.
func TestReadProvenance(t *testing.T) {
	data, err := os.ReadFile("../cmd/mlxbuild/testdata/versions/provenance.2.json")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "x")
	read := func(text []byte) *executor.Provenance {
		if err := os.WriteFile(executor.ProvenanceFile(folder), text, 0o644); err != nil {
			t.Fatal(err)
		}
		return executor.ReadProvenance(folder)
	}
	if executor.ReadProvenance(folder) != nil {
		t.Error("there is no file")
	}
	if read(data) == nil {
		t.Error("the sample is not read")
	}
	for _, text := range []string{"", "{}", "[]", "null", `{"format": "1"}`, `{"_type": 1}`, strings.ReplaceAll(string(data), "mlxbuild/buildtypes", "other/buildtypes"), strings.ReplaceAll(string(data), `"key": "`, `"key": "x`)} {
		if p := read([]byte(text)); p != nil {
			t.Errorf("%.60s is read as %+v", text, p)
		}
	}
	for n := range data {
		if p := read(data[:n]); p != nil && n < len(bytes.TrimSpace(data)) {
			t.Fatalf("the first %d bytes are read as %+v", n, p)
		}
	}
}
