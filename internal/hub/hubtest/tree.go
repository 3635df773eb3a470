package hubtest

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
)

// tree lists a folder, or all below it, in pages.
func (x *exchange) tree() *reply {
	c, p := x.revision()
	if p != nil {
		return p
	}
	if _, ok := c.trees[x.file]; !ok {
		p := fail(http.StatusNotFound, "EntryNotFound", x.file+` does not exist on "`+x.rev+`"`)
		p.set("X-Repo-Commit", c.id)
		return p
	}
	recursive := x.r.URL.Query().Get("recursive")
	list := []any{}
	for _, e := range x.entries(c, x.file, recursive == "true" || recursive == "True" || recursive == "1") {
		list = append(list, e)
	}
	for _, e := range x.quirks.entries {
		list = append([]any{e}, list...)
	}
	var more func(int) []any
	if x.quirks.endless || x.r.URL.Query().Get("endless") != "" {
		more = endless
	}
	return x.page(list, more)
}

// endless is a page of a folder that has a thousand files more whenever it is asked for the next, as many as the real Hub has on a page.
func endless(n int) (page []any) {
	for i := range 1000 {
		page = append(page, map[string]any{"type": "file", "oid": object("blob", nil), "size": 0, "path": fmt.Sprintf("endless/%09d.txt", n+i)})
	}
	return page
}

// entries are the files and folders of a folder, in the order of their paths.
func (x *exchange) entries(c *commit, dir string, recursive bool) []map[string]any {
	var list []map[string]any
	for folder, id := range c.trees {
		if folder != "" && below(folder, dir, recursive) {
			list = append(list, map[string]any{"type": "directory", "oid": id, "size": 0, "path": folder})
		}
	}
	for _, f := range c.files {
		if below(f.path, dir, recursive) {
			list = append(list, x.entry1(f))
		}
	}
	slices.SortFunc(list, func(a, b map[string]any) int { return strings.Compare(a["path"].(string), b["path"].(string)) })
	return list
}

// entry1 is one file as a tree lists it.
func (x *exchange) entry1(f file) map[string]any {
	size := f.size
	if d, ok := x.quirks.size(f.path); ok {
		size = d
	}
	e := map[string]any{"type": "file", "oid": f.sha1, "size": size, "path": f.path}
	if f.sha256 != "" {
		e["lfs"] = map[string]any{"oid": f.sha256, "size": size, "pointerSize": len(pointer(f.sha256, f.size))}
		if x.hub.o.Xet {
			e["xetHash"] = f.xetHash()
		}
		if x.quirks.redacted {
			e["xetHash"] = strings.Repeat("*", 64)
		}
	}
	return e
}

// xetHash stands for the hash that the Hub's other protocol knows a large file by. Nothing here speaks it.
func (f file) xetHash() string { return object("xet", []byte(f.sha256)) + f.sha256[:24] }

func below(name, dir string, recursive bool) bool {
	if dir != "" && !strings.HasPrefix(name, dir+"/") {
		return false
	}
	return recursive || path.Dir(name) == path.Clean("./"+dir)
}
