// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// refusedBindings counts the bindings that the API server refused.
var refusedBindings = metrics.NewCounterVec(&metrics.CounterOpts{
	Namespace:      "ipam",
	Name:           "refused_bindings_total",
	Help:           "Number of bindings that the API server refused, by resource (prefixes or prefixallocations) and by reason: PrefixInUse, NotAllocatedFor, the reason of the Status, such as Conflict or Forbidden, or Other.",
	StabilityLevel: metrics.ALPHA,
}, []string{"resource", "reason"})

func init() {
	legacyregistry.MustRegister(refusedBindings)
	// The usual series exist from the start. Otherwise rate() would miss the first refusal.
	for _, resource := range []string{"prefixes", "prefixallocations"} {
		for _, reason := range []string{v1alpha1.CauseTypePrefixInUse, v1alpha1.CauseTypeNotAllocatedFor, string(metav1.StatusReasonConflict), string(metav1.StatusReasonForbidden)} {
			refusedBindings.WithLabelValues(resource, reason)
		}
	}
}

// reasons are the reasons that have a series of their own. Webhooks can answer with any others.
var reasons = []metav1.StatusReason{
	metav1.StatusReasonBadRequest, metav1.StatusReasonConflict, metav1.StatusReasonForbidden, metav1.StatusReasonInvalid,
	metav1.StatusReasonMethodNotAllowed, metav1.StatusReasonNotFound, metav1.StatusReasonRequestEntityTooLarge,
	metav1.StatusReasonTooManyRequests, metav1.StatusReasonUnauthorized,
}

// CountRefusedBinding counts a binding of a resource that failed with an error, if the API server refused it. A binding
// without an answer, or that the server could not serve, is not refused.
func CountRefusedBinding(resource string, err error) {
	if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && !IsRefusal(err) {
		return
	}
	refusedBindings.WithLabelValues(resource, reasonOf(err)).Inc()
}

// reasonOf returns the reason of a refusal. The result is one of a fixed set.
func reasonOf(err error) string {
	for _, cause := range []metav1.CauseType{v1alpha1.CauseTypePrefixInUse, v1alpha1.CauseTypeNotAllocatedFor} {
		if apierrors.HasStatusCause(err, cause) {
			return string(cause)
		}
	}
	if reason := apierrors.ReasonForError(err); slices.Contains(reasons, reason) {
		return string(reason)
	}
	return "Other"
}
