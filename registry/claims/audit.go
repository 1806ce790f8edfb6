// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/storage"
)

// DifferenceKind is the kind of a Difference.
type DifferenceKind string

const (
	// Overlap means that two allocations of one parent overlap.
	Overlap DifferenceKind = "Overlap"
	// OutsideParent means that an allocation is not strictly inside its parent.
	OutsideParent DifferenceKind = "OutsideParent"
	// ParentMissing means that the parent of an allocation does not exist.
	ParentMissing DifferenceKind = "ParentMissing"
	// AllocationWithoutClaim means that there is no claim of an allocation.
	AllocationWithoutClaim DifferenceKind = "AllocationWithoutClaim"
	// ClaimWithoutAllocation means that there is no allocation of a claim.
	ClaimWithoutAllocation DifferenceKind = "ClaimWithoutAllocation"
	// ChildDiffers means that no allocation holds what an allocated child says it has.
	ChildDiffers DifferenceKind = "ChildDiffers"
)

// DifferenceKinds are all kinds.
var DifferenceKinds = []DifferenceKind{Overlap, OutsideParent, ParentMissing, AllocationWithoutClaim, ClaimWithoutAllocation, ChildDiffers}

// Difference is where objects and claims are not what they should be.
type Difference struct {
	Kind DifferenceKind `json:"kind"`
	// Namespace and Name are of the Prefix in a ChildDiffers, else of the PrefixAllocation.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Parent is the name of the parent, or its uid where only that is known.
	Parent string `json:"parent"`
	// Prefix is what is held, in CIDR notation.
	Prefix string `json:"prefix"`
	// Message says in words what is wrong.
	Message string `json:"message"`

	uid      types.UID
	claimKey string
}

// snapshot is everything there is, at one revision of etcd.
type snapshot struct {
	revision    int64
	prefixes    []ipam.Prefix
	allocations []ipam.PrefixAllocation
	claims      []claimEntry
}

// claimEntry is a claim with its key.
type claimEntry struct {
	claim
	key         string
	modRevision int64
	parent      types.UID
	prefix      netip.Prefix
}

// pageSize is how many keys are read at a time.
const pageSize = 1000

// read reads everything at one revision.
func (c *Claims) read(ctx context.Context) (*snapshot, error) {
	s := &snapshot{}
	all := c.keyspace.all()
	for start := all.start; ; {
		response, err := c.kv.Get(ctx, start, clientv3.WithRange(all.end), clientv3.WithLimit(pageSize), clientv3.WithRev(s.revision))
		if err != nil {
			return nil, err
		}
		if s.revision == 0 {
			s.revision = response.Header.Revision
		}
		for _, kv := range response.Kvs {
			entry := claimEntry{key: string(kv.Key), modRevision: kv.ModRevision}
			if entry.parent, entry.prefix, err = c.keyspace.parse(entry.key); err != nil {
				return nil, err
			}
			if entry.claim, err = decodeClaim(kv.Value); err != nil {
				return nil, fmt.Errorf("%s: %w", entry.key, err)
			}
			s.claims = append(s.claims, entry)
		}
		if !response.More {
			break
		}
		start = string(response.Kvs[len(response.Kvs)-1].Key) + "\x00"
	}

	err := listAt(ctx, c.prefixes, s.revision, func() runtime.Object { return &ipam.PrefixList{} }, func(list runtime.Object) string {
		page := list.(*ipam.PrefixList)
		s.prefixes = append(s.prefixes, page.Items...)
		return page.Continue
	})
	if err != nil {
		return nil, err
	}
	return s, listAt(ctx, c.allocations, s.revision, func() runtime.Object { return &ipam.PrefixAllocationList{} }, func(list runtime.Object) string {
		page := list.(*ipam.PrefixAllocationList)
		s.allocations = append(s.allocations, page.Items...)
		return page.Continue
	})
}

// listAt lists the objects of a kind at a revision, page by page.
func listAt(ctx context.Context, o objects, revision int64, newList func() runtime.Object, take func(runtime.Object) (next string)) error {
	predicate := storage.Everything
	predicate.Limit = pageSize
	options := storage.ListOptions{
		ResourceVersion:      strconv.FormatInt(revision, 10),
		ResourceVersionMatch: metav1.ResourceVersionMatchExact,
		Recursive:            true,
	}
	for {
		options.Predicate = predicate
		list := newList()
		if err := o.raw.GetList(ctx, o.resourcePrefix, options, list); err != nil {
			return err
		}
		if predicate.Continue = take(list); predicate.Continue == "" {
			return nil
		}
		// The revision is in the continue token.
		options.ResourceVersion, options.ResourceVersionMatch = "", ""
	}
}

// Audit tells every difference between objects and claims, all read at one revision. It changes
// nothing.
func (c *Claims) Audit(ctx context.Context) ([]Difference, error) {
	s, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	return s.differences(c.keyspace), nil
}

