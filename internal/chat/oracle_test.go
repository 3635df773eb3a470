package chat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// renderScript renders [{"template", "messages", "generate", "tokens"}] by jinja2 as transformers sets it up (utils/chat_template_utils.py), and prints a list of
// [text, null] or [null, error].
const renderScript = `
import json, sys
from datetime import datetime
import jinja2, jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

class Generation(jinja2.ext.Extension):
    tags = {"generation"}
    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_print"), [], [], body).set_lineno(lineno)
    def _print(self, caller):
        return caller()

def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)

def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

def strftime_now(format):
    return datetime(2026, 3, 5, 14, 7, 9).strftime(format)

env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = strftime_now

out = []
for case in json.load(open(sys.argv[1], encoding="utf-8")):
    try:
        t = env.from_string(case["template"])
        out.append([t.render(messages=case["messages"], tools=None, documents=None, add_generation_prompt=case["generate"], **case["tokens"]), None])
    except Exception as e:
        out.append([None, type(e).__name__ + ": " + str(e)])
json.dump(out, sys.stdout)
`

// oracleTime is the time that strftime_now sees on both sides.
var oracleTime = time.Date(2026, 3, 5, 14, 7, 9, 0, time.UTC)

type oracleMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type oracleCase struct {
	name     string
	Template string            `json:"template"`
	Messages []oracleMessage   `json:"messages"`
	Generate bool              `json:"generate"`
	Tokens   map[string]string `json:"tokens"`
}

// conversations by name.
func conversations() map[string][]oracleMessage {
	long := []oracleMessage{{"system", "Be kind.\n"}}
	for i := range 20 {
		long = append(long, oracleMessage{"user", strings.Repeat("word ", i)}, oracleMessage{"assistant", "<think>\nhm\n</think>\n\nanswer " + strings.Repeat("!", i)})
	}
	return map[string][]oracleMessage{
		"plain":      {{"user", "Hello, world!"}},
		"system":     {{"system", "You are terse."}, {"user", "Hi"}},
		"turns":      {{"user", "Hi"}, {"assistant", "Hello! How can I help?"}, {"user", "  Tell me a joke. \n"}},
		"systems":    {{"system", " S "}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}, {"assistant", "d"}},
		"unicode":    {{"user", "Grüße 你好 👩🏽‍💻 \u00a0\u2003 שלום\u202e"}, {"assistant", "\u3000全角\u3000"}, {"user", "e\u0301"}},
		"empty text": {{"system", ""}, {"user", ""}},
		"no message": {},
		"quotes":     {{"user", `a "quoted" 'text' \ {{ 1 }} {% if %} {# #} <b>&amp;</b>`}, {"assistant", "tab\tcr\rnl\n\n\n"}},
		"wrong turn": {{"assistant", "first"}, {"user", "second"}},
		"odd role":   {{"user", "x"}, {"critic", "y"}},
		"thinking":   {{"user", "q"}, {"assistant", "<think>\nreason\n</think>\n\nanswer"}, {"user", "<tool_response>r</tool_response>"}, {"assistant", "<think>more</think>done"}},
		"long":       long,
	}
}

// compareWithJinja2 holds that both print the same, or both refuse.
func compareWithJinja2(t *testing.T, cases []oracleCase) {
	t.Helper()
	equal, both, lighter := compareLists(t, cases, func(oracleCase, error) bool { return false })
	if lighter > 0 {
		t.Errorf("%d renderings that jinja2 refuses", lighter)
	}
	t.Logf("%d renderings equal, %d refused by both", equal, both)
}

// compareLists counts renderings that are equal, refused by both, and refused by jinja2 alone. It asks whether an error of ours alone is fine.
func compareLists(t *testing.T, cases []oracleCase, fine func(oracleCase, error) bool) (equal, both, lighter int) {
	t.Helper()
	data, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cases.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var want [][2]*string
	if err := json.Unmarshal(oracle.Run(t, renderScript, path), &want); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		got, err := renderCase(c)
		switch text, problem := want[i][0], want[i][1]; {
		case problem != nil && err != nil:
			both++
		case problem != nil:
			lighter++
			t.Logf("%s: jinja2 refuses (%s), we print %.300q", c.name, *problem, got)
		case err != nil && fine(c, err):
		case err != nil:
			t.Errorf("%s: %v; jinja2 prints %.300q", c.name, err, *text)
		case got != *text:
			t.Errorf("%s:\n got %s\nwant %s", c.name, around(got, *text), around(*text, got))
		default:
			equal++
		}
	}
	return equal, both, lighter
}

// around quotes s where it first differs from other.
func around(s, other string) string {
	i := 0
	for i < len(s) && i < len(other) && s[i] == other[i] {
		i++
	}
	q, _ := json.Marshal(s[max(0, i-40):min(len(s), i+80)])
	return string(q)
}

func renderCase(c oracleCase) (string, error) {
	tmpl, err := Parse(c.Template)
	if err != nil {
		return "", err
	}
	tmpl.tokens = c.Tokens
	var messages []Message
	for _, m := range c.Messages {
		messages = append(messages, Message(m))
	}
	return tmpl.Render(messages, Options{AddGenerationPrompt: c.Generate, Now: oracleTime})
}

var oracleTokens = map[string]string{"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

func casesOf(name, template string) []oracleCase {
	var out []oracleCase
	for conversation, messages := range conversations() {
		for _, generate := range []bool{false, true} {
			out = append(out, oracleCase{name + ", " + conversation, template, messages, generate, oracleTokens})
		}
	}
	return out
}

func TestOracleTemplates(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.jinja")
	if err != nil || len(paths) < 10 {
		t.Fatal(paths, err)
	}
	var cases []oracleCase
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cases = append(cases, casesOf(filepath.Base(path), string(source))...)
	}
	compareWithJinja2(t, cases)
}

// TestOracleModels renders the templates of real model folders.
func TestOracleModels(t *testing.T) {
	var cases []oracleCase
	dirs := []string{oracle.SmolLM2(t), oracle.TinyStories(t)}
	more, _ := filepath.Glob(filepath.Join(os.Getenv("MLXBUILD_ORACLE_TOKENIZERS"), "*", "tokenizer_config.json"))
	for _, path := range more {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		tmpl, err := Load(dir)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if tmpl == nil {
			continue
		}
		for _, c := range casesOf(filepath.Base(dir), tmpl.source) {
			c.Tokens = tmpl.tokens
			cases = append(cases, c)
		}
	}
	compareWithJinja2(t, cases)
}
