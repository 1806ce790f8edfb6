// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// newPrefix returns an allocated Prefix. It is a root without a parent, and waits with a length such as "/24" as its
// prefix.
func newPrefix(namespace, name, prefix, parent string) *v1alpha1.Prefix {
	p := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Status.Phase = v1alpha1.PrefixPhaseAllocated
	p.Spec.Prefix = prefix
	if strings.HasPrefix(prefix, "/") {
		p.Spec.Prefix, p.Status.Phase = "", v1alpha1.PrefixPhasePending
		_, _ = fmt.Sscanf(prefix, "/%d", &p.Spec.PrefixLength)
	}
	if parent != "" {
		p.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: parent}
	}
	return p
}

// all returns the rows of the whole tree, as text.
func all(m *model, f *filter) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	open := map[string]bool{}
	for n := range m.each {
		open[row{node: n}.id()], open["ns:"+n.key.namespace] = true, true
	}
	var lines []string
	for _, r := range m.list(f, open) {
		text := "namespace " + r.namespace
		if r.node != nil {
			text = fmt.Sprintf("%s %v %s", r.node.key.name, r.node.prefix, r.node.asks)
		}
		lines = append(lines, fmt.Sprintf("%s%s %d/%d", strings.Repeat("  ", r.level-1), text, r.position, r.size))
	}
	return lines
}

// TestModelOrder expects that what the model shows does not depend on the order in which it learned of the objects, nor
// on what was there before.
func TestModelOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	every, err := newFilter("", "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		var final []*v1alpha1.Prefix
		for n := range 2 {
			namespace := fmt.Sprintf("n%d", n)
			final = append(final, newPrefix(namespace, "root", "10.0.0.0/8", ""))
			for i := range random.IntN(5) {
				mid := fmt.Sprintf("mid%d", i)
				final = append(final, newPrefix(namespace, mid, fmt.Sprintf("10.%d.0.0/16", i), "root"))
				for j := range random.IntN(5) {
					final = append(final, newPrefix(namespace, fmt.Sprintf("%s-%d", mid, j), []string{fmt.Sprintf("10.%d.%d.0/24", i, j), "/25"}[random.IntN(2)], mid))
				}
			}
			// Its parent does not exist.
			final = append(final, newPrefix(namespace, "alone", "172.16.0.0/16", "nobody"))
		}
		want := newModel()
		for _, p := range final {
			want.putPrefix(p)
		}
		m := newModel()
		for range random.IntN(40) {
			p := final[random.IntN(len(final))].DeepCopy()
			switch random.IntN(4) {
			case 0:
				m.drop(prefixKind, p.Namespace, p.Name)
			case 1:
				p.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: final[random.IntN(len(final))].Name}
				m.putPrefix(p)
			case 2:
				p.Name += "-extra"
				m.putPrefix(p)
			default:
				m.putPrefix(p)
			}
			if random.IntN(3) == 0 {
				all(m, every)
			}
		}
		round := m.begin()
		for _, i := range random.Perm(len(final)) {
			m.putPrefix(final[i])
		}
		m.end(prefixKind, round)
		// What comes and goes leaves nothing behind.
		m.putPrefix(newPrefix("n0", "guest", "10.200.0.0/16", "root"))
		all(m, every)
		m.drop(prefixKind, "n0", "guest")
		if got, want := all(m, every), all(want, every); !slices.Equal(got, want) {
			t.Fatalf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if m.prefixes != len(final) || m.waiting != want.waiting {
			t.Fatalf("%d Prefixes, of which %d wait; want %d, %d", m.prefixes, m.waiting, len(final), want.waiting)
		}
	}
}

