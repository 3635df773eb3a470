package mlxbuild_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
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

// job is one run of the action on a machine of its own, as GitHub's runner does it: expressions are worked out, scripts run with bash, and the actions of others are played.
type job struct {
	t         *testing.T
	action    action
	workspace string
	inputs    map[string]string
	github    map[string]string // event_name, ref, event.repository.default_branch
	env       map[string]string // of the whole job, and what steps add
	store     map[string]string // caches by key: folders
	run       int               // GITHUB_RUN_ID

	path     []string
	outputs  map[string]map[string]string // by step
	log      strings.Builder
	summary  string
	saved    []string // keys
	artifact []string // paths that were uploaded
	failed   bool
	skipped  []string
}

// program is mlxbuild, installed by the action's own step.
func program(t *testing.T) string {
	t.Helper()
	oracle.Program(t, "bash")
	oracle.Program(t, "git")
	if runtime.GOOS == "windows" {
		oracle.Missing(t, "the scripts of action.yml are tested with the bash of Linux and macOS")
	}
	temp := t.TempDir()
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := readAction(t)
	j := &job{t: t, action: a, workspace: temp, env: map[string]string{"RUNNER_TEMP": temp, "GITHUB_ACTION_PATH": root}, outputs: map[string]map[string]string{}}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if _, ok := j.env[name]; !ok {
			j.env[name] = value
		}
	}
	i := slices.IndexFunc(a.Runs.Steps, func(s actionStep) bool { return s.Name == "Install mlxbuild" })
	if !j.script(a.Runs.Steps[i]) {
		t.Fatalf("mlxbuild is not installed:\n%s", j.log.String())
	}
	if len(j.path) != 1 || !strings.Contains(j.log.String(), "mlxbuild devel (") {
		t.Fatalf("GITHUB_PATH got %v, and it says\n%s", j.path, j.log.String())
	}
	j.inputs, j.log = map[string]string{"version": "v1; touch x"}, strings.Builder{}
	if j.script(a.Runs.Steps[i]) || !strings.Contains(j.log.String(), "::error::the input version is no version") {
		t.Errorf("a version that is none:\n%s", j.log.String())
	}
	return j.path[0]
}

func newJob(t *testing.T, bin string, hub *hubtest.Hub) *job {
	t.Helper()
	a, _ := readAction(t)
	home := t.TempDir()
	j := &job{t: t, action: a, workspace: t.TempDir(), inputs: map[string]string{}, store: map[string]string{}, run: 1, path: []string{bin},
		github: map[string]string{"event_name": "push", "ref": "refs/heads/main", "event.repository.default_branch": "main"}}
	j.env = map[string]string{"HOME": home, "HF_HOME": filepath.Join(home, "hf"), "HF_ENDPOINT": hub.Endpoint(), "GITHUB_ACTIONS": "true", "RUNNER_OS": "Linux", "RUNNER_ARCH": "X64",
		"RUNNER_TEMP": t.TempDir(), "GITHUB_RUN_ATTEMPT": "1", "NO_PROXY": "127.0.0.1,localhost"}
	return j
}

// on is another machine with another checkout of the same files. caches are GitHub's.
func (j *job) on(files string) *job {
	j.t.Helper()
	next := *j
	next.workspace, next.run = j.t.TempDir(), j.run+1
	next.env, next.inputs, next.github = maps.Clone(j.env), maps.Clone(j.inputs), maps.Clone(j.github)
	delete(next.env, "MLXBUILD_CACHE")
	if err := os.CopyFS(next.workspace, os.DirFS(files)); err != nil {
		j.t.Fatal(err)
	}
	return &next
}

// do runs the steps behind the installation.
func (j *job) do() *job {
	j.t.Helper()
	j.outputs, j.saved, j.artifact, j.skipped, j.failed, j.log = map[string]map[string]string{}, nil, nil, nil, false, strings.Builder{}
	j.env["GITHUB_WORKSPACE"], j.env["GITHUB_RUN_ID"] = j.workspace, fmt.Sprint(j.run)
	for _, s := range j.action.Runs.Steps[2:] {
		if j.failed || s.If != "" && !truth(j.eval(s.If)) {
			j.skipped = append(j.skipped, s.Name)
			continue
		}
		if s.Run != "" {
			j.failed = !j.script(s)
			continue
		}
		j.uses(s)
	}
	return j
}

