package hubtest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A target is what a request is about. Route is the name that faults and the journal use for it.
type target struct {
	route    string
	kind, id string // of the repository
	rev      string
	file     string
}

// verbs are what can follow a repository's id in the API, with the route of each.
var verbs = map[string]string{
	"revision": "info", "tree": "tree", "paths-info": "paths-info", "refs": "refs", "commits": "commits", "auth-check": "auth-check",
	"preupload": "preupload", "commit": "commit", "branch": "branch", "tag": "tag", "settings": "settings",
}

// parse reads a request's path. What it does not know has the route "unknown".
func parse(r *http.Request) target {
	var parts []string
	for _, p := range strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/") {
		text, err := url.PathUnescape(p)
		if err != nil {
			return target{route: "unknown"}
		}
		parts = append(parts, text)
	}
	rest := parts[1:]
	switch parts[0] {
	case "api":
		return parseAPI(rest)
	case "cdn":
		return target{route: "cdn", file: r.URL.Query().Get("file")}
	case "lfs-put", "lfs-part", "lfs-complete":
		return target{route: parts[0]}
	}
	t := target{kind: "models"}
	if parts[0] == "datasets" {
		t.kind, parts = "datasets", rest
	}
	for i := 1; i <= 2 && i < len(parts); i++ {
		switch {
		case (parts[i] == "resolve" || parts[i] == "raw") && len(parts) >= i+3:
			t.route, t.id, t.rev, t.file = parts[i], strings.Join(parts[:i], "/"), parts[i+1], strings.Join(parts[i+2:], "/")
			return t
		case strings.HasSuffix(parts[i-1], ".git") && parts[i] == "info":
			t.id = strings.TrimSuffix(strings.Join(parts[:i], "/"), ".git")
			t.route = map[string]string{"info/lfs/objects/batch": "lfs-batch", "info/lfs/verify": "lfs-verify"}[strings.Join(parts[i:], "/")]
			return t
		}
	}
	return target{route: "unknown"}
}

// parseAPI reads what follows /api/.
func parseAPI(parts []string) target {
	switch strings.Join(parts, "/") {
	case "whoami-v2":
		return target{route: "whoami"}
	case "repos/create":
		return target{route: "create"}
	case "repos/delete":
		return target{route: "delete"}
	case "repos/move":
		return target{route: "move"}
	case "validate-yaml":
		return target{route: "validate-yaml"}
	}
	t := target{route: "unknown"}
	cached := parts[0] == "resolve-cache"
	if cached {
		parts = parts[1:]
	}
	if len(parts) < 2 || !slices.Contains([]string{"models", "datasets"}, parts[0]) {
		return t
	}
	t.kind, parts = parts[0], parts[1:]
	if cached { // id, commit, path
		n := 1
		if len(parts) > 1 && len(parts[1]) != 40 {
			n = 2
		}
		if len(parts) < n+2 {
			return t
		}
		t.route, t.id, t.rev, t.file = "resolve-cache", strings.Join(parts[:n], "/"), parts[n], strings.Join(parts[n+1:], "/")
		return t
	}
	n := len(parts)
	for i := 1; i <= 2 && i < len(parts); i++ {
		if verbs[parts[i]] != "" {
			n = i
			break
		}
	}
	t.id = strings.Join(parts[:min(n, len(parts))], "/")
	if n == len(parts) {
		if n <= 2 {
			t.route = "info"
		}
		return t
	}
	t.route = verbs[parts[n]]
	rest := parts[n+1:]
	if len(rest) > 0 {
		t.rev = rest[0]
	}
	if len(rest) > 1 {
		t.file = strings.Join(rest[1:], "/")
	}
	return t
}

// handle makes the reply to a request. The hub's lock is held.
func (x *exchange) handle() *reply {
	if p := x.admit(); p != nil {
		return p
	}
	switch x.route {
	case "info":
		return x.info()
	case "tree":
		return x.tree()
	case "paths-info":
		return x.pathsInfo()
	case "refs":
		return x.refs()
	case "commits":
		return x.commits()
	case "auth-check":
		return x.authCheck()
	case "whoami":
		return x.whoami()
	case "resolve":
		return x.resolve()
	case "resolve-cache":
		return x.resolveCache()
	case "raw":
		return x.raw()
	case "cdn":
		return x.cdn()
	}
	return x.write()
}
