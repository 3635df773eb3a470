package page

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

//go:embed page.html.tmpl
var layout string

//go:embed page.css
var styles string

// pageTemplate is parsed at first use: most runs of the program write no page.
var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"tone": tone, "icon": icon, "when": when, "day": day, "bits": bits, "add1": func(i int) int { return i + 1 },
	}).Parse(layout))
})

// Write writes the page. The same page makes the same bytes.
func (p *Page) Write(w io.Writer) error {
	var b bytes.Buffer
	if err := pageTemplate().Execute(&b, newView(p)); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	_, err := w.Write(visible(b.Bytes()))
	return err
}

// view is a page with what its template cannot work out: groups, parts of texts, drawings.
type view struct {
	*Page
	CSS       template.CSS
	Sections  []section
	Plot      *plot
	Groups    []group
	Histories []history
	Prompts   []prompt
	Legends   []legend
	Maps      []heatmap
	Checked   bool // some target has checks
}

type section struct{ ID, Title string }

func newView(p *Page) view {
	v := view{Page: p, CSS: template.CSS(styles), Plot: newPlot(p.Targets), Groups: groups(p), Histories: histories(p.Series), Prompts: prompts(p.Prompts)}
	v.Legends, v.Maps = heatmaps(p.Maps)
	v.Checked = slices.ContainsFunc(p.Targets, func(t Target) bool { return len(t.Checks) > 0 })
	for _, s := range []struct {
		has bool
		section
	}{
		{len(p.Targets) > 0, section{"targets", "Targets"}},
		{len(v.Groups) > 0, section{"benchmarks", "Benchmarks"}},
		{len(v.Histories) > 0, section{"history", "History"}},
		{len(v.Prompts) > 0, section{"texts", "Texts"}},
		{len(v.Maps) > 0, section{"quantization", "Quantization"}},
		{len(p.Facts) > 0, section{"environment", "Environment"}},
		{len(p.Terms) > 0, section{"numbers", "How each number was got"}},
		{v.Checked, section{"checks", "Checks"}},
		{len(p.Recipes) > 0, section{"recipe", "Recipe"}},
	} {
		if s.has {
			v.Sections = append(v.Sections, s.section)
		}
	}
	return v
}

// Has says whether the page has a section.
func (v view) Has(id string) bool {
	return slices.ContainsFunc(v.Sections, func(s section) bool { return s.ID == id })
}

// group is the cells that can be compared with each other: one benchmark, batch and shape.
type group struct {
	Name    string
	Columns []column
	Strips  string        // the metric whose samples are drawn, "" for none
	Axis    template.HTML // of the strips
	Rows    []row
	Changes bool // some cell has a gate
}

// column of a group: a metric.
type column struct {
	Name   string
	Higher bool
	Term   int // 1 for the first of Page.Terms, 0 where there is none
}

type row struct {
	Cell
	Figures []*Figure // one for each column, nil where the cell has none
	Strip   template.HTML
}

func (g group) Width() int {
	if g.Strips != "" {
		return len(g.Columns) + 1
	}
	return len(g.Columns)
}

// Out says that a cell's figures are struck out.
func (r row) Out() bool { return r.Unranked != "" }

// First says that a cell is the best one; what is struck out or has no figures never is.
func (r row) First() bool { return r.Best && r.Unranked == "" && r.Error == "" }

func (r row) ShortKey() string {
	if len(r.Key) > 12 {
		return r.Key[:12]
	}
	return r.Key
}

func groups(p *Page) (out []group) {
	place := map[[3]string]int{}
	for _, c := range p.Cells {
		key := [3]string{c.Benchmark, strconv.Itoa(c.Batch), c.Shape}
		i, ok := place[key]
		if !ok {
			i = len(out)
			place[key] = i
			out = append(out, group{Name: groupName(c)})
		}
		out[i].Rows = append(out[i].Rows, row{Cell: c})
	}
	for i := range out {
		out[i].fill(p.Terms)
	}
	return out
}

