package main

import (
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/step/generate"
)

func TestFiguresOfText(t *testing.T) {
	text := generate.Timed{Text: generate.Text{PromptTokens: 8190, Tokens: 2, FinishReason: backend.FinishLength}, FirstToken: time.Second, Total: 1500 * time.Millisecond}
	one := generate.Timed{Text: generate.Text{PromptTokens: 1, Tokens: 1, FinishReason: backend.FinishStop}, FirstToken: time.Second, Total: time.Second}
	for _, c := range []struct {
		most int
		text generate.Timed
		want string
	}{
		{2, text, "8190 prompt tokens, first token after 1.0 s; 2 tokens at 2.0 tok/s"},
		{4, text, "8190 prompt tokens, first token after 1.0 s; 2 tokens at 2.0 tok/s, and the model's context of 8192 tokens is full"},
		{4, one, "1 prompt token, first token after 1.0 s; 1 token"},
	} {
		if got := (generateCmd{MaxTokens: c.most}).figures(c.text); got != c.want {
			t.Errorf("%s; want %s", got, c.want)
		}
	}
}
