// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

const ns = "default"

// fixture is an index, with the requests that it woke and those whose message it wants to refresh.
type fixture struct {
	*index
	woken, refreshed []string
}

func newFixture(score ScoreFunc) *fixture {
	f := &fixture{}
	f.index = newIndex(score, func(name types.NamespacedName) { f.woken = append(f.woken, name.Name) },
		func(name types.NamespacedName, _ time.Duration) { f.refreshed = append(f.refreshed, name.Name) })
	return f
}

// takeWoken returns the requests that were woken since the last call, sorted.
func (f *fixture) takeWoken() []string {
	woken := f.woken
	f.woken = nil
	slices.Sort(woken)
	return woken
}

// takeRefreshed returns the requests whose message was to be refreshed since the last call, sorted.
func (f *fixture) takeRefreshed() []string {
	refreshed := f.refreshed
	f.refreshed = nil
	slices.Sort(refreshed)
	return refreshed
}

// waitingIn returns the sorted names of the allocations that wait in a namespace.
func (x *index) waitingIn(nsName string) []string {
	ns := x.lock(nsName)
	defer x.unlock(ns)
	var names []string
	for w := range ns.waiting() {
		names = append(names, w.name.Name)
	}
	for _, waiting := range ns.waitingForRequester {
		for w := range waiting {
			names = append(names, w.name.Name)
		}
	}
	slices.Sort(names)
	return names
}

// stopWaiting does what the scheduler does when the informer no longer has an allocation.
func (f *fixture) stopWaiting(name types.NamespacedName) { f.abandon(name) }

// parentOption modifies a Prefix.
type parentOption func(*v1alpha1.Prefix)

func isPending(p *v1alpha1.Prefix)  { p.Status.Phase = v1alpha1.PrefixPhasePending }
func isDeleting(p *v1alpha1.Prefix) { p.DeletionTimestamp = new(metav1.Now()) }

func labelled(key, value string) parentOption {
	return func(p *v1alpha1.Prefix) { p.Labels = map[string]string{key: value} }
}

// below makes a Prefix a child of another one.
func below(parent string) parentOption {
	return func(p *v1alpha1.Prefix) { p.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: parent} }
}

func uid(uid types.UID) parentOption { return func(p *v1alpha1.Prefix) { p.UID = uid } }

// prefix returns a Prefix, Allocated by default. Its uid is derived from its name.
func prefix(name, cidr string, options ...parentOption) *v1alpha1.Prefix {
	p := &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-of-" + name)},
		Spec:       v1alpha1.PrefixSpec{Prefix: cidr},
		Status:     v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated},
	}
	for _, o := range options {
		o(p)
	}
	return p
}

func (f *fixture) set(prefixes ...*v1alpha1.Prefix) {
	for _, p := range prefixes {
		f.setPrefix(p)
	}
}

func key(name string) types.NamespacedName { return types.NamespacedName{Namespace: ns, Name: name} }

