package page

import (
	"fmt"
	"html/template"
	"slices"
)

const (
	stripW, stripH = 200.0, 30.0
	stripInset     = 14.0 // room for half a label of the axis
)

// strips draws the samples of one metric, all rows on one scale.
func (g *group) strips() {
	g.Strips = g.drawn()
	if g.Strips == "" {
		return
	}
	var all []float64
	for _, r := range g.Rows {
		if m := r.metric(g.Strips); m != nil {
			all = append(append(all, m.Samples...), m.Figure.Value, m.Figure.Low, m.Figure.High)
		}
	}
	sc := linear(all, .02, stripInset, stripW-stripInset)
	g.Axis = stripAxis(sc)
	for i := range g.Rows {
		if m := g.Rows[i].metric(g.Strips); m != nil {
			g.Rows[i].Strip = strip(m, sc)
		}
	}
}

// drawn is the metric that is drawn: the speed that cells are ranked by where there are samples of it, otherwise the first with samples.
func (g *group) drawn() string {
	var with []string
	for _, c := range g.Columns {
		if slices.ContainsFunc(g.Rows, func(r row) bool { m := r.metric(c.Name); return m != nil && len(numbers(m.Samples)) > 0 }) {
			with = append(with, c.Name)
		}
	}
	switch {
	case len(with) == 0:
		return ""
	case slices.Contains(with, "batch_decode_tok_s"):
		return "batch_decode_tok_s"
	case slices.Contains(with, "decode_tok_s"):
		return "decode_tok_s"
	}
	return with[0]
}

func (r row) metric(name string) *Metric {
	i := slices.IndexFunc(r.Metrics, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Metrics[i]
}

func stripAxis(sc scale) template.HTML {
	s := &svg{}
	s.open("svg", "class", "strip", "viewBox", fmt.Sprintf("0 0 %s 20", px(stripW)), "width", stripW, "height", 20, "aria-hidden", "true")
	for _, v := range sc.ticks(4) {
		s.text(sc.at(v), 12, short(v), "class", "tick", "text-anchor", "middle")
		s.line("grid", sc.at(v), 16, sc.at(v), 20)
	}
	return s.html()
}

// strip is decoration to who hears it: the row's figures say the same.
func strip(m *Metric, sc scale) template.HTML {
	s := &svg{}
	s.open("svg", "class", "strip", "viewBox", fmt.Sprintf("0 0 %s %s", px(stripW), px(stripH)), "width", stripW, "height", stripH, "role", "img")
	samples := numbers(m.Samples)
	s.open("title")
	s.say(stripWords(m, samples), "title")
	s.line("grid", 0, 23, stripW, 23)
	for _, v := range sc.ticks(4) {
		s.line("grid", sc.at(v), 19, sc.at(v), 27)
	}
	for i, v := range samples {
		s.tag("circle", "class", "dot", "cx", sc.at(v), "cy", 4.5+float64(i*2%5)*2.6, "r", 2.2) // in five lanes, so that equal samples do not hide each other
	}
	if v, low, high, ok := figure(&m.Figure); ok {
		s.line("range", sc.at(low), 23, sc.at(high), 23)
		s.line("middle", sc.at(v), 19, sc.at(v), 27)
	}
	return s.html()
}

func stripWords(m *Metric, samples []float64) string {
	if len(samples) == 0 {
		return fmt.Sprintf("%s %s", m.Figure.Text, m.Figure.Interval)
	}
	lo, hi := extent(samples)
	return fmt.Sprintf("%s: %d samples from %s to %s; %s %s", m.Name, len(samples), short(lo), short(hi), m.Figure.Text, m.Figure.Interval)
}
