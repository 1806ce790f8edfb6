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
	"strings"
	"time"
	"unique"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
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

// survey is what has to be known of everything there is, at one revision of etcd, to tell the differences. It is
// as little as possible, since there may be very much.
type survey struct {
	keys        keyspace
	prefixes    []whole
	allocations []part
	// byName are the Prefixes.
	byName map[types.NamespacedName]int32
	// byUID and byOwner are the first of the allocations with a uid and with an owner; one leads to the next.
	byUID, byOwner map[types.UID]int32
	// exist are the uids of the Prefixes, once somebody asks.
	exist map[types.UID]bool
	// strays are the claims, by key, of which some holder holds nothing, and found tells which.
	strays map[string]claimEntry
	found  []Difference
}

// none is the index of nothing.
const none = -1

// whole is what has to be known of a Prefix.
type whole struct {
	namespace, name string
	uid             types.UID
	// prefix is what is in the spec.
	prefix string
	// parent is the name in the parentRef, if there is one.
	parent string
	// allocated is set on an allocated child.
	allocated bool
}

// part is what has to be known of an allocation: what it holds, and of which Prefix.
type part struct {
	holder
	parent string
	prefix netip.Prefix
	// created is when it was, in seconds since 1970, and revision that of etcd.
	created, revision int64
	// of is the index of the parent, and nextOfUID and nextOfOwner those of other parts.
	of, nextOfUID, nextOfOwner int32
	// claimed tells that it has its claim.
	claimed bool
}

// claimEntry is a claim with its key.
type claimEntry struct {
	claim
	key         string
	modRevision int64
	parent      types.UID
	prefix      netip.Prefix
}

func newSurvey(keys keyspace) *survey {
	return &survey{
		keys: keys, byName: map[types.NamespacedName]int32{}, byUID: map[types.UID]int32{}, byOwner: map[types.UID]int32{},
		strays: map[string]claimEntry{},
	}
}

// compact puts strings next to each other in a place of their own. What they are a part of stays in memory with them
// otherwise, and is all that an object says.
func compact(all ...*string) {
	var b strings.Builder
	for _, s := range all {
		b.WriteString(*s)
	}
	rest := b.String()
	for _, s := range all {
		*s, rest = rest[:len(*s)], rest[len(*s):]
	}
}

// shared returns a string that does not take memory for each object that has it.
func shared(s string) string { return unique.Make(s).Value() }

// takePrefix takes in a Prefix.
func (s *survey) takePrefix(p *ipam.Prefix) {
	w := wholeOf(p)
	s.byName[types.NamespacedName{Namespace: w.namespace, Name: w.name}] = int32(len(s.prefixes))
	s.prefixes = append(s.prefixes, w)
}

// wholeOf returns what has to be known of a Prefix.
func wholeOf(p *ipam.Prefix) whole {
	w := whole{
		namespace: shared(p.Namespace), name: p.Name, uid: p.UID, prefix: p.Spec.Prefix,
		allocated: p.Status.Phase == ipam.PrefixPhaseAllocated && !p.Spec.IsRoot(),
	}
	if p.Spec.ParentRef != nil {
		w.parent = shared(p.Spec.ParentRef.Name)
	}
	compact(&w.name, (*string)(&w.uid), &w.prefix)
	return w
}

// takeAllocation takes in a PrefixAllocation, if it holds something.
func (s *survey) takeAllocation(a *ipam.PrefixAllocation) error {
	p, ok, err := partOf(a)
	if err != nil || !ok {
		return err
	}
	at := int32(len(s.allocations))
	before := func(index map[types.UID]int32, uid types.UID) int32 {
		defer func() { index[uid] = at }()
		if i, ok := index[uid]; ok {
			return i
		}
		return none
	}
	p.nextOfUID = before(s.byUID, p.UID)
	if p.Owner != nil {
		p.nextOfOwner = before(s.byOwner, p.Owner.UID)
	}
	s.allocations = append(s.allocations, p)
	return nil
}

// partOf returns what has to be known of an allocation that holds something.
func partOf(a *ipam.PrefixAllocation) (p part, ok bool, err error) {
	parent, prefix, ok := allocated(a)
	if !ok {
		return part{}, false, nil
	}
	p = part{holder: holderOf(a), parent: shared(parent), prefix: prefix, created: a.CreationTimestamp.Unix(), of: none, nextOfUID: none, nextOfOwner: none}
	p.Namespace = shared(p.Namespace)
	if p.Owner == nil {
		compact(&p.Name, (*string)(&p.UID))
	} else {
		compact(&p.Name, (*string)(&p.UID), &p.Owner.Name, (*string)(&p.Owner.UID))
	}
	if a.ResourceVersion != "" {
		p.revision, err = strconv.ParseInt(a.ResourceVersion, 10, 64)
	}
	return p, true, err
}

// resolve finds the parents, when all objects have been taken in.
func (s *survey) resolve() {
	for i := range s.allocations {
		a := &s.allocations[i]
		if at, ok := s.byName[types.NamespacedName{Namespace: a.Namespace, Name: a.parent}]; ok {
			a.of = at
		}
	}
}