// want returns a candidate. what is a prefix, or a length such as "/24" with an optional family before it. from is
// the name of a parent, or a selector such as "net=a".
func want(t testing.TB, name, what, from string) candidate {
	t.Helper()
	spec := v1alpha1.PrefixAllocationSpec{}
	switch before, bits, _ := strings.Cut(what, "/"); before {
	case "", string(v1alpha1.IPv4), string(v1alpha1.IPv6):
		spec.IPFamily = v1alpha1.IPFamily(before)
		if _, err := fmt.Sscan(bits, &spec.PrefixLength); err != nil {
			t.Fatal(err)
		}
	default:
		spec.Prefix = what
	}
	if k, value, selects := strings.Cut(from, "="); selects {
		spec.PrefixSelector = &metav1.LabelSelector{MatchLabels: map[string]string{k: value}}
	} else {
		spec.PrefixRef = &v1alpha1.LocalObjectReference{Name: from}
	}
	c, err := candidateOf(&v1alpha1.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-of-" + name)}, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// holds records that an allocation holds a prefix of a parent.
func (f *fixture) holds(name, parent, cidr string) {
	f.hold(key(name), types.UID("uid-of-"+name), key(parent), netip.MustParsePrefix(cidr))
}

func (f *fixture) gone(name string) {
	f.forget(key(name), types.UID("uid-of-"+name), ns)
}

// mustAssume assumes a place for a candidate and returns it as "prefix from parent".
func (f *fixture) mustAssume(t testing.TB, c candidate) string {
	t.Helper()
	place, why := f.assume(c)
	if why != nil {
		t.Fatalf("%s: %s: %s", c.name.Name, why.reason, why.message())
	}
	return fmt.Sprintf("%s from %s", place.prefix, place.parent.Name)
}

func TestAssume(t *testing.T) {
	full := func(f *fixture) {
		f.set(prefix("root", "10.0.0.0/31", labelled("net", "a")))
		f.holds("one", "root", "10.0.0.0/32")
		f.holds("two", "root", "10.0.0.1/32")
	}
	for _, tt := range []struct {
		name  string
		given func(f *fixture)
		want  func(t *testing.T) candidate
		// place is the expected assumption. If it is empty, a verdict is expected.
		place   string
		reason  string
		message string
		final   bool
	}{{
		name:  "by name",
		given: func(f *fixture) { f.set(prefix("root", "10.0.0.0/8"), prefix("other", "11.0.0.0/24")) },
		want:  func(t *testing.T) candidate { return want(t, "c", "/24", "root") },
		place: "10.0.0.0/24 from root",
	}, {
		name: "by selector",
		given: func(f *fixture) {
			f.set(prefix("root", "10.0.0.0/8", labelled("net", "a")), prefix("other", "11.0.0.0/8", labelled("net", "b")))
		},
		want:  func(t *testing.T) candidate { return want(t, "c", "IPv4/24", "net=a") },
		place: "10.0.0.0/24 from root",
	}, {
		name:  "exactly",
		given: func(f *fixture) { f.set(prefix("root", "10.0.0.0/8")) },
		want:  func(t *testing.T) candidate { return want(t, "c", "10.77.0.0/16", "root") },
		place: "10.77.0.0/16 from root",
	}, {
		name: "the smallest free block that fits",
		given: func(f *fixture) {
			f.set(prefix("root", "10.0.0.0/24"))
			f.holds("a", "root", "10.0.0.0/25")
			f.holds("b", "root", "10.0.0.240/28")
		},
		want:  func(t *testing.T) candidate { return want(t, "c", "/28", "root") },
		place: "10.0.0.224/28 from root",
	}, {
		name: "equal parents by name",
		given: func(f *fixture) {
			f.set(prefix("b", "11.0.0.0/8", labelled("net", "a")), prefix("a", "12.0.0.0/8", labelled("net", "a")), prefix("c", "10.0.0.0/8", labelled("net", "a")))
		},
		want:  func(t *testing.T) candidate { return want(t, "c", "IPv4/24", "net=a") },
		place: "12.0.0.0/24 from a",
	}, {
		name: "another parent if the best cannot",
		given: func(f *fixture) {
			full(f)
			f.set(prefix("wide", "11.0.0.0/8", labelled("net", "a")), prefix("v6", "2001:db8::/126", labelled("net", "a")))
		},
		want:  func(t *testing.T) candidate { return want(t, "c", "IPv4/32", "net=a") },
		place: "11.0.0.0/32 from wide",
	}, {
		name:  "any family",
		given: func(f *fixture) { f.set(prefix("v6", "2001:db8::/64")) },
		want:  func(t *testing.T) candidate { return want(t, "c", "/80", "v6") },
		place: "2001:db8::/80 from v6",
	}, {
		name:    "no such parent",
		given:   func(f *fixture) { f.set(prefix("other", "10.0.0.0/8")) },
		want:    func(t *testing.T) candidate { return want(t, "c", "/24", "root") },
		reason:  v1alpha1.ReasonParentNotFound,
		message: "Prefix root does not exist",
	}, {
		name:    "no such parent, but somebody holds by its name",
		given:   func(f *fixture) { f.holds("a", "root", "10.0.0.0/24") },
		want:    func(t *testing.T) candidate { return want(t, "c", "/24", "root") },
		reason:  v1alpha1.ReasonParentNotFound,
		message: "Prefix root does not exist",
	}, {
		name: "none matches",
		given: func(f *fixture) {
			f.set(prefix("other", "10.0.0.0/8", labelled("net", "b")))
			f.holds("a", "nobody", "10.0.0.0/24")
		},
		want:    func(t *testing.T) candidate { return want(t, "c", "IPv4/24", "net=a") },
		reason:  v1alpha1.ReasonNoMatchingParent,
		message: `No Prefix matches the selector "net=a"`,
	}, {
		name:    "too small, by name",
		given:   func(f *fixture) { f.set(prefix("root", "10.0.0.0/24")) },
		want:    func(t *testing.T) candidate { return want(t, "c", "/24", "root") },
		reason:  v1alpha1.ReasonNoSuitableParent,
		message: "root (10.0.0.0/24) is too small to hold a /24",
		final:   true,
	}, {
		name:    "too small, by selector",
		given:   func(f *fixture) { f.set(prefix("root", "10.0.0.0/24", labelled("net", "a"))) },
		want:    func(t *testing.T) candidate { return want(t, "c", "IPv4/23", "net=a") },
		reason:  v1alpha1.ReasonNoSuitableParent,
		message: "root (10.0.0.0/24) is too small to hold a /23",
	}, {
		name:    "other family",
		given:   func(f *fixture) { f.set(prefix("root", "10.0.0.0/8")) },
		want:    func(t *testing.T) candidate { return want(t, "c", "IPv6/24", "root") },
		reason:  v1alpha1.ReasonNoSuitableParent,
		message: "root (10.0.0.0/8) is IPv4, not IPv6",
		final:   true,
	}, {
		name:    "no such length in the family",
		given:   func(f *fixture) { f.set(prefix("root", "10.0.0.0/8")) },
		want:    func(t *testing.T) candidate { return want(t, "c", "/64", "root") },
		reason:  v1alpha1.ReasonNoSuitableParent,
		message: "root (10.0.0.0/8) is IPv4, which has no /64",
		final:   true,
	}, {
		name:    "elsewhere",
		given:   func(f *fixture) { f.set(prefix("root", "10.0.0.0/8")) },
		want:    func(t *testing.T) candidate { return want(t, "c", "11.0.0.0/24", "root") },
		reason:  v1alpha1.ReasonNoSuitableParent,
		message: "root (10.0.0.0/8) does not contain 11.0.0.0/24",
		final:   true,
	}, {
		name:    "parent is isPending",
		given:   func(f *fixture) { f.set(prefix("root", "", isPending)) },
		want:    func(t *testing.T) candidate { return want(t, "c", "/24", "root") },
		reason:  v1alpha1.ReasonParentNotReady,
		message: "root is not allocated yet",
	}, {
		name:    "parent is isPending, but asks for a prefix that would do",
		given:   func(f *fixture) { f.set(prefix("root", "10.0.0.0/8", isPending)) },
		want:    func(t *testing.T) candidate { return want(t, "c", "/24", "root") },
		reason:  v1alpha1.ReasonParentNotReady,
		message: "root (10.0.0.0/8) is not allocated yet",
	}, {
		name:    "parent is isPending, and asks for a prefix that will not do",
		given:   func(f *fixture) { f.set(prefix("root", "10.0.0.0/24", isPending)) },
		want:    func(t *testing.T) candidate { return want(t, "c", "/24", "root") },
		reason:  v1alpha1.ReasonNoSuitableParent,
		message: "root (10.0.0.0/24) is too small to hold a /24",
		final:   true,
	}, {
		name:    "parent is being deleted",
		given:   func(f *fixture) { f.set(prefix("root", "10.0.0.0/8", isDeleting)) },
		want:    func(t *testing.T) candidate { return want(t, "c", "/24", "root") },
		reason:  v1alpha1.ReasonParentNotReady,
		message: "root (10.0.0.0/8) is being deleted",
	}, {
		// It may be recreated with a larger range.
		name:    "parent is too small and being deleted",
		given:   func(f *fixture) { f.set(prefix("root", "10.0.0.0/24", isDeleting)) },
		want:    func(t *testing.T) candidate { return want(t, "c", "/24", "root") },
		reason:  v1alpha1.ReasonParentNotReady,
		message: "root (10.0.0.0/24) is being deleted",
	}, {
		name:    "exhausted",
		given:   full,
		want:    func(t *testing.T) candidate { return want(t, "c", "/32", "root") },
		reason:  v1alpha1.ReasonParentExhausted,
		message: "root (10.0.0.0/31) has no room for a /32: no address is free",
	}, {
		name:    "in use",
		given:   full,
		want:    func(t *testing.T) candidate { return want(t, "c", "10.0.0.1/32", "net=a") },
		reason:  v1alpha1.ReasonPrefixInUse,
		message: "root (10.0.0.0/31) has 10.0.0.1/32 in use",
	}, {
		name: "in use by an assumption",
		given: func(f *fixture) {
			f.set(prefix("root", "10.0.0.0/24"))
			if _, why := f.assume(candidate{name: key("a"), parentNamespace: ns, uid: "a", request: cidr.Request{Bits: 25}, ref: "root"}); why != nil {
				panic(why)
			}
		},
		want:    func(t *testing.T) candidate { return want(t, "c", "10.0.0.4/30", "root") },
		reason:  v1alpha1.ReasonPrefixInUse,
		message: "root (10.0.0.0/24) has 10.0.0.0/25 in use, which overlaps 10.0.0.4/30",
	}, {
		name: "the most hopeful reason, the messages of all",
		given: func(f *fixture) {
			full(f)
			f.set(prefix("isDeleting", "11.0.0.0/8", labelled("net", "a"), isDeleting), prefix("v6", "2001:db8::/32", labelled("net", "a")))
		},
		want:    func(t *testing.T) candidate { return want(t, "c", "IPv4/32", "net=a") },
		reason:  v1alpha1.ReasonParentExhausted,
		message: "root (10.0.0.0/31) has no room for a /32: no address is free; isDeleting (11.0.0.0/8) is being deleted",
	}} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(Pack)
			tt.given(f)
			c := tt.want(t)
			place, why := f.assume(c)
			if tt.place != "" {
				if why != nil {
					t.Fatalf("got verdict %+v", *why)
				}
				if got := fmt.Sprintf("%s from %s", place.prefix, place.parent.Name); got != tt.place {
					t.Errorf("got %s, want %s", got, tt.place)
				}
				if want := types.UID("uid-of-" + place.parent.Name); place.parentUID != want {
					t.Errorf("parent has uid %s, want %s", place.parentUID, want)
				}
				if waiting := f.waitingIn(ns); len(waiting) != 0 {
					t.Errorf("waiting: %v", waiting)
				}
				return
			}
			if why == nil {
				t.Fatalf("got %+v, want verdict %s", place, tt.reason)
			}
			if why.reason != tt.reason || why.message() != tt.message || why.final != tt.final {
				t.Errorf("got  %s, %s, %t\nwant %s, %s, %t", why.reason, why.message(), why.final, tt.reason, tt.message, tt.final)
			}
			// A request that failed permanently does not wait.
			if waits := slices.Contains(f.waitingIn(ns), c.name.Name); waits == tt.final {
				t.Errorf("waits: %v, final: %v", waits, tt.final)
			}
		})
	}
}

