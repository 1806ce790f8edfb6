// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDropUnread checks that the caches of the controllers hold nothing of the conditions that the server derives.
func TestDropUnread(t *testing.T) {
	conditions := func(types ...string) (conditions []metav1.Condition) {
		for _, conditionType := range types {
			conditions = append(conditions, metav1.Condition{Type: conditionType})
		}
		return conditions
	}
	all := []string{v1alpha1.ConditionAllocated, v1alpha1.ConditionReady, v1alpha1.ConditionStalled}
	fields := []metav1.ManagedFieldsEntry{{Manager: "me"}}
	for name, c := range map[string]struct{ types, want []string }{
		"pending":    {all[1:], nil},
		"allocated":  {all[:2], all[:1]},
		"impossible": {all, all[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{ManagedFields: fields}, Status: v1alpha1.PrefixStatus{Conditions: conditions(c.types...)}}
			allocation := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{ManagedFields: fields}, Status: v1alpha1.PrefixAllocationStatus{Conditions: conditions(c.types...)}}
			for _, obj := range []any{prefix, allocation} {
				if got, err := dropUnread(obj); got != obj || err != nil {
					t.Fatalf("got %v, %v", got, err)
				}
			}
			if prefix.ManagedFields != nil || allocation.ManagedFields != nil {
				t.Error("it has managed fields")
			}
			for _, got := range [][]metav1.Condition{prefix.Status.Conditions, allocation.Status.Conditions} {
				if len(got) != len(c.want) || cap(got) != len(c.want) || len(got) > 0 && got[0].Type != c.want[0] {
					t.Errorf("%v, with a capacity of %d, are left", got, cap(got))
				}
			}
		})
	}
}
