package benchmark

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
)

func at(ms ...float64) (out []time.Duration) {
	for _, v := range ms {
		out = append(out, time.Duration(v*float64(time.Millisecond)))
	}
	return out
}

// The formulas of docs/benchmarking.md, by hand.
func TestFigures(t *testing.T) {
	one := []backend.Result{{PromptTokens: 10, At: at(100, 120, 140, 200)}}
	got, err := figures(one, 4)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{TTFT: 100, PrefillTokS: 100, DecodeTokS: 30, ITL50: 20, ITL99: 59.2, RequestTokS: 20} {
		if math.Abs(got[name]-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if _, ok := got[BatchDecodeTokS]; ok {
		t.Error("one text is no batch")
	}
	batch := []backend.Result{{PromptTokens: 10, At: at(100, 150, 200)}, {PromptTokens: 30, At: at(110, 150, 210)}}
	if got, err = figures(batch, 3); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{TTFT: 110, PrefillTokS: 40 / 0.110, BatchDecodeTokS: 4 / 0.110, DecodeTokS: 20, RequestTokS: 6 / 0.210} {
		if math.Abs(got[name]-want) > 1e-9 {
			t.Errorf("batch: %s is %v, want %v", name, got[name], want)
		}
	}
}

func TestFiguresOfOneToken(t *testing.T) {
	got, err := figures([]backend.Result{{PromptTokens: 10, At: at(50)}}, 1)
	if _, decodes := got[DecodeTokS]; err != nil || decodes || got[PrefillTokS] != 200 {
		t.Errorf("%v, %v", got, err)
	}
	if m := (Cell{Batch: 1, Generated: 1}).Main(); m != PrefillTokS {
		t.Errorf("a cell that makes one token is ranked by %s", m)
	}
}

func TestFiguresThatCannotBe(t *testing.T) {
	for name, times := range map[string][]time.Duration{"backwards": at(100, 90, 120), "before the start": at(-1, 5, 6), "at once": at(0, 5, 6)} {
		if _, err := figures([]backend.Result{{PromptTokens: 1, At: times}}, 3); !errors.Is(err, errClock) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := figures([]backend.Result{{PromptTokens: 1, At: at(1, 2)}}, 3); err == nil {
		t.Error("two tokens pass for three")
	}
	if got, err := figures([]backend.Result{{PromptTokens: 1, At: at(1, 1, 1)}}, 3); err != nil || got[DecodeTokS] != 0 {
		t.Errorf("tokens all at once: %v, %v", got, err)
	}
}
