package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// machinesRecipe has every kind of step whose results are to be the same everywhere, and every sort of arithmetic.
const machinesRecipe = `version: 1
models: {m: "path:m"}
quantizations:
  bf16: {quantize: false}
  q4: {bits: 4, overrides: [{match: [v_proj, down_proj], layers: [0, -1], bits: 6}]}
  q3: {bits: 3, group_size: 32}
  mx: {mode: mxfp4}
convert: {shard_size: 300kB}
prompts: {p: [Once upon a time, The quick brown fox]}
generate:
  greedy: {targets: [m/q4], prompts: p, max_tokens: 12}
  drawn: {targets: [m/bf16], prompts: p, max_tokens: 12, temperature: 0.9, seed: 7}
corpora: {c: {source: "path:m/heldout.txt", context: 48, chunks: 3}}
validate:
  right: {kind: parity, targets: [m/bf16], reference: {runtime: builtin, compute: float64}, prompts: p, max_tokens: 6}
  cost: {kind: fidelity, targets: ["m/*"], corpus: c}
`

// made is what a build made: the digest of every file in build/ by path, and what every record says, by key.
type made struct {
	files, records map[string]string
}

// machine is a way of running the program.
type machineCase struct {
	name string
	dir  string   // where the recipe is; "" = a folder of its own
	bin  string   // "" = the usual one
	env  []string // added
	bare bool     // no other environment
	line []string // what stands before the program
	lay  func(t *testing.T, dir string)
	run  func(t *testing.T, m machineCase, dir string) *exec.Cmd
	// needs says why it cannot run here.
	needs string
}

// The same recipe on what differs between machines gives the same bytes of every file, and the same keys.
func TestTwoMachines(t *testing.T) {
	if runtime.GOOS == "windows" {
		oracle.Missing(t, "what differs is set by programs of Unix")
	}
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil { // for another user
		t.Fatal(err)
	}
	bin := goBuild(t, filepath.Join(root, "mlxbuild"), "CGO_ENABLED=0") // static, for a root without libraries
	want := made{}
	others := []machineCase{
		{name: "another path", dir: filepath.Join(root, "über mir", strings.Repeat("deep/", 20), "a b'c\"d")},
		{name: "another user", line: nobody(t), needs: "another user needs root and setpriv", lay: give},
		{name: "another time zone and language", env: []string{"TZ=Asia/Kathmandu", "LANG=tr_TR.UTF-8", "LC_ALL=de_DE.UTF-8", "LANGUAGE=tr", "LC_NUMERIC=de_DE"}},
		{name: "umask 077", line: umask("077")},
		{name: "umask 000", line: umask("000")},
		{name: "another home", env: []string{"HOME=/nonexistent", "XDG_CACHE_HOME=/nonexistent/cache", "TMPDIR=/nonexistent/tmp"}},
		{name: "no environment", bare: true},
		{name: "one thread", env: []string{"GOMAXPROCS=1"}},
		{name: "seven threads", env: []string{"GOMAXPROCS=7", "GOGC=10"}},
		{name: "one core", line: found("taskset", "-c", "0"), needs: "taskset is not installed"},
		{name: "plain Go arithmetic", env: []string{"MLXBUILD_CPU=generic"}},
		{name: "plain Go arithmetic, one thread", env: []string{"MLXBUILD_CPU=generic", "GOMAXPROCS=1"}},
		{name: "memory instead of a disk", dir: memoryDir(t), lay: shuffle, needs: "there is no /dev/shm"},
		{name: "files in another order, of other times", lay: shuffle},
		{name: "symbolic links", lay: linked},
		{name: "a container with nothing in it", run: container("bare"), needs: noContainers(t)},
		{name: "a container with this system", run: container("system"), needs: noContainers(t)},
	}
	started := time.Now()
	for i, m := range append([]machineCase{{name: "here"}}, others...) {
		if m.bin == "" {
			m.bin = bin
		}
		t.Run(m.name, func(t *testing.T) {
			if m.cannot() {
				oracle.Missing(t, m.needs)
			}
			got := m.build(t, filepath.Join(root, fmt.Sprint(i)))
			if i == 0 {
				want = got
				if len(want.files) < 30 || len(want.records) < 13 {
					t.Fatalf("%d files and %d records are too few to prove anything", len(want.files), len(want.records))
				}
				return
			}
			hold(t, want, got)
		})
	}
	t.Logf("%d machines in %.1f s", len(others)+1, time.Since(started).Seconds())
}

