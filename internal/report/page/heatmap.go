package page

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// heatmap is a target's map, drawn: once by bits, once by error.
type heatmap struct {
	Target string
	Bits   template.HTML
	Error  template.HTML // "" when no error is known
	Words  string
	Kinds  []modules
}

// modules says in words what a column shows.
type modules struct{ Name, Kinds, Errors string }

// legend of all maps: they share their colours, so that two targets can be compared.
type legend struct {
	Name string
	SVG  template.HTML
}

// The colours of the maps, from light to dark: blue-green for bits, red for errors. They are the same on a dark page; the text on each is black or white, whichever is easier to read.
var (
	bitRamp   = []rgb{{0xf4, 0xf1, 0xd6}, {0xb5, 0xd9, 0xb8}, {0x5f, 0xb0, 0xb0}, {0x2f, 0x74, 0x9c}, {0x27, 0x36, 0x6b}}
	errorRamp = []rgb{{0xfa, 0xf0, 0xdc}, {0xf5, 0xc0, 0x8a}, {0xe0, 0x7a, 0x55}, {0xa8, 0x35, 0x55}, {0x4c, 0x14, 0x4e}}
)

type rgb [3]float64

func (c rgb) String() string {
	return fmt.Sprintf("#%02x%02x%02x", uint8(c[0]), uint8(c[1]), uint8(c[2]))
}

// luminance as WCAG defines it.
func (c rgb) luminance() (l float64) {
	for i, part := range []float64{.2126, .7152, .0722} {
		v := c[i] / 255
		if v <= .04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+.055)/1.055, 2.4)
		}
		l += part * v
	}
	return l
}

// ink is the class of text on a colour: black and white contrast alike at this luminance.
func (c rgb) ink() string {
	if c.luminance() > .179 {
		return "value"
	}
	return "value white"
}

// along is the colour at a part, 0 to 1, of a ramp.
func along(ramp []rgb, part float64) rgb {
	at := min(max(part, 0), 1) * float64(len(ramp)-1)
	i := min(int(at), len(ramp)-2)
	var c rgb
	for j := range c {
		c[j] = math.Round(ramp[i][j] + (ramp[i+1][j]-ramp[i][j])*(at-float64(i)))
	}
	return c
}

// colouring turns a property of matrices into colours.
type colouring struct {
	ramp  []rgb
	scale scale // to 0..1
	of    func(MapCell) (float64, bool)
	label func(float64) string
}

func (c MapCell) there() bool { return c.Kind != "" || finite(c.Bits) && c.Bits > 0 }

func bitsOf(c MapCell) (float64, bool) { return c.Bits, finite(c.Bits) && c.Bits > 0 }

func errorOf(c MapCell) (float64, bool) { return c.Error, c.there() && finite(c.Error) && c.Error >= 0 }

func percent(v float64) string {
	v *= 100
	switch {
	case v == 0:
		return "0"
	case !finite(v) || v >= 1000 || v < .001:
		return fmt.Sprintf("%.0e%%", v)
	}
	return fmt.Sprintf("%.*f%%", min(max(0, 2-digits(v)), 3), v)
}

func heatmaps(maps []Map) (legends []legend, out []heatmap) {
	var bits, errors []float64
	for _, c := range matrices(maps) {
		if v, ok := bitsOf(c); ok {
			bits = append(bits, v)
		}
		if v, ok := errorOf(c); ok {
			errors = append(errors, v)
		}
	}
	byBits := colouring{bitRamp, logScale(append(bits, 2, 16)), bitsOf, short}
	byError := colouring{errorRamp, logScale(errors), errorOf, percent}
	for i, m := range maps {
		h := heatmap{Target: m.Target, Words: m.words(), Kinds: m.modules()}
		if len(m.Columns) == 0 || len(m.Rows) == 0 {
			continue
		}
		h.Bits = m.draw(fmt.Sprintf("bits%d", i), "Bits for each weight of "+m.Target, h.Words, byBits)
		if slices.ContainsFunc(matrices([]Map{m}), func(c MapCell) bool { _, ok := errorOf(c); return ok }) {
			h.Error = m.draw(fmt.Sprintf("error%d", i), "Relative error of "+m.Target, h.Words, byError)
		}
		out = append(out, h)
	}
	if len(bits) > 0 {
		legends = append(legends, legend{"Bits for each weight, scales included", byBits.swatches(bits)})
	}
	if len(errors) > 0 {
		legends = append(legends, legend{"Error: |difference| / |source|", byError.gradient()})
	}
	return legends, out
}

