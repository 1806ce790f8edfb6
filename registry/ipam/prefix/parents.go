// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"context"
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/prefixpolicy"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
)

// parents answers questions about Prefixes as parents. It reads from the watch cache, which may be stale.
type parents struct {
	store    *genericregistry.Store
	policies prefixpolicy.Finder
}

var _ resource.Parents = parents{}

// get returns a Prefix, or nil if it is not in the watch cache.
func (p parents) get(ctx context.Context, name string) *ipam.Prefix {
	obj, err := p.store.Get(ctx, name, &metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return nil
	}
	return obj.(*ipam.Prefix)
}

// Family implements resource.Parents. A stale answer is safe: a family never changes, and a Prefix that is not in the
// cache yet counts as missing.
func (p parents) Family(ctx context.Context, name string) ipam.IPFamily {
	prefix := p.get(ctx, name)
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

// Refuses implements resource.Parents.
func (p parents) Refuses(ctx context.Context, name string, bits int) (why string, err error) {
	policies, err := p.policies.Policies(ctx)
	if err != nil || len(policies) == 0 {
		return "", err
	}
	prefix := p.get(ctx, name)
	if prefix == nil {
		return "", nil
	}
	switch rules := policies.RulesOf(prefix.Labels); {
	case rules.Closed:
		return fmt.Sprintf("Prefix %s is closed: its PrefixPolicy allows nothing new", name), nil
	case !rules.Lengths.Allow(bits):
		return fmt.Sprintf("Prefix %s is no parent for a /%d: its PrefixPolicy allows %s", name, bits, rules.Lengths), nil
	}
	return "", nil
}

// coolDown implements claims.CoolDown.
func (p parents) coolDown(ctx context.Context, namespace, name string) (time.Duration, error) {
	ctx = genericapirequest.WithNamespace(ctx, namespace)
	policies, err := p.policies.Policies(ctx)
	if err != nil || len(policies) == 0 {
		return 0, err
	}
	prefix := p.get(ctx, name)
	if prefix == nil {
		return 0, nil
	}
	return policies.RulesOf(prefix.Labels).CoolDown, nil
}

// defaultLength returns the length of a child that requests none: the default of the parent that it names, or the one
// default that the Prefixes have which it selects. It returns 0 if there is none, or several. It asks all selected
// Prefixes, not only the outermost ones that the scheduler chooses from: it would have to know the tree of the namespace.
func (p parents) defaultLength(ctx context.Context, spec *ipam.PrefixSpec) (length int32) {
	policies, err := p.policies.Policies(ctx)
	if err != nil || len(policies) == 0 {
		return 0
	}
	if spec.ParentRef != nil {
		if parent := p.get(ctx, spec.ParentRef.Name); parent != nil {
			length = policies.RulesOf(parent.Labels).Default
		}
		return length
	}
	selector, err := metav1.LabelSelectorAsSelector(spec.ParentSelector)
	if err != nil {
		return 0
	}
	list, err := p.store.List(ctx, &metainternalversion.ListOptions{ResourceVersion: "0", LabelSelector: selector})
	if err != nil {
		return 0
	}
	for i := range list.(*ipam.PrefixList).Items {
		parent := &list.(*ipam.PrefixList).Items[i]
		if spec.IPFamily != "" && familyOf(&parent.Spec) != spec.IPFamily {
			continue
		}
		switch of := policies.RulesOf(parent.Labels).Default; {
		case of == 0 || of == length:
		case length == 0:
			length = of
		default:
			return 0
		}
	}
	return length
}
