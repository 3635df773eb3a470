package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/term"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// listener turns a run's events into lines and a bar for people, or into JSON lines for programs. Events come from several goroutines.
type listener struct {
	mu        sync.Mutex
	app       *app
	graph     *planner.Graph
	forecasts []*step.Forecast
	told      map[string]bool // notes
	done      map[step.ID]int64
	toldAt    map[step.ID]time.Time // when its progress was last written as JSON
	running   []string
	opened    bool

	project  *project
	cells    []step.ID // cells of benchmarks that this run measures
	measured int
	left     map[step.ID]float64 // seconds that cells will take, by guess
}

func newListener(a *app, p *project) *listener {
	return &listener{app: a, project: p, graph: p.graph, told: map[string]bool{}, done: map[step.ID]int64{}, toldAt: map[step.ID]time.Time{}, left: map[step.ID]float64{}}
}

// prepared keeps the forecasts and judges what only all of them together show.
func (l *listener) prepared(f []*step.Forecast) error {
	l.forecasts = f
	if d := planner.UnmatchedRules(l.graph, f); d != nil {
		return d
	}
	return nil
}

func (l *listener) event(e executor.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.app.json {
		l.json(e)
		return
	}
	if l.app.quiet && e.State != executor.Failed {
		return
	}
	switch e.Kind {
	case executor.RunStart:
		l.count(e.Needed)
		l.start()
	case executor.Progress:
		l.done[e.ID] += e.Bytes
		l.app.term.Add(e.Bytes)
	case executor.Status:
		if l.graph.Steps[e.ID].Kind == "benchmark" {
			l.app.term.Status(l.cellStatus(e.ID, e.Message))
			return
		}
		l.app.term.Describe(l.name(e.ID) + ", " + e.Message)
	case executor.Message:
		l.app.term.Line("%s: %s", l.name(e.ID), e.Message)
	case executor.StepEvent:
		l.step(e)
	}
}

func (l *listener) name(id step.ID) string { return term.Clean(l.graph.Steps[id].Name) }

func (l *listener) start() {
	if l.app.github {
		fmt.Fprintln(l.app.stdout, "::group::mlxbuild build")
		l.opened = true
	}
	var total int64
	for id, f := range l.forecasts {
		if f != nil {
			total += f.ReadBytes
		}
		if src := l.graph.Steps[id].Source; src != nil {
			total += src.Size()
		}
	}
	l.app.term.Start(total, "starting")
}

func (l *listener) step(e executor.Event) {
	t := l.app.term
	switch e.State {
	case executor.Running:
		l.running = append(l.running, l.name(e.ID))
		if l.graph.Steps[e.ID].Kind == "benchmark" {
			t.Status(l.cellStatus(e.ID, "starting"))
			return
		}
		t.Describe(l.running[0])
		return
	case executor.Failed:
		t.Line("%s  %s", t.Paint(term.Red, "failed"), l.name(e.ID))
	case executor.Skipped:
		if !strings.HasSuffix(e.Reason, executor.Failed.String()) {
			break // interrupted or stopped: the last line says how many
		}
		t.Line("%s  %s: %s", t.Paint(term.Yellow, "skipped"), l.name(e.ID), e.Reason)
	case executor.Done, executor.Restored:
		l.line(e)
	}
	for _, w := range e.Warnings {
		t.Line("%s %s: %s", t.Paint(term.Yellow, "warning:"), l.name(e.ID), w)
	}
	l.leave(l.name(e.ID))
}

// noPlace is a line of a recipe made in memory, which nobody could open.
var noPlace = lazyregexp.New(` at ` + regexp.QuoteMeta(memoryRecipe) + `(:\d+)*`)

// line tells what was made and why.
func (l *listener) line(e executor.Event) {
	s, t := l.graph.Steps[e.ID], l.app.term
	if s.Kind == "benchmark" {
		l.cellLine(e)
		return
	}
	verb := map[string]string{"source": "hashed", "convert": "converted", "generate": "generated", "tokens": "tokenized", "reference": "computed", "validate": "validated"}[s.Kind]
	if s.Pool == step.PoolNet {
		if e.State == executor.Done && l.done[e.ID] == 0 {
			return // everything was at hand
		}
		verb = "fetched"
	}
	if e.State == executor.Restored {
		verb = "restored"
	}
	name := s.Name[len(s.Kind)+1:]
	text := fmt.Sprintf("%-9s  %s", verb, t.Paint(term.Bold, term.Clean(name)))
	if l.forecasts != nil && l.forecasts[e.ID] != nil && s.Kind == "convert" && e.State == executor.Done {
		text += "  " + l.forecasts[e.ID].Summary
	}
	if s.Pool == step.PoolNet {
		text += "  " + planner.Bytes(l.done[e.ID])
	}
	text += "  " + t.Paint(term.Dim, seconds(e.Seconds))
	if e.Reason != "" && s.Kind != "source" && e.Reason != "new" && e.State == executor.Done {
		text += "  because " + noPlace().ReplaceAllString(e.Reason, "")
	}
	t.Line("%s", text)
	if l.forecasts != nil && l.forecasts[e.ID] != nil && e.State == executor.Done {
		for _, note := range l.forecasts[e.ID].Notes {
			if told := l.graph.Artifacts[s.Ins[0].Artifact].Name + note; !l.told[told] { // once for a model, not for each of its targets
				l.told[told] = true
				t.Line("%-9s  - %s", "", note)
			}
		}
	}
}

func (l *listener) leave(name string) {
	for i, n := range l.running {
		if n == name {
			l.running = append(l.running[:i], l.running[i+1:]...)
			break
		}
	}
	if len(l.running) > 0 {
		l.app.term.Describe(l.running[0])
	}
}

