// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
)

// Limits of what one answer holds.
const (
	maxRows  = 500
	maxTiles = 400
	maxExact = 200
	// maxKeepers is the number of ranges that cool down of which the page shows for whom.
	maxKeepers = 20
)

// tick is the time between two looks for changes. Many changes make one event.
const tick = 200 * time.Millisecond

// api answers the requests of the page.
type api struct {
	model *model
	feeds []*feed
	// cluster and scope say what is shown: the context of the kubeconfig, and the namespace if it is only one.
	cluster, scope string
	// patience is the time after which the page is told that the server still runs.
	heartbeat time.Duration
}

// handler returns the handler of the API and of the files.
func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/events", a.events)
	answer := func(path string, f func(*http.Request) (any, error)) {
		mux.HandleFunc("GET /api/"+path, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				v = map[string]string{"error": err.Error()}
			}
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	answer("tree", a.tree)
	answer("map", a.mapOf)
	answer("node", a.nodeOf)
	answer("waiting", a.waitingOf)
	answer("namespaces", a.namespaces)
	answer("reserved", a.reservedOf)
	answer("cooling", a.coolingOf)
	mux.HandleFunc("GET /", serveFile)
	return mux
}

// event tells the page that something changed.
type event struct {
	Revision    uint64 `json:"revision"`
	Phase       string `json:"phase"`
	Problem     string `json:"problem,omitempty"`
	Prefixes    int    `json:"prefixes"`
	Allocations int    `json:"allocations"`
	Waiting     int    `json:"waiting"`
	Cluster     string `json:"cluster"`
	Scope       string `json:"scope,omitempty"`
}

// current returns the event for the present.
func (a *api) current() event {
	a.model.mu.Lock()
	e := event{Revision: a.model.revision, Prefixes: a.model.prefixes, Allocations: a.model.allocations,
		Waiting: a.model.waiting, Cluster: plaintext.Escape(a.cluster), Scope: plaintext.Escape(a.scope)}
	a.model.mu.Unlock()
	// What the Prefixes say comes first. That PrefixAllocations cannot be read only makes the picture less complete.
	order := []string{phaseLive, phaseReading, phaseLost, phaseForbidden}
	for i, f := range a.feeds {
		phase, problem := f.state()
		if i > 0 && phase == phaseForbidden {
			e.Problem = cmp.Or(e.Problem, problem)
			continue
		}
		if slices.Index(order, phase) > slices.Index(order, e.Phase) {
			e.Phase = phase
			e.Problem = cmp.Or(problem, e.Problem)
		}
	}
	return e
}

// events sends an event whenever something changed.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var sent []byte
	at := time.Now()
	for {
		data, err := json.Marshal(a.current())
		if err != nil {
			return
		}
		if string(data) != string(sent) || time.Since(at) > a.heartbeat {
			if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
				return
			}
			if err := out.Flush(); err != nil {
				return
			}
			sent, at = data, time.Now()
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

// filterOf returns the filter of a request.
func filterOf(r *http.Request) (*filter, error) {
	q := r.URL.Query()
	return newFilter(q.Get("q"), q.Get("namespace"), q.Get("state"), q.Get("labels"))
}

// number returns a number of a request, at least low and at most high.
func number(r *http.Request, name string, low, high int) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name))
	return min(max(n, low), high)
}

// line is a row of the tree for the page.
type line struct {
	ID        string  `json:"id"`
	Namespace string  `json:"namespace"`
	Name      string  `json:"name,omitempty"`
	CIDR      string  `json:"cidr,omitempty"`
	Asks      string  `json:"asks,omitempty"`
	Used      float64 `json:"used"`
	Children  int     `json:"children"`
	State     string  `json:"state"`
	Level     int     `json:"level"`
	Position  int     `json:"position"`
	Size      int     `json:"size"`
	Open      bool    `json:"open"`
	Match     bool    `json:"match"`
	// Alone says that it is a PrefixAllocation without a Prefix.
	Alone bool `json:"alone,omitempty"`
	// Closed says that a policy lets nothing new be allocated from it.
	Closed bool `json:"closed,omitempty"`
}

func stateOf(n *node) string {
	switch {
	case n.deleting:
		return stateDeleting
	case n.waiting:
		return stateWaiting
	}
	return stateUsed
}