// Programs built for other processors, and by other means, make the same bytes too. Building them takes minutes where nothing of them is in Go's cache yet.
func TestOtherBuilds(t *testing.T) {
	if runtime.GOARCH != "amd64" || runtime.GOOS == "windows" {
		oracle.Missing(t, "GOAMD64 is about amd64")
	}
	if os.Getenv("MLXBUILD_TEST_MUST_RUN") == "" {
		oracle.Missing(t, "the program is built three times more, which takes minutes; MLXBUILD_TEST_MUST_RUN=1 does it")
	}
	root := t.TempDir()
	want := machineCase{bin: goBuild(t, filepath.Join(root, "mlxbuild"))}.build(t, filepath.Join(root, "here"))
	for _, env := range [][]string{{"GOAMD64=v1", "CGO_ENABLED=0", "GOFLAGS=-trimpath"}, {"GOAMD64=v2", "CGO_ENABLED=0", "GOFLAGS=-trimpath"}, {"GOAMD64=v3", "CGO_ENABLED=0", "GOFLAGS=-trimpath"}} {
		t.Run(strings.Join(env, " "), func(t *testing.T) {
			name := strings.NewReplacer("=", "-", " ", "-").Replace(strings.Join(env, " "))
			bin := goBuild(t, filepath.Join(root, "mlxbuild-"+name), env...)
			if out, err := exec.Command(bin, "version").CombinedOutput(); err != nil {
				oracle.Missing(t, "this processor cannot run it: "+string(out))
			}
			hold(t, want, machineCase{bin: bin}.build(t, filepath.Join(root, name)))
			hold(t, want, machineCase{bin: bin, env: []string{"MLXBUILD_CPU=generic"}}.build(t, filepath.Join(root, name+"-generic")))
		})
	}
}

func (m machineCase) cannot() bool {
	return m.needs != "" && m.line == nil && m.dir == "" && m.run == nil || m.run != nil && m.needs != ""
}

func goBuild(t *testing.T, bin string, env ...string) string {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v go build: %v\n%s", env, err, out)
	}
	return bin
}

