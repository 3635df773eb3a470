package tokenizer

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxAddedToken bounds the length of one added token: the search for them costs at most this much per byte of text.
const maxAddedToken = 4096

// addedToken is an entry of added_tokens: text that is one token wherever it stands.
type addedToken struct {
	id         int32
	content    string
	singleWord bool
	lstrip     bool
	rstrip     bool
	normalized bool
	special    bool
}

func readAdded(v any) (addedToken, error) {
	fields, ok := v.(map[string]any)
	if !ok {
		return addedToken{}, fmt.Errorf("tokenizer.json: added_tokens holds something that is not an object")
	}
	c := &component{role: "added_tokens", fields: fields}
	c.kind, _ = fields["content"].(string)
	a := addedToken{
		content:    c.text("content"),
		singleWord: c.flag("single_word", false),
		lstrip:     c.flag("lstrip", false),
		rstrip:     c.flag("rstrip", false),
		normalized: c.flag("normalized", false),
		special:    c.flag("special", false),
	}
	if len(a.content) > maxAddedToken {
		return a, fmt.Errorf("tokenizer.json: added_tokens holds a token of %d bytes; the limit is %d", len(a.content), maxAddedToken)
	}
	return a, c.err
}

// addedSet finds added tokens in text: leftmost first, of those the longest.
type addedSet struct {
	nodes []trieNode // nodes[0] is the root
	first [256]int32 // the root's children
}

// trieNode is a byte of one or more added tokens.
type trieNode struct {
	token *addedToken // what ends here
	edges []trieEdge
}

type trieEdge struct {
	b    byte
	node int32
}

// add puts a token under a pattern and reports false if the pattern is taken.
func (s *addedSet) add(pattern string, token *addedToken) bool {
	if s.nodes == nil {
		s.nodes = make([]trieNode, 1)
	}
	at := int32(0)
	for i := range len(pattern) {
		b := pattern[i]
		to := s.child(at, b)
		if to == 0 {
			to = int32(len(s.nodes))
			s.nodes = append(s.nodes, trieNode{})
			if at == 0 {
				s.first[b] = to
			} else {
				s.nodes[at].edges = append(s.nodes[at].edges, trieEdge{b, to})
			}
		}
		at = to
	}
	if s.nodes[at].token != nil {
		return false
	}
	s.nodes[at].token = token
	return true
}

// child returns the node after byte b, 0 if there is none.
func (s *addedSet) child(at int32, b byte) int32 {
	if at == 0 {
		return s.first[b]
	}
	for _, e := range s.nodes[at].edges {
		if e.b == b {
			return e.node
		}
	}
	return 0
}

// find returns the next match at or after from, nil if there is none.
func (s *addedSet) find(text string, from int) (start, end int, token *addedToken) {
	if s.nodes == nil {
		return 0, 0, nil
	}
	for ; from < len(text); from++ {
		at := s.first[text[from]]
		if at == 0 {
			continue
		}
		for i := from + 1; ; i++ {
			if t := s.nodes[at].token; t != nil {
				end, token = i, t
			}
			if i == len(text) {
				break
			}
			if at = s.child(at, text[i]); at == 0 {
				break
			}
		}
		if token != nil {
			return from, end, token
		}
	}
	return 0, 0, nil
}

// split calls text for what stands between added tokens and token for each of them, in order. Empty text is left out.
func (s *addedSet) split(t string, text func(string, int), token func(*addedToken)) {
	done := 0
	for at := 0; ; {
		start, end, a := s.find(t, at)
		if a == nil {
			break
		}
		at = end
		if a.singleWord && (wordBefore(t[:start]) || wordAfter(t[end:])) {
			continue
		}
		if a.lstrip {
			start = max(done, done+len(strings.TrimRightFunc(t[min(done, start):start], isSpace)))
		}
		if a.rstrip {
			end = len(t) - len(strings.TrimLeftFunc(t[end:], isSpace))
		}
		if done < start {
			text(t[done:start], done)
		}
		token(a)
		done = end
	}
	if done < len(t) {
		text(t[done:], done)
	}
}

func wordBefore(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

func wordAfter(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}

// isWord is \w of Rust's regex: letters, marks, numbers but those of category No, connecting punctuation, joiners, and what else counts as alphabetic.
func isWord(r rune) bool {
	c := classOfRune(classTable(), r)
	return c.letter() || c == classMark || c.number() && !unicode.Is(unicode.No, r) || unicode.In(r, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
