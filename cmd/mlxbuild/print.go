package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/hint"
	"github.com/mlxbuild/mlxbuild/internal/lock"
	"github.com/mlxbuild/mlxbuild/internal/term"
	"github.com/mlxbuild/mlxbuild/spec"
)

// The voice of the program. Answers go to standard output; everything said on the way goes to standard error. An error says what is wrong, then where, then
// `hint:` with what to do; no capitals, no full stop. Problems of a recipe begin with file:line:col, so that editors find them.

// sayError prints an error with its hints.
func (a *app) sayError(err error) {
	for _, e := range apart(err) {
		if diags, ok := e.(spec.Diags); ok {
			a.sayDiags(diags)
			continue
		}
		a.term.Line("%s %s", a.term.Paint(term.Red, "error:"), e.Error())
		for _, h := range hintsOf(e) {
			a.term.Line("%s %s", a.term.Paint(term.Bold, "hint:"), h)
		}
		a.markError(e)
	}
}

// sayWarning tells of an error that ends nothing.
func (a *app) sayWarning(what string, err error) {
	a.term.Line("%s %s: %v", a.term.Paint(term.Yellow, "warning:"), what, err)
	for _, h := range hintsOf(err) {
		a.term.Line("%s %s", a.term.Paint(term.Bold, "hint:"), h)
	}
}

// apart are the errors that one stands for, each to be told by itself: spec.Diags where they have a place in a recipe or a model.
func apart(err error) (out []error) {
	var diags spec.Diags
	if errors.As(err, &diags) {
		return []error{diags}
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range several.Unwrap() {
			out = append(out, apart(e)...)
		}
		return out
	}
	var u *unresolved
	if errors.As(err, &u) {
		return []error{spec.Diags{u.diag()}}
	}
	return []error{err}
}

// markError marks an error where GitHub shows it. What stands for several that have marks of their own, and what is no fault, gets none.
func (a *app) markError(err error) {
	switch exitCode(err) {
	case exitExpectation, exitNoisy, exitWork, exitInterrupted:
		return
	}
	var f *fault
	if errors.As(err, &f) && f.marked {
		return
	}
	var at spec.Pos
	text := err.Error()
	var l *lock.Error
	if errors.As(err, &l) {
		at, text = spec.Pos{File: l.File, Line: l.Line}, l.What
	}
	a.mark(markError, at, "", withHints(text, hintsOf(err)))
}

func hintsOf(err error) []string {
	var f *fault
	if errors.As(err, &f) {
		return f.hints
	}
	if h := hint.Of(err); h != "" {
		return []string{h}
	}
	return nil
}

// sayDiags prints problems of recipes and models. Those of a recipe made in memory have no position that a person could open.
func (a *app) sayDiags(diags spec.Diags) {
	for _, d := range diags {
		if d.Pos.File == memoryRecipe {
			d.Pos, d.Line = spec.Pos{}, ""
		}
		label, level := a.term.Paint(term.Red, "error:"), markError
		if d.Warning {
			label, level = a.term.Paint(term.Yellow, "warning:"), markWarning
		}
		text := strings.TrimRight(d.Render(), "\n")
		if d.Pos.File == "" || d.Warning {
			text = label + " " + text
		}
		a.term.Line("%s", text)
		a.mark(level, d.Pos, "", withHints(d.Msg, d.Hints))
	}
}

// printJSON prints one document.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table prints rows in columns as wide as their widest cell; the last column is free. Columns named in right are aligned to the right.
func table(w io.Writer, rows [][]string, right ...int) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if isIn(right, i) {
				cell = pad + cell
			} else if i < len(row)-1 {
				cell += pad
			}
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(cell)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

func isIn(list []int, n int) bool {
	for _, e := range list {
		if e == n {
			return true
		}
	}
	return false
}
