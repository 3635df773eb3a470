package page

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var day0 = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

// sample is a page as a real recipe makes it.
func sample() *Page {
	return &Page{
		Title: "recipes/smollm2.yaml", Program: "mlxbuild v1.2.0", Made: day0.Add(80 * 24 * time.Hour),
		Headline: []string{"smollm2/q8 is half the size of bf16 and 1.7 times as fast, at no measurable loss.", "smollm2/q4 fails cost: its mean KL divergence is 0.0925 nats where 0.05 is allowed."},
		Targets:  sampleTargets(), Cells: sampleCells(), Series: sampleSeries(), Prompts: samplePrompts(), Maps: []Map{sampleMap("smollm2/q8", 8), sampleMap("smollm2/q4", 4)},
		Facts: []Fact{{"Machine", "Mac15,9, Apple M3 Max"}, {"Memory", "64 GB"}, {"System", "macOS 15.3 (24D60)"}, {"Power", "mains"}, {"mlx", "0.25.1"}, {"mlx-lm", "0.24.0"}, {"Other load", "none"}, {"Threads", "16"}},
		Terms: []Term{{"decode_tok_s", "Tokens generated after the first one, over the time from the first to the last; the median of all repetitions, with a 95 % bootstrap interval."},
			{"prefill_tok_s", "Tokens of the prompt over the time until the first token is there."}, {"ttft_ms", "Time to the first token, from the call, with the model loaded."},
			{"kld_mean", "Mean over positions of the KL divergence from the reference's next-token distribution to the target's, in nats."}},
		Recipes: []Recipe{{"recipes/smollm2.yaml", "# See https://example.org/recipes\nmodel: HuggingFaceTB/SmolLM2-135M\ntargets:\n  bf16: {}\n  q8:\n    quantize: {bits: 8, group: 64}\n  q4:\n    quantize: {bits: 4, group: 64}\nvalidate:\n  cost:\n    max: {kld_mean: 0.05}\n"}},
	}
}

func about(v, spread float64, n int, unit string) *Figure {
	return &Figure{Value: v, Low: v - spread, High: v + spread, N: n, Text: short(v) + unit, Interval: fmt.Sprintf("[%s, %s]", short(v-spread), short(v+spread))}
}

func sampleTargets() []Target {
	check := func(value, bound, verdict, note string) Check {
		return Check{"cost", "kld_mean", value, bound, verdict, "recipes/smollm2.yaml:12:11", note}
	}
	return []Target{
		{ID: "smollm2/bf16", Bytes: 269e6, Size: "269 MB", BitsPerWeight: 16, Verdict: "ok", Reference: true, Speed: about(31.2, .3, 10, " tok/s"), SpeedOf: "builtin float32, 128+64"},
		{ID: "smollm2/q8", Bytes: 143e6, Size: "143 MB", BitsPerWeight: 8.502, Verdict: "warned", Loss: about(.00081, .0001, 4096, ""), Speed: about(52.9, .8, 10, " tok/s"), SpeedOf: "builtin float32, 128+64",
			Checks: []Check{check("0.00081 [0.00071, 0.00091]", "max 0.05", "ok", ""), {"cost", "top1", "98.9 %", "min 99 %", "warned", "recipes/smollm2.yaml:13:11", "its interval reaches 99.2 %"}}},
		{ID: "smollm2/q4", Bytes: 75.9e6, Size: "75.9 MB", BitsPerWeight: 4.502, Verdict: "failed", Loss: about(.0925, .004, 4096, ""), Speed: about(71.4, 1.9, 10, " tok/s"), SpeedOf: "builtin float32, 128+64",
			Checks: []Check{check("0.0925 [0.0885, 0.0965]", "max 0.05", "failed", "")}},
	}
}

func samples(v float64, n int) (out []float64) {
	for i := range n {
		out = append(out, v*(1+.012*math.Sin(float64(i*i)*1.7+v)))
	}
	return out
}

func metrics(decode float64) []Metric {
	m := func(name string, higher bool, v float64, unit string) Metric {
		return Metric{name, higher, *about(v, v*.008, 10, unit), samples(v, 10)}
	}
	return []Metric{m("decode_tok_s", true, decode, " tok/s"), m("prefill_tok_s", true, decode*6.4, " tok/s"), m("ttft_ms", false, 9000/decode, " ms"), m("load_ms", false, 412, " ms"),
		{"peak_memory_bytes", false, Figure{Value: 512e6, Low: 512e6, High: 512e6, N: 1, Text: "512 MB"}, nil}}
}

