package hub

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// nextLink finds the address of the next page in Link headers (RFC 8288): <url>; rel="next".
func nextLink(values []string) (string, bool) {
	for _, rest := range values {
		for {
			_, after, ok := strings.Cut(rest, "<")
			if !ok {
				break
			}
			target, params, ok := strings.Cut(after, ">")
			if !ok {
				break
			}
			params, rest = cutUnquoted(params, ',')
			if isNext(params) {
				return strings.TrimSpace(target), true
			}
		}
	}
	return "", false
}

// cutUnquoted cuts at the first separator that is not in quotes.
func cutUnquoted(text string, sep byte) (before, after string) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quoted:
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == sep && !quoted:
			return text[:i], text[i+1:]
		}
	}
	return text, ""
}

func isNext(params string) bool {
	for params != "" {
		var p string
		p, params = cutUnquoted(params, ';')
		name, value, _ := cutTrim(p, "=")
		if !strings.EqualFold(name, "rel") {
			continue
		}
		for _, word := range strings.Fields(strings.Trim(value, `"`)) {
			if strings.EqualFold(word, "next") {
				return true
			}
		}
	}
	return false
}

// contentRange reads "bytes 0-99/1234". Both numbers are of bytes that are there, and the whole is known.
func contentRange(text string) (first, last, total int64, ok bool) {
	unit, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	span, whole, found := strings.Cut(strings.TrimSpace(rest), "/")
	from, to, found2 := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") || !found || !found2 {
		return 0, 0, 0, false
	}
	first, ok1 := decimal(from)
	last, ok2 := decimal(to)
	total, ok3 := decimal(whole)
	if !ok1 || !ok2 || !ok3 || first > last || last >= total {
		return 0, 0, 0, false
	}
	return first, last, total, true
}

// decimal reads digits and nothing else: no sign, no blank.
func decimal(text string) (int64, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// waitAsked is how long a server wants us to wait: by RateLimit ("name";r=0;t=30: one second more than t), else by Retry-After. 0: it does not say.
func waitAsked(h http.Header) time.Duration {
	if s, ok := rateLimit(h.Values("RateLimit")); ok {
		return time.Duration(s+1) * time.Second
	}
	return retryAfter(h.Get("Retry-After"), h.Get("Date"))
}

// maxSeconds keeps a number of seconds from overflowing a Duration; longer than we wait it is anyhow.
const maxSeconds = 1 << 31

// rateLimit is the longest t of the limits that have nothing left.
func rateLimit(values []string) (seconds int64, ok bool) {
	for _, v := range values {
		for v != "" {
			var params string
			params, v = cutUnquoted(v, ',')
			left, okR := param(params, "r")
			t, okT := param(params, "t")
			if okR && okT && left == 0 {
				seconds, ok = max(seconds, min(t, maxSeconds)), true
			}
		}
	}
	return seconds, ok
}

func param(params, name string) (int64, bool) {
	for params != "" {
		var p string
		p, params = cutUnquoted(params, ';')
		if key, value, found := cutTrim(p, "="); found && key == name {
			return decimal(value)
		}
	}
	return 0, false
}

// retryAfter reads seconds, or a date, which is compared with the server's own clock: ours may be wrong.
func retryAfter(text, date string) time.Duration {
	text = strings.TrimSpace(text)
	if n, ok := decimal(text); ok {
		return time.Duration(min(n, maxSeconds)) * time.Second
	}
	then, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(date)
	if err != nil {
		now = time.Now()
	}
	return min(max(then.Sub(now), 0), maxSeconds*time.Second)
}
