// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
)

// schemeVersion is the version of the API that the cluster serves.
var schemeVersion = schema.GroupVersion(v1alpha1.GroupVersion)

// cluster stands in for an API server: it answers lists, page by page, and watches, of what a test puts into it. It
// serves what a real one would refuse, such as names with markup, is cut off when a test says so, and has a million
// objects in no time.
type cluster struct {
	*httptest.Server
	encoder runtime.Encoder

	mu          sync.Mutex
	prefixes    []*v1alpha1.Prefix
	allocations []*v1alpha1.PrefixAllocation
	policies    []*v1alpha1.PrefixPolicy
	// byPrefix and byAllocated are indexes by the range. byPrefix is nil until they are needed.
	byPrefix    map[string][]*v1alpha1.Prefix
	byAllocated map[string][]*v1alpha1.PrefixAllocation
	// changes are what watches send; the revision is their number.
	changes []change
	changed chan struct{}
	// down says that the server answers nothing, and forbidden that it forbids to read PrefixAllocations.
	down, forbidden bool
	// only is the namespace that may be read. If it is empty, all may.
	only string
	stop chan struct{}
	// sent is the number of objects that lists have sent.
	sent atomic.Int64
}

// change is an event of a watch of Prefixes.
type change struct {
	Type   string           `json:"type"`
	Object *v1alpha1.Prefix `json:"object"`
}

// newCluster starts a server. It is closed at the end of the test.
func newCluster(t *testing.T) *cluster {
	proto := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	c := &cluster{encoder: scheme.Codecs.EncoderForVersion(proto, schemeVersion), changed: make(chan struct{}), stop: make(chan struct{})}
	c.Server = httptest.NewServer(c)
	t.Cleanup(func() {
		c.cut()
		c.CloseClientConnections()
		c.Close()
	})
	return c
}

// cut ends all watches, and answers nothing until mend is called.
func (c *cluster) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.down {
		c.down = true
		close(c.stop)
	}
}

// mend answers again.
func (c *cluster) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down, c.stop = false, make(chan struct{})
}

// add puts Prefixes into the cluster before it is read.
func (c *cluster) add(prefixes ...*v1alpha1.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prefixes, c.byPrefix = append(c.prefixes, prefixes...), nil
}

// index builds the indexes, before a test measures.
func (c *cluster) index() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.indexLocked()
}

func (c *cluster) indexLocked() {
	if c.byPrefix != nil {
		return
	}
	c.byPrefix, c.byAllocated = map[string][]*v1alpha1.Prefix{}, map[string][]*v1alpha1.PrefixAllocation{}
	for _, p := range c.prefixes {
		c.byPrefix[p.Spec.Prefix] = append(c.byPrefix[p.Spec.Prefix], p)
	}
	for _, a := range c.allocations {
		c.byAllocated[a.Status.Prefix] = append(c.byAllocated[a.Status.Prefix], a)
	}
}

// send puts a change into the cluster, which watches see.
func (c *cluster) send(kind string, p *v1alpha1.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	same := func(o *v1alpha1.Prefix) bool { return o.Namespace == p.Namespace && o.Name == p.Name }
	c.prefixes = slices.DeleteFunc(c.prefixes, same)
	if kind != "DELETED" {
		c.prefixes = append(c.prefixes, p)
	}
	c.byPrefix = nil
	p = p.DeepCopy()
	p.ResourceVersion = strconv.Itoa(len(c.changes) + 2)
	c.changes = append(c.changes, change{kind, p})
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	down, forbidden, stop := c.down, c.forbidden, c.stop
	c.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}
	if !strings.HasPrefix(r.URL.Path, "/apis/ipam.ironcore.dev/v1alpha1/") {
		http.NotFound(w, r)
		return
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/apis/ipam.ironcore.dev/v1alpha1/"), "/")
	kind, namespace := parts[len(parts)-1], ""
	if parts[0] == "namespaces" {
		namespace = parts[1]
	}
	if forbidden && kind == "prefixallocations" || c.only != "" && namespace != c.only {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: 403, Message: kind + " is forbidden"})
		return
	}
	if q := r.URL.Query(); q.Get("watch") != "" {
		from, _ := strconv.Atoi(q.Get("resourceVersion"))
		c.watch(w, r, kind, from, stop)
		return
	}
	c.list(w, r, kind, namespace)
}