func sampleCells() (out []Cell) {
	speeds := map[string]float64{"smollm2/bf16": 31.2, "smollm2/q8": 52.9, "smollm2/q4": 71.4}
	for _, batch := range []int{1, 8} {
		for _, target := range []string{"smollm2/bf16", "smollm2/q8", "smollm2/q4"} {
			for _, runtime := range []string{"builtin", "mlx-lm"} {
				c := Cell{Benchmark: "chat", Target: target, Runtime: runtime, Compute: "float32", Batch: batch, Shape: "128+64", Threads: "all", Verdict: "ok", Key: strings.Repeat("1a2b3c4d", 8), When: day0.Add(79 * 24 * time.Hour)}
				speed := speeds[target] * map[string]float64{"builtin": 1, "mlx-lm": 1.16}[runtime] / math.Sqrt(float64(batch))
				c.Metrics = metrics(speed)
				switch {
				case target == "smollm2/q4":
					c.Unranked = "validation cost failed"
				case batch == 8 && target == "smollm2/bf16" && runtime == "mlx-lm":
					c.Verdict, c.Error, c.Metrics = "error", "out of memory: 71.2 GB are needed, 64 GB are there", nil
				case target == "smollm2/q8" && runtime == "mlx-lm":
					c.Best, c.Flags = true, []string{"drift"}
					c.Verdict = "slower"
					c.Against = []Change{{"decode_tok_s", "git:main 1a2b3c4d", "0.95x [0.94, 0.96]", "at most 3% slower", "slower", "another kernel since"}, {"ttft_ms", "git:main 1a2b3c4d", "1.00x [0.99, 1.01]", "at most 5% slower", "ok", ""}}
				}
				out = append(out, c)
			}
		}
	}
	return out
}

func sampleSeries() []Series {
	points := func(vs ...float64) (out []Point) {
		for i, v := range vs {
			out = append(out, Point{day0.Add(time.Duration(i*i) * 60 * time.Hour), fmt.Sprintf("%07x", 0x1a2b3c4+i*0x51f3a7), v, v * .985, v * 1.015})
		}
		return out
	}
	return []Series{
		{"chat smollm2/q8 builtin float32 b1 128+64", "decode_tok_s", "tok/s", true, points(44.1, 44.5, 49.8, 50.2, 54.0, 52.9)},
		{"chat smollm2/q8 mlx-lm float32 b1 128+64", "decode_tok_s", "tok/s", true, points(61.2, 61.1, 61.3, 61.0, 61.2, 61.4)},
		{"chat smollm2/q8 builtin float32 b1 128+64", "ttft_ms", "ms", false, points(201, 199, 180, 179, 168, 170)},
	}
}

func samplePrompts() []Prompt {
	const first = "The tide is caused by the gravity of the Moon and, to a smaller part, of the Sun. Twice a day the water rises and falls."
	const q4 = "The tide is caused by the gravity of the Moon, which pulls at the water. It is the wind that makes the rest."
	return []Prompt{
		{"chat", "Why is there a tide?\nAnswer in two sentences.", []Text{{"smollm2/bf16", first, true, len(first)}, {"smollm2/q8", first, true, len(first)}, {"smollm2/q4", q4, false, strings.Index(q4, ", which")}}},
		{"chat", "Übersetze: “I would like a café au lait, s’il vous plaît.”", []Text{{"smollm2/bf16", "Ich hätte gern einen Milchkaffee, bitte.", true, 41}, {"smollm2/q8", "Ich hätte gerne einen Milchkaffee.", false, 15}, {"smollm2/q4", "Ich häufe einen Kaffee.", false, 6}}},
	}
}

