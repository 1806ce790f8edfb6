// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefix implements the storage of Prefixes, and the strategies for creating, updating and deleting them.
package prefix

import (
	"context"
	"fmt"
	"math/big"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/ironcore-dev/ipam-apiserver/registry/ipam/resource"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/tools/cache"
)

var (
	_ rest.RESTCreateUpdateStrategy        = Strategy{}
	_ rest.RESTDeleteStrategy              = Strategy{}
	_ rest.CreateUpdateResetFieldsStrategy = Strategy{}
	_ rest.UpdateResetFieldsStrategy       = StatusStrategy{}
	_ rest.RESTUpdateStrategy              = BindingStrategy{}
)

// Strategy is the strategy of the main resource. Its writes never change the status.
type Strategy struct {
	resource.Strategy
	parents parents
}

// PrepareForCreate sets the phase to Pending and adds the finalizer, which delays the deletion until the children are
// gone. It also sets the family to that of the parent, unless the family is set, and the length of a child that requests
// none to the default of its parent.
func (s Strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	prefix := obj.(*ipam.Prefix)
	prefix.Generation = 1
	prefix.Status = ipam.PrefixStatus{Phase: ipam.PrefixPhasePending}
	ensureFinalizer(prefix)
	acceptTemplate(ctx, prefix)
	if prefix.Spec.IPFamily == "" && prefix.Spec.ParentRef != nil {
		prefix.Spec.IPFamily = s.parents.Family(ctx, prefix.NamespaceOfParent(), prefix.Spec.ParentRef.Name)
	}
	if spec := &prefix.Spec; !spec.IsRoot() && spec.Prefix == "" && spec.PrefixLength == 0 {
		spec.PrefixLength = s.parents.defaultLength(ctx, prefix)
	}
}

// templateGroup is the API group of controllers that create Prefixes from templates. Its kinds accept any notation of a
// prefix in a template.
const templateGroup = "networking.ironcore.dev"

// acceptTemplate converts spec.prefix to canonical notation if a kind of templateGroup controls the Prefix. Otherwise
// the server would reject the Prefix. The controller could only log that error, and the user would not learn why the
// object with the template does not become ready.
func acceptTemplate(ctx context.Context, prefix *ipam.Prefix) {
	spec := &prefix.Spec
	canonical, err := cidr.ParseStored(spec.Prefix)
	if err != nil || canonical.String() == spec.Prefix {
		return
	}
	owner := metav1.GetControllerOfNoCopy(prefix)
	if owner == nil {
		return
	}
	if gv, err := schema.ParseGroupVersion(owner.APIVersion); err != nil || gv.Group != templateGroup {
		return
	}
	warning.AddWarning(ctx, "", fmt.Sprintf("spec.prefix: %s is stored in canonical form, %s", spec.Prefix, canonical))
	if cidr.HasFamily(spec.Prefix, string(spec.IPFamily)) {
		spec.IPFamily = ipam.IPFamily(cidr.FamilyOf(canonical))
	}
	if spec.PrefixLength != 0 && cidr.HasLength(spec.Prefix, int(spec.PrefixLength)) {
		spec.PrefixLength = int32(canonical.Bits())
	}
	spec.Prefix = canonical.String()
}

// PrepareForUpdate keeps the status. It also restores the finalizer unless the Prefix is being deleted, because a
// manifest without finalizers is not meant to remove it.
func (Strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newPrefix, oldPrefix := obj.(*ipam.Prefix), old.(*ipam.Prefix)
	newPrefix.Status = oldPrefix.Status
	if oldPrefix.DeletionTimestamp == nil {
		ensureFinalizer(newPrefix)
	}
	keepSpec(newPrefix, oldPrefix)
	bumpGeneration(newPrefix, oldPrefix)
}

