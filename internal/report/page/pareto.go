package page

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// plot shows what a target costs and what it gives.
type plot struct {
	Wide    template.HTML
	Narrow  template.HTML // for a phone
	Title   string
	Words   string   // the same in words
	Missing []string // targets that are not in it
}

// axis is a property of targets: its value, its interval, and whether there is one.
type axis struct {
	name   string
	higher bool // more is better
	of     func(Target) (v, low, high float64, ok bool)
	label  func(float64) string
}

var (
	speedAxis = axis{"Speed: decode, tok/s", true, func(t Target) (float64, float64, float64, bool) { return figure(t.Speed) }, short}
	lossAxis  = axis{"Loss: mean KL, nats", false, lossOf, short}
	sizeAxis  = axis{"Size", false, func(t Target) (float64, float64, float64, bool) {
		return float64(t.Bytes), float64(t.Bytes), float64(t.Bytes), t.Bytes > 0
	}, size}
)

func figure(f *Figure) (v, low, high float64, ok bool) {
	switch {
	case f == nil || !finite(f.Value):
		return 0, 0, 0, false
	case !finite(f.Low, f.High):
		return f.Value, f.Value, f.Value, true
	}
	return f.Value, f.Low, f.High, true
}

func lossOf(t Target) (v, low, high float64, ok bool) {
	if t.Loss == nil && t.Reference {
		return 0, 0, 0, true
	}
	return figure(t.Loss)
}

func size(v float64) string {
	for _, u := range []struct {
		bytes float64
		name  string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if v >= u.bytes {
			return short(v/u.bytes) + " " + u.name
		}
	}
	return short(v) + " B"
}

// spot is a target on the plot.
type spot struct {
	Target
	vx, vy float64 // values
	x, y   float64 // places
	r      float64
	front  bool
}

func (p spot) failed() bool { return tone(p.Verdict) == "bad" }

// reach of a point: a triangle is wider than a circle of its area.
func (p spot) reach() float64 {
	if tone(p.Verdict) == "warn" {
		return p.r * 1.35
	}
	return p.r
}

func (p spot) word() string {
	words := []string{p.Verdict, p.Size}
	if p.Reference {
		words = slices.Insert(words, 0, "reference")
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), ", ")
}

// newPlot takes the first two properties that two targets have both of; of what one target has there is nothing to draw.
func newPlot(targets []Target) *plot {
	for _, axes := range [][2]axis{{speedAxis, lossAxis}, {speedAxis, sizeAxis}, {sizeAxis, lossAxis}} {
		spots, missing := spotted(targets, axes[0], axes[1])
		if len(spots) > 1 {
			front(spots, axes[0], axes[1])
			return draw(spots, axes[0], axes[1], missing)
		}
	}
	return nil
}

func spotted(targets []Target, x, y axis) (spots []spot, missing []string) {
	for _, t := range targets {
		vx, _, _, okx := x.of(t)
		vy, _, _, oky := y.of(t)
		if okx && oky {
			spots = append(spots, spot{Target: t, vx: vx, vy: vy})
		} else {
			missing = append(missing, t.ID)
		}
	}
	return spots, missing
}

// front marks the targets that none is better than in one property without being worse in the other. What failed is in nobody's way.
func front(spots []spot, x, y axis) {
	rank := func(a, b float64, higher bool) int {
		if higher {
			return cmp.Compare(a, b)
		}
		return cmp.Compare(b, a)
	}
	for i := range spots {
		p := &spots[i]
		p.front = !p.failed() && !slices.ContainsFunc(spots, func(q spot) bool {
			bx, by := rank(q.vx, p.vx, x.higher), rank(q.vy, p.vy, y.higher)
			return !q.failed() && bx >= 0 && by >= 0 && bx+by > 0
		})
	}
}

// canvas is the room of a plot. The same targets are drawn on two of them: a phone has little, and letters that shrink with the plot are no letters.
type canvas struct {
	id                    string
	w, h                  float64
	left, top, right, low float64 // the frame
	largest               float64 // radius of a point
	ticks                 int     // across
}

var (
	wide   = canvas{"plot", 1000, 470, 64, 34, 998, 418, 26, 7}
	narrow = canvas{"smallplot", 400, 440, 52, 34, 398, 388, 18, 4}
)

const (
	smallest                  = 5.0 // radius of a point
	labelSize, labelLeading   = 13.0, 16.0
	longestLabel, longestWord = 30, 34
)