// takeClaim takes in a claim, when the parents are known.
func (s *survey) takeClaim(entry claimEntry) {
	holders := entry.Holders
	if len(holders) == 0 {
		holders = []holder{{}}
	}
	for _, h := range holders {
		if s.holds(h.UID, entry) {
			continue
		}
		s.strays[entry.key] = entry
		s.found = append(s.found, Difference{
			Kind: ClaimWithoutAllocation, Namespace: h.Namespace, Name: h.Name, Parent: string(entry.parent), Prefix: entry.prefix.String(),
			Message: fmt.Sprintf("no PrefixAllocation with uid %s holds %s of the Prefix with uid %s", h.UID, entry.prefix, entry.parent),
			uid:     h.UID, claimKey: entry.key,
		})
	}
}

// holds tells whether an allocation holds what a claim is to. Of one whose parent is missing only the prefix is
// known.
func (s *survey) holds(uid types.UID, entry claimEntry) bool {
	first, ok := s.byUID[uid]
	if !ok {
		return false
	}
	holds := false
	for i := first; i != none; i = s.allocations[i].nextOfUID {
		a := &s.allocations[i]
		switch {
		case a.prefix != entry.prefix:
		case a.of == none:
			holds = holds || !s.exists(entry.parent)
		case s.prefixes[a.of].uid == entry.parent:
			a.claimed, holds = true, true
		}
	}
	return holds
}

func (s *survey) exists(uid types.UID) bool {
	if s.exist == nil {
		s.exist = map[types.UID]bool{}
		for i := range s.prefixes {
			s.exist[s.prefixes[i].uid] = true
		}
	}
	return s.exist[uid]
}

