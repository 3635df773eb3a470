package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/internal/term"
)

// How a run tells about the cells of benchmarks: which of how many, how long all will take, the figure so far.

// count the cells that this run measures, and guess how long they take.
func (l *listener) count(needed []step.ID) {
	var h *history
	for _, id := range needed {
		s := l.graph.Steps[id]
		if s.Kind != "benchmark" {
			continue
		}
		l.cells = append(l.cells, id)
		if h == nil {
			read := readHistory(l.project.cache)
			h = &read
		}
		if l.forecasts != nil {
			l.left[id], _ = h.predict(s, l.forecasts[id])
		}
	}
}

// cellStatus is the line that a terminal shows while a cell is measured.
func (l *listener) cellStatus(id step.ID, what string) string {
	text := fmt.Sprintf("cell %d of %d", l.measured+1, len(l.cells))
	if left := l.timeLeft(); left != "" {
		text += ", " + left
	}
	return text + ": " + cellName(l.graph.Steps[id]) + ", " + what
}

// timeLeft of all cells that are not measured yet, roughly.
func (l *listener) timeLeft() string {
	total := 0.0
	for _, s := range l.left {
		total += s
	}
	if total == 0 {
		return ""
	}
	return "about " + roughly(total) + " left"
}

// roughly is a time as people say it.
func roughly(seconds float64) string {
	switch {
	case seconds < 60:
		return fmt.Sprintf("%.0f s", math.Max(1, seconds))
	case seconds < 3600:
		return fmt.Sprintf("%.0f min", math.Ceil(seconds/60))
	}
	d := time.Duration(seconds * float64(time.Second)).Round(time.Minute)
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}

func cellName(s step.Step) string { return term.Clean(strings.TrimPrefix(s.Name, "benchmark ")) }

// cellLine tells what came of a cell.
func (l *listener) cellLine(e executor.Event) {
	s, t := l.graph.Steps[e.ID], l.app.term
	l.measured++
	delete(l.left, e.ID)
	verb, figure := "measured", ""
	if r := l.cellReport(e); r != nil {
		name := r.Cell.Main()
		if f, ok := r.Side.Metrics[name]; ok {
			figure = report.Amount(name, f.Value)
			if f.High > f.Low {
				figure += fmt.Sprintf(" ± %.1f%%", 100*f.Interval().HalfWidth())
			}
		}
		if !r.OK() {
			verb, figure = t.Paint(term.Red, "error"), firstLine(r.Error)
		}
	}
	if e.State == executor.Restored {
		verb = "restored"
	}
	text := fmt.Sprintf("%-9s  %s  %s  %s", verb, t.Paint(term.Bold, cellName(s)), term.Clean(figure), t.Paint(term.Dim, seconds(e.Seconds)))
	if n := len(l.cells); n > 1 {
		text += fmt.Sprintf("  (%d of %d", l.measured, n)
		if left := l.timeLeft(); left != "" {
			text += ", " + left
		}
		text += ")"
	}
	t.Line("%s", text)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func (l *listener) cellReport(e executor.Event) *benchmark.Report {
	rec := e.Record
	if rec == nil {
		var ok bool
		if rec, ok = l.project.cache.Record(e.Key); !ok {
			return nil
		}
	}
	return reportOf(rec)
}

// reportOf a cell's record; nil when it is none.
func reportOf(rec *cache.Record) *benchmark.Report {
	r := &benchmark.Report{}
	if json.Unmarshal(rec.Result, r) != nil || r.Format != benchmark.Format {
		return nil
	}
	return r
}
