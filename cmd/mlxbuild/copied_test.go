package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

const copiedRecipe = `version: 1
models: {m: "path:m"}
quantizations: {bf16: {quantize: false}, q4: {bits: 4}, q8: {bits: 8}}
prompts: {p: [Once upon a time]}
generate: {say: {targets: [m/q4], prompts: p, max_tokens: 4}}
corpora: {c: {source: "path:m/heldout.txt", context: 32, chunks: 2}}
validate: {cost: {kind: fidelity, targets: [m/q4], corpus: c}}
`

// place is a project with its own cache, somewhere.
type place struct {
	t        *testing.T
	bin, dir string
	as       []string // what runs the program as somebody else
}

func (p place) cache() string { return filepath.Join(p.dir, "cache") }

// lay out the recipe and its model.
func (p place) lay() place {
	p.t.Helper()
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(p.dir, "m"), os.DirFS(oracle.TinyStories(p.t))); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "mlxbuild.yaml"), []byte(copiedRecipe), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// mlxbuild runs the program there, and expects it to do well.
func (p place) mlxbuild(args ...string) string {
	p.t.Helper()
	line := append(append([]string{}, p.as...), append([]string{p.bin}, args...)...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "MLXBUILD_CACHE="+p.cache(), "HOME="+p.dir, "NO_COLOR=1")
	text, code := output(p.t, cmd)
	if code != 0 {
		p.t.Fatalf("%s: exit code %d\n%s", strings.Join(line, " "), code, text)
	}
	return text
}