func sampleMap(target string, bits float64) Map {
	m := Map{Target: target, Columns: []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "embed_tokens"}}
	for layer := range 30 {
		r := MapRow{Name: strconv.Itoa(layer)}
		for j := range 7 {
			b := bits
			if bits == 4 && (layer < 2 || j == 6 && layer%3 == 0) {
				b = 6
			}
			r.Cells = append(r.Cells, MapCell{fmt.Sprintf("affine %g bits, group 64", b), b + .5, .9 * math.Pow(2, -b) * (1.2 + math.Sin(float64(layer*3+j*5)))})
		}
		m.Rows = append(m.Rows, MapRow{r.Name, append(r.Cells, MapCell{})})
	}
	return Map{m.Target, m.Columns, append(m.Rows, MapRow{"other", append(make([]MapCell, 7), MapCell{"bfloat16", 16, -1})})}
}

func write(t testing.TB, p *Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, b.Bytes())
	return b.String()
}

// number is what an attribute of a drawing may hold.
var number = regexp.MustCompile(`^-?[0-9]+(\.[0-9])?$`)

var geometry = map[string]bool{"x": true, "y": true, "x1": true, "x2": true, "y1": true, "y2": true, "cx": true, "cy": true, "r": true, "width": true, "height": true, "points": true, "viewBox": true}

// wellFormed demands XML, with ids that are there once, links that lead to one, headings in order, nothing fetched, and numbers in drawings.
func wellFormed(t testing.TB, data []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(data))
	ids, links, level, open := map[string]bool{}, []string{}, 0, []string{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		switch e := token.(type) {
		case xml.StartElement:
			name := e.Name.Local
			if !slices.Contains(allowed, name) {
				t.Fatalf("<%s> in\n%s", name, data)
			}
			if len(name) == 2 && name[0] == 'h' && name[1] >= '1' && name[1] <= '6' {
				now := int(name[1] - '0')
				if now > level+1 || now == 1 && level != 0 {
					t.Errorf("<%s> after h%d", name, level)
				}
				level = now
			}
			for _, a := range e.Attr {
				links = append(links, attribute(t, name, a, ids)...)
			}
			open = append(open, name)
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("open: %v", open)
	}
	for _, l := range links {
		if !ids[l] {
			t.Errorf("nothing has the id %s", l)
		}
	}
}

var allowed = strings.Fields(`html head meta link title style body a header h1 h2 h3 h4 p bdi time nav ul li main section div table caption thead tbody tr th td span br s
		figure figcaption details summary code strong article mark dl dt dd pre svg desc g rect circle line polyline polygon text`)

func attribute(t testing.TB, element string, a xml.Attr, ids map[string]bool) (links []string) {
	t.Helper()
	name, value := a.Name.Local, a.Value
	switch {
	case name == "id":
		if ids[value] {
			t.Errorf("id %s twice", value)
		}
		ids[value] = true
	case name == "href" && strings.HasPrefix(value, "#"):
		return []string{value[1:]}
	case name == "aria-labelledby":
		return strings.Fields(value)
	case name == "href" && value == "data:,":
	case name == "href" || name == "src" || name == "style" || strings.HasPrefix(name, "on"):
		t.Errorf("<%s %s=%q>", element, name, value)
	case geometry[name]:
		for f := range strings.FieldsSeq(value) {
			if !number.MatchString(f) {
				t.Errorf("<%s %s=%q>", element, name, value)
			}
		}
	}
	return nil
}

