package hubtest

import (
	"net/http"
	"strings"
)

// Token is what the Hub knows of an access token.
type Token struct {
	User  string
	Write bool     // may create and change repositories
	Reads []string // ids of private repositories that it may read, beside those of its user
}

// Token makes a token known: text is what a client sends.
func (h *Hub) Token(text string, t Token) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens[text] = &t
}

// Revoke makes a token invalid.
func (h *Hub) Revoke(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tokens, text)
}

func bearer(r *http.Request) string {
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return text
}

// writes are the routes that change something.
var writes = map[string]bool{
	"preupload": true, "commit": true, "lfs-batch": true, "lfs-verify": true, "create": true, "delete": true, "move": true, "branch": true, "tag": true, "settings": true,
}

// admit finds out who asks and whether he may. It fills in token and repo, and returns nil where all is well.
func (x *exchange) admit() *reply {
	if text := bearer(x.r); text != "" && x.route != "cdn" {
		if x.token = x.hub.tokens[text]; x.token == nil {
			return fail(http.StatusUnauthorized, "", "Invalid credentials in Authorization header")
		}
	}
	if writes[x.route] && x.token == nil {
		return fail(http.StatusUnauthorized, "", "Invalid username or password.")
	}
	if writes[x.route] && !x.token.Write {
		return fail(http.StatusForbidden, "", "you must use a write token to do this")
	}
	if x.id == "" {
		return nil
	}
	key := x.kind + "/" + x.id
	if to := x.hub.moved[key]; to != "" && x.hub.repos[key] == nil {
		return x.redirectRenamed(to)
	}
	x.repo = x.hub.repos[key]
	switch {
	case x.repo == nil || x.repo.private && !x.mayRead():
		return x.noRepo()
	case x.repo.disabled:
		return fail(http.StatusForbidden, "", "Access to this resource is disabled.")
	case writes[x.route] && x.repo.author != "" && x.token.User != x.repo.author && !x.repo.admitted[x.token.User]:
		return fail(http.StatusForbidden, "", "You don't have the required permissions to push to "+x.id)
	}
	return nil
}

// mayRead: the repository's owner, those on its list, and tokens with the right.
func (x *exchange) mayRead() bool {
	if x.token == nil {
		return false
	}
	if x.token.User == x.repo.author || x.repo.admitted[x.token.User] {
		return true
	}
	for _, id := range x.token.Reads {
		if id == x.repo.id {
			return true
		}
	}
	return false
}

// noRepo does not tell what is missing from what is private. Over http clients need the code to understand the 401.
func (x *exchange) noRepo() *reply {
	if x.token == nil {
		return fail(http.StatusUnauthorized, "RepoNotFound", "Invalid username or password.")
	}
	return fail(http.StatusNotFound, "RepoNotFound", "Repository not found")
}

// gate refuses the files of a gated repository to those who are not on its list.
func (x *exchange) gate() *reply {
	url := x.hub.Endpoint() + "/" + prefix(x.kind) + x.repo.id
	name := strings.TrimSuffix(x.kind, "s")
	switch {
	case x.repo.gate == "" || x.token != nil && x.mayRead():
		return nil
	case x.token == nil:
		return fail(http.StatusUnauthorized, "GatedRepo",
			"Access to "+name+" "+x.repo.id+" is restricted. You must have access to it and be authenticated to access it. Please log in.")
	}
	return fail(http.StatusForbidden, "GatedRepo",
		"Access to "+name+" "+x.repo.id+" is restricted and you are not in the authorized list. Visit "+url+" to ask for access.")
}

// redirectRenamed sends the client, relatively, to the same thing under the new name.
func (x *exchange) redirectRenamed(to string) *reply {
	_, id, _ := strings.Cut(to, "/")
	at := strings.Replace(x.r.URL.RequestURI(), "/"+x.id, "/"+id, 1)
	return redirect(http.StatusTemporaryRedirect, at)
}

// prefix is what stands before an id in URLs that are not the API's.
func prefix(kind string) string {
	if kind == "models" {
		return ""
	}
	return kind + "/"
}

func (x *exchange) authCheck() *reply {
	if x.rev == "write" && (x.token == nil || !x.token.Write || x.token.User != x.repo.author) {
		return fail(http.StatusForbidden, "", "You don't have write access to this repository")
	}
	if p := x.gate(); p != nil {
		return p
	}
	return &reply{status: http.StatusOK}
}

func (x *exchange) whoami() *reply {
	if x.token == nil {
		return fail(http.StatusUnauthorized, "", "Invalid username or password.")
	}
	role := "read"
	if x.token.Write {
		role = "write"
	}
	return jsonReply(http.StatusOK, map[string]any{
		"type": "user", "id": "0123456789abcdef01234567", "name": x.token.User, "fullname": x.token.User, "isPro": false, "orgs": []any{},
		"auth": map[string]any{"type": "access_token", "accessToken": map[string]any{"displayName": "test", "role": role}},
	})
}
