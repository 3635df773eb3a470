package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/rebuild"
	"github.com/mlxbuild/mlxbuild/internal/term"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// rebuild makes what was built again and compares.
func (c verifyCmd) rebuild(a *app) error {
	sample, err := share(c.Sample)
	if err != nil {
		return err
	}
	seed := rand.Uint64N(1_000_000)
	if c.Seed != nil {
		seed = *c.Seed
	}
	for _, arg := range c.Args {
		if isFolderArg(arg) {
			return &fault{code: exitUsage, msg: "--rebuild takes recipes and selectors, and " + arg + " is a folder", hints: []string{"a folder alone does not say how it was made; mlxbuild verify " + arg + " checks it"}}
		}
	}
	p, again, dir, remove, err := a.openTwice(c.Args, c.Keep)
	if err != nil {
		return err
	}
	defer p.close()
	defer remove()
	started := time.Now()
	a.term.Start(sizes(p), "starting")
	findings, err := rebuild.Run(a.ctx, rebuild.Options{Cache: p.cache, Built: p.graph, Again: again, Want: p.want, Dir: dir, Sample: sample, Seed: seed, Inexact: c.Inexact,
		Run: executor.Options{Jobs: 2, Memory: memoryOfSteps(), Version: version(), Machine: machine(), Events: a.rebuildEvent(again)}})
	a.term.Finish()
	if err != nil {
		if a.ctx.Err() != nil {
			return &fault{code: exitInterrupted, msg: "interrupted"}
		}
		return err
	}
	return a.sayFindings(findings, sampled{sample, seed}, time.Since(started).Seconds())
}

// sampled is what share of the steps was made again.
type sampled struct {
	share float64
	seed  uint64
}

func (s sampled) whole() bool { return s.share == 0 || s.share == 1 }

// share reads 10% or 0.1; "" is all.
func share(text string) (float64, error) {
	if text == "" {
		return 1, nil
	}
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v > 0 && v <= 1) {
		return 0, &fault{code: exitUsage, msg: "--sample " + text + " is not a share", hints: []string{"write it like 10% or 0.1"}}
	}
	return v, nil
}

// openTwice plans recipes as they are, and once more with build folders in a place of its own: keep, or a stage of the cache, which the next run removes when this one is killed. Both plans' kinds have the
// cache that the recipes were built with, so that sources find there what they keep in it; what runs the second plan uses another.
func (a *app) openTwice(args []string, keep string) (p *project, again *planner.Graph, dir string, remove func(), err error) {
	files, selectors, err := splitArgs(args)
	if err != nil {
		return nil, nil, "", nil, err
	}
	if p, err = a.newProject(); err != nil {
		return nil, nil, "", nil, err
	}
	recipes, err := a.load(p.cache, files)
	if err == nil {
		err = a.pin(recipes)
	}
	if err == nil {
		err = a.plan(p, recipes, selectors)
	}
	if err != nil {
		return nil, nil, "", nil, p.fail(err)
	}
	if dir, remove, err = placeFor(p.cache, keep); err != nil {
		return nil, nil, "", nil, p.fail(err)
	}
	again, diags := planner.Plan(elsewhere(recipes, dir), a.kinds(p))
	if diags != nil {
		remove()
		return nil, nil, "", nil, p.fail(diags)
	}
	return p, again, dir, remove, nil
}

// placeFor finds an empty folder.
func placeFor(c *cache.Cache, keep string) (dir string, remove func(), err error) {
	if keep == "" {
		stage, err := c.NewStage()
		if err != nil {
			return "", nil, err
		}
		dir, err := filepath.Abs(stage.Path("rebuild"))
		return dir, stage.Remove, err
	}
	if dir, err = filepath.Abs(keep); err != nil {
		return "", nil, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return "", nil, &fault{code: exitUsage, msg: "--keep " + keep + ": there is something in it", hints: []string{"name a folder that is not there yet"}}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, &fault{code: exitUsage, msg: fmt.Sprintf("--keep %s: %v", keep, err), hints: hintsOf(err)}
	}
	return dir, func() {}, nil
}

// elsewhere gives recipes build folders in dir: one for each that they have now.
func elsewhere(recipes []*spec.Recipe, dir string) []*spec.Recipe {
	numbers := map[string]int{}
	var out []*spec.Recipe
	for _, r := range recipes {
		build := planner.BuildDir(r)
		if _, ok := numbers[build]; !ok {
			numbers[build] = len(numbers)
		}
		moved := *r
		moved.Build = filepath.Join(dir, "build")
		if n := numbers[build]; n > 0 {
			moved.Build += fmt.Sprint(n + 1)
		}
		out = append(out, &moved)
	}
	return out
}

// sizes adds up what will be read, for the bar.
func sizes(p *project) (total int64) {
	for _, id := range p.graph.Closure(p.want) {
		if src := p.graph.Steps[id].Source; src != nil {
			total += src.Size()
		}
	}
	return total
}

// rebuildEvent moves the bar, and passes on what a person should know at once.
func (a *app) rebuildEvent(g *planner.Graph) func(executor.Event) {
	return func(e executor.Event) {
		switch {
		case e.Kind == executor.Progress && g.Steps[e.ID].Source != nil:
			a.term.Add(e.Bytes)
		case e.Kind == executor.StepEvent && e.State == executor.Running:
			a.term.Describe(g.Steps[e.ID].Name)
		case e.Kind == executor.Message && !a.json && !a.quiet:
			a.term.Line("%s: %s", term.Clean(g.Steps[e.ID].Name), e.Message)
		}
	}
}

