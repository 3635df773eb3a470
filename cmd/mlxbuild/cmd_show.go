package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/result"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/generate"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/internal/term"
	"github.com/mlxbuild/mlxbuild/planner"
)

// collect writes what steps found out to build/results.jsonl and, where a person is told, the text that was made in this run.
func (a *app) collect(p *project, outcomes []executor.Outcome) error {
	files := map[string][]result.Line{}
	known := map[string]map[string]bool{} // by file: keys that it has
	for _, id := range p.want {
		s, o := p.graph.Steps[id], outcomes[id]
		path := p.resultsFile(s)
		if s.Kind != "generate" || o.Key == (cache.Digest{}) || !changed(o.State) && o.State != executor.UpToDate {
			continue
		}
		if known[path] == nil {
			known[path] = keysIn(path)
		}
		if !changed(o.State) && known[path][o.Key.String()] {
			continue
		}
		line, ok := p.resultLine(id, o.Key)
		if !ok {
			continue
		}
		files[path] = append(files[path], line)
		if !a.json && !a.quiet && changed(o.State) {
			a.printTexts(line)
		}
	}
	for path, lines := range files {
		if err := result.Update(path, lines); err != nil {
			return err
		}
	}
	return nil
}

// keysIn are the keys of the results in a file; none when it is missing.
func keysIn(path string) map[string]bool {
	keys := map[string]bool{}
	lines, _ := result.Read(path) // what cannot be read is written again
	for _, l := range lines {
		keys[l.Key] = true
	}
	return keys
}

func changed(s executor.State) bool { return s == executor.Done || s == executor.Restored }

func (p *project) resultLine(id step.ID, key cache.Digest) (result.Line, bool) {
	s := p.graph.Steps[id]
	rec, ok := p.cache.Record(key)
	if !ok {
		return result.Line{}, false
	}
	name := strings.TrimSuffix(strings.TrimPrefix(s.Name, "generate "), " "+s.Target)
	return result.Line{Schema: 1, Kind: s.Kind, Name: name, Target: s.Target, Key: key.String(), Seconds: rec.Seconds, Machine: rec.Machine, Value: rec.Result}, true
}

// resultsName is the file in a build folder that has what its steps found out.
const resultsName = "results.jsonl"

// resultsFile of the recipe that a step comes from.
func (p *project) resultsFile(s step.Step) string {
	if p.results[s.Recipe] == "" {
		p.results[s.Recipe] = p.findResults(s.Recipe)
	}
	return p.results[s.Recipe]
}

func (p *project) findResults(recipe string) string {
	for _, r := range p.graph.Recipes {
		if r.File == recipe {
			return filepath.Join(planner.BuildDir(r), resultsName)
		}
	}
	return filepath.Join("build", resultsName)
}

func (a *app) printTexts(l result.Line) {
	var t generate.Texts
	if json.Unmarshal(l.Value, &t) != nil {
		return
	}
	a.aside(func(w io.Writer) {
		fmt.Fprintf(w, "\n%s, %s:\n", l.Target, l.Name)
		for _, x := range t.Texts {
			printText(w, x)
		}
	})
}

// printText shows a prompt and what the model wrote behind it, indented.
func printText(w io.Writer, t generate.Text) {
	whole := strings.TrimRight(t.Prompt+"|"+t.Text, "\n")
	for _, line := range strings.Split(whole, "\n") {
		fmt.Fprintf(w, "  %s\n", term.Clean(line))
	}
}

type showCmd struct {
	Args []string `arg:"" optional:"" sep:"none" name:"recipe-or-selector" help:"As for build."`
}

func (showCmd) Help() string {
	return `mlxbuild show results.jsonl shows a file of results without any recipe or model.

The targets in build/ with their size and bits per weight, the text they wrote (| marks where the prompt ends), and how validations went. It shows what was built last and makes nothing.`
}

// shownTarget is a built target.
type shownTarget struct {
	Target        string  `json:"target"`
	Folder        string  `json:"folder"`
	Bytes         int64   `json:"bytes"`
	BitsPerWeight float64 `json:"bits_per_weight,omitempty"`
	Key           string  `json:"key,omitempty"`
}

func (c showCmd) Run(a *app) error {
	if len(c.Args) == 1 && strings.HasSuffix(c.Args[0], ".jsonl") {
		lines, err := a.results(c.Args[0])
		if err != nil {
			return err
		}
		return a.showResults(nil, lines)
	}
	p, err := a.open(c.Args)
	if err != nil {
		return err
	}
	defer p.close()
	var targets []shownTarget
	var lines []result.Line
	read := map[string][]result.Line{}
	for _, id := range p.want {
		s := p.graph.Steps[id]
		if s.Folder != "" {
			if t, ok := showTarget(s); ok {
				targets = append(targets, t)
			}
			continue
		}
		file := p.resultsFile(s)
		if _, ok := read[file]; !ok {
			if read[file], err = result.Read(file); err != nil {
				return err
			}
		}
		for _, l := range read[file] {
			if s.Name == l.Step() {
				lines = append(lines, l)
			}
		}
	}
	if !a.json && len(targets)+len(lines) == 0 {
		return &fault{code: exitFailed, msg: "nothing of this has been built yet", hints: []string{"mlxbuild build makes it"}}
	}
	return a.showResults(targets, lines)
}