// TestWake checks which events wake a waiting candidate: those that can help it.
func TestWake(t *testing.T) {
	full := func(f *fixture) {
		f.set(prefix("root", "10.0.0.0/31", labelled("net", "a")))
		f.holds("one", "root", "10.0.0.0/32")
		f.holds("two", "root", "10.0.0.1/32")
	}
	none := func(*fixture) {}
	const wakes, refreshes, nothing = "wakes", "refreshes", ""
	for _, tt := range []struct {
		name       string
		given      func(f *fixture)
		what, from string
		event      func(f *fixture)
		// does is the effect of the event on the candidate: it wakes it if there is a place for it now, or
		// refreshes its message.
		does string
	}{
		{"named parent appears", none, "/24", "root", func(f *fixture) { f.set(prefix("root", "10.0.0.0/8")) }, wakes},
		{"another parent appears", none, "/24", "root", func(f *fixture) { f.set(prefix("other", "10.0.0.0/8")) }, nothing},
		{"matching parent appears", none, "IPv4/24", "net=a", func(f *fixture) { f.set(prefix("root", "10.0.0.0/8", labelled("net", "a"))) }, wakes},
		{"parent appears that does not match", none, "IPv4/24", "net=a", func(f *fixture) { f.set(prefix("root", "10.0.0.0/8", labelled("net", "b"))) }, nothing},
		{"parent in another namespace", none, "IPv4/24", "net=a", func(f *fixture) {
			p := prefix("root", "10.0.0.0/8", labelled("net", "a"))
			p.Namespace = "other"
			f.set(p)
		}, nothing},
		{"label appears", func(f *fixture) { f.set(prefix("root", "10.0.0.0/8")) }, "IPv4/24", "net=a",
			func(f *fixture) { f.set(prefix("root", "10.0.0.0/8", labelled("net", "a"))) }, wakes},
		{"label vanishes, so that the reason is another one", func(f *fixture) { f.set(prefix("root", "10.0.0.0/30", labelled("net", "a"))) }, "IPv4/24", "net=a",
			func(f *fixture) { f.set(prefix("root", "10.0.0.0/30")) }, refreshes},
		{"parent becomes allocated", func(f *fixture) { f.set(prefix("root", "", isPending)) }, "/24", "root",
			func(f *fixture) { f.set(prefix("root", "10.0.0.0/8")) }, wakes},
		{"parent is to be deleted", full, "/32", "root", func(f *fixture) {
			f.set(prefix("root", "10.0.0.0/31", labelled("net", "a"), isDeleting))
		}, refreshes},
		{"nothing changes", full, "/32", "root", func(f *fixture) { f.set(prefix("root", "10.0.0.0/31", labelled("net", "a"))) }, nothing},
		{"parent is gone", full, "/32", "root", func(f *fixture) { f.deletePrefix(key("root"), "uid-of-root") }, refreshes},
		{"a namesake of the parent is gone", full, "/32", "root", func(f *fixture) { f.deletePrefix(key("root"), "older") }, nothing},
		{"parent is another one", full, "/32", "root", func(f *fixture) {
			f.set(prefix("root", "10.0.0.0/31", labelled("net", "a"), uid("newer")))
		}, refreshes},
		{"sibling is gone", full, "/32", "root", func(f *fixture) { f.gone("one") }, wakes},
		{"sibling is gone, by selector", full, "IPv4/32", "net=a", func(f *fixture) { f.gone("one") }, wakes},
		{"holder is gone", full, "10.0.0.1/32", "net=a", func(f *fixture) { f.gone("two") }, wakes},
		{"another than the holder is gone", full, "10.0.0.1/32", "net=a", func(f *fixture) { f.gone("one") }, nothing},
		{"too little is gone", func(f *fixture) {
			f.set(prefix("root", "10.0.0.0/30"))
			f.holds("one", "root", "10.0.0.1/32")
			f.holds("two", "root", "10.0.0.2/32")
			f.holds("three", "root", "10.0.0.3/32")
		}, "/31", "root", func(f *fixture) { f.gone("three") }, refreshes},
		{"assumption is given up", func(f *fixture) {
			f.set(prefix("root", "10.0.0.0/24"))
			f.assume(candidate{name: key("a"), parentNamespace: ns, uid: "a", request: cidr.Request{Bits: 25}, ref: "root"})
			f.assume(candidate{name: key("b"), parentNamespace: ns, uid: "b", request: cidr.Request{Bits: 25}, ref: "root"})
		}, "/26", "root", func(f *fixture) { f.forgetAssumed(key("b")) }, wakes},
		{"assumption turns out to be elsewhere", func(f *fixture) {
			f.set(prefix("root", "10.0.0.0/24"))
			f.assume(candidate{name: key("a"), parentNamespace: ns, uid: "uid-of-a", request: cidr.Request{Bits: 26}, ref: "root"})
			f.holds("b", "root", "10.0.0.64/26")
			f.holds("d", "root", "10.0.0.192/26")
		}, "10.0.0.0/26", "root", func(f *fixture) { f.holds("a", "root", "10.0.0.128/26") }, wakes},
		{"assumption turns out to be of another parent", func(f *fixture) {
			f.set(prefix("root", "10.0.0.0/24"), prefix("other", "11.0.0.0/24"))
			f.assume(candidate{name: key("a"), parentNamespace: ns, uid: "uid-of-a", request: cidr.Request{Bits: 25}, ref: "root"})
			f.holds("b", "root", "10.0.0.128/25")
		}, "/25", "root", func(f *fixture) { f.holds("a", "other", "11.0.0.0/25") }, wakes},
		{"space of a parent that is being deleted", func(f *fixture) {
			full(f)
			f.set(prefix("root", "10.0.0.0/31", isDeleting))
		}, "/32", "root", func(f *fixture) { f.gone("one") }, nothing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(Pack)
			tt.given(f)
			c := want(t, "c", tt.what, tt.from)
			if place, why := f.assume(c); why == nil {
				t.Fatalf("does not wait, but has %+v", place)
			}
			f.takeWoken()
			f.takeRefreshed()
			tt.event(f)
			woken, does := slices.Contains(f.takeWoken(), "c"), nothing
			switch {
			case woken:
				does = wakes
			case slices.Contains(f.takeRefreshed(), "c"):
				does = refreshes
			}
			if does != tt.does {
				t.Errorf("%q, want %q", does, tt.does)
			}
			// It is either in the queue or waiting.
			if waits := slices.Contains(f.waitingIn(ns), "c"); waits == woken {
				t.Errorf("woken: %v, and waits: %v", woken, waits)
			}
		})
	}

	t.Run("what does not wait any more", func(t *testing.T) {
		f := newFixture(Pack)
		f.assume(want(t, "c", "/24", "root"))
		f.stopWaiting(key("c"))
		f.set(prefix("root", "10.0.0.0/8"))
		if woken := f.takeWoken(); len(woken) != 0 {
			t.Errorf("woken: %v", woken)
		}
	})
}

