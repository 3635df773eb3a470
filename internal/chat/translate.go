package chat

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// translate writes a template for github.com/ardanlabs/jinja, which runs it: that library keeps variables, branches, loops and macros.
//
// White space, operators, attributes, filters and tests are ours, because the library's differ from Jinja2's, and it has no limits: text becomes a string,
// and each operation a call of a function of the machine, which counts what it costs. A variable x becomes v_x, so that a template can name neither our
// functions nor the library's.
func translate(source string) (string, error) {
	segments, err := lex(source)
	if err != nil {
		return "", err
	}
	t := &translator{segments: segments}
	body, err := t.body()
	if err != nil {
		return "", err
	}
	if t.pos < len(t.segments) {
		return "", t.errorf("unexpected %s", t.keyword())
	}
	return body, nil
}

// maxNesting bounds blocks inside blocks and expressions inside expressions.
const maxNesting = 100

// maxChain bounds operators in a row, each of which is a level of what the library walks.
const maxChain = 500

type translator struct {
	segments []segment
	pos      int // in segments
	tokens   []token
	at       int // in tokens
	depth    int
	hidden   int        // number of our own variables
	loops    []*loopSet // the loop whose body is being read, inside macros and outer loops; nil for a macro
}

// loopSet are the variables that a loop's body sets. In Jinja2 they end with the iteration; the library keeps them until the loop's end.
type loopSet struct{ names []string }

func (t *translator) errorf(format string, args ...any) error {
	line := 0
	if t.pos < len(t.segments) {
		line = t.segments[t.pos].line
	}
	return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
}

// keyword returns the first word of the block tag at the current position, "" if there is another thing.
func (t *translator) keyword() string {
	if t.pos >= len(t.segments) || t.segments[t.pos].kind != 'b' {
		return ""
	}
	if tokens := t.segments[t.pos].tokens; len(tokens) > 0 && tokens[0].kind == 'n' {
		return tokens[0].text
	}
	return "{% %}"
}

// body translates up to a block tag with one of the keywords, or to the end.
func (t *translator) body(until ...string) (string, error) {
	if t.depth++; t.depth > maxNesting {
		return "", t.errorf("nested more than %d deep", maxNesting)
	}
	defer func() { t.depth-- }()
	var b strings.Builder
	for t.pos < len(t.segments) {
		part, err := "", error(nil)
		switch s := t.segments[t.pos]; s.kind {
		case 't':
			part = `{{ _out(` + quote(s.text) + `) }}`
			t.pos++
		case 'v':
			part, err = t.whole("_out", s.tokens)
			part = "{{ " + part + " }}"
			t.pos++
		default:
			if slices.Contains(until, t.keyword()) {
				return b.String(), nil
			}
			part, err = t.block()
		}
		if err != nil {
			return "", err
		}
		b.WriteString(part)
	}
	if len(until) > 0 {
		return "", fmt.Errorf("%s is missing", until[len(until)-1])
	}
	return b.String(), nil
}

// block translates a block tag and what belongs to it.
func (t *translator) block() (string, error) {
	k := t.keyword()
	t.tokens, t.at = t.segments[t.pos].tokens, 1
	switch k {
	case "if":
		return t.ifBlock()
	case "for":
		return t.forBlock()
	case "set":
		return t.setBlock()
	case "macro":
		return t.macroBlock()
	case "call":
		return t.callBlock()
	case "filter":
		return t.filterBlock()
	case "break", "continue":
		if len(t.loops) == 0 || t.loops[len(t.loops)-1] == nil {
			return "", t.errorf("%s outside a loop", k)
		}
		return "{% " + k + " %}", t.end()
	case "generation": // marks what the model wrote, for training; it prints its body
		if err := t.end(); err != nil {
			return "", err
		}
		body, err := t.body("endgeneration")
		if err != nil {
			return "", err
		}
		return body, t.close()
	}
	return "", t.errorf("the statement %s is not supported", k)
}

// end says that the tag holds nothing more, and goes to the next segment.
func (t *translator) end() error {
	if n := t.peek(); n.kind != 0 {
		return t.errorf("unexpected %s", n.describe())
	}
	t.pos++
	return nil
}

// close reads a tag that is a keyword alone.
func (t *translator) close() error {
	t.tokens, t.at = t.segments[t.pos].tokens, 1
	return t.end()
}

