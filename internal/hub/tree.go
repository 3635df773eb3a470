package hub

import (
	"context"
	"fmt"
	"net/url"

	"github.com/mlxbuild/mlxbuild/internal/jsonx"
)

// Limits of a tree. The Hub advises less than 100,000 files and gives 1,000 entries a page.
const (
	maxEntries = 100_000
	maxPages   = 20_000
	maxPage    = 16 << 20
)

// Files lists all files of a repository at a commit. A listing that repeats itself, does not end or says nonsense is an error. Names are as the Hub says them: see CheckPath.
func (c *Client) Files(ctx context.Context, r Repo, commit string) ([]File, error) {
	if err := c.ready(r); err != nil {
		return nil, err
	}
	if err := checkCommit(commit); err != nil {
		return nil, err
	}
	at, err := c.address("/api/" + r.Kind + "/" + r.ID + "/tree/" + quote(commit, "") + "?recursive=true&expand=false")
	if err != nil {
		return nil, err
	}
	t := tree{about: subject{repo: r, revision: commit}, pages: map[string]bool{}, paths: map[string]bool{}}
	for at != nil {
		if at, err = c.page(ctx, &t, at); err != nil {
			return nil, err
		}
	}
	return t.files, nil
}

func checkCommit(commit string) error {
	if !commitText().MatchString(commit) {
		return &Error{Class: Name, What: fmt.Sprintf("%q is no commit: it has not 40 hexadecimal digits", clean(commit)), Do: "ask for the commit of a branch or tag first"}
	}
	return nil
}

// tree is a listing in the making.
type tree struct {
	about subject
	pages map[string]bool
	paths map[string]bool // folders too
	files []File
}

// page reads one page and returns the address of the next, nil after the last.
func (c *Client) page(ctx context.Context, t *tree, at *url.URL) (*url.URL, error) {
	if t.pages[at.String()] {
		return nil, &Error{Class: Protocol, What: fmt.Sprintf("the listing of %s leads in a circle", t.about), Do: endpointHint}
	}
	t.pages[at.String()] = true
	var entries []entry
	a, err := c.json(ctx, at, t.about, maxPage, func(v any) (why string) {
		entries, why = readPage(v)
		return why
	})
	if err != nil {
		return nil, err
	}
	if why := t.add(entries); why != "" {
		return nil, odd(a, t.about, "%s", why)
	}
	link, ok := nextLink(a.header.Values("Link"))
	if !ok {
		return nil, nil
	}
	if len(t.pages) >= maxPages {
		return nil, odd(a, t.about, "its listing has more than %d pages", maxPages)
	}
	next, err := a.url.Parse(link)
	if err != nil || next.User != nil || originOf(next) != c.origin {
		return nil, odd(a, t.about, "the next page of its listing is not at %s", c.settings.Endpoint)
	}
	next.Fragment, next.RawFragment = "", ""
	return next, nil
}

// entry of a listing: a file, or a folder, which is a name only.
type entry struct {
	path string
	file *File
}

// readPage takes the entries of a page, or says why they cannot be right.
func readPage(v any) (entries []entry, why string) {
	list, ok := v.([]any)
	if !ok {
		return nil, "its listing is no JSON array"
	}
	for _, e := range list {
		o, ok := e.(*jsonx.Object)
		if !ok {
			return nil, "an entry of its listing is no object"
		}
		path, ok := o.String("path")
		if !ok || path == "" {
			return nil, "an entry of its listing has no path"
		}
		switch kind, _ := o.String("type"); kind {
		case "directory", "unknown": // unknown: a git submodule, which has no content here
			entries = append(entries, entry{path: path})
		case "file":
			f, why := readFile(o, path)
			if why != "" {
				return nil, why
			}
			entries = append(entries, entry{path, &f})
		default:
			return nil, fmt.Sprintf("%q is of the type %q, which is not known", clean(path), clean(kind))
		}
	}
	return entries, ""
}

// add takes the entries of a page into the listing, or says why it cannot be right with them.
func (t *tree) add(entries []entry) (why string) {
	if len(t.paths)+len(entries) > maxEntries {
		return fmt.Sprintf("its listing has more than %d entries", maxEntries)
	}
	for _, e := range entries {
		if t.paths[e.path] {
			return fmt.Sprintf("its listing has %q twice", clean(e.path))
		}
		t.paths[e.path] = true
		if e.file != nil {
			t.files = append(t.files, *e.file)
		}
	}
	return ""
}

func readFile(o *jsonx.Object, path string) (File, string) {
	wrong := func(what string) (File, string) {
		return File{}, fmt.Sprintf("%q has no right %s in its listing", clean(path), what)
	}
	f := File{Path: path}
	var ok bool
	if f.Size, ok = o.Int("size"); !ok || f.Size < 0 || f.Size > maxFile {
		return wrong("size")
	}
	if f.GitSHA1, _ = o.String("oid"); !commitText().MatchString(f.GitSHA1) {
		return wrong("oid")
	}
	v, there := o.Get("lfs")
	if !there || v == nil {
		return f, ""
	}
	lfs, ok := v.(*jsonx.Object)
	if !ok {
		return wrong("lfs")
	}
	if f.SHA256, _ = lfs.String("oid"); !sha256Text().MatchString(f.SHA256) {
		return wrong("lfs.oid")
	}
	if size, ok := lfs.Int("size"); ok && size != f.Size {
		return wrong("lfs.size")
	}
	return f, ""
}