// keepSpec reverts changes of the spec that do not change its meaning. A field that the server may have set keeps its
// value if an update omits it, like the clusterIP of a Service. Otherwise a second apply of the original manifest of a
// child would fail. Another notation of the stored range is not a change either.
func keepSpec(newPrefix, oldPrefix *ipam.Prefix) {
	newSpec, oldSpec := &newPrefix.Spec, &oldPrefix.Spec
	if newSpec.ParentNamespace == "" || newPrefix.NamespaceOfParent() == oldPrefix.NamespaceOfParent() {
		// A typed client that does not know the field leaves it out. The name of the own namespace means the same as none.
		newSpec.ParentNamespace = oldSpec.ParentNamespace
	}
	if newSpec.Prefix == "" {
		newSpec.Prefix = oldSpec.Prefix
	}
	if newSpec.Prefix != "" && cidr.Equal(newSpec.Prefix, oldSpec.Prefix) {
		newSpec.Prefix = oldSpec.Prefix
		if cidr.HasFamily(oldSpec.Prefix, string(newSpec.IPFamily)) {
			newSpec.IPFamily = ""
		}
		if cidr.HasLength(oldSpec.Prefix, int(newSpec.PrefixLength)) && oldSpec.PrefixLength != 0 {
			newSpec.PrefixLength = oldSpec.PrefixLength
		}
	}
	if newSpec.IPFamily == "" {
		newSpec.IPFamily = oldSpec.IPFamily
	}
	if newSpec.ParentRef == nil {
		newSpec.ParentRef = oldSpec.ParentRef
	}
}

func ensureFinalizer(prefix *ipam.Prefix) {
	if !slices.Contains(prefix.Finalizers, ipam.PrefixFinalizer) {
		prefix.Finalizers = append(prefix.Finalizers, ipam.PrefixFinalizer)
	}
}