func matrices(maps []Map) (out []MapCell) {
	for _, m := range maps {
		for _, r := range m.Rows {
			for _, c := range r.Cells[:min(len(r.Cells), len(m.Columns))] {
				if c.there() {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// logScale is a logarithmic scale of the positive values, onto 0 to 1.
func logScale(vs []float64) scale {
	lo, hi := extent(slices.DeleteFunc(numbers(vs), func(v float64) bool { return v <= 0 }))
	if lo > hi {
		lo, hi = 1, 1
	}
	if lo == hi {
		lo, hi = max(lo/2, math.SmallestNonzeroFloat64), min(hi*2, math.MaxFloat64)
	}
	return scale{lo: lo, hi: hi, from: 0, to: 1, log: true}
}

const (
	cellW, cellH     = 42.0, 17.0
	mapLeft, mapTop  = 38.0, 96.0
	mapRight         = 66.0 // for the last column's name, which leans over
	longestModule    = 20
	slant            = -45
	swatchW, swatchH = 54.0, 22.0
)

func (m Map) draw(id, title, desc string, by colouring) template.HTML {
	right, bottom := mapLeft+cellW*float64(len(m.Columns)), mapTop+cellH*float64(len(m.Rows))
	s := newSVG(id, right+mapRight, bottom+4, title, desc)
	for i, c := range m.Columns {
		x := mapLeft + cellW*(float64(i)+.5)
		s.text(x, mapTop-8, clip(c, longestModule), "class", "tick", "transform", fmt.Sprintf("rotate(%d %s %s)", slant, px(x), px(mapTop-8)))
	}
	for i, r := range m.Rows {
		y := mapTop + cellH*float64(i)
		s.text(mapLeft-6, y+cellH-4.5, clip(r.Name, 6), "class", "tick", "text-anchor", "end")
		for j, c := range r.Cells[:min(len(r.Cells), len(m.Columns))] {
			if c.there() {
				by.cell(s, mapLeft+cellW*float64(j), y, c, strings.TrimSpace(m.Columns[j]+" of "+layer(r.Name)+": "+c.words()))
			}
		}
	}
	return s.html()
}

func layer(name string) string {
	if name == "" || strings.Trim(name, "0123456789") != "" {
		return "what is outside layers"
	}
	return "layer " + name
}

func (c MapCell) words() string {
	out := c.Kind
	if v, ok := bitsOf(c); ok {
		out += fmt.Sprintf(" (%s bits)", short(v))
	}
	if v, ok := errorOf(c); ok {
		out += ", error " + percent(v)
	}
	return out
}

func (by colouring) cell(s *svg, x, y float64, c MapCell, title string) {
	s.open("g")
	s.open("title")
	s.say(title, "title")
	v, ok := by.of(c)
	if !ok {
		s.tag("rect", "class", "unknown", "x", x+.5, "y", y+.5, "width", cellW-1, "height", cellH-1)
		s.text(x+cellW/2, y+cellH-5, "?", "class", "tick", "text-anchor", "middle")
	} else {
		colour := along(by.ramp, by.scale.at(v))
		s.tag("rect", "x", x+.5, "y", y+.5, "width", cellW-1, "height", cellH-1, "fill", colour)
		s.text(x+cellW/2, y+cellH-5, by.label(v), "class", colour.ink(), "text-anchor", "middle")
	}
	s.close("g")
}

// swatches has one colour for each value there is, the lowest and highest ones where there are too many.
func (by colouring) swatches(vs []float64) template.HTML {
	vs = slices.Clone(vs)
	slices.Sort(vs)
	vs = slices.Compact(vs)
	if most := 12; len(vs) > most {
		vs = append(vs[:most/2:most/2], vs[len(vs)-most/2:]...)
	}
	return by.legend(vs)
}

// gradient has colours from the least to the most.
func (by colouring) gradient() template.HTML {
	var vs []float64
	for i := range 7 {
		lo, hi := math.Log(by.scale.lo), math.Log(by.scale.hi)
		vs = append(vs, math.Exp(lo+(hi-lo)*float64(i)/6))
	}
	return by.legend(vs)
}

func (by colouring) legend(vs []float64) template.HTML {
	s := &svg{}
	w := swatchW * float64(len(vs))
	s.open("svg", "class", "key", "viewBox", fmt.Sprintf("0 0 %s %s", px(w), px(swatchH)), "width", w, "height", swatchH, "role", "img")
	var names []string
	for _, v := range vs {
		names = append(names, by.label(v))
	}
	s.open("title")
	s.say("From light to dark: "+strings.Join(names, ", "), "title")
	for i, v := range vs {
		x, colour := swatchW*float64(i), along(by.ramp, by.scale.at(v))
		s.tag("rect", "x", x, "y", 0, "width", swatchW, "height", swatchH, "fill", colour)
		s.text(x+swatchW/2, swatchH-7, names[i], "class", colour.ink(), "text-anchor", "middle")
	}
	return s.html()
}

// words counts the kinds and names the largest error.
func (m Map) words() string {
	counts := map[string]int{}
	var kinds []string
	var worst, where = -1.0, ""
	for _, r := range m.Rows {
		for j, c := range r.Cells[:min(len(r.Cells), len(m.Columns))] {
			if !c.there() {
				continue
			}
			if counts[c.Kind] == 0 {
				kinds = append(kinds, c.Kind)
			}
			counts[c.Kind]++
			if v, ok := errorOf(c); ok && v > worst {
				worst, where = v, m.Columns[j]+" of "+layer(r.Name)
			}
		}
	}
	slices.SortStableFunc(kinds, func(a, b string) int { return cmp.Compare(counts[b], counts[a]) })
	for i, k := range kinds {
		kinds[i] = fmt.Sprintf("%d × %s", counts[k], cmp.Or(k, "unknown"))
	}
	text := strings.Join(kinds, "; ")
	if worst > 0 {
		text += fmt.Sprintf("; the largest error is %s, of %s", percent(worst), where)
	}
	return text + "."
}

// modules says for each column which layers have which kind, and between what the errors are.
func (m Map) modules() (out []modules) {
	for j, name := range m.Columns {
		var kinds []string
		layers := map[string][]string{}
		var errors []float64
		for _, r := range m.Rows {
			if j >= len(r.Cells) || !r.Cells[j].there() {
				continue
			}
			c := r.Cells[j]
			if layers[c.Kind] == nil {
				kinds = append(kinds, c.Kind)
			}
			layers[c.Kind] = append(layers[c.Kind], r.Name)
			if v, ok := errorOf(c); ok {
				errors = append(errors, v)
			}
		}
		for i, k := range kinds {
			kinds[i] = cmp.Or(k, "unknown") + ": " + runs(layers[k])
		}
		out = append(out, modules{name, strings.Join(kinds, "; "), between(errors)})
	}
	return out
}

func between(vs []float64) string {
	lo, hi := extent(vs)
	switch {
	case lo > hi:
		return ""
	case lo == hi:
		return percent(lo)
	}
	return percent(lo) + " to " + percent(hi)
}

// runs names layers in few words: 0–3, 28, 29.
func runs(names []string) string {
	var out []string
	for i := 0; i < len(names); {
		j := i
		for j+1 < len(names) && follows(names[j], names[j+1]) {
			j++
		}
		if j > i+1 {
			out = append(out, names[i]+"–"+names[j])
			i = j + 1
			continue
		}
		out = append(out, cmp.Or(names[i], "other"))
		i++
	}
	return strings.Join(out, ", ")
}

func follows(a, b string) bool {
	var x, y int
	_, errX := fmt.Sscanf(a, "%d", &x)
	_, errY := fmt.Sscanf(b, "%d", &y)
	return errX == nil && errY == nil && y == x+1
}
