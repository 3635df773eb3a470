package page

import (
	"fmt"
	"html/template"
)

// history is a series and its drawing.
type history struct {
	Series
	SVG  template.HTML
	Last string // the last value
	Rows []Point
}

const (
	historyW, historyH       = 400.0, 200.0
	historyLeft, historyTop  = 56.0, 12.0
	historyRight, historyLow = 34.0, 34.0 // right: half of the last label
	historyLabel             = 62.0       // room for a commit
)

func histories(all []Series) (out []history) {
	for _, s := range all {
		h := history{Series: s}
		for _, p := range s.Points {
			if finite(p.Value) {
				h.Rows = append(h.Rows, p)
			}
		}
		if len(h.Rows) == 0 {
			continue
		}
		h.Last = withUnit(h.Rows[len(h.Rows)-1].Value, s.Unit)
		h.SVG = h.draw(fmt.Sprintf("history%d", len(out)))
		out = append(out, h)
	}
	return out
}

func withUnit(v float64, unit string) string {
	if unit == "" {
		return short(v)
	}
	return short(v) + " " + unit
}

// Interval of a point, "" without one.
func (p Point) Interval() string {
	if !p.spread() {
		return ""
	}
	return fmt.Sprintf("[%s, %s]", short(p.Low), short(p.High))
}

// Number is a point's value for people.
func (p Point) Number() string { return short(p.Value) }

func (p Point) spread() bool { return finite(p.Low, p.High) && p.Low < p.High }

func (p Point) name() string {
	if p.Commit != "" {
		return p.Commit
	}
	return p.When.UTC().Format("01-02 15:04")
}

// draw gives each run the same room, however long ago it was: a week without commits says nothing.
func (h history) draw(id string) template.HTML {
	s := newSVG(id, historyW, historyH, h.Cell+", "+h.Metric, h.words())
	x := scale{lo: 0, hi: float64(max(len(h.Rows)-1, 1)), from: historyLeft + 12, to: historyW - historyRight}
	y := h.scale()
	bottom := historyH - historyLow
	for _, v := range y.ticks(4) {
		s.line("grid", historyLeft, y.at(v), historyW-8, y.at(v))
		s.text(historyLeft-6, y.at(v)+4, short(v), "class", "tick", "text-anchor", "end")
	}
	s.line("base", historyLeft, bottom, historyW-8, bottom)
	h.points(s, x, y)
	every := max(1, int(historyLabel*float64(len(h.Rows))/(x.to-x.from))) // so many points share the room of one label
	for i, p := range h.Rows {
		if (len(h.Rows)-1-i)%every == 0 {
			s.text(x.at(float64(i)), bottom+18, clip(p.name(), 8), "class", "commit", "text-anchor", "middle")
		}
	}
	return s.html()
}

func (h history) scale() scale {
	var all []float64
	for _, p := range h.Rows {
		all = append(all, p.Value)
		if p.spread() {
			all = append(all, p.Low, p.High)
		}
	}
	return linear(all, .06, historyH-historyLow-6, historyTop)
}

func (h history) points(s *svg, x, y scale) {
	var at []float64
	for i, p := range h.Rows {
		at = append(at, x.at(float64(i)), y.at(p.Value))
		if p.spread() {
			s.line("whisker", x.at(float64(i)), y.at(p.Low), x.at(float64(i)), y.at(p.High))
		}
	}
	s.tag("polyline", "class", "trend", "points", points(at...))
	for i, p := range h.Rows {
		s.titled(fmt.Sprintf("%s %s: %s %s", when(p.When), p.Commit, withUnit(p.Value, h.Unit), p.Interval()), "circle", "class", "point", "cx", x.at(float64(i)), "cy", y.at(p.Value), "r", 3.5)
	}
}

func (h history) words() string {
	first, last := h.Rows[0], h.Rows[len(h.Rows)-1]
	return fmt.Sprintf("%d runs, from %s (%s) to %s (%s). The table below it has them all.", len(h.Rows), withUnit(first.Value, h.Unit), first.name(), withUnit(last.Value, h.Unit), last.name())
}
