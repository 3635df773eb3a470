package chat

import (
	"strings"
)

// The grammar is that of jinja2/parser.py, loosest first: if-else, or, and, not, comparison, + and -, ~, * / // %, **, sign, then what follows a value.

func (t *translator) peek() token {
	if t.at < len(t.tokens) {
		return t.tokens[t.at]
	}
	return token{}
}

// take passes a word.
func (t *translator) take(name string) bool {
	ok := t.peek().name(name)
	if ok {
		t.at++
	}
	return ok
}

// takeOp passes an operator.
func (t *translator) takeOp(op string) bool {
	ok := t.peek().is(op)
	if ok {
		t.at++
	}
	return ok
}

// whole translates all tokens of a tag as the argument of a function.
func (t *translator) whole(function string, tokens []token) (string, error) {
	t.tokens, t.at = tokens, 0
	e, err := t.tuple()
	if err != nil {
		return "", err
	}
	if n := t.peek(); n.kind != 0 {
		return "", t.errorf("unexpected %s", n.describe())
	}
	return function + "(" + e + ")", nil
}

// tuple reads an expression, or several with commas.
func (t *translator) tuple() (string, error) {
	e, err := t.expression()
	if err != nil || !t.peek().is(",") {
		return e, err
	}
	items := []string{e}
	for t.takeOp(",") {
		if n := t.peek(); n.kind == 0 || n.is(")") {
			break
		}
		if e, err = t.expression(); err != nil {
			return "", err
		}
		items = append(items, e)
	}
	return "_tuple(" + strings.Join(items, ", ") + ")", nil
}

func (t *translator) expression() (string, error) {
	if t.depth++; t.depth > maxNesting {
		return "", t.errorf("nested more than %d deep", maxNesting)
	}
	defer func() { t.depth-- }()
	e, err := t.or()
	if err != nil {
		return "", err
	}
	for t.take("if") {
		cond, err := t.or()
		if err != nil {
			return "", err
		}
		other := "_undefined"
		if t.take("else") {
			if other, err = t.expression(); err != nil {
				return "", err
			}
		}
		e = "(" + e + " if _true(" + cond + ") else " + other + ")"
	}
	return e, nil
}

// chain reads operands of one level of the grammar, from left to right.
func (t *translator) chain(operand func() (string, error), operator func() (string, bool), join func(op, a, b string) string) (string, error) {
	e, err := operand()
	for n := 0; err == nil; n++ {
		op, ok := operator()
		if !ok {
			return e, nil
		}
		if n >= maxChain {
			return "", t.errorf("more than %d operators in a row", maxChain)
		}
		var right string
		if right, err = operand(); err == nil {
			e = join(op, e, right)
		}
	}
	return "", err
}

// oneOf takes one of several operators.
func (t *translator) oneOf(ops ...string) func() (string, bool) {
	return func() (string, bool) {
		for _, op := range ops {
			if t.takeOp(op) {
				return op, true
			}
		}
		return "", false
	}
}

func (t *translator) or() (string, error) {
	return t.chain(t.and, func() (string, bool) { return "or", t.take("or") }, lazy)
}

func (t *translator) and() (string, error) {
	return t.chain(t.not, func() (string, bool) { return "and", t.take("and") }, lazy)
}

// lazy leaves an operator to the library: its right side is only looked at when it matters.
func lazy(op, a, b string) string { return "(" + a + " " + op + " " + b + ")" }

func (t *translator) not() (string, error) {
	nots := 0
	for t.take("not") {
		nots++
	}
	e, err := t.compare()
	if nots > maxChain {
		return "", t.errorf("more than %d operators in a row", maxChain)
	}
	if nots > 0 {
		e = "_not(" + e + ")"
	}
	if nots > 1 && nots%2 == 0 {
		e = "_not(" + e + ")"
	}
	return e, err
}

// comparisons names the functions of the comparisons.
var comparisons = map[string]string{"==": "_eq", "!=": "_ne", "<": "_lt", "<=": "_le", ">": "_gt", ">=": "_ge", "in": "_in", "not in": "_notin"}

func (t *translator) compare() (string, error) {
	first, err := t.sum()
	if err != nil {
		return "", err
	}
	rest, last := "", ""
	n := 0
	for ; n <= maxChain; n++ {
		op, ok := t.oneOf("==", "!=", "<=", ">=", "<", ">")()
		if !ok && t.take("in") {
			op, ok = "in", true
		}
		if !ok && t.peek().name("not") && t.at+1 < len(t.tokens) && t.tokens[t.at+1].name("in") {
			t.at += 2
			op, ok = "not in", true
		}
		if !ok {
			break
		}
		right, err := t.sum()
		if err != nil {
			return "", err
		}
		last = comparisons[op] + "(" + first + ", " + right + ")"
		rest += ", " + quote(op) + ", " + right
	}
	switch n {
	case 0:
		return first, nil
	case 1:
		return last, nil
	}
	return "_chain(" + first + rest + ")", nil // a < b < c
}