// TestCycle expects that parents which go round in a circle, which the server does not allow, end nowhere.
func TestCycle(t *testing.T) {
	m := newModel()
	m.putPrefix(newPrefix("default", "a", "10.0.0.0/8", "b"))
	m.putPrefix(newPrefix("default", "b", "10.0.0.0/8", "a"))
	every, _ := newFilter("a", "", "", "")
	all(m, every)
	a := &api{model: m}
	for _, path := range []string{"map?in=default&name=a&bits=5", "map?in=default&name=a&block=10.0.0.0/4", "node?in=default&name=b", "map?bits=5", "tree?q=a&count=9"} {
		w := httptest.NewRecorder()
		a.handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/"+path, nil))
		if w.Code != 200 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// TestMap compares maps with the plain definition, address by address of a small space.
func TestMap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	every, _ := newFilter("", "", "", "")
	for range 300 {
		m := newModel()
		root := netip.MustParsePrefix([]string{"10.0.0.0/24", "2001:db8::/120"}[random.IntN(2)])
		m.putPrefix(newPrefix("default", "root", root.String(), ""))
		// holders has the chain of names that hold each address, the outermost first.
		holders := make([][]string, 256)
		var grow func(parent string, of netip.Prefix, depth int)
		grow = func(parent string, of netip.Prefix, depth int) {
			var taken []netip.Prefix
			for range random.IntN(12) {
				width := of.Addr().BitLen()
				if of.Bits() >= width {
					return
				}
				bits := of.Bits() + 1 + random.IntN(width-of.Bits())
				address := of.Addr().AsSlice()
				address[len(address)-1] += byte(random.IntN(1 << (width - of.Bits())))
				a, _ := netip.AddrFromSlice(address)
				p := netip.PrefixFrom(a, bits).Masked()
				if slices.ContainsFunc(taken, p.Overlaps) {
					continue
				}
				taken = append(taken, p)
				name := fmt.Sprintf("%s-%d", parent, len(taken))
				m.putPrefix(newPrefix("default", name, p.String(), parent))
				first := p.Addr().AsSlice()
				for i := range 1 << (width - bits) {
					at := int(first[len(first)-1]) + i
					holders[at] = append(holders[at], name)
				}
				if depth < 3 && random.IntN(2) == 0 {
					grow(name, p, depth+1)
				}
			}
		}
		grow("root", root, 0)
		// kept has what a policy reserves of all.
		var kept [256]bool
		var reservations []v1alpha1.PrefixReservation
		first := root.Addr().AsSlice()
		address := func(at int) netip.Addr {
			first[len(first)-1] = byte(at)
			a, _ := netip.AddrFromSlice(first)
			return a
		}
		for range random.IntN(4) {
			from := random.IntN(256)
			to := from + random.IntN(256-from)
			for at := from; at <= to; at++ {
				kept[at] = true
			}
			reservations = append(reservations, v1alpha1.PrefixReservation{From: address(from).String(), To: address(to).String()})
		}
		// cold has what cools down. It may be in use again.
		var cold [256]bool
		for i := range random.IntN(6) {
			bits := root.Bits() + random.IntN(9)
			p := netip.PrefixFrom(address(random.IntN(256)), bits).Masked()
			from := int(p.Addr().AsSlice()[len(first)-1])
			for at := from; at < from+1<<(root.Addr().BitLen()-bits); at++ {
				cold[at] = true
			}
			m.putCooling(newCooling("default", fmt.Sprint(i), p.String(), "root"))
		}
		m.putPolicy(&v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "all"},
			Spec: v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{}, Reserved: reservations}})
		bits := random.IntN(10)
		m.mark(every)
		n := m.nodes[key{prefixKind, "default", "root"}]
		var check func(c cell, block netip.Prefix, chain []string, bits int)
		names := func(block netip.Prefix, depth int) (found []string, used int) {
			first, last := block.Addr().AsSlice(), cidr.Last(block).AsSlice()
			for at := int(first[len(first)-1]); at <= int(last[len(last)-1]); at++ {
				if len(holders[at]) > depth {
					used++
					if name := holders[at][depth]; !slices.Contains(found, name) {
						found = append(found, name)
					}
				}
			}
			return found, used
		}
		check = func(c cell, block netip.Prefix, chain []string, bits int) {
			found, used := names(block, len(chain))
			size := 1 << (block.Addr().BitLen() - block.Bits())
			switch c := c.(type) {
			case int:
				// A block that is not divided any more is reserved if all of it is, and so it cools down. Only the root has a
				// policy that reserves, and space that cools down.
				begin := int(block.Addr().AsSlice()[len(first)-1])
				undivided := max(size>>max(bits, 0), 1)
				for from := begin; from < begin+size; from += undivided {
					want := free
					switch {
					case len(chain) == 0 && !slices.Contains(cold[from:from+undivided], false):
						want = cools
					case !slices.Contains(kept[from:from+undivided], false):
						want = reserved
					}
					if used != 0 || c != want {
						t.Fatalf("%v is shown as %v in %v, but %v hold it, and %d addresses from %d on should be %v", block, c, chain, found, undivided, from, want)
					}
				}
			case [2]cell:
				low, high := cidr.Halves(block)
				check(c[0], low, chain, bits-1)
				check(c[1], high, chain, bits-1)
			case *held:
				name := m.node(c.ID).key.name
				if len(found) != 1 || found[0] != name || used != size {
					t.Fatalf("%v is shown as held by %s in %v, but %v hold %d of %d", block, name, chain, found, used, size)
				}
				if _, below := names(block, len(chain)+1); math.Abs(c.Used-float64(below)/float64(size)) > 1e-9 || c.Parent != (below > 0) {
					t.Fatalf("%s is shown as %v used, but %d of %d are", name, c.Used, below, size)
				}
				if c.Cells != nil {
					check(c.Cells, block, append(slices.Clone(chain), name), bits)
				}
			case *summary:
				if c.Count != len(found) || math.Abs(c.Used-float64(used)/float64(size)) > 1e-9 {
					t.Fatalf("%v is shown as %d objects and %v used in %v, but %v hold %d of %d", block, c.Count, c.Used, chain, found, used, size)
				}
				if (c.ID != nil) != (c.Count == 1) || c.ID != nil && m.node(*c.ID).key.name != found[0] {
					t.Fatalf("%v is shown as held by %v, but %v hold it", block, c.ID, found)
				}
			default:
				t.Fatalf("%v is shown as %T", block, c)
			}
		}
		check(mapper{m, every}.block(n, root, bits), root, nil, bits)
	}
}

