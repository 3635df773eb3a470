package main

import (
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/lock"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

type lockCmd struct {
	Recipes []string `arg:"" optional:"" sep:"none" name:"recipe" help:"Recipe files (default mlxbuild.yaml)."`
	Update  []string `placeholder:"NAME" sep:"none" help:"Ask again for this model, corpus or tool (such as mlx); a glob, may be repeated ('*' for all)."`
	Prune   bool     `help:"Drop what none of these recipes names."`
}

func (lockCmd) Help() string {
	return `Asks the Hub which commit each hf: model of the recipes is, and writes commit, files, sizes and SHA-256 into
mlxbuild.lock beside the recipe. Keep that file in git: with it a build takes the same bytes everywhere, and knows
every key before anything is fetched. What is locked already stays as it is.

  mlxbuild lock                          add what is missing
  mlxbuild lock --update smollm2         move one model to what its revision is today
  mlxbuild lock --locked                 change nothing; exit code 7 when something is missing`
}

func (c lockCmd) Run(a *app) error {
	a.streams = a.json // until its document is there
	p, err := a.open(c.Recipes)
	if err != nil {
		return err
	}
	defer p.close()
	before, err := locksOf(p.recipes)
	if err != nil {
		return err
	}
	models, hit, err := c.toResolve(p)
	if err != nil {
		return err
	}
	if a.locked {
		return c.check(a, p, before, models)
	}
	tools, err := a.updateTools(p, c.Update)
	if err != nil {
		return err
	}
	if err := c.named(p, before, hit, tools); err != nil {
		return err
	}
	if len(models) > 0 {
		if err := a.resolve(p, models); err != nil {
			return err
		}
	}
	if c.Prune {
		if err := c.prune(a, p); err != nil {
			return err
		}
	}
	return c.tell(a, p, before)
}

// locksOf recipes, by file.
func locksOf(recipes []*spec.Recipe) (map[string]*lock.Lock, error) {
	out := map[string]*lock.Lock{}
	for _, r := range recipes {
		if r.Revision != "" {
			continue
		}
		l, err := readLock(lockFile(r))
		if err != nil {
			return nil, err
		}
		out[lockFile(r)] = l
	}
	return out, nil
}

// toResolve are the sources that are not locked, and those that are to be moved; hit are the patterns that named one.
func (c lockCmd) toResolve(p *project) (out []wanted, hit map[string]bool, err error) {
	hit = map[string]bool{}
	seen, moves := map[string]bool{}, map[string]bool{}
	for _, w := range onTheHub(p.recipes) {
		if w.recipe.Revision == "" && matchesAny(c.Update, w.name, hit) {
			moves[lockFile(w.recipe)+"\n"+w.asked] = true // and with it all files that are taken of a data set
		}
	}
	for _, w := range onTheHub(p.recipes) {
		if w.recipe.Revision != "" {
			continue
		}
		again := moves[lockFile(w.recipe)+"\n"+w.asked]
		if id := lockFile(w.recipe) + "\n" + w.artifact; (*w.pin == nil || again) && !seen[id] {
			seen[id] = true
			out = append(out, w)
		}
	}
	return out, hit, nil
}

// named refuses patterns that name neither a source nor a tool.
func (c lockCmd) named(p *project, locks map[string]*lock.Lock, sources, tools map[string]bool) error {
	var names []string
	for _, w := range onTheHub(p.recipes) {
		names = append(names, w.name)
	}
	for _, l := range locks {
		for n := range l.Tools {
			names = append(names, n)
		}
	}
	for _, pattern := range c.Update {
		if sources[pattern] || tools[pattern] {
			continue
		}
		f := &fault{code: exitUsage, msg: fmt.Sprintf("--update %s: nothing that these recipes take from the Hub, and no tool, has this name", pattern)}
		if near := spec.Closest(pattern, names); near != "" {
			f.hints = []string{"did you mean " + near + "?"}
		} else if len(names) > 0 {
			f.hints = []string{"there are " + strings.Join(names, ", ")}
		}
		return f
	}
	return nil
}

// check is lock --locked: what would be written is told, and nothing is.
func (c lockCmd) check(a *app, p *project, before map[string]*lock.Lock, missing []wanted) error {
	if len(c.Update) > 0 {
		return &fault{code: exitUsage, msg: "--locked and --update exclude each other"}
	}
	if len(missing) > 0 {
		return a.outOfDate(missing)
	}
	if err := a.lockTools(p); err != nil {
		return err
	}
	if c.Prune {
		if err := c.unneeded(a, p, before); err != nil {
			return err
		}
	}
	return c.tell(a, p, before)
}

// unneeded tells which lines --prune would drop.
func (c lockCmd) unneeded(a *app, p *project, before map[string]*lock.Lock) error {
	pruned, err := locksOf(p.recipes)
	if err != nil {
		return err
	}
	n := 0
	for _, file := range slices.Sorted(maps.Keys(pruned)) {
		pruned[file].Prune(c.asked(p, file))
		for _, line := range lock.Diff(before[file], pruned[file]) {
			a.term.Line("-%s: %s", shortPath(file), line[1:])
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return &fault{code: exitLock, msg: "the lock is out of date: " + planner.Count(n, "line is", "lines are") + " in it that no recipe needs", hints: []string{"mlxbuild lock --prune drops them"}}
}

// asked are the sources that recipes ask a lock for, with the files of data sets.
func (c lockCmd) asked(p *project, file string) map[string][]string {
	out := map[string][]string{}
	for _, w := range onTheHub(p.recipes) {
		if lockFile(w.recipe) != file {
			continue
		}
		if w.corpus == nil {
			out[w.asked] = nil
		} else {
			out[w.asked] = append(out[w.asked], w.corpus.File)
		}
	}
	return out
}

func (c lockCmd) prune(a *app, p *project) error {
	done := map[string]bool{}
	for _, r := range p.recipes {
		file := lockFile(r)
		if r.Revision != "" || done[file] {
			continue
		}
		done[file] = true
		if err := a.writeLock(p.cache, file, func(l *lock.Lock) { l.Prune(c.asked(p, file)) }); err != nil {
			return err
		}
	}
	return nil
}

// tell what has changed.
func (c lockCmd) tell(a *app, p *project, before map[string]*lock.Lock) error {
	after, err := locksOf(p.recipes)
	if err != nil {
		return err
	}
	type change struct {
		File string   `json:"file"`
		Diff []string `json:"diff"`
	}
	changes := []change{}
	for file, l := range after {
		if diff := lock.Diff(before[file], l); len(diff) > 0 {
			changes = append(changes, change{shortPath(file), diff})
		}
	}
	sort.Slice(changes, func(i, j int) bool { return changes[i].File < changes[j].File })
	if a.json {
		a.streams = false
		return printJSON(a.stdout, map[string]any{"version": 1, "changes": changes})
	}
	if a.quiet {
		return nil
	}
	if len(changes) == 0 {
		a.term.Line("nothing to do: everything is locked")
	}
	for _, c := range changes {
		gone, come := 0, 0
		for _, line := range c.Diff {
			if line[0] == '-' {
				gone++
			} else {
				come++
			}
		}
		a.term.Line("wrote      %s: %s, %s", c.File, planner.Count(come, "line more", "lines more"), planner.Count(gone, "line less", "lines less"))
	}
	return nil
}

type fetchCmd struct {
	Args    []string `arg:"" optional:"" sep:"none" name:"recipe-or-model" help:"Recipe files (.yaml; default mlxbuild.yaml) and names of models, or globs (default all)."`
	HFCache bool     `name:"hf-cache" help:"Also write the models into Hugging Face's own cache, where mlx-lm and transformers find them."`
}

func (fetchCmd) Help() string {
	return `Fetches the hf: models of recipes, checks every byte against the lock, and keeps them in the cache, so that build works without a network:

  mlxbuild fetch && mlxbuild build --offline

A model that is in Hugging Face's cache already (HF_HOME) is used from there after its content was checked; nothing
is fetched twice. What was interrupted goes on where it stopped.`
}

func (c fetchCmd) Run(a *app) error {
	a.streams = a.json
	files, names, err := splitArgs(c.Args)
	if err != nil {
		return err
	}
	p, err := a.open(files)
	if err != nil {
		return err
	}
	defer p.close()
	if p.want, err = sourcesOf(p, names); err != nil {
		return err
	}
	if len(p.want) == 0 {
		a.note("nothing to do: the recipe names no model on the Hub")
		return nil
	}
	if err := a.lockMissing(p); err != nil {
		return err
	}
	here := true
	for _, id := range p.want {
		here = here && p.graph.Steps[id].Source.After() == ""
	}
	a.calm = true
	if _, err := a.build(p, executor.Options{Jobs: 1, KeepGoing: true}); err != nil {
		return err
	}
	if here && !c.HFCache {
		a.note("nothing to do: " + planner.Count(len(p.want), "source is", "sources are") + " here")
	}
	if c.HFCache {
		return a.writeHFCache(p)
	}
	return nil
}

// sourcesOf picks the steps that fetch models and corpora.
func sourcesOf(p *project, names []string) (ids []step.ID, err error) {
	hit := map[string]bool{}
	for id, s := range p.graph.Steps {
		if s.Pool != step.PoolNet {
			continue
		}
		picked := len(names) == 0
		for _, n := range names {
			if ok, err := path.Match(n, s.Labels["model"]+s.Labels["corpus"]); err == nil && ok { // it has one of them
				picked, hit[n] = true, true
			}
		}
		if picked {
			ids = append(ids, step.ID(id))
		}
	}
	for _, n := range names {
		if !hit[n] {
			return nil, &fault{code: exitUsage, msg: fmt.Sprintf("the recipe takes nothing called %s from the Hub", n)}
		}
	}
	return ids, nil
}

// writeHFCache puts what was fetched into Hugging Face's own layout.
func (a *app) writeHFCache(p *project) error {
	s, err := a.hubSettings()
	if err != nil {
		return err
	}
	client := hub.New(s, p.hub.Options)
	for _, id := range p.want {
		for _, r := range p.recipes {
			for _, m := range r.Models {
				if m.Pin == nil || step.ModelArtifact(m) != p.graph.Artifacts[p.graph.Steps[id].Out].Name {
					continue
				}
				if err := a.writeOne(s, client, m, p.graph.Steps[id].Source.Dir()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// likelyFiles stand for the Hub's listing when it cannot be asked: the lock's, as if all were in LFS. Those that are not get another blob's name than Hugging Face's programs would give them; they find them
// by their paths all the same.
func likelyFiles(m spec.Model) (out []hub.File) {
	for _, f := range m.Pin.Files {
		out = append(out, hub.File{Path: f.Path, Size: f.Size, SHA256: hex.EncodeToString(f.SHA256[:])})
	}
	return out
}

func (a *app) writeOne(s hub.Settings, client *hub.Client, m spec.Model, dir string) error {
	repo, err := hub.ParseRepo(m.Source.Ref)
	if err != nil {
		return err
	}
	tree, err := client.Files(a.ctx, repo, m.Pin.Commit) // says which files are in LFS, which their names there follow
	if class := hub.ClassOf(err); class == hub.Offline || class == hub.Network {
		tree, err = likelyFiles(m), nil
	}
	if err != nil {
		return err
	}
	files := map[string]string{}
	var of []hub.File
	for _, f := range m.Pin.Files {
		i := slices.IndexFunc(tree, func(t hub.File) bool { return t.Path == f.Path })
		if i < 0 {
			return fmt.Errorf("%s of %s is no longer in the Hub's listing", f.Path, m.Asked())
		}
		real, err := filepath.EvalSymlinks(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil {
			return err
		}
		files[f.Path], of = real, append(of, tree[i])
	}
	revision := m.Revision
	if revision == "" {
		revision = "main"
	}
	if err := s.WriteCache(repo, revision, m.Pin.Commit, files, of); err != nil {
		return err
	}
	a.note(fmt.Sprintf("%-9s  %s into %s", "wrote", m.Name, shortPath(s.CacheDir)))
	return nil
}
