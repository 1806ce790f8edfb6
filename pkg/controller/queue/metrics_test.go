// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"errors"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/component-base/metrics/testutil"
)

// TestSeriesExist shows that the usual series are there before anything was refused.
func TestSeriesExist(t *testing.T) {
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "ipam_refused_bindings_total" {
			if n := len(family.GetMetric()); n != 8 {
				t.Errorf("%d series", n)
			}
			return
		}
	}
	t.Error("there are none")
}

func TestCountRefusedBinding(t *testing.T) {
	resource := schema.GroupResource{Resource: "prefixallocations"}
	conflict := func(cause metav1.CauseType) error {
		err := apierrors.NewConflict(resource, "a", errors.New("in use"))
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: cause}}
		return err
	}
	invented := &apierrors.StatusError{ErrStatus: metav1.Status{Code: 418, Reason: "Invented by a webhook"}}
	for _, tt := range []struct {
		name   string
		err    error
		reason string
	}{
		{"no error", nil, ""},
		{"no answer", errors.New("connection refused"), ""},
		{"overloaded", apierrors.NewTooManyRequests("later", 1), ""},
		{"broken", apierrors.NewInternalError(errors.New("etcd")), ""},
		{"in use", conflict(v1alpha1.CauseTypePrefixInUse), "PrefixInUse"},
		{"of somebody else", conflict(v1alpha1.CauseTypeNotAllocatedFor), "NotAllocatedFor"},
		{"conflict", conflict("Unknown"), "Conflict"},
		{"gone", apierrors.NewNotFound(resource, "a"), "NotFound"},
		{"quota", apierrors.NewForbidden(resource, "a", errors.New("quota")), "Forbidden"},
		{"invented", invented, "Other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refusedBindings.Reset()
			CountRefusedBinding("prefixallocations", tt.err)
			for _, reason := range []string{"PrefixInUse", "NotAllocatedFor", "Conflict", "NotFound", "Forbidden", "Other", "Invented by a webhook", "TooManyRequests", "InternalError"} {
				want := 0.0
				if reason == tt.reason {
					want = 1
				}
				if got, err := testutil.GetCounterMetricValue(refusedBindings.WithLabelValues("prefixallocations", reason)); err != nil || got != want {
					t.Errorf("%s is counted %v times instead of %v, %v", reason, got, want, err)
				}
			}
		})
	}
}
