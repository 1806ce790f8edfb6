// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefix holds the rules by which Prefixes are created, updated and deleted.
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
	"k8s.io/apimachinery/pkg/api/equality"
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
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

var (
	_ rest.RESTCreateUpdateStrategy        = Strategy{}
	_ rest.RESTDeleteStrategy              = Strategy{}
	_ rest.CreateUpdateResetFieldsStrategy = Strategy{}
	_ rest.UpdateResetFieldsStrategy       = StatusStrategy{}
	_ rest.RESTUpdateStrategy              = BindingStrategy{}
)

// FamilyFunc tells the family of the Prefix of a name, in the namespace of the context, or "" if
// there is no such Prefix.
type FamilyFunc func(ctx context.Context, name string) ipam.IPFamily

// Strategy is for writes to the main resource: they never change the status.
type Strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	familyOf FamilyFunc
}

// NewStrategy returns the strategy of the main resource. familyOf is asked for the family of a
// parent where a child leaves it open.
func NewStrategy(typer runtime.ObjectTyper, familyOf FamilyFunc) Strategy {
	return Strategy{typer, names.SimpleNameGenerator, familyOf}
}

// NamespaceScoped implements rest.RESTCreateStrategy.
func (Strategy) NamespaceScoped() bool { return true }

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy.
func (Strategy) AllowCreateOnUpdate(context.Context) bool { return false }

// AllowUnconditionalUpdate implements rest.RESTUpdateStrategy.
func (Strategy) AllowUnconditionalUpdate(context.Context) bool { return true }

// Canonicalize implements rest.RESTCreateStrategy.
func (Strategy) Canonicalize(runtime.Object) {}

// GetResetFields implements rest.ResetFieldsStrategy: server-side apply to the main resource does
// not own the status.
func (Strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(v1alpha1.GroupVersion.String()): fieldpath.NewSet(fieldpath.MakePathOrDie("status")),
	}
}

// PrepareForCreate makes the Prefix Pending, and has it wait for its children when it is deleted.
func (s Strategy) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	prefix := obj.(*ipam.Prefix)
	prefix.Generation = 1
	prefix.Status = ipam.PrefixStatus{Phase: ipam.PrefixPhasePending}
	ensureFinalizer(prefix)
	acceptTemplate(ctx, prefix)
	if prefix.Spec.IPFamily == "" && prefix.Spec.ParentRef != nil {
		prefix.Spec.IPFamily = s.familyOf(ctx, prefix.Spec.ParentRef.Name)
	}
}

// templateGroup is the API group of controllers that create Prefixes from templates. The kinds of that
// group accept any notation in a template.
const templateGroup = "networking.ironcore.dev"

// acceptTemplate puts the canonical notation in the place of another one if a kind of templateGroup
// controls the Prefix. Its controller could only log a refusal, so the object that has the template
// would wait without a word.
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

// PrepareForUpdate keeps the status and, until it is being deleted, the finalizer: a manifest that
// says nothing of finalizers is not meant to take it off.
func (Strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newPrefix, oldPrefix := obj.(*ipam.Prefix), old.(*ipam.Prefix)
	newPrefix.Status = oldPrefix.Status
	if oldPrefix.DeletionTimestamp == nil {
		ensureFinalizer(newPrefix)
	}
	keepSpec(&newPrefix.Spec, &oldPrefix.Spec)
	bumpGeneration(newPrefix, oldPrefix)
}

// keepSpec makes what means the same look the same. A field that the server may have filled in stays
// as it is if an update leaves it out, like the clusterIP of a Service: otherwise the manifest that a
// child was created from could not be put again. Another notation of the range that is stored is no
// change either.
func keepSpec(newSpec, oldSpec *ipam.PrefixSpec) {
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

// WarningsOnCreate implements rest.RESTCreateStrategy.
func (Strategy) WarningsOnCreate(context.Context, runtime.Object) []string { return nil }

// WarningsOnUpdate implements rest.RESTUpdateStrategy. Who applies a manifest to a Prefix that is being
// deleted most likely expects it to stay.
func (Strategy) WarningsOnUpdate(_ context.Context, obj, old runtime.Object) []string {
	return validation.DeletionWarnings(&obj.(*ipam.Prefix).ObjectMeta, &old.(*ipam.Prefix).ObjectMeta, ipam.PrefixKind)
}

// StatusStrategy is for writes to the status: they change nothing else.
type StatusStrategy struct{ Strategy }

// GetResetFields implements rest.ResetFieldsStrategy: server-side apply to the status owns nothing
// but the status.
func (StatusStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(v1alpha1.GroupVersion.String()): fieldpath.NewSet(
			fieldpath.MakePathOrDie("spec"), fieldpath.MakePathOrDie("metadata")),
	}
}