func (t *translator) ifBlock() (string, error) {
	var b strings.Builder
	for word := "if"; ; {
		cond := ""
		if word != "else" {
			c, err := t.or() // Jinja2 takes no if-else here
			if err != nil {
				return "", err
			}
			cond = " _true(" + c + ")"
		}
		if err := t.end(); err != nil {
			return "", err
		}
		ends := []string{"elif", "else", "endif"}
		if word == "else" {
			ends = ends[2:]
		}
		body, err := t.body(ends...)
		if err != nil {
			return "", err
		}
		b.WriteString("{% " + word + cond + " %}" + body)
		word = t.keyword()
		t.tokens, t.at = t.segments[t.pos].tokens, 1
		if word == "endif" {
			b.WriteString("{% endif %}")
			return b.String(), t.end()
		}
	}
}

func (t *translator) forBlock() (string, error) {
	names, err := t.names("in")
	if err != nil {
		return "", err
	}
	if len(names) > 2 {
		return "", t.errorf("a loop over %d names at once is not supported", len(names))
	}
	t.at++ // in
	list, err := t.or()
	if err != nil {
		return "", err
	}
	if t.peek().is(",") {
		return "", t.errorf("a loop over a tuple without brackets is not supported")
	}
	filter := ""
	if t.take("if") {
		f, err := t.expression()
		if err != nil {
			return "", err
		}
		filter = " if _true(" + f + ")"
	}
	if t.peek().name("recursive") {
		return "", t.errorf("a recursive loop is not supported")
	}
	if err := t.end(); err != nil {
		return "", err
	}
	set := &loopSet{}
	t.loops = append(t.loops, set)
	body, err := t.body("else", "endfor")
	t.loops = t.loops[:len(t.loops)-1]
	if err != nil {
		return "", err
	}
	other := ""
	if t.keyword() == "else" {
		if err := t.close(); err != nil {
			return "", err
		}
		if other, err = t.body("endfor"); err != nil {
			return "", err
		}
		other = "{% else %}" + other
	}
	before, inside := "", ""
	if len(names) == 2 && filter != "" { // the library's condition knows one name alone
		before, list = t.collect(names, list, filter)
		filter = ""
	}
	for _, n := range set.names {
		if slices.Contains(names, n) {
			continue // set anew by the loop itself
		}
		t.hidden++
		old := "_old" + strconv.Itoa(t.hidden)
		before += "{% set " + old + " = v_" + n + " %}"
		inside += "{% set v_" + n + " = " + old + " %}"
	}
	head := fmt.Sprintf("{%% for v_%s in _items%d(%s)%s %%}{{ _step() }}", strings.Join(names, ", v_"), len(names), list, filter)
	return before + head + inside + body + other + "{% endfor %}", t.close()
}

// collect writes a loop that collects the pairs which fulfil a condition, and returns it and the variable that holds them.
func (t *translator) collect(names []string, list, filter string) (loop, found string) {
	t.hidden++
	found = "_old" + strconv.Itoa(t.hidden)
	a, b := "v_"+names[0], "v_"+names[1]
	return fmt.Sprintf("{%% set %s = _empty() %%}{%% for %s, %s in _items2(%s) %%}{{ _step() }}{%%%s %%}{{ _push(%s, %s, %s) }}{%% endif %%}{%% endfor %%}",
		found, a, b, list, filter, found, a, b), found
}

// names reads names with commas, with or without brackets, up to a word.
func (t *translator) names(until string) ([]string, error) {
	bracket := t.takeOp("(")
	var names []string
	for {
		n := t.peek()
		if n.kind != 'n' || reserved(n.text) {
			return nil, t.errorf("want a name, have %s", n.describe())
		}
		names = append(names, n.text)
		t.at++
		if !t.takeOp(",") {
			break
		}
	}
	if bracket && !t.takeOp(")") || !t.peek().name(until) {
		return nil, t.errorf("want %q, have %s", until, t.peek().describe())
	}
	return names, nil
}

// reserved reports a word that is no name of a variable.
func reserved(n string) bool {
	switch n {
	case "and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None", "loop", "caller":
		return true
	}
	return false
}

// setBlock translates {% set name = value %}, {% set namespace.name = value %} and {% set name %}…{% endset %}.
func (t *translator) setBlock() (string, error) {
	n := t.peek()
	if n.kind != 'n' || reserved(n.text) {
		return "", t.errorf("want a name, have %s", n.describe())
	}
	t.at++
	if t.takeOp(".") {
		return t.setMember(n.text)
	}
	if t.peek().is(",") {
		return "", t.errorf("set of several names at once is not supported")
	}
	if len(t.loops) > 0 {
		if l := t.loops[len(t.loops)-1]; l != nil && !slices.Contains(l.names, n.text) {
			l.names = append(l.names, n.text)
		}
	}
	if t.takeOp("=") {
		v, err := t.tuple()
		if err != nil {
			return "", err
		}
		return "{% set v_" + n.text + " = _keep(" + v + ") %}", t.end()
	}
	if t.peek().kind != 0 {
		return "", t.errorf("set with a filter is not supported")
	}
	if err := t.end(); err != nil {
		return "", err
	}
	body, err := t.body("endset")
	if err != nil {
		return "", err
	}
	return "{% set v_" + n.text + " %}" + body + "{% endset %}", t.close()
}

