package cache

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Change is one difference between two keys. Path names the place inside a parameter's value: "bits", "overrides[0].bits".
type Change struct {
	What, Name, Path string // What: kind, code, param, tool, input
	Old, New         string // JSON for parameters; "" = not there
}

// DiffKeys lists how two key texts differ, parameters down to the leaf, in the order of the text.
func DiffKeys(old, new string) []Change {
	a, b := keyLines(old), keyLines(new)
	var changes []Change
	for _, id := range union(a, b) {
		if a[id] == b[id] {
			continue
		}
		what, name, _ := strings.Cut(id, " ")
		if what == "param" {
			changes = append(changes, diffParam(name, a[id], b[id])...)
			continue
		}
		changes = append(changes, Change{What: what, Name: name, Old: a[id], New: b[id]})
	}
	return changes
}

// keyLines maps "param NAME", "input ROLE", "code NAME" to what the line says.
func keyLines(text string) map[string]string {
	out := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		what, rest, _ := strings.Cut(line, " ")
		switch what {
		case "param", "tool", "input":
			name, value, _ := strings.Cut(rest, " ")
			out[what+" "+name] = value
		case "code":
			for _, c := range strings.Fields(rest) {
				name, version, _ := strings.Cut(c, "/")
				out["code "+name] = version
			}
		}
	}
	return out
}

func union(a, b map[string]string) []string {
	var ids []string
	for id := range a {
		ids = append(ids, id)
	}
	for id := range b {
		if _, ok := a[id]; !ok {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	return ids
}

func diffParam(name, old, new string) []Change {
	var a, b any
	if old == "" || new == "" || json.Unmarshal([]byte(old), &a) != nil || json.Unmarshal([]byte(new), &b) != nil {
		return []Change{{What: "param", Name: name, Old: old, New: new}}
	}
	var out []Change
	diffValues("", a, b, func(path string, x, y any) {
		out = append(out, Change{What: "param", Name: name, Path: path, Old: show(x), New: show(y)})
	})
	return out
}

// absent stands for a value that one side does not have.
type absent struct{}

func show(v any) string {
	if _, gone := v.(absent); gone {
		return ""
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

func diffValues(path string, a, b any, report func(path string, a, b any)) {
	am, aIsMap := a.(map[string]any)
	bm, bIsMap := b.(map[string]any)
	al, aIsList := a.([]any)
	bl, bIsList := b.([]any)
	switch {
	case aIsMap && bIsMap:
		diffMaps(path, am, bm, report)
	case aIsList && bIsList:
		diffLists(path, al, bl, report)
	case show(a) != show(b):
		report(path, a, b)
	}
}

func diffMaps(path string, a, b map[string]any, report func(string, any, any)) {
	names := map[string]bool{}
	for n := range a {
		names[n] = true
	}
	for n := range b {
		names[n] = true
	}
	sorted := make([]string, 0, len(names))
	for n := range names {
		sorted = append(sorted, n)
	}
	sort.Strings(sorted)
	for _, n := range sorted {
		at := n
		if path != "" {
			at = path + "." + n
		}
		diffValues(at, orAbsent(a, n), orAbsent(b, n), report)
	}
}

func orAbsent(m map[string]any, n string) any {
	if v, ok := m[n]; ok {
		return v
	}
	return absent{}
}

// diffLists pairs what two lists have in common at both ends, so that an element put in or taken out is one change and not a shift of all that follow.
func diffLists(path string, a, b []any, report func(string, any, any)) {
	start := 0
	for start < len(a) && start < len(b) && show(a[start]) == show(b[start]) {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && show(a[len(a)-1-end]) == show(b[len(b)-1-end]) {
		end++
	}
	am, bm := a[start:len(a)-end], b[start:len(b)-end]
	for i := range max(len(am), len(bm)) {
		at := fmt.Sprintf("%s[%d]", path, start+i)
		switch {
		case i >= len(am):
			report(at, absent{}, bm[i])
		case i >= len(bm):
			report(at, am[i], absent{})
		default:
			diffValues(at, am[i], bm[i], report)
		}
	}
}
