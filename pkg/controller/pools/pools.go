// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package pools provides the metrics of pools: of the Prefixes that are roots or have children. It computes them from the
// caches of the informers when they are scraped.
//
// Users create Prefixes, so their number has no bound. The number of series has one: see Config.
package pools

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	informers "github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"
)

// The names of the indexes that are added to the informer of Prefixes. The key is the namespace.
const (
	// poolIndex has the Prefixes that are pools.
	poolIndex = "pool"
	// pendingIndex has the children that are not Allocated.
	pendingIndex = "pendingChild"
)

// DefaultLimit is the default of Config.Limit.
const DefaultLimit = 1000

// Config is what the metrics are computed from.
type Config struct {
	// Limit is the maximum number of pools that have series of their own, and of namespaces whose Pending children have.
	// Each namespace gets an equal share of it, and the rest goes to those that need more. Within a namespace the oldest
	// pools have series. So nobody who creates many Prefixes takes the series of others.
	Limit int
	// Waiting returns the number of requests that wait for each Prefix of a namespace, by its name and by reason. It may
	// be nil.
	Waiting func(namespace string) map[string]map[string]int
}

// Collector computes the metrics.
type Collector struct {
	config   Config
	prefixes cache.Indexer
	synced   cache.InformerSynced
}

// New returns a collector. It adds indexes to the informer, which must not have been started.
func New(prefixes informers.PrefixInformer, config Config) (*Collector, error) {
	informer := prefixes.Informer()
	by := func(includes func(*v1alpha1.Prefix) bool) cache.IndexFunc {
		return func(obj any) ([]string, error) {
			if prefix := obj.(*v1alpha1.Prefix); includes(prefix) {
				return []string{prefix.Namespace}, nil
			}
			return nil, nil
		}
	}
	if err := informer.AddIndexers(cache.Indexers{poolIndex: by(isPool), pendingIndex: by(isPendingChild)}); err != nil {
		return nil, err
	}
	return &Collector{config: config, prefixes: informer.GetIndexer(), synced: informer.HasSynced}, nil
}

// isPool reports whether a Prefix is an allocated root, or a child that has children.
func isPool(prefix *v1alpha1.Prefix) bool {
	return prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated &&
		(prefix.Spec.IsRoot() || prefix.Status.Usage != nil && prefix.Status.Usage.Allocations > 0)
}

func isPendingChild(prefix *v1alpha1.Prefix) bool {
	return prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated && !prefix.Spec.IsRoot() && prefix.DeletionTimestamp == nil
}

// current is the collector whose metrics are served. Several managers can run in one process, one after the other.
var current atomic.Pointer[Collector]

// Run serves the metrics until the context ends.
func (c *Collector) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), c.synced) {
		return nil
	}
	current.Store(c)
	<-ctx.Done()
	current.CompareAndSwap(c, nil)
	return nil
}

// pool is what is exposed of a pool.
type pool struct {
	namespace, name, cidr, family, parent string
	// used, free, reserved and cooling are numbers of addresses. largest is the number of addresses in the largest free block.
	used, free, reserved, cooling, largest float64
	children                               int64
	waiting                                map[string]int
}

// pools returns the pools that have series, and the number of those that have none.
func (c *Collector) pools() (exposed []pool, omitted int) {
	oldest := map[string][]*v1alpha1.Prefix{}
	for _, namespace := range c.prefixes.ListIndexFuncValues(poolIndex) {
		var of []*v1alpha1.Prefix
		for _, prefix := range observe.ByIndex[*v1alpha1.Prefix](c.prefixes, poolIndex, namespace) {
			// Keep the oldest ones only, because there may be very many.
			at, _ := slices.BinarySearchFunc(of, prefix, byAge)
			switch {
			case len(of) < c.config.Limit:
				of = slices.Insert(of, at, prefix)
			case at < len(of):
				copy(of[at+1:], of[at:])
				of[at] = prefix
				omitted++
			default:
				omitted++
			}
		}
		oldest[namespace] = of
	}
	chosen, left := share(oldest, c.config.Limit)
	for namespace, prefixes := range chosen {
		var waiting map[string]map[string]int
		if c.config.Waiting != nil {
			waiting = c.config.Waiting(namespace)
		}
		for _, prefix := range prefixes {
			if p, ok := poolOf(prefix); ok {
				p.waiting = waiting[prefix.Name]
				exposed = append(exposed, p)
			}
		}
	}
	return exposed, omitted + left
}

// byAge orders Prefixes from the oldest to the newest one.
func byAge(a, b *v1alpha1.Prefix) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
}

