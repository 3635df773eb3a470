package page

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// svg is a drawing being made. Only tag and text write into it: numbers are finite and strings escaped, whatever they were.
type svg struct{ b strings.Builder }

// newSVG begins a drawing; id is unique on the page, title and desc are read out in place of it.
func newSVG(id string, w, h float64, title, desc string) *svg {
	s := &svg{}
	s.open("svg", "viewBox", fmt.Sprintf("0 0 %s %s", px(w), px(h)), "width", w, "height", h, "role", "img", "aria-labelledby", id+"-t "+id+"-d")
	s.open("title", "id", id+"-t")
	s.say(title, "title")
	s.open("desc", "id", id+"-d")
	s.say(desc, "desc")
	return s
}

func (s *svg) html() template.HTML {
	s.b.WriteString("</svg>")
	return template.HTML(s.b.String())
}

// open begins an element; attrs are names and values in turn.
func (s *svg) open(name string, attrs ...any) {
	s.b.WriteString("<" + name)
	for i := 0; i+1 < len(attrs); i += 2 {
		value := fmt.Sprint(attrs[i+1])
		if f, ok := attrs[i+1].(float64); ok {
			value = px(f)
		}
		fmt.Fprintf(&s.b, ` %s="%s"`, attrs[i], template.HTMLEscapeString(value))
	}
	s.b.WriteString(">")
}

// say writes the text of an open element and ends it.
func (s *svg) say(text, name string) {
	s.b.WriteString(template.HTMLEscapeString(text) + "</" + name + ">")
}

func (s *svg) close(name string) { s.b.WriteString("</" + name + ">") }

// tag writes an element without content.
func (s *svg) tag(name string, attrs ...any) {
	s.open(name, attrs...)
	s.close(name)
}

// text writes text at a place.
func (s *svg) text(x, y float64, text string, attrs ...any) {
	s.open("text", append([]any{"x", x, "y", y}, attrs...)...)
	s.say(text, "text")
}

// titled writes an element that says what it is.
func (s *svg) titled(title, name string, attrs ...any) {
	s.open(name, attrs...)
	s.open("title")
	s.say(title, "title")
	s.close(name)
}

func (s *svg) line(class string, x1, y1, x2, y2 float64) {
	s.tag("line", "class", class, "x1", x1, "y1", y1, "x2", x2, "y2", y2)
}

// mark draws a verdict's shape with the area of a circle of radius r: colour is never all that tells one from another.
func (s *svg) mark(verdict, title string, x, y, r float64) {
	t := tone(verdict)
	s.open("g", "class", "mark "+t)
	if title != "" {
		s.open("title")
		s.say(title, "title")
	}
	switch t {
	case "good":
		s.tag("circle", "cx", x, "cy", y, "r", r)
	case "warn": // a triangle
		a := r * math.Sqrt(math.Pi/(3*math.Sqrt(3)/4))
		s.tag("polygon", "points", points(x, y-a, x+a*.866, y+a/2, x-a*.866, y+a/2))
	case "open": // a diamond
		a := r * math.Sqrt(math.Pi/2)
		s.tag("polygon", "points", points(x, y-a, x+a, y, x, y+a, x-a, y))
	case "bad": // hollow, struck out
		s.tag("circle", "cx", x, "cy", y, "r", r)
		a := max(r, 3) + 2
		s.line("strike", x-a*.75, y+a*.75, x+a*.75, y-a*.75)
	default:
		a := r * math.Sqrt(math.Pi) / 2
		s.tag("rect", "x", x-a, "y", y-a, "width", 2*a, "height", 2*a)
	}
	s.close("g")
}

// icon is a verdict's shape beside its word.
func icon(verdict string) template.HTML {
	s := &svg{}
	s.open("svg", "class", "icon", "viewBox", "0 0 14 14", "width", 14, "height", 14, "aria-hidden", "true")
	s.mark(verdict, "", 7, 7, 4.4)
	return s.html()
}

func points(xy ...float64) string {
	out := make([]string, len(xy))
	for i, v := range xy {
		out[i] = px(v)
	}
	return strings.Join(out, " ")
}

// px is a length on the drawing, with a tenth of a pixel; what is no number is 0, what is far outside stays near enough to be drawn.
func px(v float64) string {
	if math.IsNaN(v) {
		return "0"
	}
	v = math.Round(min(max(v, -1e5), 1e5)*10) / 10
	if v == 0 {
		v = 0 // not -0
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// clip cuts a text for a place where there is little room.
func clip(text string, most int) string {
	r := []rune(strings.Join(strings.Fields(text), " "))
	if len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return string(r)
}

// width is about how wide a text is in a font of a size; fonts differ, and nothing but the room for labels hangs on it.
func width(text string, size float64) (w float64) {
	for _, r := range text {
		switch {
		case unicode.Is(unicode.M, r):
		case r >= 0x1100:
			w += size
		default:
			w += size * .62
		}
	}
	return w
}