func (a *api) line(r row, f *filter) line {
	l := line{ID: r.id(), Namespace: plaintext.Escape(r.namespace), Level: r.level, Position: r.position, Size: r.size, Open: r.open}
	n := r.node
	if n == nil {
		l.Children = 1
		return l
	}
	l.Namespace, l.Name, l.Asks, l.State = plaintext.Escape(n.key.namespace), plaintext.Escape(n.key.name), n.asks, stateOf(n)
	l.Children, l.Used, l.Match = len(n.children), n.used(), f.all() || n.match
	l.Alone, l.Closed = n.key.kind == allocationKind, !n.waiting && a.model.closed(n)
	if n.prefix.IsValid() {
		l.CIDR = n.prefix.String()
	}
	return l
}

// tree answers with rows of the tree.
func (a *api) tree(r *http.Request) (any, error) {
	f, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	open := map[string]bool{}
	for id := range strings.SplitSeq(q.Get("open"), ",") {
		if id != "" {
			open[id] = true
		}
	}
	a.model.mu.Lock()
	defer a.model.mu.Unlock()
	rows := a.model.list(f, open)
	answer := struct {
		Revision uint64 `json:"revision"`
		Total    int    `json:"total"`
		Matches  int    `json:"matches"`
		From     int    `json:"from"`
		// Shown is the index of the row that was asked for, or -1.
		Shown int    `json:"shown"`
		Rows  []line `json:"rows"`
	}{Revision: a.model.revision, Total: len(rows), Matches: a.model.matches, Shown: -1, Rows: []line{}}
	if show := q.Get("show"); show != "" {
		answer.Shown = slices.IndexFunc(rows, func(r row) bool { return r.id() == show })
	}
	from := number(r, "from", 0, len(rows))
	answer.From = from
	for _, r := range rows[from:min(from+number(r, "count", 0, maxRows), len(rows))] {
		answer.Rows = append(answer.Rows, a.line(r, f))
	}
	return answer, nil
}