// Validate implements rest.RESTCreateStrategy.
func (Strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	return validation.ValidatePrefix(obj.(*ipam.Prefix))
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (Strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.ValidatePrefixUpdate(obj.(*ipam.Prefix), old.(*ipam.Prefix))
}

// StatusStrategy is the strategy of the status subresource. Its writes change nothing but the status.
type StatusStrategy struct {
	Strategy
	resource.DerivedSubresource
}

// PrepareForUpdate keeps everything but the status.
func (StatusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newPrefix, oldPrefix := obj.(*ipam.Prefix), old.(*ipam.Prefix)
	newPrefix.Spec = oldPrefix.Spec
	metav1.ResetObjectMetaForStatus(&newPrefix.ObjectMeta, &oldPrefix.ObjectMeta)
	completeTransition(newPrefix, oldPrefix)
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (StatusStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.ValidatePrefixStatusUpdate(obj.(*ipam.Prefix), old.(*ipam.Prefix))
}

// BindingStrategy is the strategy of bindings, which write spec and status at once.
type BindingStrategy struct {
	Strategy
	resource.DerivedSubresource
}

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (BindingStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newPrefix, oldPrefix := obj.(*ipam.Prefix), old.(*ipam.Prefix)
	if spec := &newPrefix.Spec; oldPrefix.Spec.Prefix == "" && spec.IPFamily == ipam.IPv6 {
		// A child that was created by another server of the API group may have the family IPv6, although it is
		// allocated from an IPv4-mapped IPv6 parent. The binding then has an IPv4 prefix. Convert it to the notation of
		// the request.
		if bound, err := cidr.ParseStored(spec.Prefix); err == nil && cidr.Map(bound).Bits() == int(spec.PrefixLength) {
			spec.Prefix = cidr.Map(bound).String()
		}
	}
	keepSpec(newPrefix, oldPrefix)
	bumpGeneration(newPrefix, oldPrefix)
	completeTransition(newPrefix, oldPrefix)
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (BindingStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	newPrefix, oldPrefix := obj.(*ipam.Prefix), old.(*ipam.Prefix)
	if errs := validation.ValidatePrefixUpdate(newPrefix, oldPrefix); len(errs) > 0 {
		return errs
	}
	return validation.ValidatePrefixStatusUpdate(newPrefix, oldPrefix)
}

func bumpGeneration(newPrefix, oldPrefix *ipam.Prefix) {
	resource.BumpGeneration(&newPrefix.ObjectMeta, &oldPrefix.ObjectMeta, newPrefix.Spec, oldPrefix.Spec)
}

// completeTransition sets the status fields that follow from the phase. A Prefix that becomes Allocated gets its usage
// and the condition Allocated.
func completeTransition(newPrefix, oldPrefix *ipam.Prefix) {
	status := &newPrefix.Status
	if !phaseOf(status).Move(phaseOf(&oldPrefix.Status), ipam.PrefixPhasePending, ipam.PrefixPhaseAllocated) {
		if status.Phase == ipam.PrefixPhaseAllocated && status.ObservedGeneration == 0 {
			status.ObservedGeneration = oldPrefix.Status.ObservedGeneration
		}
		return
	}
	if status.Phase != ipam.PrefixPhaseAllocated {
		return
	}
	if status.Usage == nil {
		status.Usage = Unused(newPrefix.Spec.Prefix)
	}
	if meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionAllocated) {
		return
	}
	if parent := newPrefix.Spec.ParentRef; parent != nil {
		resource.SetAllocated(&status.Conditions, v1alpha1.ReasonAllocated, fmt.Sprintf("Allocated %s from %s", newPrefix.Spec.Prefix, resource.ParentName(newPrefix.Namespace, newPrefix.NamespaceOfParent(), parent.Name)), newPrefix.Generation)
	} else {
		resource.SetAllocated(&status.Conditions, v1alpha1.ReasonRoot, "A root Prefix is allocated without a parent", newPrefix.Generation)
	}
	status.ObservedGeneration = newPrefix.Generation
}

func phaseOf(status *ipam.PrefixStatus) resource.Phase[ipam.PrefixPhase] {
	return resource.Phase[ipam.PrefixPhase]{Phase: &status.Phase, Since: &status.LastPhaseTransitionTime, Conditions: &status.Conditions}
}

// Unused returns the usage of a prefix from which nothing is allocated. It returns nil if the prefix is not valid.
func Unused(s string) *ipam.PrefixUsage {
	prefix, err := cidr.ParseStored(s)
	if err != nil {
		return nil
	}
	total := new(big.Int).Lsh(big.NewInt(1), uint(prefix.Addr().BitLen()-prefix.Bits())).String()
	usage := &ipam.PrefixUsage{Total: total, Used: "0", Free: total}
	if prefix.Bits() < prefix.Addr().BitLen() {
		usage.LargestFree = fmt.Sprintf("/%d", prefix.Bits()+1)
	}
	return usage
}

// fieldWithoutParent is the field of the index of the Prefixes without spec.parentRef: the roots, and children that select
// a parent and have none yet. It is for the watch cache; clients select by the empty name.
const fieldWithoutParent = "withoutParent"

// indexers returns the indexes of the watch cache: of the roots of a namespace, of the Prefixes without a parent, and of all
// Prefixes by their range.
func indexers() *cache.Indexers {
	return &cache.Indexers{
		storage.FieldIndex(claims.FieldRootNamespace): func(obj any) ([]string, error) {
			if prefix, ok := obj.(*ipam.Prefix); ok && prefix.Spec.IsRoot() {
				return []string{prefix.Namespace}, nil
			}
			return nil, nil
		},
		storage.FieldIndex(fieldWithoutParent): func(obj any) ([]string, error) {
			if prefix, ok := obj.(*ipam.Prefix); ok && parentOf(prefix) == "" {
				return []string{""}, nil
			}
			return nil, nil
		},
		storage.FieldIndex(resource.FieldRangeHash): resource.IndexByRange(func(obj any) string {
			if prefix, ok := obj.(*ipam.Prefix); ok {
				return prefix.Spec.Prefix
			}
			return ""
		}),
	}
}

// match returns the selection predicate of a list or watch.
func match(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
	field = resource.SelectByRange(field, v1alpha1.FieldPrefix)
	if parent, ok := field.RequiresExactMatch(v1alpha1.FieldParentRefName); ok && parent == "" {
		field = resource.WithIndex(field, fieldWithoutParent, "")
	}
	return storage.SelectionPredicate{
		Label: label, Field: field, GetAttrs: GetAttrs,
		IndexFields: []string{claims.FieldRootNamespace, resource.FieldRangeHash, fieldWithoutParent},
	}
}

// parentOf returns the name of the parent, or "".
func parentOf(prefix *ipam.Prefix) string {
	if ref := prefix.Spec.ParentRef; ref != nil {
		return ref.Name
	}
	return ""
}

// GetAttrs returns the labels and the selectable fields of a Prefix.
func GetAttrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	prefix, ok := obj.(*ipam.Prefix)
	if !ok {
		return nil, nil, fmt.Errorf("not a Prefix: %T", obj)
	}
	rootNamespace := ""
	if prefix.Spec.IsRoot() {
		rootNamespace = prefix.Namespace
	}
	return prefix.Labels, generic.MergeFieldsSets(generic.ObjectMetaFieldsSet(&prefix.ObjectMeta, true), fields.Set{
		v1alpha1.FieldIPFamily:      string(prefix.Spec.IPFamily),
		v1alpha1.FieldPrefix:        cidr.Canonical(prefix.Spec.Prefix),
		v1alpha1.FieldParentRefName: parentOf(prefix),
		v1alpha1.FieldPhase:         string(prefix.Status.Phase),
		claims.FieldRootNamespace:   rootNamespace,
	}), nil
}
