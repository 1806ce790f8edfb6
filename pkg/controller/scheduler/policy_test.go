// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// rules returns a policy for the Prefixes with the label net=value, or for all if the value is empty.
func rules(name, value string, reserved ...v1alpha1.PrefixReservation) *v1alpha1.PrefixPolicy {
	p := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-of-" + name), Generation: 1}}
	p.Spec.PrefixSelector, p.Spec.Reserved = &metav1.LabelSelector{}, reserved
	if value != "" {
		p.Spec.PrefixSelector.MatchLabels = map[string]string{"net": value}
	}
	return p
}

// changed returns a newer version of a policy with other reserved space.
func changed(p *v1alpha1.PrefixPolicy, reserved ...v1alpha1.PrefixReservation) *v1alpha1.PrefixPolicy {
	p = p.DeepCopy()
	p.Generation++
	p.Spec.Reserved = reserved
	return p
}

var (
	lowerHalf = v1alpha1.PrefixReservation{CIDR: "10.0.0.0/25"}
	gateways  = v1alpha1.PrefixReservation{From: "10.0.0.250", To: "10.0.0.254"}
	edges     = v1alpha1.PrefixReservation{Edges: true}
)

// outcome returns the prefix that a request would get, or the reason why it gets none.
func (f *fixture) outcome(t *testing.T, what, from string) string {
	t.Helper()
	c := want(t, "probe", what, from)
	place, why := f.assume(c)
	f.abandon(c.name)
	if why != nil {
		return why.reason
	}
	return place.prefix.String()
}