// script runs a step with bash as the runner does, and reads what it leaves in the runner's files.
func (j *job) script(s actionStep) bool {
	j.t.Helper()
	dir := j.t.TempDir()
	file := filepath.Join(dir, "script.sh")
	if err := os.WriteFile(file, []byte(s.Run), 0o600); err != nil {
		j.t.Fatal(err)
	}
	cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", file)
	cmd.Dir, cmd.Stdout, cmd.Stderr = j.workspace, &j.log, &j.log
	env := maps.Clone(j.env)
	env["PATH"] = strings.Join(append(slices.Clone(j.path), os.Getenv("PATH")), string(os.PathListSeparator))
	for name, value := range s.Env {
		env[name] = j.fill(value)
	}
	for _, name := range []string{"GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"} {
		env[name] = filepath.Join(dir, name)
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	err := cmd.Run()
	read := func(name string) string {
		data, _ := os.ReadFile(filepath.Join(dir, name)) // a step need not write it
		return string(data)
	}
	j.outputs[s.ID] = assignments(j.t, read("GITHUB_OUTPUT"))
	maps.Copy(j.env, assignments(j.t, read("GITHUB_ENV")))
	j.path = append(j.path, strings.Fields(read("GITHUB_PATH"))...)
	j.summary = read("GITHUB_STEP_SUMMARY") + j.summary
	return err == nil
}

// assignments reads name=value and name<<END lines.
func assignments(t *testing.T, text string) map[string]string {
	t.Helper()
	out := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] == "" {
			continue
		}
		if name, end, ok := strings.Cut(lines[i], "<<"); ok && !strings.Contains(name, "=") {
			var value []string
			for i++; i < len(lines) && lines[i] != end; i++ {
				value = append(value, lines[i])
			}
			if i == len(lines) {
				t.Errorf("%s does not end in %s:\n%s", name, end, text)
			}
			out[name] = strings.Join(value, "\n")
			continue
		}
		name, value, ok := strings.Cut(lines[i], "=")
		if !ok {
			t.Errorf("the runner would refuse %q", lines[i])
		}
		out[name] = value
	}
	return out
}

