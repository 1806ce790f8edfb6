// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The size of the window.
const width, height = 1440, 900

// dark and light make the system of the page dark and light.
var dark, light = colours("dark"), colours("light")

func colours(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	})
}

// TestFlows goes through the page as a person does, with the pointer and the keyboard.
func TestFlows(t *testing.T) {
	c := newCluster(t)
	c.add(network()...)
	c.policies, c.allocations = rules(), released()
	page := serve(t, c.URL)
	p := open(t, page, width, height)
	p.text("#status", "live")
	p.text("#subtitle", "4 roots")
	p.text("#waiting", "public (203.0.113.0/24) is too small to hold a /23")
	p.text("#waiting-title", "Waiting (3)")
	p.still()
	p.shot("overview")

	// A click on a root goes into it, one on a region into that.
	p.clickOn("private")
	p.text("#title", "private")
	p.text("#numbers", "3 children")
	p.still()
	p.shot("tree-and-map")
	p.clickOn("europe")
	p.text("#title", "europe")
	p.text("#crumbs", "europe")
	p.wait("the URL holds the place", `location.hash === "#/network/europe"`)
	p.wait("the tree shows the place", `document.querySelector(".row[aria-selected=true] .name").innerText === "europe"`)
	p.clickOn("berlin")
	p.text("#title", "berlin")
	p.still()

	// The tip tells who it is.
	p.hoverOn("berlin-storage-1")
	p.text("#tip", "berlin-storage-1")
	p.text("#tip", "network")
	p.text("#tip", "age")
	p.shot("zoomed")

	// The wheel goes out to a block, then to the parents.
	p.wheel(1)
	p.text("#title", "europe")
	p.still()
	p.wheel(1)
	p.text("#title", "private")
	p.still()
	p.wheel(-1)
	p.wait("the wheel goes in", `document.querySelector("#crumbs").innerText.includes("europe") || document.querySelector("#title").innerText.includes("/")`)

	// Back in the history of the browser.
	p.run(chromedp.NavigateBack())
	p.text("#title", "private")

	// A link that somebody sent.
	p.run(chromedp.Navigate(page + "#/network/berlin/10.8.0.0/13"))
	p.run(chromedp.Reload())
	p.text("#title", "10.8.0.0/13")
	p.text("#subtitle", "of berlin")

	// The button copies a command that shows a colleague the same.
	p.wait("the button can copy", `(navigator.clipboard.writeText = async (text) => { window.copied = text }, true)`)
	p.run(chromedp.Click("#share"))
	p.text("#share", "Copied")
	place, ok := strings.CutPrefix(eval[string](p, `window.copied`), "kubectl ipam ui '")
	if place = strings.TrimSuffix(place, "'"); !ok || place != "#/network/berlin/10.8.0.0/13" {
		t.Errorf("it copies %q", place)
	}
	colleague := open(t, serve(t, c.URL, place), width, height)
	colleague.text("#title", "10.8.0.0/13")
	colleague.text("#subtitle", "of berlin")

	// The breadcrumb.
	p.press("#crumbs a", "europe")
	p.text("#title", "europe")

	// The search finds what holds an address, and the filters narrow it.
	p.fill("#search", "203.0.113.20")
	p.text("#found", "2 matches")
	p.text("#tree", "mail")
	p.wait("what does not match is not in the tree", `!document.querySelector("#tree").innerText.includes("web")`)
	p.run(chromedp.Click("#filters-button"))
	p.fill("#search", "")
	p.fill("#labels", "use=voice,site=paris")
	p.wait("the filter is in the URL", `location.hash.includes("labels=use")`)
	p.text("#tree", "paris-voice-1")
	p.wait("only what matches and its parents are in the tree", `[...document.querySelectorAll("#tree .row:not(.aside) .name")].every((e) => e.innerText.startsWith("paris-voice") || ["network", "edge"].includes(e.innerText))`)
	p.still()
	p.shot("filter")
	p.allow("400 (Bad Request)")
	p.fill("#labels", "a=(b")
	p.text("#filter-problem", "labels:")
	p.fill("#labels", "")
	p.wait("the filter is gone", `location.hash === "#/network/europe"`)

	// What waits leads to its details and the command that says why.
	p.press("#waiting button", "partner-vpn")
	p.text("#details", "kubectl ipam why partner-vpn -n edge")
	p.text("#details", "which Prefix customers holds")
	p.text("#title", "public")
	p.still()
	p.shot("waiting")

	// What is reserved says for what.
	p.click("203.0.113.64/28")
	p.text("#details", "routers: routers")
	p.text("#details", "never chosen automatically")

	// What cools down says for whom it is kept, and how that ends.
	p.click("203.0.113.96/28")
	p.text("#details", "Cooling down")
	p.text("#details", "fax in edge")
	p.text("#details", "kubectl ipam release fax --now -n edge")
	p.hoverOn("203.0.113.96/28")
	p.text("#tip", "cooling")

	// The rules of a Prefix: which lengths are given, and that nothing is.
	p.run(chromedp.Navigate(page + "#/edge/public"))
	p.run(chromedp.Reload())
	p.text("#details", "small: only prefixes from /28 to /30")
	p.text("#details", "kubectl ipam claim --from public --length 28 -n edge")
	p.run(chromedp.Navigate(page + "#/network/warsaw"))
	p.run(chromedp.Reload())
	p.text("#details", "frozen: closed")
	p.text("#details", "kubectl ipam open warsaw -n network")
	p.wait("a closed Prefix says so in the tree", `document.querySelector(".row[aria-selected=true] .badge.closed")?.innerText === "closed"`)
	p.wait("nothing is offered of it", `!document.querySelector("#details").innerText.includes("claim")`)
	p.still()
	p.shot("closed")

	// IPv6 goes down by levels.
	p.run(chromedp.Navigate(page + "#/network/global"))
	p.run(chromedp.Reload())
	p.text("#title", "global")
	p.still()
	p.shot("ipv6")
	p.clickOn("europe-v6")
	p.text("#title", "europe-v6")
	p.still()
	p.clickOn("europe-v6-site-1")
	p.text("#title", "europe-v6-site-1")
	p.still()
	p.hoverOn("europe-v6-net-1-3")
	p.text("#tip", "2001:db8:2::/48")
}

