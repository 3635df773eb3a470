package generate

import (
	"context"
	"fmt"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/prompt"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Session is a loaded model with its tokenizer and chat template: what turns prompts into text.
type Session struct {
	model   backend.Model
	prompts *prompt.Encoder
}

// Compute is the arithmetic that text is made in unless another one is asked for: of the built-in runtime the fast one, whose error is far below that of 4-bit weights.
func Compute(runtime string) backend.Compute {
	if runtime == "builtin" {
		return backend.Fast
	}
	return backend.Float32
}

// Speculates reports whether text is made with drafts unless it is asked otherwise: where a runtime can, because the text is the same and hardly ever later.
func Speculates(runtime string, compute backend.Compute, temperature float64) bool {
	return runtime == "builtin" && compute != backend.Float64 && temperature == 0
}

// Open loads an MLX model folder.
func Open(ctx context.Context, r backend.Runtime, dir string, compute backend.Compute) (*Session, error) {
	prompts, err := prompt.Load(dir)
	if err != nil {
		return nil, err
	}
	model, err := r.Load(ctx, dir, compute)
	if err != nil {
		return nil, err
	}
	return &Session{model, prompts}, nil
}

// Close frees the model.
func (s *Session) Close() error { return s.model.Close() }

// HasTemplate reports whether the model brings a chat template.
func (s *Session) HasTemplate() bool { return s.prompts.HasTemplate() }

// Options of one text.
type Options struct {
	Prompt   prompt.Options
	Generate backend.GenerateOptions
}

// Timed is a text with when its tokens came, measured from when the model got the prompt's ids.
type Timed struct {
	Text
	FirstToken time.Duration
	Total      time.Duration
}

// Text generates for one prompt. emit gets the text as it comes, whole characters only; nil when nobody listens.
func (s *Session) Text(ctx context.Context, p spec.Prompt, o Options, emit func(string) error) (Timed, error) {
	doc, err := s.prompts.Render(p, o.Prompt)
	if err != nil {
		return Timed{}, err
	}
	ids, err := s.prompts.Encode(doc)
	if err == nil && len(ids) == 0 {
		err = fmt.Errorf("prompt %q has no tokens", doc.Text)
	}
	if err != nil {
		return Timed{}, err
	}
	stream := s.prompts.Tokenizer.Stream(true)
	start := time.Now()
	out := Timed{Text: Text{Prompt: doc.Text, PromptTokens: len(ids)}}
	stop := s.stops()
	results, err := s.model.Generate(ctx, [][]int32{ids}, o.Generate, func(e backend.Event) error {
		if out.FirstToken == 0 {
			out.FirstToken = time.Since(start)
		}
		if stop[e.Token] {
			return nil
		}
		piece := stream.Next(e.Token)
		out.Text.Text += piece
		if emit == nil || piece == "" {
			return nil
		}
		return emit(piece)
	})
	out.Total = time.Since(start)
	if err != nil {
		return out, err
	}
	rest := stream.Flush()
	out.Text.Text += rest
	out.Tokens, out.FinishReason = len(results[0].Tokens), results[0].FinishReason
	if emit != nil && rest != "" {
		err = emit(rest)
	}
	return out, err
}

// stops are the ids that end a text; they are not part of it.
func (s *Session) stops() map[int32]bool {
	out := map[int32]bool{}
	for _, id := range s.model.Info().EOS {
		out[id] = true
	}
	return out
}
