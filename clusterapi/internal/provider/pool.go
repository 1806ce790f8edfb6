// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
)

// poolKinds maps the API group of each kind of pool to the kind.
var poolKinds = map[string]string{
	capiv1alpha1.GroupVersion.Group: capiv1alpha1.PrefixPoolKind,
	v1alpha1.GroupVersion.Group:     v1alpha1.PrefixKind,
}

// isOurs reports whether this provider serves claims of a pool.
func isOurs(ref ipamv1.IPPoolReference) bool {
	return poolKinds[ref.APIGroup] == ref.Kind && ref.Kind != ""
}

// poolKey identifies a pool within its namespace, as kind/name.
func poolKey(kind, name string) string { return kind + "/" + name }

// pool is a PrefixPool, or a Prefix that claims name as their pool.
type pool struct {
	client.Object
	kind string
	// parent is the name of the parent. If it is empty, selector selects the parents.
	parent   string
	selector labels.Selector
	// foreign is the namespace of the parents, or empty if it is that of the pool.
	foreign string
	// family may be empty until the parents are known.
	family v1alpha1.IPFamily
	// length is the length of the prefix of a claim, and mask that of the subnet mask. 0 is the default.
	length, mask int32
	// gateway is the zero Addr if there is none.
	gateway netip.Addr
	// invalid is an error in the fields of the pool.
	invalid error
}

// getPool reads a pool from the cache. It returns nil if it does not exist.
func getPool(ctx context.Context, c client.Reader, namespace, kind, name string) (*pool, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	var p *pool
	var err error
	if kind == v1alpha1.PrefixKind {
		prefix := &v1alpha1.Prefix{}
		if err = c.Get(ctx, key, prefix); err == nil {
			p = poolOfPrefix(prefix)
		}
	} else {
		prefixPool := &capiv1alpha1.PrefixPool{}
		if err = c.Get(ctx, key, prefixPool); err == nil {
			p = poolOfPrefixPool(prefixPool)
		}
	}
	return p, client.IgnoreNotFound(err)
}

func poolOfPrefixPool(o *capiv1alpha1.PrefixPool) *pool {
	p := &pool{Object: o, kind: capiv1alpha1.PrefixPoolKind, family: v1alpha1.IPFamily(o.Spec.IPFamily), length: o.Spec.PrefixLength, mask: o.Spec.Prefix}
	if o.Spec.ParentRef != nil {
		p.parent = o.Spec.ParentRef.Name
	} else {
		p.selector, p.invalid = metav1.LabelSelectorAsSelector(o.Spec.ParentSelector)
	}
	if o.Spec.ParentNamespace != o.Namespace {
		p.foreign = o.Spec.ParentNamespace
	}
	p.setGateway("gateway", o.Spec.Gateway)
	return p
}

func poolOfPrefix(o *v1alpha1.Prefix) *pool {
	p := &pool{Object: o, kind: v1alpha1.PrefixKind, parent: o.Name, family: o.Spec.IPFamily}
	for _, annotation := range []struct {
		name string
		into *int32
	}{{capiv1alpha1.AnnotationPrefixLength, &p.length}, {capiv1alpha1.AnnotationPrefix, &p.mask}} {
		if value, ok := o.Annotations[annotation.name]; ok {
			bits, err := strconv.ParseInt(value, 10, 32)
			if err != nil || bits < 1 || bits > 128 {
				p.invalid = fmt.Errorf("annotation %s: %q is not a prefix length", annotation.name, value)
			}
			*annotation.into = int32(bits)
		}
	}
	p.setGateway("annotation "+capiv1alpha1.AnnotationGateway, o.Annotations[capiv1alpha1.AnnotationGateway])
	return p
}

func (p *pool) setGateway(field, value string) {
	if value == "" {
		return
	}
	gateway, err := cidr.ParseAddr(value)
	if err != nil {
		p.invalid = fmt.Errorf("%s: %w", field, err)
	}
	p.gateway = gateway
}

// key identifies the pool within its namespace.
func (p *pool) key() string { return poolKey(p.kind, p.GetName()) }

// reference is the poolRef of a claim of the pool.
func (p *pool) reference() ipamv1.IPPoolReference {
	group := capiv1alpha1.GroupVersion.Group
	if p.kind == v1alpha1.PrefixKind {
		group = v1alpha1.GroupVersion.Group
	}
	return ipamv1.IPPoolReference{APIGroup: group, Kind: p.kind, Name: p.GetName()}
}

