// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/claimstest"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/store"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/ptr"
)

// paging is a store whose lists are compared with those of a naive reader.
type paging struct {
	*server
	random *rand.Rand
	// there contains the names of the existing Prefixes, by namespace.
	there map[string][]string
	made  int
	// first is the revision before the first write.
	first int64
}

func newPaging(t *testing.T, s *server, seed uint64) *paging {
	t.Helper()
	waitReady(t, s)
	return &paging{server: s, random: rand.New(rand.NewPCG(seed, 1)), there: map[string][]string{}, first: s.revision(t)}
}

// waitReady waits until the watch caches are ready.
func waitReady(t *testing.T, s *server) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		return s.rawPrefixes().ReadinessCheck() == nil && s.rawAllocations().ReadinessCheck() == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// write creates, updates or deletes a random Prefix.
func (p *paging) write(t *testing.T) {
	t.Helper()
	namespace := fmt.Sprint("list-", p.random.IntN(3))
	ctx := withNamespace(t.Context(), namespace)
	names := p.there[namespace]
	what := p.random.IntN(10)
	if len(names) < 5 {
		what = 0
	}
	labels := map[string]string{"color": []string{"red", "green", "blue"}[p.random.IntN(3)]}
	switch {
	case what < 5:
		p.made++
		// The order of the names is not that of the creation.
		name := fmt.Sprintf("p-%x-%d", p.random.IntN(16), p.made)
		prefix := &ipam.Prefix{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		prefix.Spec = ipam.PrefixSpec{IPFamily: ipam.IPv4, PrefixLength: 24, ParentRef: &ipam.LocalObjectReference{Name: fmt.Sprint("parent-", p.random.IntN(3))}}
		if _, err := p.prefixes.Main.Create(ctx, prefix, rest.ValidateAllObjectFunc, &metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		p.there[namespace] = append(names, name)
	case what < 8:
		if _, err := p.updatePrefix(ctx, names[p.random.IntN(len(names))], func(p *ipam.Prefix) { p.Labels = labels }); err != nil {
			t.Fatal(err)
		}
	default:
		i := p.random.IntN(len(names))
		if err := p.end(ctx, names[i]); err != nil {
			t.Fatal(err)
		}
		p.there[namespace] = slices.Delete(names, i, i+1)
	}
}

// naive returns the Prefixes that a list selects, read from etcd at a revision.
func (p *paging) naive(t *testing.T, namespace string, options *internalversion.ListOptions, revision int64) []ipam.Prefix {
	t.Helper()
	start := p.prefix + "/ipam.ironcore.dev/prefixes/"
	if namespace != "" {
		start += namespace + "/"
	}
	response, err := p.etcd.KV.Get(t.Context(), start, clientv3.WithPrefix(), clientv3.WithRev(revision))
	if err != nil {
		t.Fatal(err)
	}
	var selected []ipam.Prefix
	for _, kv := range response.Kvs {
		data, _, err := p.transformer.TransformFromStorage(t.Context(), kv.Value, authenticatedData(kv.Key))
		if err != nil {
			t.Fatal(err)
		}
		obj, err := runtime.Decode(codec, data)
		if err != nil {
			t.Fatal(err)
		}
		prefix := obj.(*ipam.Prefix)
		prefix.ResourceVersion = strconv.FormatInt(kv.ModRevision, 10)
		if options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(prefix.Labels)) {
			continue
		}
		if options.FieldSelector != nil {
			set := fields.Set{"metadata.name": prefix.Name, "metadata.namespace": prefix.Namespace, "spec.parentRef.name": prefix.Spec.ParentRef.Name}
			if !options.FieldSelector.Matches(set) {
				continue
			}
		}
		selected = append(selected, *prefix)
	}
	return selected
}

// authenticatedData is the additional authenticated data of an encrypted object.
type authenticatedData string

func (d authenticatedData) AuthenticatedData() []byte { return []byte(d) }

// query returns a random list request without a resource version.
func (p *paging) query(t *testing.T) (namespace string, options *internalversion.ListOptions) {
	t.Helper()
	options = &internalversion.ListOptions{}
	if p.random.IntN(2) == 0 {
		namespace = fmt.Sprint("list-", p.random.IntN(3))
	}
	selector := []string{"", "color=red", "color!=blue", "color in (green, blue)", "color=none"}[p.random.IntN(5)]
	options.LabelSelector, _ = labels.Parse(selector)
	options.FieldSelector = fields.ParseSelectorOrDie([]string{"", "", "spec.parentRef.name=parent-1", "spec.parentRef.name!=parent-0", "metadata.namespace=list-1"}[p.random.IntN(5)])
	if p.random.IntN(4) > 0 {
		options.Limit = 1 + p.random.Int64N(9)
	}
	return namespace, options
}

// list reads all pages of a list, with writes between the pages. It returns all items and the resource version.
func (p *paging) list(t *testing.T, namespace string, options *internalversion.ListOptions) ([]ipam.Prefix, string, error) {
	t.Helper()
	var all []ipam.Prefix
	version, limit := "", int(options.Limit)
	page := *options
	remaining := int64(-1)
	for {
		obj, err := p.prefixes.Main.List(withNamespace(t.Context(), namespace), &page)
		if err != nil {
			return all, version, err
		}
		list := obj.(*ipam.PrefixList)
		if page.Continue != "" && version != "" && p.random.IntN(3) == 0 {
			// The objects that were read ahead have been consumed: a page that is requested again is read again, as
			// are the following ones.
			obj, err := p.prefixes.Main.List(withNamespace(t.Context(), namespace), &page)
			if err != nil {
				t.Fatal(err)
			}
			// Whether the last page has a token for another, empty page depends on how many objects are read at a
			// time.
			again := obj.(*ipam.PrefixList)
			if !equality.Semantic.DeepEqual(again.Items, list.Items) || again.ResourceVersion != list.ResourceVersion {
				t.Fatalf("%s: a page is %v, and %v when it is asked for again", describe(options), list, again)
			}
		}
		if version != "" && list.ResourceVersion != version {
			t.Errorf("%s: pages have the resource versions %s and %s", describe(options), version, list.ResourceVersion)
		}
		version = list.ResourceVersion
		all = append(all, list.Items...)
		if remaining >= 0 && int64(len(list.Items))+ptr.Deref(list.RemainingItemCount, 0) != remaining {
			t.Errorf("%s: %d items and %v, of %d that were said to remain", describe(options), len(list.Items), list.RemainingItemCount, remaining)
		}
		if limit > 0 && options.ResourceVersion != "0" && (len(list.Items) > limit || list.Continue != "" && len(list.Items) < limit) {
			t.Errorf("%s: a page has %d items", describe(options), len(list.Items))
		}
		selects := !options.LabelSelector.Empty() || !options.FieldSelector.Empty()
		if list.Continue == "" {
			return all, version, nil
		}
		if (list.RemainingItemCount == nil) != selects {
			t.Errorf("%s: remainingItemCount is %v", describe(options), list.RemainingItemCount)
		} else if !selects {
			remaining = *list.RemainingItemCount
		}
		for range p.random.IntN(3) {
			p.write(t)
		}
		page = internalversion.ListOptions{
			LabelSelector: options.LabelSelector, FieldSelector: options.FieldSelector, Limit: options.Limit, Continue: list.Continue,
		}
	}
}

// TestListsComeFromTheWatchCache compares random lists, with and without pages, at any resource version, with the
// objects in etcd at the resource version of the list. Writes happen between the pages. No list reads a range of
// etcd.
func TestListsComeFromTheWatchCache(t *testing.T) {
	etcd := claimstest.RunEtcd(t)
	for v, ahead := range map[variant]int64{{cached: true}: 10_000, {cached: true, encrypted: true}: 12} {
		t.Run(fmt.Sprintf("%s, %d ahead", v, ahead), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			p := newPaging(t, newServer(t, etcd, v, func(c *store.Config) { c.ReadAhead = ahead }), seed)
			for range 60 {
				p.write(t)
			}
			p.tamper.takeRanges()
			lists, pages := 0, 0
			for range 150 {
				p.write(t)
				namespace, options := p.query(t)
				now := p.revision(t)
				least, most := now, int64(1<<62)
				switch p.random.IntN(6) {
				case 0:
					options.ResourceVersion, least = "0", 0
				case 1:
					least = max(p.first, now-50) + 1 + p.random.Int64N(min(50, now-p.first))
					options.ResourceVersion, options.ResourceVersionMatch = strconv.FormatInt(least, 10), metav1.ResourceVersionMatchNotOlderThan
				case 2:
					least = max(p.first, now-50) + 1 + p.random.Int64N(min(50, now-p.first))
					options.ResourceVersion, options.ResourceVersionMatch = strconv.FormatInt(least, 10), metav1.ResourceVersionMatchExact
					most = least
				case 3:
					least = max(p.first, now-50) + 1 + p.random.Int64N(min(50, now-p.first))
					options.ResourceVersion = strconv.FormatInt(least, 10)
					if options.Limit > 0 {
						most = least
					}
				}
				got, version, err := p.list(t, namespace, options)
				if err != nil {
					t.Fatalf("%s %s: %v", namespace, describe(options), err)
				}
				revision, err := strconv.ParseInt(version, 10, 64)
				if err != nil || revision < least || revision > most {
					t.Errorf("%s %s: resource version %s, not %d to %d", namespace, describe(options), version, least, most)
				}
				want := p.naive(t, namespace, options, revision)
				if len(got) != len(want) || len(want) > 0 && !equality.Semantic.DeepEqual(got, want) {
					t.Fatalf("%s %s at %s: got %v, want %v", namespace, describe(options), version, namesOf(got), namesOf(want))
				}
				lists++
				if options.Limit > 0 && len(got) > int(options.Limit) {
					pages++
				}
			}
			p.readNone(t)
			if pages < lists/10 {
				t.Errorf("%d of %d lists had several pages, which is too few", pages, lists)
			}
		})
	}
}

