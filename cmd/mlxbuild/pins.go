package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/git"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/lock"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Recipes name models on the Hub, the lock beside them says which commit and which bytes these are. Commands that look take what the lock has; commands that make something add what is missing,
// for the models that they need, and say so. A pin moves only when it is asked to.

// onHub reports whether a recipe has models that a lock is for.
func onHub(r *spec.Recipe) bool {
	for _, m := range r.Models {
		if m.Source.Kind == "hf" {
			return true
		}
	}
	for _, c := range r.Corpora {
		if c.Source.Kind == "hf" {
			return true
		}
	}
	return false
}

// lockFile of a recipe.
func lockFile(r *spec.Recipe) string { return filepath.Join(r.Dir, lock.Name) }

// readLock reads a recipe's lock; an empty one when there is none.
func readLock(path string) (*lock.Lock, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return lock.New(), nil
	}
	if err == nil && info.Size() > lock.MaxSize {
		return nil, &lock.Error{File: shortPath(path), What: fmt.Sprintf("it has %d bytes, more than any lock", info.Size()), Do: "git checkout brings back the last one"}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return lock.Parse(shortPath(path), data)
}

// pin gives the models of recipes what their locks say.
func (a *app) pin(recipes []*spec.Recipe) error {
	for _, r := range recipes {
		if !onHub(r) || r.File == memoryRecipe {
			continue
		}
		l, err := readLock(lockFile(r))
		if err != nil {
			return err
		}
		if r.Revision != "" {
			a.pinBaseline(r)
		}
		if err := pinFrom(r, l); err != nil {
			return err
		}
	}
	return nil
}

// pinBaseline takes the lock as it was; what it does not have is as today.
func (a *app) pinBaseline(r *spec.Recipe) {
	commit, err := git.Commit(a.ctx, filepath.Dir(r.File), strings.TrimPrefix(r.Revision, "git:"))
	if err != nil {
		return
	}
	data, err := git.Show(a.ctx, commit, lockFile(r))
	if err != nil {
		return
	}
	if l, err := lock.Parse(lockFile(r), data); err == nil {
		_ = pinFrom(r, l) // a lock of that time that cannot be used is none
	}
}

// pinFrom sets the pins that are not set yet.
func pinFrom(r *spec.Recipe, l *lock.Lock) (err error) {
	for i := range r.Models {
		if m := &r.Models[i]; m.Source.Kind == "hf" && m.Pin == nil {
			if m.Pin, err = pinOf(r, l, m.Asked(), ""); err != nil {
				return err
			}
		}
	}
	for i := range r.Corpora {
		if c := &r.Corpora[i]; c.Source.Kind == "hf" && c.Pin == nil {
			if c.Pin, err = pinOf(r, l, c.Asked(), c.File); err != nil {
				return err
			}
		}
		for j := range r.Validations { // they have corpora of their own
			if v := r.Validations[j].Corpus; v != nil && v.Name == r.Corpora[i].Name && v.Source == r.Corpora[i].Source {
				v.Pin = r.Corpora[i].Pin
			}
		}
	}
	return nil
}

// pinOf is what a lock says of a source, or of one file of it; nil when it says nothing.
func pinOf(r *spec.Recipe, l *lock.Lock, asked, file string) (*spec.Pin, error) {
	p, files, ok := l.Of(asked)
	if !ok {
		return nil, nil
	}
	pin := &spec.Pin{Commit: p.Commit, ModelType: p.Type}
	var names []string
	for _, f := range files {
		if file == "" || f.Path == file {
			pin.Files = append(pin.Files, spec.PinnedFile{Path: f.Path, Size: f.Size, SHA256: f.SHA256})
			names = append(names, f.Path)
		}
	}
	if err := hub.CheckPaths(names); err != nil {
		return nil, &lock.Error{File: shortPath(lockFile(r)), What: fmt.Sprintf("%s: %v", asked, err), Do: "bring back the last lock with git, or delete the lines of this source and run `mlxbuild lock`"}
	}
	if len(pin.Files) == 0 {
		return nil, nil
	}
	return pin, nil
}

// unpinned are the models and data sets that wanted steps need and that no lock has, with their recipes.
func (p *project) unpinned() (out []wanted) {
	needed := map[string]bool{}
	for _, id := range p.graph.Closure(p.want) {
		if s := p.graph.Steps[id]; s.Pool == step.PoolNet {
			needed[p.graph.Artifacts[s.Out].Name] = true
		}
	}
	seen := map[string]bool{}
	for _, w := range onTheHub(p.recipes) {
		if id := lockFile(w.recipe) + "\n" + w.artifact; *w.pin == nil && needed[w.artifact] && !seen[id] {
			seen[id] = true
			out = append(out, w)
		}
	}
	return out
}

