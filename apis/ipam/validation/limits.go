// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits of the metadata and the selector of an object. Servers and controllers keep these in memory and compare
// them often. Annotations have the limit of Kubernetes, 256 KiB. A stored value above its limit remains valid if it
// does not grow.
const (
	// MaxOwnerReferences is the maximum number of owner references.
	MaxOwnerReferences = 64
	// MaxOwnerReferenceBytes is the maximum total size of the texts in all owner references, in bytes. Kubernetes does
	// not limit them.
	MaxOwnerReferenceBytes = 32 << 10
	// MaxFinalizers is the maximum number of finalizers.
	MaxFinalizers = 64
	// MaxManagers is the maximum number of entries in metadata.managedFields.
	MaxManagers = 64
	// MaxManagedBytes is the maximum total size of metadata.managedFields, in bytes.
	MaxManagedBytes = 256 << 10
	// MaxLabelBytes is the maximum total size of the keys and values of all labels, in bytes.
	MaxLabelBytes = 64 << 10
	// MaxSelectorTerms is the maximum number of labels, expressions, and values of expressions in a selector.
	MaxSelectorTerms = 64
	// MaxSelectorBytes is the maximum total size of the keys and values in a selector, in bytes.
	MaxSelectorBytes = 8 << 10
)

// validateMetadataLimits checks the limits of metadata that grew.
func validateMetadataLimits(newMeta, oldMeta *metav1.ObjectMeta, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	count := func(name string, got, stored, most int) {
		if got > most && got > stored {
			allErrs = append(allErrs, field.TooMany(fldPath.Child(name), got, most))
		}
	}
	size := func(name string, got, stored, most int) {
		if got > most && got > stored {
			allErrs = append(allErrs, field.TooLong(fldPath.Child(name), "", most))
		}
	}
	count("ownerReferences", len(newMeta.OwnerReferences), len(oldMeta.OwnerReferences), MaxOwnerReferences)
	size("ownerReferences", ownerReferenceBytes(newMeta), ownerReferenceBytes(oldMeta), MaxOwnerReferenceBytes)
	count("finalizers", len(newMeta.Finalizers), len(oldMeta.Finalizers), MaxFinalizers)
	count("managedFields", len(newMeta.ManagedFields), len(oldMeta.ManagedFields), MaxManagers)
	size("managedFields", managedBytes(newMeta), managedBytes(oldMeta), MaxManagedBytes)
	if bad := unreadableTimes(newMeta); len(bad) > len(unreadableTimes(oldMeta)) {
		allErrs = append(allErrs, field.Invalid(fldPath.Child("managedFields").Index(bad[0]).Child("time"),
			newMeta.ManagedFields[bad[0]].Time.Unix(), "must be in the years 0 to 9999: other times cannot be encoded as JSON"))
	}
	size("labels", labelBytes(newMeta.Labels), labelBytes(oldMeta.Labels), MaxLabelBytes)
	return allErrs
}

func ownerReferenceBytes(meta *metav1.ObjectMeta) (total int) {
	for i := range meta.OwnerReferences {
		ref := &meta.OwnerReferences[i]
		total += len(ref.APIVersion) + len(ref.Kind) + len(ref.Name) + len(ref.UID)
	}
	return total
}

func managedBytes(meta *metav1.ObjectMeta) (total int) {
	for i := range meta.ManagedFields {
		entry := &meta.ManagedFields[i]
		total += len(entry.Manager) + len(entry.APIVersion) + len(entry.Subresource)
		if fields := entry.FieldsV1; fields != nil {
			total += len(fields.GetRawBytes())
		}
	}
	return total
}

// unreadableTimes returns the indexes of the managed fields whose time cannot be encoded as JSON. Protobuf can
// encode it, but then every JSON list that contains the object would fail.
func unreadableTimes(meta *metav1.ObjectMeta) (indexes []int) {
	for i := range meta.ManagedFields {
		if at := meta.ManagedFields[i].Time; at != nil && (at.UTC().Year() < 0 || at.UTC().Year() > 9999) {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

func labelBytes(labels map[string]string) (total int) {
	for key, value := range labels {
		total += len(key) + len(value)
	}
	return total
}

// validateSelectorLimits checks the limits of a selector. Selectors are immutable, so a stored selector does not
// matter.
func validateSelectorLimits(selector *metav1.LabelSelector, fldPath *field.Path) *field.Error {
	if selector == nil {
		return nil
	}
	terms, bytes := len(selector.MatchLabels)+len(selector.MatchExpressions), labelBytes(selector.MatchLabels)
	for i := range selector.MatchExpressions {
		expression := &selector.MatchExpressions[i]
		terms, bytes = terms+len(expression.Values), bytes+len(expression.Key)
		for _, value := range expression.Values {
			bytes += len(value)
		}
	}
	switch {
	case terms > MaxSelectorTerms:
		return field.Forbidden(fldPath, fmt.Sprintf("has %d labels, expressions and values; at most %d are supported", terms, MaxSelectorTerms))
	case bytes > MaxSelectorBytes:
		return field.Forbidden(fldPath, fmt.Sprintf("has keys and values of %d bytes; at most %d are supported", bytes, MaxSelectorBytes))
	}
	return nil
}
