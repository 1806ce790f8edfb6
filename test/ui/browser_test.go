// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package ui tests the page of "kubectl ipam ui" in a real browser.
package ui

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/ui"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// screenshots is where the pictures of the documentation are written.
var screenshots = flag.String("screenshots", "", "directory to write the screenshots of the documentation to")

// chromium is the context of the browser that all tests share. Each has a profile of its own.
var chromium context.Context

func TestMain(m *testing.M) {
	flag.Parse()
	harness.Main(m, func(dir string) (func(), error) {
		path, err := exec.LookPath("chromium")
		if err != nil {
			return nil, errors.New("these tests need Chromium: run hack/chromium.sh")
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(dir, "chromium")),
			chromedp.WSURLReadTimeout(harness.Patience), chromedp.Flag("hide-scrollbars", true))
		if os.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox)
		}
		allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, cancel := chromedp.NewContext(allocator)
		if err := chromedp.Do(ctx); err != nil {
			stop()
			return nil, err
		}
		chromium = ctx
		return func() {
			cancel()
			stop()
		}, nil
	})
}

// serve runs the command against a cluster until the end of the test, and returns the URL that it prints.
func serve(t *testing.T, api string, args ...string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte("apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {server: "+api+"}\n"+
		"contexts:\n- name: production\n  context: {cluster: c, namespace: edge}\ncurrent-context: production\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return serveWith(t, config, args...)
}

// serveWith is like serve, with a kubeconfig.
func serveWith(t *testing.T, kubeconfig string, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out := &lines{first: make(chan string, 1)}
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig = &kubeconfig
	cmd := ui.NewCommand(flags, genericiooptions.IOStreams{In: &bytes.Buffer{}, Out: out, ErrOut: &bytes.Buffer{}}, func() {})
	flags.AddFlags(cmd.Flags())
	cmd.SetArgs(append([]string{"--open=false"}, args...))
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case url := <-out.first:
		return url
	case err := <-done:
		done <- nil
		t.Fatal(err)
	case <-time.After(harness.Patience):
		t.Fatal("the command prints no URL")
	}
	return ""
}

// lines passes on the first line that is written to it.
type lines struct {
	first chan string
	once  sync.Once
}

func (l *lines) Write(b []byte) (int, error) {
	l.once.Do(func() { l.first <- strings.TrimSpace(string(b)) })
	return len(b), nil
}

// tab is a tab of the browser with a profile of its own.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu sync.Mutex
	// problems are the errors that the page had.
	problems []string
	// allowed are parts of errors that the test expects.
	allowed []string
}

// open opens a URL in a new tab of a size.
func open(t *testing.T, url string, width, height int64, actions ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	p := &tab{t: t, ctx: ctx}
	p.run(chromedp.EmulateViewport(width, height))
	console := make(chan struct{})
	go func() {
		defer close(console)
		for m := range chromedp.Console(ctx) {
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleException {
				p.problem(m.Text + " " + m.URL)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-console
		for _, problem := range p.problems {
			if !slices.ContainsFunc(p.allowed, func(part string) bool { return strings.Contains(problem, part) }) {
				t.Error("the page has an error:", problem)
			}
		}
	})
	p.run(actions...)
	p.run(chromedp.Navigate(url))
	return p
}

func (p *tab) problem(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, text)
}

// allow says which errors are expected: those that contain one of the parts.
func (p *tab) allow(parts ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = append(p.allowed, parts...)
}

// run runs actions.
func (p *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval returns the value of an expression, or of a promise.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// wait waits until an expression is true.
func (p *tab) wait(what, expression string) {
	p.t.Helper()
	harness.Eventually(p.t, what, func() error {
		return harness.Unless(eval[bool](p, expression), "%s is not so", expression)
	})
}

// text waits until an element has a text in it.
func (p *tab) text(selector, text string) {
	p.t.Helper()
	harness.Eventually(p.t, fmt.Sprintf("%s says %q", selector, text), func() error {
		got := eval[string](p, fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector))
		return harness.Unless(strings.Contains(got, text), "it says %q", got)
	})
}

// still waits until the map has been drawn and no zoom goes on: until two pictures are the same.
func (p *tab) still() {
	p.t.Helper()
	last := ""
	harness.Eventually(p.t, "the map is still", func() error {
		now := eval[string](p, "document.querySelector('#title').innerText + document.querySelector('#picture').toDataURL()")
		same := now == last
		last = now
		if !same {
			time.Sleep(60 * time.Millisecond)
		}
		return harness.Unless(same, "it moves")
	})
}