// list answers with a page.
func (c *cluster) list(w http.ResponseWriter, r *http.Request, kind, namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	listMeta := metav1.ListMeta{ResourceVersion: strconv.Itoa(len(c.changes) + 1)}
	page := func(n int) (int, int) {
		to := min(from+limit, n)
		if to < n {
			listMeta.Continue = strconv.Itoa(to)
		}
		return from, to
	}
	// The selectors are those of the plugin: by the name of the parent, by the prefix, and by what cools down.
	selector := fields.ParseSelectorOrDie(r.URL.Query().Get("fieldSelector"))
	selects := func(parent *v1alpha1.LocalObjectReference, prefix string, cools *metav1.Time) bool {
		name, until := "", ""
		if parent != nil {
			name = parent.Name
		}
		if cools != nil {
			until = cools.String()
		}
		return selector.Matches(fields.Set{v1alpha1.FieldParentRefName: name, v1alpha1.FieldPrefixRefName: name,
			v1alpha1.FieldPrefix: prefix, v1alpha1.FieldAllocatedPrefix: prefix, v1alpha1.FieldCoolingUntil: until})
	}
	var list runtime.Object
	switch kind {
	case "prefixes":
		prefixes := c.prefixes
		if prefix, ok := selector.RequiresExactMatch(v1alpha1.FieldPrefix); ok {
			c.indexLocked()
			prefixes = c.byPrefix[prefix]
		}
		from, to := page(len(prefixes))
		l := &v1alpha1.PrefixList{}
		for _, p := range prefixes[from:to] {
			if (namespace == "" || p.Namespace == namespace) && selects(p.Spec.ParentRef, p.Spec.Prefix, nil) {
				l.Items = append(l.Items, *p)
			}
		}
		l.ListMeta = listMeta
		list = l
	case "prefixpolicies":
		from, to := page(len(c.policies))
		l := &v1alpha1.PrefixPolicyList{}
		for _, p := range c.policies[from:to] {
			l.Items = append(l.Items, *p)
		}
		l.ListMeta = listMeta
		list = l
	default:
		allocations := c.allocations
		if prefix, ok := selector.RequiresExactMatch(v1alpha1.FieldAllocatedPrefix); ok {
			c.indexLocked()
			allocations = c.byAllocated[prefix]
		}
		from, to := page(len(allocations))
		l := &v1alpha1.PrefixAllocationList{}
		for _, a := range allocations[from:to] {
			if alone := r.URL.Query().Get("labelSelector") != ""; selects(a.Spec.PrefixRef, a.Status.Prefix, a.Status.CoolingUntil) && !(alone && a.Labels[v1alpha1.RequesterUIDLabel] != "") {
				l.Items = append(l.Items, *a)
			}
		}
		l.ListMeta = listMeta
		list = l
	}
	c.sent.Add(int64(meta.LenList(list)))
	w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
	_ = c.encoder.Encode(list, w)
}

// watch sends the changes of Prefixes since a revision until the connection is cut.
func (c *cluster) watch(w http.ResponseWriter, r *http.Request, kind string, from int, stop chan struct{}) {
	w.Header().Set("Content-Type", "application/json")
	out := http.NewResponseController(w)
	_ = out.Flush()
	for at := from - 1; ; {
		c.mu.Lock()
		changes, changed := c.changes, c.changed
		c.mu.Unlock()
		for ; kind == "prefixes" && at < len(changes); at++ {
			object := changes[at]
			object.Object.APIVersion, object.Object.Kind = schemeVersion.String(), v1alpha1.PrefixKind
			if json.NewEncoder(w).Encode(object) != nil {
				return
			}
		}
		if out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-stop:
			panic(http.ErrAbortHandler)
		case <-changed:
		}
	}
}

// plan makes the Prefixes of a network for tests.
type plan struct {
	prefixes []*v1alpha1.Prefix
	now      time.Time
}

// add adds a Prefix. It is a root if parent is nil, and waits if its prefix is a length such as "/24".
func (p *plan) add(namespace, name, prefix string, parent *v1alpha1.Prefix, labels ...string) *v1alpha1.Prefix {
	o := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(fmt.Sprintf("%s-%s", namespace, name)),
		CreationTimestamp: metav1.NewTime(p.now.Add(-time.Duration(1+len(prefix)*len(name)) * time.Hour))}}
	for i := 0; i < len(labels); i += 2 {
		metav1.SetMetaDataLabel(&o.ObjectMeta, labels[i], labels[i+1])
	}
	o.Status.Phase = v1alpha1.PrefixPhaseAllocated
	if parent != nil {
		o.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: parent.Name}
	}
	if length, ok := strings.CutPrefix(prefix, "/"); ok {
		bits, _ := strconv.Atoi(length)
		o.Spec.PrefixLength, o.Status.Phase = int32(bits), v1alpha1.PrefixPhasePending
	} else {
		o.Spec.Prefix = prefix
	}
	p.prefixes = append(p.prefixes, o)
	return o
}

// waits gives a Prefix the reason why it waits.
func (p *plan) waits(o *v1alpha1.Prefix, reason, message string) {
	o.Status.Phase = v1alpha1.PrefixPhasePending
	o.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionFalse, Reason: reason, Message: message}}
}

