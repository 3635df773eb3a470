package mlxbuild_test

import (
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

	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

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