// build the recipe and read what came of it.
func (m machineCase) build(t *testing.T, dir string) made {
	t.Helper()
	if m.dir != "" {
		dir = m.dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "m"), os.DirFS(oracle.TinyStories(t))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mlxbuild.yaml"), []byte(machinesRecipe), 0o644); err != nil {
		t.Fatal(err)
	}
	if m.lay != nil {
		m.lay(t, dir)
	}
	cmd := m.command(t, dir)
	if text, code := output(t, cmd); code != 0 {
		t.Fatalf("%v: exit code %d\n%s", cmd.Args, code, text)
	}
	got := made{files: map[string]string{}, records: map[string]string{}}
	for name, sum := range sumsOf(t, filepath.Join(dir, "build")) {
		got.files[name] = sum.String()
	}
	modes(t, filepath.Join(dir, "build"))
	c, err := cache.Open(filepath.Join(dir, "cache"), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Records(func(r *cache.Record) bool {
		text, err := json.Marshal([]any{r.KeyText, r.Outputs, r.Tree, r.Result})
		if err != nil {
			t.Fatal(err)
		}
		got.records[r.Key.String()] = r.Step + " " + cache.SumBytes(text).String()
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (m machineCase) command(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	if m.run != nil {
		return m.run(t, m, dir)
	}
	line := append(slices.Clone(m.line), m.bin, "build")
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = dir
	if !m.bare {
		cmd.Env = append(os.Environ(), m.env...)
	}
	cmd.Env = append(cmd.Env, "MLXBUILD_CACHE="+filepath.Join(dir, "cache"))
	return cmd
}

// hold says what differs.
func hold(t *testing.T, want, got made) {
	t.Helper()
	for _, c := range []struct {
		what      string
		want, got map[string]string
	}{{"file", want.files, got.files}, {"record", want.records, got.records}} {
		var names []string
		for name := range c.want {
			names = append(names, name)
		}
		for name := range c.got {
			if c.want[name] == "" {
				names = append(names, name)
			}
		}
		sort.Strings(names)
		for _, name := range names {
			if c.want[name] != c.got[name] {
				t.Errorf("%s %s: %q, here %q", c.what, name, c.got[name], c.want[name])
			}
		}
	}
}

// modes of files in a build folder are ours, whatever the umask: weights cannot be written, everything else by its owner.
func modes(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(path, string(filepath.Separator)+"m"+string(filepath.Separator)) {
			return err
		}
		info, err := e.Info()
		want := fs.FileMode(0o644)
		if strings.HasSuffix(path, ".safetensors") {
			want = 0o444
		}
		if err == nil && info.Mode() != want {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// umask runs the program under another one.
func umask(mask string) []string {
	return []string{"sh", "-c", "umask " + mask + `; exec "$0" "$@"`}
}

// found is a command line whose program is installed, or nil.
func found(name string, args ...string) []string {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil
	}
	return append([]string{path}, args...)
}

// give a folder to nobody.
func give(t *testing.T, dir string) {
	t.Helper()
	shell(t, `chown -R 65534:65534 "$1"; chmod 755 "$2"`, dir, filepath.Dir(dir))
}

// memoryDir is a new folder in memory; "" where there is none.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mlxbuild-test")
	if err != nil {
		return ""
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// shuffle makes a model's files anew in the opposite order, between files that are taken away again, with times of long ago and of the future.
func shuffle(t *testing.T, dir string) {
	t.Helper()
	model := filepath.Join(dir, "m")
	entries, err := os.ReadDir(model)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(model, model+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(model, 0o755); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(entries)
	var fill []string
	for i, e := range entries {
		for k := range 5 {
			path := filepath.Join(model, fmt.Sprintf("fill-%d-%d", i, k))
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			fill = append(fill, path)
		}
		data, err := os.ReadFile(filepath.Join(model+".old", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(model, e.Name())
		if err := os.WriteFile(path, data, 0o600+fs.FileMode(i%2)*0o111); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(i%2)*4e9+1, 999_999_999)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range fill {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(model + ".old"); err != nil {
		t.Fatal(err)
	}
}

// linked makes a model of symbolic links, as the Hugging Face cache is.
func linked(t *testing.T, dir string) {
	t.Helper()
	model, blobs := filepath.Join(dir, "m"), filepath.Join(dir, "blobs")
	if err := os.Rename(model, blobs); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(model, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(blobs)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		blob := filepath.Join(blobs, fmt.Sprintf("blob%d", i))
		if err := os.Rename(filepath.Join(blobs, e.Name()), blob); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..", "blobs", filepath.Base(blob)), filepath.Join(model, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// container runs the program by testdata/container.sh.
func container(kind string) func(t *testing.T, m machineCase, dir string) *exec.Cmd {
	return func(t *testing.T, m machineCase, dir string) *exec.Cmd {
		t.Helper()
		data, err := os.ReadFile(m.bin)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "mlxbuild"), data, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "testdata/container.sh", kind, dir, "/tmp/scene/mlxbuild", "-C", "/tmp/scene", "build")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "MLXBUILD_CACHE=/tmp/scene/cache"}
		return cmd
	}
}

// noContainers says why there can be none, "" when they can be.
func noContainers(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		return "containers are made by Linux"
	}
	dir := t.TempDir()
	for _, kind := range []string{"bare", "system"} {
		cmd := exec.Command("sh", "testdata/container.sh", kind, dir, "/nothing")
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "/nothing") {
			return "namespaces and mounts are not allowed here: " + string(out)
		}
	}
	return ""
}