// TestDark takes the pictures in dark.
func TestDark(t *testing.T) {
	c := newCluster(t)
	c.add(network()...)
	c.policies, c.allocations = rules(), released()
	p := open(t, serve(t, c.URL)+"#/network/private", width, height, dark)
	p.text("#title", "private")
	p.still()
	p.shot("dark")
	const isDark, isLight = `getComputedStyle(document.documentElement).getPropertyValue("--panel") === "#151d28"`,
		`getComputedStyle(document.documentElement).getPropertyValue("--panel") === "#ffffff"`
	p.wait("the page is dark, as the system", isDark)
	p.run(chromedp.Click("#theme"))
	p.wait("the button makes it light", isLight)
	p.run(light, chromedp.Click("#theme"))
	p.wait("the button makes it dark", isDark)
	p.run(chromedp.Click("#theme"))
	p.wait("the button makes it as the system, which is light now", isLight)
}

// TestKeyboard does everything with the keyboard alone.
func TestKeyboard(t *testing.T) {
	c := newCluster(t)
	c.add(network()...)
	p := open(t, serve(t, c.URL), width, height)
	p.text("#subtitle", "roots")
	p.text("#tree", "global")
	p.still()

	// The order of the focus is that of the page.
	p.run(chromedp.Focus("#search"))
	for _, id := range []string{"filters-button", "tree", "", "share", "map", "details", "waiting"} {
		p.run(chromedp.KeyEvent(kb.Tab))
		if got := eval[string](p, `document.activeElement.id`); got != id {
			t.Fatalf("the focus is on %q, want %q", got, id)
		}
	}

	p.run(chromedp.Focus("#search"), chromedp.KeyEvent(kb.ArrowDown))
	at := func() string {
		return eval[string](p, `document.getElementById(document.getElementById("tree").getAttribute("aria-activedescendant"))?.textContent ?? ""`)
	}
	reach := func(keys, want string) {
		t.Helper()
		p.run(chromedp.KeyEvent(keys))
		harness.Eventually(t, "the keyboard is at "+want, func() error {
			return harness.Unless(strings.Contains(at(), want), "it is at %q", at())
		})
	}
	reach(kb.End, "global")
	reach(kb.Home, "edge")
	reach(kb.ArrowRight, "transit")
	reach(kb.ArrowDown, "public")
	p.run(chromedp.KeyEvent(kb.ArrowRight))
	p.text("#tree", "customers")
	reach(kb.ArrowRight, "web")
	reach(kb.ArrowLeft, "public")
	p.run(chromedp.KeyEvent(kb.Enter))
	p.text("#title", "public")
	p.still()

	// On the map, a screen reader hears each cell.
	p.run(chromedp.Focus("#map"))
	hear := func(keys, want string) {
		t.Helper()
		p.run(chromedp.KeyEvent(keys))
		p.text("#option", want)
	}
	hear(kb.Home, "web, 203.0.113.0/28, used")
	hear(kb.ArrowDown, "vpn, 203.0.113.32/28, used")
	hear(kb.ArrowRight, "dns, 203.0.113.48/28, used")
	hear(kb.ArrowRight, "203.0.113.64/26, free, 64 addresses")
	p.text("#tip", "64 addresses")
	p.run(chromedp.KeyEvent(kb.Enter))
	p.text("#details", "kubectl ipam claim --from public --prefix 203.0.113.64/26 -n edge")
	hear(kb.End, "customers, 203.0.113.128/25, used")
	p.run(chromedp.KeyEvent("-"))
	p.text("#title", "Address space")
	p.still()
	p.run(chromedp.KeyEvent(kb.Home))
	p.text("#option", "transit")
	p.run(chromedp.KeyEvent(kb.Enter))
	p.text("#title", "transit")
	p.still()
	p.run(chromedp.KeyEvent("+"))
	p.text("#title", "198.51.100.0/26")
	p.run(chromedp.KeyEvent(kb.Escape))
	p.text("#title", "transit")
	p.still()
	p.run(chromedp.KeyEvent(kb.Escape))
	p.text("#title", "Address space")
}