// newCooling returns a PrefixAllocation whose space is kept for a child with its name.
func newCooling(namespace, name, prefix, parent string) *v1alpha1.PrefixAllocation {
	yes := true
	a := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name,
		OwnerReferences: []metav1.OwnerReference{{Kind: v1alpha1.PrefixKind, Name: "of-" + name, Controller: &yes}}}}
	a.Spec.PrefixRef = &v1alpha1.LocalObjectReference{Name: parent}
	a.Status.Phase, a.Status.Prefix = v1alpha1.PrefixAllocationPhaseAllocated, prefix
	a.Status.CoolingUntil = &metav1.Time{Time: time.UnixMilli(7)}
	return a
}

// TestCooling expects that what cools down is known of its parent, also of one in another namespace, for as long as it does.
func TestCooling(t *testing.T) {
	m := newModel()
	m.putPrefix(newPrefix("default", "pool", "10.0.0.0/24", ""))
	check := func(block, want string) {
		t.Helper()
		w := httptest.NewRecorder()
		(&api{model: m}).handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/cooling?in=default&name=pool&block="+block, nil))
		if got := strings.TrimSpace(w.Body.String()); w.Code != http.StatusOK || got != want {
			t.Errorf("%s: %d %s, want %s", block, w.Code, got, want)
		}
	}
	round := m.begin()
	m.putCooling(newCooling("default", "b", "10.0.0.64/26", "pool"))
	foreign := newCooling("team\x1b", "a", "10.0.0.0/26", "pool")
	foreign.Spec.PrefixNamespace = "default"
	m.putCooling(foreign)
	m.putCooling(newCooling("elsewhere", "a", "10.0.0.128/26", "pool"))
	m.putCooling(newCooling("default", "c", "no prefix", "pool"))
	const a, b = `{"cidr":"10.0.0.0/26","namespace":"team\\u001b","child":"of-a","until":7}`, `{"cidr":"10.0.0.64/26","namespace":"default","child":"of-b","until":7}`
	check("10.0.0.0/24", "["+a+","+b+"]")
	check("10.0.0.70/32", "["+b+"]")
	check("10.0.0.128/25", "[]")
	// Its child has it again, it is another one's, or it is gone.
	warm := newCooling("default", "b", "10.0.0.64/26", "pool")
	warm.Status.CoolingUntil = nil
	m.putCooling(warm)
	check("10.0.0.0/24", "["+a+"]")
	m.drop(coolingKind, "team\x1b", "a")
	check("10.0.0.0/24", "[]")
	m.putCooling(foreign)
	m.end(coolingKind, round)
	check("10.0.0.0/24", "["+a+"]")
	m.end(coolingKind, m.begin())
	check("10.0.0.0/24", "[]")
	if len(m.cooling) > 0 || len(m.cools) > 0 {
		t.Errorf("%v %v are left", m.cooling, m.cools)
	}
	w := httptest.NewRecorder()
	(&api{model: m}).handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/cooling?in=default&name=pool&block=x", nil))
	if w.Code != http.StatusBadRequest {
		t.Errorf("a block that is none: %d %s", w.Code, w.Body)
	}
}