// showResults prints built targets and results, as they were judged when they were written.
func (a *app) showResults(targets []shownTarget, lines []result.Line) error {
	if a.json {
		return printJSON(a.stdout, map[string]any{"version": 1, "targets": targets, "results": lines})
	}
	rows := [][]string{{"TARGET", "SIZE", "BITS/WEIGHT", "FOLDER"}}
	for _, t := range targets {
		rows = append(rows, []string{t.Target, planner.Bytes(t.Bytes), fmt.Sprintf("%.2f", t.BitsPerWeight), shortPath(t.Folder)})
	}
	if len(targets) > 0 {
		table(a.stdout, rows, 1, 2)
	}
	for _, l := range lines {
		if l.Kind == "generate" {
			a.printTexts(l)
		}
	}
	if validations := shownValidations(lines); len(validations) > 0 {
		fmt.Fprintln(a.stdout)
		a.printValidations(a.stdout, validations, false)
	}
	if cells := shownCells(lines, failedIn(lines)); len(cells) > 0 {
		fmt.Fprintln(a.stdout)
		a.printCells(a.stdout, cells)
	}
	return nil
}

// shownValidations are the validations among results, as they were judged when they were written.
func shownValidations(lines []result.Line) (out []report.Validation) {
	for _, l := range lines {
		v := report.Validation{Name: l.Name, Target: l.Target, Key: l.Key, Report: &validate.Report{}, Verdict: judge.Verdict(l.Verdict), Seconds: l.Seconds}
		if l.Kind == "validate" && json.Unmarshal(l.Value, v.Report) == nil && json.Unmarshal(l.Checks, &v.Checks) == nil {
			out = append(out, v)
		}
	}
	return out
}

func showTarget(s step.Step) (shownTarget, bool) {
	t := shownTarget{Target: s.Target, Folder: s.Folder}
	entries, err := os.ReadDir(s.Folder)
	if err != nil {
		return t, false
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			t.Bytes += info.Size()
		}
	}
	t.BitsPerWeight = folderBits(s.Folder)
	if prov := executor.ReadProvenance(s.Folder); prov != nil {
		t.Key = prov.Key.String()
	}
	return t, true
}

// folderBits is total bits over parameters, from the index that stands in every folder.
func folderBits(dir string) float64 {
	var index struct {
		Metadata struct {
			Size   float64 `json:"total_size"`
			Params float64 `json:"total_parameters"`
		} `json:"metadata"`
	}
	data, err := os.ReadFile(filepath.Join(dir, "model.safetensors.index.json"))
	if err != nil || json.Unmarshal(data, &index) != nil || index.Metadata.Params == 0 {
		return 0
	}
	return index.Metadata.Size * 8 / index.Metadata.Params
}

type listCmd struct {
	Args []string `arg:"" optional:"" sep:"none" name:"recipe-or-selector" help:"As for build."`
}

func (listCmd) Help() string {
	return `Models with their source, targets with their state. "run" means that build would make it.`
}

func (c listCmd) Run(a *app) error {
	p, err := a.open(c.Args)
	if err != nil {
		return err
	}
	defer p.close()
	standings := executor.Examine(p.graph, p.want, p.cache)
	type model struct {
		Name   string `json:"name"`
		Source string `json:"source"`
	}
	type target struct {
		Target string `json:"target"`
		Step   string `json:"step"`
		State  string `json:"state"`
		Reason string `json:"reason,omitempty"`
	}
	var models []model
	var targets []target
	for _, r := range p.graph.Recipes {
		for _, m := range r.Models {
			models = append(models, model{m.Name, m.Source.Kind + ":" + m.Source.Ref})
		}
	}
	for _, id := range p.want {
		s := p.graph.Steps[id]
		targets = append(targets, target{s.Target, s.Name, standings[id].State, standings[id].Reason})
	}
	if a.json {
		return printJSON(a.stdout, map[string]any{"version": 1, "models": models, "steps": targets})
	}
	rows := [][]string{{"MODEL", "SOURCE"}}
	for _, m := range models {
		rows = append(rows, []string{m.Name, m.Source})
	}
	table(a.stdout, rows)
	fmt.Fprintln(a.stdout)
	rows = [][]string{{"STEP", "STATE"}}
	for _, t := range targets {
		state := t.State
		if t.Reason != "" {
			state += ": " + t.Reason
		}
		rows = append(rows, []string{t.Step, state})
	}
	table(a.stdout, rows)
	return nil
}