// TestAccessibility runs axe on the page in each of its states.
func TestAccessibility(t *testing.T) {
	axe, err := os.ReadFile("../../hack/web/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("%v: run hack/web.sh", err)
	}
	c := newCluster(t)
	c.add(network()...)
	page := serve(t, c.URL)
	for _, tc := range []struct {
		name, place string
		actions     []chromedp.Action[chromedp.Void]
	}{
		{"overview", "", nil},
		{"overview, dark", "", []chromedp.Action[chromedp.Void]{dark}},
		{"a Prefix", "#/edge/public", nil},
		{"a Prefix, dark", "#/edge/public", []chromedp.Action[chromedp.Void]{dark}},
		{"a filter", "#/network/private?namespace=network&state=used&q=berlin", nil},
		{"nothing", "#/?q=nothing-has-this-name", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := open(t, page+tc.place, width, height, append(tc.actions, bypassPolicy)...)
			p.text("#status", "live")
			p.text("#cluster", "production")
			p.still()
			eval[bool](p, string(axe)+"; true")
			found := eval[[]struct {
				ID, Impact, Help string
				Nodes            []struct{ HTML string }
			}](p, `axe.run().then((r) => r.violations.map(({id, impact, help, nodes}) => ({id, impact, help, nodes: nodes.map(({html}) => ({html}))})))`)
			for _, v := range found {
				t.Errorf("%s (%s): %s: %v", v.ID, v.Impact, v.Help, v.Nodes)
			}
		})
	}
}

// bypassPolicy lets a test put a script into the page.
var bypassPolicy = chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
	_, err := chromedp.Call(ctx, page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true})
	return err
})