// count sets the usage of all parents.
func (p *plan) count() []*v1alpha1.Prefix {
	type parent struct{ namespace, name string }
	children := map[parent][]netip.Prefix{}
	for _, o := range p.prefixes {
		if o.Spec.ParentRef != nil && o.Status.Phase == v1alpha1.PrefixPhaseAllocated {
			of := parent{o.Namespace, o.Spec.ParentRef.Name}
			children[of] = append(children[of], netip.MustParsePrefix(o.Spec.Prefix))
		}
	}
	for _, o := range p.prefixes {
		held := children[parent{o.Namespace, o.Name}]
		if len(held) == 0 || o.Spec.Prefix == "" {
			continue
		}
		total, used := sizeOf(netip.MustParsePrefix(o.Spec.Prefix)), new(big.Int)
		for _, c := range held {
			used.Add(used, sizeOf(c))
		}
		free := new(big.Int).Sub(total, used)
		o.Status.Usage = &v1alpha1.PrefixUsage{Total: total.String(), Used: used.String(), Free: free.String(), Allocations: int64(len(held)),
			Percent: int32(new(big.Int).Div(new(big.Int).Mul(used, big.NewInt(100)), total).Int64()), LargestFree: largestFree(netip.MustParsePrefix(o.Spec.Prefix), held)}
	}
	return p.prefixes
}

// largestFree returns the largest block that nothing holds a part of, as a length.
func largestFree(of netip.Prefix, held []netip.Prefix) string {
	blocks := []netip.Prefix{of}
	for len(blocks) > 0 {
		var halves []netip.Prefix
		for _, b := range blocks {
			inside := slices.ContainsFunc(held, func(h netip.Prefix) bool { return h.Overlaps(b) })
			if !inside {
				return fmt.Sprintf("/%d", b.Bits())
			}
			if whole := slices.ContainsFunc(held, func(h netip.Prefix) bool { return h.Bits() <= b.Bits() && h.Overlaps(b) }); !whole && b.Bits() < b.Addr().BitLen() {
				low := netip.PrefixFrom(b.Addr(), b.Bits()+1)
				halves = append(halves, low, netip.PrefixFrom(cidr.Last(b), b.Bits()+1).Masked())
			}
		}
		blocks = halves
	}
	return ""
}

func sizeOf(p netip.Prefix) *big.Int {
	return new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits()))
}

// network returns the plan of a company: three regions with sites and subnets, public addresses, IPv6, and some requests
// that wait.
func network() []*v1alpha1.Prefix {
	p := &plan{now: time.Now()}
	private := p.add("network", "private", "10.0.0.0/8", nil, "pool", "private")
	kinds := []string{"office", "servers", "storage", "voice", "lab", "guests", "printers", "cameras"}
	random := uint32(7)
	next := func(n int) int {
		random = random*1664525 + 1013904223
		return int(random>>8) % n
	}
	for _, region := range []struct {
		name, prefix string
		// sites have a length and how much of them is used, in percent.
		sites []struct {
			name         string
			length, used int
		}
	}{
		{"europe", "10.0.0.0/9", []struct {
			name         string
			length, used int
		}{{"berlin", 11, 88}, {"paris", 12, 64}, {"warsaw", 13, 93}, {"madrid", 13, 31}, {"dublin", 12, 52}, {"milan", 13, 77}, {"vienna", 14, 85}}},
		{"america", "10.128.0.0/10", []struct {
			name         string
			length, used int
		}{{"denver", 12, 71}, {"austin", 12, 45}, {"bogota", 13, 83}}},
		{"asia", "10.192.0.0/11", []struct {
			name         string
			length, used int
		}{{"osaka", 13, 90}, {"pune", 13, 58}, {"seoul", 14, 79}}},
	} {
		r := p.add("network", region.name, region.prefix, private, "region", region.name)
		second := int(netip.MustParsePrefix(region.prefix).Addr().As4()[1])
		for j, s := range region.sites {
			site := p.add("network", s.name, fmt.Sprintf("10.%d.0.0/%d", second, s.length), r, "region", region.name, "site", s.name)
			room := 1 << (24 - s.length)
			for at, n := 0, 0; at < room*s.used/100; n++ {
				size := room >> (3 + next(5))
				at = (at + size - 1) / size * size
				length := 24
				for of := size; of > 1; of /= 2 {
					length--
				}
				kind := kinds[(n+j)%len(kinds)]
				subnet := p.add("network", fmt.Sprintf("%s-%s-%d", s.name, kind, n/len(kinds)+1), fmt.Sprintf("10.%d.%d.0/%d", second+at/256, at%256, length), site, "site", s.name, "use", kind)
				for k := 0; n%3 == 1 && k < 8; k++ {
					if next(3) > 0 {
						part := at + k*max(size/8, 1)
						p.add("network", fmt.Sprintf("%s-%d", subnet.Name, k), fmt.Sprintf("10.%d.%d.%d/%d", second+part/256, part%256, k%8*32*(1-min(size/8, 1)), length+3), subnet)
					}
				}
				if at += size; next(6) == 0 {
					at += size
				}
			}
			second += max(room/256, 1)
		}
	}
	public := p.add("edge", "public", "203.0.113.0/24", nil, "pool", "public")
	for i, name := range []string{"web", "mail", "vpn", "dns"} {
		p.add("edge", name, fmt.Sprintf("203.0.113.%d/28", 16*i), public)
	}
	p.add("edge", "customers", "203.0.113.128/25", public)
	transit := p.add("edge", "transit", "198.51.100.0/24", nil)
	for i := range 64 {
		if i%9 != 4 {
			p.add("edge", fmt.Sprintf("link-%d", i), fmt.Sprintf("198.51.100.%d/31", 2*i), transit)
		}
	}
	global := p.add("network", "global", "2001:db8::/32", nil, "pool", "v6")
	for i, region := range []string{"europe", "america", "asia"} {
		r := p.add("network", region+"-v6", fmt.Sprintf("2001:db8:%x000::/36", i*2), global)
		for j := range 5 {
			site := p.add("network", fmt.Sprintf("%s-v6-site-%d", region, j+1), fmt.Sprintf("2001:db8:%x%x00::/40", i*2, j), r)
			for k := range 20 {
				p.add("network", fmt.Sprintf("%s-v6-net-%d-%d", region, j+1, k+1), fmt.Sprintf("2001:db8:%x%x%02x::/48", i*2, j, k), site)
			}
		}
	}
	p.waits(p.add("edge", "kubernetes", "/23", public), v1alpha1.ReasonNoSuitableParent, "public (203.0.113.0/24) is too small to hold a /23")
	p.waits(p.add("edge", "partner-vpn", "203.0.113.128/26", public), v1alpha1.ReasonPrefixInUse, "203.0.113.128/26 overlaps 203.0.113.128/25, which Prefix customers holds")
	p.waits(p.add("network", "datacenter", "/9", private), v1alpha1.ReasonParentExhausted, "private (10.0.0.0/8) has no room for a /9: 7340032 addresses are free, the largest block is a /10")
	all := p.count()
	// A policy reserves a part of what is free.
	private.Status.Usage.LargestFree = "/12"
	return all
}