func TestSample(t *testing.T) {
	got := write(t, sample())
	for _, want := range []string{`<h2 id="h-targets">`, `<h2 id="h-benchmarks">`, `<h2 id="h-history">`, `<h2 id="h-texts">`, `<h2 id="h-quantization">`, `<h2 id="h-environment">`, `<h2 id="h-numbers">`, `<h2 id="h-checks">`, `<h2 id="h-recipe">`,
		"not ranked: <bdi>validation cost failed</bdi>", "out of memory: 71.2 GB", `class="front"`, `class="label struck"`, `<span class="flag"><bdi>drift</bdi>`, "0.95x [0.94, 0.96]", `<a href="#term1">`, `<time>2026-05-20 09:30 UTC</time>`,
		"210 × affine 8 bits, group 64; 1 × bfloat16", "0–29", "# See https://example.org/recipes"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	before, _, _ := strings.Cut(got, `<section id="recipe"`)
	if strings.Contains(before, "://") || regexp.MustCompile(`url\(|@import|<script`).MatchString(got) {
		t.Error("something is fetched")
	}
	if again := write(t, sample()); again != got {
		t.Error("the same page made other bytes")
	}
}

func TestStruckOut(t *testing.T) {
	p := sample()
	for i := range p.Cells {
		p.Cells[i].Best = true // even where the caller says so
	}
	rows := regexp.MustCompile(`(?s)<tr class="cell[^"]*">.*?</tr>`).FindAllString(write(t, p), -1)
	if len(rows) != len(p.Cells) {
		t.Fatalf("%d rows", len(rows))
	}
	for i, c := range p.Cells {
		row, ranked := rows[i], c.Unranked == "" && c.Error == ""
		if strings.Contains(row, "fastest") != ranked || strings.Contains(row, "<s>") != (c.Unranked != "") || !strings.Contains(row, c.Error) {
			t.Errorf("cell %d: %s", i, row)
		}
	}
}

func TestSectionsOnlyWithData(t *testing.T) {
	full := sample()
	parts := map[string]*Page{
		"targets": {Targets: full.Targets[:1]}, "benchmarks": {Cells: full.Cells}, "history": {Series: full.Series}, "texts": {Prompts: full.Prompts}, "quantization": {Maps: full.Maps},
		"environment": {Facts: full.Facts}, "numbers": {Terms: full.Terms}, "recipe": {Recipes: full.Recipes}, "none": {},
	}
	for has, p := range parts {
		got := write(t, p)
		for id := range parts {
			if strings.Contains(got, `<section id="`+id+`"`) != (id == has && id != "none") || strings.Contains(got, `href="#`+id+`"`) != (id == has && id != "none") {
				t.Errorf("%s in the page of %s", id, has)
			}
		}
	}
}

const hostile = "\"><script>alert(1)</script><img src=x onerror='a()'>{{.}}]]>--><!-- \x00\x01\x1b[31m\x7f\u0085\u202e\u2067\ufffe\xff\xc3 שלום \U0010ffff\r\n&amp;&lt; e\u0301"

// fill puts text, numbers and counts everywhere in a page.
func fill(text string, f float64, n int) *Page {
	figure := Figure{f, f / 3, f * 3, n, text, text}
	check := Check{text, text, text, text, text, text, text}
	return &Page{
		Title: text, Program: text, Made: time.Unix(int64(n), 0), Headline: []string{text, text},
		Targets: []Target{{text, int64(n), text, f, text, true, nil, &figure, text, []Check{check}}, {text, int64(n) * 3, text, -f, "failed", false, &figure, &figure, text, nil},
			{text, -int64(n), text, f, "ok", false, &Figure{Value: f / 1e5}, &figure, text, nil}, {ID: text}},
		Cells: []Cell{{text, text, text, text, n, text, text, text, "", "", true, []Metric{{text, true, figure, []float64{f, -f, 0, f / 1e9}}, {"x", false, Figure{}, nil}}, []Change{{text, text, text, text, text, text}}, []string{text}, text, time.Time{}},
			{text, text, text, text, n, text, text, text, text, text, true, nil, nil, nil, text, time.Time{}}, {Metrics: []Metric{{Name: text, Samples: []float64{f}}}}},
		Series:  []Series{{text, text, text, true, []Point{{time.Time{}, text, f, f, f}, {time.Time{}, "", -f, f, 2 * f}}}, {text, text, "", false, []Point{{time.Time{}, text, f, f, f}}}},
		Prompts: []Prompt{{text, text, []Text{{text, text, true, n}, {text, text, false, n}, {text, "", true, -n}}}},
		Maps: []Map{{text, []string{text, "b"}, []MapRow{{text, []MapCell{{text, f, f}, {"", f, f}, {text, 4, .5}}}, {"", []MapCell{{text, math.Abs(f), -f}}}, {Name: "7"}}}, {Target: text},
			{text, []string{text}, nil}},
		Facts: []Fact{{text, text}}, Terms: []Term{{text, text}, {text, text}}, Recipes: []Recipe{{text, text}},
	}
}

func TestHostile(t *testing.T) {
	for _, f := range []float64{1, 0, -1, 1e308, -math.MaxFloat64, math.MaxFloat64, math.SmallestNonzeroFloat64, math.NaN(), math.Inf(1), math.Inf(-1)} {
		got := write(t, fill(hostile, f, 7))
		if strings.ContainsAny(got, "\x00\x01\x1b\u202e\u2067") {
			t.Error("control characters are left")
		}
	}
}

// TestCut keeps characters whole.
func TestCut(t *testing.T) {
	for _, c := range []struct {
		text string
		at   int
		same string
	}{{"häb", 2, "h"}, {"häb", 3, "hä"}, {"e\u0301x", 1, ""}, {"ab", -4, ""}, {"ab", 9, "ab"}, {"a\xff\xfe", 2, "a\xff"}, {"", 3, ""}, {"日本", 4, "日"}} {
		same, rest := cut(Text{Text: c.text, PartsAt: c.at})
		if same != c.same || same+rest != c.text {
			t.Errorf("%q at %d: %q, %q", c.text, c.at, same, rest)
		}
	}
}

func TestPlotDegrades(t *testing.T) {
	for _, c := range []struct {
		drop func(*Target)
		want string
	}{{func(*Target) {}, "Speed against loss"}, {func(t *Target) { t.Loss, t.Reference = nil, false }, "Speed against size"}, {func(t *Target) { t.Speed = nil }, "Size against loss"}, {func(t *Target) { *t = Target{} }, ""}} {
		targets := sampleTargets()
		for i := range targets {
			c.drop(&targets[i])
		}
		p := newPlot(targets)
		if c.want == "" && p != nil || c.want != "" && (p == nil || p.Title != c.want) {
			t.Errorf("%q: %+v", c.want, p)
		}
	}
}

func TestFront(t *testing.T) {
	spots := []spot{{vx: 1, vy: 1}, {vx: 2, vy: 1}, {vx: 3, vy: 5}, {vx: 2.5, vy: 6}, {vx: 9, vy: 0, Target: Target{Verdict: "failed"}}}
	front(spots, speedAxis, lossAxis)
	for i, want := range []bool{false, true, true, false, false} {
		if spots[i].front != want {
			t.Errorf("target %d: %v", i, spots[i].front)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		s    scale
		want string
	}{{scale{lo: 0, hi: 10}, "[0 2 4 6 8 10]"}, {scale{lo: 29.3, hi: 31.1}, "[29.5 30 30.5 31]"}, {scale{lo: .0005, hi: .2, log: true}, "[0.001 0.003 0.01 0.03 0.1]"}, {scale{lo: 1e308, hi: 1e308}, "[]"}} {
		var got []string
		for _, v := range c.s.ticks(5) {
			got = append(got, short(v))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%+v: %v, not %s", c.s, got, c.want)
		}
	}
}

// TestContrast holds the colours of both themes to WCAG AA against both grounds they stand on.
func TestContrast(t *testing.T) {
	light, dark, _ := strings.Cut(styles, "@media (prefers-color-scheme: dark)")
	for i, theme := range []string{light, dark} {
		colours := map[string]rgb{}
		for _, m := range regexp.MustCompile(`--(\w+): #(..)(..)(..);`).FindAllStringSubmatch(theme, -1) {
			var c rgb
			for j := range c {
				v, _ := strconv.ParseUint(m[2+j], 16, 8)
				c[j] = float64(v)
			}
			colours[m[1]] = c
		}
		pairs := [][2]string{{"ink", "tint"}, {"ink", "raised"}, {"quiet", "raised"}}
		for _, ink := range []string{"ink", "quiet", "accent", "good", "warn", "open", "bad", "none"} {
			pairs = append(pairs, [2]string{ink, "paper"})
		}
		for _, p := range pairs {
			a, b := colours[p[0]].luminance(), colours[p[1]].luminance()
			if ratio := (max(a, b) + .05) / (min(a, b) + .05); ratio < 4.5 {
				t.Errorf("theme %d: %s on %s is %.2f", i, p[0], p[1], ratio)
			}
		}
	}
}

func FuzzPage(f *testing.F) {
	f.Add(hostile, 1.5, 3)
	f.Add("", math.NaN(), 0)
	f.Add("layer 7", -1e300, -5)
	f.Add("ok", 1e-310, 1<<62)
	f.Fuzz(func(t *testing.T, text string, v float64, n int) {
		write(t, fill(text, v, n))
	})
}