// wanted is a model or a data set that recipes take from the Hub.
type wanted struct {
	recipe   *spec.Recipe
	model    *spec.Model
	corpus   *spec.Corpus // instead of a model
	pin      **spec.Pin
	name     string // in the recipe
	asked    string
	artifact string
	pos      spec.Pos
}

// onTheHub lists everything that recipes take from there.
func onTheHub(recipes []*spec.Recipe) (out []wanted) {
	for _, r := range recipes {
		for i := range r.Models {
			if m := &r.Models[i]; m.Source.Kind == "hf" {
				out = append(out, wanted{recipe: r, model: m, pin: &m.Pin, name: m.Name, asked: m.Asked(), artifact: step.ModelArtifact(*m), pos: m.Source.Pos})
			}
		}
		for i := range r.Corpora {
			if c := &r.Corpora[i]; c.Source.Kind == "hf" {
				out = append(out, wanted{recipe: r, corpus: c, pin: &c.Pin, name: c.Name, asked: c.Asked(), artifact: step.TextArtifact(*c), pos: c.Source.Pos})
			}
		}
	}
	return out
}

// lockMissing resolves the models that are needed and not locked, and plans again with what they are: the same steps, so what is wanted stays.
func (a *app) lockMissing(p *project) error {
	missing := p.unpinned()
	if len(missing) == 0 {
		return nil
	}
	if a.locked {
		return a.outOfDate(missing)
	}
	if err := a.resolve(p, missing); err != nil {
		return err
	}
	if err := a.pin(p.recipes); err != nil { // two recipes may share a lock
		return err
	}
	want := p.want
	err := a.plan(p, p.recipes, nil)
	p.want = want
	return err
}

// outOfDate is the end of a --locked run that would have to change a lock.
func (a *app) outOfDate(missing []wanted) error {
	f := &fault{code: exitLock, msg: "the lock is out of date: " + planner.Count(len(missing), "source is", "sources are") + " not in it",
		hints: []string{"run `mlxbuild lock` where the Hub can be reached, and commit " + lock.Name}, marked: true}
	var lines []string
	for _, w := range missing {
		line := fmt.Sprintf("+%s: %s %s (%s)", shortPath(lockFile(w.recipe)), w.kind(), w.asked, w.pos)
		a.term.Line("%s", line)
		a.mark(markError, w.pos, "", withHints(w.asked+" is not in "+shortPath(lockFile(w.recipe)), f.hints))
		lines = append(lines, line)
	}
	a.onPage(differencePage(f.msg, lines))
	return f
}

func (w wanted) kind() string {
	if w.corpus != nil {
		return "dataset"
	}
	return "model"
}