// draw draws the targets on both canvases, the failed ones too: one sees what was given up.
func draw(spots []spot, x, y axis, missing []string) *plot {
	title := fmt.Sprintf("%s against %s", strings.SplitN(x.name, ":", 2)[0], strings.ToLower(strings.SplitN(y.name, ":", 2)[0]))
	p := &plot{Title: title, Words: words(spots, x, y), Missing: missing}
	slices.SortStableFunc(spots, func(a, b spot) int { return cmp.Compare(b.Bytes, a.Bytes) }) // small points are drawn last
	p.Wide, p.Narrow = wide.draw(spots, x, y, p), narrow.draw(spots, x, y, p)
	return p
}

func (c canvas) draw(spots []spot, x, y axis, p *plot) template.HTML {
	sx, sy := c.scales(spots, x, y)
	for i := range spots {
		spots[i].x, spots[i].y = sx.at(spots[i].vx), sy.at(spots[i].vy)
	}
	radii(spots, c.largest)
	s := newSVG(c.id, c.w, c.h, p.Title, p.Words)
	c.frame(s, sx, sy, x, y)
	steps := staircase(spots, x)
	s.tag("polyline", "class", "front", "points", points(steps...))
	for _, p := range spots {
		whiskers(s, p, sx, sy, x, y)
	}
	for _, p := range spots {
		s.mark(p.Verdict, fmt.Sprintf("%s: %s, %s; %s", p.ID, x.label(p.vx), y.label(p.vy), p.word()), p.x, p.y, p.r)
	}
	c.labels(s, spots, steps)
	return s.html()
}

func (c canvas) scales(spots []spot, x, y axis) (sx, sy scale) {
	var xs, ys []float64
	for _, p := range spots {
		v, low, high, _ := x.of(p.Target)
		xs = append(xs, v, low, high)
		v, low, high, _ = y.of(p.Target)
		ys = append(ys, v, max(low, min(v, 0)), high) // an interval that reaches below 0 says no more than one that ends there
	}
	if lo, hi := extent(xs); lo > 0 && lo < hi/2 {
		xs = append(xs, 0) // so that twice as far is twice as much
	}
	if lo, hi := extent(ys); lo > 0 && lo < hi/2 && hi/10 < lo {
		ys = append(ys, 0)
	}
	inset := c.largest + 8 // so that no point is on the frame
	return linear(xs, .05, c.left+inset, c.right-inset), logarithmic(ys, .05, c.low-inset, c.top+inset)
}

func radii(spots []spot, largest float64) {
	var most int64
	for _, p := range spots {
		most = max(most, p.Bytes)
	}
	for i := range spots {
		spots[i].r = smallest + 2
		if most > 0 {
			spots[i].r = max(smallest, largest*math.Sqrt(float64(max(spots[i].Bytes, 0))/float64(most)))
		}
	}
}

// frame draws the axes.
func (c canvas) frame(s *svg, sx, sy scale, x, y axis) {
	for _, v := range sx.ticks(c.ticks) {
		s.line("grid", sx.at(v), c.top, sx.at(v), c.low)
		s.text(sx.at(v), c.low+18, x.label(v), "class", "tick", "text-anchor", "middle")
	}
	ticks := sy.ticks(6)
	if sy.log && sy.zero != sy.from {
		ticks = append(ticks, 0)
		between := (sy.zero + sy.from) / 2
		s.line("break", c.left, between, c.right, between) // below it is no logarithm
	}
	for _, v := range ticks {
		s.line("grid", c.left, sy.at(v), c.right, sy.at(v))
		s.text(c.left-8, sy.at(v)+4, y.label(v), "class", "tick", "text-anchor", "end")
	}
	s.tag("rect", "class", "frame", "x", c.left, "y", c.top, "width", c.right-c.left, "height", c.low-c.top)
	s.text(c.right, c.h-8, x.name+better(x.higher, " →", " ←"), "class", "axis", "text-anchor", "end")
	name := y.name
	if sy.log {
		name += ", log scale"
	}
	s.text(0, 16, name+better(y.higher, " ↑", " ↓"), "class", "axis")
}

func better(higher bool, more, less string) string {
	if higher {
		return "; more is better" + more
	}
	return "; less is better" + less
}

// staircase is the front, corner by corner: on the far side of it is what no target reaches.
func staircase(spots []spot, x axis) (at []float64) {
	var on []spot
	for _, p := range spots {
		if p.front {
			on = append(on, p)
		}
	}
	slices.SortStableFunc(on, func(a, b spot) int { return cmp.Or(cmp.Compare(a.x, b.x), cmp.Compare(a.y, b.y)) })
	for i, p := range on {
		switch {
		case i > 0 && x.higher:
			at = append(at, on[i-1].x, p.y)
		case i > 0:
			at = append(at, p.x, on[i-1].y)
		}
		at = append(at, p.x, p.y)
	}
	return at
}

