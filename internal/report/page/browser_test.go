package page

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// measure shows a page in a frame as wide as a phone and says how wide its content is.
const measure = `<!DOCTYPE html><title>frame</title><iframe id="f" src="/page" style="width:390px;height:844px;border:0"></iframe><p id="said"></p>
<script>onload = () => { const d = document.getElementById("f").contentDocument; document.getElementById("said").textContent = "width " + d.documentElement.scrollWidth + " of 390, " + d.querySelectorAll("h2").length + " sections" }</script>`

// TestBrowser shows the page in Chromium whose every request goes through this test: it asks for nothing but itself, says nothing on its console, and fits a phone.
func TestBrowser(t *testing.T) {
	chromium := oracle.Program(t, "chromium")
	var page bytes.Buffer
	if err := sample().Write(&page); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host+r.URL.Path)
		mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		switch r.URL.Path {
		case "/page":
			w.Write(page.Bytes())
		case "/frame":
			fmt.Fprint(w, measure)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir="+t.TempDir(), "--proxy-server="+server.URL, "--proxy-bypass-list=<-loopback>", "--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom", "http://page.test/frame")
	var dom, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &dom, &words
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, words.String())
	}
	if !regexp.MustCompile(`<p id="said">width 3[789]\d of 390, [5-9] sections</p>`).MatchString(dom.String()) {
		t.Errorf("on a phone: %s", regexp.MustCompile(`<p id="said">.*</p>`).FindString(dom.String()))
	}
	for _, line := range strings.Split(words.String(), "\n") {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("on the console: %s", line)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	own := regexp.MustCompile(`google(apis)?\.com[:/]`) // what the browser asks for by itself
	for _, request := range asked {
		if own.MatchString(request) {
			continue
		}
		if request != "GET page.test/frame" && request != "GET page.test/page" && request != "GET page.test/favicon.ico" {
			t.Errorf("the page asked for %s", request)
		}
	}
}