// TestPolicies expects that policies reserve in what they select, for as long as they are there.
func TestPolicies(t *testing.T) {
	m := newModel()
	pool := newPrefix("default", "pool", "10.0.0.0/29", "")
	pool.Labels = map[string]string{"pool": "a"}
	m.putPrefix(pool)
	m.putPrefix(newPrefix("default", "other", "10.1.0.0/29", ""))
	m.putPrefix(newPrefix("elsewhere", "pool", "10.2.0.0/29", ""))
	put := func(name string, selector map[string]string, r ...v1alpha1.PrefixReservation) {
		m.putPolicy(&v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec: v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{MatchLabels: selector}, Reserved: r}})
	}
	check := func(namespace, name, want string) {
		t.Helper()
		if got := fmt.Sprint(m.reserved(m.nodes[key{prefixKind, namespace, name}])); got != want {
			t.Errorf("%s is reserved of %s, want %s", got, name, want)
		}
	}
	put("edges", nil, v1alpha1.PrefixReservation{Edges: true, Reason: "edges\x1b"})
	round := m.begin()
	put("part", map[string]string{"pool": "a"}, v1alpha1.PrefixReservation{CIDR: "10.0.0.4/30"}, v1alpha1.PrefixReservation{From: "10.0.0.1", To: "10.0.0.2"})
	check("default", "pool", "[10.0.0.0/31 10.0.0.2/32 10.0.0.4/30]")
	check("default", "other", "[10.1.0.0/32 10.1.0.7/32]")
	check("elsewhere", "pool", "[]")
	if got := m.reservers(m.nodes[key{prefixKind, "default", "pool"}], netip.MustParsePrefix("10.0.0.6/31")); !slices.Equal(got, []reserver{{"edges", `edges\u001b`}, {"part", ""}}) {
		t.Errorf("it is reserved by %v", got)
	}
	m.end(policyKind, round)
	check("default", "other", "[]")
	m.drop(policyKind, "default", "part")
	check("default", "pool", "[]")
}

// TestLocate expects that a place is in the innermost Prefix that has something to show.
func TestLocate(t *testing.T) {
	m := newModel()
	for _, p := range [][3]string{{"root", "10.0.0.0/8", ""}, {"mid", "10.1.0.0/16", "root"}, {"leaf", "10.1.2.0/24", "mid"}, {"tiny", "10.1.2.0/32", "nobody"}, {"big", "10.128.0.0/9", "root"}} {
		m.putPrefix(newPrefix("default", p[0], p[1], p[2]))
	}
	for _, tc := range []struct{ name, block, node, want, leaf string }{
		{"root", "10.0.0.0/8", "root", "10.0.0.0/8", ""},
		{"root", "10.1.0.0/16", "mid", "10.1.0.0/16", ""},
		{"root", "10.1.0.0/15", "root", "10.0.0.0/15", ""},
		{"root", "10.1.4.0/22", "mid", "10.1.4.0/22", ""},
		{"leaf", "10.1.2.0/24", "mid", "10.1.0.0/20", "leaf"},
		{"root", "10.1.2.128/25", "mid", "10.1.2.0/23", "leaf"},
		{"big", "10.128.0.0/9", "root", "10.0.0.0/8", "big"},
		{"root", "10.2.3.4/32", "root", "10.2.3.4/32", ""},
		{"tiny", "10.1.2.0/32", "tiny", "10.1.2.0/32", ""},
	} {
		n := m.nodes[key{prefixKind, "default", tc.name}]
		block := netip.MustParsePrefix(tc.block)
		got, at, leaf := locate(n, block.Masked(), block != n.prefix)
		if got.key.name != tc.node || at.String() != tc.want || (leaf == nil) != (tc.leaf == "") || leaf != nil && m.node(*leaf).key.name != tc.leaf {
			t.Errorf("%s in %s is %s in %s, %v; want %s in %s, %s", tc.block, tc.name, at, got.key.name, leaf, tc.want, tc.node, tc.leaf)
		}
	}
}