// released returns the PrefixAllocations of children of the network that were deleted, and whose space cools down.
func released() []*v1alpha1.PrefixAllocation {
	var all []*v1alpha1.PrefixAllocation
	yes := true
	for _, of := range [][4]string{{"edge", "fax", "203.0.113.96/28", "public"}, {"network", "asia-lab", "10.216.0.0/13", "asia"}} {
		a := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: of[0], Name: of[1] + "-1", Labels: map[string]string{v1alpha1.RequesterUIDLabel: of[1]},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: schemeVersion.String(), Kind: v1alpha1.PrefixKind, Name: of[1], UID: types.UID(of[1]), Controller: &yes}}}}
		a.Spec.PrefixRef = &v1alpha1.LocalObjectReference{Name: of[3]}
		a.Status.Phase, a.Status.Prefix = v1alpha1.PrefixAllocationPhaseAllocated, of[2]
		a.Status.CoolingUntil = &metav1.Time{Time: time.Now().Add(24 * time.Hour)}
		all = append(all, a)
	}
	return all
}

// rules returns policies for the network.
func rules() []*v1alpha1.PrefixPolicy {
	reserve := func(namespace, name, label, value string, reserved ...v1alpha1.PrefixReservation) *v1alpha1.PrefixPolicy {
		return &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: v1alpha1.PrefixPolicySpec{PrefixSelector: &metav1.LabelSelector{MatchLabels: map[string]string{label: value}}, Reserved: reserved}}
	}
	frozen, small := reserve("network", "frozen", "site", "warsaw"), reserve("edge", "small", "pool", "public")
	frozen.Spec.Closed = true
	small.Spec.ChildLengths = &v1alpha1.PrefixChildLengths{Min: 28, Max: 30}
	return []*v1alpha1.PrefixPolicy{
		frozen, small,
		reserve("network", "growth", "pool", "private", v1alpha1.PrefixReservation{CIDR: "10.240.0.0/12", Reason: "the next region"}),
		reserve("network", "berlin-lab", "site", "berlin", v1alpha1.PrefixReservation{CIDR: "10.24.0.0/14", Reason: "the lab that moves in"}),
		reserve("network", "europe", "region", "europe", v1alpha1.PrefixReservation{From: "10.112.0.0", To: "10.119.255.255"}),
		reserve("edge", "routers", "pool", "public", v1alpha1.PrefixReservation{CIDR: "203.0.113.64/28", Reason: "routers"}),
	}
}