// survey reads everything at one revision.
func (c *Claims) survey(ctx context.Context) (*survey, error) {
	revision, err := c.revision(ctx)
	if err != nil {
		return nil, err
	}
	s := newSurvey(c.keyspace)
	group, reading := errgroup.WithContext(ctx)
	group.Go(func() error {
		return eachObject(reading, c, c.prefixes, revision, func(p *ipam.Prefix) error {
			s.takePrefix(p)
			return nil
		})
	})
	group.Go(func() error { return eachObject(reading, c, c.allocations, revision, s.takeAllocation) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	s.resolve()
	return s, c.takeClaims(ctx, s, revision)
}

// eachObject has all objects of a kind at a revision taken in.
func eachObject[T any, P interface {
	*T
	runtime.Object
}](ctx context.Context, c *Claims, o objects, revision int64, take func(P) error) error {
	for kvs, err := range c.scan(ctx, o.all(), revision) {
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			object := P(new(T))
			if err := o.decode(ctx, kv, object); err != nil {
				return err
			}
			if err := take(object); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeClaims has a survey take in all claims of one revision, which is that of now if it is 0.
func (c *Claims) takeClaims(ctx context.Context, s *survey, revision int64) error {
	for kvs, err := range c.scan(ctx, c.keyspace.all(), revision) {
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			entry, err := c.claimEntry(kv)
			if err != nil {
				return err
			}
			s.takeClaim(entry)
		}
	}
	return nil
}

// claimEntry decodes a claim with its key.
func (c *Claims) claimEntry(kv *mvccpb.KeyValue) (entry claimEntry, err error) {
	entry.key, entry.modRevision = string(kv.Key), kv.ModRevision
	if entry.parent, entry.prefix, err = c.keyspace.parse(entry.key); err != nil {
		return entry, err
	}
	if entry.claim, err = decodeClaim(kv.Value); err != nil {
		return entry, fmt.Errorf("%s: %w", entry.key, err)
	}
	return entry, nil
}

// glance is a survey of what the watch caches have, which have to read everything at a start anyway. They are not at one
// revision, and the claims are at a later one, so that it may find what is not so, if somebody writes. But what was wrong
// before it began, and is still, it finds: so where it finds nothing, nothing is wrong.
func (c *Claims) glance(ctx context.Context) (*survey, error) {
	s := newSurvey(c.keyspace)
	group, listing := errgroup.WithContext(ctx)
	group.Go(func() error {
		list := &ipam.PrefixList{}
		if err := c.listCached(listing, c.prefixes, list); err != nil {
			return err
		}
		for i := range list.Items {
			s.takePrefix(&list.Items[i])
		}
		return nil
	})
	group.Go(func() error {
		list := &ipam.PrefixAllocationList{}
		if err := c.listCached(listing, c.allocations, list); err != nil {
			return err
		}
		for i := range list.Items {
			if err := s.takeAllocation(&list.Items[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	s.resolve()
	return s, c.takeClaims(ctx, s, 0)
}

// A watch cache reads at least one object in objectPatience, and begins within cachePatience, or something is wrong.
const (
	cachePatience  = 10 * time.Second
	objectPatience = time.Millisecond
)

// listCached lists the objects of a kind from the watch cache, when that has them, and fails if it takes so long that it
// will never: it does not if an object cannot be decoded.
func (c *Claims) listCached(ctx context.Context, o objects, list runtime.Object) error {
	all := o.all()
	response, err := c.kv.Get(ctx, all.start, clientv3.WithRange(all.end), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	patience := cachePatience + time.Duration(response.Count)*objectPatience
	if err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return o.cached.ReadinessCheck() == nil, nil
	}); err != nil {
		return err
	}
	// Without a revision it is not older than what etcd has now.
	return o.cached.GetList(ctx, o.resourcePrefix, storage.ListOptions{Predicate: storage.Everything, Recursive: true}, list)
}

// Audit tells every difference between objects and claims, all read at one revision. It changes
// nothing.
func (c *Claims) Audit(ctx context.Context) ([]Difference, error) {
	s, err := c.survey(ctx)
	if err != nil {
		return nil, err
	}
	return s.differences(), nil
}

// missing returns the allocations that have a parent, but no claim.
func (s *survey) missing() []*part {
	var missing []*part
	for i := range s.allocations {
		if a := &s.allocations[i]; a.of != none && !a.claimed {
			missing = append(missing, a)
		}
	}
	return missing
}

// differences compares objects and claims, when all have been taken in.
func (s *survey) differences() []Difference {
	differences := slices.Clone(s.found)
	for i := range s.allocations {
		a := &s.allocations[i]
		found := func(kind DifferenceKind, format string, args ...any) {
			differences = append(differences, a.difference(kind, fmt.Sprintf(format, args...)))
		}
		if a.of == none {
			found(ParentMissing, "Prefix %s does not exist", a.parent)
			continue
		}
		parent := s.prefixes[a.of].prefix
		if !strictlyInside(a.prefix, parent) {
			found(OutsideParent, "%s is not strictly inside %s of Prefix %s", a.prefix, parent, a.parent)
		}
		if !a.claimed {
			found(AllocationWithoutClaim, "there is no claim to %s of Prefix %s", a.prefix, a.parent)
		}
	}

	for _, pair := range overlaps(s.allocations) {
		differences = append(differences, pair[1].difference(Overlap,
			fmt.Sprintf("%s overlaps %s, which PrefixAllocation %s holds", pair[1].prefix, pair[0].prefix, pair[0].Name)))
	}

	for i := range s.prefixes {
		child := &s.prefixes[i]
		if child.allocated && !s.stands(child) {
			differences = append(differences, Difference{
				Kind: ChildDiffers, Namespace: child.namespace, Name: child.name, Parent: child.parent, Prefix: child.prefix,
				Message: fmt.Sprintf("no PrefixAllocation of it holds %q of Prefix %q", child.prefix, child.parent),
				uid:     child.uid,
			})
		}
	}

	slices.SortFunc(differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Parent, b.Parent),
			cmp.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Name, b.Name), cmp.Compare(a.uid, b.uid))
	})
	return differences
}

// strictlyInside tells whether a prefix is a part of another one, as that is written, and not all of it.
func strictlyInside(prefix netip.Prefix, of string) bool {
	whole, err := cidr.ParseStored(of)
	return err == nil && cidr.StrictlyInside(prefix, whole)
}

// difference returns what is wrong with an allocation.
func (p *part) difference(kind DifferenceKind, message string) Difference {
	return Difference{Kind: kind, Namespace: p.Namespace, Name: p.Name, Parent: p.parent, Prefix: p.prefix.String(), Message: message, uid: p.UID}
}

// stands tells whether an allocated child stands on an allocation that holds what it says.
func (s *survey) stands(child *whole) bool {
	first, ok := s.byOwner[child.uid]
	if !ok {
		return false
	}
	for i := first; i != none; i = s.allocations[i].nextOfOwner {
		if s.allocations[i].carries(child) {
			return true
		}
	}
	return false
}

// carries tells whether an allocation was made for a child and holds what that says.
func (p *part) carries(child *whole) bool {
	prefix, err := cidr.ParseStored(child.prefix)
	return err == nil && p.Owner != nil && p.Owner.UID == child.uid &&
		p.Namespace == child.namespace && p.parent == child.parent && p.prefix == prefix
}

// overlaps returns every part that overlaps one before it of the same parent, each with one that it overlaps.
func overlaps(parts []part) [][2]*part {
	sorted := make([]*part, len(parts))
	for i := range parts {
		sorted[i] = &parts[i]
	}
	// By address, the larger first, and the older first of equals: it has the better right.
	slices.SortFunc(sorted, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.parent, b.parent),
			a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()),
			cmp.Compare(a.created, b.created), cmp.Compare(a.UID, b.UID))
	})
	var pairs [][2]*part
	for i, last := 1, 0; i < len(sorted); i++ {
		a, b := sorted[last], sorted[i]
		// Prefixes nest or are disjoint, so it is enough to look at the last one that none contains.
		if a.Namespace == b.Namespace && a.parent == b.parent && a.prefix.Overlaps(b.prefix) {
			pairs = append(pairs, [2]*part{a, b})
		} else {
			last = i
		}
	}
	return pairs
}