// PrepareForUpdate keeps everything but the status.
func (StatusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newPrefix, oldPrefix := obj.(*ipam.Prefix), old.(*ipam.Prefix)
	newPrefix.Spec = oldPrefix.Spec
	metav1.ResetObjectMetaForStatus(&newPrefix.ObjectMeta, &oldPrefix.ObjectMeta)
	completeTransition(newPrefix, oldPrefix)
}

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (StatusStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// ValidateUpdate implements rest.RESTUpdateStrategy.
func (StatusStrategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	return validation.ValidatePrefixStatusUpdate(obj.(*ipam.Prefix), old.(*ipam.Prefix))
}

// BindingStrategy is for bindings, which write spec and status at once.
type BindingStrategy struct{ Strategy }

// PrepareForUpdate implements rest.RESTUpdateStrategy.
func (BindingStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	newPrefix, oldPrefix := obj.(*ipam.Prefix), old.(*ipam.Prefix)
	if spec := &newPrefix.Spec; oldPrefix.Spec.Prefix == "" && spec.IPFamily == ipam.IPv6 {
		// The child of another server asked for a part of an IPv4-mapped IPv6 prefix, which means IPv4.
		if bound, err := cidr.ParseStored(spec.Prefix); err == nil && cidr.Map(bound).Bits() == int(spec.PrefixLength) {
			spec.Prefix = cidr.Map(bound).String()
		}
	}
	keepSpec(&newPrefix.Spec, &oldPrefix.Spec)
	bumpGeneration(newPrefix, oldPrefix)
	completeTransition(newPrefix, oldPrefix)
}

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (BindingStrategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
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
	if !equality.Semantic.DeepEqual(newPrefix.Spec, oldPrefix.Spec) {
		newPrefix.Generation = oldPrefix.Generation + 1
	}
}

// completeTransition makes what follows from the phase true whoever wrote the phase: the time moves
// with the phase and not otherwise, and an allocated Prefix has the condition to wait for.
func completeTransition(newPrefix, oldPrefix *ipam.Prefix) {
	newStatus, oldStatus := &newPrefix.Status, &oldPrefix.Status
	if newStatus.Phase == "" && oldStatus.Phase == "" {
		// Another server of the group begins without a phase.
		newStatus.Phase = ipam.PrefixPhasePending
	}
	if newStatus.Phase == oldStatus.Phase {
		newStatus.LastPhaseTransitionTime = oldStatus.LastPhaseTransitionTime
		keepAllocated(newStatus, oldStatus)
		return
	}
	now := metav1.Now()
	newStatus.LastPhaseTransitionTime = &now
	if newStatus.Phase == ipam.PrefixPhaseAllocated && newStatus.Usage == nil {
		newStatus.Usage = Unused(newPrefix.Spec.Prefix)
	}
	if newStatus.Phase != ipam.PrefixPhaseAllocated || meta.IsStatusConditionTrue(newStatus.Conditions, ipam.ConditionAllocated) {
		return
	}
	condition := metav1.Condition{
		Type:               ipam.ConditionAllocated,
		Status:             metav1.ConditionTrue,
		Reason:             ipam.ReasonRoot,
		Message:            "A root Prefix holds its own prefix",
		ObservedGeneration: newPrefix.Generation,
	}
	if parent := newPrefix.Spec.ParentRef; parent != nil {
		condition.Reason = ipam.ReasonAllocated
		condition.Message = fmt.Sprintf("Allocated %s from %s", newPrefix.Spec.Prefix, parent.Name)
	}
	meta.SetStatusCondition(&newStatus.Conditions, condition)
	newStatus.ObservedGeneration = newPrefix.Generation
}

// keepAllocated keeps the condition to wait for when a client that knows no conditions writes the
// whole status. What is allocated stays so.
func keepAllocated(newStatus, oldStatus *ipam.PrefixStatus) {
	if newStatus.Phase != ipam.PrefixPhaseAllocated || meta.FindStatusCondition(newStatus.Conditions, ipam.ConditionAllocated) != nil {
		return
	}
	if condition := meta.FindStatusCondition(oldStatus.Conditions, ipam.ConditionAllocated); condition != nil {
		meta.SetStatusCondition(&newStatus.Conditions, *condition)
	}
	if newStatus.ObservedGeneration == 0 {
		newStatus.ObservedGeneration = oldStatus.ObservedGeneration
	}
}

// Unused returns the usage of a prefix that nothing is allocated from, which is how every Prefix
// begins. It returns nil if the prefix is not valid.
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

// FieldRootOf selects the roots of a namespace, whose name is its value. It is for lists within the
// server, which find them by the index of Indexers; clients cannot select by it.
const FieldRootOf = "rootOf"

// Indexers are the indexes of the watch cache. Only roots are in there, so that the many children
// cost nothing.
func Indexers() *cache.Indexers {
	return &cache.Indexers{storage.FieldIndex(FieldRootOf): func(obj any) ([]string, error) {
		if prefix, ok := obj.(*ipam.Prefix); ok && prefix.Spec.IsRoot() {
			return []string{prefix.Namespace}, nil
		}
		return nil, nil
	}}
}

// Match returns the predicate of a list or watch.
func Match(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
	return storage.SelectionPredicate{Label: label, Field: field, GetAttrs: GetAttrs, IndexFields: []string{FieldRootOf}}
}

// GetAttrs returns the labels and the selectable fields of a Prefix.
func GetAttrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	prefix, ok := obj.(*ipam.Prefix)
	if !ok {
		return nil, nil, fmt.Errorf("not a Prefix: %T", obj)
	}
	parent, rootOf := "", ""
	if ref := prefix.Spec.ParentRef; ref != nil {
		parent = ref.Name
	}
	if prefix.Spec.IsRoot() {
		rootOf = prefix.Namespace
	}
	return prefix.Labels, generic.MergeFieldsSets(generic.ObjectMetaFieldsSet(&prefix.ObjectMeta, true), fields.Set{
		v1alpha1.FieldIPFamily:      string(prefix.Spec.IPFamily),
		v1alpha1.FieldPrefix:        prefix.Spec.Prefix,
		v1alpha1.FieldParentRefName: parent,
		v1alpha1.FieldPhase:         string(prefix.Status.Phase),
		FieldRootOf:                 rootOf,
	}), nil
}