// sayFindings prints a line for each step and one that counts, and returns what stands for the whole.
func (a *app) sayFindings(all []rebuild.Finding, s sampled, took float64) error {
	n := rebuild.Counts(all)
	code := 0
	for _, f := range all {
		switch f.State {
		case rebuild.Differs:
			code = worst(code, exitFailed)
		case rebuild.Failed:
			code = worst(code, exitCode(f.Err))
		}
	}
	if a.json {
		doc := map[string]any{"version": 1, "ok": code == 0, "steps": all, "counts": n, "seconds": took}
		if !s.whole() {
			doc["sample"], doc["seed"] = s.share, s.seed
		}
		if err := printJSON(a.stdout, doc); err != nil {
			return err
		}
	} else {
		for _, f := range all {
			a.sayFinding(f)
		}
		if !a.quiet {
			fmt.Fprintln(a.stdout, countFindings(n, s, took))
		}
	}
	if code == 0 {
		return nil
	}
	if a.json {
		return &said{&fault{code: code, msg: "not everything is as it was"}}
	}
	return &fault{code: code, msg: fmt.Sprintf("%d of %s came out otherwise or could not be made again", n[rebuild.Differs]+n[rebuild.Failed]+n[rebuild.Unjudged], planner.Count(len(all), "step", "steps")), hints: hintOf(all)}
}

// sayFinding prints one line for a step, and one for each file that differs.
func (a *app) sayFinding(f rebuild.Finding) {
	bad := f.State == rebuild.Differs || f.State == rebuild.Failed || f.State == rebuild.Unjudged
	if a.quiet && !bad {
		return
	}
	line := fmt.Sprintf("%-11s  %s", f.State, term.Clean(f.Step))
	switch {
	case f.Err != nil:
		line += ": " + f.Err.Error()
	case f.Reason != "":
		line += ": " + f.Reason
	case f.State == rebuild.Equal && f.Files > 0:
		line += "  " + planner.Count(f.Files, "file", "files")
		if f.Kind != "convert" && f.Kind != "source" {
			line = strings.TrimSuffix(line, "  "+planner.Count(f.Files, "file", "files"))
		}
	}
	fmt.Fprintln(a.stdout, line)
	for _, d := range f.Differences {
		fmt.Fprintf(a.stdout, "%-11s  - %s\n", "", differenceText(d))
	}
	for _, h := range hintsOf(f.Err) {
		fmt.Fprintf(a.stdout, "%-11s  hint: %s\n", "", h)
	}
}

func differenceText(d rebuild.Difference) string {
	file := term.Clean(d.File)
	if d.Where != rebuild.Remade {
		file = shortPath(filepath.Join(d.Where, filepath.FromSlash(file)))
	}
	switch none := (cache.Digest{}); {
	case d.Found == none:
		return fmt.Sprintf("%s is not there (recorded: sha256 %s)", file, d.Recorded)
	case d.Recorded == none:
		return fmt.Sprintf("%s is new (sha256 %s)", file, d.Found)
	}
	text := fmt.Sprintf("%s: sha256 %s, recorded %s", file, d.Found, d.Recorded)
	if t := d.Tensor; t != nil {
		what := fmt.Sprintf("%d of its %d bytes differ", t.Bytes, t.Of)
		if t.What != "" {
			what = "it " + t.What
		}
		text += fmt.Sprintf("; first tensor %s (%s): %s", term.Clean(t.Name), t.DType, what)
		if t.More > 0 {
			text += fmt.Sprintf(", and %s more", planner.Count(t.More, "tensor", "tensors"))
		}
	}
	return text
}

// countFindings is the last line.
func countFindings(n map[string]int, s sampled, took float64) string {
	var parts []string
	for _, state := range []string{rebuild.Equal, rebuild.Differs, rebuild.MayDiffer, rebuild.Failed, rebuild.Unjudged, rebuild.NotBuilt, rebuild.NotChecked} {
		if n[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[state], state))
		}
	}
	if parts == nil {
		return "nothing to check"
	}
	text := strings.Join(parts, ", ") + " in " + seconds(took)
	if !s.whole() {
		text += fmt.Sprintf("; a sample of %s (--seed %d takes the same)", percent(s.share), s.seed)
	}
	return text
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'g', 4, 64) + "%" }

// hintOf says what to do about differences.
func hintOf(all []rebuild.Finding) []string {
	remade, placed := false, false
	for _, f := range all {
		for _, d := range f.Differences {
			remade = remade || f.State == rebuild.Differs && d.Where == rebuild.Remade
			placed = placed || d.Where != rebuild.Remade
		}
	}
	switch {
	case remade:
		return []string{"either a record was not made by this program from these sources, or this machine computes wrongly; mlxbuild cache verify looks at the cache, and --keep DIR leaves what was made for a look"}
	case placed:
		return []string{"a file in build/ was changed after it was made; remove the folder, and mlxbuild build puts it back"}
	}
	return nil
}