// ownerReference makes an IPAddress a dependent of a PrefixPool. A Prefix that is used as a pool is not an owner: clusterctl
// moves an object only if it moves all its owners, and it moves nothing but custom resources. The Prefix of the claim keeps
// the Prefix from being deleted.
func (p *pool) ownerReference() metav1.OwnerReference {
	no, yes := false, true
	return metav1.OwnerReference{APIVersion: capiv1alpha1.GroupVersion.String(), Kind: p.kind, Name: p.GetName(), UID: p.GetUID(), Controller: &no, BlockOwnerDeletion: &yes}
}

// selects reports whether a Prefix of the namespace of the pool may be a parent of it.
func (p *pool) selects(prefix *v1alpha1.Prefix) bool {
	switch {
	case p.foreign != "":
		return false
	case p.parent != "":
		return prefix.Name == p.parent
	}
	return p.selector != nil && !isCreatedHere(prefix) && p.selector.Matches(labels.Set(prefix.Labels))
}

// isCreatedHere reports whether this provider has created a Prefix, for a claim or to hold an address.
func isCreatedHere(prefix *v1alpha1.Prefix) bool {
	return prefix.Labels[capiv1alpha1.LabelClaimName] != "" || prefix.Labels[capiv1alpha1.LabelHeldAs] != ""
}

// parent is a parent of a pool that prefixes can be allocated from.
type parent struct {
	*v1alpha1.Prefix
	cidr netip.Prefix
}

// notReady is the reason why a pool cannot serve claims. It is no error of the provider.
type notReady struct{ reason, message string }

// resolved is a pool with its parents. Its length and its family are set.
type resolved struct {
	*pool
	// parents is empty if they are in another namespace. What a tenant may know of them, the API server tells its children.
	parents []parent
	holds   []hold
}

// resolve finds the parents of a pool, and what follows from them.
func (p *pool) resolve(ctx context.Context, c client.Reader) (*resolved, *notReady, error) {
	if p.invalid != nil {
		return nil, &notReady{capiv1alpha1.ReasonInvalidPool, p.invalid.Error()}, nil
	}
	if p.foreign != "" {
		r := &resolved{pool: p}
		if why := r.complete(); why != "" {
			return nil, &notReady{capiv1alpha1.ReasonInvalidPool, why}, nil
		}
		r.holds = r.wantedHolds()
		return r, nil, nil
	}
	var found []*v1alpha1.Prefix
	if p.parent != "" {
		prefix := &v1alpha1.Prefix{}
		err := c.Get(ctx, types.NamespacedName{Namespace: p.GetNamespace(), Name: p.parent}, prefix)
		if apierrors.IsNotFound(err) {
			return nil, &notReady{capiv1alpha1.ReasonParentNotFound, fmt.Sprintf("Prefix %q does not exist", p.parent)}, nil
		} else if err != nil {
			return nil, nil, err
		}
		found = append(found, prefix)
	} else {
		list := &v1alpha1.PrefixList{}
		if err := c.List(ctx, list, client.InNamespace(p.GetNamespace()), client.MatchingFields{indexTree: indexedTree}, client.MatchingLabelsSelector{Selector: p.selector}); err != nil {
			return nil, nil, err
		}
		for i := range list.Items {
			if list.Items[i].Spec.IPFamily == p.family {
				found = append(found, &list.Items[i])
			}
		}
		if len(found) == 0 {
			return nil, &notReady{capiv1alpha1.ReasonParentNotFound, fmt.Sprintf("no %s Prefix matches %s", p.family, p.selector)}, nil
		}
	}

	r := &resolved{pool: p}
	for _, prefix := range found {
		parsed, err := cidr.ParseStored(prefix.Spec.Prefix)
		if err != nil || prefix.Status.Phase != v1alpha1.PrefixPhaseAllocated || prefix.DeletionTimestamp != nil {
			continue
		}
		r.parents = append(r.parents, parent{prefix, parsed})
	}
	if len(r.parents) == 0 {
		names := make([]string, 0, len(found))
		for _, prefix := range found {
			names = append(names, prefix.Name)
		}
		slices.Sort(names)
		return nil, &notReady{capiv1alpha1.ReasonParentNotReady, fmt.Sprintf("Prefix %s is not allocated, or is being deleted", strings.Join(names[:min(5, len(names))], ", "))}, nil
	}
	r.outermost()
	if why := r.complete(); why != "" {
		return nil, &notReady{capiv1alpha1.ReasonInvalidPool, why}, nil
	}
	r.holds = r.wantedHolds()
	return r, nil, nil
}

