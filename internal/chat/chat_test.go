package chat

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func render(t *testing.T, template string, messages ...Message) string {
	t.Helper()
	tmpl, err := Parse(template)
	if err != nil {
		t.Fatalf("%s: %v", template, err)
	}
	text, err := tmpl.Render(messages, Options{AddGenerationPrompt: true, Now: oracleTime})
	if err != nil {
		t.Fatalf("%s: %v", template, err)
	}
	return text
}

// renderError returns what parsing or rendering says.
func renderError(template string) error {
	tmpl, err := Parse(template)
	if err != nil {
		return err
	}
	_, err = tmpl.Render([]Message{{"user", "hi"}}, Options{Now: oracleTime})
	return err
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoad(t *testing.T) {
	cases := []struct {
		name  string
		files map[string]string
		want  string // "" = no template
	}{
		{"nothing", nil, ""},
		{"config without template", map[string]string{"tokenizer_config.json": `{"bos_token": "<s>"}`}, ""},
		{"null template", map[string]string{"tokenizer_config.json": `{"chat_template": null}`}, ""},
		{"empty list", map[string]string{"tokenizer_config.json": `{"chat_template": []}`}, ""},
		{"string", map[string]string{"tokenizer_config.json": `{"chat_template": "{{ bos_token }}A", "bos_token": "<s>"}`}, "<s>A"},
		{"token object", map[string]string{"tokenizer_config.json": `{"chat_template": "{{ eos_token }}", "eos_token": {"content": "</s>", "lstrip": false}}`}, "</s>"},
		{"no token", map[string]string{"tokenizer_config.json": `{"chat_template": "[{{ eos_token }}]", "eos_token": null}`}, "[]"},
		{"additional", map[string]string{"tokenizer_config.json": `{"chat_template": "{{ additional_special_tokens[1] }}", "additional_special_tokens": ["a", {"content": "b"}]}`}, "b"},
		{"side file wins", map[string]string{"tokenizer_config.json": `{"chat_template": "A", "bos_token": "<s>"}`, "chat_template.jinja": "{{ bos_token }}B"}, "<s>B"},
		{"side file alone", map[string]string{"chat_template.jinja": "B"}, "B"},
		{"default of named", map[string]string{"tokenizer_config.json": `{"chat_template": [{"name": "../../evil", "template": "E"}, {"name": "default", "template": "D"}]}`}, "D"},
		{"only one named", map[string]string{"tokenizer_config.json": `{"chat_template": [{"name": "tool_use", "template": "T"}]}`}, "T"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tmpl, err := Load(folder(t, c.files))
			if err != nil {
				t.Fatal(err)
			}
			if (tmpl == nil) != (c.want == "") {
				t.Fatalf("template %v, want %q", tmpl, c.want)
			}
			if tmpl == nil {
				return
			}
			got, err := tmpl.Render(nil, Options{})
			if err != nil || got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	cases := []struct {
		name, want string
		files      map[string]string
	}{
		{"broken config", "tokenizer_config.json", map[string]string{"tokenizer_config.json": `{"a`}},
		{"number", "neither a string nor a list", map[string]string{"tokenizer_config.json": `{"chat_template": 3}`}},
		{"two, no default", "none is named default", map[string]string{"tokenizer_config.json": `{"chat_template": [{"name": "a", "template": ""}, {"name": "b", "template": ""}]}`}},
		{"large", "more than", map[string]string{"chat_template.jinja": strings.Repeat("x", maxSource+1)}},
		{"not UTF-8", "UTF-8", map[string]string{"chat_template.jinja": "\xff"}},
		{"syntax", "line 2", map[string]string{"chat_template.jinja": "a\n{% if %}"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(folder(t, c.files))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q in it", err, c.want)
			}
		})
	}
}

// TestGolden holds the text of known formats where no jinja2 is at hand; TestOracleTemplates holds the rest.
func TestGolden(t *testing.T) {
	for name, want := range map[string]string{
		"chatml.jinja":       "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
		"chatml_lines.jinja": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
		"llama2.jinja":       "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Hello. </s><s>[INST] Bye [/INST]",
		"llama3.jinja":       "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
		"llama3_1.jinja":     "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 05 Mar 2026\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
		"mistral.jinja":      "<s>[INST]  Hi [/INST] Hello.</s>[INST] Be brief.\n\nBye[/INST]",
		"zephyr.jinja":       "<|system|>\nBe brief.</s>\n<|user|>\n Hi </s>\n<|assistant|>\nHello.</s>\n<|user|>\nBye</s>\n<|assistant|>\n",
	} {
		source, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		c := oracleCase{Template: string(source), Messages: []oracleMessage{{"system", "Be brief."}, {"user", " Hi "}, {"assistant", "Hello."}, {"user", "Bye"}}, Generate: true, Tokens: oracleTokens}
		if got, err := renderCase(c); err != nil || got != want {
			t.Errorf("%s: %v\n got %q\nwant %q", name, err, got, want)
		}
	}
}

func TestMessagesKeepTheirKeysInOrder(t *testing.T) {
	got := render(t, "{{ messages | tojson }} {% for m in messages %}{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}{% endfor %}", Message{"user", "é\"<&>"})
	if want := `[{"role": "user", "content": "é\"<&>"}] role=user;content=é"<&>;`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestRaisedError(t *testing.T) {
	err := renderError("{{ raise_exception('only ' ~ messages | length) }}")
	var raised *RaisedError
	if !errors.As(err, &raised) || raised.Message != "only 1" {
		t.Errorf("%v", err)
	}
}

func TestStrftime(t *testing.T) {
	got := render(t, `{{ strftime_now("%Y-%m-%d %H:%M:%S %d %b %B %a %A %y %j %I %p %% %-d %-m %e|%F %T") }}`)
	if want := "2026-03-05 14:07:09 05 Mar March Thu Thursday 26 064 02 PM % 5 3  5|2026-03-05 14:07:09"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if err := renderError(`{{ strftime_now("%Q") }}`); err == nil || !strings.Contains(err.Error(), "%Q") {
		t.Errorf("%v", err)
	}
}

// TestUnsupportedIsNamed holds the differences to Jinja2: each is an error that says what is not supported, never another text.
func TestUnsupportedIsNamed(t *testing.T) {
	for template, want := range map[string]string{
		"{% include 'x' %}":                               "include",
		"{% import 'x' as y %}":                           "import",
		"{% extends 'x' %}":                               "extends",
		"{% block a %}{% endblock %}":                     "block",
		"{% with a = 1 %}{% endwith %}":                   "with",
		"{% autoescape true %}{% endautoescape %}":        "autoescape",
		"{% set a, b = 1, 2 %}":                           "several names",
		"{% set a | upper %}x{% endset %}":                "set with a filter",
		"{% for a, b, c in [] %}{% endfor %}":             "3 names",
		"{% for a in [] recursive %}{% endfor %}":         "recursive",
		"{{ messages[0].role | safe ~ '<' }}":             "safe before the end",
		"{{ messages | map(attribute='role') }}":          "prints a generator",
		"{{ x | e }}":                                     "filter e",
		"{{ 'a' | center(9) }}":                           "filter center",
		"{{ x | nonsense }}":                              "filter nonsense: there is no such filter",
		"{{ x is nonsense }}":                             "no test nonsense",
		"{{ '%s' % 'a' }}":                                "formatting",
		"{{ '{}'.format(1) }}":                            "format",
		"{{ {1: 2} }}":                                    "key that is not a string",
		"{{ 99999999999999999999 }}":                      "99999999999999999999",
		"{{ 9223372036854775807 + 1 }}":                   "64 bits",
		"{{ namespace(*args) }}":                          "*",
		"{{ '\\N{DASH}' }}":                               "escape",
		"{{ naïve }}":                                     "ASCII",
		"{{ cycler('a') }}":                               "cycler",
		"{{ messages.append(1) }}":                        "append",
		"{{ messages[0].update({'role': 'x'}) }}":         "update",
		"{% set messages[0].role = 'x' %}":                "not supported",
		"{% set m = messages[0] %}{% set m.role = 'x' %}": "namespace",
		"{{ 1 + 'a' }}":                                   "not possible",
		"{{ missing.member }}":                            "undefined",
		"{{ missing() }}":                                 "not callable",
		"{{ 1 / 0 }}":                                     "division by zero",
		"{% if x %}":                                      "endif",
		"{% endif %}":                                     "endif",
		"{{ 'open":                                        "without an end",
		"{{ (1 }}":                                        "unexpected",
		"{{ 1 $ 2 }}":                                     "unexpected",
		"{# open":                                         "comment without an end",
		"{% raw %}":                                       "endraw",
		"{{ }}":                                           "end of the tag",
		"{% break %}":                                     "outside a loop",
	} {
		if err := renderError(template); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", template, err, want)
		}
	}
}

// TestInjection holds what is known to break out of template engines: it prints nothing of the machine and is refused or empty.
func TestInjection(t *testing.T) {
	for _, payload := range []string{
		"{{ ''.__class__ }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.__class__.__base__ }}", "{{ [].__class__.__bases__[0] }}",
		"{{ ().__class__.__bases__.__getitem__(0).__subclasses__() }}", "{{ self.__init__.__globals__ }}", "{{ self._TemplateReference__context }}",
		"{{ cycler.__init__.__globals__.os.popen('id').read() }}", "{{ joiner.__init__.__globals__ }}", "{{ namespace.__init__.__globals__.os }}",
		"{{ lipsum.__globals__['os'].popen('id').read() }}", "{{ config }}", "{{ config.items() }}", "{{ request.application.__globals__ }}", "{{ url_for.__globals__ }}",
		"{{ get_flashed_messages.__globals__ }}", "{{ ''['__class__'] }}", "{{ ''|attr('__class__') }}", "{{ (''|attr('__class__'))|attr('__mro__') }}",
		"{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}", "{{ __import__('os').system('id') }}", "{{ open('/etc/passwd').read() }}",
		"{{ messages | map('attr', '__class__') | list }}", "{{ ''.format.__globals__ }}", "{{ '{0.__class__}'.format(messages) }}", "{{ \"%s\" | format(messages) }}",
		"{{ raise_exception.__globals__ }}", "{{ strftime_now.__globals__ }}", "{{ strftime_now.__code__ }}", "{{ range.__self__ }}", "{{ loop.__class__ }}", "{{ caller.__globals__ }}",
		"{{ dict.__base__ }}", "{% set x = namespace %}{{ x.__init__ }}", "{{ messages[0].__class__ }}", "{{ messages[0]['__class__'] }}", "{{ _out }}", "{{ v_messages }}", "{{ _filter }}",
		"{{ messages.pop() }}", "{{ messages.clear() }}", "{{ messages[0].setdefault('a', 1) }}", "{{ ''.encode('utf-8') }}", "{{ 7*'7' }}", "${{7*7}}", "#{7*7}", "<%= 7*7 %>",
		"{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{{ lipsum }}", "{{ undefined_function() }}",
	} {
		tmpl, err := Parse(payload)
		if err != nil {
			continue
		}
		text, err := tmpl.Render([]Message{{"user", "hi"}}, Options{})
		if err != nil {
			continue
		}
		if text != "" && text != "[]" && text != "7777777" && text != payload && text != "$49" {
			t.Errorf("%s printed %q", payload, text)
		}
	}
}

// TestLimits holds that every way to run on or to grow ends with an error, soon and without much memory.
func TestLimits(t *testing.T) {
	deep := strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000)
	for name, template := range map[string]string{
		"range":           "{% for i in range(1000000000) %}{% endfor %}",
		"range in all":    "{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}",
		"range far":       "{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807) | list }}{{ range(0, 9223372036854775807, 2) | list }}",
		"output":          "{% for i in range(90000) %}" + strings.Repeat("x", 1000) + "{% endfor %}",
		"doubling":        "{% set x = 'xxxxxxxxxx' %}" + strings.Repeat("{% set x = x ~ x %}", 60),
		"doubling lists":  "{% set x = [1] %}" + strings.Repeat("{% set x = x + x %}", 60),
		"repeat":          "{{ 'x' * 1000000000000 }}",
		"repeat most":     "{{ 'xx' * 9223372036854775807 }}",
		"repeat list":     "{{ [1] * 1000000000000 }}",
		"replace":         "{% set x = 'x' * 100000 %}{{ x.replace('x', x).replace('x', x) }}",
		"join":            "{% set x = 'x' * 100000 %}{{ x.join(x) }}",
		"indent":          "{{ ('a\n' * 100000) | indent(60000) }}",
		"zfill":           "{{ 'a'.zfill(100000000000) }}",
		"loops":           "{% for a in range(9000) %}{% for b in messages * 9000 %}{% for c in messages * 9000 %}{% endfor %}{% endfor %}{% endfor %}",
		"macro":           "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"macros":          "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
		"caller":          "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
		"macro growing":   "{% macro f(s, n) %}{% if n %}{{ f(s ~ s, n - 1) }}{% else %}{{ s }}{% endif %}{% endmacro %}{{ f('xxxxxxxx', 50) }}",
		"brackets":        "{{ " + deep + " }}",
		"blocks":          strings.Repeat("{% if true %}", 5000) + strings.Repeat("{% endif %}", 5000),
		"nots":            "{{ " + strings.Repeat("not ", 4000) + "1 }}",
		"signs":           "{{ " + strings.Repeat("- ", 4000) + "1 }}",
		"chain":           "{{ 1" + strings.Repeat(" + 1", 2000) + " }}",
		"words":           "{{ [" + strings.Repeat("1,", 5000) + "] }}",
		"members":         "{{ messages" + strings.Repeat("[0]", 1500) + " }}",
		"holds itself":    "{% set a = namespace() %}{% set a.x = a %}{% set a.y = a %}{{ a }}",
		"equal to itself": "{% set a = namespace() %}{% set a.x = a %}{% set a.y = a %}{% set b = namespace() %}{% set b.x = b %}{% set b.y = b %}{{ a == b }}",
		"JSON of itself":  "{% set a = namespace() %}{% set a.x = a %}{% set a.y = a %}{{ a | tojson }}",
		"sort":            "{{ (messages * 500000) | sort }}",
		"unique":          "{{ range(50000) | list | unique }}{{ range(50000) | unique }}{% for i in 'x' * 100000 %}{{ range(9) | list | unique }}{% endfor %}" + strings.Repeat("{{ ('x' * 300000) | list | unique }}", 9),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			tmpl, err := Parse(template)
			if err == nil {
				tmpl.limit = time.Second / 2
				_, err = tmpl.Render([]Message{{"user", "hi"}}, Options{})
			}
			if err == nil {
				t.Error("no error")
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			t.Log(time.Since(start), err)
		})
	}
}

func TestLongConversation(t *testing.T) {
	var messages []Message
	for range 2000 {
		messages = append(messages, Message{"user", strings.Repeat("question ", 50)}, Message{"assistant", strings.Repeat("answer ", 50)})
	}
	source, err := os.ReadFile("testdata/llama3.jinja")
	if err != nil {
		t.Fatal(err)
	}
	if got := render(t, "{% set bos_token = '' %}"+string(source), messages...); strings.Count(got, "<|eot_id|>") != 4000 {
		t.Errorf("%d turns", strings.Count(got, "<|eot_id|>"))
	}
}

func FuzzRender(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.jinja")
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(source))
	}
	f.Add("{% for i in range(10) %}{{ loop.index ~ [i, {'a': i}] | tojson }}{% endfor %}")
	f.Fuzz(func(t *testing.T, source string) {
		start := time.Now()
		if tmpl, err := Parse(source); err == nil {
			tmpl.limit = time.Second / 5
			_, _ = tmpl.Render([]Message{{"system", "s"}, {"user", "u"}}, Options{AddGenerationPrompt: true})
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
