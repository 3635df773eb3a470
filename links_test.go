package mlxbuild_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	mdLink   = regexp.MustCompile(`\[([^\]]+)\]\(([^)\s]+)\)`)
	goTest   = regexp.MustCompile(`^(Test|Fuzz)\w+$`)
	fence    = regexp.MustCompile("(?s)```.*?```")
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noAnchor = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// What documents point to is there: files, sections of files, and tests by their names.
func TestLinks(t *testing.T) {
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "build" || d.Name() == "models") {
			return filepath.SkipDir
		}
		if err == nil && strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, file := range files {
		for _, m := range mdLink.FindAllStringSubmatch(fence.ReplaceAllString(readText(t, file), ""), -1) {
			name, target := m[1], m[2]
			if strings.Contains(target, "://") {
				continue
			}
			links++
			path, anchor, _ := strings.Cut(target, "#")
			at := file
			if path != "" {
				at = filepath.Join(filepath.Dir(file), filepath.FromSlash(path))
			}
			if _, err := os.Stat(at); err != nil {
				t.Errorf("%s points to %s, which is not there", file, target)
				continue
			}
			if anchor != "" && !hasSection(readText(t, at), anchor) {
				t.Errorf("%s points to %s, and there is no such section", file, target)
			}
			if goTest.MatchString(name) && !strings.Contains(readText(t, at), "\nfunc "+name+"(") {
				t.Errorf("%s names the test %s, which is not in %s", file, name, path)
			}
		}
	}
	if links < 40 {
		t.Errorf("only %d links in %d documents: the test looks in the wrong place", links, len(files))
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// hasSection compares as GitHub makes anchors of headings.
func hasSection(text, anchor string) bool {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		if strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}
