package builtin

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// FuzzForesight compares with a search through the whole text, after every token.
func FuzzForesight(f *testing.F) {
	f.Add([]byte("abcabcabcabd"), 3)
	f.Add([]byte("aaaaaaaaaaaaaa"), 0)
	f.Add([]byte("the cat and the dog and the cat"), 16)
	f.Fuzz(func(t *testing.T, data []byte, prompt int) {
		text := make([]int32, len(data))
		for i, b := range data {
			text[i] = int32(b % 8) // few, so that pairs come again
		}
		prompt = min(max(prompt, 0), len(text))
		got := newForesight(0, text[:prompt/2], text[prompt/2:prompt])
		var next int
		var right float64
		for n := range len(text) {
			if next > 0 {
				right -= right / 8
				if text[next] == text[n] {
					next, right = next+1, right+1./8
				} else {
					next = 0
				}
			}
			if next == 0 {
				next = search(text[:n+1])
			}
			if n < prompt {
				right = 0
			}
			if n >= prompt {
				got.add(text[n])
			}
			if n >= prompt-1 && (got.next != next || got.right != right || !slices.Equal(got.text, text[:n+1])) {
				t.Fatalf("after %v: %d, right %v; want %d, right %v", text[:n+1], got.next, got.right, next, right)
			}
		}
		if next == 0 {
			return
		}
		draft, round := make([]int32, 9), slices.Clone(text)
		got.draft(draft)
		for i, token := range draft {
			if round = append(round, round[next+i]); token != round[len(text)+i] {
				t.Fatalf("%v is foretold to go on with %v from %d", text, draft, next)
			}
		}
	})
}

// search finds what followed the last occurrence of a text's last two tokens before its end.
func search(text []int32) int {
	for at := len(text) - 1; at >= 2; at-- {
		if slices.Equal(text[at-2:at], text[len(text)-2:]) {
			return at
		}
	}
	return 0
}

// eager makes every draft of a size worth its time, whatever is foretold and however long it takes.
func eager(size int) pace {
	p := pace{plain: 1e9}
	for i, n := range draftSizes {
		p.cost[i] = 1e9
		if n == size {
			p.cost[i] = 0
		}
	}
	return p
}

// drafting counts what became of drafts.
type drafting struct{ taken, refused int }

// speculated generates with drafts.
func speculated(t *testing.T, m *model, p pace, prompts [][]int32, o backend.GenerateOptions, count *drafting) []backend.Result {
	t.Helper()
	o.Speculate = true
	m.pace = p
	g := m.newGeneration(time.Now(), prompts, o, nil)
	var err error
	defer g.end(&err)
	if err := g.prefill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for g.goesOn() {
		i, only := g.only()
		s := g.sequences[i]
		before, drafted := len(s.result.Tokens), 0
		if only && s.foresight != nil {
			drafted = g.draftSize(s)
		}
		if drafted >= g.left(s) {
			t.Fatalf("a draft of %d where %d tokens are left", drafted, g.left(s))
		}
		if err := g.advance(t.Context()); err != nil {
			t.Fatal(err)
		}
		if drafted > 0 {
			taken := len(s.result.Tokens) - before - 1
			count.taken += taken
			count.refused += drafted - taken
		}
	}
	return g.results
}

// TestSpeculationChangesNothing compares texts with and without drafts: in every arithmetic, which has its own type of keys and values, on several numbers of workers, with drafts of every size, at every place where a text can
// end.
func TestSpeculationChangesNothing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	src := oracle.TinyStories(t)
	q4 := quantized(t, src, uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}))
	prompts := map[string][]int32{
		"nothing repeats": someIDs(40, 1000),
		"all repeats":     slices.Repeat([]int32{16, 274, 306}, 20),
		"some repeats":    slices.Concat(someIDs(30, 1000), []int32{16, 274, 563}, someIDs(30, 1000)),
		"a token":         {40},
		"over a page":     slices.Concat(someIDs(120, 1000), someIDs(128, 1000)),
		"near the end":    slices.Concat(someIDs(248, 1000), someIDs(250, 1000)),
	}
	for _, c := range []struct {
		compute backend.Compute
		dir     string
		workers int
	}{{backend.Float32, src, 1}, {backend.Float32, q4, 2}, {backend.Fast, q4, 1}, {backend.Fast, q4, 2}, {backend.Fast, q4, 4}, {backend.Int8, q4, 2}, {backend.Int8, q4, 3}} {
		runtime.GOMAXPROCS(c.workers)
		m := mustLoadIn(t, New(), c.dir, c.compute).(*model)
		for _, size := range draftSizes {
			t.Run(fmt.Sprintf("%s on %d, drafts of %d", c.compute, c.workers, size), func(t *testing.T) {
				var count drafting
				for name, prompt := range prompts {
					sameText(t, name, m, size, prompt, &count)
				}
				if count.taken < 100 || count.refused < 20 {
					t.Errorf("of drafts %d tokens were right and %d wrong: too few to say anything", count.taken, count.refused)
				}
			})
		}
	}
}

