package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// convert: the whole command, with an empty cache of our own, the source in the file cache, and syncing to disk in our time; then with a cache that knows the source's digests.
func (b *bench) convert() error {
	if err := b.needModel(); err != nil {
		return err
	}
	if err := b.convertOne(b.model, b.turns(6), goals{cold: 20, known: 20, memory: 1.0 / 10, read: 2}); err != nil {
		return err
	}
	shape, err := b.shape()
	if err != nil {
		return err
	}
	return b.convertOne(shape, b.turns(3), goals{cold: 8, known: 15, memory: 1.0 / 6, read: 2})
}

// goals of a conversion: times as fast as mlx_lm.convert, the share of its memory, and the most times of reading and copying the source.
type goals struct{ cold, known, memory, read float64 }

// shape makes a model with the shapes of Llama-3.2-1B, of random weights, once.
func (b *bench) shape() (string, error) {
	dir := filepath.Join(b.root, "models", "llama-1b-shape")
	if b.large != "" {
		dir = b.large
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err == nil {
		return dir, nil
	}
	if b.python == "" {
		return "", fmt.Errorf("%s is missing (scripts/llama_1b_shape.py makes it)", dir)
	}
	args := []string{filepath.Join(b.root, "scripts", "llama_1b_shape.py"), dir, "--tokenizer", b.model}
	if b.llama != "" {
		args = append(args, "--gguf", dir+".gguf")
	}
	_, err := once(b.py(args...))
	return dir, err
}

func (b *bench) convertOne(model string, turns int, g goals) error {
	dir, err := b.scratch("convert")
	if err != nil {
		return err
	}
	defer removeAll(dir)
	out, cache := filepath.Join(dir, "out"), filepath.Join(dir, "cache")
	args := func(bits string) []string {
		return []string{"convert", "--hf-path", model, "--mlx-path", out, "-q", "--q-bits", bits}
	}
	clean := func(int) error {
		removeAll(out)
		removeAll(cache)
		return nil
	}
	known := func(int) error { // to 8 bits, so that no tensor that is quantized can be copied
		removeAll(cache)
		removeAll(out)
		_, err := once(b.tool(cache, args("8")...))
		removeAll(out)
		return err
	}
	ours := &side{name: "mlxbuild convert", prepare: clean, command: func(int) *exec.Cmd { return b.tool(cache, args("4")...) }}
	again := &side{name: "the source's digests known", prepare: known, command: ours.command}
	read := &side{name: "cp + sha256sum of the source", prepare: clean, command: func(int) *exec.Cmd {
		return b.command("sh", "-c", `cp -r "$1" "$2" && sha256sum "$1"/*.safetensors`, "sh", model, out)
	}}
	var made int64
	disk := &side{name: "dd of as many bytes as come out, synced", prepare: clean, command: func(int) *exec.Cmd { return b.disk(dir, made) }}
	sides := []*side{ours, again, read, disk}
	peer := &side{name: "mlx_lm.convert", peer: true, prepare: clean, command: func(int) *exec.Cmd { return b.py(append([]string{"-m", "mlx_lm"}, args("4")...)...) }}
	if b.hasPython() {
		sides = append(sides, peer)
	}
	if err := b.warm(model); err != nil {
		return err
	}
	if _, err := once(ours.command(0)); err != nil {
		return err
	}
	made = folderSize(out, "*.safetensors")
	if err := b.takeTurns(turns, sides...); err != nil {
		return err
	}
	fmt.Printf("  source %s, %s\n\n", filepath.Base(model), size(folderSize(model, "*.safetensors")))
	printTable(sides...)
	if len(peer.samples) > 0 {
		atLeast("times as fast as mlx_lm.convert, cold", wallRatio(peer, ours), g.cold, ratio)
		atLeast("times as fast as mlx_lm.convert, digests known", wallRatio(peer, again), g.known, ratio)
		atMost("peak memory, of mlx_lm.convert's", float64(ours.peak())/float64(peer.peak()), g.memory, ratio)
	}
	atMost("peak memory", float64(ours.peak()), 300e6, bytesOf)
	atMost("wall time, of cp + sha256sum", wallRatio(ours, read), g.read, ratio)
	fmt.Println()
	return nil
}

// warm brings a folder into the file cache.
func (b *bench) warm(dir string) error {
	_, err := once(b.command("sh", "-c", `cat "$1"/* | wc -c`, "sh", dir))
	return err
}

// disk writes so many bytes and waits until they are on the disk.
func (b *bench) disk(dir string, n int64) *exec.Cmd {
	return b.command("dd", "if=/dev/zero", "of="+filepath.Join(dir, "zeros"), "bs=1M", fmt.Sprint("count=", n>>20), "conv=fsync")
}

// eight are the schemes of the variants; one is the first of them.
var eight = []string{"q4: {bits: 4, group_size: 64}", "q4g32: {bits: 4, group_size: 32}", "q8: {bits: 8, group_size: 64}", "q2: {bits: 2, group_size: 64}", "q3: {bits: 3, group_size: 64}",
	"q6: {bits: 6, group_size: 64}", "mxfp4: {mode: mxfp4}", "bf16: {quantize: false}"}

// variants: a recipe of one model and eight quantizations, with an empty cache, beside the same with one. What the disk takes for as many bytes is measured too: eight variants of a bfloat16 model have
// three times its bytes, and a build keeps them all.
func (b *bench) variants() error {
	if err := b.needModel(); err != nil {
		return err
	}
	dir, err := b.scratch("variants")
	if err != nil {
		return err
	}
	defer removeAll(dir)
	cache, build := filepath.Join(dir, "cache"), filepath.Join(dir, "build")
	clean := func(int) error {
		removeAll(cache)
		removeAll(build)
		return nil
	}
	recipe := func(n int) (*side, error) {
		path := filepath.Join(dir, fmt.Sprintf("%d.yaml", n))
		text := fmt.Sprintf("version: 1\nmodels: {m: \"path:%s\"}\nquantizations:\n  %s\n", filepath.ToSlash(b.model), strings.Join(eight[:n], "\n  "))
		return &side{name: fmt.Sprintf("mlxbuild build, %d of them", n), prepare: clean, command: func(int) *exec.Cmd { return b.tool(cache, "build", path) }}, os.WriteFile(path, []byte(text), 0o666)
	}
	all, err := recipe(len(eight))
	if err != nil {
		return err
	}
	one, err := recipe(1)
	if err != nil {
		return err
	}
	clean(0)
	if _, err := once(all.command(0)); err != nil {
		return err
	}
	made := int64(0)
	if err := filepath.WalkDir(build, func(path string, d fs.DirEntry, err error) error {
		made += folderSize(path, "*.safetensors")
		return err
	}); err != nil {
		return err
	}
	disk := &side{name: "dd of as many bytes as the eight have, synced", prepare: clean, command: func(int) *exec.Cmd { return b.disk(dir, made) }}
	if err := b.takeTurns(b.turns(6), one, all, disk); err != nil {
		return err
	}
	printTable(one, all, disk)
	atMost("eight variants, of one's time", wallRatio(all, one), 3, ratio)
	fmt.Printf("  the eight have %s, %.1f times the one's processor time\n", size(made), float64(median(all.cpus()))/float64(median(one.cpus())))
	return nil
}