// resolve asks the Hub for sources, sets their pins and adds them to their locks.
func (a *app) resolve(p *project, sources []wanted) error {
	infos := make([]hub.Info, len(sources))
	pins := make([]*spec.Pin, len(sources))
	errs := make([]error, len(sources))
	var wg sync.WaitGroup
	room := make(chan struct{}, 4)
	for i, w := range sources {
		wg.Add(1)
		go func() {
			defer wg.Done()
			room <- struct{}{}
			defer func() { <-room }()
			pins[i], infos[i], errs[i] = a.resolveOne(p, w)
		}()
	}
	wg.Wait()
	if a.ctx.Err() != nil {
		return &fault{code: exitInterrupted, msg: "interrupted"}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	byFile := map[string][]wanted{}
	for i, w := range sources {
		*w.pin = pins[i]
		a.sayLocked(w, infos[i])
		if w.recipe.File != memoryRecipe && w.recipe.Revision == "" {
			byFile[lockFile(w.recipe)] = append(byFile[lockFile(w.recipe)], w)
		}
	}
	for file, sources := range byFile {
		err := a.writeLock(p.cache, file, func(l *lock.Lock) {
			for _, w := range sources {
				w.set(l)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// set puts a source into a lock. A data set keeps the files that other corpora have of the same commit.
func (w wanted) set(l *lock.Lock) {
	pin := *w.pin
	var files []lock.File
	if old, have, ok := l.Of(w.asked); w.corpus != nil && ok && old.Commit == pin.Commit {
		for _, f := range have {
			if f.Path != w.corpus.File {
				files = append(files, f)
			}
		}
	}
	for _, f := range pin.Files {
		files = append(files, lock.File{Path: f.Path, Size: f.Size, SHA256: f.SHA256})
	}
	l.Set(w.asked, lock.Pin{Kind: w.kind(), Commit: pin.Commit, Type: pin.ModelType}, files)
}

// resolveOne asks for one source. Of a recipe made in memory, which has no lock, the last answer is remembered for when the Hub cannot be reached.
func (a *app) resolveOne(p *project, w wanted) (pin *spec.Pin, info hub.Info, err error) {
	if w.corpus != nil {
		pin, info, err = p.hub.ResolveText(a.ctx, *w.corpus, a.lockedCommit(w))
		return pin, info, w.failed(err)
	}
	pin, info, err = p.hub.Resolve(a.ctx, *w.model)
	if w.recipe.File != memoryRecipe {
		return pin, info, w.failed(err)
	}
	memo := cache.SumBytes([]byte("asked\n" + w.asked))
	if class := hub.ClassOf(err); class == hub.Network || class == hub.Offline {
		if last := rememberedPin(p.cache, memo, *w.model); last != nil {
			if !a.quiet && class == hub.Network {
				a.term.Line("warning: %v; taking %s as it was seen last, %.8s", err, w.asked, last.Commit)
			}
			return last, hub.Info{}, nil
		}
	}
	if err != nil {
		return nil, info, w.failed(err)
	}
	l := lock.New()
	wanted{model: w.model, pin: &pin, asked: w.asked}.set(l)
	if d, err := p.cache.AddBytes(l.Format()); err == nil { // what cannot be remembered is asked for again
		p.cache.SetMemo(memo, d)
	}
	return pin, info, nil
}

// lockedCommit of a data set of which another file is locked: all files of it are of one commit.
func (a *app) lockedCommit(w wanted) string {
	if *w.pin != nil {
		return "" // it is there, and asked for again
	}
	l, err := readLock(lockFile(w.recipe))
	if err != nil {
		return ""
	}
	return l.Pins[w.asked].Commit
}

func rememberedPin(c *cache.Cache, memo cache.Digest, m spec.Model) *spec.Pin {
	d, ok := c.Memo(memo)
	if !ok {
		return nil
	}
	data, err := c.ReadBlob(d, lock.MaxSize)
	if err != nil {
		return nil
	}
	l, err := lock.Parse(lock.Name, data)
	if err != nil {
		return nil
	}
	pin, _ := pinOf(&spec.Recipe{}, l, m.Asked(), "")
	return pin
}

// failed names the source and its line.
func (w wanted) failed(err error) error {
	if err == nil {
		return nil
	}
	return &unresolved{w, err}
}

// unresolved is a source that the Hub does not give.
type unresolved struct {
	wanted
	err error
}

func (e *unresolved) Error() string {
	if e.recipe.File == memoryRecipe {
		return e.err.Error()
	}
	return fmt.Sprintf("%s: %s: %v", e.pos, e.called(), e.err)
}

func (e *unresolved) Unwrap() error { return e.err }

// called is what a recipe calls the source.
func (w wanted) called() string {
	if w.corpus != nil {
		return "corpus " + w.name
	}
	return "model " + w.name
}

// diag is the error at its line in the recipe.
func (e *unresolved) diag() spec.Diag {
	d := spec.Diag{Pos: e.pos, Msg: e.err.Error(), Hints: hintsOf(e.err)}
	switch {
	case e.recipe.File != memoryRecipe:
		d.Msg = e.called() + ": " + d.Msg
	case hub.ClassOf(e.err) == hub.NotFound:
		d.Msg = "there is no folder " + e.model.Source.Ref + " here, and on the Hub " + d.Msg
	}
	return d
}

// sayLocked tells what a source was resolved to.
func (a *app) sayLocked(w wanted, info hub.Info) {
	if a.json || a.quiet {
		return
	}
	pin := *w.pin
	facts := []string{planner.Count(len(pin.Files), "file", "files"), planner.Bytes(pin.Bytes())}
	if pin.ModelType != "-" {
		facts = append([]string{pin.ModelType}, facts...)
	}
	if info.License != "" {
		facts = append(facts, "licence "+info.License)
	}
	if info.Gated != "" {
		facts = append(facts, "gated")
	}
	if info.Private {
		facts = append(facts, "private")
	}
	if info.Downloads > 0 {
		facts = append(facts, fmt.Sprintf("%d downloads", info.Downloads))
	}
	a.term.Line("%-9s  %s  %s is %.8s: %s", "locked", w.name, w.asked, pin.Commit, strings.Join(facts, ", "))
}

// writeLock changes a lock file, one process at a time, from what it has now. A lock that stays as it is is not written.
func (a *app) writeLock(c *cache.Cache, path string, change func(*lock.Lock)) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	release, err := c.Lock(a.ctx, cache.SumBytes([]byte("lock file\n"+abs)), func(string) {})
	if err != nil {
		return err
	}
	defer release()
	l, err := readLock(path)
	if err != nil {
		return err
	}
	before := strings.Join(l.Lines(), "\n")
	if change(l); strings.Join(l.Lines(), "\n") == before {
		return nil
	}
	if err := atomicfile.Write(path, l.Format(), 0o644); err != nil {
		return &fault{code: exitFailed, msg: fmt.Sprintf("%s cannot be written: %v", shortPath(path), err), hints: []string{"mend the permissions of its folder; with --locked nothing is written"}}
	}
	return nil
}