// pictures are the screenshots that the documentation shows.
const pictures = "../../docs/ui"

// shot writes a screenshot, if screenshots are wanted. Otherwise it compares one that the documentation has.
func (p *tab) shot(name string) {
	p.t.Helper()
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	if *screenshots == "" {
		shown, err := os.ReadFile(filepath.Join(pictures, name+".png"))
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if err == nil {
			err = p.compare(picture, shown)
		}
		if err != nil {
			p.t.Errorf("docs/ui/%s.png is not what the page looks like: %v. Run 'go test ./test/ui -run TestFlows -args -screenshots DIR', look at the picture, and put it there.", name, err)
		}
		return
	}
	small, err := shrink(picture)
	if err == nil {
		err = os.WriteFile(filepath.Join(*screenshots, name+".png"), small, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// compare returns an error unless two pictures of the page show the same to somebody who looks at them from afar: it compares
// the colours of squares. Text differs with the fonts of a machine, so few squares of the map may differ, and more of the rest.
func (p *tab) compare(a, b []byte) error {
	const square, least, ofMap, ofAll = 20, 24, 0.01, 0.04
	var pictures [2]image.Image
	for i, data := range [][]byte{a, b} {
		var err error
		if pictures[i], err = png.Decode(bytes.NewReader(data)); err != nil {
			return err
		}
	}
	bounds := pictures[0].Bounds()
	if other := pictures[1].Bounds(); bounds != other {
		return fmt.Errorf("it is %v, not %v", other.Size(), bounds.Size())
	}
	colour := func(i int, r image.Rectangle) (sum [3]int) {
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				c := color.RGBAModel.Convert(pictures[i].At(x, y)).(color.RGBA)
				sum = [3]int{sum[0] + int(c.R), sum[1] + int(c.G), sum[2] + int(c.B)}
			}
		}
		for i := range sum {
			sum[i] /= square * square
		}
		return sum
	}
	rect := eval[[4]float64](p, `(() => { const r = document.querySelector("#map").getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom] })()`)
	area := image.Rect(int(rect[0]), int(rect[1]), int(rect[2]), int(rect[3]))
	for _, part := range []struct {
		name string
		area image.Rectangle
		most float64
	}{{"map", area, ofMap}, {"page", bounds, ofAll}} {
		different, all := 0, 0
		for y := part.area.Min.Y; y+square <= part.area.Max.Y; y += square {
			for x := part.area.Min.X; x+square <= part.area.Max.X; x += square {
				r := image.Rect(x, y, x+square, y+square)
				was, is := colour(0, r), colour(1, r)
				all++
				if max(abs(was[0]-is[0]), abs(was[1]-is[1]), abs(was[2]-is[2])) > least {
					different++
				}
			}
		}
		p.t.Logf("%d of %d squares of the %s differ", different, all, part.name)
		if float64(different) > part.most*float64(all) {
			return fmt.Errorf("%d of %d squares of the %s have another colour", different, all, part.name)
		}
	}
	return nil
}

func abs(n int) int { return max(n, -n) }

// shrink returns a picture with 256 colours, which takes a third of the space: the most frequent ones, and one of each hue.
func shrink(data []byte) ([]byte, error) {
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	bounds := picture.Bounds()
	counts := map[color.RGBA]int{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA)]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int {
		return cmp.Or(counts[b]-counts[a], int(a.R)-int(b.R), int(a.G)-int(b.G), int(a.B)-int(b.B))
	})
	var palette color.Palette
	hues := map[[3]uint8]bool{}
	for i, c := range frequent {
		hue := [3]uint8{c.R >> 4, c.G >> 4, c.B >> 4}
		if len(palette) < 256 && (i < 128 || !hues[hue]) {
			palette = append(palette, c)
			hues[hue] = true
		}
	}
	small := image.NewPaletted(bounds, palette)
	index := map[color.RGBA]uint8{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA)
			i, ok := index[c]
			if !ok {
				i = uint8(palette.Index(c))
				index[c] = i
			}
			small.SetColorIndex(x, y, i)
		}
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	err = encoder.Encode(&out, small)
	return out.Bytes(), err
}