// TestReservedSpace has a row for each thing that reserved space meets. The parent is 10.0.0.0/24, labelled net=a.
func TestReservedSpace(t *testing.T) {
	all := v1alpha1.PrefixReservation{CIDR: "10.0.0.0/16"}
	for name, test := range map[string]struct {
		policies []*v1alpha1.PrefixPolicy
		// held are prefixes in use.
		held       []string
		what, want string
	}{
		"not chosen":                   {[]*v1alpha1.PrefixPolicy{rules("a", "a", lowerHalf)}, nil, "/28", "10.0.0.128/28"},
		"asked for exactly":            {[]*v1alpha1.PrefixPolicy{rules("a", "a", lowerHalf)}, nil, "10.0.0.0/28", "10.0.0.0/28"},
		"exactly all of it":            {[]*v1alpha1.PrefixPolicy{rules("a", "a", lowerHalf)}, nil, "10.0.0.0/25", "10.0.0.0/25"},
		"exactly, and in use":          {[]*v1alpha1.PrefixPolicy{rules("a", "a", lowerHalf)}, []string{"10.0.0.0/28"}, "10.0.0.0/28", "PrefixInUse"},
		"in use before":                {[]*v1alpha1.PrefixPolicy{rules("a", "a", lowerHalf)}, []string{"10.0.0.0/28", "10.0.0.128/26"}, "/26", "10.0.0.192/26"},
		"edges":                        {[]*v1alpha1.PrefixPolicy{rules("a", "a", edges)}, nil, "/32", "10.0.0.1/32"},
		"edges, exactly":               {[]*v1alpha1.PrefixPolicy{rules("a", "a", edges)}, nil, "10.0.0.255/32", "10.0.0.255/32"},
		"a range":                      {[]*v1alpha1.PrefixPolicy{rules("a", "a", gateways)}, []string{"10.0.0.0/25", "10.0.0.128/26", "10.0.0.192/27", "10.0.0.224/28", "10.0.0.240/29", "10.0.0.248/31"}, "/32", "10.0.0.255/32"},
		"only reserved is left":        {[]*v1alpha1.PrefixPolicy{rules("a", "a", lowerHalf)}, []string{"10.0.0.128/25"}, "/28", "Reserved"},
		"too large for what is left":   {[]*v1alpha1.PrefixPolicy{rules("a", "a", gateways)}, []string{"10.0.0.0/25"}, "/25", "Reserved"},
		"nothing is left":              {[]*v1alpha1.PrefixPolicy{rules("a", "a", lowerHalf)}, []string{"10.0.0.0/25", "10.0.0.128/25"}, "/28", "ParentExhausted"},
		"all is reserved":              {[]*v1alpha1.PrefixPolicy{rules("a", "a", all)}, nil, "/28", "Reserved"},
		"all is reserved, exactly":     {[]*v1alpha1.PrefixPolicy{rules("a", "a", all)}, nil, "10.0.0.16/28", "10.0.0.16/28"},
		"two policies":                 {[]*v1alpha1.PrefixPolicy{rules("a", "a", lowerHalf), rules("b", "", v1alpha1.PrefixReservation{CIDR: "10.0.0.96/27"}, v1alpha1.PrefixReservation{CIDR: "10.0.0.128/26"})}, nil, "/28", "10.0.0.192/28"},
		"for others":                   {[]*v1alpha1.PrefixPolicy{rules("a", "b", lowerHalf)}, nil, "/28", "10.0.0.0/28"},
		"of the other family":          {[]*v1alpha1.PrefixPolicy{rules("a", "a", v1alpha1.PrefixReservation{CIDR: "2001:db8::/32"})}, nil, "/28", "10.0.0.0/28"},
		"elsewhere":                    {[]*v1alpha1.PrefixPolicy{rules("a", "a", v1alpha1.PrefixReservation{CIDR: "10.0.1.0/24"})}, nil, "/28", "10.0.0.0/28"},
		"what the server would refuse": {[]*v1alpha1.PrefixPolicy{rules("a", "a", v1alpha1.PrefixReservation{CIDR: "bad"}, v1alpha1.PrefixReservation{From: "10.0.0.9", To: "10.0.0.1"}, lowerHalf)}, nil, "/28", "10.0.0.128/28"},
	} {
		t.Run(name, func(t *testing.T) {
			// The order of the events makes no difference.
			events := []func(*fixture){
				func(f *fixture) { f.set(prefix("root", "10.0.0.0/24", labelled("net", "a"))) },
				func(f *fixture) {
					for i, held := range test.held {
						f.holds(fmt.Sprintf("held-%d", i), "root", held)
					}
				},
				func(f *fixture) {
					for _, policy := range test.policies {
						f.setPolicy(policy)
					}
				},
			}
			for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
				f := newFixture(Pack)
				for _, i := range order {
					events[i](f)
					// The pool is made at the first use.
					_ = f.outcome(t, "/28", "root")
				}
				if got := f.outcome(t, test.what, "root"); got != test.want {
					t.Errorf("order %v: %s, not %s", order, got, test.want)
				}
			}
		})
	}
}

// with changes the spec of a policy.
func with(p *v1alpha1.PrefixPolicy, change func(*v1alpha1.PrefixPolicySpec)) *v1alpha1.PrefixPolicy {
	change(&p.Spec)
	return p
}

func isClosed(spec *v1alpha1.PrefixPolicySpec) { spec.Closed = true }

func lengths(low, high int32) func(*v1alpha1.PrefixPolicySpec) {
	return func(spec *v1alpha1.PrefixPolicySpec) {
		spec.ChildLengths = &v1alpha1.PrefixChildLengths{Min: low, Max: high}
	}
}

func strategy(s v1alpha1.PrefixStrategy) func(*v1alpha1.PrefixPolicySpec) {
	return func(spec *v1alpha1.PrefixPolicySpec) { spec.Strategy = s }
}