// TestMarkup expects that nothing happens because of names, labels, owners and messages that are full of markup and of
// control characters, which a real server mostly refuses.
func TestMarkup(t *testing.T) {
	const evil = `<img src=x onerror="window.hit=1">`
	more := evil + "\x1b[31m\u202e\u0000</script><script>window.hit=2</script>'\"&quot;{{7*7}}javascript:alert(1)"
	c := newCluster(t)
	plan := &plan{}
	root := plan.add(more, evil, "10.0.0.0/24", nil, "l", more)
	child := plan.add(more, more, "10.0.0.0/26", root, "label", more)
	child.OwnerReferences = []metav1.OwnerReference{{Kind: evil, Name: more}}
	plan.waits(plan.add(more, "waits"+evil, "/25", root), more, more)
	plan.waits(plan.add(more, "exact"+more, "10.0.0.128/25", root), v1alpha1.ReasonPrefixInUse, more)
	c.add(plan.count()...)
	c.add(network()...)
	p := open(t, serve(t, c.URL), width, height)
	p.text("#status", "live")
	p.text("#tree", evil)
	p.still()
	place := "#/" + url.PathEscape(more) + "/" + url.PathEscape(evil)
	eval[bool](p, fmt.Sprintf("location.hash = %q; true", place))
	p.text("#title", evil)
	p.text("#waiting", `window.hit=2`)
	p.still()
	p.run(chromedp.MouseClickXY(500, 250))
	p.text("#details", `label=<img`)
	p.run(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 510, 260))
	p.text("#tip", evil)
	p.text("#details", `\u001b[31m\u202e`)
	p.text("#details", `'\''`)
	p.shot("markup")
	p.fill("#search", evil)
	p.text("#found", "matches")
	eval[bool](p, fmt.Sprintf("location.hash = %q; true", "#/x/"+url.PathEscape(evil)))
	p.text("#nothing", evil)
	p.allow("400 (Bad Request)")
	if eval[bool](p, `"hit" in window || document.querySelectorAll("img:not(header img), script:not([src='main.js']), [onerror]").length > 0`) {
		t.Error("markup has become elements")
	}
	if text := eval[string](p, `document.body.innerText`); strings.ContainsAny(text, "\x1b\u202e\x00") {
		t.Error("control characters are shown")
	}
	// The policy of the page would stop it, too.
	p.allow("TrustedHTML", "Trusted Type")
	if got := eval[string](p, `try { document.body.innerHTML = "<b>x</b>"; "done" } catch (e) { e.name }`); got != "TypeError" {
		t.Errorf("a string becomes markup: %s", got)
	}
}

// TestOtherPages expects that another page in the same browser, even one that knows the token, reads nothing, frames
// nothing and runs nothing of it.
func TestOtherPages(t *testing.T) {
	c := newCluster(t)
	c.add(network()...)
	ui := serve(t, c.URL)
	attacker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>attacker</title><iframe id="frame" src="%s"></iframe>`, html.EscapeString(ui))
	}))
	t.Cleanup(attacker.Close)
	u, err := url.Parse(ui)
	if err != nil {
		t.Fatal(err)
	}
	for _, origin := range []string{attacker.URL, strings.Replace(attacker.URL, "127.0.0.1", "localhost", 1)} {
		p := open(t, origin, width, height)
		p.allow("CORS", "403", "Framing", "ERR_", "Cross-Origin", "blocked", "refused", "Refused", "421", "405")
		for what, script := range map[string]string{
			"read the API":       `fetch(%q + "api/tree?count=9").then((r) => r.text(), () => "nothing")`,
			"read without CORS":  `fetch(%q + "api/tree?count=9", {mode: "no-cors"}).then((r) => r.text(), () => "nothing").then((text) => text || "nothing")`,
			"read the page":      `fetch(%q).then((r) => r.text(), () => "nothing")`,
			"follow the events":  `new Promise((done) => { const e = new EventSource(%q + "api/events"); e.onmessage = (m) => done(m.data); e.onerror = () => done("nothing") })`,
			"run its scripts":    `new Promise((done) => { const e = document.createElement("script"); e.src = %q + "main.js"; e.onload = () => done("loaded"); e.onerror = () => done("nothing"); document.body.append(e) })`,
			"write":              `fetch(%q + "api/tree", {method: "POST", body: "x"}).then((r) => r.text(), () => "nothing")`,
			"open and read it":   `new Promise((done) => { const w = window.open(%q); setTimeout(() => { try { done(w.document.body.innerText || "nothing") } catch { done("nothing") } }, 500) })`,
			"read its own frame": `new Promise((done) => setTimeout(() => { try { done(document.querySelector("#frame").contentDocument?.body?.innerText || "nothing") } catch { done("nothing") } }, 300)) // %q`,
		} {
			if got := eval[string](p, fmt.Sprintf(script, ui)); got != "nothing" {
				t.Errorf("%s can %s: %.200s", origin, what, got)
			}
		}
	}

	// DNS rebinding: a name of the attacker means 127.0.0.1, so that his page has the origin of the server.
	response, err := get(u.Host, "attacker.example:"+u.Port(), u.Path)
	if err != nil || response != http.StatusMisdirectedRequest {
		t.Errorf("a request for another name is answered with %d, %v", response, err)
	}
	// Another user of the machine can connect, but does not know the token.
	for _, path := range []string{"/", "/api/tree", "/index.html", "/" + strings.Repeat("a", 43) + "/"} {
		if response, err := get(u.Host, u.Host, path); err != nil || response != http.StatusForbidden {
			t.Errorf("%s without the token is answered with %d, %v", path, response, err)
		}
	}
}

