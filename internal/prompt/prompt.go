// Package prompt turns what a recipe calls a prompt into token ids: the chat template where one is asked for, then the tokenizer.
package prompt

import (
	"errors"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/chat"
	"github.com/mlxbuild/mlxbuild/internal/tokenizer"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Codes are the versions of what can change ids, for keys.
var Codes = []string{tokenizer.Code, chat.Code}

// SomeDay is today for templates that write the date: what is kept must not change overnight.
var SomeDay = time.Date(2026, time.January, 1, 12, 0, 0, 0, time.UTC)

// ErrNoTemplate says that a chat was asked of a model without a chat template.
var ErrNoTemplate = errors.New("the model has no chat template: use a plain prompt (chat: false)")

// Encoder is a model's tokenizer with its chat template.
type Encoder struct {
	Tokenizer *tokenizer.Tokenizer
	template  *chat.Template // nil when the model has none
}

// Load reads both from a model folder.
func Load(dir string) (*Encoder, error) {
	t, err := tokenizer.Load(dir)
	if err != nil {
		return nil, err
	}
	template, err := chat.Load(dir)
	return &Encoder{t, template}, err
}

// HasTemplate reports whether the model brings a chat template.
func (e *Encoder) HasTemplate() bool { return e.template != nil }

// Options of a prompt.
type Options struct {
	Chat   bool // a prompt that is a list of messages is a chat anyway
	System string
	Now    time.Time // what templates that write the date take for today; zero is today
}

// Document is the text of a prompt as the model gets it, and whether the tokenizer puts special tokens around it.
type Document struct {
	Text    string `json:"text"`
	Special bool   `json:"special"`
}

// Render makes a document of a prompt. A chat goes through the template, which writes special tokens itself.
func (e *Encoder) Render(p spec.Prompt, o Options) (Document, error) {
	if !o.Chat && len(p.Messages) == 0 {
		return Document{p.Text, true}, nil
	}
	if e.template == nil {
		return Document{}, ErrNoTemplate
	}
	text, err := e.template.Render(messages(p, o.System), chat.Options{AddGenerationPrompt: true, Now: o.Now})
	return Document{text, false}, err
}

// Encode gives the ids of a document.
func (e *Encoder) Encode(d Document) ([]int32, error) { return e.Tokenizer.Encode(d.Text, d.Special) }

func messages(p spec.Prompt, system string) (out []chat.Message) {
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

// Values are prompts as they enter a key.
func Values(prompts []spec.Prompt) []any {
	out := []any{}
	for _, p := range prompts {
		if len(p.Messages) == 0 {
			out = append(out, p.Text)
			continue
		}
		var messages []any
		for _, m := range p.Messages {
			messages = append(messages, map[string]any{"role": m.Role, "content": m.Content})
		}
		out = append(out, messages)
	}
	return out
}
