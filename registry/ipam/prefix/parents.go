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

// view is a namespace of parents, seen from the namespace of a request.
type view struct {
	parents
	// ctx has the namespace of the parents.
	ctx      context.Context
	policies prefixpolicy.Policies
	// foreign is set if the request is in another namespace, tenant.
	foreign bool
	tenant  string
}

// viewOf returns a namespace of parents, seen from the namespace of the context. It fails if the policies are not known.
func (p parents) viewOf(ctx context.Context, namespace string) (view, error) {
	tenant := genericapirequest.NamespaceValue(ctx)
	ctx = genericapirequest.WithNamespace(ctx, namespace)
	policies, err := p.policies.Policies(ctx)
	return view{p, ctx, policies, namespace != tenant, tenant}, err
}

// get returns a Prefix, or nil if it is not in the watch cache, or not shared.
func (v view) get(name string) *ipam.Prefix {
	obj, err := v.store.Get(v.ctx, name, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil || !v.isShared(obj.(*ipam.Prefix)) {
		return nil
	}
	return obj.(*ipam.Prefix)
}

// isShared reports whether the Prefix is shared with the namespace of the request, or in it.
func (v view) isShared(prefix *ipam.Prefix) bool {
	return !v.foreign || v.policies.Share(v.planner, prefix.Labels, v.tenant)
}

// Family implements resource.Parents. A stale answer is safe: a family never changes, and a Prefix that is not in the
// cache yet counts as missing.
func (p parents) Family(ctx context.Context, namespace, name string) ipam.IPFamily {
	// Without the policies, a parent of another namespace is not visible. One of the own namespace needs none.
	view, _ := p.viewOf(ctx, namespace)
	prefix := view.get(name)
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
	view, err := p.viewOf(ctx, namespace)
	if err != nil || len(view.policies) == 0 {
		return "", err
	}
	prefix := view.get(name)
	if prefix == nil {
		// The storage refuses it.
		return "", nil
	}
	name = resource.ParentName(view.tenant, namespace, name)
	switch rules := view.policies.RulesOf(prefix.Labels); {
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
	view, err := p.viewOf(ctx, child.NamespaceOfParent())
	if err != nil || !view.policies.HaveDefault() || view.foreign && !view.policies.ShareAny(view.planner, view.tenant) {
		return 0
	}
	if spec.ParentRef != nil {
		if parent := view.get(spec.ParentRef.Name); parent != nil {
			length = view.policies.RulesOf(parent.Labels).Default
		}
		return length
	}
	selector, err := metav1.LabelSelectorAsSelector(spec.ParentSelector)
	if err != nil {
		return 0
	}
	list, err := p.store.List(view.ctx, &metainternalversion.ListOptions{ResourceVersion: "0", LabelSelector: selector})
	if err != nil {
		return 0
	}
	for i := range list.(*ipam.PrefixList).Items {
		parent := &list.(*ipam.PrefixList).Items[i]
		if !view.isShared(parent) || spec.IPFamily != "" && familyOf(&parent.Spec) != spec.IPFamily {
			continue
		}
		switch of := view.policies.RulesOf(parent.Labels).Default; {
		case of == 0 || of == length:
		case length == 0:
			length = of
		default:
			return 0
		}
	}
	return length
}