// TestPolicyPairs has a row for each two rules that touch, and for two policies. The parent is 10.0.0.0/24, in which
// 10.0.0.0/28 is in use.
func TestPolicyPairs(t *testing.T) {
	policies := func(changes ...func(*v1alpha1.PrefixPolicySpec)) (all []*v1alpha1.PrefixPolicy) {
		for i, change := range changes {
			p := with(rules(fmt.Sprintf("p%d", i), ""), change)
			p.CreationTimestamp = metav1.Unix(int64(i), 0)
			all = append(all, p)
		}
		return all
	}
	both := func(changes ...func(*v1alpha1.PrefixPolicySpec)) func(*v1alpha1.PrefixPolicySpec) {
		return func(spec *v1alpha1.PrefixPolicySpec) {
			for _, change := range changes {
				change(spec)
			}
		}
	}
	reserves := func(spec *v1alpha1.PrefixPolicySpec) { spec.Reserved = []v1alpha1.PrefixReservation{lowerHalf} }
	for name, test := range map[string]struct {
		policies   []*v1alpha1.PrefixPolicy
		what, want string
	}{
		"closed":                         {policies(isClosed), "/28", "ParentClosed"},
		"closed, exactly":                {policies(isClosed), "10.0.0.64/28", "ParentClosed"},
		"closed and reserved":            {policies(both(isClosed, reserves)), "/28", "ParentClosed"},
		"closed and reserved, exactly":   {policies(both(isClosed, reserves)), "10.0.0.64/28", "ParentClosed"},
		"one of two is closed":           {policies(isClosed, func(*v1alpha1.PrefixPolicySpec) {}), "/28", "ParentClosed"},
		"closed, and of no length":       {policies(both(isClosed, lengths(29, 32))), "/28", "LengthNotAllowed"},
		"closed, and too large":          {policies(isClosed), "/24", "NoSuitableParent"},
		"shorter":                        {policies(lengths(27, 28)), "/26", "LengthNotAllowed"},
		"longer":                         {policies(lengths(27, 28)), "/29", "LengthNotAllowed"},
		"the shortest":                   {policies(lengths(27, 28)), "/27", "10.0.0.32/27"},
		"the longest":                    {policies(lengths(27, 28)), "/28", "10.0.0.16/28"},
		"exactly, of no length":          {policies(lengths(27, 28)), "10.0.0.64/29", "LengthNotAllowed"},
		"exactly, of a length":           {policies(lengths(27, 28)), "10.0.0.64/27", "10.0.0.64/27"},
		"both allow":                     {policies(lengths(24, 28), lengths(28, 32)), "/28", "10.0.0.16/28"},
		"one of two allows":              {policies(lengths(24, 27), lengths(28, 32)), "/28", "LengthNotAllowed"},
		"of a length, only reserved":     {policies(both(lengths(25, 28), reserves)), "10.0.0.128/25", "10.0.0.128/25"},
		"of a length, in reserved space": {policies(both(lengths(29, 32), reserves)), "10.0.0.64/28", "LengthNotAllowed"},
		"Pack":                           {policies(strategy("Pack")), "/28", "10.0.0.16/28"},
		"Spread":                         {policies(strategy("Spread")), "/28", "10.0.0.128/28"},
		"Spread and reserved": {policies(both(strategy("Spread"), func(spec *v1alpha1.PrefixPolicySpec) {
			spec.Reserved = []v1alpha1.PrefixReservation{{CIDR: "10.0.0.128/26"}}
		})), "/28", "10.0.0.64/28"},
		"Random and reserved": {policies(both(strategy("Random"), func(spec *v1alpha1.PrefixPolicySpec) {
			spec.Reserved = []v1alpha1.PrefixReservation{lowerHalf, {CIDR: "10.0.0.128/26"}, {CIDR: "10.0.0.192/27"}}
		})), "/27", "10.0.0.224/27"},
		"the oldest strategy":  {policies(strategy("Spread"), strategy("Pack")), "/28", "10.0.0.128/28"},
		"one has a strategy":   {policies(func(*v1alpha1.PrefixPolicySpec) {}, strategy("Spread")), "/28", "10.0.0.128/28"},
		"strategy and exactly": {policies(strategy("Random")), "10.0.0.64/28", "10.0.0.64/28"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(Pack)
			f.set(prefix("root", "10.0.0.0/24"))
			f.holds("other", "root", "10.0.0.0/28")
			for _, policy := range test.policies {
				f.setPolicy(policy)
			}
			if got := f.outcome(t, test.what, "root"); got != test.want {
				t.Errorf("%s, not %s", got, test.want)
			}
			// Who waits is served when the rules are gone, if there is room.
			c := want(t, "c", test.what, "root")
			if _, why := f.assume(c); why == nil || why.final {
				return
			}
			f.takeWoken()
			for _, policy := range test.policies {
				f.deletePolicy(key(policy.Name), policy.UID)
			}
			if !slices.Equal(f.takeWoken(), []string{"c"}) {
				t.Error("not woken")
			}
		})
	}
}