// share returns at most limit Prefixes, and how many are left. It takes the first one of each namespace, then the second
// one, and so on. If not all namespaces of a round get one, those with the oldest Prefixes do.
func share(of map[string][]*v1alpha1.Prefix, limit int) (chosen map[string][]*v1alpha1.Prefix, left int) {
	all := 0
	var namespaces []string
	for namespace, prefixes := range of {
		all += len(prefixes)
		namespaces = append(namespaces, namespace)
	}
	left = max(0, all-limit)
	chosen = map[string][]*v1alpha1.Prefix{}
	for round := 0; limit > 0; round++ {
		namespaces = slices.DeleteFunc(namespaces, func(namespace string) bool { return len(of[namespace]) <= round })
		if len(namespaces) == 0 {
			break
		}
		if len(namespaces) > limit {
			slices.SortFunc(namespaces, func(a, b string) int {
				return cmp.Or(byAge(of[a][round], of[b][round]), strings.Compare(a, b))
			})
			namespaces = namespaces[:limit]
		}
		for _, namespace := range namespaces {
			chosen[namespace] = append(chosen[namespace], of[namespace][round])
		}
		limit -= len(namespaces)
	}
	return chosen, left
}

// poolOf returns what is exposed of a Prefix. ok is false if its prefix is not valid.
func poolOf(prefix *v1alpha1.Prefix) (p pool, ok bool) {
	parsed, err := cidr.ParseStored(prefix.Spec.Prefix)
	if err != nil {
		return pool{}, false
	}
	p = pool{namespace: prefix.Namespace, name: prefix.Name, cidr: parsed.String(), family: cidr.FamilyOf(parsed)}
	if prefix.Spec.ParentRef != nil {
		p.parent = prefix.Spec.ParentRef.Name
	}
	bits := parsed.Addr().BitLen()
	usage := prefix.Status.Usage
	if usage == nil {
		// Nothing was ever allocated from it.
		p.free = math.Ldexp(1, bits-parsed.Bits())
		p.largest = p.free
		return p, true
	}
	p.used, p.free, p.reserved, p.cooling = number(usage.Used), number(usage.Free), number(usage.Reserved), number(usage.Cooling)
	p.children = usage.Allocations
	if length, err := strconv.Atoi(strings.TrimPrefix(usage.LargestFree, "/")); err == nil && length >= 0 && length <= bits {
		p.largest = math.Ldexp(1, bits-length)
	}
	return p, true
}

// number returns the value of a decimal string, or 0 if it is not one. Others than the controller may write the status.
func number(decimal string) float64 {
	value, err := strconv.ParseFloat(decimal, 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
		return 0
	}
	return value
}

// others stands for the namespaces above the limit. No namespace has such a name.
const others = "(others)"

// otherReason stands for reasons that no controller of this module writes. Others may write conditions, too.
const otherReason = "Other"

// reasons are the reasons why a child is Pending.
var reasons = []string{
	v1alpha1.ReasonPending, v1alpha1.ReasonNoMatchingParent, v1alpha1.ReasonNoSuitableParent, v1alpha1.ReasonParentExhausted,
	v1alpha1.ReasonReserved, v1alpha1.ReasonLengthNotAllowed, v1alpha1.ReasonParentClosed, v1alpha1.ReasonParentNotFound,
	v1alpha1.ReasonParentNotReady, v1alpha1.ReasonPrefixInUse, v1alpha1.ReasonRefused, v1alpha1.ReasonRequesterNotFound,
	v1alpha1.ReasonInvalidRequest, v1alpha1.ReasonNotShared,
}

// reasonOf returns why a child is Pending.
func reasonOf(prefix *v1alpha1.Prefix) string {
	condition := meta.FindStatusCondition(prefix.Status.Conditions, v1alpha1.ConditionAllocated)
	switch {
	case condition == nil:
		return v1alpha1.ReasonPending
	case slices.Contains(reasons, condition.Reason):
		return condition.Reason
	}
	return otherReason
}

// pending is what is exposed of the Pending children of a namespace with one reason.
type pending struct {
	count  int
	oldest time.Time
}

// add adds the children of another one.
func (p *pending) add(other *pending) {
	if p.count == 0 || other.oldest.Before(p.oldest) {
		p.oldest = other.oldest
	}
	p.count += other.count
}

// pending returns the Pending children by namespace and reason.
func (c *Collector) pending() map[string]map[string]*pending {
	all := map[string]map[string]*pending{}
	oldest := map[string]time.Time{}
	var namespaces []string
	for _, namespace := range c.prefixes.ListIndexFuncValues(pendingIndex) {
		var sum pending
		byReason := map[string]*pending{}
		for _, child := range observe.ByIndex[*v1alpha1.Prefix](c.prefixes, pendingIndex, namespace) {
			one := &pending{1, child.CreationTimestamp.Time}
			reason := reasonOf(child)
			if byReason[reason] == nil {
				byReason[reason] = &pending{}
			}
			byReason[reason].add(one)
			sum.add(one)
		}
		if sum.count > 0 {
			namespaces = append(namespaces, namespace)
			all[namespace], oldest[namespace] = byReason, sum.oldest
		}
	}
	if len(namespaces) <= c.config.Limit {
		return all
	}
	slices.SortFunc(namespaces, func(a, b string) int { return cmp.Or(oldest[a].Compare(oldest[b]), strings.Compare(a, b)) })
	rest := map[string]*pending{}
	for _, namespace := range namespaces[c.config.Limit:] {
		for reason, p := range all[namespace] {
			if rest[reason] == nil {
				rest[reason] = &pending{}
			}
			rest[reason].add(p)
		}
		delete(all, namespace)
	}
	all[others] = rest
	return all
}