// finish ends the bar and the group, and closes the list of events.
func (l *listener) finish(outcomes []executor.Outcome, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.app.term.Finish()
	if l.app.json {
		l.app.endEvents(endState(outcomes, err), err)
	}
	if l.opened {
		fmt.Fprintln(l.app.stdout, "::endgroup::")
	}
}

func endState(outcomes []executor.Outcome, err error) string {
	switch {
	case exitCode(err) == exitInterrupted:
		return "interrupted"
	case err != nil:
		return "refused"
	}
	for _, o := range outcomes {
		if o.State == executor.Failed {
			return "failed"
		}
	}
	return "ok"
}

// failures prints why steps failed, after everything else, and returns an error that stands for them.
func (l *listener) failures(outcomes []executor.Outcome) error {
	code, n := 0, 0
	for id, o := range outcomes {
		if o.State != executor.Failed {
			continue
		}
		n++
		s := l.graph.Steps[id]
		code = worst(code, exitCode(o.Err))
		l.app.mark(markError, s.Pos, term.Clean(s.Name)+" failed", withHints(o.Err.Error(), hintsOf(o.Err)))
		if l.app.json {
			continue
		}
		where := ""
		if s.Pos.File != "" && s.Pos.File != memoryRecipe {
			where = s.Pos.String() + ": "
		}
		l.app.term.Line("%s %s%s: %v", l.app.term.Paint(term.Red, "error:"), where, s.Name, o.Err)
		for _, h := range hintsOf(o.Err) {
			l.app.term.Line("%s %s", l.app.term.Paint(term.Bold, "hint:"), h)
		}
	}
	if n == 0 {
		return nil
	}
	return failed(code, n)
}

// failed stands for steps that failed and were told about.
func failed(code, n int) error {
	return &said{&fault{code: code, msg: planner.Count(n, "step", "steps") + " failed"}}
}

// progressEvery is how often progress of a step is written as JSON, but for its end.
const progressEvery = 100 * time.Millisecond

// eventJSON is one line of --json. Field names are a contract with programs: docs/formats.md.
type eventJSON struct {
	V      int     `json:"v"`
	T      string  `json:"t"`
	Event  string  `json:"event"`
	ID     string  `json:"id,omitempty"`
	State  string  `json:"state,omitempty"`
	Reason string  `json:"reason,omitempty"`
	Bytes  int64   `json:"bytes,omitempty"`
	Total  int64   `json:"total,omitempty"`
	Pos    string  `json:"pos,omitempty"`
	Error  string  `json:"error,omitempty"`
	Hint   string  `json:"hint,omitempty"`
	Steps  int     `json:"steps,omitempty"`
	Second float64 `json:"seconds,omitempty"`
}

func (l *listener) json(e executor.Event) {
	j := eventJSON{Reason: e.Reason, Second: e.Seconds}
	if e.Kind != executor.RunStart {
		s := l.graph.Steps[e.ID]
		j.ID, j.Pos = s.Name, s.Pos.String()
	}
	switch e.Kind {
	case executor.RunStart:
		j.Event, j.Steps = "run_start", len(e.Needed)
	case executor.StepEvent:
		j.Event, j.State = "step", e.State.String()
		if e.Err != nil {
			j.Error = e.Err.Error()
			if h := hintsOf(e.Err); len(h) > 0 {
				j.Hint = h[0]
			}
		}
	case executor.Progress:
		l.done[e.ID] += e.Bytes
		if time.Since(l.toldAt[e.ID]) < progressEvery && l.done[e.ID] < l.total(e.ID) {
			return
		}
		l.toldAt[e.ID] = time.Now()
		j.Event, j.Bytes, j.Total = "progress", l.done[e.ID], l.total(e.ID)
	case executor.Status, executor.Message:
		j.Event, j.Reason = "message", e.Message
	}
	l.app.writeEvent(j)
	for _, w := range e.Warnings {
		l.app.writeEvent(eventJSON{Event: "message", ID: j.ID, State: "warning", Reason: w, Pos: j.Pos})
	}
}

func (l *listener) total(id step.ID) int64 {
	if src := l.graph.Steps[id].Source; src != nil {
		return src.Size()
	}
	if l.forecasts != nil && l.forecasts[id] != nil {
		return l.forecasts[id].ReadBytes
	}
	return 0
}

// writeEvent writes one line.
func (a *app) writeEvent(j eventJSON) {
	j.V, j.T = 1, time.Now().UTC().Format(time.RFC3339Nano)
	line, err := json.Marshal(j)
	if err == nil {
		fmt.Fprintf(a.stdout, "%s\n", line)
	}
}

// endEvents closes the list of events: what ended the run, if it is no step's and nobody's wish, and the state.
func (a *app) endEvents(state string, err error) {
	if state == "refused" {
		for _, e := range apart(err) {
			for _, j := range errorEvents(e) {
				a.writeEvent(j)
			}
		}
	}
	a.writeEvent(eventJSON{Event: "run_end", State: state})
	a.streams = false
}

func errorEvents(err error) (out []eventJSON) {
	diags, ok := err.(spec.Diags)
	if !ok {
		diags = spec.Diags{{Msg: err.Error(), Hints: hintsOf(err)}}
	}
	for _, d := range diags {
		j := eventJSON{Event: "message", State: "error", Error: d.Msg}
		if d.Warning {
			j.State = "warning"
		}
		if d.Pos.File != "" && d.Pos.File != memoryRecipe {
			j.Pos = d.Pos.String()
		}
		if len(d.Hints) > 0 {
			j.Hint = d.Hints[0]
		}
		out = append(out, j)
	}
	return out
}
