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
	cache *cache.Cache
	graph *planner.Graph
	want  []step.ID

	problems spec.Diags // of baselines
}

// kinds is the list of step kinds, in pipeline order.
func (a *app) kinds(c *cache.Cache) []step.Kind {
	sources := fetch.Kind{}
	timing := benchmark.Kind{Runtimes: a.runtimes, Alone: a.alone, Machine: sync.OnceValue(machinery.Read), Program: identity(c), Quick: a.quick}
	if a.commands {
		timing.Run = worker.Output
	}
	return []step.Kind{sources, &convert.Kind{Dir: sources.Dir, MLX: mlxConverter{a.runtimes}}, generate.Kind{Runtimes: a.runtimes}, validate.Kind{Runtimes: a.runtimes, OpenHead: openHead, CompareWeights: compareWeights}, timing}
}

// open loads and plans recipes. args are existing .yaml files, which are recipes, and selectors.
func (a *app) open(args []string) (*project, error) {
	files, selectors, err := splitArgs(args)
	if err != nil {
		return nil, err
	}
	c, err := a.openCache()
	if err != nil {
		return nil, err
	}
	p := &project{cache: c}
	recipes, err := a.load(c, files)
	if err != nil {
		return nil, p.fail(err)
	}
	recipes, p.problems = a.withBaselines(recipes)
	return p, a.plan(p, recipes, selectors)
}

func (a *app) plan(p *project, recipes []*spec.Recipe, selectors []string) (err error) {
	var diags spec.Diags
	if p.graph, diags = planner.Plan(recipes, a.kinds(p.cache)); diags != nil {
		return p.fail(diags)
	}
	if p.want, err = p.graph.Select(selectors); err != nil {
		return p.fail(err)
	}
	return nil
}

// fail closes the cache on the way out.
func (p *project) fail(err error) error {
	p.cache.Close()
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
