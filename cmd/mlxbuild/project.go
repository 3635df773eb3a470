package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mlxbuild/mlxbuild/backend/worker"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	machinery "github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/internal/step/fetch"
	"github.com/mlxbuild/mlxbuild/internal/step/generate"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// defaultRecipe is what commands read when no recipe is named.
const defaultRecipe = "mlxbuild.yaml"

// memoryRecipe is the file name of recipes made in memory.
const memoryRecipe = "<command line>"

// project is what the positional arguments of most commands name: recipes, planned, and the steps that were asked for.
type project struct {
	cache   *cache.Cache
	hub     *fetch.Hub
	graph   *planner.Graph
	want    []step.ID
	recipes []*spec.Recipe

	results  map[string]string // results files by recipe: see resultsFile
	problems spec.Diags        // of baselines
}

// newProject opens the cache, and the way to the Hub.
func (a *app) newProject() (*project, error) {
	c, err := a.openCache()
	if err != nil {
		return nil, err
	}
	h := &fetch.Hub{Cache: c, Version: version(), Machine: machine(), Settings: a.hubSettings,
		Options: hub.Options{UserAgent: "mlxbuild/" + version(), Note: func(sentence string) { a.note(sentence) }}}
	return &project{cache: c, hub: h, results: map[string]string{}}, nil
}

// hubSettings are the environment's, and what flags say.
func (a *app) hubSettings() (hub.Settings, error) {
	s, err := hub.FromEnv(os.Getenv)
	s.Offline = s.Offline || a.offline
	return s, err
}

// note says what a person should know at once.
func (a *app) note(sentence string) {
	if !a.json && !a.quiet {
		a.term.Line("%s", sentence)
	}
}

// close removes what was laid out for this run, and saves what the cache has learned.
func (p *project) close() {
	p.hub.Close()
	p.cache.Close()
}

// kinds is the list of step kinds, in pipeline order.
func (a *app) kinds(p *project) []step.Kind {
	c, sources := p.cache, fetch.Kind{Hub: p.hub}
	timing := benchmark.Kind{Runtimes: a.runtimes, Alone: a.alone, Machine: sync.OnceValue(machinery.Read), Program: identity(c), Quick: a.quick}
	if a.commands {
		timing.Run = worker.Output
	}
	return []step.Kind{sources, &convert.Kind{Dir: sources.Dir, MLX: mlxConverter{a.runtimes}}, generate.Kind{Runtimes: a.runtimes}, validate.Kind{Runtimes: a.runtimes, Text: sources.Text, OpenHead: openHead, CompareWeights: compareWeights}, timing}
}

// open loads and plans recipes. args are existing .yaml files, which are recipes, and selectors.
func (a *app) open(args []string) (*project, error) {
	files, selectors, err := splitArgs(args)
	if err != nil {
		return nil, err
	}
	p, err := a.newProject()
	if err != nil {
		return nil, err
	}
	recipes, err := a.load(p.cache, files)
	if err != nil {
		return nil, p.fail(err)
	}
	recipes, p.problems = a.withBaselines(recipes)
	if err := a.pin(recipes); err != nil {
		return nil, p.fail(err)
	}
	if err := a.plan(p, recipes, selectors); err != nil {
		return nil, p.fail(err)
	}
	return p, nil
}

func (a *app) plan(p *project, recipes []*spec.Recipe, selectors []string) (err error) {
	var diags spec.Diags
	p.recipes = recipes
	if p.graph, diags = planner.Plan(recipes, a.kinds(p)); diags != nil {
		return diags
	}
	p.want, err = p.graph.Select(selectors)
	return err
}

// fail closes the project on the way out.
func (p *project) fail(err error) error {
	p.close()
	return err
}

func splitArgs(args []string) (files, selectors []string, err error) {
	for _, arg := range args {
		ext := strings.ToLower(filepath.Ext(arg))
		if ext != ".yaml" && ext != ".yml" {
			selectors = append(selectors, arg)
			continue
		}
		if _, err := os.Stat(arg); err != nil {
			return nil, nil, &fault{code: exitUsage, msg: fmt.Sprintf("no recipe %s", arg), hints: nearFiles(arg)}
		}
		files = append(files, arg)
	}
	if files != nil {
		return files, selectors, nil
	}
	if _, err := os.Stat(defaultRecipe); err != nil {
		return nil, nil, &fault{code: exitUsage, msg: "there is no " + defaultRecipe + " here, and no recipe was named", hints: noRecipeHints(selectors)}
	}
	return []string{defaultRecipe}, selectors, nil
}

func nearFiles(arg string) []string {
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(arg), "*.y*ml"))
	if near := spec.Closest(arg, found); near != "" {
		return []string{"did you mean " + near + "?"}
	}
	if len(found) > 0 {
		return []string{"here is " + strings.Join(found, ", ")}
	}
	return []string{"mlxbuild init writes a first recipe"}
}

func noRecipeHints(selectors []string) []string {
	found, _ := filepath.Glob("recipes/*.yaml")
	if len(found) > 0 {
		return []string{"name one: mlxbuild build " + found[0]}
	}
	return []string{"mlxbuild init writes a first recipe"}
}

// load reads recipes. What the schema has found right once is not checked again until its bytes change.
func (a *app) load(c *cache.Cache, files []string) ([]*spec.Recipe, error) {
	var recipes []*spec.Recipe
	var all spec.Diags
	for _, f := range files {
		r, diags := spec.Load(f, spec.Options{Seen: func(d [32]byte) bool { _, ok := c.Memo(schemaMemo(d)); return ok }})
		all = append(all, diags...)
		if r != nil {
			recipes = append(recipes, r)
			remember(c, r)
		}
	}
	if all.HasErrors() {
		return nil, all
	}
	if len(all) > 0 && !a.quiet {
		a.sayDiags(all)
	}
	return recipes, nil
}

func remember(c *cache.Cache, r *spec.Recipe) {
	k := schemaMemo(r.Digest)
	if _, ok := c.Memo(k); !ok {
		c.SetMemo(k, k)
	}
}

func schemaMemo(d [32]byte) cache.Digest { return cache.SumBytes(append([]byte("schema\n"), d[:]...)) }

// problemsOf turns an error of planning or preparing into diagnostics where it is one.
func problemsOf(err error) spec.Diags {
	var d spec.Diags
	if errors.As(err, &d) {
		return d
	}
	return nil
}