// arithmetic names the functions of the operators.
var arithmetic = map[string]string{"+": "_add", "-": "_sub", "~": "_cat", "*": "_mul", "/": "_div", "//": "_floor", "%": "_mod", "**": "_pow"}

func call(op, a, b string) string { return arithmetic[op] + "(" + a + ", " + b + ")" }

func (t *translator) sum() (string, error) {
	return t.chain(t.concat, t.oneOf("+", "-"), call)
}

func (t *translator) concat() (string, error) {
	return t.chain(t.product, t.oneOf("~"), call)
}

func (t *translator) product() (string, error) {
	return t.chain(t.power, t.oneOf("*", "//", "/", "%"), call)
}

func (t *translator) power() (string, error) {
	return t.chain(func() (string, error) { return t.sign(true) }, t.oneOf("**"), call)
}

// sign reads signs before a value; a filter behind it holds for the whole: -1|abs is 1.
func (t *translator) sign(withFilter bool) (string, error) {
	if op, ok := t.oneOf("-", "+")(); ok {
		if t.depth++; t.depth > maxNesting {
			return "", t.errorf("nested more than %d deep", maxNesting)
		}
		e, err := t.sign(false)
		t.depth--
		if err != nil {
			return "", err
		}
		e = map[string]string{"-": "_neg", "+": "_pos"}[op] + "(" + e + ")"
		return t.behind(e, withFilter)
	}
	e, err := t.primary()
	if err != nil {
		return "", err
	}
	return t.behind(e, withFilter)
}

func (t *translator) primary() (string, error) {
	n := t.peek()
	t.at++
	switch n.kind {
	case 'n':
		return t.nameOrConstant(n)
	case 's':
		s := n.text
		for t.peek().kind == 's' { // strings side by side are one
			s += t.peek().text
			t.at++
		}
		return quote(s), nil
	case 'i':
		return strings.TrimLeft(n.text[:len(n.text)-1], "0") + n.text[len(n.text)-1:], nil
	case 'f':
		return "_float(" + quote(n.text) + ")", nil
	case 'o':
		switch n.text {
		case "(":
			return t.brackets()
		case "[":
			return t.list()
		case "{":
			return t.dict()
		}
	}
	return "", t.errorf("unexpected %s", n.describe())
}

func (t *translator) nameOrConstant(n token) (string, error) {
	switch n.text {
	case "true", "false", "none", "True", "False", "None":
		return strings.ToLower(n.text), nil
	case "loop", "caller":
		return n.text, nil
	}
	if reserved(n.text) {
		return "", t.errorf("unexpected %s", n.describe())
	}
	return "v_" + n.text, nil
}

func (t *translator) brackets() (string, error) {
	if t.takeOp(")") {
		return "_tuple()", nil
	}
	e, err := t.tuple()
	if err == nil && !t.takeOp(")") {
		err = t.errorf("want ), have %s", t.peek().describe())
	}
	return "(" + e + ")", err
}

func (t *translator) list() (string, error) {
	var items []string
	for !t.takeOp("]") {
		e, err := t.expression()
		if err != nil {
			return "", err
		}
		items = append(items, e)
		if !t.takeOp(",") && !t.peek().is("]") {
			return "", t.errorf("want , or ], have %s", t.peek().describe())
		}
	}
	return "[" + strings.Join(items, ", ") + "]", nil
}

func (t *translator) dict() (string, error) {
	var items []string
	for !t.takeOp("}") {
		k, err := t.expression()
		if err != nil {
			return "", err
		}
		if !t.takeOp(":") {
			return "", t.errorf("want :, have %s", t.peek().describe())
		}
		v, err := t.expression()
		if err != nil {
			return "", err
		}
		items = append(items, k, v)
		if !t.takeOp(",") && !t.peek().is("}") {
			return "", t.errorf("want , or }, have %s", t.peek().describe())
		}
	}
	return "_dict(" + strings.Join(items, ", ") + ")", nil
}

