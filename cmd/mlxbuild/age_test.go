package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/result"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
)

// The files in testdata/versions are what this version writes. A change of a format makes these tests fail: then raise the format's number, keep the old file under the old number beside the new one, say in
// "Versions of what is on disk" of docs/formats.md what becomes of old files, and hold the new reader against the old file here. UPDATE_GOLDEN=1 writes the files anew.
const versions = "testdata/versions"

// today compares what is written now with the file of the same name.
func today(t *testing.T, name string, now []byte) {
	t.Helper()
	path := filepath.Join(versions, filepath.FromSlash(name))
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	then, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(then, now) {
		t.Errorf("%s is written otherwise now. Is its format a new one? See the comment at the head of this file.\nnow:  %.600s\nthen: %.600s", name, now, then)
	}
}

// sampleRecord is a record with every field.
func sampleRecord() (rec cache.Record, blob []byte) {
	blob = []byte("what a step made\n")
	k := cache.NewKey("convert")
	k.Code("convert/1", "llama/1", "quant/1")
	k.Param("dtype", "auto")
	k.Param("quantization", map[string]any{"bits": 4, "overrides": []any{}, "name": "q4 <&> \u2028"})
	k.Tool("mlx", "0.32.4")
	k.Input("source", cache.SumBytes([]byte("a source")))
	return cache.Record{Key: k.Sum(), KeyText: k.Text(), Step: "convert m/q4", Outputs: []cache.Output{{Path: "sub/file.txt", Digest: cache.SumBytes(blob), Size: int64(len(blob)), Mode: 0o644}},
		Tree: cache.SumBytes([]byte("a tree")), Result: json.RawMessage(`{"a":1}`), Log: "a log", Started: time.Date(2026, 11, 20, 12, 30, 15, 500, time.UTC), Seconds: 1.25, PeakMemoryBytes: 1 << 30,
		Mlxbuild: "v1.0.0", Machine: "linux/amd64"}, blob
}