func TestFilter(t *testing.T) {
	m := newModel()
	root := newPrefix("edge", "root", "10.0.0.0/8", "")
	root.Labels = map[string]string{"pool": "edge"}
	web := newPrefix("edge", "web", "10.1.0.0/16", "root")
	web.OwnerReferences = []metav1.OwnerReference{{Kind: "Cluster", Name: "Production"}}
	deleting := newPrefix("edge", "old", "10.2.0.0/16", "root")
	deleting.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	for _, p := range []*v1alpha1.Prefix{root, web, deleting, newPrefix("edge", "wanted", "/9", "root"), newPrefix("other", "six", "2001:db8::/32", "")} {
		m.putPrefix(p)
	}
	for _, tc := range []struct{ text, namespace, state, labels, want string }{
		{want: "old root six wanted web"},
		{text: "WEB", want: "web"},
		{text: "10.1.2.3", want: "root web"},
		{text: "10.1.0.0/15", want: "root web"},
		{text: "10.1", want: "web"},
		{text: "2001:db8::1", want: "six"},
		{text: "edge", want: "old root wanted web"},
		{text: "cluster/prod", want: "web"},
		{namespace: "other", want: "six"},
		{state: "waiting", want: "wanted"},
		{state: "deleting", want: "old"},
		{state: "used", text: "o", want: "old root six web"},
		{labels: "pool in (edge, core)", want: "root"},
		{labels: "!pool", want: "old six wanted web"},
		{text: "nothing", want: ""},
	} {
		f, err := newFilter(tc.text, tc.namespace, tc.state, tc.labels)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for n := range m.each {
			if n.known && f.matches(n) {
				found = append(found, n.key.name)
			}
		}
		slices.Sort(found)
		if got := strings.Join(found, " "); got != tc.want {
			t.Errorf("%+v selects %q", tc, got)
		}
	}
	// The tree has what matches and its ancestors, all open.
	f, err := newFilter("web", "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	var rows []string
	for _, r := range m.list(f, nil) {
		rows = append(rows, r.node.key.name)
	}
	m.mu.Unlock()
	if want := []string{"root", "web"}; !slices.Equal(rows, want) || m.matches != 1 {
		t.Errorf("the tree has %v with %d matches, want %v", rows, m.matches, want)
	}
	if _, err := newFilter("", "", "", "a ==== b\x1b"); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("a selector that is none: %v", err)
	}
	if _, err := newFilter("", "", "full", ""); err == nil {
		t.Error("a state that is none is accepted")
	}
}

func TestHistory(t *testing.T) {
	h := &history{}
	start := time.Unix(0, 0)
	for i := range 100_000 {
		h.add(start.Add(time.Duration(i)*time.Second), float64(i))
	}
	if n := len(h.samples); n > maxSamples || n < maxSamples/4 {
		t.Errorf("it keeps %d samples", n)
	}
	if first, last := h.samples[0], h.samples[len(h.samples)-1]; first.value != 0 || last.value != 99_999 {
		t.Errorf("it begins with %v and ends with %v", first, last)
	}
	if !slices.IsSortedFunc(h.samples, func(a, b sample) int { return a.at.Compare(b.at) }) {
		t.Error("the samples are not in order")
	}
}

// TestUsage expects that the history is that of status.usage, for numbers of every size.
func TestUsage(t *testing.T) {
	m := newModel()
	now := time.Unix(0, 0)
	m.now = func() time.Time { return now }
	p := newPrefix("default", "six", "2000::/3", "")
	total := new(big.Int).Lsh(big.NewInt(1), 125)
	for i, part := range []int64{0, 1, 2, 4, 0} {
		now = now.Add(time.Duration(i) * time.Second)
		used := new(big.Int).Div(new(big.Int).Mul(total, big.NewInt(part)), big.NewInt(4))
		p.Status.Usage = &v1alpha1.PrefixUsage{Total: total.String(), Used: used.String(), Allocations: part}
		m.putPrefix(p)
	}
	w := httptest.NewRecorder()
	(&api{model: m}).handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/node?in=default&name=six", nil))
	var d details
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	var values []float64
	for _, p := range d.History {
		values = append(values, p[1])
	}
	if want := []float64{0.25, 0.5, 1, 0}; !slices.Equal(values, want) {
		t.Errorf("the history is %v, want %v", values, want)
	}
}