func groupName(c Cell) string {
	name := c.Benchmark
	if name == "" {
		name = "benchmark"
	}
	name += fmt.Sprintf(", batch %d", c.Batch)
	if c.Shape != "" {
		name += ", " + c.Shape + " tokens"
	}
	return name
}

func (g *group) fill(terms []Term) {
	place := map[string]int{}
	for _, r := range g.Rows {
		g.Changes = g.Changes || len(r.Against) > 0
		for _, m := range r.Metrics {
			if _, ok := place[m.Name]; !ok {
				place[m.Name] = len(g.Columns)
				term := slices.IndexFunc(terms, func(t Term) bool { return t.Name == m.Name })
				g.Columns = append(g.Columns, column{m.Name, m.Higher, term + 1})
			}
		}
	}
	for i := range g.Rows {
		r := &g.Rows[i]
		r.Figures = make([]*Figure, len(g.Columns))
		for j := range r.Metrics {
			r.Figures[place[r.Metrics[j].Name]] = &r.Metrics[j].Figure
		}
	}
	g.strips()
}

// prompt is a prompt with its texts cut where they part from the first one.
type prompt struct {
	Set, Prompt string
	Number      int // among those of its set
	Texts       []parted
}

type parted struct {
	Text
	First       bool
	Begin, Rest string
}

func prompts(all []Prompt) (out []prompt) {
	seen := map[string]int{}
	for _, p := range all {
		seen[p.Set]++
		q := prompt{Set: p.Set, Prompt: p.Prompt, Number: seen[p.Set]}
		for i, t := range p.Texts {
			same, rest := cut(t)
			q.Texts = append(q.Texts, parted{t, i == 0, same, rest})
		}
		out = append(out, q)
	}
	return out
}

// cut cuts a text where it parts from the first one, before a whole character: a letter keeps its accents.
func cut(t Text) (same, rest string) {
	at := min(max(t.PartsAt, 0), len(t.Text))
	if t.Same || at == len(t.Text) {
		return t.Text, ""
	}
	for at > 0 {
		r, _ := utf8.DecodeRuneInString(t.Text[at:])
		if utf8.RuneStart(t.Text[at]) && !unicode.Is(unicode.M, r) {
			break
		}
		at--
	}
	return t.Text[:at], t.Text[at:]
}

// tone of a verdict is its colour and shape; words outside the list get neither.
func tone(verdict string) string {
	switch verdict {
	case "ok":
		return "good"
	case "warned", "noisy":
		return "warn"
	case "undecided":
		return "open"
	case "failed", "slower", "larger", "error":
		return "bad"
	}
	return "none"
}

func when(t time.Time) string { return dated(t, "2006-01-02 15:04 MST") }
func day(t time.Time) string  { return dated(t, "2006-01-02") }

func dated(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(layout)
}

func bits(v float64) string {
	if !finite(v) || v <= 0 {
		return ""
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// short is a number in few characters.
func short(v float64) string {
	if a := math.Abs(v); a != 0 && (a >= 1e6 || a < 1e-4) {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	s := strconv.FormatFloat(v, 'f', max(0, 3-digits(v)), 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// digits before the decimal point; for 0.01 and the like as many fewer as there are zeros after it.
func digits(v float64) int {
	if v == 0 {
		return 1
	}
	return int(math.Floor(math.Log10(math.Abs(v)))) + 1
}

// visible makes of anything what every parser reads: for what XML has no place for, and for what turns the order of the text after it, it writes a picture or a name.
func visible(in []byte) []byte {
	out := make([]byte, 0, len(in))
	for len(in) > 0 {
		r, n := utf8.DecodeRune(in)
		switch {
		case r == '\r' && len(in) > 1 && in[1] == '\n':
		case r == '\n' || r == '\t':
			out = append(out, in[0])
		case r < ' ':
			out = utf8.AppendRune(out, '\u2400'+r)
		case r == 0x7f:
			out = utf8.AppendRune(out, '\u2421')
		case r > 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r&0xfffe == 0xfffe:
			out = fmt.Appendf(out, "[U+%04X]", r)
		default:
			out = utf8.AppendRune(out, r)
		}
		in = in[n:]
	}
	return out
}