// uses plays the actions of others.
func (j *job) uses(s actionStep) {
	j.t.Helper()
	with := map[string]string{}
	for name, value := range s.With {
		with[name] = j.fill(value)
	}
	name, _, _ := strings.Cut(s.Uses, "@")
	switch name {
	case "actions/cache/restore":
		for _, key := range append([]string{with["key"]}, strings.Split(strings.TrimSpace(with["restore-keys"]), "\n")...) {
			for _, have := range slices.Sorted(maps.Keys(j.store)) {
				if key != "" && strings.HasPrefix(have, key) {
					copyTree(j.t, j.store[have], with["path"])
					return
				}
			}
		}
	case "actions/cache/save":
		kept := filepath.Join(j.t.TempDir(), "kept")
		copyTree(j.t, with["path"], kept)
		j.store[with["key"]] = kept
		j.saved = append(j.saved, with["key"])
	case "actions/upload-artifact":
		for _, path := range strings.Split(with["path"], "\n") {
			if _, err := os.Stat(filepath.Join(j.workspace, path)); err == nil {
				j.artifact = append(j.artifact, path)
			}
		}
	default:
		j.t.Errorf("who plays %s?", name)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (j *job) output(name string) string {
	j.t.Helper()
	return j.fill(j.action.Outputs[name].Value)
}

// fill puts the values of expressions into a text.
func (j *job) fill(text string) string {
	return regexp.MustCompile(`\$\{\{(.*?)\}\}`).ReplaceAllStringFunc(text, func(m string) string { return fmt.Sprint(j.eval(m[3 : len(m)-2])) })
}

// eval works out an expression of GitHub's: || && == != () 'text' format() and names.
func (j *job) eval(text string) any {
	e := &expression{j: j, rest: regexp.MustCompile(`'[^']*'|\|\||&&|==|!=|[(),]|[\w.-]+`).FindAllString(text, -1)}
	if left := regexp.MustCompile(`'[^']*'|\|\||&&|==|!=|[(),]|[\w.-]+|\s+`).ReplaceAllString(text, ""); left != "" {
		j.t.Fatalf("%s has %q, which this test does not know", text, left)
	}
	v := e.or()
	if len(e.rest) > 0 {
		j.t.Fatalf("%s: left are %v", text, e.rest)
	}
	return v
}

type expression struct {
	j    *job
	rest []string
}

func (e *expression) take(word string) bool {
	if len(e.rest) == 0 || e.rest[0] != word {
		return false
	}
	e.rest = e.rest[1:]
	return true
}

func truth(v any) bool { return v != "" && v != false }

func (e *expression) or() any {
	v := e.and()
	for e.take("||") {
		if w := e.and(); !truth(v) {
			v = w
		}
	}
	return v
}

func (e *expression) and() any {
	v := e.equal()
	for e.take("&&") {
		if w := e.equal(); truth(v) {
			v = w
		}
	}
	return v
}

func (e *expression) equal() any {
	v := e.value()
	switch {
	case e.take("=="):
		return strings.EqualFold(fmt.Sprint(v), fmt.Sprint(e.value()))
	case e.take("!="):
		return !strings.EqualFold(fmt.Sprint(v), fmt.Sprint(e.value()))
	}
	return v
}

func (e *expression) value() any {
	word := e.rest[0]
	e.rest = e.rest[1:]
	if word == "(" {
		v := e.or()
		e.take(")")
		return v
	}
	if text, ok := strings.CutPrefix(word, "'"); ok {
		return strings.TrimSuffix(text, "'")
	}
	if word == "format" && e.take("(") {
		text := fmt.Sprint(e.or())
		for n := 0; e.take(","); n++ {
			text = strings.ReplaceAll(text, fmt.Sprintf("{%d}", n), fmt.Sprint(e.or()))
		}
		e.take(")")
		return text
	}
	j := e.j
	if name, ok := strings.CutPrefix(word, "inputs."); ok {
		if v, ok := j.inputs[name]; ok {
			return v
		}
		if in, ok := j.action.Inputs[name]; ok {
			return *in.Default
		}
	}
	if name, ok := strings.CutPrefix(word, "github."); ok {
		return j.github[name]
	}
	if rest, ok := strings.CutPrefix(word, "steps."); ok {
		id, name, _ := strings.Cut(rest, ".outputs.")
		return j.outputs[id][name]
	}
	j.t.Fatalf("%s is nothing that this test knows", word)
	return nil
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

// wants compares what a job has come to.
func (j *job) wants(exitCode, nothing string, failed bool) {
	j.t.Helper()
	if j.output("exit-code") != exitCode || j.output("nothing-to-do") != nothing || j.failed != failed {
		j.t.Fatalf("exit-code %s, nothing-to-do %s, failed %v; want %s, %s, %v\n%s", j.output("exit-code"), j.output("nothing-to-do"), j.failed, exitCode, nothing, failed, j.log.String())
	}
}

func (j *job) says(pattern string) {
	j.t.Helper()
	if !regexp.MustCompile(`(?m)` + pattern).MatchString(j.log.String()) {
		j.t.Errorf("the log has no %s:\n%s", pattern, j.log.String())
	}
}

func (j *job) shows(pattern string) {
	j.t.Helper()
	if !regexp.MustCompile(`(?m)` + pattern).MatchString(j.summary) {
		j.t.Errorf("the page has no %s:\n%s", pattern, j.summary)
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

// The workflows of the documents, and ours, are YAML, pin what they use as the action does, and give the action and the program only what these know.
func TestDocumentedWorkflows(t *testing.T) {
	bin := program(t)
	a, text := readAction(t)
	pins := map[string]string{"actions/checkout": "3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"} // the action does without
	for _, m := range regexp.MustCompile(`uses: ([a-z/-]+)@(.*)`).FindAllStringSubmatch(text, -1) {
		pins[m[1]] = m[2]
	}
	known := map[string]string{} // help by command
	help := func(command string) string {
		if _, ok := known[command]; !ok {
			out, err := exec.Command(filepath.Join(bin, "mlxbuild"), append(strings.Fields(command), "--help")...).CombinedOutput()
			if err != nil {
				t.Errorf("mlxbuild %s: %v\n%s", command, err, out)
			}
			known[command] = string(out)
		}
		return known[command]
	}
	for _, file := range []string{"README.md", "docs/ci.md", "docs/benchmarking.md", ".github/workflows/test.yml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		workflows := 0
		blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(data), -1)
		if filepath.Ext(file) == ".yml" {
			blocks = [][]string{{"", string(data)}}
		}
		for _, block := range blocks {
			if strings.Contains(block[1], "version: 1\n") {
				continue // a recipe
			}
			workflows++
			var any yaml.Node
			if err := yaml.Unmarshal([]byte(block[1]), &any); err != nil {
				t.Errorf("%s: %v\n%s", file, err, block[1])
				continue
			}
			for _, m := range regexp.MustCompile(`uses: ([a-z/-]+)@(.*)`).FindAllStringSubmatch(block[1], -1) {
				if m[1] != "mlxbuild/mlxbuild" && pins[m[1]] != m[2] {
					t.Errorf("%s has %s at %s; action.yml at %s", file, m[1], m[2], pins[m[1]])
				}
			}
			for _, with := range append(stepsWith(&any, "mlxbuild/mlxbuild@"), stepsWith(&any, "./")...) {
				for input := range with {
					if _, ok := a.Inputs[input]; !ok {
						t.Errorf("%s gives the action %s, which it does not know", file, input)
					}
				}
			}
			for _, m := range regexp.MustCompile(`mlxbuild ([a-z]+)((?: [^\n&|;]+)?)`).FindAllStringSubmatch(regexp.MustCompile(`go install \S+`).ReplaceAllString(block[1], ""), -1) {
				if strings.HasPrefix(strings.TrimSpace(m[2]), ":") {
					continue
				}
				for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(m[2], -1) {
					if !strings.Contains(help(m[1]), flag) {
						t.Errorf("%s: mlxbuild %s does not know %s", file, m[1], flag)
					}
				}
				help(m[1])
			}
		}
		if workflows == 0 {
			t.Errorf("%s has no workflow", file)
		}
	}
}

// stepsWith are the inputs that steps give to an action.
func stepsWith(n *yaml.Node, action string) (out []map[string]string) {
	var s actionStep
	if n.Kind == yaml.MappingNode && n.Decode(&s) == nil && strings.HasPrefix(s.Uses, action) {
		out = append(out, s.With)
	}
	for _, c := range n.Content {
		out = append(out, stepsWith(c, action)...)
	}
	return out
}
