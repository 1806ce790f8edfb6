// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"context"
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixpolicy"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
)

// parents answers questions about Prefixes as parents. It reads from the watch cache, which may be stale.
type parents struct {
	store    *genericregistry.Store
	policies prefixpolicy.Finder
	planner  *claims.Planner
}

var _ resource.Parents = parents{}

// in is the namespace of some parents, seen from the namespace of a request.
type in struct {
	parents
	// ctx has the namespace of the parents.
	ctx      context.Context
	policies prefixpolicy.Policies
	// foreign is set if the request is in another namespace, tenant.
	foreign bool
	tenant  string
}

// in returns a namespace of parents, seen from the namespace of the context. It fails if the policies are not known.
func (p parents) in(ctx context.Context, namespace string) (in, error) {
	tenant := genericapirequest.NamespaceValue(ctx)
	ctx = genericapirequest.WithNamespace(ctx, namespace)
	policies, err := p.policies.Policies(ctx)
	return in{p, ctx, policies, namespace != tenant, tenant}, err
}

// get returns a Prefix, or nil if it is not in the watch cache, or not shared.
func (i in) get(name string) *ipam.Prefix {
	obj, err := i.store.Get(i.ctx, name, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil || !i.isShared(obj.(*ipam.Prefix)) {
		return nil
	}
	return obj.(*ipam.Prefix)
}

// isShared reports whether the Prefix is shared with the namespace of the request, or in it.
func (i in) isShared(prefix *ipam.Prefix) bool {
	return !i.foreign || i.policies.Share(i.planner, prefix.Labels, i.tenant)
}

// Family implements resource.Parents. A stale answer is safe: a family never changes, and a Prefix that is not in the
// cache yet counts as missing.
func (p parents) Family(ctx context.Context, namespace, name string) ipam.IPFamily {
	// Without the policies, a parent of another namespace is not visible. One of the own namespace needs none.
	in, _ := p.in(ctx, namespace)
	prefix := in.get(name)
	if prefix == nil {
		return ""
	}
	return familyOf(&prefix.Spec)
}

// familyOf returns the family of a Prefix, or "" if it is not known.
func familyOf(spec *ipam.PrefixSpec) ipam.IPFamily {
	if prefix, err := cidr.ParseStored(spec.Prefix); err == nil {
		// A stored IPv4-mapped IPv6 prefix means IPv4.
		return ipam.IPFamily(cidr.FamilyOf(prefix))
	}
	return spec.IPFamily
}

// PolicyViolation implements resource.Parents.
func (p parents) PolicyViolation(ctx context.Context, namespace, name string, bits int) (why string, err error) {
	in, err := p.in(ctx, namespace)
	if err != nil || len(in.policies) == 0 {
		return "", err
	}
	prefix := in.get(name)
	if prefix == nil {
		// The storage refuses it.
		return "", nil
	}
	name = resource.ParentName(in.tenant, namespace, name)
	switch rules := in.policies.RulesOf(prefix.Labels); {
	case rules.Closed:
		return fmt.Sprintf("Prefix %s is closed: its PrefixPolicy allows nothing new", name), nil
	case !rules.Lengths.Allow(bits):
		return fmt.Sprintf("Prefix %s is no parent for a /%d: its PrefixPolicy allows %s", name, bits, rules.Lengths), nil
	}
	return "", nil
}

// CoolDown implements resource.Parents. It is a claims.CoolDown.
func (p parents) CoolDown(ctx context.Context, namespace string, set labels.Set) (time.Duration, error) {
	// It holds for the children of all namespaces.
	policies, err := p.policies.Policies(genericapirequest.WithNamespace(ctx, namespace))
	if err != nil {
		return 0, err
	}
	return policies.RulesOf(set).CoolDown, nil
}

// defaultLength returns the length of a child that requests none: the default of the parent that it names, or the one
// default that the Prefixes have which it selects. It returns 0 if there is none, or several. It asks all selected
// Prefixes, not only the outermost ones that the scheduler chooses from: it would have to know the tree of the namespace.
func (p parents) defaultLength(ctx context.Context, child *ipam.Prefix) (length int32) {
	spec := &child.Spec
	in, err := p.in(ctx, child.NamespaceOfParent())
	if err != nil || !in.policies.HaveDefault() || in.foreign && !in.policies.ShareAny(in.planner, in.tenant) {
		return 0
	}
	if spec.ParentRef != nil {
		if parent := in.get(spec.ParentRef.Name); parent != nil {
			length = in.policies.RulesOf(parent.Labels).Default
		}
		return length
	}
	selector, err := metav1.LabelSelectorAsSelector(spec.ParentSelector)
	if err != nil {
		return 0
	}
	list, err := p.store.List(in.ctx, &metainternalversion.ListOptions{ResourceVersion: "0", LabelSelector: selector})
	if err != nil {
		return 0
	}
	for i := range list.(*ipam.PrefixList).Items {
		parent := &list.(*ipam.PrefixList).Items[i]
		if !in.isShared(parent) || spec.IPFamily != "" && familyOf(&parent.Spec) != spec.IPFamily {
			continue
		}
		switch of := in.policies.RulesOf(parent.Labels).Default; {
		case of == 0 || of == length:
		case length == 0:
			length = of
		default:
			return 0
		}
	}
	return length
}
