// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixpolicy implements the storage of PrefixPolicies, and the strategies for creating, updating and deleting
// them. Unlike those of the other kinds, their spec may change at any time, and they have no claims.
package prefixpolicy

import (
	"context"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
)

var (
	_ rest.RESTCreateUpdateStrategy        = Strategy{}
	_ rest.RESTDeleteStrategy              = Strategy{}
	_ rest.CreateUpdateResetFieldsStrategy = Strategy{}
	_ rest.UpdateResetFieldsStrategy       = StatusStrategy{}
)

// Strategy is the strategy of the main resource. Its writes never change the status.
type Strategy struct {
	resource.Strategy
	// labels is set if the server knows the labels of namespaces.
	labels bool
}

// PrepareForCreate clears the status.
func (Strategy) PrepareForCreate(_ context.Context, obj runtime.Object) {
	policy := obj.(*ipam.PrefixPolicy)
	policy.Generation = 1
	policy.Status = ipam.PrefixPolicyStatus{}
}

// PrepareForUpdate keeps the status.
func (Strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newPolicy, oldPolicy := obj.(*ipam.PrefixPolicy), old.(*ipam.PrefixPolicy)
	newPolicy.Status = oldPolicy.Status
	resource.BumpGeneration(&newPolicy.ObjectMeta, &oldPolicy.ObjectMeta, newPolicy.Spec, oldPolicy.Spec)
}

// Validate implements rest.RESTCreateStrategy.
func (s Strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	policy := obj.(*ipam.PrefixPolicy)
	return append(validation.ValidatePrefixPolicy(policy), s.validateNamespaces(policy, nil)...)
}

// validateNamespaces refuses a selector of namespaces, unless it is stored already, if the server knows no labels.
func (s Strategy) validateNamespaces(policy, old *ipam.PrefixPolicy) field.ErrorList {
	selects := func(policy *ipam.PrefixPolicy) bool {
		return policy != nil && policy.Spec.SharedWith != nil && policy.Spec.SharedWith.NamespaceSelector != nil
	}
	if s.labels || !selects(policy) || selects(old) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec", "sharedWith", "namespaceSelector"),
		"this server has no cluster and knows no labels of namespaces; use namespaces or all")}
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (s Strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	newPolicy, oldPolicy := obj.(*ipam.PrefixPolicy), old.(*ipam.PrefixPolicy)
	return append(validation.ValidatePrefixPolicyUpdate(newPolicy, oldPolicy), s.validateNamespaces(newPolicy, oldPolicy)...)
}

// StatusStrategy is the strategy of the status subresource. Its writes change nothing but the status.
type StatusStrategy struct {
	Strategy
	resource.Subresource
}

// PrepareForUpdate keeps everything but the status.
func (StatusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newPolicy, oldPolicy := obj.(*ipam.PrefixPolicy), old.(*ipam.PrefixPolicy)
	newPolicy.Spec = oldPolicy.Spec
	metav1.ResetObjectMetaForStatus(&newPolicy.ObjectMeta, &oldPolicy.ObjectMeta)
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (StatusStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.ValidatePrefixPolicyStatusUpdate(obj.(*ipam.PrefixPolicy), old.(*ipam.PrefixPolicy))
}

// match returns the selection predicate of a list or watch.
func match(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
	return storage.SelectionPredicate{Label: label, Field: field, GetAttrs: getAttrs}
}

// getAttrs returns the labels and the selectable fields of a PrefixPolicy.
func getAttrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	policy, ok := obj.(*ipam.PrefixPolicy)
	if !ok {
		return nil, nil, fmt.Errorf("not a PrefixPolicy: %T", obj)
	}
	return policy.Labels, generic.ObjectMetaFieldsSet(&policy.ObjectMeta, true), nil
}
