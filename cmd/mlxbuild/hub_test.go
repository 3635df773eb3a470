package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
)

// scriptHub is the fake Hub of one script; nil until `hub start`.
type scriptHub struct{ *hubtest.Hub }

// hubCommand is `hub VERB ARGS...` in a script.
//
//	hub start                        starts one; the program is told of it, and of a Hugging Face home in the script's folder
//	hub commit ORG/NAME DIR [BRANCH] makes a commit of a folder (datasets/ORG/NAME for a data set)
//	hub put ORG/NAME FILE PATH       makes a commit that changes one file
//	hub token TEXT USER              makes a token known
//	hub gate|private|disable|delete ORG/NAME
//	hub admit ORG/NAME USER
//	hub rename ORG/NAME ORG/NEW
//	hub fault KIND [route=R] [path=P] [times=N] [skip=N] [at=N] [n=N]
//	hub clear                        ends all faults
//	hub reset                        forgets the requests so far
//	hub requests N [ROUTE]           so many requests came since (of a route)
//	hub connections N
//	hub notoken ROUTE                no request of the route carried a token
func hubCommand(ts *testscript.TestScript, neg bool, args []string) {
	h := ts.Value("hub").(*scriptHub)
	if args[0] == "start" {
		started, err := hubtest.Start(hubtest.Options{LFSOver: 200_000})
		ts.Check(err)
		h.Hub = started
		ts.Defer(started.Close)
		ts.Setenv("HF_ENDPOINT", started.Endpoint())
		return
	}
	if h.Hub == nil {
		ts.Fatalf("hub start comes first")
	}
	rest := args[1:]
	switch args[0] {
	case "commit", "put", "gate", "private", "disable", "delete", "admit", "rename":
		changeRepo(ts, repoOf(h, rest[0]), args[0], rest[1:])
	case "token":
		h.Token(rest[0], hubtest.Token{User: rest[1], Write: true})
	case "fault":
		h.Fault(faultOf(ts, rest))
	case "clear":
		h.ClearFaults()
	case "reset":
		h.ResetRequests()
	case "requests", "connections":
		countRequests(ts, h, args)
	case "notoken":
		for _, r := range h.Requests() {
			if r.Route == rest[0] && r.HasAuthorization {
				ts.Fatalf("%s %s carried a token", r.Method, r.Path)
			}
		}
	default:
		ts.Fatalf("hub %s?", args[0])
	}
}

func repoOf(h *scriptHub, id string) *hubtest.Repo {
	if name, ok := strings.CutPrefix(id, "datasets/"); ok {
		return h.Repo("datasets", name)
	}
	return h.Repo("models", id)
}

func changeRepo(ts *testscript.TestScript, r *hubtest.Repo, verb string, args []string) {
	switch verb {
	case "commit":
		branch := "main"
		if len(args) > 1 {
			branch = args[1]
		}
		commit, err := r.CommitDir(branch, ts.MkAbs(args[0]))
		ts.Check(err)
		ts.Setenv("COMMIT", commit)
	case "put":
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		ts.Check(err)
		ts.Setenv("COMMIT", r.Commit("main", map[string][]byte{args[1]: data}))
	case "gate":
		r.Gate("auto")
	case "private":
		r.Private(true)
	case "disable":
		r.Disabled(true)
	case "delete":
		r.Delete()
	case "admit":
		r.Admit(args...)
	case "rename":
		r.Rename(args[0])
	}
}

func faultOf(ts *testscript.TestScript, args []string) hubtest.Fault {
	f := hubtest.Fault{Kind: hubtest.Kind(args[0])}
	for _, a := range args[1:] {
		key, value, _ := strings.Cut(a, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if key != "route" && key != "path" && key != "to" {
			ts.Check(err)
		}
		switch key {
		case "route":
			f.Route = value
		case "path":
			f.Path = value
		case "to":
			f.To = value
		case "times":
			f.Times = int(n)
		case "skip":
			f.Skip = int(n)
		case "at":
			f.At = n
		case "n":
			f.N = n
		default:
			ts.Fatalf("fault %s?", a)
		}
	}
	return f
}

func countRequests(ts *testscript.TestScript, h *scriptHub, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	if args[0] == "connections" {
		if got := h.Connections(); got != want {
			ts.Fatalf("%d connections, want %d", got, want)
		}
		return
	}
	got, list := 0, ""
	for _, r := range h.Requests() {
		if len(args) < 3 || r.Route == args[2] {
			got++
			list += fmt.Sprintf("%s %s %s %d\n", r.Method, r.Route, r.Path, r.Status)
		}
	}
	if got != want {
		ts.Fatalf("%d requests, want %d:\n%s", got, want, list)
	}
}

// hubEnv keeps a script away from the Hub and the settings of whoever runs the tests.
func hubEnv(e *testscript.Env) {
	e.Values["hub"] = &scriptHub{}
	e.Setenv("HF_HOME", filepath.Join(e.WorkDir, ".hf"))
	e.Setenv("HF_ENDPOINT", "http://127.0.0.1:1")
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		e.Setenv(name, "")
	}
}
