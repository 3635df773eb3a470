package hub

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/mlxbuild/mlxbuild/internal/jsonx"
)

// Info is what the Hub says of a repository.
type Info struct {
	ID                string // other than asked: the repository was renamed
	Commit            string // of the revision that was asked for
	Private, Disabled bool
	Gated             string // "", "auto", "manual": how people get access
	Author            string
	Downloads         int64
	License           string
	Files             []string // paths of all files of Commit; nil when the answer names none
}

const maxInfo = 16 << 20

// Info asks for a repository at a revision: a branch, a tag, a commit, or "" for the default branch.
func (c *Client) Info(ctx context.Context, r Repo, revision string) (Info, error) {
	if err := c.ready(r); err != nil {
		return Info{}, err
	}
	path := "/api/" + r.Kind + "/" + r.ID
	if revision != "" {
		if err := checkRevision(revision); err != nil {
			return Info{}, err
		}
		path += "/revision/" + quote(revision, "")
	}
	u, err := c.address(path)
	if err != nil {
		return Info{}, err
	}
	about := subject{repo: r, revision: revision}
	var info Info
	_, err = c.json(ctx, u, about, maxInfo, func(v any) (why string) {
		info, why = readInfo(v)
		return why
	})
	if err != nil {
		return Info{}, err
	}
	return info, nil
}

func checkRevision(revision string) error {
	if len(revision) > 255 || strings.ContainsFunc(revision, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		return &Error{Class: Name, What: fmt.Sprintf("%q is no name of a revision", clean(revision)), Do: "give a branch, a tag or a commit"}
	}
	return nil
}

// readInfo takes what counts from the answer, or says why it cannot be right.
func readInfo(v any) (Info, string) {
	o, ok := v.(*jsonx.Object)
	if !ok {
		return Info{}, "it is no JSON object"
	}
	var i Info
	if i.ID, ok = o.String("id"); !ok || i.ID == "" {
		return Info{}, "it has no id"
	}
	if i.Commit, _ = o.String("sha"); !commitText().MatchString(i.Commit) {
		return Info{}, "it has no sha of a commit"
	}
	i.Private, _ = o.Bool("private")
	i.Disabled, _ = o.Bool("disabled")
	i.Gated, _ = o.String("gated")
	if yes, _ := o.Bool("gated"); yes {
		i.Gated = "auto"
	}
	i.Author, _ = o.String("author")
	i.Downloads, _ = o.Int("downloads")
	i.License = license(o)
	siblings, _ := o.Get("siblings")
	list, _ := siblings.([]any)
	for _, e := range list {
		if file, ok := e.(*jsonx.Object); ok {
			if name, ok := file.String("rfilename"); ok {
				i.Files = append(i.Files, name)
			}
		}
	}
	return i, ""
}

// license is that of the model card, where it is a text or a list of them, else that of the tags.
func license(o *jsonx.Object) string {
	if card, ok := o.Object("cardData"); ok {
		if text, ok := card.String("license"); ok {
			return text
		}
		if v, _ := card.Get("license"); len(texts(v)) > 0 {
			return strings.Join(texts(v), ", ")
		}
	}
	v, _ := o.Get("tags")
	for _, tag := range texts(v) {
		if name, ok := strings.CutPrefix(tag, "license:"); ok {
			return name
		}
	}
	return ""
}

func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// json asks for a document; read takes it, or says why it cannot be right: then it is asked for once more. The answer that is returned is closed: its headers are what is of use.
func (c *Client) json(ctx context.Context, u *url.URL, about subject, max int64, read func(v any) (why string)) (a *answer, err error) {
	err = c.try(ctx, func() error {
		a, err = c.send(ctx, request{url: u, about: about, json: true, quiet: c.settings.MetaTimeout})
		if err != nil {
			return err
		}
		defer a.body.Close()
		if a.status != http.StatusOK {
			return c.refusal(a, about)
		}
		if kind := a.header.Get("Content-Type"); !isJSON(kind) {
			return odd(a, about, "it is %s, not JSON", clean(kind))
		}
		data, err := readAll(a, about, max)
		if err != nil {
			return err
		}
		v, err := jsonx.Parse(data)
		if err != nil {
			return odd(a, about, "it is no JSON: %v", err)
		}
		if why := read(v); why != "" {
			return odd(a, about, "%s", why)
		}
		return nil
	})
	return a, err
}

// isJSON accepts what does not say what it is.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}
