package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// watched is what a command did to files, and how many bytes of each file of weights were in the file cache after it; cached is nil where that cannot be told.
type watched struct {
	accesses
	cached map[string]int64
}

// watch runs a command under strace, with the weights below a folder taken out of the file cache before. strace sees calls; what a program looks at in a mapping without a call it does not see, but the system has to read it, and
// it is in the file cache from then on, with what is read ahead. Nobody else may read that folder.
func (b *bench) watch(cmd *exec.Cmd, dir string) (w watched, err error) {
	weights, err := weightsBelow(dir)
	if err != nil {
		return w, err
	}
	settle()
	unknown := b.evict(weights)
	if w.accesses, err = b.trace(cmd); err != nil {
		return w, err
	}
	if unknown != nil {
		fmt.Printf("  the file cache cannot be asked what was looked at without a call: %v\n", unknown)
		return w, nil
	}
	w.cached, err = b.cached(weights)
	return w, err
}

// evict takes files out of the file cache, and says why it could not.
func (b *bench) evict(paths []string) error {
	for _, path := range paths {
		if err := evict(path); err != nil {
			return err
		}
	}
	left, err := b.cached(paths)
	for path, n := range left {
		if n > 0 {
			return fmt.Errorf("%s stays in it (-work names a folder on another file system)", path)
		}
	}
	return err
}

// cached is how many bytes of each file are in the file cache, in whole pages. fincore, a part of util-linux, asks without changing that, which reading would.
func (b *bench) cached(paths []string) (map[string]int64, error) {
	found := map[string]int64{}
	for some := range slices.Chunk(paths, 1000) {
		out, err := once(b.command("fincore", append([]string{"--bytes", "--noheadings", "--output", "RES,FILE"}, some...)...))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(out)) {
			n, path, _ := strings.Cut(strings.TrimSpace(line), " ")
			found[path] = number(n)
		}
	}
	if len(found) != len(paths) {
		return nil, fmt.Errorf("fincore speaks of %d files of %d", len(found), len(paths))
	}
	return found, nil
}

// weightsBelow are the files that have weights: those of sources and results, and whatever lies in a cache.
func weightsBelow(dir string) (paths []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && isWeights(path) {
			paths = append(paths, path)
		}
		return err
	})
	return paths, err
}

func isWeights(path string) bool {
	return strings.HasSuffix(path, ".safetensors") || strings.Contains(path, "/blobs/")
}

// readNothing judges that a command reads no weights below a folder: none is read or mapped, and none is in the file cache afterwards.
func (b *bench) readNothing(cmd *exec.Cmd, dir string) error {
	seen, err := b.watch(cmd, dir)
	if err != nil {
		return err
	}
	fmt.Printf("  strace: %d files and folders opened, %s read in all\n", seen.opened(), size(seen.bytes()))
	weights := seen.of(isWeights)
	atMost("bytes of weights read or mapped", float64(weights.bytes()+weights.mapped()), 0, bytesOf)
	if seen.cached == nil {
		return nil
	}
	var n int64
	for _, bytes := range seen.cached {
		n += bytes
	}
	atMost(fmt.Sprintf("bytes of %d files of weights in the file cache afterwards", len(seen.cached)), float64(n), 0, bytesOf)
	return nil
}

// copyOfModel is a model that nobody else reads, in a folder.
func (b *bench) copyOfModel(dir string) (string, error) {
	to := filepath.Join(dir, "source")
	return to, os.CopyFS(to, os.DirFS(b.model))
}
