// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Parents answers questions about Prefixes as parents, for the namespace of the context. A Prefix of another namespace
// that is not shared with it counts as missing. The answers may be stale.
type Parents interface {
	// Family returns the IP family of a Prefix, or "" if it is not known.
	Family(ctx context.Context, namespace, name string) ipam.IPFamily
	// PolicyViolation returns why the PrefixPolicies of a Prefix do not allow that a prefix of a length is allocated from it. It
	// returns "" if they do. It fails if the policies are not known.
	PolicyViolation(ctx context.Context, namespace, name string, bits int) (why string, err error)
	// CoolDown returns for how long the space of a Prefix of the namespace cools down, if it has the given labels. It is 0 if
	// it does not.
	CoolDown(ctx context.Context, namespace string, set labels.Set) (time.Duration, error)
}

// ParentName returns the name of a parent for messages to an object of a namespace: with the namespace of the parent if
// that is another one.
func ParentName(namespace, parentNamespace, name string) string {
	if namespace == parentNamespace {
		return name
	}
	return parentNamespace + "/" + name
}

// Strategy implements the methods of a strategy that are the same for all kinds.
type Strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	// kind is the kind of the object, for warnings.
	kind string
}

// NewStrategy returns the common part of the strategy of the given kind.
func NewStrategy(typer runtime.ObjectTyper, kind string) Strategy {
	return Strategy{typer, names.SimpleNameGenerator, kind}
}

// NamespaceScoped implements rest.RESTCreateStrategy.
func (Strategy) NamespaceScoped() bool { return true }

// AllowCreateOnUpdate implements rest.RESTUpdateStrategy.
func (Strategy) AllowCreateOnUpdate(context.Context) bool { return false }

// AllowUnconditionalUpdate implements rest.RESTUpdateStrategy.
func (Strategy) AllowUnconditionalUpdate(context.Context) bool { return true }

// Canonicalize implements rest.RESTCreateStrategy.
func (Strategy) Canonicalize(runtime.Object) {}

// GetResetFields implements rest.ResetFieldsStrategy. Server-side apply to the main resource does not own the status.
func (Strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set { return resets("status") }

// WarningsOnCreate implements rest.RESTCreateStrategy.
func (Strategy) WarningsOnCreate(context.Context, runtime.Object) []string { return nil }

// WarningsOnUpdate implements rest.RESTUpdateStrategy. It warns about updates of an object that is being deleted,
// because the client probably expects the object to stay. An update that removes finalizers helps to complete the
// deletion, and gets no warning.
func (s Strategy) WarningsOnUpdate(_ context.Context, obj, old runtime.Object) []string {
	newMeta, newErr := meta.Accessor(obj)
	oldMeta, oldErr := meta.Accessor(old)
	if newErr != nil || oldErr != nil || oldMeta.GetDeletionTimestamp() == nil || len(newMeta.GetFinalizers()) < len(oldMeta.GetFinalizers()) {
		return nil
	}
	return []string{fmt.Sprintf("%s %s is being deleted (since %s): the update does not stop the deletion",
		s.kind, oldMeta.GetName(), oldMeta.GetDeletionTimestamp().UTC().Format(time.RFC3339))}
}

// Subresource overrides methods of Strategy for the status and binding subresources.
type Subresource struct{}

// GetResetFields implements rest.ResetFieldsStrategy. Server-side apply to the status owns only the status.
func (Subresource) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return resets("spec", "metadata")
}

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (Subresource) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

// DerivedSubresource is like Subresource, for kinds whose conditions Ready and Stalled are derived.
type DerivedSubresource struct{}

// GetResetFields implements rest.ResetFieldsStrategy. Nobody owns the derived conditions.
func (DerivedSubresource) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	fields := resets("spec", "metadata")
	for _, set := range fields {
		for _, derived := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled} {
			set.Insert(fieldpath.MakePathOrDie("status", "conditions", fieldpath.KeyByFields("type", derived)))
		}
	}
	return fields
}

// WarningsOnUpdate implements rest.RESTUpdateStrategy.
func (DerivedSubresource) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

func resets(fields ...string) map[fieldpath.APIVersion]*fieldpath.Set {
	set := fieldpath.NewSet()
	for _, field := range fields {
		set.Insert(fieldpath.MakePathOrDie(field))
	}
	return map[fieldpath.APIVersion]*fieldpath.Set{fieldpath.APIVersion(v1alpha1.GroupVersion.String()): set}
}

// BumpGeneration increments the generation if the spec has changed.
func BumpGeneration(newMeta, oldMeta *metav1.ObjectMeta, newSpec, oldSpec any) {
	if !equality.Semantic.DeepEqual(newSpec, oldSpec) {
		newMeta.Generation = oldMeta.Generation + 1
	}
}

// Phase holds pointers to the phase and the fields that depend on it in the status of any kind.
type Phase[P ~string] struct {
	// Phase is the phase. Since is the time of its last change.
	Phase *P
	Since **metav1.Time
	// Conditions are the conditions in the same status.
	Conditions *[]metav1.Condition
}

// Move updates the fields that depend on the phase. It reports whether the phase has changed.
//
// Since changes only together with the phase. If neither the old nor the new status has a phase, the phase becomes
// pending: other servers of the API group may write objects without one. If the object stays allocated and the new
// status lacks the condition Allocated, Move restores it, because a client that does not know conditions may write a
// complete status without them.
func (p Phase[P]) Move(old Phase[P], pending, allocated P) (moved bool) {
	if *p.Phase == "" && *old.Phase == "" {
		*p.Phase = pending
	}
	if *p.Phase != *old.Phase {
		now := metav1.Now()
		*p.Since = &now
		return true
	}
	*p.Since = *old.Since
	if condition := meta.FindStatusCondition(*old.Conditions, v1alpha1.ConditionAllocated); condition != nil &&
		*p.Phase == allocated && meta.FindStatusCondition(*p.Conditions, v1alpha1.ConditionAllocated) == nil {
		meta.SetStatusCondition(p.Conditions, *condition)
	}
	return false
}

// SetAllocated sets the condition Allocated to true. It does nothing if the condition is true already.
func SetAllocated(conditions *[]metav1.Condition, reason, message string, generation int64) {
	if meta.IsStatusConditionTrue(*conditions, v1alpha1.ConditionAllocated) {
		return
	}
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: generation,
	})
}

var (
	_ rest.ResetFieldsStrategy = Strategy{}
	_ rest.ResetFieldsStrategy = Subresource{}
	_ rest.ResetFieldsStrategy = DerivedSubresource{}
)