// get returns the status of the answer to a request at an address for a host.
func get(address, host, path string) (int, error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, err
	}
	r.Host = host
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// TestReconnect expects that the page says so when the connection to the cluster is lost, and that it takes it up again
// with what happened meanwhile.
func TestReconnect(t *testing.T) {
	c := newCluster(t)
	c.forbidden = true
	c.add(network()...)
	p := open(t, serve(t, c.URL)+"#/edge/public", width, height)
	p.text("#status", "live")
	p.text("#problem", "PrefixAllocations")
	p.text("#title", "public")
	c.cut()
	p.text("#status", "reconnecting")
	p.text("#problem", "The connection to the cluster is lost; what is shown may be old.")
	p.text("#title", "public")
	p.shot("lost")
	plan := &plan{}
	child := plan.add("edge", "meanwhile", "203.0.113.64/26", &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "public"}})
	c.mend()
	c.send("ADDED", child)
	p.text("#status", "live")
	p.text("#tree", "meanwhile")
	c.send("DELETED", child)
	p.wait("what is deleted goes", `!document.querySelector("#tree").innerText.includes("meanwhile")`)
}

// TestRefresh expects that a refresh leaves alone what did not change, and keeps the place of what did: the focus stays, and
// a click that began before it does what was meant.
func TestRefresh(t *testing.T) {
	c := newCluster(t)
	c.add(network()...)
	p := open(t, serve(t, c.URL)+"#/network/private", width, height)
	p.text("#title", "private")
	p.text("#waiting", "partner-vpn")
	p.text("#tree", "europe")
	p.text("#details", "kubectl ipam show private")
	p.still()
	private := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "private"}}
	// change makes a request that is older than all others and a child whose address is before those of the others, so that
	// each row that is there moves, and waits until they are shown.
	changes := 0
	change := func() {
		t.Helper()
		changes++
		plan := &plan{now: time.Now().AddDate(-changes, 0, 0)}
		waits := plan.add("network", fmt.Sprintf("request-%d", changes), "/9", private)
		plan.waits(waits, v1alpha1.ReasonParentExhausted, "private has no room")
		child := plan.add("network", fmt.Sprintf("child-%d", changes), fmt.Sprintf("10.224.%d.0/24", 9-changes), private)
		c.send("ADDED", waits)
		c.send("ADDED", child)
		p.text("#waiting", waits.Name)
	}
	eval[bool](p, `window.kept = {
		row: document.querySelector(".row[aria-selected=true]"), link: document.querySelector("#crumbs a"), crumb: document.querySelector("#crumbs a[aria-current]"),
		wait: [...document.querySelectorAll("#waiting [data-wait]")].find((e) => e.innerText === "partner-vpn"), copy: document.querySelector("#details .copy"),
		path: document.querySelector("#waiting table"),
	}; kept.wait.focus(); true`)
	change()
	if lost := eval[[]string](p, `Object.entries(kept).filter(([, e]) => !e.isConnected).map(([name]) => name)`); len(lost) > 0 {
		t.Errorf("replaced: %s", lost)
	}
	// Each row of the tree is in its place.
	if tops := eval[[]float64](p, `[...document.querySelectorAll(".row")].map((e) => e.getBoundingClientRect().top)`); !slices.IsSorted(tops) || len(slices.Compact(slices.Clone(tops))) != len(tops) {
		t.Errorf("the rows of the tree are at %v", tops)
	}
	if !eval[bool](p, `document.activeElement === kept.wait`) {
		t.Error("the focus is lost")
	}
	for _, tc := range []struct{ what, element, does, text string }{
		{"a request", `kept.wait`, "#details", "kubectl ipam why partner-vpn -n edge"},
		{"a row of the tree", `[...document.querySelectorAll(".row")].find((e) => e.innerText.startsWith("transit"))`, "#title", "transit"},
		{"a link", `document.querySelector("#crumbs a")`, "#title", "Address space"},
	} {
		// Until the release, nothing but the element itself can take the click.
		at := eval[[]float64](p, fmt.Sprintf(`(() => { window.pressed = %s; pressed.scrollIntoView({block: "nearest"}); const r = pressed.getBoundingClientRect(); return [r.left + 9, r.top + r.height / 2] })()`, tc.element))
		p.mouse(input.DispatchMouseEventTypeMousePressed, at)
		change()
		at = eval[[]float64](p, `(() => { const r = pressed.getBoundingClientRect(); return [r.left + 9, r.top + r.height / 2] })()`)
		p.mouse(input.DispatchMouseEventTypeMouseReleased, at)
		p.text(tc.does, tc.text)
		p.still()
	}
}

