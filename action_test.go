package mlxbuild_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// action is action.yml, as far as it is looked at.
type action struct {
	Inputs map[string]struct {
		Description string
		Default     *string
	}
	Outputs map[string]struct{ Description, Value string }
	Runs    struct {
		Using string
		Steps []actionStep
	}
}

type actionStep struct {
	Name, ID, If, Uses, Shell, Run string
	With, Env                      map[string]string
}

func readAction(t *testing.T) (a action, text string) {
	t.Helper()
	data, err := os.ReadFile("action.yml")
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a, string(data)
}

// The action says what it takes and gives, pins what it uses, and no text of its users is part of a script.
func TestActionFile(t *testing.T) {
	a, text := readAction(t)
	if a.Runs.Using != "composite" || len(a.Runs.Steps) < 8 {
		t.Fatalf("it is %s with %d steps", a.Runs.Using, len(a.Runs.Steps))
	}
	docs, err := os.ReadFile("docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range a.Inputs {
		if in.Description == "" || in.Default == nil {
			t.Errorf("the input %s has no description or default", name)
		}
		if !strings.Contains(text, "inputs."+name) {
			t.Errorf("the input %s is used nowhere", name)
		}
		if !strings.Contains(string(docs), strings.ReplaceAll("| `"+name+"` | "+defaultOf(*in.Default)+" |", "|  |", "| |")) {
			t.Errorf("docs/ci.md has no row `%s` with the default %s", name, defaultOf(*in.Default))
		}
	}
	for name, out := range a.Outputs {
		if out.Description == "" || out.Value == "" {
			t.Errorf("the output %s has no description or value", name)
		}
		if !strings.Contains(string(docs), "| `"+name+"` |") {
			t.Errorf("docs/ci.md does not name the output %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`inputs\.([a-z-]+)`).FindAllStringSubmatch(text, -1) {
		if _, ok := a.Inputs[m[1]]; !ok {
			t.Errorf("%s is no input", m[0])
		}
	}
	for _, s := range a.Runs.Steps {
		switch {
		case s.Name == "" || (s.Run == "") == (s.Uses == ""):
			t.Errorf("step %q is neither a script nor an action, or has no name", s.Name)
		case s.Run != "" && s.Shell != "bash":
			t.Errorf("step %s: shell %q", s.Name, s.Shell)
		case strings.Contains(s.Run, "${{"):
			t.Errorf("step %s: an expression in a script is a way in for strangers; pass it by env", s.Name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)uses: (.*)$`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`^actions/[a-z/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`).MatchString(m[1]) {
			t.Errorf("%s is not pinned by a commit, with the version behind it", m[1])
		}
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(mod))[1]
	if got := a.Runs.Steps[0].With["go-version"]; got != version+".x" {
		t.Errorf("it installs Go %s; go.mod says %s", got, version)
	}
}

func defaultOf(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

const ciRecipe = `version: 1
models: {tiny: {source: "hf:org/tiny", revision: main}}
quantizations: {bf16: {quantize: false}, q4: {bits: 4}}
prompts: {p: [Once upon a time]}
generate: {text: {targets: tiny/q4, prompts: p, max_tokens: 4}}
validate: {cost: {kind: fidelity, targets: [tiny/q4], prompts: p, max_tokens: 4, expect: [{for: {}, kld_mean: {max: 0.5}}]}}
`

// ciCheckout makes a checkout with a recipe in ml/, locked by `mlxbuild lock`.
func ciCheckout(t *testing.T, bin string, hub *hubtest.Hub) string {
	t.Helper()
	if _, err := hub.Repo("models", "org/tiny").CommitDir("main", oracle.TinyStories(t)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, dir, "ml/mlxbuild.yaml", ciRecipe)
	cmd := exec.Command(filepath.Join(bin, "mlxbuild"), "lock")
	cmd.Dir = filepath.Join(dir, "ml")
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+hub.Endpoint(), "MLXBUILD_CACHE="+t.TempDir(), "HF_TOKEN=", "HF_HUB_OFFLINE=", "GITHUB_ACTIONS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The scripts of the action are run as GitHub runs them, against a Hub of our own.
func TestAction(t *testing.T) {
	bin := program(t)
	hub := hubtest.New(t, hubtest.Options{LFSOver: 200_000})
	files := ciCheckout(t, bin, hub)
	base := newJob(t, bin, hub)
	base.inputs["working-directory"] = "ml"

	// The first run fetches, builds, keeps the cache and hands over what it built.
	first := base.on(files).do()
	first.wants("0", "false", false)
	first.says(`^fetched    tiny  `)
	first.says(`^converted  tiny/q4  `)
	first.shows(`^### mlxbuild: 6 made in `)
	first.shows(`^\| convert tiny/q4 \| done \| new \|`)
	first.shows(`^### cost$`)
	if len(first.saved) != 1 || !regexp.MustCompile(`^mlxbuild-Linux-X64-[0-9a-f]{40}-2-1$`).MatchString(first.saved[0]) {
		t.Errorf("saved %v", first.saved)
	}
	if !slices.Equal(first.artifact, []string{"ml/build"}) || first.output("results") != "ml/build/results.jsonl" {
		t.Errorf("uploaded %v, results %q", first.artifact, first.output("results"))
	}
	if _, err := os.Stat(filepath.Join(first.workspace, first.output("results"))); err != nil {
		t.Error(err)
	}

	// Another machine with that cache makes nothing, asks the Hub nothing, keeps nothing, and hands over the same bytes.
	hub.ResetRequests()
	second := base.on(files)
	second.store, second.inputs["offline"] = first.store, "true"
	second.do().wants("0", "true", false)
	second.says(`^2 taken from the cache, 4 up to date in `)
	if n := len(hub.Requests()); n != 0 || len(second.saved) != 0 {
		t.Errorf("%d requests, saved %v", n, second.saved)
	}
	for _, name := range []string{"model.safetensors", "config.json", "mlxbuild.json"} {
		a, err := os.ReadFile(filepath.Join(first.workspace, "ml/build/tiny/q4", name))
		b, err2 := os.ReadFile(filepath.Join(second.workspace, "ml/build/tiny/q4", name))
		if err != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is not the same: %v %v", name, err, err2)
		}
	}

	// A change makes what it touches, from a cache of another key.
	writeFile(t, files, "ml/mlxbuild.yaml", strings.Replace(ciRecipe, "bits: 4}}", "bits: 4}, q8: {bits: 8}}", 1))
	third := base.on(files)
	third.store, third.inputs["selectors"], third.inputs["cache-size"] = first.store, "tiny/q8\ntiny/q4", "1GiB"
	third.github["event_name"] = "pull_request"
	third.github["ref"] = "refs/pull/1/merge"
	third.do().wants("0", "false", false)
	third.shows(`^### mlxbuild: 1 made, 1 taken from the cache, 4 up to date in `)
	third.says(`removed 0 blobs`)
	if n := len(hub.Requests()); n != 0 || len(third.saved) != 0 {
		t.Errorf("%d requests, saved %v", n, third.saved)
	}
	writeFile(t, files, "ml/mlxbuild.yaml", ciRecipe)

	// A lock that lacks a source: exit code 7, the recipe's line, the difference on the page.
	writeFile(t, files, "ml/mlxbuild.yaml", strings.Replace(ciRecipe, "models: {", "models: {more: \"hf:org/more\", ", 1))
	stale := base.on(files).do()
	stale.wants("7", "false", true)
	stale.says(`^::error file=ml/mlxbuild.yaml,line=2,col=16::hf:org/more is not in mlxbuild.lock%0Ahint: run .mlxbuild lock.`)
	stale.shows("^```diff\n\\+mlxbuild.lock: model hf:org/more \\(mlxbuild.yaml:2:16\\)$")
	if len(stale.saved) != 0 {
		t.Errorf("saved %v", stale.saved)
	}

	// A recipe with a mistake: its line, and no build.
	writeFile(t, files, "ml/mlxbuild.yaml", strings.Replace(ciRecipe, "bits: 4", "bist: 4", 1))
	broken := base.on(files).do()
	broken.wants("3", "false", true)
	broken.says(`^::error file=ml/mlxbuild.yaml,line=3,col=\d+::unknown key bist in quantizations.q4%0Ahint: did you mean bits\?`)
	if !slices.Contains(broken.skipped, "Build") || len(broken.artifact) != 0 {
		t.Errorf("skipped %v, uploaded %v", broken.skipped, broken.artifact)
	}

	// A missed expectation: exit code 4; what was built is kept and handed over, so that one can look.
	writeFile(t, files, "ml/mlxbuild.yaml", strings.Replace(ciRecipe, "max: 0.5", "max: 1e-9", 1))
	missed := base.on(files)
	missed.store = map[string]string{}
	missed.do()
	missed.wants("4", "false", true)
	missed.says(`^::error file=ml/mlxbuild.yaml,line=6,col=\d+::cost tiny/q4: kld_mean is `)
	missed.shows(`^- \*\*failed\*\* .tiny/q4.: kld_mean is `)
	if len(missed.saved) != 1 || len(missed.artifact) != 1 {
		t.Errorf("saved %v, uploaded %v", missed.saved, missed.artifact)
	}
}

// Only runs of what is on the default branch may write the cache that later runs believe.
func TestActionCacheWriters(t *testing.T) {
	a, _ := readAction(t)
	i := slices.IndexFunc(a.Runs.Steps, func(s actionStep) bool { return s.Name == "Save the cache" })
	for _, c := range []struct {
		event, ref, branch string
		inputs             map[string]string
		want               bool
	}{
		{"push", "refs/heads/main", "main", nil, true},
		{"push", "refs/heads/trunk", "trunk", nil, true},
		{"workflow_dispatch", "refs/heads/main", "main", nil, true},
		{"schedule", "refs/heads/main", "", nil, true}, // its event names no repository, and it runs only there
		{"push", "refs/heads/feature", "main", nil, false},
		{"push", "refs/tags/main", "main", nil, false},
		{"push", "refs/heads/main", "main", map[string]string{"save-cache": "false"}, false},
		{"push", "refs/heads/main", "main", map[string]string{"cache": "false"}, false},
		{"pull_request", "refs/pull/1/merge", "main", nil, false},
		{"pull_request_target", "refs/heads/main", "main", nil, false}, // runs in the name of main, perhaps with a stranger's files
		{"workflow_run", "refs/heads/main", "main", nil, false},
		{"issue_comment", "refs/heads/main", "main", nil, false},
		{"merge_group", "refs/heads/gh-readonly-queue/main/pr-1", "main", nil, false},
	} {
		j := &job{t: t, action: a, inputs: c.inputs, github: map[string]string{"event_name": c.event, "ref": c.ref, "event.repository.default_branch": c.branch},
			outputs: map[string]map[string]string{"build": {"made": "3", "exit-code": "0"}}}
		if got := truth(j.eval(a.Runs.Steps[i].If)); got != c.want {
			t.Errorf("%s on %s with %v: saved is %v", c.event, c.ref, c.inputs, got)
		}
		j.outputs["build"]["made"] = "0"
		if truth(j.eval(a.Runs.Steps[i].If)) {
			t.Errorf("%s on %s: saved though nothing was made", c.event, c.ref)
		}
	}
}

// A token gets into the build and nowhere else; what inputs say is never run.
func TestActionKeepsSecrets(t *testing.T) {
	bin := program(t)
	hub := hubtest.New(t, hubtest.Options{LFSOver: 200_000})
	files := ciCheckout(t, bin, hub)
	const canary = "hf_canary_of_the_action"
	hub.Token(canary, hubtest.Token{User: "member"})
	gated := hub.Repo("models", "org/tiny")
	gated.Gate("auto")
	gated.Admit("member")
	j := newJob(t, bin, hub)
	j.inputs["working-directory"] = "ml"
	without := j.on(files).do()
	without.wants("3", "false", true)
	without.says(`org/tiny is gated.*%0Ahint: accept the licence at `)

	j.inputs["hf-token"] = canary
	with := j.on(files).do()
	with.wants("0", "false", false)
	log := with.log.String()
	if strings.Count(log, canary) != 1 || !strings.Contains(log, "::add-mask::"+canary+"\n") {
		t.Errorf("the token is in the log beyond its mask:\n%s", log)
	}
	if strings.Contains(fmt.Sprint(with.env, with.outputs, with.summary), canary) {
		t.Error("the token is in an output, the page or the environment of later steps")
	}
	for _, dir := range []string{with.workspace, with.env["HOME"], with.env["RUNNER_TEMP"]} {
		if out, err := exec.Command("grep", "-rl", canary, dir).CombinedOutput(); err == nil {
			t.Errorf("the token is written in %s", out)
		}
	}
	j.inputs["hf-token"] = "hf_two\nlines"
	if odd := j.on(files).do(); !odd.failed || strings.Contains(odd.log.String(), "hf_two") {
		t.Errorf("a token of two lines:\n%s", odd.log.String())
	}
	j.inputs["hf-token"] = canary

	for _, evil := range []string{"$(touch pwned)", "`touch pwned`", `"; touch pwned; "`, "'; touch pwned; '", "x\ntouch pwned", "--allow-commands", "-C/"} {
		for input := range j.action.Inputs {
			if input == "hf-token" || input == "args" && strings.HasPrefix(evil, "-") {
				continue
			}
			next := j.on(files)
			next.inputs[input] = evil
			next.inputs["version"] = ""
			next.do()
			found, err := exec.Command("find", next.workspace, next.env["HOME"], "-name", "pwned").CombinedOutput()
			if err != nil || len(found) > 0 {
				t.Errorf("%s: %q ran: %s %v", input, evil, found, err)
			}
			if strings.Contains(next.log.String(), "unbound variable") || strings.Contains(next.log.String(), "syntax error") {
				t.Errorf("%s: %q:\n%s", input, evil, next.log.String())
			}
		}
	}
}