// TestModelShrinks shows that a model does not grow with the objects that were there and have gone, also while nobody looks
// at it: children of a parent that stays, of one that goes before or after them, of one that was never there, and of
// themselves; and policies.
func TestModelShrinks(t *testing.T) {
	m := newModel()
	m.putPrefix(newPrefix("default", "root", "10.0.0.0/8", ""))
	turn := func(i int) {
		name := func(of string) string { return fmt.Sprintf("%s-%d", of, i) }
		child := newPrefix("default", name("child"), "10.0.0.0/16", "root")
		child.Labels = map[string]string{name("key"): name("value")}
		child.OwnerReferences = []metav1.OwnerReference{{Kind: "App", Name: name("app")}}
		child.Status.Usage = &v1alpha1.PrefixUsage{Total: "65536", Used: "256"}
		m.putPrefix(child)
		m.putPrefix(newPrefix("default", name("grandchild"), "10.0.0.0/24", name("child")))
		m.putPrefix(newPrefix(name("namespace"), name("orphan"), "10.0.1.0/24", name("missing")))
		m.putPrefix(newPrefix("default", name("own"), "10.0.2.0/24", name("own")))
		waits := newPrefix("default", name("waits"), "", "root")
		waits.Status.Phase, waits.Status.Conditions = v1alpha1.PrefixPhasePending, []metav1.Condition{{Type: v1alpha1.ConditionAllocated, Reason: name("Reason")}}
		m.putPrefix(waits)
		m.putPolicy(&v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: name("namespace"), Name: "policy"}})
		m.putCooling(newCooling("default", name("cooling"), "10.0.3.0/24", name("child")))
		m.drop(coolingKind, "default", name("cooling"))
		if i%2 == 0 {
			m.drop(prefixKind, "default", name("child"))
			m.drop(prefixKind, "default", name("grandchild"))
		} else {
			m.drop(prefixKind, "default", name("grandchild"))
			m.drop(prefixKind, "default", name("child"))
		}
		for _, of := range []string{"own", "waits"} {
			m.drop(prefixKind, "default", name(of))
		}
		m.drop(prefixKind, name("namespace"), name("orphan"))
		m.drop(policyKind, name("namespace"), "policy")
	}
	for i := range 20_000 {
		turn(i)
	}
	root := m.nodes[key{prefixKind, "default", "root"}]
	for what, n := range map[string]int{"nodes": len(m.nodes), "slots": len(m.byID), "shared strings": len(m.shared), "children": len(root.children),
		"histories": len(m.usage), "namespaces with policies": len(m.policies), "ranges that cool down": len(m.cooling) + len(m.cools)} {
		if limit := 4 * leastSwept; n > limit || what != "slots" && what != "shared strings" && what != "children" && n > 1 {
			t.Errorf("the model has %d %s", n, what)
		}
	}
	if m.prefixes != 1 || m.waiting != 0 || root.offspring != 0 {
		t.Errorf("%d Prefixes, %d wait, %d children", m.prefixes, m.waiting, root.offspring)
	}
	// An id is not given twice, so that what the page still asks for is not something else.
	if m.node(root.id) != root || m.node(1) != nil || m.node(m.ids-1) != nil || m.node(m.ids) != nil || m.node(-1) != nil {
		t.Error("ids are mixed up")
	}
}

// FuzzUsage shows that whatever another server writes into the status of a Prefix can be shown.
func FuzzUsage(f *testing.F) {
	for _, seed := range [][2]string{{"256", "1"}, {"Inf", "Inf"}, {"-Inf", "+Inf"}, {"NaN", "0"}, {"0", "0"}, {"1e999999999", "1"}, {"0x1p-9999999", "1"}, {"1", strings.Repeat("9", 100)},
		{"-1", "1"}, {"", " 1"}, {"1/3", "\x1b[31m"}, {"340282366920938463463374607431768211456", "340282366920938463463374607431768211456"}} {
		f.Add(seed[0], seed[1], int64(1), int32(200), "/x")
	}
	f.Fuzz(func(t *testing.T, total, used string, allocations int64, percent int32, largest string) {
		m := newModel()
		root := newPrefix("default", "root", "10.0.0.0/24", "")
		root.Status.Usage = &v1alpha1.PrefixUsage{Total: total, Used: used, Free: total, Reserved: used, Allocations: allocations, Percent: percent, LargestFree: largest}
		for range 3 {
			m.putPrefix(root)
		}
		if got := fraction(root.Status.Usage); !(got >= 0 && got <= 1) {
			t.Errorf("%q of %q is %v", used, total, got)
		}
		a := &api{model: m}
		for _, path := range []string{"tree?count=9", "map?bits=3&in=default&name=root", "map?bits=3", "node?in=default&name=root"} {
			w := httptest.NewRecorder()
			a.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/"+path, nil))
			if w.Code != http.StatusOK || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	})
}