// differences compares objects and claims.
func (s *snapshot) differences(keys keyspace) []Difference {
	var differences []Difference

	prefixes := map[types.NamespacedName]*ipam.Prefix{}
	exists := map[types.UID]bool{}
	for i := range s.prefixes {
		p := &s.prefixes[i]
		prefixes[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
		exists[p.UID] = true
	}
	claims := map[string]*claimEntry{}
	for i := range s.claims {
		claims[s.claims[i].key] = &s.claims[i]
	}

	// claimed are the keys at which each allocation should have a claim. Of one whose parent is
	// missing only the prefix is known.
	claimed := map[types.UID]string{}
	orphaned := map[types.UID]netip.Prefix{}
	// byParent are the allocations of each parent, byOwner those of each child.
	byParent := map[types.NamespacedName][]part{}
	byOwner := map[types.UID][]part{}
	for i := range s.allocations {
		a := &s.allocations[i]
		parentName, prefix, ok := allocated(a)
		if !ok {
			continue
		}
		found := func(kind DifferenceKind, format string, args ...any) {
			differences = append(differences, Difference{
				Kind: kind, Namespace: a.Namespace, Name: a.Name, Parent: parentName, Prefix: prefix.String(),
				Message: fmt.Sprintf(format, args...), uid: a.UID,
			})
		}
		p := part{prefix, a}
		if h := holderOf(a); h.Owner != nil {
			byOwner[h.Owner.UID] = append(byOwner[h.Owner.UID], p)
		}
		name := types.NamespacedName{Namespace: a.Namespace, Name: parentName}
		byParent[name] = append(byParent[name], p)

		parent := prefixes[name]
		if parent == nil {
			found(ParentMissing, "Prefix %s does not exist", parentName)
			orphaned[a.UID] = prefix
			continue
		}
		if whole, err := netip.ParsePrefix(parent.Spec.Prefix); err != nil || prefix.Bits() <= whole.Bits() || !whole.Contains(prefix.Addr()) {
			found(OutsideParent, "%s is not strictly inside %s of Prefix %s", prefix, parent.Spec.Prefix, parentName)
		}
		key := keys.claim(parent.UID, prefix)
		claimed[a.UID] = key
		if entry := claims[key]; entry == nil || entry.find(a.UID) == nil {
			found(AllocationWithoutClaim, "there is no claim to %s of Prefix %s", prefix, parentName)
		}
	}

	for name, parts := range byParent {
		for _, pair := range overlaps(parts) {
			differences = append(differences, Difference{
				Kind: Overlap, Namespace: pair[1].Namespace, Name: pair[1].Name, Parent: name.Name, Prefix: pair[1].prefix.String(),
				Message: fmt.Sprintf("%s overlaps %s, which PrefixAllocation %s holds", pair[1].prefix, pair[0].prefix, pair[0].Name),
				uid:     pair[1].UID,
			})
		}
	}

	for _, entry := range s.claims {
		holders := entry.Holders
		if len(holders) == 0 {
			holders = []holder{{}}
		}
		for _, h := range holders {
			if claimed[h.UID] == entry.key || orphaned[h.UID] == entry.prefix && !exists[entry.parent] {
				continue
			}
			differences = append(differences, Difference{
				Kind: ClaimWithoutAllocation, Namespace: h.Namespace, Name: h.Name, Parent: string(entry.parent), Prefix: entry.prefix.String(),
				Message: fmt.Sprintf("no PrefixAllocation with uid %s holds %s of the Prefix with uid %s", h.UID, entry.prefix, entry.parent),
				uid:     h.UID, claimKey: entry.key,
			})
		}
	}

	for i := range s.prefixes {
		child := &s.prefixes[i]
		if child.Status.Phase != ipam.PrefixPhaseAllocated || child.Spec.IsRoot() {
			continue
		}
		parentName := ""
		if child.Spec.ParentRef != nil {
			parentName = child.Spec.ParentRef.Name
		}
		stands := slices.ContainsFunc(byOwner[child.UID], func(p part) bool {
			return p.Namespace == child.Namespace && p.Spec.PrefixRef.Name == parentName && samePrefix(p.Status.Prefix, child.Spec.Prefix)
		})
		if !stands {
			differences = append(differences, Difference{
				Kind: ChildDiffers, Namespace: child.Namespace, Name: child.Name, Parent: parentName, Prefix: child.Spec.Prefix,
				Message: fmt.Sprintf("no PrefixAllocation of it holds %q of Prefix %q", child.Spec.Prefix, parentName),
				uid:     child.UID,
			})
		}
	}

	slices.SortFunc(differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Parent, b.Parent),
			cmp.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Name, b.Name), cmp.Compare(a.uid, b.uid))
	})
	return differences
}

// part is what an allocation holds of its parent.
type part struct {
	prefix netip.Prefix
	*ipam.PrefixAllocation
}

// overlaps returns every part that overlaps one before it, each with one that it overlaps.
func overlaps(parts []part) [][2]part {
	// By address, the larger first, and the older first of equals: it has the better right.
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
	var pairs [][2]part
	for i, last := 1, 0; i < len(parts); i++ {
		// Prefixes nest or are disjoint, so it is enough to look at the last one that none contains.
		if parts[last].prefix.Overlaps(parts[i].prefix) {
			pairs = append(pairs, [2]part{parts[last], parts[i]})
		} else {
			last = i
		}
	}
	return pairs
}
