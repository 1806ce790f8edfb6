// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/storage"
)

// A PrefixPolicy can share the Prefixes that it selects with other namespaces. A plan that allocates for another
// namespace needs one policy that consents. The transaction compares the mod revisions of this policy and of the parent,
// whose labels decide whether the policy selects it. So nothing is allocated after the commit of a write that takes the
// consent back. The labels of a namespace are not compared: they are stored by another server.

// NamespaceLabels returns the labels of a namespace. It returns false if the namespace is not known.
type NamespaceLabels func(name string) (labels.Set, bool)

// KnowsNamespaceLabels reports whether namespaces can be selected by their labels.
func (pl *Planner) KnowsNamespaceLabels() bool { return pl.namespaceLabels != nil }

// Sharing returns the first of some policies that shares a Prefix of their namespace, which has the given labels, with
// another namespace. It returns nil if there is none.
func (pl *Planner) Sharing(policies []ipam.PrefixPolicy, set labels.Set, tenant string) *ipam.PrefixPolicy {
	for i := range policies {
		spec := &policies[i].Spec
		if !pl.Includes(spec.SharedWith, tenant) {
			continue
		}
		if selector, err := metav1.LabelSelectorAsSelector(spec.PrefixSelector); err == nil && selector.Matches(set) {
			return &policies[i]
		}
	}
	return nil
}

// Includes reports whether sharing, which may be nil, includes a namespace.
func (pl *Planner) Includes(sharing *ipam.PrefixSharing, namespace string) bool {
	switch {
	case sharing == nil:
		return false
	case sharing.All:
		return true
	case sharing.NamespaceSelector == nil:
		return slices.Contains(sharing.Namespaces, namespace)
	case pl.namespaceLabels == nil:
		return false
	}
	set, ok := pl.namespaceLabels(namespace)
	if !ok {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(sharing.NamespaceSelector)
	return err == nil && selector.Matches(set)
}

// guardConsent returns a guard that the consent of a policy stays until the commit. p is the parent, in namespace. It
// returns nil if the parent does not exist or is not shared with tenant.
func (pl *Planner) guardConsent(ctx context.Context, r reader, p *parent, namespace, tenant string) (*Guard, error) {
	if p == nil {
		return nil, nil
	}
	policies, err := r.policiesOf(ctx, namespace)
	if err != nil {
		return nil, err
	}
	policy := pl.Sharing(policies, p.labels, tenant)
	if policy == nil {
		return nil, nil
	}
	revision, err := storage.APIObjectVersioner{}.ObjectResourceVersion(policy)
	if err != nil {
		return nil, err
	}
	guard := IsUnchanged(pl.Policies.Key(namespace, policy.Name), int64(revision))
	return &guard, nil
}

// IsShared reports whether a Prefix is in a namespace, or shared with it. The answer may be stale.
func (pl *Planner) IsShared(ctx context.Context, prefix *ipam.Prefix, namespace string) (bool, error) {
	if prefix.Namespace == namespace {
		return true, nil
	}
	policies, err := cached{pl}.policiesOf(ctx, prefix.Namespace)
	return err == nil && pl.Sharing(policies, prefix.Labels, namespace) != nil, err
}

// listPolicies lists the policies of a namespace. If the resource version is empty, the list is not older than the call.
func (pl *Planner) listPolicies(ctx context.Context, namespace, resourceVersion string) ([]ipam.PrefixPolicy, error) {
	var list ipam.PrefixPolicyList
	options := storage.ListOptions{Predicate: storage.Everything, Recursive: true, ResourceVersion: resourceVersion}
	err := pl.mustSources().Policies.GetList(ctx, pl.Policies.storageKey(namespace, ""), options, &list)
	return list.Items, err
}
