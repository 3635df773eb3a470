package hubtest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// stamp is how the Hub writes times.
const stamp = "2006-01-02T15:04:05.000Z"

// revision finds the commit that a request is about.
func (x *exchange) revision() (*commit, *reply) {
	rev := x.rev
	if rev == "" {
		rev = "main"
	}
	if c := x.repo.find(rev); c != nil {
		return c, nil
	}
	return nil, fail(http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+rev)
}

func (x *exchange) info() *reply {
	c, p := x.revision()
	if p != nil && (x.rev != "" || len(x.repo.refs) > 0) {
		return p
	}
	r := x.repo
	info := map[string]any{
		"_id": "0123456789abcdef01234567", "id": r.id, "modelId": r.id, "author": r.author, "private": r.private, "gated": false, "disabled": r.disabled,
		"downloads": 1234, "likes": 5, "tags": []string{}, "siblings": []any{}, "createdAt": "2023-11-14T22:13:20.000Z",
	}
	if r.gate != "" {
		info["gated"] = r.gate
	}
	if c != nil { // a repository without a commit has no sha
		info["sha"], info["lastModified"] = c.id, c.date.Format(stamp)
		info["siblings"] = siblings(c, x.r.URL.Query().Get("blobs") != "")
		if card := card(c); len(card) > 0 {
			info["cardData"] = card
			if license := card["license"]; license != "" {
				info["tags"] = []string{"license:" + license}
			}
		}
	}
	return x.gzipJSON(jsonReply(http.StatusOK, info))
}

func siblings(c *commit, blobs bool) []any {
	list := []any{}
	for _, f := range c.sorted() {
		one := map[string]any{"rfilename": f.path}
		if blobs {
			one["size"], one["blobId"] = f.size, f.sha1
			if f.sha256 != "" {
				one["lfs"] = map[string]any{"sha256": f.sha256, "size": f.size, "pointerSize": len(pointer(f.sha256, f.size))}
			}
		}
		list = append(list, one)
	}
	return list
}

// card reads the plain "key: value" lines in front of a README.md.
func card(c *commit) map[string]string {
	data, err := c.files["README.md"].bytes()
	front, ok := strings.CutPrefix(string(data), "---\n")
	if err != nil || !ok {
		return nil
	}
	front, _, _ = strings.Cut(front, "\n---")
	values := map[string]string{}
	for line := range strings.Lines(front) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if ok && !strings.HasPrefix(line, " ") {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	return values
}

// gzipJSON codes what the API says, for those who take it.
func (x *exchange) gzipJSON(p *reply) *reply {
	if wantsGzip(x.r) && x.r.Method == http.MethodGet {
		p.gzipped()
	}
	return p
}

func (x *exchange) refs() *reply {
	lists := map[string][]any{"branches": {}, "converts": {}, "tags": {}}
	if x.r.URL.Query().Get("include_prs") != "" {
		lists["pullRequests"] = []any{}
	}
	var names []string
	for ref := range x.repo.refs {
		names = append(names, ref)
	}
	slices.Sort(names)
	for _, ref := range names {
		for prefix, list := range map[string]string{"refs/heads/": "branches", "refs/tags/": "tags", "refs/pr/": "pullRequests"} {
			name, ok := strings.CutPrefix(ref, prefix)
			if _, wanted := lists[list]; ok && wanted {
				lists[list] = append(lists[list], map[string]string{"name": name, "ref": ref, "targetCommit": x.repo.refs[ref]})
			}
		}
	}
	return x.gzipJSON(jsonReply(http.StatusOK, lists))
}

func (x *exchange) commits() *reply {
	c, p := x.revision()
	if p != nil {
		return p
	}
	list := []any{}
	for ; c != nil; c = x.repo.commits[c.parent] {
		list = append(list, map[string]any{
			"id": c.id, "title": c.title, "message": "", "date": c.date.Format(stamp), "authors": []any{map[string]string{"user": x.repo.author}},
		})
	}
	return x.page(list, nil)
}

// page cuts a list into pages; the way to the next one is in the Link header alone. More, where it is not nil, says what comes after the end.
func (x *exchange) page(list []any, more func(at int) []any) *reply {
	query := x.r.URL.Query()
	at, err := strconv.Atoi(strings.TrimPrefix(query.Get("cursor"), "at-"))
	if err != nil {
		at = 0
	}
	size := x.hub.o.PageSize
	if n, err := strconv.Atoi(query.Get("limit")); err == nil && n > 0 {
		size = min(size, n)
	}
	at = max(at, 0)
	end := min(at+size, len(list))
	page := list[min(at, end):end]
	if more != nil && end == len(list) {
		page = append(page, more(max(at, end))...)
		end = max(at, end) + len(page)
	}
	p := jsonReply(http.StatusOK, page)
	if more != nil || end < len(list) {
		p.set("Link", "<"+x.at(query, end)+`>; rel="next"`)
	}
	return x.gzipJSON(p)
}

// at is the URL of the page that begins with an entry.
func (x *exchange) at(query url.Values, n int) string {
	query.Set("cursor", "at-"+strconv.Itoa(n))
	if x.quirks.endless {
		query.Set("endless", "1")
	}
	return x.hub.Endpoint() + x.r.URL.EscapedPath() + "?" + query.Encode()
}

func (x *exchange) pathsInfo() *reply {
	c, p := x.revision()
	if p != nil {
		return p
	}
	paths, err := x.paths()
	if err != nil {
		return fail(http.StatusBadRequest, "", "Invalid paths")
	}
	list := []any{}
	for _, e := range x.entries(c, "", true) {
		if slices.Contains(paths, e["path"].(string)) {
			list = append(list, e)
		}
	}
	return jsonReply(http.StatusOK, list)
}

// paths reads what is asked for, as a form or as JSON.
func (x *exchange) paths() ([]string, error) {
	if strings.Contains(x.r.Header.Get("Content-Type"), "json") {
		var asked struct{ Paths []string }
		err := json.Unmarshal(x.body, &asked)
		return asked.Paths, err
	}
	form, err := url.ParseQuery(string(x.body))
	return form["paths"], err
}
