package hubtest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// write makes the reply to what changes something, and to what the Hub does not know.
func (x *exchange) write() *reply {
	switch x.route {
	case "create":
		return x.create()
	case "delete", "move", "settings":
		return x.manage()
	case "branch", "tag":
		return x.name()
	case "preupload":
		return x.preupload()
	case "commit":
		return x.commit()
	case "validate-yaml":
		return jsonReply(http.StatusOK, map[string]any{"errors": []any{}, "warnings": []any{}})
	case "lfs-batch":
		return x.lfsBatch()
	case "lfs-verify":
		return x.lfsVerify()
	case "lfs-put", "lfs-part", "lfs-complete":
		return x.lfsReceive()
	}
	return fail(http.StatusNotFound, "", "Sorry, we can't find the page you are looking for.")
}

// decode reads a request's JSON.
func (x *exchange) decode(v any) *reply {
	if err := json.Unmarshal(x.body, v); err != nil {
		return fail(http.StatusBadRequest, "", "Invalid JSON: "+err.Error())
	}
	return nil
}

// created is what names a repository in requests of the API.
type created struct {
	Name, Organization, Type, Visibility string
	Private                              bool
	FromRepo, ToRepo                     string
}

func (c created) kind() string {
	if c.Type == "" {
		return "models"
	}
	return c.Type + "s"
}

func (c created) id(user string) string {
	if c.Organization != "" {
		user = c.Organization
	}
	if strings.Contains(c.Name, "/") {
		return c.Name
	}
	return user + "/" + c.Name
}

func (x *exchange) create() *reply {
	var asked created
	if p := x.decode(&asked); p != nil {
		return p
	}
	id := asked.id(x.token.User)
	owner, _ := split(id)
	if owner != x.token.User {
		return fail(http.StatusForbidden, "", "You don't have the rights to create a model under the namespace "+owner)
	}
	at := x.hub.Endpoint() + "/" + prefix(asked.kind()) + id
	if x.hub.repos[asked.kind()+"/"+id] != nil {
		p := jsonReply(http.StatusConflict, map[string]any{"error": "You already created this model repo", "url": at})
		p.set("X-Error-Message", "You already created this model repo")
		return p
	}
	r := x.hub.repoOf(asked.kind(), id)
	r.private = asked.Private || asked.Visibility == "private"
	attributes := []byte("*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs diff=lfs merge=lfs -text\n*.gguf filter=lfs diff=lfs merge=lfs -text\n")
	r.commit("refs/heads/main", "initial commit", map[string]*file{
		".gitattributes": x.hub.file(".gitattributes", content{data: attributes, size: int64(len(attributes))}),
	})
	return jsonReply(http.StatusOK, map[string]any{"url": at, "name": id, "id": "0123456789abcdef01234567"})
}

// manage deletes, renames and changes repositories.
func (x *exchange) manage() *reply {
	var asked created
	if p := x.decode(&asked); p != nil {
		return p
	}
	if x.route == "settings" {
		var s struct {
			Private *bool
			Gated   any
		}
		if p := x.decode(&s); p != nil {
			return p
		}
		if s.Private != nil {
			x.repo.private = *s.Private
		}
		if s.Gated != nil {
			x.repo.gate, _ = s.Gated.(string)
		}
		return jsonReply(http.StatusOK, map[string]any{"private": x.repo.private})
	}
	id := asked.id(x.token.User)
	if x.route == "move" {
		id = asked.FromRepo
	}
	r := x.hub.repos[asked.kind()+"/"+id]
	if r == nil {
		return x.noRepo()
	}
	if r.author != x.token.User {
		return fail(http.StatusForbidden, "", "You don't have the rights to do this")
	}
	if x.route == "move" {
		r.rename(asked.ToRepo)
	} else {
		delete(x.hub.repos, asked.kind()+"/"+id)
	}
	return jsonReply(http.StatusOK, map[string]any{})
}

// name makes and deletes branches and tags.
func (x *exchange) name() *reply {
	var asked struct{ StartingPoint, Tag string }
	if len(x.body) > 0 {
		if p := x.decode(&asked); p != nil {
			return p
		}
	}
	ref, from := "refs/heads/"+x.rev, orText(asked.StartingPoint, "main")
	if x.route == "tag" {
		ref, from = "refs/tags/"+orText(asked.Tag, x.rev), x.rev
	}
	if x.r.Method == http.MethodDelete {
		if x.repo.refs[ref] == "" {
			return fail(http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+x.rev)
		}
		delete(x.repo.refs, ref)
		return &reply{status: http.StatusOK}
	}
	c := x.repo.find(from)
	switch {
	case c == nil:
		return fail(http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+from)
	case x.repo.refs[ref] != "":
		return fail(http.StatusConflict, "", "Reference already exists")
	}
	x.repo.refs[ref] = c.id
	return jsonReply(http.StatusOK, map[string]any{})
}