// describe formats the options of a list.
func describe(options *internalversion.ListOptions) string {
	return fmt.Sprintf("labels %q, fields %q, limit %d, resourceVersion %q %q", options.LabelSelector, options.FieldSelector,
		options.Limit, options.ResourceVersion, options.ResourceVersionMatch)
}

// readNone fails the test if a range of objects was read from etcd since the last takeRanges, or if etcd had to
// count keys.
func (s *server) readNone(t *testing.T) {
	t.Helper()
	ranges, counted := s.tamper.takeRanges()
	ranges = slices.DeleteFunc(ranges, func(key string) bool { return strings.HasPrefix(key, s.prefix+"/claims/") })
	if len(ranges) > 0 {
		t.Errorf("%d ranges of objects were read: %q", len(ranges), ranges[:min(5, len(ranges))])
	}
	if len(counted) > 0 {
		t.Errorf("%d reads made etcd count: %q", len(counted), counted[:min(5, len(counted))])
	}
}

func namesOf(prefixes []ipam.Prefix) []string {
	var names []string
	for _, p := range prefixes {
		names = append(names, p.Namespace+"/"+p.Name+"@"+p.ResourceVersion)
	}
	return names
}

// TestListsThatAreTooOld continues lists on a server that was started after they began, and requests resource
// versions from before its start. The error has a token for the rest of the current list, or asks for a new list.
// No range of etcd is read.
func TestListsThatAreTooOld(t *testing.T) {
	t.Parallel()
	etcd := claimstest.RunEtcd(t)
	old := newPaging(t, newServer(t, etcd, variant{cached: true}), 1)
	for range 40 {
		old.write(t)
	}
	ctx := withNamespace(t.Context(), "")
	first := must[runtime.Object](t)(old.prefixes.Main.List(ctx, &internalversion.ListOptions{Limit: 7})).(*ipam.PrefixList)
	for range 20 {
		old.write(t)
	}
	young := newServerAt(t, etcd, variant{cached: true}, old.prefix)
	waitReady(t, young)
	// The server fills its watch caches from streams without a limit, and so without pages.
	if ranges, counted := young.tamper.takeRanges(); len(ranges) < 2 || len(counted) > 0 {
		t.Errorf("the start read the ranges %q, and made etcd count for %q", ranges, counted)
	}

	for name, options := range map[string]*internalversion.ListOptions{
		"exact":  {ResourceVersion: first.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact},
		"legacy": {ResourceVersion: first.ResourceVersion, Limit: 3},
	} {
		if _, err := young.prefixes.Main.List(ctx, options); !apierrors.IsResourceExpired(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := young.prefixes.Main.List(ctx, &internalversion.ListOptions{Limit: 7, Continue: first.Continue})
	status, ok := err.(apierrors.APIStatus)
	if !apierrors.IsResourceExpired(err) || !ok || status.Status().Continue == "" {
		t.Fatalf("continuing: %v", err)
	}
	// The rest is a list of its own, at the current resource version.
	rest, _, err := (&paging{server: young, random: old.random, there: old.there, made: old.made}).list(t, "", &internalversion.ListOptions{
		LabelSelector: labels.Everything(), FieldSelector: fields.Everything(), Limit: 7, Continue: status.Status().Continue,
	})
	if err != nil {
		t.Fatal(err)
	}
	last := first.Items[len(first.Items)-1]
	for _, prefix := range rest {
		if prefix.Namespace < last.Namespace || prefix.Namespace == last.Namespace && prefix.Name <= last.Name {
			t.Errorf("the rest after %s/%s has %s/%s", last.Namespace, last.Name, prefix.Namespace, prefix.Name)
		}
	}
	if len(rest) < 10 {
		t.Errorf("the rest has %d items", len(rest))
	}
	young.readNone(t)
	for _, token := range []string{"nonsense", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi9hIn0"} {
		if _, err := young.prefixes.Main.List(ctx, &internalversion.ListOptions{Limit: 7, Continue: token}); !apierrors.IsBadRequest(err) {
			t.Errorf("token %s: %v", token, err)
		}
	}
}