// behind reads what may follow a value: .name, [index], (arguments), |filter, is test.
func (t *translator) behind(e string, withFilter bool) (string, error) {
	for n := 0; ; n++ {
		if n > maxChain {
			return "", t.errorf("more than %d operators in a row", maxChain)
		}
		next, err := t.peek(), error(nil)
		switch {
		case next.is("."):
			t.at++
			e, err = t.member(e)
		case next.is("["):
			t.at++
			e, err = t.index(e)
		case next.is("("):
			t.at++
			var args string
			if args, err = t.arguments("v_"); err == nil {
				e = e + "(" + strings.TrimPrefix(args, ", ") + ")"
			}
		case next.is("|") && withFilter:
			e, err = t.filter(e)
		case next.name("is") && withFilter:
			t.at++
			e, err = t.test(e)
		default:
			return e, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// member reads the name behind a dot; a call of it is a call of a method.
func (t *translator) member(e string) (string, error) {
	n := t.peek()
	t.at++
	if n.kind == 'i' {
		return "_item(" + e + ", " + n.text + ")", nil
	}
	if n.kind != 'n' {
		return "", t.errorf("want a name behind the dot, have %s", n.describe())
	}
	if !t.takeOp("(") {
		return "_attr(" + e + ", " + quote(n.text) + ")", nil
	}
	args, err := t.arguments("")
	return "_method(" + e + ", " + quote(n.text) + args + ")", err
}

// index reads what is in square brackets: an index or a slice.
func (t *translator) index(e string) (string, error) {
	parts := []string{"none"}
	colons := 0
	for {
		if t.takeOp(":") {
			colons++
			parts = append(parts, "none")
			continue
		}
		if t.takeOp("]") {
			break
		}
		if parts[len(parts)-1] != "none" {
			return "", t.errorf("want ], have %s", t.peek().describe())
		}
		p, err := t.expression()
		if err != nil {
			return "", err
		}
		parts[len(parts)-1] = p
		if colons == 0 && t.takeOp("]") {
			return "_item(" + e + ", " + p + ")", nil
		}
	}
	if colons == 0 || colons > 2 {
		return "", t.errorf("want an index")
	}
	return "_slice(" + e + ", " + strings.Join(parts, ", ") + ")", nil
}

// arguments reads the arguments of a call up to its bracket, each with a comma before it. Names of a macro's parameters are variables and get their prefix.
func (t *translator) arguments(prefix string) (string, error) {
	var b strings.Builder
	named := false
	for !t.takeOp(")") {
		b.WriteString(", ")
		star := t.takeOp("*") || t.takeOp("**")
		n := t.peek()
		if n.kind == 'n' && t.at+1 < len(t.tokens) && t.tokens[t.at+1].is("=") {
			t.at += 2
			named = true
			b.WriteString(prefix + n.text + "=")
		} else if named {
			return "", t.errorf("an argument without a name behind one with a name")
		}
		e, err := t.expression()
		if err != nil {
			return "", err
		}
		if star {
			e = "_star(" + e + ")"
		}
		b.WriteString(e)
		if !t.takeOp(",") && !t.peek().is(")") {
			return "", t.errorf("want , or ), have %s", t.peek().describe())
		}
	}
	return b.String(), nil
}

// filter reads |name or |name(arguments).
func (t *translator) filter(e string) (string, error) {
	t.at++
	n := t.peek()
	t.at++
	if n.kind != 'n' {
		return "", t.errorf("want the name of a filter, have %s", n.describe())
	}
	args := ""
	if t.takeOp("(") {
		var err error
		if args, err = t.arguments(""); err != nil {
			return "", err
		}
	}
	if n.text == "safe" && t.peek().kind != 0 { // what is safe escapes what is added to it
		n.text = unsafe
	}
	return "_filter(" + quote(n.text) + ", " + e + args + ")", nil
}

// test reads what follows "is": a name, with an argument in brackets or behind it.
func (t *translator) test(e string) (string, error) {
	function := "_test"
	if t.take("not") {
		function = "_nottest"
	}
	n := t.peek()
	t.at++
	if n.kind != 'n' {
		return "", t.errorf("want the name of a test, have %s", n.describe())
	}
	args := ""
	var err error
	switch next := t.peek(); {
	case t.takeOp("("):
		args, err = t.arguments("")
	case next.kind == 's' || next.kind == 'i' || next.kind == 'f' || next.is("[") || next.is("{") ||
		next.kind == 'n' && !next.name("else") && !next.name("or") && !next.name("and"): // "x is defined if y" is an error in Jinja2 too
		var arg string
		if arg, err = t.primary(); err == nil {
			arg, err = t.behind(arg, false)
		}
		args = ", " + arg
	}
	return function + "(" + quote(n.text) + ", " + e + args + ")", err
}