// preupload says of each file whether it goes into git or to LFS.
func (x *exchange) preupload() *reply {
	var asked struct {
		Files []struct {
			Path string
			Size int64
		}
	}
	if p := x.decode(&asked); p != nil {
		return p
	}
	c, p := x.revision()
	if p != nil {
		return p
	}
	list := []any{}
	for _, f := range asked.Files {
		one := map[string]any{"path": f.Path, "uploadMode": "regular", "shouldIgnore": false, "oid": nil}
		if x.hub.isLFS(f.Path, f.Size) {
			one["uploadMode"] = "lfs"
		}
		if old, ok := c.files[f.Path]; ok {
			one["oid"] = orText(old.sha256, old.sha1)
		}
		list = append(list, one)
	}
	return jsonReply(http.StatusOK, map[string]any{"files": list, "commitOid": c.id})
}

// A step is one line of a commit.
type step struct {
	Key   string
	Value struct {
		Summary, Description, ParentCommit string
		Path, Content, Encoding, Algo, OID string
		Size                               int64
	}
}

// commit reads what is to be changed, line by line, and puts it on the branch, or on a new pull request.
func (x *exchange) commit() *reply {
	base, p := x.revision()
	if p != nil {
		return p
	}
	ref := head(orText(x.rev, "main"))
	changes, title := map[string]*file{}, ""
	lines := bufio.NewScanner(bytes.NewReader(x.body))
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var s step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fail(http.StatusBadRequest, "", "Invalid line: "+err.Error())
		}
		if s.Key == "header" {
			title = s.Value.Summary
			if parent := s.Value.ParentCommit; parent != "" && parent != base.id {
				return fail(http.StatusPreconditionFailed, "", "A commit has happened since. Please refresh and try again.")
			}
			continue
		}
		if p := x.change(base, s, changes); p != nil {
			return p
		}
	}
	if title == "" {
		return fail(http.StatusBadRequest, "", "A commit needs a summary")
	}
	answer := map[string]any{"success": true, "hookOutput": ""}
	at := x.hub.Endpoint() + "/" + prefix(x.kind) + x.repo.id
	if x.r.URL.Query().Get("create_pr") != "" {
		n := 1
		for x.repo.refs[fmt.Sprintf("refs/pr/%d", n)] != "" {
			n++
		}
		ref = fmt.Sprintf("refs/pr/%d", n)
		x.repo.refs[ref] = base.id
		answer["pullRequestUrl"] = fmt.Sprintf("%s/discussions/%d", at, n)
	}
	id := x.repo.commit(ref, title, changes)
	answer["commitOid"], answer["commitUrl"] = id, at+"/commit/"+id
	return jsonReply(http.StatusOK, answer)
}

// change adds one line of a commit to what changes.
func (x *exchange) change(base *commit, s step, changes map[string]*file) *reply {
	v := s.Value
	switch s.Key {
	case "file":
		data := []byte(v.Content)
		if v.Encoding == "base64" {
			var err error
			if data, err = base64.StdEncoding.DecodeString(v.Content); err != nil {
				return fail(http.StatusBadRequest, "", v.Path+": "+err.Error())
			}
		}
		changes[v.Path] = x.hub.file(v.Path, content{data: data, size: int64(len(data))})
	case "lfsFile":
		c, ok := x.hub.objects[v.OID]
		if !ok || v.Algo != "sha256" || v.Size != 0 && v.Size != c.size {
			return fail(http.StatusBadRequest, "", "LFS pointer of "+v.Path+" points to a file that does not exist")
		}
		changes[v.Path] = &file{path: v.Path, sha1: object("blob", pointer(v.OID, c.size)), sha256: v.OID, content: c}
	case "deletedFile":
		if _, ok := base.files[v.Path]; !ok {
			return fail(http.StatusBadRequest, "", v.Path+" does not exist")
		}
		changes[v.Path] = nil
	case "deletedFolder":
		for name := range base.files {
			if strings.HasPrefix(name, strings.TrimSuffix(v.Path, "/")+"/") {
				changes[name] = nil
			}
		}
	default:
		return fail(http.StatusBadRequest, "", "Unknown key "+s.Key)
	}
	return nil
}