// TestPolicyWords has what a child is told.
func TestPolicyWords(t *testing.T) {
	f := newFixture(Pack)
	f.set(prefix("root", "10.0.0.0/24"), prefix("other", "10.0.1.0/24", labelled("net", "a")))
	f.setPolicy(with(rules("p", ""), lengths(26, 28)))
	f.setPolicy(with(rules("q", "a"), isClosed))
	for what, want := range map[string]string{
		"/29": "root (10.0.0.0/24) is no parent for a /29: its PrefixPolicy allows only prefixes from /26 to /28",
		"/28": "other (10.0.1.0/24) is closed: its PrefixPolicy allows nothing new",
	} {
		parent := "root"
		if strings.HasPrefix(want, "other") {
			parent = "other"
		}
		if _, why := f.assume(wants(t, what, parent)); why == nil || why.message() != want || why.final {
			t.Errorf("%s: %+v", what, why)
		}
	}
}

func wants(t *testing.T, what, from string) candidate { return want(t, "words"+from, what, from) }

// TestPolicyAmongParents chooses among parents by the strategy of the oldest policy.
func TestPolicyAmongParents(t *testing.T) {
	f := newFixture(Pack)
	f.set(prefix("a", "10.0.0.0/24", labelled("net", "a")), prefix("b", "10.0.1.0/24", labelled("net", "a")))
	f.holds("other", "a", "10.0.0.0/25")
	if got := f.outcome(t, "/28", "net=a"); got != "10.0.0.128/28" {
		t.Fatalf("%s does not pack", got)
	}
	f.setPolicy(with(rules("p", ""), strategy("Spread")))
	if got := f.outcome(t, "/28", "net=a"); got != "10.0.1.0/28" {
		t.Fatalf("%s does not spread", got)
	}
	random := with(rules("p", ""), strategy("Random"))
	random.Generation = 2
	f.setPolicy(random)
	found := map[string]bool{}
	for range 200 {
		found[f.outcome(t, "/28", "net=a")] = true
	}
	if len(found) < 12 {
		t.Errorf("found %v", found)
	}
	// A parent that is closed is no candidate, and the other one still is.
	f.setPolicy(with(rules("q", ""), func(spec *v1alpha1.PrefixPolicySpec) {
		spec.PrefixSelector.MatchLabels = map[string]string{"closed": "yes"}
		spec.Closed = true
	}))
	f.set(prefix("b", "10.0.1.0/24", func(p *v1alpha1.Prefix) { p.Labels = map[string]string{"net": "a", "closed": "yes"} }))
	for range 20 {
		if got := f.outcome(t, "/28", "net=a"); !strings.HasPrefix(got, "10.0.0.") {
			t.Fatalf("%s is of a closed parent", got)
		}
	}
}

