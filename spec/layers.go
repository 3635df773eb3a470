package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseLayers reads `3`, `0..1`, `-2..`, `..4`, `4..-3/3`.
func ParseLayers(text string) (LayerRange, error) {
	l := LayerRange{Step: 1}
	wrong := fmt.Errorf("%q is not a layer range: write 3, 0..1, -2.. (the last two) or 4..-3/3 (every third)", text)
	body, step, hasStep := strings.Cut(text, "/")
	if hasStep {
		n, err := strconv.Atoi(step)
		if err != nil || n < 1 || n > 1<<20 {
			return l, wrong
		}
		l.Step = n
	}
	from, to, isRange := strings.Cut(body, "..")
	var err error
	if l.From, err = layerNumber(from); err != nil || !isRange && l.From == nil {
		return l, wrong
	}
	if !isRange {
		l.To = l.From
		return l, nil
	}
	if l.To, err = layerNumber(to); err != nil {
		return l, wrong
	}
	return l, nil
}

func layerNumber(s string) (*int, error) {
	if s == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < -1<<20 || n > 1<<20 {
		return nil, fmt.Errorf("%q is not a layer", s)
	}
	return &n, nil
}

// String writes a range as ParseLayers reads it.
func (l LayerRange) String() string {
	num := func(n *int) string {
		if n == nil {
			return ""
		}
		return strconv.Itoa(*n)
	}
	text := num(l.From) + ".." + num(l.To)
	if l.From != nil && l.To != nil && *l.From == *l.To {
		text = num(l.From)
	}
	if l.Step > 1 {
		text += "/" + strconv.Itoa(l.Step)
	}
	return text
}
