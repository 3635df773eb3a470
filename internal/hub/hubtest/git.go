package hubtest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// content is what a file holds: in memory, or a file on disk that is read when it is asked for.
type content struct {
	data []byte
	path string
	size int64
}

// nothing closes nothing.
type nothing struct{}

func (nothing) Close() error { return nil }

func (c content) open() (io.ReaderAt, io.Closer, error) {
	if c.path == "" {
		return bytes.NewReader(c.data), nothing{}, nil
	}
	f, err := os.Open(c.path)
	return f, f, err
}

// bytes reads all of it.
func (c content) bytes() ([]byte, error) {
	if c.path == "" {
		return c.data, nil
	}
	return os.ReadFile(c.path)
}

// A file is one entry of a commit, as git and LFS see it.
type file struct {
	path   string
	sha1   string // git's blob id: of the content, or of the pointer to it
	sha256 string // "" for a plain git file
	content
}

// hashes computes the sha256 of a content, and git's id of it as a blob, in one pass.
func (c content) hashes() (gitID, sha string, err error) {
	r, closer, err := c.open()
	if err != nil {
		return "", "", err
	}
	defer closer.Close()
	one, two := sha1.New(), sha256.New()
	fmt.Fprintf(one, "blob %d\x00", c.size)
	n, err := io.Copy(io.MultiWriter(one, two), io.NewSectionReader(r, 0, c.size))
	if err == nil && n != c.size {
		err = fmt.Errorf("%s has %d bytes, not the %d that it had", c.path, n, c.size)
	}
	return hex.EncodeToString(one.Sum(nil)), hex.EncodeToString(two.Sum(nil)), err
}

// pointer is the text that git keeps in place of an LFS file.
func pointer(sha string, size int64) []byte {
	return fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", sha, size)
}

// object is git's id of something of a type.
func object(kind string, data []byte) string {
	sum := sha1.Sum(append(fmt.Appendf(nil, "%s %d\x00", kind, len(data)), data...))
	return hex.EncodeToString(sum[:])
}

// trees computes git's tree ids of all folders of some files, "" being the root.
func trees(files map[string]file) map[string]string {
	below := map[string]map[string]file{} // folder to what is in it; a folder in a folder has no path
	for p, f := range files {
		child, isFolder := f, false
		for {
			dir, name := split(p)
			if below[dir] == nil {
				below[dir] = map[string]file{}
			}
			if isFolder {
				child = file{}
			}
			below[dir][name] = child
			if dir == "" {
				break
			}
			p, isFolder = dir, true
		}
	}
	ids := map[string]string{}
	treeOf("", below, ids)
	return ids
}

// treeOf computes the id of one folder and those below it. Git sorts folders as if their names ended in a slash.
func treeOf(dir string, below map[string]map[string]file, ids map[string]string) string {
	type line struct{ key, text string }
	var lines []line
	for name, f := range below[dir] {
		mode, key, id := "100644", name, f.sha1
		if f.path == "" {
			mode, key, id = "40000", name+"/", treeOf(join(dir, name), below, ids)
		}
		raw, err := hex.DecodeString(id)
		if err != nil {
			panic(err) // all ids are made here
		}
		lines = append(lines, line{key, mode + " " + name + "\x00" + string(raw)})
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.key, b.key) })
	var text strings.Builder
	for _, l := range lines {
		text.WriteString(l.text)
	}
	ids[dir] = object("tree", []byte(text.String()))
	return ids[dir]
}

func split(p string) (dir, name string) {
	i := strings.LastIndexByte(p, '/')
	if i < 0 {
		return "", p
	}
	return p[:i], p[i+1:]
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