// TestPolicyWakes changes what is reserved, in each way that there is, under a request that waits for it.
func TestPolicyWakes(t *testing.T) {
	policy := rules("p", "a", lowerHalf)
	for name, change := range map[string]func(*fixture){
		"deleted":       func(f *fixture) { f.deletePolicy(key("p"), policy.UID) },
		"reserves less": func(f *fixture) { f.setPolicy(changed(policy, edges)) },
		"selects others": func(f *fixture) {
			p := changed(policy, lowerHalf)
			p.Spec.PrefixSelector.MatchLabels["net"] = "b"
			f.setPolicy(p)
		},
		"another label":      func(f *fixture) { f.set(prefix("root", "10.0.0.0/24", labelled("net", "b"))) },
		"made anew, smaller": func(f *fixture) { p := rules("p", "a", edges); p.UID = "another"; f.setPolicy(p) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(Pack)
			f.set(prefix("root", "10.0.0.0/24", labelled("net", "a")))
			f.setPolicy(policy)
			f.holds("other", "root", "10.0.0.128/25")
			c := want(t, "c", "/28", "root")
			_, why := f.assume(c)
			if why == nil || why.reason != v1alpha1.ReasonReserved || why.final ||
				why.message() != "root (10.0.0.0/24) has no room for a /28 outside of reserved space: no address is free" {
				t.Fatalf("%+v", why)
			}
			f.takeWoken()
			// The deletion of a former policy of the name changes nothing, nor does an event without a change.
			f.deletePolicy(key("p"), "before")
			f.setPolicy(policy)
			if woken := f.takeWoken(); len(woken) > 0 {
				t.Fatalf("woken for nothing: %s", woken)
			}
			if change(f); !slices.Equal(f.takeWoken(), []string{"c"}) {
				t.Fatal("not woken")
			}
			if got := f.mustAssume(t, c); !strings.HasPrefix(got, "10.0.0.") {
				t.Error(got)
			}
		})
	}
}

// TestPolicyRefreshes has messages made anew that a policy made wrong.
func TestPolicyRefreshes(t *testing.T) {
	f := newFixture(Pack)
	f.set(prefix("root", "10.0.0.0/24"))
	f.holds("other", "root", "10.0.0.128/25")
	if _, why := f.assume(want(t, "c", "/24", "root")); why == nil {
		t.Fatal("it fits")
	}
	if _, why := f.assume(want(t, "d", "/25", "root")); why != nil {
		t.Fatal(why)
	}
	f.gone("d")
	f.setPolicy(rules("p", "", v1alpha1.PrefixReservation{CIDR: "10.0.0.0/26"}))
	_, why := f.assume(want(t, "d", "/25", "root"))
	if why == nil || why.reason != v1alpha1.ReasonReserved {
		t.Fatalf("%+v", why)
	}
	f.takeRefreshed()
	// Who takes the reserved space leaves no hope.
	f.holds("exactly", "root", "10.0.0.0/26")
	if got := f.takeRefreshed(); !slices.Contains(got, "d") {
		t.Errorf("made anew: %s", got)
	}
	if _, why := f.assume(want(t, "d", "/25", "root")); why == nil || why.reason != v1alpha1.ReasonParentExhausted {
		t.Fatalf("%+v", why)
	}
	f.takeRefreshed()
	f.gone("exactly")
	if got := f.takeRefreshed(); !slices.Contains(got, "d") {
		t.Errorf("made anew: %s", got)
	}
}

// TestPolicyBestFit chooses the parent by what is not reserved.
func TestPolicyBestFit(t *testing.T) {
	f := newFixture(Pack)
	f.set(prefix("a", "10.0.0.0/24", labelled("net", "a")), prefix("b", "10.0.1.0/24", labelled("net", "a")))
	if got := f.outcome(t, "/28", "net=a"); got != "10.0.0.0/28" {
		t.Fatal(got)
	}
	f.setPolicy(rules("p", "", v1alpha1.PrefixReservation{CIDR: "10.0.1.0/25"}))
	if got := f.outcome(t, "/28", "net=a"); got != "10.0.1.128/28" {
		t.Errorf("%s does not pack", got)
	}
	if got := f.outcome(t, "/25", "net=a"); got != "10.0.1.128/25" {
		t.Errorf("%s does not pack", got)
	}
}

