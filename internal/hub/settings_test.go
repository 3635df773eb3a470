package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

func TestFromEnv(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("other/token", " hf_other\n")
	hfHome := filepath.Join(home, ".cache", "huggingface")
	base := Settings{Endpoint: DefaultEndpoint, CacheDir: filepath.Join(hfHome, "hub")}
	with := func(change func(s *Settings)) Settings {
		s := base
		change(&s)
		return s
	}
	for i, c := range []struct {
		env  map[string]string
		want Settings
	}{
		{nil, base},
		{map[string]string{"HF_ENDPOINT": " ", "HF_TOKEN": "\t", "HF_HOME": "", "HF_HUB_OFFLINE": " "}, base},
		{map[string]string{"HF_ENDPOINT": "https://HF-Mirror.com/x//"}, with(func(s *Settings) { s.Endpoint = "https://hf-mirror.com/x" })},
		{map[string]string{"HF_ENDPOINT": "http://localhost:8080"}, with(func(s *Settings) { s.Endpoint = "http://localhost:8080" })},
		{map[string]string{"XDG_CACHE_HOME": filepath.Join(home, "xdg")}, with(func(s *Settings) { s.CacheDir = filepath.Join(home, "xdg", "huggingface", "hub") })},
		{map[string]string{"XDG_CACHE_HOME": "/x", "HF_HOME": "~/hf"}, with(func(s *Settings) { s.CacheDir = filepath.Join(home, "hf", "hub") })},
		{map[string]string{"HUGGINGFACE_HUB_CACHE": "$HOME/old"}, with(func(s *Settings) { s.CacheDir = filepath.Join(home, "old") })},
		{map[string]string{"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "${HOME}/new"}, with(func(s *Settings) { s.CacheDir = filepath.Join(home, "new") })},
		{map[string]string{"HF_TOKEN": " hf_a\n"}, with(func(s *Settings) { s.Token, s.TokenFrom = "hf_a", "HF_TOKEN" })},
		{map[string]string{"HUGGING_FACE_HUB_TOKEN": "hf_b"}, with(func(s *Settings) { s.Token, s.TokenFrom = "hf_b", "HUGGING_FACE_HUB_TOKEN" })},
		{map[string]string{"HUGGING_FACE_HUB_TOKEN": "hf_b", "HF_TOKEN": "hf_a"}, with(func(s *Settings) { s.Token, s.TokenFrom = "hf_a", "HF_TOKEN" })},
		{map[string]string{"HF_TOKEN_PATH": file}, with(func(s *Settings) { s.Token, s.TokenFrom = "hf_other", file })},
		{map[string]string{"HF_TOKEN_PATH": file, "HF_TOKEN": "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "yes"}, base},
		{map[string]string{"HF_TOKEN_PATH": file + ".none"}, base},
		{map[string]string{"HF_HUB_OFFLINE": "on"}, with(func(s *Settings) { s.Offline = true })},
		{map[string]string{"TRANSFORMERS_OFFLINE": "1"}, with(func(s *Settings) { s.Offline = true })},
		{map[string]string{"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, base},
		{map[string]string{"HF_HUB_ETAG_TIMEOUT": "2.5", "HF_HUB_DOWNLOAD_TIMEOUT": "7"}, with(func(s *Settings) { s.MetaTimeout, s.DataTimeout = 2500*time.Millisecond, 7*time.Second })},
	} {
		got, err := FromEnv(environment(home, c.env))
		if err != nil || got != c.want {
			t.Errorf("%d: %v\n%#v\nwant\n%#v", i, err, got, c.want)
		}
	}
	token := write(".cache/huggingface/token", "hf_file")
	if s, err := FromEnv(environment(home, nil)); err != nil || s.Token.Reveal() != "hf_file" || s.TokenFrom != token {
		t.Errorf("%v, %s from %s", err, s.Token.Reveal(), s.TokenFrom)
	}
}

func environment(home string, env map[string]string) func(string) string {
	return func(name string) string {
		if v, ok := env[name]; ok {
			return v
		}
		if name == "HOME" || name == "USERPROFILE" && runtime.GOOS == "windows" {
			return home
		}
		return ""
	}
}

func TestFromEnvRefuses(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "token")
	if err := os.WriteFile(file, []byte("hf_sesame\nhf_second"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string][]string{
		"HF_ENDPOINT": {"huggingface.co", "ftp://huggingface.co", "https://", "https://user:sesame@huggingface.co", "https://huggingface.co?sesame=1", "https://huggingface.co#x", "https://h:0", "https://h:99999",
			"https:huggingface.co", "://", "https://a b"},
		"HF_TOKEN":                {"hf_ sesame", "hf_\x00sesame", "hf_sesame\r\nX-Evil: 1", "hf_sesameé", strings.Repeat("sesame", 1000)},
		"HF_TOKEN_PATH":           {file, home},
		"HF_HUB_ETAG_TIMEOUT":     {"x", "-1", "0", "NaN", "1e300"},
		"HF_HUB_DOWNLOAD_TIMEOUT": {"10s"},
	} {
		for _, v := range values {
			_, err := FromEnv(environment(home, map[string]string{name: v}))
			var e *Error
			if !errors.As(err, &e) || e.Hint() == "" {
				t.Errorf("%s=%q: %v", name, v, err)
				continue
			}
			where := name
			if name == "HF_TOKEN_PATH" {
				where = v
			}
			if strings.Contains(err.Error()+e.Hint(), "sesame") || !strings.Contains(err.Error(), where) {
				t.Errorf("%s=%q: %v", name, v, err)
			}
		}
	}
}

// No way of printing tells a secret.
func TestSecret(t *testing.T) {
	s := Settings{Token: canary}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", s.Token, "settings", s)
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x %X %d", s, s, s, s.Token, s.Token, s.Token, s.Token, s.Token), fmt.Sprint(&s), string(data), log.String(), s.Token.String()} {
		if strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", canary)) {
			t.Errorf("told: %s", text)
		}
	}
	if s.Token.Reveal() != canary {
		t.Error("not revealed")
	}
}

// Hugging Face's own library sees the same in the environment.
func TestFromEnvAgainstPython(t *testing.T) {
	home := t.TempDir()
	for _, env := range []map[string]string{
		nil,
		{"HF_HOME": "~/hf", "HF_ENDPOINT": "https://hf-mirror.com/"},
		{"XDG_CACHE_HOME": "/x/y"},
		{"HF_HUB_CACHE": "$HOME/c", "HF_TOKEN": " hf_a \n"},
		{"HUGGINGFACE_HUB_CACHE": "/old"},
		{"HUGGING_FACE_HUB_TOKEN": "hf_b", "TRANSFORMERS_OFFLINE": "YES"},
		{"HF_HUB_OFFLINE": "true", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_TOKEN": "hf_a"},
	} {
		given, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		out := oracle.Run(t, `
import json, os, sys
for name in list(os.environ):
    if name.startswith(("HF_", "HUGGING", "TRANSFORMERS", "XDG_")): del os.environ[name]
os.environ["HOME"] = sys.argv[1]
os.environ.update(json.loads(sys.argv[2]) or {})
from huggingface_hub import constants as c
from huggingface_hub.utils import build_hf_headers
auth = build_hf_headers().get("authorization", "Bearer ")
print(json.dumps([c.ENDPOINT, c.HF_HUB_CACHE, c.HF_HUB_OFFLINE, auth.removeprefix("Bearer ")]))`, home, string(given))
		s, err := FromEnv(environment(home, env))
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal([]any{s.Endpoint, s.CacheDir, s.Offline, s.Token.Reveal()})
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := errors.Join(json.Unmarshal(out, &a), json.Unmarshal(want, &b)); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%v: Python sees %v, we see %v", env, a, b)
		}
	}
}