// mouse presses or releases the left button at a point.
func (p *tab) mouse(kind input.DispatchMouseEventType, at []float64) {
	p.t.Helper()
	p.run(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at[0], Y: at[1], Button: input.MouseButtonLeft, ClickCount: 1})
		return err
	}))
}

// TestOneNamespace expects that a user who may read one namespace sees that one.
func TestOneNamespace(t *testing.T) {
	c := newCluster(t)
	c.only = "edge"
	c.add(network()...)
	p := open(t, serve(t, c.URL), width, height)
	p.text("#status", "live")
	p.text("#cluster", "production · edge")
	p.text("#tree", "public")
	p.wait("there is nothing of other namespaces", `!document.body.textContent.includes("private")`)
}

// TestStopped expects that the page says so when the command has ended.
func TestStopped(t *testing.T) {
	c := newCluster(t)
	var p *tab
	t.Run("while it runs", func(s *testing.T) {
		page := serve(s, c.URL)
		p = open(t, page, width, height)
		p.text("#status", "live")
		p.text("#nothing", "There are no Prefixes here yet.")
		p.allow("ERR_")
	})
	p.text("#status", "disconnected")
	p.text("#problem", "start it again")
}

// TestNotation compares the notation of ranges on the page with that of Go.
func TestNotation(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	type row struct {
		In, Half, Around string
		Contains         bool
	}
	var rows []row
	for range 2000 {
		bytes := make([]byte, []int{4, 16}[random.IntN(2)])
		for i := range bytes {
			if random.IntN(3) > 0 {
				bytes[i] = byte(random.IntN(256))
			}
		}
		address, _ := netip.AddrFromSlice(bytes)
		bits := random.IntN(address.BitLen())
		in := netip.PrefixFrom(address, bits).Masked()
		if cidr.IsMapped(in) {
			continue
		}
		other := netip.PrefixFrom(address, random.IntN(address.BitLen())).Masked()
		rows = append(rows, row{in.String(), netip.PrefixFrom(cidr.Last(in), bits+1).Masked().String(), other.String(), other.Bits() <= bits})
	}
	data, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, serve(t, newCluster(t).URL), width, height)
	wrong := eval[[]string](p, `import(new URL("cidr.js", location.href)).then((cidr) => `+string(data)+`.filter((row) => {
		const block = cidr.parse(row.In), other = cidr.parse(row.Around);
		return cidr.format(block) !== row.In || cidr.format(cidr.half(block, 1)) !== row.Half ||
			cidr.contains(other, block) !== row.Contains || (row.Contains && cidr.format(cidr.around(block, other.bits)) !== row.Around);
	}).map((row) => JSON.stringify(row)))`)
	for _, row := range wrong {
		t.Error("wrong:", row)
	}
}