// TestPolicyNamespaceDropped keeps policies, and nothing else, of a namespace without Prefixes.
func TestPolicyNamespaceDropped(t *testing.T) {
	f := newFixture(Pack)
	f.setPolicy(rules("p", "", edges))
	if len(f.namespaces) != 1 {
		t.Fatal("the policy is forgotten")
	}
	f.set(prefix("root", "10.0.0.0/24"))
	f.deletePrefix(key("root"), "uid-of-root")
	f.deletePolicy(key("p"), "uid-of-p")
	if len(f.namespaces) != 0 {
		t.Error("the namespace is kept")
	}
}

// TestManyReservedRanges reserves 10,000 ranges of a /8. Nothing is tried and refused: a place is found at once.
func TestManyReservedRanges(t *testing.T) {
	f := newFixture(Pack)
	f.set(prefix("root", "10.0.0.0/8"))
	var reserved []v1alpha1.PrefixReservation
	for i := range 10_000 {
		reserved = append(reserved, v1alpha1.PrefixReservation{
			From: netip.AddrFrom4([4]byte{10, 0, byte(i / 64), byte(i%64*4 + 1)}).String(),
			To:   netip.AddrFrom4([4]byte{10, 0, byte(i / 64), byte(i%64*4 + 2)}).String()})
	}
	f.setPolicy(rules("p", "", reserved...))
	var all []netip.Prefix
	for _, r := range reserved {
		all = slices.AppendSeq(all, cidr.Cover(netip.MustParseAddr(r.From), netip.MustParseAddr(r.To)))
	}
	for i := range 100 {
		place, why := f.assume(want(t, fmt.Sprintf("c%d", i), "/31", "root"))
		if why != nil {
			t.Fatal(why.message())
		}
		if i := slices.IndexFunc(all, place.prefix.Overlaps); i >= 0 {
			t.Fatalf("%s is reserved: %s", place.prefix, all[i])
		}
	}
}

// TestReservedExcess has many roots with one large range, and a policy that reserves very much of each. Not all of their pools
// are kept, and each is right when it is used again.
func TestReservedExcess(t *testing.T) {
	f := newFixture(Pack)
	var reserved []v1alpha1.PrefixReservation
	for i := range 10_000 {
		reserved = append(reserved, v1alpha1.PrefixReservation{CIDR: netip.AddrFrom4([4]byte{10, 0, byte(i / 128), byte(i % 128 * 2)}).String() + "/32"})
	}
	const roots = 30
	for i := range roots {
		name := fmt.Sprintf("root-%02d", i)
		f.set(prefix(name, "10.0.0.0/8", labelled("net", "a")))
		f.holds("of-"+name, name, "10.0.0.1/32")
	}
	f.setPolicy(rules("p", "", reserved...))
	check := func() {
		t.Helper()
		space := f.namespaces[ns]
		sum, pools := 0, 0
		for _, p := range space.parents {
			if pool := p.ledger.Pool(); pool != nil {
				sum, pools = sum+pool.ReservedExcess(), pools+1
			}
		}
		if sum != space.excess.sum || sum > maxExcess || pools >= roots || pools < 10 {
			t.Fatalf("%d pools with %d reserved prefixes, and %d are counted", pools, sum, space.excess.sum)
		}
	}
	for i := range roots {
		if got := f.outcome(t, "/32", fmt.Sprintf("root-%02d", i)); got != "10.0.0.3/32" {
			t.Fatal(got)
		}
	}
	check()
	if got := f.outcome(t, "/31", "net=a"); got != "10.0.78.32/31" {
		t.Fatal(got)
	}
	check()
	for i := range roots {
		f.gone(fmt.Sprintf("of-root-%02d", i))
		f.deletePrefix(key(fmt.Sprintf("root-%02d", i)), types.UID(fmt.Sprintf("uid-of-root-%02d", i)))
	}
	if space := f.namespaces[ns]; space.excess.sum != 0 || len(space.excess.parents) != 0 {
		t.Errorf("%d are counted of nothing", space.excess.sum)
	}
}