func (t *translator) setMember(space string) (string, error) {
	member := t.peek()
	if member.kind != 'n' {
		return "", t.errorf("want a name, have %s", member.describe())
	}
	t.at++
	if !t.takeOp("=") {
		return "", t.errorf("want =, have %s", t.peek().describe())
	}
	v, err := t.tuple()
	if err != nil {
		return "", err
	}
	return "{% set v_" + space + "." + member.text + " = _member(v_" + space + ", " + v + ") %}", t.end()
}

func (t *translator) macroBlock() (string, error) {
	name := t.peek()
	t.at++
	if name.kind != 'n' || reserved(name.text) || !t.takeOp("(") {
		return "", t.errorf("want a name and ( behind macro")
	}
	var names []string
	defaults := ""
	for !t.takeOp(")") {
		n := t.peek()
		if n.kind != 'n' || reserved(n.text) {
			return "", t.errorf("want a name, have %s", n.describe())
		}
		t.at++
		names = append(names, n.text)
		if t.takeOp("=") {
			v, err := t.expression()
			if err != nil {
				return "", err
			}
			defaults += "{% if v_" + n.text + " is undefined %}{% set v_" + n.text + " = " + v + " %}{% endif %}"
		}
		if !t.takeOp(",") && !t.peek().is(")") {
			return "", t.errorf("want , or ), have %s", t.peek().describe())
		}
	}
	if err := t.end(); err != nil {
		return "", err
	}
	t.loops = append(t.loops, nil)
	body, err := t.body("endmacro")
	t.loops = t.loops[:len(t.loops)-1]
	if err != nil {
		return "", err
	}
	params := ""
	for i, n := range names {
		if i > 0 {
			params += ", "
		}
		params += "v_" + n
	}
	return "{% macro v_" + name.text + "(" + params + ") %}{{ _enter() }}" + defaults + body + "{{ _leave() }}{% endmacro %}", t.close()
}

func (t *translator) callBlock() (string, error) {
	params := ""
	if t.takeOp("(") {
		for !t.takeOp(")") {
			n := t.peek()
			if n.kind != 'n' || reserved(n.text) {
				return "", t.errorf("want a name, have %s", n.describe())
			}
			t.at++
			params += ", v_" + n.text
			if !t.takeOp(",") && !t.peek().is(")") {
				return "", t.errorf("want , or ), have %s", t.peek().describe())
			}
		}
		params = "(" + strings.TrimPrefix(params, ", ") + ")"
	}
	name := t.peek()
	t.at++
	if name.kind != 'n' || reserved(name.text) || !t.takeOp("(") {
		return "", t.errorf("call of anything but a macro is not supported")
	}
	args, err := t.arguments("v_")
	if err != nil {
		return "", err
	}
	if err := t.end(); err != nil {
		return "", err
	}
	t.loops = append(t.loops, nil)
	body, err := t.body("endcall")
	t.loops = t.loops[:len(t.loops)-1]
	if err != nil {
		return "", err
	}
	call := "v_" + name.text + "(" + strings.TrimPrefix(args, ", ") + ")"
	return "{% call" + params + " " + call + " %}{{ _enter() }}" + body + "{{ _leave() }}{% endcall %}", t.close()
}

// filterBlock becomes a block set of a variable of ours and an output.
func (t *translator) filterBlock() (string, error) {
	t.hidden++
	value := "_old" + strconv.Itoa(t.hidden)
	t.at-- // read "filter" as the | of a filter
	filtered, err := t.filter(value)
	for err == nil && t.peek().is("|") {
		filtered, err = t.filter(filtered)
	}
	if err != nil {
		return "", err
	}
	if err := t.end(); err != nil {
		return "", err
	}
	body, err := t.body("endfilter")
	if err != nil {
		return "", err
	}
	return "{% set " + value + " %}" + body + "{% endset %}{{ _out(" + filtered + ") }}", t.close()
}

// quote writes a string for the library, which knows these three escapes.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
