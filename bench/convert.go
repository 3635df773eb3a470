package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// convert: the whole command, with an empty cache of our own, the source in the file cache, and syncing to disk in our time.
func (b *bench) convert() error {
	if err := b.needModel(); err != nil {
		return err
	}
	dir, err := b.scratch("convert")
	if err != nil {
		return err
	}
	out, cache := filepath.Join(dir, "out"), filepath.Join(dir, "cache")
	args := []string{"convert", "--hf-path", b.model, "--mlx-path", out, "-q", "--q-bits", "4"}
	clean := func(int) error {
		removeAll(out)
		removeAll(cache)
		return nil
	}
	ours := &side{name: "mlxbuild convert", prepare: clean, command: func(int) *exec.Cmd { return b.tool(cache, args...) }}
	read := &side{name: "cp + sha256sum of the source", prepare: clean, command: func(int) *exec.Cmd {
		return exec.CommandContext(b.ctx, "sh", "-c", `cp -r "$1" "$2" && sha256sum "$1"/*.safetensors`, "sh", b.model, out)
	}}
	sides := []*side{ours, read}
	peer := &side{name: "mlx_lm.convert", prepare: clean, command: func(int) *exec.Cmd { return b.py(append([]string{"-m", "mlx_lm"}, args...)...) }}
	if b.hasPython() {
		sides = append(sides, peer)
	}
	if _, err := once(exec.CommandContext(b.ctx, "sh", "-c", `cat "$1"/* | wc -c`, "sh", b.model)); err != nil {
		return err
	}
	if err := takeTurns(b.ctx, b.turns(6), sides...); err != nil {
		return err
	}
	printTable(sides...)
	fmt.Printf("  source %s\n", size(folderSize(b.model, "*.safetensors")))
	if len(peer.samples) > 0 {
		atMost("wall time, of mlx_lm.convert's", wallRatio(ours, peer), 1.0/8, ratio)
		atMost("peak memory, of mlx_lm.convert's", float64(ours.peak())/float64(peer.peak()), 1.0/5, ratio)
	}
	return nil
}