func TestAssumptions(t *testing.T) {
	given := func(t *testing.T) *fixture {
		f := newFixture(Pack)
		f.set(prefix("root", "10.0.0.0/30"))
		if got := f.mustAssume(t, want(t, "a", "/31", "root")); got != "10.0.0.0/31 from root" {
			t.Fatalf("got %s", got)
		}
		return f
	}
	t.Run("asked again", func(t *testing.T) {
		f := given(t)
		f.mustAssume(t, want(t, "b", "/31", "root"))
		// No other place is free, and no other place would be correct: the bind may have succeeded.
		if got := f.mustAssume(t, want(t, "a", "/31", "root")); got != "10.0.0.0/31 from root" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("comes true", func(t *testing.T) {
		f := given(t)
		f.holds("a", "root", "10.0.0.0/31")
		// It is confirmed, so forgetAssumed does not release it.
		f.forgetAssumed(key("a"))
		if got := f.mustAssume(t, want(t, "b", "/31", "root")); got != "10.0.0.2/31 from root" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("comes true elsewhere", func(t *testing.T) {
		f := given(t)
		f.holds("a", "root", "10.0.0.2/31")
		if got := f.mustAssume(t, want(t, "b", "/31", "root")); got != "10.0.0.0/31 from root" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("comes true at a parent that is not known yet, while its own is gone", func(t *testing.T) {
		f := given(t)
		f.deletePrefix(key("root"), "uid-of-root")
		f.holds("a", "late", "10.9.0.0/31")
		f.set(prefix("late", "10.9.0.0/30"))
		if got := f.mustAssume(t, want(t, "b", "/31", "late")); got != "10.9.0.2/31 from late" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("is given up", func(t *testing.T) {
		f := given(t)
		f.forgetAssumed(key("a"))
		f.forgetAssumed(key("a"))
		if got := f.mustAssume(t, want(t, "b", "/31", "root")); got != "10.0.0.0/31 from root" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("its allocation is gone", func(t *testing.T) {
		f := given(t)
		f.gone("a")
		if got := f.mustAssume(t, want(t, "b", "/31", "root")); got != "10.0.0.0/31 from root" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("a namesake of its allocation is gone", func(t *testing.T) {
		f := given(t)
		f.forget(key("a"), "older", ns)
		if got := f.mustAssume(t, want(t, "b", "/31", "root")); got != "10.0.0.2/31 from root" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("confirmed more than once", func(t *testing.T) {
		f := given(t)
		f.holds("a", "root", "10.0.0.0/31")
		f.holds("a", "root", "10.0.0.0/31")
		f.gone("a")
		f.gone("a")
		if got := f.mustAssume(t, want(t, "b", "/31", "root")); got != "10.0.0.0/31 from root" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("the parent is recreated", func(t *testing.T) {
		f := given(t)
		f.forgetAssumed(key("a"))
		f.deletePrefix(key("root"), "uid-of-root")
		f.set(prefix("root", "192.168.0.0/30", uid("newer")))
		place, why := f.assume(want(t, "b", "/31", "root"))
		if why != nil || place.parentUID != "newer" || place.prefix != netip.MustParsePrefix("192.168.0.0/31") {
			t.Errorf("got %+v, %v", place, why)
		}
	})
	t.Run("the parent is recreated in one event", func(t *testing.T) {
		f := given(t)
		f.forgetAssumed(key("a"))
		f.set(prefix("root", "192.168.0.0/30", uid("newer")))
		// The deletion of the old one has no further effect.
		f.deletePrefix(key("root"), "uid-of-root")
		if got := f.mustAssume(t, want(t, "b", "/31", "root")); got != "192.168.0.0/31 from root" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("the parent is recreated as it was, while something is held", func(t *testing.T) {
		f := given(t)
		f.deletePrefix(key("root"), "uid-of-root")
		f.set(prefix("root", "10.0.0.0/30", uid("newer")))
		if got := f.mustAssume(t, want(t, "b", "/31", "root")); got != "10.0.0.2/31 from root" {
			t.Errorf("got %s", got)
		}
	})
}

// TestAllocationsBeforeTheirParent delivers allocations before their parents.
func TestAllocationsBeforeTheirParent(t *testing.T) {
	f := newFixture(Pack)
	f.holds("a", "root", "10.0.0.0/31")
	f.set(prefix("root", "10.0.0.0/30"))
	if got := f.mustAssume(t, want(t, "b", "/31", "root")); got != "10.0.0.2/31 from root" {
		t.Errorf("got %s", got)
	}
	f.gone("a")
	if got := f.mustAssume(t, want(t, "c", "/31", "root")); got != "10.0.0.0/31 from root" {
		t.Errorf("got %s", got)
	}
}

// TestIndexForgets shows that the index keeps no memory for deleted objects.
func TestIndexForgets(t *testing.T) {
	f := newFixture(Pack)
	f.set(prefix("root", "10.0.0.0/8", labelled("net", "a")))
	f.mustAssume(t, want(t, "a", "/24", "root"))
	f.mustAssume(t, want(t, "b", "IPv4/24", "net=a"))
	f.holds("a", "root", "10.0.0.0/24")
	f.holds("c", "unseen", "10.0.0.0/24")
	f.assume(want(t, "d", "/24", "nowhere"))
	f.assume(want(t, "e", "IPv4/4", "net=a"))

	f.deletePrefix(key("root"), "uid-of-root")
	f.deletePrefix(key("unseen"), "uid-of-unseen")
	f.deletePrefix(types.NamespacedName{Namespace: "other", Name: "root"}, "x")
	f.forgetAssumed(key("b"))
	f.forgetAssumed(types.NamespacedName{Namespace: "other", Name: "x"})
	f.stopWaiting(types.NamespacedName{Namespace: "other", Name: "x"})
	for _, name := range []string{"a", "b", "c", "d", "e", "never"} {
		f.gone(name)
	}
	for name, left := range f.namespaces {
		t.Errorf("left over of namespace %s: %d parents, %d holders, %d pending, %d tenants",
			name, len(left.parents), len(left.holders), len(left.pending), len(left.tenants))
	}
}

func TestStrategies(t *testing.T) {
	pool := func(prefix string, taken ...string) *allocator.Pool {
		p, err := allocator.New(netip.MustParsePrefix(prefix))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range taken {
			if err := p.Take(netip.MustParsePrefix(s)); err != nil {
				t.Fatal(err)
			}
		}
		return p
	}
	for _, tt := range []struct {
		strategy      string
		better, worse *allocator.Pool
		bits          int
	}{
		{"Pack", pool("10.0.0.0/24"), pool("10.0.0.0/8"), 26},
		{"Pack", pool("10.0.0.0/8", "10.0.0.0/26"), pool("10.0.0.0/24"), 26},
		{"Pack", pool("2001:db8::/64"), pool("2001:db8::/32"), 96},
		{"Pack", pool("10.0.0.0/24"), pool("10.0.0.0/28"), 26},
		{"Spread", pool("10.0.0.0/8"), pool("10.0.0.0/24"), 26},
		{"Spread", pool("10.0.0.0/8"), pool("10.0.0.0/8", "10.0.0.0/26"), 26},
		{"Spread", pool("2001:db8::/32"), pool("10.0.0.0/8"), 26},
	} {
		score, err := ParseStrategy(tt.strategy)
		if err != nil {
			t.Fatal(err)
		}
		if !score(tt.better, tt.bits).above(score(tt.worse, tt.bits)) {
			t.Errorf("%s of a /%d: %s (%d taken) is not better than %s (%d taken)",
				tt.strategy, tt.bits, tt.better.Prefix(), tt.better.Len(), tt.worse.Prefix(), tt.worse.Len())
		}
	}
	for _, name := range []string{"", "pack", "Random"} {
		if _, err := ParseStrategy(name); err == nil {
			t.Errorf("%q is a strategy", name)
		}
	}
}

func TestCandidateOf(t *testing.T) {
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"net": "a"}}
	ref := &v1alpha1.LocalObjectReference{Name: "root"}
	matches := labels.Set{"net": "a"}
	for _, tt := range []struct {
		name string
		spec v1alpha1.PrefixAllocationSpec
		// byName and byLabel tell whether the request can be allocated from the Prefix root, and from one with the
		// label.
		byName, byLabel, invalid bool
	}{
		{"by name", v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref}, true, false, false},
		{"by selector", v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: selector}, false, true, false},
		{"by both, the name wins", v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixRef: ref, PrefixSelector: selector}, true, false, false},
		{"empty selector selects all", v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: &metav1.LabelSelector{}}, true, true, false},
		{"by nothing", v1alpha1.PrefixAllocationSpec{PrefixLength: 24}, false, false, false},
		{"no request", v1alpha1.PrefixAllocationSpec{PrefixRef: ref}, false, false, true},
		{"bad prefix", v1alpha1.PrefixAllocationSpec{Prefix: "10.0.0.0", PrefixRef: ref}, false, false, true},
		{"bad selector", v1alpha1.PrefixAllocationSpec{PrefixLength: 24, PrefixSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "net", Operator: "Like"}}}}, false, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := candidateOf(&v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "c", UID: "u"}, Spec: tt.spec})
			if (err != nil) != tt.invalid {
				t.Fatalf("error: %v", err)
			}
			if err != nil {
				return
			}
			if c.name != key("c") || c.uid != "u" {
				t.Errorf("is %+v", c)
			}
			if got := c.ref == "root" || c.selector != nil && c.selector.Matches(labels.Set(nil)); got != tt.byName {
				t.Errorf("by name: %v", got)
			}
			if got := c.selector != nil && c.selector.Matches(matches); got != tt.byLabel {
				t.Errorf("by label: %v", got)
			}
		})
	}
}

// TestManySelectors uses more selectors than the index caches, in turn, while the selected Prefixes change.
func TestManySelectors(t *testing.T) {
	f := newFixture(Pack)
	const many = maxSelections + 10
	for n := range many {
		f.set(prefix(fmt.Sprintf("parent-%d", n), fmt.Sprintf("10.0.%d.0/24", n), labelled("net", fmt.Sprint(n))))
	}
	for round := range 3 {
		for n := range many {
			place, why := f.assume(want(t, fmt.Sprintf("c-%d-%d", round, n), "IPv4/25", fmt.Sprintf("net=%d", n)))
			switch {
			case round < 2 && (why != nil || place.parent.Name != fmt.Sprintf("parent-%d", n)):
				t.Errorf("round %d, selector %d: got %+v, %+v", round, n, place, why)
			case round == 2 && (why == nil || why.reason != v1alpha1.ReasonParentExhausted):
				t.Errorf("selector %d: got %+v, %+v from a parent that is full", n, place, why)
			}
		}
	}
	if got := len(f.namespaces[ns].selections); got > maxSelections {
		t.Errorf("%d selections are remembered", got)
	}
	// Released space is found, also by a selector that was evicted meanwhile.
	f.takeWoken()
	f.gone("c-0-0")
	if got := f.takeWoken(); !slices.Equal(got, []string{"c-2-0"}) {
		t.Errorf("woken: %v", got)
	}
	if got := f.mustAssume(t, want(t, "c-2-0", "IPv4/25", "net=0")); got != "10.0.0.0/25 from parent-0" {
		t.Errorf("got %s", got)
	}
}

// TestRequesterChangesWhileWaiting removes the controller reference of an allocation that waits for its Prefix, or
// changes it to another Prefix.
func TestRequesterChangesWhileWaiting(t *testing.T) {
	for _, to := range []*requesterRef{nil, {"other", "uid-of-other"}, {"missing", "another uid"}} {
		for again, f := range map[string]func(*fixture, candidate){
			"assume":  func(f *fixture, c candidate) { f.assume(c) },
			"give up": func(f *fixture, c candidate) { f.refusedVerdict(c) },
			"forget":  func(f *fixture, c candidate) { f.forgetRefusals(c); f.assume(c) },
		} {
			x := newFixture(Pack)
			x.set(prefix("root", "10.0.0.0/8"))
			c := want(t, "a", "/24", "root")
			c.requester = &requesterRef{"missing", "uid-of-missing"}
			x.assume(c)
			c.requester = to
			f(x, c)
			x.gone("a")
			n := x.lock(ns)
			if len(n.waitingForRequester) != 0 {
				t.Errorf("%s, then %+v: %v wait for a Prefix, but are gone", again, to, n.waitingForRequester)
			}
			x.unlock(n)
		}
	}
}

// countingSelector counts its evaluations.
type countingSelector struct {
	labels.Selector
	asked *int
}

func (s countingSelector) Matches(l labels.Labels) bool {
	*s.asked++
	return s.Selector.Matches(l)
}

// TestWhatIsBelowIsServedOnce removes a label from a Prefix that has many children with the same label, while as
// many allocations wait, each with its own selector. Each pair of child and selector is evaluated a few times only,
// whatever the allocations wait for.
func TestWhatIsBelowIsServedOnce(t *testing.T) {
	for _, tt := range []struct{ name, wants string }{
		{"a prefix that is nowhere", "11.0.0.0/16"},
		{"a prefix that is in use in one of them", "10.0.7.3/32"},
		{"any prefix of a length that fits, but for which there is no room", "IPv4/25"},
		{"any prefix of a length that fits in none", "IPv4/9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const n = 400
			f := newFixture(Pack)
			f.set(prefix("root", "10.0.0.0/8", labelled("pool", "a")))
			f.holds("root-low", "root", "10.0.0.0/9")
			f.holds("root-high", "root", "10.128.0.0/9")
			for i := range n {
				name := fmt.Sprintf("child-%d", i)
				f.set(prefix(name, fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), labelled("pool", "a"), below("root")))
				f.holds(name+"-low", name, fmt.Sprintf("10.%d.%d.0/25", i/256, i%256))
				f.holds(name+"-high", name, fmt.Sprintf("10.%d.%d.128/25", i/256, i%256))
			}
			asked := 0
			for i := range n {
				c := want(t, fmt.Sprintf("waits-%d", i), tt.wants, "pool=a")
				selector, err := labels.Parse(fmt.Sprintf("pool=a,x notin (%d)", i))
				if err != nil {
					t.Fatal(err)
				}
				c.selector, c.key = countingSelector{selector, &asked}, selector.String()
				if _, why := f.assume(c); why == nil {
					t.Fatalf("%s is allocated", c.name.Name)
				}
			}
			asked = 0
			f.set(prefix("root", "10.0.0.0/8"))
			if asked < n || asked > 10*n*n {
				t.Errorf("the selectors were asked %d times, which is %d times for each pair", asked, asked/(n*n))
			}
			if got := len(f.waitingIn(ns)); got != n {
				t.Errorf("%d wait, want %d", got, n)
			}
		})
	}
}
