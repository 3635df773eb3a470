package mlxbuild_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

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