// reference names a node for the page.
type reference struct {
	ID        int    `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	CIDR      string `json:"cidr,omitempty"`
}

func refer(n *node) reference {
	r := reference{ID: n.id, Namespace: plaintext.Escape(n.key.namespace), Name: plaintext.Escape(n.key.name)}
	if n.prefix.IsValid() {
		r.CIDR = n.prefix.String()
	}
	return r
}

func references(nodes []*node) []reference {
	refs := make([]reference, 0, len(nodes))
	for _, n := range nodes {
		refs = append(refs, refer(n))
	}
	return refs
}

// tile is the map of one root in the overview.
type tile struct {
	reference
	Used   float64 `json:"used"`
	Parent bool    `json:"parent"`
	Cells  cell    `json:"cells"`
}

// exact is a range that a waiting object asks for.
type exact struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	CIDR string `json:"cidr"`
}

// mapOf answers with the map of a block, or the overview of all roots.
func (a *api) mapOf(r *http.Request) (any, error) {
	f, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	bits := number(r, "bits", 0, maxMapBits)
	a.model.mu.Lock()
	defer a.model.mu.Unlock()
	a.model.mark(f)
	if q.Get("id") == "" && q.Get("name") == "" {
		return a.overview(f, bits), nil
	}
	n, err := a.find(r)
	if err != nil {
		return nil, err
	}
	if !n.prefix.IsValid() {
		return nil, fmt.Errorf("%s has no range yet", plaintext.Escape(n.key.name))
	}
	block := n.prefix
	if notation := q.Get("block"); notation != "" {
		if block, err = cidr.ParseStored(notation); err != nil {
			return nil, fmt.Errorf("%q is no range", plaintext.Escape(notation))
		}
		// A block around the node is one of an ancestor.
		path := n.path()
		for i := len(path) - 2; i >= 0 && (block.Bits() < n.prefix.Bits() || !n.prefix.Overlaps(block)) && path[i].prefix.IsValid(); i-- {
			n = path[i]
		}
		if block.Bits() < n.prefix.Bits() || !n.prefix.Overlaps(block) {
			block = n.prefix
		}
	}
	n, block, leaf := locate(n, block, q.Get("block") != "")
	answer := struct {
		Revision uint64      `json:"revision"`
		Path     []reference `json:"path"`
		Block    string      `json:"block"`
		// Leaf is the id of the node in whose surroundings this is.
		Leaf    *int    `json:"leaf,omitempty"`
		Cells   cell    `json:"cells"`
		Waiting []exact `json:"waiting"`
	}{Revision: a.model.revision, Path: references(n.path()), Block: block.String(), Leaf: leaf,
		Cells: mapper{a.model, f}.block(n, block, bits), Waiting: []exact{}}
	for _, c := range n.children[n.held:] {
		if len(answer.Waiting) < maxExact && c.exact.IsValid() && block.Overlaps(c.exact) && c.exact.Bits() >= block.Bits() {
			answer.Waiting = append(answer.Waiting, exact{c.id, plaintext.Escape(c.key.name), c.exact.String()})
		}
	}
	return answer, nil
}

// overview returns the maps of all roots, which share the cells.
func (a *api) overview(f *filter, bits int) any {
	answer := struct {
		Revision uint64 `json:"revision"`
		// More is the number of roots that are left out.
		More  int    `json:"more"`
		Tiles []tile `json:"tiles"`
	}{Revision: a.model.revision, Tiles: []tile{}}
	var shown []*node
	for _, n := range a.model.roots() {
		switch {
		case !n.prefix.IsValid() || !f.all() && !n.match && !n.below:
		case len(shown) == maxTiles:
			answer.More++
		default:
			shown = append(shown, n)
		}
	}
	for more := len(shown); more > 1; more = (more + 1) / 2 {
		bits--
	}
	for _, n := range shown {
		n.sort()
		answer.Tiles = append(answer.Tiles, tile{refer(n), n.used(), n.held > 0, mapper{a.model, f}.block(n, n.prefix, max(bits, 0))})
	}
	return answer
}

// find returns the node that a request names by id, or by namespace and name.
func (a *api) find(r *http.Request) (*node, error) {
	q := r.URL.Query()
	if id := q.Get("id"); id != "" {
		number, err := strconv.Atoi(id)
		if err != nil {
			return nil, fmt.Errorf("%q is no id", plaintext.Escape(id))
		}
		if n := a.model.node(number); n != nil {
			return n, nil
		}
		return nil, fmt.Errorf("it has been deleted")
	}
	// namespace is a filter, so that of a name is called "in".
	for _, of := range []kind{prefixKind, allocationKind} {
		if n := a.model.nodes[key{of, q.Get("in"), q.Get("name")}]; n != nil && n.known {
			return n, nil
		}
	}
	// The page knows names as they are shown.
	if in, name := q.Get("in"), q.Get("name"); strings.Contains(in+name, `\`) {
		for n := range a.model.each {
			if n.known && plaintext.Escape(n.key.name) == name && plaintext.Escape(n.key.namespace) == in {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("there is no Prefix %s in the namespace %s", plaintext.Escape(q.Get("name")), plaintext.Escape(q.Get("in")))
}

// point is a sample for the page: a time in milliseconds, and a value.
type point [2]float64

func points(h *history) []point {
	found := []point{}
	if h == nil {
		return found
	}
	for _, s := range h.samples {
		found = append(found, point{float64(s.at.UnixMilli()), s.value})
	}
	return found
}

// details are all that the page shows of a node.
type details struct {
	reference
	Kind     string                `json:"kind"`
	Path     []reference           `json:"path"`
	State    string                `json:"state"`
	Asks     string                `json:"asks,omitempty"`
	Reason   string                `json:"reason,omitempty"`
	Message  string                `json:"message,omitempty"`
	Owner    string                `json:"owner,omitempty"`
	Created  int64                 `json:"created"`
	Labels   []string              `json:"labels"`
	Children int                   `json:"children"`
	Waiting  int                   `json:"waiting"`
	Used     float64               `json:"used"`
	Usage    *v1alpha1.PrefixUsage `json:"usage,omitempty"`
	History  []point               `json:"history"`
	// Rules are those of the policies that select it, Closed says that one of them lets nothing new be allocated from it,
	// and Min and Max are the lengths that they allow; 0 is no limit.
	Rules  []string `json:"rules"`
	Closed bool     `json:"closed,omitempty"`
	Min    int      `json:"min,omitempty"`
	Max    int      `json:"max,omitempty"`
}

// nodeOf answers with the details of a node, or without one with the history of the numbers of objects.
func (a *api) nodeOf(r *http.Request) (any, error) {
	a.model.mu.Lock()
	defer a.model.mu.Unlock()
	if q := r.URL.Query(); q.Get("id") == "" && q.Get("name") == "" {
		return map[string]any{"history": points(&a.model.counts)}, nil
	}
	n, err := a.find(r)
	if err != nil {
		return nil, err
	}
	n.sort()
	d := details{reference: refer(n), Kind: v1alpha1.PrefixKind, Path: references(n.path()), State: stateOf(n), Asks: n.asks,
		Reason: n.reason, Message: n.message, Owner: n.owner, Created: n.created.UnixMilli(), Labels: []string{},
		Children: len(n.children), Used: n.used(), Usage: n.usage, History: points(a.model.usage[n])}
	if n.key.kind == allocationKind {
		d.Kind = v1alpha1.PrefixAllocationKind
	}
	for _, c := range n.children[n.held:] {
		if c.waiting {
			d.Waiting++
		}
	}
	d.Rules = []string{}
	var lengths cidr.Lengths
	for _, p := range a.model.policiesFor(n) {
		d.Rules = append(d.Rules, p.rules...)
		d.Closed = d.Closed || p.closed
		lengths = lengths.And(p.lengths)
	}
	d.Min, d.Max = lengths.Min, lengths.Max
	for k, v := range n.labels {
		d.Labels = append(d.Labels, plaintext.Escape(k+"="+v))
	}
	slices.Sort(d.Labels)
	return d, nil
}

// wait is a row of the table of what waits.
type wait struct {
	reference
	Kind    string     `json:"kind"`
	Asks    string     `json:"asks"`
	Parent  *reference `json:"parent,omitempty"`
	Reason  string     `json:"reason"`
	Message string     `json:"message"`
	Created int64      `json:"created"`
}

// waitingOf answers with what waits, and why.
func (a *api) waitingOf(r *http.Request) (any, error) {
	f, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	a.model.mu.Lock()
	defer a.model.mu.Unlock()
	nodes := a.model.waitingNodes(f)
	answer := struct {
		Revision uint64 `json:"revision"`
		Total    int    `json:"total"`
		From     int    `json:"from"`
		// Reasons count what waits by reason.
		Reasons map[string]int `json:"reasons"`
		Rows    []wait         `json:"rows"`
	}{Revision: a.model.revision, Total: len(nodes), Reasons: map[string]int{}, Rows: []wait{}}
	for _, n := range nodes {
		answer.Reasons[n.reason]++
	}
	from := number(r, "from", 0, len(nodes))
	answer.From = from
	for _, n := range nodes[from:min(from+number(r, "count", 0, maxRows), len(nodes))] {
		w := wait{reference: refer(n), Kind: v1alpha1.PrefixKind, Asks: n.asks, Reason: n.reason, Message: n.message,
			Created: n.created.UnixMilli()}
		if n.key.kind == allocationKind {
			w.Kind = v1alpha1.PrefixAllocationKind
		}
		if n.parent != nil {
			p := refer(n.parent)
			w.Parent = &p
		}
		answer.Rows = append(answer.Rows, w)
	}
	return answer, nil
}

// inBlock answers with what a function returns for the node and the block of a request.
func (a *api) inBlock(r *http.Request, of func(n *node, block netip.Prefix) any) (any, error) {
	block, err := cidr.ParseStored(r.URL.Query().Get("block"))
	if err != nil {
		return nil, err
	}
	a.model.mu.Lock()
	defer a.model.mu.Unlock()
	n, err := a.find(r)
	if err != nil {
		return nil, err
	}
	return of(n, block), nil
}

// reservedOf answers with the policies that reserve a part of a block of a node.
func (a *api) reservedOf(r *http.Request) (any, error) {
	return a.inBlock(r, func(n *node, block netip.Prefix) any { return a.model.reservers(n, block) })
}

// coolingOf answers with what cools down of a block of a node.
func (a *api) coolingOf(r *http.Request) (any, error) {
	return a.inBlock(r, func(n *node, block netip.Prefix) any {
		keepers := []keeper{}
		for _, c := range a.model.coolingIn(n, block) {
			if len(keepers) == maxKeepers {
				break
			}
			keepers = append(keepers, c.keeper)
		}
		return keepers
	})
}

// namespaces answers with the namespaces that have something to show.
func (a *api) namespaces(*http.Request) (any, error) {
	a.model.mu.Lock()
	defer a.model.mu.Unlock()
	return a.model.namespaces(), nil
}