// TestMany expects that the page shows 100,000 children, or a million in a long test, and stays small.
func TestMany(t *testing.T) {
	c := newCluster(t)
	n, total := 100_000, "100,002 Prefixes"
	if os.Getenv("IPAM_TEST_LONG") != "" {
		n, total = 1_000_000, "1,000,002 Prefixes"
	}
	c.add(many(n)...)
	page := serve(t, c.URL)
	p := open(t, page, width, height)
	for eval[string](p, `document.querySelector("#totals").textContent`) != total {
		time.Sleep(100 * time.Millisecond)
	}
	p.text("#status", "live")
	p.still()
	p.shot("many")
	t.Logf("the first picture is there after %.1f s", eval[float64](p, `performance.getEntriesByName("first picture")[0].startTime / 1000`))
	p.clickOn("pool")
	p.text("#title", "pool")
	p.still()
	eval[bool](p, `import(new URL("main.js", location.href)).then(({map}) => {
		window.frameTimes = [];
		(function frame(now) { if (map.moving) frameTimes.push(now); requestAnimationFrame(frame) })(0);
		return true;
	})`)
	for _, bits := range []string{"/13", "/15", "/17"} {
		p.wheel(-1)
		p.text("#crumbs", bits)
		p.still()
	}
	t.Logf("%v", eval[string](p, `frameTimes.length + " frames, apart " + frameTimes.slice(1).map((at, i) => Math.round(at - frameTimes[i])).join(" ") + " ms"`))
	// All children can be reached in the tree, and only the visible ones are elements.
	p.run(chromedp.Focus("#search"), chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.End))
	p.text("#tree", fmt.Sprintf("child-%d", n-1))
	if n := eval[int](p, `document.querySelectorAll("*").length`); n > 1500 {
		t.Errorf("the page has %d elements", n)
	}
	heap := eval[float64](p, `performance.memory.usedJSHeapSize / 2**20`)
	t.Logf("the page uses %.0f MiB", heap)
	if heap > 300 {
		t.Errorf("the page uses %.0f MiB, more than 300", heap)
	}
}

// many returns a root of which n addresses are allocated, and another one.
func many(n int) []*v1alpha1.Prefix {
	plan := &plan{}
	root := plan.add("default", "pool", "10.0.0.0/11", nil)
	plan.add("default", "spare", "10.64.0.0/12", nil)
	for i := range n {
		at := uint32(i + i/700*30)
		plan.add("default", fmt.Sprintf("child-%d", i), fmt.Sprintf("10.%d.%d.%d/32", at>>16, at>>8&255, at&255), root)
	}
	return plan.prefixes
}