// whiskers are the intervals of a target, where they are wider than its point would hide.
func whiskers(s *svg, p spot, sx, sy scale, x, y axis) {
	class := "whisker " + tone(p.Verdict)
	if _, low, high, _ := x.of(p.Target); low < high {
		s.line(class, sx.at(low), p.y, sx.at(high), p.y)
	}
	if _, low, high, _ := y.of(p.Target); low < high {
		s.line(class, p.x, sy.at(low), p.x, sy.at(high))
	}
}

// box is a place that is taken.
type box struct{ x1, y1, x2, y2 float64 }

func (a box) overlap(b box) float64 {
	return max(0, min(a.x2, b.x2)-max(a.x1, b.x1)) * max(0, min(a.y2, b.y2)-max(a.y1, b.y1))
}

// labels names the points, each where it covers least of what is there already.
func (c canvas) labels(s *svg, spots []spot, steps []float64) {
	var taken []box
	for i := 2; i+1 < len(steps); i += 2 {
		x1, y1, x2, y2 := steps[i-2], steps[i-1], steps[i], steps[i+1]
		taken = append(taken, box{min(x1, x2) - 2, min(y1, y2) - 2, max(x1, x2) + 2, max(y1, y2) + 2})
	}
	prefix := common(spots)
	for _, p := range spots {
		d := p.reach()
		taken = append(taken, box{p.x - d, p.y - d, p.x + d, p.y + d})
	}
	for _, p := range spots {
		id, word := clip(p.ID[prefix:], longestLabel), clip(p.word(), longestWord)
		w := max(width(id, labelSize), width(word, labelSize-1))
		at := c.place(p, w, taken)
		taken = append(taken, at)
		if x, y := min(max(p.x, at.x1), at.x2), min(max(p.y, at.y1), at.y2); math.Hypot(x-p.x, y-p.y) > p.reach()+14 {
			part := p.reach() / math.Hypot(x-p.x, y-p.y)
			s.line("leader", p.x+(x-p.x)*part, p.y+(y-p.y)*part, x, y)
		}
		class := "label"
		if p.failed() {
			class = "label struck"
		}
		s.text(at.x1, at.y1+labelSize-1, id, "class", class)
		s.text(at.x1, at.y1+labelSize+labelLeading-2, word, "class", "word "+tone(p.Verdict))
	}
}

// common is how many bytes all names begin with, up to a slash: of smollm2/q8 and smollm2/q4 the end is enough.
func common(spots []spot) int {
	first := spots[0].ID
	at := strings.LastIndex(first, "/") + 1
	for _, p := range spots {
		for !strings.HasPrefix(p.ID, first[:at]) || len(p.ID) == at {
			at = strings.LastIndex(strings.TrimSuffix(first[:at], "/"), "/") + 1
			if at == 0 {
				return 0
			}
		}
	}
	return at
}

func (c canvas) place(p spot, w float64, taken []box) (best box) {
	least := math.Inf(1)
	h := 2 * labelLeading
	inside := box{c.left + 2, c.top + 2, c.right - 2, c.low - 2}
	for ring, gap := range []float64{5, 20, 40, 64, 96} {
		d := p.reach() + gap
		for i, at := range [][2]float64{{p.x + d, p.y - h/2}, {p.x - d - w, p.y - h/2}, {p.x - w/2, p.y - d - h}, {p.x - w/2, p.y + d}, {p.x + d*.7, p.y - d*.7 - h}, {p.x + d*.7, p.y + d*.7},
			{p.x - d*.7 - w, p.y - d*.7 - h}, {p.x - d*.7 - w, p.y + d*.7}} {
			b := box{at[0], at[1], at[0] + w, at[1] + h}
			cost := float64(ring*60+i*4) + 50*(w*h-b.overlap(inside))
			for _, t := range taken {
				cost += 10 * b.overlap(t)
			}
			if cost < least {
				best, least = b, cost
			}
		}
	}
	return best
}

func words(spots []spot, x, y axis) string {
	var out, on []string
	for _, p := range spots {
		out = append(out, fmt.Sprintf("%s: %s and %s (%s)", p.ID, x.label(p.vx), y.label(p.vy), p.word()))
		if p.front {
			on = append(on, p.ID)
		}
	}
	text := fmt.Sprintf("%s across, %s upwards. %s.", x.name, y.name, strings.Join(out, "; "))
	if len(on) > 0 {
		text += " On the Pareto front: " + strings.Join(on, ", ") + "."
	}
	return text
}