// outermost removes parents that lie in other ones, as the scheduler does, and sorts the others by address.
func (r *resolved) outermost() {
	slices.SortFunc(r.parents, func(a, b parent) int {
		if c := cmp.Or(a.cidr.Addr().Compare(b.cidr.Addr()), cmp.Compare(a.cidr.Bits(), b.cidr.Bits())); c != 0 {
			return c
		}
		// A root comes before a child that has all of it.
		if root := a.Spec.ParentRef == nil; root != (b.Spec.ParentRef == nil) {
			if root {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	kept := r.parents[:0]
	for _, candidate := range r.parents {
		// Only a child of another match is no parent. Roots that overlap are a mistake, which complete reports.
		if n := len(kept); n > 0 && candidate.Spec.ParentRef != nil && kept[n-1].cidr.Overlaps(candidate.cidr) {
			continue
		}
		kept = append(kept, candidate)
	}
	r.parents = kept
}

// complete sets defaults, and says what contradicts the parents.
func (r *resolved) complete() string {
	switch {
	case r.foreign != "" && (r.family == "" || r.mask == 0):
		return "ipFamily and prefix are required with parentNamespace"
	case r.foreign != "":
	case r.family == "":
		r.family = v1alpha1.IPFamily(cidr.FamilyOf(r.parents[0].cidr))
	case r.family != v1alpha1.IPFamily(cidr.FamilyOf(r.parents[0].cidr)):
		return fmt.Sprintf("ipFamily is %s, and %s is of %s", r.family, r.parents[0].Spec.Prefix, cidr.FamilyOf(r.parents[0].cidr))
	}
	for i := 1; i < len(r.parents); i++ {
		// An address of both would be given twice, and held in one of them only.
		if before, p := r.parents[i-1], r.parents[i]; before.cidr.Overlaps(p.cidr) {
			return fmt.Sprintf("Prefixes %s (%s) and %s (%s) overlap", before.Name, before.cidr, p.Name, p.cidr)
		}
	}
	bits := int32(bitsOf(r.family))
	if r.length == 0 {
		r.length = bits
	}
	switch {
	case r.length > bits || r.mask > bits:
		return fmt.Sprintf("prefixLength and prefix are at most %d for %s", bits, r.family)
	case r.gateway.IsValid() && int32(r.gateway.BitLen()) != bits:
		return fmt.Sprintf("gateway %s is not an address of %s", r.gateway, r.family)
	}
	return ""
}

// bitsOf returns the length of an address.
func bitsOf(family v1alpha1.IPFamily) int {
	if family == v1alpha1.IPv4 {
		return 32
	}
	return 128
}

// maskOf returns the length of the subnet mask of an address from a parent.
func (r *resolved) maskOf(p netip.Prefix) int32 {
	if r.mask != 0 {
		return r.mask
	}
	return int32(p.Bits())
}

// maskFor returns the length of the subnet mask of the address of a child.
func (r *resolved) maskFor(child *v1alpha1.Prefix) int32 {
	if r.mask != 0 {
		return r.mask
	}
	i := slices.IndexFunc(r.parents, func(p parent) bool { return child.Spec.ParentRef != nil && p.Name == child.Spec.ParentRef.Name })
	// If the parent has lost the labels of the pool, the address is the child's nevertheless.
	return r.maskOf(r.parents[max(i, 0)].cidr)
}

// free returns the number of claims that the free addresses of the parents suffice for, or nothing if it does not know them.
func (r *resolved) free() string {
	if r.foreign != "" {
		return ""
	}
	sum := new(big.Int)
	for _, parent := range r.parents {
		if parent.Status.Usage == nil {
			continue
		}
		if free, ok := new(big.Int).SetString(parent.Status.Usage.Free, 10); ok {
			sum.Add(sum, free)
		}
	}
	return sum.Rsh(sum, uint(bitsOf(r.family)-int(r.length))).String()
}

// hold is an address that no machine may get.
type hold struct {
	address netip.Addr
	// as says what it is: gateway, network, broadcast or anycast.
	as string
	// parent is the Prefix that contains it. It is empty if the parents are in another namespace.
	parent string
}

// What an address is that no machine may get.
const (
	heldAsGateway   = "gateway"
	heldAsNetwork   = "network"
	heldAsBroadcast = "broadcast"
	heldAsAnycast   = "anycast"
)

// wantedHolds returns the addresses of the parents that no machine may get: the gateway, and those that have a meaning of
// their own in the subnet.
func (r *resolved) wantedHolds() []hold {
	var holds []hold
	add := func(p parent, address netip.Addr, as string) {
		same := func(h hold) bool { return h.address == address }
		if p.cidr.Contains(address) && !slices.ContainsFunc(holds, same) {
			holds = append(holds, hold{address, as, p.Name})
		}
	}
	if r.foreign != "" && r.gateway.IsValid() {
		return []hold{{r.gateway, heldAsGateway, ""}}
	}
	for _, p := range r.parents {
		if r.gateway.IsValid() {
			add(p, r.gateway, heldAsGateway)
		}
		bits := p.cidr.Addr().BitLen()
		mask := int(r.maskOf(p.cidr))
		if int(r.length) != bits || mask > bits-2 {
			// Subnets of two addresses have no addresses to spare (RFC 3021, RFC 6164).
			continue
		}
		subnet := p.cidr
		if mask < subnet.Bits() {
			subnet = netip.PrefixFrom(p.cidr.Addr(), mask).Masked()
		}
		if subnet.Addr().Is4() {
			add(p, subnet.Addr(), heldAsNetwork)
			add(p, cidr.Last(subnet), heldAsBroadcast)
		} else {
			add(p, subnet.Addr(), heldAsAnycast)
		}
	}
	return holds
}

// single returns the prefix that consists of one address.
func single(address netip.Addr) netip.Prefix { return netip.PrefixFrom(address, address.BitLen()) }

// name returns the name of the Prefix that holds the address.
func (h hold) name(p *pool) string {
	return string(p.GetUID()) + "-" + strings.ReplaceAll(h.address.StringExpanded(), ":", "-")
}

// prefix returns the Prefix that holds the address for a pool.
func (h hold) prefix(p *pool) *v1alpha1.Prefix {
	return &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.GetNamespace(), Name: h.name(p),
			Labels:      map[string]string{capiv1alpha1.LabelPoolName: labelValue(p.GetName()), capiv1alpha1.LabelHeldAs: h.as},
			Annotations: map[string]string{capiv1alpha1.AnnotationPool: p.key()},
		},
		Spec: p.specOf(v1alpha1.PrefixSpec{
			IPFamily: v1alpha1.IPFamily(cidr.FamilyOf(single(h.address))), Prefix: single(h.address).String(),
		}, h.parent),
	}
}

// specOf returns the spec of a child of the pool. parent is the parent, or empty if that is not known.
func (p *pool) specOf(spec v1alpha1.PrefixSpec, parent string) v1alpha1.PrefixSpec {
	if name := cmp.Or(parent, p.parent); name != "" {
		spec.ParentRef = &v1alpha1.LocalObjectReference{Name: name}
	} else {
		spec.ParentSelector = p.Object.(*capiv1alpha1.PrefixPool).Spec.ParentSelector
	}
	spec.ParentNamespace = p.foreign
	return spec
}

// isHeldBy reports whether a Prefix holds the address in the right parent.
func (h hold) isHeldBy(p *pool, prefix *v1alpha1.Prefix) bool {
	is, want := &prefix.Spec, h.prefix(p).Spec
	if want.ParentRef == nil {
		// An allocated one names the parent that it has got.
		return is.ParentNamespace == want.ParentNamespace && equality.Semantic.DeepEqual(is.ParentSelector, want.ParentSelector)
	}
	return is.ParentNamespace == want.ParentNamespace && is.ParentRef != nil && is.ParentRef.Name == want.ParentRef.Name
}

// unheld says that the address could still be given to a machine, and why.
func (h hold) unheld(why string) *notReady {
	return &notReady{capiv1alpha1.ReasonAddressesNotHeld, fmt.Sprintf("%s is the %s address, which no machine may get: %s", h.address, h.as, why)}
}

// unheld says which address of the pool could still be given to a machine, or returns nil.
func (r *resolved) unheld(ctx context.Context, c client.Reader) (*notReady, error) {
	for _, h := range r.holds {
		prefix := &v1alpha1.Prefix{}
		err := c.Get(ctx, types.NamespacedName{Namespace: r.GetNamespace(), Name: h.name(r.pool)}, prefix)
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		if err == nil && (prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated || reasonOf(prefix) == v1alpha1.ReasonPrefixInUse ||
			r.foreign != "" && reasonOf(prefix) == v1alpha1.ReasonNoSuitableParent) {
			// Nobody else can get it, or somebody else has it, or it is no address of the parents.
			continue
		}
		message := "no Prefix holds it yet"
		if err == nil {
			if condition := meta.FindStatusCondition(prefix.Status.Conditions, v1alpha1.ConditionAllocated); condition != nil {
				message = condition.Message
			} else {
				message = "Prefix " + prefix.Name + " is not allocated yet"
			}
		}
		return h.unheld(message), nil
	}
	return nil, nil
}

// reasonOf returns the reason why a Prefix is allocated or not.
func reasonOf(prefix *v1alpha1.Prefix) string {
	if condition := meta.FindStatusCondition(prefix.Status.Conditions, v1alpha1.ConditionAllocated); condition != nil {
		return condition.Reason
	}
	return ""
}
