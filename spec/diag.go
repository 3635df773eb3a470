package spec

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

// Pos is a place in a file. Line and Col start at 1; Col counts characters.
type Pos struct {
	File      string
	Line, Col int
}

// String is file:line:col, as editors read it.
func (p Pos) String() string {
	switch {
	case p.File == "":
		return "-"
	case p.Line == 0:
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Diag is one problem that a person can mend.
type Diag struct {
	Pos     Pos
	Msg     string // what is wrong, a sentence without capital or full stop
	Hints   []string
	Warning bool
	Line    string // the source line, for the caret; "" = none

	stage int // of loading, in which it was found
}

// Render is the problem as people read it: position and sentence, the line, a caret, hints.
func (d Diag) Render() string {
	var b strings.Builder
	if d.Pos.File != "" {
		b.WriteString(d.Pos.String() + ": ")
	}
	b.WriteString(d.Msg + "\n")
	if line := strings.TrimRight(d.Line, "\r\n"); line != "" && d.Pos.Col > 0 && utf8.RuneCountInString(line) < 500 {
		fmt.Fprintf(&b, "    %s\n    %s^\n", line, under(line, d.Pos.Col-1))
	}
	for _, h := range d.Hints {
		b.WriteString("    hint: " + h + "\n")
	}
	return b.String()
}

// under is the space below the first n characters of a line; tabs stay tabs.
func under(line string, n int) string {
	var b strings.Builder
	for _, r := range line {
		if n--; n < 0 {
			break
		}
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// Diags is a list of problems; as an error it is all of them.
type Diags []Diag

// Error renders every problem.
func (d Diags) Error() string {
	var parts []string
	for _, x := range d {
		parts = append(parts, strings.TrimRight(x.Render(), "\n"))
	}
	return strings.Join(parts, "\n")
}

// HasErrors reports whether any of them is not a warning.
func (d Diags) HasErrors() bool {
	for _, x := range d {
		if !x.Warning {
			return true
		}
	}
	return false
}

// sorted orders problems by place. It drops repetitions, and at one place what a later stage of loading said: it mostly follows from the first.
func (d Diags) sorted() Diags {
	sort.SliceStable(d, func(i, j int) bool {
		a, b := d[i].Pos, d[j].Pos
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Col < b.Col
	})
	var out Diags
	for _, x := range d {
		if n := len(out); n > 0 && out[n-1].Pos == x.Pos && (out[n-1].Msg == x.Msg || out[n-1].stage != x.stage) {
			continue
		}
		out = append(out, x)
	}
	return out
}

// Closest finds what a person may have meant: the nearest word by edits, if it is near at all.
func Closest(word string, among []string) string {
	best, least := "", max(len(word)/3, 1)+1
	for _, candidate := range among {
		if d := edits(strings.ToLower(word), strings.ToLower(candidate), least); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// edits is the number of letters to put in, take out, change or swap with a neighbour, or limit when it is no less.
func edits(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) >= limit || len(y)-len(x) >= limit || len(x) > 200 {
		return limit
	}
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			change := 1
			if x[i-1] == y[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
