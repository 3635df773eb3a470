package hub

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DefaultEndpoint is where the Hub is when nothing else is said.
const DefaultEndpoint = "https://huggingface.co"

// Secret is a text that no message, log or file may hold. Only Reveal gives it.
type Secret string

const hidden = "[secret]"

// Reveal gives the text itself.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string               { return hidden }
func (s Secret) GoString() string             { return hidden }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(hidden) }

// Format hides the text from every verb, %x and %q too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// Settings are what Hugging Face's own programs read from the environment.
type Settings struct {
	Endpoint  string // "https://huggingface.co" or HF_ENDPOINT: http(s)://host[:port][/prefix], without a slash at the end
	Token     Secret // "" for none
	TokenFrom string // where it came from, for messages: "HF_TOKEN", the path of a file, ""
	CacheDir  string // Hugging Face's own cache of repositories
	Offline   bool   // nothing is asked of any server

	// A server that sends nothing for so long is given up: MetaTimeout for what is small, DataTimeout for the bytes of files. 0 means 10 s and 30 s.
	MetaTimeout, DataTimeout time.Duration
}

// FromEnv reads the settings. A variable that is empty or blank counts as not set.
func FromEnv(getenv func(string) string) (Settings, error) {
	e := env{getenv}
	home := e.home()
	s := Settings{
		Endpoint: DefaultEndpoint,
		CacheDir: e.path(filepath.Join(home, "hub"), "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
		Offline:  e.yes("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
	}
	if text, name := e.first("HF_ENDPOINT"); name != "" {
		u, err := parseEndpoint(text)
		if err != nil {
			return Settings{}, &Error{Class: Name, What: "HF_ENDPOINT " + err.Error(), Do: "write it like https://huggingface.co, or unset it"}
		}
		s.Endpoint = u.String()
	}
	var err error
	if s.MetaTimeout, err = e.seconds("HF_HUB_ETAG_TIMEOUT"); err != nil {
		return Settings{}, err
	}
	if s.DataTimeout, err = e.seconds("HF_HUB_DOWNLOAD_TIMEOUT"); err != nil {
		return Settings{}, err
	}
	if e.yes("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
		return s, nil
	}
	s.Token, s.TokenFrom, err = e.token(e.path(filepath.Join(home, "token"), "HF_TOKEN_PATH"))
	return s, err
}

// env reads variables as Hugging Face's programs do.
type env struct{ getenv func(string) string }

// first of some variables that is set, and its name.
func (e env) first(names ...string) (value, name string) {
	for _, n := range names {
		if v := strings.TrimSpace(e.getenv(n)); v != "" {
			return v, n
		}
	}
	return "", ""
}

func (e env) yes(names ...string) bool {
	v, _ := e.first(names...)
	switch strings.ToUpper(v) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

// home is the folder of everything that Hugging Face's programs keep.
func (e env) home() string {
	base := filepath.Join(e.userHome(), ".cache")
	return e.path(filepath.Join(e.path(base, "XDG_CACHE_HOME"), "huggingface"), "HF_HOME")
}

func (e env) userHome() string {
	if runtime.GOOS == "windows" {
		if v, name := e.first("USERPROFILE"); name != "" {
			return v
		}
	}
	if v, name := e.first("HOME"); name != "" {
		return v
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return "."
	}
	return dir
}

// path of a variable with ~ and $VAR filled in, or what there is without one.
func (e env) path(without string, names ...string) string {
	v, name := e.first(names...)
	if name == "" {
		return without
	}
	v = os.Expand(v, e.getenv)
	if v == "~" || strings.HasPrefix(v, "~/") || strings.HasPrefix(v, `~\`) {
		v = e.userHome() + v[1:]
	}
	return filepath.Clean(v)
}

func (e env) seconds(name string) (time.Duration, error) {
	v, set := e.first(name)
	if set == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || !(n > 0) || n > 1e6 {
		return 0, &Error{Class: Name, What: fmt.Sprintf("%s is %q, which is no number of seconds", name, clean(v)), Do: "write it like 30, or unset it"}
	}
	return max(time.Duration(n*float64(time.Second)), time.Millisecond), nil
}

func (e env) token(file string) (Secret, string, error) {
	if v, name := e.first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"); name != "" {
		return checkToken(v, name)
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", "", nil
	}
	if err != nil {
		return "", "", &Error{Class: Unauthorized, What: "the token cannot be read", Do: "mend the permissions of the file, or set HF_TOKEN", Err: err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", "", &Error{Class: Unauthorized, What: "the token cannot be read", Do: "mend the file, or set HF_TOKEN", Err: err}
	}
	return checkToken(strings.TrimSpace(string(data)), file)
}

const maxToken = 4096

// checkToken refuses what could not stand in a header. Its message names the place, never the text.
func checkToken(text, from string) (Secret, string, error) {
	if text == "" {
		return "", "", nil
	}
	odd := strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
	if odd || len(text) > maxToken {
		return "", "", &Error{Class: Unauthorized, What: "what stands in " + from + " is no token: it has blanks, control or foreign characters, or is too long",
			Do: "copy the token again, as one word like hf_..."}
	}
	return Secret(text), from, nil
}

// parseEndpoint checks an address of a Hub and brings it into one form. The error goes on after the name of what was read and does not hold the text, which may have a password.
func parseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(strings.TrimSpace(text), "/"))
	switch {
	case err != nil:
		return nil, errors.New("is no address")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("is no http:// or https:// address")
	case u.User != nil:
		return nil, errors.New("has a user name in it, which is not allowed: a token is given by HF_TOKEN")
	case u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("names no host")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("has a ? or # in it")
	}
	if !portFits(u) {
		return nil, errors.New("has a port that is none")
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

func portFits(u *url.URL) bool {
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return u.Port() == "" || err == nil && n > 0
}
