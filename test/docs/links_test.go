// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package docs tests the documentation: its links, and its commands with their output.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const repository = "../.."

var (
	// fence matches the beginning and the end of a code block.
	fence = regexp.MustCompile("^\\s*```")
	// link matches a link or an image in Markdown.
	link = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	// heading matches a heading in Markdown.
	heading = regexp.MustCompile(`^#+ (.*)$`)
	// named matches a file of the documentation in a source file.
	named = regexp.MustCompile(`\bdocs/[\w/.-]+\.(md|jq|svg)\b`)
	// dropped matches the characters that the anchor of a heading does not contain.
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// files returns the files of the repository with one of the extensions, relative to its root.
func files(t *testing.T, extensions ...string) []string {
	t.Helper()
	var found []string
	root := os.DirFS(repository)
	if err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", ".ipam", "bin", "generated", "hack/web/node_modules"}, path):
			return fs.SkipDir
		case !d.IsDir() && slices.Contains(extensions, filepath.Ext(path)):
			found = append(found, path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// prose returns the lines of a page that are not in code blocks.
func prose(page string) []string {
	var lines []string
	code := false
	for line := range strings.Lines(page) {
		if fence.MatchString(line) {
			code = !code
		} else if !code {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	return lines
}

// anchors returns the anchors that GitHub assigns to the headings of a page.
func anchors(page string) []string {
	var found []string
	for _, line := range prose(page) {
		if match := heading.FindStringSubmatch(line); match != nil {
			found = append(found, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-"))
		}
	}
	return found
}

// brokenLink returns why a link on a page is broken, or an empty string. It does not follow links to other servers.
func brokenLink(t *testing.T, page, target string) string {
	t.Helper()
	if strings.Contains(target, "://") {
		return ""
	}
	path, anchor, _ := strings.Cut(target, "#")
	if path == "" {
		path = page
	} else {
		path = filepath.Join(filepath.Dir(page), path)
	}
	if _, err := os.Stat(filepath.Join(repository, path)); err != nil {
		return "there is no such file"
	}
	if anchor != "" && !slices.Contains(anchors(read(t, path)), anchor) {
		return "there is no such heading"
	}
	return ""
}

func TestLinks(t *testing.T) {
	t.Parallel()
	n := 0
	for _, page := range files(t, ".md") {
		for _, line := range prose(read(t, page)) {
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				n++
				if why := brokenLink(t, page, match[1]); why != "" {
					t.Errorf("%s: link to %s: %s", page, match[1], why)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("found %d links only", n)
	}
}

func TestBrokenLinksAreFound(t *testing.T) {
	t.Parallel()
	for target, broken := range map[string]bool{
		"architecture.md":               false,
		"../README.md":                  false,
		"architecture.md#who-gets-what": false,
		"https://kubernetes.io/none":    false,
		"missing.md":                    true,
		"architecture.md#missing":       true,
		"#missing":                      true,
		"operating/../missing.md":       true,
	} {
		if why := brokenLink(t, "docs/compatibility.md", target); (why != "") != broken {
			t.Errorf("%s: %q", target, why)
		}
	}
}

// TestPagesNamedInSources finds comments and messages that name a page that does not exist.
func TestPagesNamedInSources(t *testing.T) {
	t.Parallel()
	n := 0
	for _, source := range append(files(t, ".go", ".sh", ".jq", ".yaml"), "Makefile") {
		for _, page := range named.FindAllString(read(t, source), -1) {
			n++
			if _, err := os.Stat(filepath.Join(repository, page)); err != nil {
				t.Errorf("%s names %s, which does not exist", source, page)
			}
		}
	}
	if n == 0 {
		t.Error("no source file names a page")
	}
}

// TestEveryPageIsLinked finds pages without a link from another page.
func TestEveryPageIsLinked(t *testing.T) {
	t.Parallel()
	linked := map[string]bool{"README.md": true}
	pages := files(t, ".md")
	for _, page := range pages {
		for _, line := range prose(read(t, page)) {
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				path, _, _ := strings.Cut(match[1], "#")
				linked[filepath.Join(filepath.Dir(page), path)] = true
			}
		}
	}
	for _, page := range pages {
		if !linked[page] {
			t.Errorf("no page links to %s", page)
		}
	}
}
