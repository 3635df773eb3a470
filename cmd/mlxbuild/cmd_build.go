package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	machinery "github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/planner"
)

type buildCmd struct {
	Args      []string `arg:"" optional:"" sep:"none" name:"recipe-or-selector" help:"Recipe files (.yaml; default mlxbuild.yaml) and selectors: a glob over targets ('smollm2/*') or key=value (bits=4,model=smollm2)."`
	DryRun    bool     `short:"n" help:"Only show what would be done, like plan."`
	KeepGoing bool     `short:"k" help:"After a failure go on with what does not need it."`
	Jobs      int      `short:"j" default:"2" placeholder:"N" help:"Steps that run together; each uses every core (default 2)."`
	Force     bool     `help:"Replace output folders that mlxbuild did not make."`
	Quick     bool     `help:"Benchmarks: three runs, no verdict."`
	Commands  bool     `name:"allow-commands" help:"Benchmarks may run the programs that the recipe names."`
}

// Help is shown by --help.
func (buildCmd) Help() string {
	return `Examples:

  mlxbuild build                         everything in mlxbuild.yaml
  mlxbuild build recipes/quickstart.yaml one recipe
  mlxbuild build 'smollm2/*' bits=4      some targets: every one of smollm2, and all with 4 bits

A second run does nothing. After a change only what it touches is made again, down to the tensor.
Outputs go to build/ beside the recipe; Ctrl-C leaves what was finished, and the next run goes on.

Exit codes: ` + exitHelp()
}

func (b buildCmd) Run(a *app) error {
	if b.DryRun {
		return planCmd{Args: b.Args}.Run(a)
	}
	a.quick, a.commands, a.streams, a.answers = b.Quick, b.Commands, a.json, &counted{w: a.stdout}
	a.stdout = a.answers
	p, err := a.open(b.Args)
	if err != nil {
		return err
	}
	defer p.close()
	outcomes, err := a.build(p, executor.Options{Jobs: b.Jobs, KeepGoing: b.KeepGoing, Force: b.Force})
	if outcomes != nil {
		a.setOutputs(countStates(p, outcomes))
	}
	if err != nil {
		return err
	}
	if err := a.collect(p, outcomes); err != nil {
		return err
	}
	validated := a.collectValidations(p, outcomes)
	timed := a.collectBenchmarks(p, outcomes)
	if err := a.writeReports(p, outcomes); err != nil {
		return err
	}
	if worst(exitCode(validated), exitCode(timed)) == exitCode(timed) && timed != nil {
		return timed
	}
	if validated == nil {
		a.leaveSnapshot(p, outcomes)
	}
	return validated
}

// build runs what was asked for and tells about it.
func (a *app) build(p *project, o executor.Options) ([]executor.Outcome, error) {
	if err := p.unmeasurable(); err != nil {
		return nil, err
	}
	if err := a.lockMissing(p); err != nil {
		return nil, err
	}
	if err := a.lockTools(p); err != nil {
		return nil, err
	}
	started := time.Now()
	l := newListener(a, p)
	o.Cache, o.Version, o.Machine = p.cache, version(), machine()
	o.Memory = memoryOfSteps()
	o.Events, o.Prepared = l.event, l.prepared
	outcomes, err := executor.Run(a.ctx, p.graph, p.want, o)
	l.finish(outcomes, err)
	failed := l.failures(outcomes)
	switch {
	case errors.Is(err, executor.ErrInterrupted):
		a.saySummary(summary(p, outcomes, started))
		return outcomes, &fault{code: exitInterrupted, msg: "interrupted", hints: []string{"what was finished is kept; run the same command to go on"}}
	case err != nil:
		return outcomes, err
	}
	sentence, count := summary(p, outcomes, started)
	a.saySummary(sentence, count)
	a.onPage(buildPage(p.graph, outcomes, sentence))
	if failed != nil {
		return outcomes, failed
	}
	return outcomes, nil
}

// memoryOfSteps is what steps may want together: most of what can be had. 0 = unknown, and then --jobs alone limits them.
func memoryOfSteps() int64 { return machinery.Available() / 10 * 8 }

// saySummary is the last line of a build.
func (a *app) saySummary(sentence string, count map[executor.State]int) {
	if a.json || a.quiet || a.calm && !changedAny(count) {
		return
	}
	a.term.Line("%s", sentence)
}

func changedAny(count map[executor.State]int) bool {
	return count[executor.Done]+count[executor.Restored]+count[executor.Failed]+count[executor.Skipped] > 0
}

// countStates says how many steps ended in which state. Sources are read, not made; they count when they fail.
func countStates(p *project, outcomes []executor.Outcome) map[executor.State]int {
	count := map[executor.State]int{}
	for id, o := range outcomes {
		if p.graph.Steps[id].Source == nil || o.State == executor.Failed {
			count[o.State]++
		}
	}
	return count
}

// nothingToDo is how the sentence begins that a build with nothing to do ends with.
const nothingToDo = "nothing to do: "

// summary is a build in one sentence.
func summary(p *project, outcomes []executor.Outcome, started time.Time) (sentence string, count map[executor.State]int) {
	count = countStates(p, outcomes)
	switch {
	case changedAny(count):
	case len(p.want) == 0:
		return nothingToDo + "the recipe makes no target; it needs models and quantizations", count
	default:
		return nothingToDo + planner.Count(len(p.want), "step is", "steps are") + " up to date", count
	}
	var parts []string
	for _, s := range []struct {
		state executor.State
		word  string
	}{{executor.Done, "made"}, {executor.Restored, "taken from the cache"}, {executor.UpToDate, "up to date"}, {executor.Failed, "failed"}, {executor.Skipped, "skipped"}} {
		if count[s.state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s.state], s.word))
		}
	}
	return fmt.Sprintf("%s in %s%s", strings.Join(parts, ", "), seconds(time.Since(started).Seconds()), linkPhrase(outcomes)), count
}

func seconds(s float64) string {
	switch {
	case s < 0.1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 60:
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%dm%02ds", int(s)/60, int(s)%60)
}

// linkPhrase says how weights were put in place, because a copy takes the room twice.
func linkPhrase(outcomes []executor.Outcome) string {
	copies := 0
	for _, o := range outcomes {
		copies += o.WeightCopies
	}
	if copies == 0 {
		return ""
	}
	return fmt.Sprintf("; %s copied, as this file system can link neither way", planner.Count(copies, "weight file was", "weight files were"))
}

// shortPath is a path as a person would type it here.
func shortPath(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return path
}
