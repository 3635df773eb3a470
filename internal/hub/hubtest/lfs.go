package hubtest

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// lfsObject is how LFS names an object.
type lfsObject struct {
	OID  string `json:"oid"`
	Size int64  `json:"size"`
}

// lfsBatch says where to put objects: what is there already needs nothing.
func (x *exchange) lfsBatch() *reply {
	var asked struct {
		Operation string
		Objects   []lfsObject
		HashAlgo  string `json:"hash_algo"` // "sha256" or "sha_256": clients differ
	}
	if p := x.decode(&asked); p != nil {
		return p
	}
	if algo := strings.ReplaceAll(asked.HashAlgo, "_", ""); asked.Operation != "upload" || algo != "" && algo != "sha256" {
		return fail(http.StatusUnprocessableEntity, "", "Only uploads of objects known by their sha256 are served")
	}
	list, transfer := []any{}, "basic"
	for _, o := range asked.Objects {
		one := map[string]any{"oid": o.OID, "size": o.Size, "authenticated": true}
		if _, there := x.hub.objects[o.OID]; !there {
			actions := map[string]any{"upload": map[string]any{"href": x.hub.uploadURL("lfs-put", o.OID, 0)}}
			if o.Size > x.hub.o.MultipartOver {
				actions, transfer = x.multipart(o), "multipart"
			}
			actions["verify"] = map[string]any{"href": x.hub.Endpoint() + "/" + prefix(x.kind) + x.repo.id + ".git/info/lfs/verify"}
			one["actions"] = actions
		}
		list = append(list, one)
	}
	p := jsonReply(http.StatusOK, map[string]any{"transfer": transfer, "objects": list})
	p.set("Content-Type", "application/vnd.git-lfs+json")
	return p
}

// multipart names a URL for each part and one that puts them together.
func (x *exchange) multipart(o lfsObject) map[string]any {
	size := x.hub.o.MultipartOver
	header := map[string]string{"chunk_size": strconv.FormatInt(size, 10)}
	for n := 1; int64(n-1)*size < o.Size; n++ {
		header[fmt.Sprintf("%05d", n)] = x.hub.uploadURL("lfs-part", o.OID, n)
	}
	at := strings.Replace(x.hub.uploadURL("lfs-complete", o.OID, 0), x.hub.CDN(), x.hub.Endpoint(), 1)
	return map[string]any{"upload": map[string]any{"href": at, "header": header}}
}

// uploadURL is a signed URL at the CDN that takes an object or a part of it.
func (h *Hub) uploadURL(route, oid string, part int) string {
	return fmt.Sprintf("%s/%s/%s?part=%d&Signature=%s", h.CDN(), route, oid, part, h.signature(route, oid, strconv.Itoa(part)))
}

// lfsReceive takes an object, a part of one, or the word that all parts are there.
func (x *exchange) lfsReceive() *reply {
	oid, part := path.Base(x.r.URL.Path), x.r.URL.Query().Get("part")
	if x.r.URL.Query().Get("Signature") != x.hub.signature(x.route, oid, part) {
		return expired()
	}
	n, err := strconv.Atoi(part)
	if err != nil {
		return fail(http.StatusBadRequest, "", "No part")
	}
	switch x.route {
	case "lfs-put":
		return x.store(oid, x.body)
	case "lfs-part":
		if x.hub.parts[oid] == nil {
			x.hub.parts[oid] = map[int][]byte{}
		}
		x.hub.parts[oid][n] = x.body
		p := &reply{status: http.StatusOK}
		p.set("ETag", tag(x.body))
		return p
	}
	return x.complete(oid)
}

// tag is what S3 calls a part.
func tag(data []byte) string {
	sum := md5.Sum(data)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// complete puts the parts of an object together, in the order that the client tells.
func (x *exchange) complete(oid string) *reply {
	var asked struct {
		Parts []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := json.Unmarshal(x.body, &asked); err != nil {
		return fail(http.StatusBadRequest, "", err.Error())
	}
	var whole []byte
	for i, p := range asked.Parts {
		data, ok := x.hub.parts[oid][p.PartNumber]
		if !ok || p.PartNumber != i+1 || strings.Trim(p.ETag, `"`) != strings.Trim(tag(data), `"`) {
			return fail(http.StatusBadRequest, "", fmt.Sprintf("Part %d is not what was uploaded", p.PartNumber))
		}
		whole = append(whole, data...)
	}
	delete(x.hub.parts, oid)
	return x.store(oid, whole)
}

// store keeps an object if it is what its name says.
func (x *exchange) store(oid string, data []byte) *reply {
	sum := sha256.Sum256(data)
	if hex.EncodeToString(sum[:]) != oid {
		return fail(http.StatusBadRequest, "", "The object is not what its oid says")
	}
	x.hub.objects[oid] = content{data: data, size: int64(len(data))}
	return &reply{status: http.StatusOK}
}

func (x *exchange) lfsVerify() *reply {
	var o lfsObject
	if p := x.decode(&o); p != nil {
		return p
	}
	if c, ok := x.hub.objects[o.OID]; !ok || c.size != o.Size {
		return fail(http.StatusNotFound, "", "Object not found")
	}
	return jsonReply(http.StatusOK, map[string]any{"success": true})
}
