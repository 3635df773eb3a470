package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// overrideRecipe has one override, on one layer. The numbers that change are its bits and group size.
const overrideRecipe = `version: 1
models:
  smollm2: {source: "path:%s"}
quantizations:
  q4-plus:
    bits: 4
    group_size: 64
    overrides:
      - {match: "re:.*", layers: [%d], bits: %d, group_size: %d}
`

// override: the layer's scheme changes to one that it never had, so that nothing of it can be in the cache. Beside it the weights that come out are copied,
// hashed and synced to disk, which is what any build must do that keeps its results.
func (b *bench) override() error {
	if err := b.needModel(); err != nil {
		return err
	}
	dir, err := b.scratch("override")
	if err != nil {
		return err
	}
	source, err := b.copyOfModel(dir)
	if err != nil {
		return err
	}
	layer, err := middleLayer(source)
	if err != nil {
		return err
	}
	recipe, cache, made := filepath.Join(dir, "mlxbuild.yaml"), filepath.Join(dir, "cache"), filepath.Join(dir, "build", "smollm2", "q4-plus")
	write := func(scheme [2]int) error {
		text := fmt.Sprintf(overrideRecipe, filepath.ToSlash(source), layer, scheme[0], scheme[1])
		return os.WriteFile(recipe, []byte(text), 0o666)
	}
	schemes := unusedSchemes()
	if err := write(schemes[0]); err != nil {
		return err
	}
	if _, err := once(b.tool(cache, "build", recipe)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	copied := filepath.Join(dir, "copied")
	build := func(int) *exec.Cmd { return b.tool(cache, "build", recipe) }
	next := func(round int) error { return write(schemes[1+round]) }
	ours := &side{name: "mlxbuild build, one layer changed", prepare: next, command: build}
	floor := &side{name: "copy, hash and sync the weights",
		prepare: func(int) error { return os.RemoveAll(copied) },
		command: func(int) *exec.Cmd { return b.command(self, copyCommand, made, copied) }}
	rounds := min(b.turns(8), len(schemes)-2)
	if err := b.takeTurns(rounds, ours, floor); err != nil {
		return err
	}
	printTable(ours, floor)
	fmt.Printf("  weights that came out: %s\n", size(folderSize(made, "*.safetensors")))
	atMost("wall time, of copying, hashing and syncing", wallRatio(ours, floor), 1.5, ratio)

	if err := next(rounds); err != nil {
		return err
	}
	seen, err := b.watch(build(0), source)
	if err != nil {
		return err
	}
	return printSource(seen, source, layer)
}

// middleLayer of a model is the one whose override changes, 15 of 30.
func middleLayer(model string) (int, error) {
	data, err := os.ReadFile(filepath.Join(model, "config.json"))
	if err != nil {
		return 0, err
	}
	var config struct {
		Layers int `json:"num_hidden_layers"`
	}
	err = json.Unmarshal(data, &config)
	return config.Layers / 2, err
}

// unusedSchemes are pairs of bits and group size, all different.
func unusedSchemes() (schemes [][2]int) {
	for _, group := range []int{64, 32} { // 576 columns are no multiple of 128
		for _, bits := range []int{6, 8, 5, 3, 2, 1} {
			schemes = append(schemes, [2]int{bits, group})
		}
	}
	return schemes
}

// readAhead is what the system may read of a file that nobody asked for, behind its header.
const readAhead = 1 << 20

// printSource says how much of the source was looked at, by calls and in mappings, and judges that it was no more than the pages that have the layer.
func printSource(seen watched, source string, layer int) error {
	var calls, wanted, inside, outside, headers, cached int64
	files, err := filepath.Glob(filepath.Join(source, "*.safetensors"))
	if err != nil {
		return err
	}
	for _, path := range files {
		h, err := readHeader(path, layer)
		if err != nil {
			return err
		}
		layer, header, a := pages(h.layer), []part{{0, h.data}}, seen.file(path)
		looked := union(append(slices.Clone(a.parts), a.asked...))
		in, head := overlap(looked, layer), overlap(looked, header)
		wanted, inside, headers, outside = wanted+total(layer), inside+in, headers+head, outside+total(looked)-in-head
		for _, p := range a.parts {
			calls += max(0, p.to-max(p.from, h.data))
		}
		cached += seen.cached[path]
	}
	fmt.Printf("  strace: of the source were looked at %d bytes of pages that have the layer (all are %d), %d of others, %d of headers; %d bytes by read calls\n", inside, wanted, outside, headers, calls)
	atLeast("bytes of the layer's pages", float64(inside), float64(min(wanted, 1)), bytesOf)
	atMost("bytes of other pages of tensors", float64(outside), 0, bytesOf)
	atMost("bytes of tensors that read calls returned", float64(calls), float64(wanted), bytesOf)
	if seen.cached != nil {
		atMost("bytes of the source in the file cache afterwards", float64(cached), float64(wanted+headers+readAhead), bytesOf)
	}
	return nil
}

// header is where a safetensors file has the layer's tensors, and where its data begins.
type header struct {
	data  int64
	layer []part
}

func readHeader(path string, layer int) (h header, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, err
	}
	defer f.Close()
	var length uint64
	if err := binary.Read(f, binary.LittleEndian, &length); err != nil {
		return h, err
	}
	if length > 100<<20 {
		return h, fmt.Errorf("%s: a header of %d bytes", path, length)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(f, text); err != nil {
		return h, err
	}
	var tensors map[string]struct {
		Offsets [2]int64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(text, &tensors); err != nil {
		return h, fmt.Errorf("%s: %w", path, err)
	}
	h.data = 8 + int64(length)
	for name, t := range tensors {
		if strings.HasPrefix(name, fmt.Sprintf("model.layers.%d.", layer)) {
			h.layer = append(h.layer, part{h.data + t.Offsets[0], h.data + t.Offsets[1]})
		}
	}
	return h, nil
}

// copyCommand makes this program the loop below and nothing else: a measured child, so that the loop that ours is compared with pays for a process too.
const copyCommand = "copy-hash-sync"

func copyIfAsked() {
	if len(os.Args) == 4 && os.Args[1] == copyCommand {
		exitOn(copyHashSync(os.Args[2], os.Args[3]))
		os.Exit(0)
	}
}

// copyHashSync copies a folder's weights, hashing the bytes on the way, and syncs files and folder.
func copyHashSync(from, to string) error {
	if err := os.MkdirAll(to, 0o777); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(from, "*.safetensors"))
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("no weights in %s", from)
	}
	for _, name := range names {
		if err := copyFile(name, filepath.Join(to, filepath.Base(name))); err != nil {
			return err
		}
	}
	return syncPath(to)
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	hash := sha256.New()
	// The writer is hidden so that the loop is a plain one: what is hashed must pass through memory anyhow.
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(dst, hash)}, struct{ io.Reader }{src}, make([]byte, 1<<20)); err != nil {
		return err
	}
	return dst.Sync()
}

func syncPath(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