func shell(t *testing.T, script string, args ...string) {
	t.Helper()
	if out, err := exec.Command("sh", append([]string{"-euc", script, "sh"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// copyPlain is a copy as rsync without -H makes it: plain files with their times and modes, no links.
func copyPlain(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.Chtimes(filepath.Join(to, rel), info.ModTime(), info.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A cache that was copied to another machine: other inodes, times, paths, owners. Nothing is made again, each blob that is used is hashed once, and a damaged one is found before it is used.
func TestCacheCopied(t *testing.T) {
	if runtime.GOOS == "windows" {
		oracle.Missing(t, "the copies are made by programs of Unix")
	}
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil { // for another user
		t.Fatal(err)
	}
	bin := filepath.Join(root, "mlxbuild")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	home := place{t: t, bin: bin, dir: filepath.Join(root, "home")}.lay()
	if text := home.mlxbuild("build"); !strings.Contains(text, "7 made") {
		t.Fatal(text)
	}
	sums := sumsOf(t, filepath.Join(home.dir, "build"))

	ways := []struct {
		name string
		copy func(t *testing.T, from, to string)
		as   []string
	}{
		{"cp -a", func(t *testing.T, from, to string) { shell(t, `cp -a "$1" "$2"`, from, to) }, nil},
		{"cp -r", func(t *testing.T, from, to string) { shell(t, `cp -r "$1" "$2"`, from, to) }, nil},
		{"tar over a pipe", func(t *testing.T, from, to string) {
			shell(t, `mkdir "$2"; tar -C "$1" -cf - . | tar -C "$2" -xf -`, from, to)
		}, nil},
		{"plain files", copyPlain, nil},
		{"another user", func(t *testing.T, from, to string) { shell(t, `cp -r "$1" "$2"`, from, to) }, nobody(t)},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			if strings.HasPrefix(way.name, "another") && way.as == nil {
				oracle.Missing(t, "another user needs root and setpriv")
			}
			away := place{t: t, bin: bin, dir: filepath.Join(root, "far away", way.name), as: way.as}.lay()
			way.copy(t, home.cache(), away.cache())
			if way.as != nil {
				shell(t, `chown -R 65534:65534 "$1"; chmod 755 "$2"`, away.dir, root)
			}
			text := away.mlxbuild("build")
			if !strings.Contains(text, "3 taken from the cache, 4 up to date") || regexp.MustCompile(`\bmade\b|converted|generated|validated|computed|tokenized`).MatchString(text) {
				t.Errorf("something was made again:\n%s", text)
			}
			for name, sum := range sums {
				if got := sumsOf(t, filepath.Join(away.dir, "build"))[name]; got != sum {
					t.Errorf("%s: %v, not %v", name, got, sum)
				}
			}
			known(t, away.cache(), filepath.Join(away.dir, "build"))
			if text := away.mlxbuild("build"); !strings.Contains(text, "nothing to do") {
				t.Errorf("the second build:\n%s", text)
			}
			away.mlxbuild("cache", "verify")
		})
	}

	t.Run("with its build folder", func(t *testing.T) {
		away := place{t: t, bin: bin, dir: filepath.Join(root, "moved")}
		shell(t, `cp -a "$1" "$2"`, home.dir, away.dir)
		text := away.mlxbuild("build")
		if regexp.MustCompile(`\bmade\b|converted|generated|validated|computed|tokenized`).MatchString(text) {
			t.Errorf("something was made again:\n%s", text)
		}
		if text := away.mlxbuild("build"); !strings.Contains(text, "nothing to do") {
			t.Errorf("the second build:\n%s", text)
		}
		away.mlxbuild("verify")
	})
	t.Run("damaged on the way", func(t *testing.T) {
		for _, name := range []string{"model.safetensors", "tokenizer.json", "tokens.json", "values.f32"} {
			away := place{t: t, bin: bin, dir: filepath.Join(root, "damaged", name)}.lay()
			copyPlain(t, home.cache(), away.cache())
			steps := damage(t, away.cache(), name)
			text := away.mlxbuild("build")
			for _, s := range steps {
				if !strings.Contains(text, s) {
					t.Errorf("%s was damaged, and %q was not made again:\n%s", name, s, text)
				}
			}
			for name, sum := range sums {
				if got := sumsOf(t, filepath.Join(away.dir, "build"))[name]; got != sum {
					t.Errorf("%s: %v, not %v", name, got, sum)
				}
			}
			away.mlxbuild("verify", "--rebuild")
		}
	})
}

// nobody is how to run a program as another user; nil where that cannot be done.
func nobody(t *testing.T) []string {
	t.Helper()
	path, err := exec.LookPath("setpriv")
	if err != nil || os.Getuid() != 0 {
		return nil
	}
	return []string{path, "--reuid=65534", "--regid=65534", "--clear-groups", "--"}
}

// sumsOf are the digests of every file below a folder, by path, but for provenance and what has times in it.
func sumsOf(t *testing.T, dir string) map[string]cache.Digest {
	t.Helper()
	out := map[string]cache.Digest{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".provenance.json") || strings.HasSuffix(path, ".jsonl") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[filepath.ToSlash(rel)] = cache.SumBytes(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// known checks that each blob that a build folder is made of is known by its metadata now: it need not be hashed again.
func known(t *testing.T, cacheDir, build string) {
	t.Helper()
	c, err := cache.Open(cacheDir, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := 0
	err = c.Records(func(r *cache.Record) bool {
		for _, o := range r.Outputs {
			hex := o.Digest.String()
			if d, _, ok := c.KnownFileDigest(filepath.Join(cacheDir, "blobs", hex[:2], hex)); !ok || d != o.Digest {
				t.Errorf("%s of %s would be hashed again", o.Path, r.Step)
			}
			n++
		}
		return true
	})
	if err != nil || n < 20 {
		t.Errorf("%d outputs looked at, %v", n, err)
	}
}

// damage flips a byte in each blob that some step wrote under a name, leaving size and times, and says which lines a build has to print about it.
func damage(t *testing.T, cacheDir, name string) (lines []string) {
	t.Helper()
	c, err := cache.Open(cacheDir, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	flipped := map[cache.Digest]bool{}
	err = c.Records(func(r *cache.Record) bool {
		for _, o := range r.Outputs {
			if o.Path != name {
				continue
			}
			kind, rest, _ := strings.Cut(r.Step, " ")
			switch {
			case name == "model.safetensors":
				lines = append(lines, "converted  "+rest)
			case kind == "convert" && lines == nil: // of several that share it the first is made again, and the others find it
				lines = append(lines, "converted  ")
			}
			if flipped[o.Digest] {
				continue
			}
			flipped[o.Digest] = true
			path := filepath.Join(cacheDir, "blobs", o.Digest.String()[:2], o.Digest.String())
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 4
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o444); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}
		return true
	})
	if err != nil || len(flipped) == 0 {
		t.Fatalf("nothing is called %s: %v", name, err)
	}
	return lines
}
