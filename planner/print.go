package planner

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/step"
)

// Standing is where one step stands before a run: what the executor found by looking, or nothing when only the plan itself is printed.
type Standing struct {
	State   string  `json:"state,omitempty"`   // "up to date", "cached", "run"
	Reason  string  `json:"reason,omitempty"`  // why it has to run
	Key     string  `json:"key,omitempty"`     // hex; "" when it depends on what has not been made or hashed
	Seconds float64 `json:"seconds,omitempty"` // predicted from recorded runs, 0 when there are none
}

// View is a plan ready to be printed: the chosen steps with what is known of each.
type View struct {
	Graph     *Graph
	Steps     []step.ID
	Forecasts []*step.Forecast // by step
	Standings []Standing       // by step; nil prints the bare plan
	Recorded  int              // how many recorded runs the seconds come from
}

// Totals adds up the steps that have to run.
type Totals struct {
	Steps      int     `json:"steps"`
	Work       int     `json:"work"` // to run, or to put in place from the cache
	Run        int     `json:"run"`
	ReadBytes  int64   `json:"read_bytes"`
	WriteBytes int64   `json:"write_bytes"`
	PeakMemory int64   `json:"peak_memory_bytes"`
	Seconds    float64 `json:"seconds,omitempty"`
}

// Totals of the view; peak memory is the largest single step's.
func (v View) Totals() Totals {
	t := Totals{Steps: len(v.Steps)}
	for _, id := range v.Steps {
		if v.Standings != nil && v.Standings[id].State == "cached" {
			t.Work++
		}
		if v.Standings != nil && v.Standings[id].State != "run" {
			continue
		}
		t.Run++
		t.Work++
		if v.Standings != nil {
			t.Seconds += v.Standings[id].Seconds
		}
		if f := v.Forecasts[id]; f != nil {
			t.ReadBytes += f.ReadBytes
			t.WriteBytes += f.WriteBytes
			t.PeakMemory = max(t.PeakMemory, f.PeakMemory)
		}
	}
	return t
}