// TestLive expects that the page shows what happens on a real server at once.
func TestLive(t *testing.T) {
	ctx := context.Background()
	s := harness.Start(t, harness.Controllers("*"))
	if _, err := s.Client.Prefixes("default").Create(ctx, harness.Root("root", "10.0.0.0/16"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := open(t, serveWith(t, s.Kubeconfig)+"#/default/root", width, height)
	p.text("#title", "root")
	p.text("#numbers", "0 children")
	if _, err := s.Client.Prefixes("default").Create(ctx, harness.Child("child", "root", harness.Length(17)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.text("#numbers", "1 child")
	p.text("#numbers", "50% used")
	p.text("#tree", "10.0.0.0/17")
	if _, err := s.Client.PrefixAllocations("default").Create(ctx, harness.Allocation("program", "root", "10.0.128.0/18"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.text("#tree", "program")
	if _, err := s.Client.Prefixes("default").Create(ctx, harness.Child("too-large", "root", harness.Length(17)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.text("#waiting", "too-large")
	p.text("#waiting", v1alpha1.ReasonParentExhausted)
	if _, err := s.Client.PrefixPolicies("default").Create(ctx, &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: "growth"},
		Spec: v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{}, Reserved: []v1alpha1.PrefixReservation{{CIDR: "10.0.192.0/18"}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.wait("what is reserved is on the map", `import(new URL("main.js", location.href)).then(({map}) => map.scene.boxes.some((b) => b.kind === "reserved"))`)
	if err := s.Client.Prefixes("default").Delete(ctx, "child", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.text("#waiting", "Nothing waits.")
	p.text("#tree", "too-large")

	// What a child had cools down, until it is released, or the child comes back.
	cools := func(block string, want bool) {
		t.Helper()
		p.wait(fmt.Sprintf("that %s cools down is on the map: %v", block, want), fmt.Sprintf(`Promise.all([import(new URL("main.js", location.href)), import(new URL("cidr.js", location.href))]).then(([{map}, cidr]) =>
			map.scene.boxes.some((b) => b.kind === "cooling" && cidr.format(b.block) === %q) === %v)`, block, want))
	}
	policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: "cool"}, Spec: v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{}, CoolDown: &metav1.Duration{Duration: time.Hour}}}
	if _, err := s.Client.PrefixPolicies("default").Create(ctx, policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Client.Prefixes("default").Delete(ctx, "too-large", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	cools("10.0.0.0/17", true)
	p.text("#legend", "cooling")
	p.click("10.0.0.0/17")
	p.text("#details", "kubectl ipam release too-large --now -n default")
	if _, err := s.Client.Prefixes("default").Create(ctx, harness.Child("too-large", "root", harness.Length(17)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cools("10.0.0.0/17", false)
	p.text("#tree", "too-large")
	if err := s.Client.Prefixes("default").Delete(ctx, "too-large", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	cools("10.0.0.0/17", true)
	now := int64(0)
	if err := s.Client.PrefixAllocations("default").DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{FieldSelector: "status.coolingUntil!="}); err != nil {
		t.Fatal(err)
	}
	cools("10.0.0.0/17", false)
	p.text("#usage", "%")
}

// clickOn clicks on the cell with a name.
func (p *tab) clickOn(name string) {
	p.t.Helper()
	x, y := p.cell(name)
	p.run(chromedp.MouseClickXY(x, y))
}

// click clicks on the cell of a range.
func (p *tab) click(block string) {
	p.t.Helper()
	x, y := p.cell(block)
	p.run(chromedp.MouseClickXY(x, y))
}

// hoverOn moves the pointer to the cell with a name.
func (p *tab) hoverOn(name string) {
	p.t.Helper()
	x, y := p.cell(name)
	p.run(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
}

// cell returns a point in the cell with a name or of a range, on the line with its name.
func (p *tab) cell(name string) (x, y float64) {
	p.t.Helper()
	var at []float64
	harness.Eventually(p.t, "there is a cell "+name, func() error {
		at = eval[[]float64](p, fmt.Sprintf(`Promise.all([import(new URL("main.js", location.href)), import(new URL("cidr.js", location.href))]).then(([{map}, cidr]) => {
			const b = map.scene.boxes.find((b) => b.cell.n === %[1]q || cidr.format(b.block) === %[1]q);
			const r = map.element.getBoundingClientRect();
			return b ? [r.left + b.x + b.w / 2, r.top + b.y + Math.min(b.h / 2, 9)] : [];
		})`, name))
		return harness.Unless(len(at) == 2, "there is none")
	})
	return at[0], at[1]
}

// press clicks on the element with a text, once it does not move.
func (p *tab) press(selector, text string) {
	p.t.Helper()
	var at, before []float64
	harness.Eventually(p.t, fmt.Sprintf("there is %s %q", selector, text), func() error {
		before = at
		at = eval[[]float64](p, fmt.Sprintf(`(() => {
			const e = [...document.querySelectorAll(%q)].find((e) => e.innerText === %q);
			e?.scrollIntoView({block: "nearest"});
			const r = e?.getBoundingClientRect();
			return r ? [r.left + r.width / 2, r.top + r.height / 2] : [];
		})()`, selector, text))
		return cmp.Or(harness.Unless(len(at) == 2, "there is none"), harness.Unless(slices.Equal(at, before), "it moves"))
	})
	p.run(chromedp.MouseClickXY(at[0], at[1]))
}

// fill types a text into a field, in place of what is there.
func (p *tab) fill(selector, text string) {
	p.t.Helper()
	p.run(chromedp.Focus(selector))
	eval[bool](p, fmt.Sprintf("document.querySelector(%q).select(); true", selector))
	p.run(chromedp.KeyEvent(kb.Backspace), chromedp.KeyEvent(text))
}

// wheel turns the wheel on the map by a step, away from the user or to him.
func (p *tab) wheel(direction float64) {
	p.t.Helper()
	at := eval[[]float64](p, `(() => { const r = document.querySelector("#map").getBoundingClientRect(); return [r.left + 20, r.top + 40] })()`)
	p.run(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, input.DispatchMouseEvent, input.DispatchMouseEventParams{
			Type: input.DispatchMouseEventTypeMouseWheel, X: at[0], Y: at[1], DeltaX: 0.1, DeltaY: direction * 120})
		return err
	}))
}
