package hub

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// cacheFixture is a cache with two files written by us.
func cacheFixture(t *testing.T) (s Settings, files map[string]string, of []File) {
	s.CacheDir = filepath.Join(t.TempDir(), "hub")
	files = map[string]string{}
	for name, data := range map[string][]byte{"config.json": []byte("{}"), "sub/model.safetensors": content(5000)} {
		local := filepath.Join(t.TempDir(), "local")
		if err := os.WriteFile(local, data, 0o644); err != nil {
			t.Fatal(err)
		}
		files[name] = local
		f := gitFile(name, data)
		if name != "config.json" {
			f = lfsFile(name, data)
		}
		of = append(of, f)
	}
	if err := s.WriteCache(repo, "refs/pr/1", commit, files, of); err != nil {
		t.Fatal(err)
	}
	return s, files, of
}

func TestWriteCache(t *testing.T) {
	s, files, of := cacheFixture(t)
	dir := filepath.Join(s.CacheDir, "models--org--name")
	if ref, err := os.ReadFile(filepath.Join(dir, "refs/refs/pr/1")); err != nil || string(ref) != commit {
		t.Errorf("%q, %v", ref, err)
	}
	for _, f := range of {
		link := filepath.Join(dir, "snapshots", commit, filepath.FromSlash(f.Path))
		to, err := os.Readlink(link)
		if want := strings.Repeat("../", 2+strings.Count(f.Path, "/")) + "blobs/" + f.oid(); err == nil && filepath.ToSlash(to) != want {
			t.Errorf("%s -> %s, want %s", f.Path, to, want)
		}
		name, ok := s.Cached(repo, "", f)
		if !ok || filepath.Base(name) != f.oid() {
			t.Errorf("Cached(%s) = %s, %v", f.Path, name, ok)
		}
		other := f
		other.Size++
		if _, ok := s.Cached(repo, "", other); ok {
			t.Errorf("%s: found with another size", f.Path)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "*.incomplete"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v", left)
	}

	// What is right stays, what is wrong is mended, whatever its size.
	blob := filepath.Join(dir, "blobs", of[0].oid())
	before, err := os.Lstat(blob)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "blobs", of[1].oid())
	if err := os.WriteFile(bad, make([]byte, of[1].Size), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteCache(repo, "main", commit, files, of); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Lstat(blob); err != nil || !os.SameFile(before, after) {
		t.Error("a right file was written again")
	}
	if in, err := os.Open(bad); err != nil || !proved(in, of[1]) {
		t.Error("a wrong file was left")
	} else {
		in.Close()
	}
}

// A link that leads out of the cache is not followed on writing, and not believed on reading.
func TestCacheLinks(t *testing.T) {
	s, files, of := cacheFixture(t)
	outside := t.TempDir()
	snapshot := filepath.Join(s.CacheDir, "models--org--name", "snapshots", commit)
	if err := os.RemoveAll(snapshot); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, snapshot); err != nil {
		oracle.Missing(t, "no links here: "+err.Error()) // there is nothing to follow then
	}
	if err := s.WriteCache(repo, "main", commit, files, of); err == nil {
		t.Error("written through a link")
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("written outside: %v", left)
	}
	blob := filepath.Join(s.CacheDir, "models--org--name", "blobs", of[0].oid())
	if err := os.Rename(blob, filepath.Join(outside, "blob")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "blob"), blob); err != nil {
		t.Fatal(err)
	}
	if name, ok := s.Cached(repo, "", of[0]); ok {
		t.Errorf("believed: %s", name)
	}
}

// On systems without links the files lie in snapshots.
func TestCachedWithoutLinks(t *testing.T) {
	s := Settings{CacheDir: t.TempDir()}
	data := []byte("hello")
	at := filepath.Join(s.CacheDir, "datasets--name", "snapshots", commit, "a", "b.txt")
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Cached(Repo{"datasets", "name"}, "", gitFile("a/b.txt", data)); !ok {
		t.Error("not found")
	}
	if _, ok := s.Cached(Repo{"datasets", "name"}, "", gitFile("../"+commit+"/a/b.txt", data)); ok {
		t.Error("found by a path that leaves its folder")
	}
}

// People move a repository to another disk and leave a link: its files are found at any depth, by links or without. A snapshot alone that leads elsewhere is not believed.
func TestCachedOnAnotherDisk(t *testing.T) {
	for _, linked := range []bool{true, false} {
		s, disk := Settings{CacheDir: t.TempDir()}, t.TempDir()
		if err := os.Symlink(disk, s.folder(repo)); err != nil {
			oracle.Missing(t, "no links here: "+err.Error())
		}
		for _, name := range []string{"model.bin", "a/model.bin", "a/b/c/model.bin"} {
			data := []byte(name)
			at := filepath.Join(disk, "snapshots", commit, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			file := at
			if linked { // to a blob of a name that we do not know
				file = filepath.Join(disk, "blobs", strings.ReplaceAll(name, "/", "-"))
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(file, at); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, ok := s.Cached(repo, commit, gitFile(name, data)); !ok {
				t.Errorf("links %v: %s is not found", linked, name)
			}
		}
	}
	s, outside := Settings{CacheDir: t.TempDir()}, t.TempDir()
	snapshots := filepath.Join(s.folder(repo), "snapshots")
	for _, dir := range []string{snapshots, filepath.Join(outside, "a")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "a", "model.bin"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(snapshots, commit)); err != nil {
		t.Fatal(err)
	}
	if name, ok := s.Cached(repo, commit, gitFile("a/model.bin", []byte("x"))); ok {
		t.Errorf("believed: %s", name)
	}
}

// huggingface_hub finds what we wrote, and we find what it knows, without a network.
func TestCacheAgainstPython(t *testing.T) {
	s, _, of := cacheFixture(t)
	out := oracle.Run(t, `
import json, os, sys
from huggingface_hub import hf_hub_download, snapshot_download, scan_cache_dir
cache = sys.argv[1]
snap = snapshot_download("org/name", revision="refs/pr/1", cache_dir=cache, local_files_only=True)
names = sorted(os.path.relpath(os.path.join(d, f), snap) for d, _, fs in os.walk(snap) for f in fs)
one = hf_hub_download("org/name", "sub/model.safetensors", revision=sys.argv[2], cache_dir=cache, local_files_only=True)
scan = scan_cache_dir(cache)
print(json.dumps([names, os.path.getsize(one), len(scan.repos), [str(w) for w in scan.warnings], scan.size_on_disk]))`, s.CacheDir, commit)
	var got []any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal([]any{[]string{"config.json", "sub/model.safetensors"}, 5000, 1, []string{}, of[0].Size + of[1].Size})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(got); err != nil || string(text) != string(want) {
		t.Errorf("%s, want %s", text, want)
	}
}