// Text prints the plan for people: one line a step, its notes below, totals at the end.
func (v View) Text(w io.Writer) {
	kind, name, sum := 0, 0, 0
	said := map[string]bool{}
	for _, id := range v.Steps {
		s := v.Graph.Steps[id]
		kind, name, sum = max(kind, len(s.Kind)), max(name, len(v.label(id))), max(sum, len(v.summary(id)))
	}
	for _, id := range v.Steps {
		line := fmt.Sprintf("%-*s  %-*s  %-*s", kind, v.Graph.Steps[id].Kind, name, v.label(id), sum, v.summary(id))
		if v.Standings != nil {
			line += "  " + v.standing(id)
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
		if f := v.Forecasts[id]; f != nil {
			for _, note := range f.Notes {
				if told := v.source(id) + note; !said[told] { // what is said of a model is said once, not for each of its targets
					said[told] = true
					fmt.Fprintf(w, "%-*s  - %s\n", kind, "", note)
				}
			}
		}
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, v.total())
}

// source names what a step starts from.
func (v View) source(id step.ID) string {
	if ins := v.Graph.Steps[id].Ins; len(ins) > 0 {
		return v.Graph.Artifacts[ins[0].Artifact].Name
	}
	return ""
}

func (v View) label(id step.ID) string {
	return strings.TrimPrefix(v.Graph.Steps[id].Name, v.Graph.Steps[id].Kind+" ")
}

func (v View) summary(id step.ID) string {
	s := v.Graph.Steps[id]
	if s.Source != nil && s.Source.Size() > 0 {
		return Bytes(s.Source.Size())
	}
	f := v.Forecasts[id]
	switch {
	case f == nil:
		return ""
	case f.After != "":
		return strings.TrimSpace(f.Summary + " rules: " + f.After)
	}
	return f.Summary
}

func (v View) standing(id step.ID) string {
	st := v.Standings[id]
	if st.Reason == "" {
		return st.State
	}
	return st.State + ": " + st.Reason
}

func (v View) total() string {
	t := v.Totals()
	if v.Standings != nil && t.Work == 0 {
		return fmt.Sprintf("nothing to do: %s up to date", Count(t.Steps, "step is", "steps are"))
	}
	parts := []string{fmt.Sprintf("%s of %d to run", Count(t.Run, "step", "steps"), t.Steps)}
	if cached := t.Work - t.Run; cached > 0 {
		parts = append(parts, fmt.Sprintf("%d to take from the cache", cached))
	}
	if v.Standings == nil {
		parts[0] = Count(t.Steps, "step", "steps")
	}
	if t.ReadBytes > 0 {
		parts = append(parts, "reads "+Bytes(t.ReadBytes))
	}
	if t.WriteBytes > 0 {
		parts = append(parts, "writes "+Bytes(t.WriteBytes))
	}
	if t.PeakMemory > 0 {
		parts = append(parts, "peak memory "+Bytes(t.PeakMemory))
	}
	if t.Seconds > 0 {
		parts = append(parts, "about "+duration(t.Seconds)+v.basis())
	}
	return strings.Join(parts, ", ")
}

// basis says what the predicted time comes from.
func (v View) basis() string {
	if v.Recorded == 0 {
		return ""
	}
	return " (from " + Count(v.Recorded, "recorded run", "recorded runs") + ")"
}

// duration of a plan: nobody counts the seconds of minutes.
func duration(seconds float64) string {
	switch {
	case seconds < 60:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds < 5400:
		return fmt.Sprintf("%.0f min", seconds/60)
	}
	return fmt.Sprintf("%.1f h", seconds/3600)
}

// stepJSON is one step of the JSON print. Field names are a contract with programs.
type stepJSON struct {
	ID       int      `json:"id"`
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	Target   string   `json:"target,omitempty"`
	Pos      string   `json:"pos"`
	Needs    []int    `json:"needs"`
	Folder   string   `json:"folder,omitempty"`
	Summary  string   `json:"summary,omitempty"`
	Notes    []string `json:"notes,omitempty"`
	After    string   `json:"after,omitempty"`
	Read     int64    `json:"read_bytes"`
	Write    int64    `json:"write_bytes"`
	PeakByte int64    `json:"peak_memory_bytes"`
	Standing
}

// JSON prints the plan as one document.
func (v View) JSON(w io.Writer) error {
	doc := struct {
		Version int        `json:"version"`
		Recipes []string   `json:"recipes"`
		Steps   []stepJSON `json:"steps"`
		Totals  Totals     `json:"totals"`
	}{Version: 1, Steps: []stepJSON{}, Totals: v.Totals()}
	for _, r := range v.Graph.Recipes {
		doc.Recipes = append(doc.Recipes, r.File)
	}
	for _, id := range v.Steps {
		s := v.Graph.Steps[id]
		j := stepJSON{ID: int(id), Kind: s.Kind, Name: s.Name, Target: s.Target, Pos: s.Pos.String(), Needs: []int{}, Folder: s.Folder, Summary: v.summary(id)}
		for _, n := range v.Graph.Needs(id) {
			j.Needs = append(j.Needs, int(n))
		}
		if f := v.Forecasts[id]; f != nil {
			j.Notes, j.After, j.Read, j.Write, j.PeakByte = f.Notes, f.After, f.ReadBytes, f.WriteBytes, f.PeakMemory
		}
		if v.Standings != nil {
			j.Standing = v.Standings[id]
		}
		doc.Steps = append(doc.Steps, j)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

// DOT prints the graph for Graphviz: steps are boxes, what is up to date is dashed.
func (v View) DOT(w io.Writer) {
	fmt.Fprintln(w, "digraph plan {\n  rankdir=LR; node [shape=box, fontname=\"sans-serif\"];")
	shown := map[step.ID]bool{}
	for _, id := range v.Steps {
		shown[id] = true
		label := v.Graph.Steps[id].Name
		if sum := v.summary(id); sum != "" {
			label += "\n" + sum
		}
		style := ""
		if v.Standings != nil && v.Standings[id].State != "run" {
			style = ", style=dashed"
		}
		fmt.Fprintf(w, "  s%d [label=%q%s];\n", id, label, style)
	}
	for _, id := range v.Steps {
		for _, n := range v.Graph.Needs(id) {
			if shown[n] {
				fmt.Fprintf(w, "  s%d -> s%d;\n", n, id)
			}
		}
	}
	fmt.Fprintln(w, "}")
}

// Closure returns the steps and everything that they need, in plan order.
func (g *Graph) Closure(ids []step.ID) []step.ID {
	in := make([]bool, len(g.Steps))
	for _, id := range ids {
		in[id] = true
	}
	for id := len(g.Steps) - 1; id >= 0; id-- { // makers come before users
		if in[id] {
			for _, a := range g.Steps[id].Ins {
				in[g.Maker(a.Artifact)] = true
			}
		}
	}
	out := make([]step.ID, 0, len(g.Steps))
	for id, ok := range in {
		if ok {
			out = append(out, step.ID(id))
		}
	}
	return out
}

// Bytes prints a size with a decimal unit: 1 MB is 1e6 bytes.
func Bytes(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}

// Count prints a number with its noun.
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
