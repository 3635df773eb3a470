package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// What GitHub Actions is told beside what people read: marks at lines of recipes, a page for the job, outputs for its later steps. None of it decides anything, and nothing of it is written elsewhere.

// Levels of a mark.
const (
	markError   = "error"
	markWarning = "warning"
)

// mark puts a message at a line where GitHub shows the file; without a place it stands on the job's page.
func (a *app) mark(level string, pos spec.Pos, title, text string) {
	if !a.github {
		return
	}
	var at []string
	if pos.File != "" && pos.File != memoryRecipe {
		at = append(at, "file="+property(inWorkspace(pos.File)))
		if pos.Line > 0 {
			at = append(at, fmt.Sprintf("line=%d", pos.Line))
		}
		if pos.Col > 0 {
			at = append(at, fmt.Sprintf("col=%d", pos.Col))
		}
	}
	if title != "" {
		at = append(at, "title="+property(title))
	}
	command := level
	if len(at) > 0 {
		command += " " + strings.Join(at, ",")
	}
	out := a.stdout
	if a.json {
		out = a.stderr // GitHub reads both; programs read the other
	}
	fmt.Fprintf(out, "::%s::%s\n", command, message(text))
}

// message and property are how a command's text and the values before it are written, so that no part of them is taken for another command.
func message(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(message(s))
}

// inWorkspace is a path as GitHub knows it: from the top of the checkout, wherever the program was started.
func inWorkspace(file string) string {
	top := os.Getenv("GITHUB_WORKSPACE")
	abs, err := filepath.Abs(file)
	if top == "" || err != nil {
		return filepath.ToSlash(file)
	}
	if rel, err := filepath.Rel(top, abs); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(file)
}

// withHints is a message with what to do below it.
func withHints(text string, hints []string) string {
	for _, h := range hints {
		text += "\nhint: " + h
	}
	return text
}

// aside prints what a model wrote: GitHub takes no commands from it, whatever it says.
func (a *app) aside(show func(w io.Writer)) {
	if !a.github {
		show(a.stdout)
		return
	}
	end := rand.Text()
	fmt.Fprintf(a.stdout, "::stop-commands::%s\n", end)
	show(a.stdout)
	fmt.Fprintf(a.stdout, "::%s::\n", end)
}

// onPage appends to the page that GitHub shows for a job.
func (a *app) onPage(markdown string) {
	path := os.Getenv("GITHUB_STEP_SUMMARY")
	if path == "" || !a.github || markdown == "" {
		return
	}
	if err := appendFile(path, markdown); err != nil {
		a.sayWarning("the step summary could not be written", err)
	}
}

// setOutputs gives later steps of the job what a build came to.
func (a *app) setOutputs(count map[executor.State]int) {
	path := os.Getenv("GITHUB_OUTPUT")
	if path == "" || !a.github {
		return
	}
	nothing := count[executor.Done]+count[executor.Failed]+count[executor.Skipped] == 0
	if err := appendFile(path, fmt.Sprintf("nothing-to-do=%t\nmade=%d\n", nothing, count[executor.Done])); err != nil {
		a.sayWarning("the outputs of the job's step could not be written", err)
	}
}

// buildPage is a build in one sentence, and a table of what was made, put in place, or went wrong.
func buildPage(g *planner.Graph, outcomes []executor.Outcome, sentence string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### mlxbuild: %s\n\n", cell(sentence))
	rows := 0
	for id, o := range outcomes {
		s := g.Steps[id]
		if o.State == executor.Unneeded || o.State == executor.UpToDate || s.Source != nil && o.State != executor.Failed {
			continue
		}
		if rows++; rows == 1 {
			b.WriteString("| step | state | why | time |\n| --- | --- | --- | ---: |\n")
		}
		why := o.Reason
		if o.Err != nil {
			why = o.Err.Error()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(s.Name), o.State, cell(why), seconds(o.Seconds))
	}
	if rows > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// cell is a text in a table of Markdown, as it is.
func cell(s string) string {
	return strings.NewReplacer("\\", "\\\\", "|", "\\|", "<", "&lt;", "`", "\\`", "*", "\\*", "[", "\\[", "\r", " ", "\n", " ").Replace(s)
}

// differencePage shows lines that a lock would get.
func differencePage(sentence string, lines []string) string {
	return fmt.Sprintf("### mlxbuild: %s\n\n```diff\n%s\n```\n\n", cell(sentence), strings.ReplaceAll(strings.Join(lines, "\n"), "```", "` ` `"))
}