// sameText lets a text end after each of the numbers of tokens up to 10, and at each of its first tokens.
func sameText(t *testing.T, name string, m *model, size int, prompt []int32, count *drafting) {
	whole := mustGenerate(t, m, [][]int32{prompt}, backend.GenerateOptions{MaxTokens: 150, IgnoreEOS: true})[0]
	check := func(o backend.GenerateOptions, tokens int, finish string) {
		got, want := speculated(t, m, eager(size), [][]int32{prompt}, o, count)[0], whole
		want.Tokens, want.FinishReason = whole.Tokens[:tokens], finish
		sameResult(t, fmt.Sprintf("%s, %+v", name, o), got, want)
	}
	check(backend.GenerateOptions{MaxTokens: 150, IgnoreEOS: true}, len(whole.Tokens), whole.FinishReason)
	for n := range min(10, len(whole.Tokens)) {
		check(backend.GenerateOptions{MaxTokens: 1 + n, IgnoreEOS: true}, 1+n, backend.FinishLength)
		stop := whole.Tokens[n]
		check(backend.GenerateOptions{MaxTokens: 150, Stop: []int32{stop}}, 1+slices.Index(whole.Tokens, stop), backend.FinishStop)
	}
}

func sameResult(t *testing.T, what string, got, want backend.Result) {
	t.Helper()
	if !slices.Equal(got.Tokens, want.Tokens) || got.FinishReason != want.FinishReason || got.PromptTokens != want.PromptTokens {
		t.Errorf("%s: %v, %s; without drafts %v, %s", what, got.Tokens, got.FinishReason, want.Tokens, want.FinishReason)
	}
	if len(got.At) != len(got.Tokens) || !slices.IsSorted(got.At) {
		t.Errorf("%s: %d tokens at %v", what, len(got.Tokens), got.At)
	}
}

func mustGenerate(t *testing.T, m *model, prompts [][]int32, o backend.GenerateOptions) []backend.Result {
	t.Helper()
	r, err := m.Generate(t.Context(), prompts, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSpeculationOfTheLastText makes texts together that stop at different times: what is left of the last is drafted.
func TestSpeculationOfTheLastText(t *testing.T) {
	m := mustLoadIn(t, New(), oracle.TinyStories(t), backend.Fast).(*model)
	o := backend.GenerateOptions{MaxTokens: 80, IgnoreEOS: true}
	for last := range 3 {
		prompts := [][]int32{someIDs(480, 1000), someIDs(490, 1000), someIDs(500, 1000)} // for which the context has few tokens left
		prompts[last] = prompts[last][:60]
		want := mustGenerate(t, m, prompts, o)
		var count drafting
		for i, got := range speculated(t, m, eager(draftSizes[1]), prompts, o, &count) {
			sameResult(t, fmt.Sprintf("text %d", i), got, want[i])
		}
		if count.taken == 0 || count.refused == 0 {
			t.Errorf("of drafts %d tokens were right and %d wrong", count.taken, count.refused)
		}
	}
}

// TestSpeculationAllocatesNothing counts allocations while a text that repeats itself is made.
func TestSpeculationAllocatesNothing(t *testing.T) {
	m := mustLoadIn(t, Runtime{workers: 2}, oracle.TinyStories(t), backend.Fast).(*model)
	m.pace = eager(draftSizes[0])
	o := backend.GenerateOptions{MaxTokens: 450, IgnoreEOS: true, Speculate: true}
	g := m.newGeneration(time.Now(), [][]int32{{1, 2, 3}}, o, func(backend.Event) error { return nil })
	if err := g.prefill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(90, func() {
		if err := g.advance(t.Context()); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a step allocates %v times", n)
	}
	if len(g.results[0].Tokens) < 120 {
		t.Errorf("91 steps made %d tokens: hardly anything was foretold", len(g.results[0].Tokens))
	}
}

// TestPace says which drafts are taken, and that no single step that took long puts an end to them.
func TestPace(t *testing.T) {
	p := newPace()
	if n := p.size(1, 100); n != 0 {
		t.Errorf("before anything was measured a draft of %d is taken", n)
	}
	p.note(0, 0.004)
	for _, c := range []struct {
		right      float64
		room, want int
	}{{0, 100, 0}, {0.4, 100, 0}, {0.7, 100, 3}, {1, 100, 7}, {1, 5, 3}, {1, 6, 3}, {1, 2, 2}, {1, 1, 0}, {1, 0, 0}} {
		if n := p.size(c.right, c.room); n != c.want {
			t.Errorf("right %v, room %d: a draft of %d, want %d", c.right, c.room, n, c.want)
		}
	}
	p.note(7, 10)
	p.note(3, 10)
	if n := p.size(1, 100); n != 7 {
		t.Errorf("after steps that took ten seconds a draft of %d is taken", n)
	}
	for range 20 { // what a step of plain Go takes
		p.note(3, 0.016)
		p.note(7, 0.032)
	}
	if n := p.size(1, 100); n != 0 {
		t.Errorf("where a draft saves nothing one of %d is taken", n)
	}
}
