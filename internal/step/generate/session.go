package generate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/chat"
	"github.com/mlxbuild/mlxbuild/internal/tokenizer"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Session is a loaded model with its tokenizer and chat template: what turns prompts into text.
type Session struct {
	model     backend.Model
	tokenizer *tokenizer.Tokenizer
	template  *chat.Template // nil when the model has none
}

// Open loads an MLX model folder.
func Open(ctx context.Context, r backend.Runtime, dir string) (*Session, error) {
	t, err := tokenizer.Load(dir)
	if err != nil {
		return nil, err
	}
	template, err := chat.Load(dir)
	if err != nil {
		return nil, err
	}
	model, err := r.Load(ctx, dir, backend.Float32)
	if err != nil {
		return nil, err
	}
	return &Session{model: model, tokenizer: t, template: template}, nil
}

// Close frees the model.
func (s *Session) Close() error { return s.model.Close() }

// HasTemplate reports whether the model brings a chat template.
func (s *Session) HasTemplate() bool { return s.template != nil }

// Options of one text.
type Options struct {
	Chat     bool
	System   string
	Now      time.Time // what templates that write the date take for today; zero is today
	Generate backend.GenerateOptions
}

// Timed is a text with when its tokens came, measured from when the model got the prompt's ids.
type Timed struct {
	Text
	FirstToken time.Duration
	Total      time.Duration
}

// ErrNoTemplate says that a chat was asked of a model without a chat template.
var ErrNoTemplate = errors.New("the model has no chat template: use a plain prompt (chat: false)")

// Text generates for one prompt. emit gets the text as it comes, whole characters only; nil when nobody listens.
func (s *Session) Text(ctx context.Context, p spec.Prompt, o Options, emit func(string) error) (Timed, error) {
	prompt, ids, err := s.encode(p, o)
	if err != nil {
		return Timed{}, err
	}
	stream := s.tokenizer.Stream(true)
	start := time.Now()
	out := Timed{Text: Text{Prompt: prompt, PromptTokens: len(ids)}}
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

// encode renders a chat through the template, which writes the special tokens itself; a plain prompt gets those the tokenizer adds.
func (s *Session) encode(p spec.Prompt, o Options) (string, []int32, error) {
	prompt, special := p.Text, true
	if o.Chat {
		if s.template == nil {
			return "", nil, ErrNoTemplate
		}
		var err error
		if prompt, err = s.template.Render(messages(p, o.System), chat.Options{AddGenerationPrompt: true, Now: o.Now}); err != nil {
			return "", nil, err
		}
		special = false
	}
	ids, err := s.tokenizer.Encode(prompt, special)
	if err == nil && len(ids) == 0 {
		err = fmt.Errorf("prompt %q has no tokens", prompt)
	}
	return prompt, ids, err
}

func messages(p spec.Prompt, system string) []chat.Message {
	var out []chat.Message
	if system != "" {
		out = append(out, chat.Message{Role: "system", Content: system})
	}
	for _, m := range p.Messages {
		out = append(out, chat.Message{Role: m.Role, Content: m.Content})
	}
	if len(p.Messages) == 0 {
		out = append(out, chat.Message{Role: "user", Content: p.Text})
	}
	return out
}