// makeCache makes a cache with the sample record and one fact.
func makeCache(t *testing.T, dir string) {
	t.Helper()
	c, err := cache.Open(dir, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec, blob := sampleRecord()
	if _, err := c.AddBytes(blob); err != nil {
		t.Fatal(err)
	}
	if err := c.AddRecord(&rec); err != nil {
		t.Fatal(err)
	}
	c.SetMemo(fact, factValue)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

var fact, factValue = cache.SumBytes([]byte("a fact")), cache.SumBytes([]byte("its value"))

// withoutDay blanks the day of the only entry of a memo, and the checksum.
func withoutDay(stat []byte) []byte {
	out := bytes.Clone(stat)
	clear(out[len(out)-36:])
	return out
}

// sampleCache is a copy of the cache that lies in testdata.
func sampleCache(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "cache")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(versions, "cache"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openSample(t *testing.T, dir string) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAgeOfTheCache(t *testing.T) {
	dir := t.TempDir()
	makeCache(t, dir)
	rec, blob := sampleRecord()
	hex := rec.Key.String()
	record := "cache/records/" + hex[:2] + "/" + hex
	for _, name := range []string{"cache/VERSION", record, "cache/stat"} {
		data, err := os.ReadFile(filepath.Join(dir, strings.TrimPrefix(name, "cache/")))
		if err != nil {
			t.Fatal(err)
		}
		if name == "cache/stat" {
			today(t, "stat-without-day", withoutDay(data))
			if os.Getenv("UPDATE_GOLDEN") != "1" {
				continue
			}
		}
		today(t, name, data)
	}
	digest := cache.SumBytes(blob).String()
	today(t, "cache/blobs/"+digest[:2]+"/"+digest, blob)

	t.Run("today's", func(t *testing.T) {
		c := openSample(t, sampleCache(t))
		got, ok := c.Record(rec.Key)
		if !ok || got.KeyText != rec.KeyText || got.Seconds != 1.25 || !got.Started.Equal(rec.Started) || got.Outputs[0] != rec.Outputs[0] || !c.Complete(got) {
			t.Errorf("%v %+v", ok, got)
		}
		if v, ok := c.Memo(fact); !ok || v != factValue {
			t.Errorf("the fact is %v %v", v, ok)
		}
	})
	replace := func(t *testing.T, dir, name, with string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(with), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("an older layout", func(t *testing.T) {
		dir := sampleCache(t)
		replace(t, dir, "VERSION", "0\n")
		if _, ok := openSample(t, dir).Record(rec.Key); !ok {
			t.Error("its record is a record still")
		}
		if data, _ := os.ReadFile(filepath.Join(dir, "VERSION")); string(data) != "1\n" {
			t.Errorf("VERSION stayed %q", data)
		}
	})
	t.Run("a newer layout", func(t *testing.T) {
		dir := sampleCache(t)
		replace(t, dir, "VERSION", "2\n")
		_, err := cache.Open(dir, cache.Options{})
		if err == nil || !strings.Contains(err.Error(), "was made by a newer mlxbuild (layout 2; this one knows 1)") || len(hintsOf(err)) != 1 || !strings.Contains(hintsOf(err)[0], "update mlxbuild") {
			t.Errorf("%v, %v", err, hintsOf(err))
		}
	})
	for name, body := range map[string]string{"an older record": `{"format":0,"key":"` + hex + `"}`, "a newer record": `{"format":2,"key":["anything"],"outputs":7}`} {
		t.Run(name, func(t *testing.T) {
			dir := sampleCache(t)
			replace(t, dir, strings.TrimPrefix(record, "cache/"), body+"\n\""+cache.SumBytes([]byte(body)).String()+"\"\n")
			c := openSample(t, dir)
			if _, ok := c.Record(rec.Key); ok {
				t.Error("it was read")
			}
			r, err := c.Verify(context.Background(), cache.VerifyOptions{})
			if damaged := strings.HasPrefix(name, "an older"); err != nil || (len(r.Damages) > 0) != damaged {
				t.Errorf("verify: %v %v", err, r.Damages)
			}
			if err := c.AddRecord(&rec); err != nil { // made again
				t.Fatal(err)
			}
			if _, ok := c.Record(rec.Key); !ok {
				t.Error("it is not there after it was made again")
			}
		})
	}
	for name, magic := range map[string]string{"an older memo": "mlxbuild-stat 0\n", "a newer memo": "mlxbuild-stat 2\n", "no memo": "{}"} {
		t.Run(name, func(t *testing.T) {
			dir := sampleCache(t)
			data, err := os.ReadFile(filepath.Join(dir, "stat"))
			if err != nil {
				t.Fatal(err)
			}
			replace(t, dir, "stat", magic+string(data[len(magic):]))
			c := openSample(t, dir)
			if _, ok := c.Memo(fact); ok {
				t.Error("it was read")
			}
			c.SetMemo(fact, factValue)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if v, ok := openSample(t, dir).Memo(fact); !ok || v != factValue {
				t.Error("it was not written anew")
			}
		})
	}
}

// Manifest and provenance of a real build: every byte of the former, and of the latter all but times, host, machine and program.
func TestAgeOfBuildFolders(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "tiny"), os.DirFS(oracle.TinyStories(t))); err != nil {
		t.Fatal(err)
	}
	recipe := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "mlxbuild.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const q4, q8 = "version: 1\nmodels: {tiny: \"path:tiny\"}\nquantizations: {q: {bits: 4}}\n", "version: 1\nmodels: {tiny: \"path:tiny\"}\nquantizations: {q: {bits: 8}}\n"
	recipe(q4)
	t.Setenv("MLXBUILD_CACHE", filepath.Join(dir, "cache"))
	build := func(args ...string) (code int, said string) {
		var out, errs strings.Builder
		code = run(context.Background(), append([]string{"build", filepath.Join(dir, "mlxbuild.yaml")}, args...), &out, &errs)
		return code, errs.String()
	}
	if code, said := build(); code != 0 {
		t.Fatal(said)
	}
	folder := filepath.Join(dir, "build", "tiny", "q")
	manifest, err := os.ReadFile(filepath.Join(folder, convert.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	today(t, "mlxbuild.1.json", manifest)
	provenance, err := os.ReadFile(executor.ProvenanceFile(folder))
	if err != nil {
		t.Fatal(err)
	}
	unsteady := regexp.MustCompile(`"(startedOn|finishedOn|mlxbuild_placedOn|mlxbuild_host|mlxbuild_placedBy|mlxbuild|machine)": "[^"]*"`)
	today(t, "provenance.2.json", unsteady.ReplaceAllFunc(provenance, func(m []byte) []byte {
		name, _, _ := bytes.Cut(m, []byte(":"))
		if bytes.Contains(name, []byte("On\"")) {
			return append(name, `: "2026-11-20T12:30:15Z"`...)
		}
		return append(name, `: "x"`...)
	}))

	// A folder that an older, this or a newer version made, before a build that would replace it.
	for _, c := range []struct {
		name, file, old, new string
		force, replaced      bool
	}{
		{name: "format 1", file: "provenance.1.json", replaced: true},
		{name: "format 2", file: "provenance.2.json", replaced: true},
		{name: "a newer build type", file: "provenance.2.json", old: "/convert/v1", new: "/convert/v2"},
		{name: "a newer statement", file: "provenance.2.json", old: "in-toto.io/Statement/v1", new: "in-toto.io/Statement/v2"},
		{name: "a newer object", file: "provenance.1.json", old: `"format": 1`, new: `"format": 3`},
		{name: "a newer build type, forced", file: "provenance.2.json", old: "/convert/v1", new: "/convert/v2", force: true, replaced: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			recipe(q4)
			if code, said := build("--force"); code != 0 {
				t.Fatal(said)
			}
			data, err := os.ReadFile(filepath.Join(versions, c.file))
			if err != nil {
				t.Fatal(err)
			}
			if c.old != "" && !bytes.Contains(data, []byte(c.old)) {
				t.Fatalf("%s has no %s", c.file, c.old)
			}
			data = bytes.ReplaceAll(data, []byte(c.old), []byte(c.new))
			if c.old == "" {
				if p, err := parse(t, folder, data); err != nil || p.Target != "tiny/q" || p.Recipe != "mlxbuild.yaml" || p.Key.String()[:4] != "3942" || p.Origin["source"] != "path:tiny" || p.Host != "x" || p.Mlxbuild != "x" ||
					p.Placed.Year() != 2026 {
					t.Fatalf("read as %+v", p)
				}
			}
			if err := os.WriteFile(executor.ProvenanceFile(folder), data, 0o644); err != nil {
				t.Fatal(err)
			}
			recipe(q8)
			var args []string
			if c.force {
				args = []string{"--force"}
			}
			code, said := build(args...)
			now, err := os.ReadFile(executor.ProvenanceFile(folder))
			if err != nil {
				t.Fatal(err)
			}
			if c.replaced {
				if p := executor.ReadProvenance(folder); code != 0 || p == nil || p.Format != executor.ProvenanceFormat || p.Key.String()[:4] == "3942" {
					t.Errorf("exit code %d, provenance %+v\n%s", code, p, said)
				}
				return
			}
			if code != exitFailed || !strings.Contains(said, "was made by a newer mlxbuild") || !strings.Contains(said, "hint: update mlxbuild") || !bytes.Equal(now, data) {
				t.Errorf("exit code %d, and what was there is unchanged: %v\n%s", code, bytes.Equal(now, data), said)
			}
			if still, err := os.ReadFile(filepath.Join(folder, convert.ManifestName)); err != nil || !bytes.Equal(still, manifest) {
				t.Error("the folder was touched")
			}
		})
	}
}

// parse reads provenance beside a folder of another name.
func parse(t *testing.T, folder string, data []byte) (*executor.Provenance, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(folder))
	if err := os.WriteFile(executor.ProvenanceFile(path), data, 0o644); err != nil {
		return nil, err
	}
	p := executor.ReadProvenance(path)
	if p == nil {
		return nil, fs.ErrInvalid
	}
	return p, nil
}

// Lines of results, history and accepted figures: today's are read and written as they stand; lines of a newer program are kept, left out with a sentence, or refused.
func TestAgeOfLines(t *testing.T) {
	copied := func(t *testing.T, name string) (path, text string) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(versions, name))
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path, string(data)
	}
	again := func(t *testing.T, path string) string {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	t.Run("results", func(t *testing.T) {
		path, text := copied(t, "results.jsonl")
		lines, left, err := result.ReadAll(path)
		if err != nil || len(lines) != 2 || len(left) != 2 || !strings.Contains(left[0], "has schema 2, which a newer mlxbuild wrote") || !strings.Contains(left[1], "is damaged and left out") {
			t.Fatalf("%v %v %v", lines, left, err)
		}
		var encoded string
		for _, l := range lines {
			line, err := l.Encode()
			if err != nil {
				t.Fatal(err)
			}
			encoded += string(line)
		}
		if !strings.HasPrefix(text, encoded) {
			t.Errorf("lines are written otherwise now:\n%s\nthen\n%s", encoded, text)
		}
		lines[0].Key = strings.Repeat("9", 64)
		if err := result.Update(path, lines[:1]); err != nil {
			t.Fatal(err)
		}
		if newer := strings.Split(text, "\n")[2]; !strings.Contains(again(t, path), newer+"\n") {
			t.Error("the newer line was not kept word for word")
		}
	})
	t.Run("history", func(t *testing.T) {
		path, text := copied(t, "history.jsonl")
		past := readPast(path)
		if len(past) != 2 || past[0].Metrics["decode_tok_s"].Value != 3395 || past[1].Commit != "0123abc+" {
			t.Fatalf("%+v", past)
		}
		for i := range past {
			if line, err := json.Marshal(past[i]); err != nil || i == 0 && string(line) != strings.Split(text, "\n")[0] {
				t.Errorf("line %d is written otherwise now: %s, %v", i+1, line, err)
			}
		}
		a := &app{ctx: context.Background()}
		if err := a.remember(filepath.Join(filepath.Dir(path), "results.jsonl"), nil); err != nil {
			t.Fatal(err)
		}
		if want := strings.Join(strings.Split(text, "\n")[:3], "\n") + "\n"; again(t, path) != want { // the last line is no object
			t.Errorf("now\n%s\nthen\n%s", again(t, path), want)
		}
	})
	t.Run("accepted", func(t *testing.T) {
		path, text := copied(t, judge.AcceptedName)
		f, err := judge.ReadAccepted(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Write(); err != nil || again(t, path) != text {
			t.Errorf("%v, written as\n%s", err, again(t, path))
		}
		newer := text + strings.Replace(strings.Split(text, "\n")[0], `"metric"`, `"unit":"x","metric"`, 1) + "\n"
		if err := os.WriteFile(path, []byte(newer), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err = judge.ReadAccepted(path)
		if err == nil || !strings.Contains(err.Error(), ":3: this figure has a field that this version does not know: a newer mlxbuild wrote it") || !strings.Contains(strings.Join(hintsOf(err), ""), "update mlxbuild") ||
			exitCode(err) != exitBadInput {
			t.Errorf("%v, hint %v", err, hintsOf(err))
		}
	})
}

// The manifest of an older, this and a newer version.
func TestAgeOfManifests(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(oracle.TinyStories(t))); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(versions, "mlxbuild.1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m convert.Manifest
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil || m.Format != convert.ManifestFormat || len(m.Files) != 6 || len(m.Tensors) == 0 || m.Quantization.Profile != "mlx-cpu/0.32.4" || m.Source[0].Path != "config.json" {
		t.Fatalf("%v %+v", err, m)
	}
	for format, want := range map[string]string{"1": "its content is not what mlxbuild wrote", "2": "which a newer mlxbuild wrote; update mlxbuild", "0": "it is no manifest"} {
		text := strings.Replace(string(data), `"format": 1`, `"format": `+format, 1)
		if err := os.WriteFile(filepath.Join(dir, convert.ManifestName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, p := range convert.VerifyFolder(context.Background(), dir) {
			found = found || strings.Contains(p.What, want)
		}
		if !found {
			t.Errorf("format %s: not found: %s", format, want)
		}
	}
}

// docs/formats.md has a row for each of these.
func TestVersionsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(doc), "\n## Versions of what is on disk\n")
	if !ok {
		t.Fatal("docs/formats.md has no such section")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	for _, row := range []string{"recipe", "`VERSION`", "`records/`", "`stat`", "key", "`mlxbuild.json`", "`*.provenance.json`", "`results.jsonl`", "`history.jsonl`", "`mlxbuild.accepted.jsonl`", "`mlxbuild.lock`"} {
		if !regexp.MustCompile(`(?m)^\| [^|]*` + regexp.QuoteMeta(row) + `[^|]* \|`).MatchString(table) {
			t.Errorf("no row about %s", row)
		}
	}
}

// docs/formats.md names every field of the provenance file, and none that is not there.
func TestProvenanceIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "\n## Provenance")
	if !ok {
		t.Fatal("docs/formats.md has no such section")
	}
	section, _, _ = strings.Cut(section, "\n| dependency |")
	data, err := os.ReadFile(filepath.Join(versions, "provenance.2.json"))
	if err != nil {
		t.Fatal(err)
	}
	var statement any
	if err := json.Unmarshal(data, &statement); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	fieldsOf(statement, "", have)
	told := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (`+"`"+`[^|]*) \|`).FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(row[1], -1) {
			told[name[1]] = true
		}
	}
	for name := range have {
		if !told[name] {
			t.Errorf("%s is not documented", name)
		}
	}
	for name := range told {
		if !have[name] {
			t.Errorf("%s is documented and not there", name)
		}
	}
}

// free are objects whose fields are not the format's.
var free = []string{"buildDefinition.externalParameters.origin", "buildDefinition.externalParameters.parameters", "buildDefinition.internalParameters.code", "buildDefinition.resolvedDependencies[].digest"}

// fieldsOf collects the paths of all fields that hold no others.
func fieldsOf(v any, path string, out map[string]bool) {
	path = strings.TrimPrefix(strings.TrimPrefix(path, "."), "predicate.")
	if slices.Contains(free, path) {
		out[path] = true
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			fieldsOf(e, path+"."+k, out)
		}
	case []any:
		for _, e := range v {
			fieldsOf(e, path+"[]", out)
		}
	default:
		out[path] = true
	}
}
