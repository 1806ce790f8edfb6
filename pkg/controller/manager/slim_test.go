// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"reflect"
	"sync"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// TestSlim has only that dropped which no controller needs, or writes back.
func TestSlim(t *testing.T) {
	metadata := metav1.ObjectMeta{
		Name: "a", Namespace: "team", Labels: map[string]string{"key": "value"}, Annotations: map[string]string{"key": "value"},
		OwnerReferences: []metav1.OwnerReference{{Name: "owner", UID: "1"}}, Finalizers: []string{"example.com/f"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
	}
	conditions := []metav1.Condition{{Type: v1alpha1.ConditionAllocated, Message: "because"}}
	allocation := func(phase v1alpha1.PrefixAllocationPhase) *v1alpha1.PrefixAllocation {
		return &v1alpha1.PrefixAllocation{
			ObjectMeta: *metadata.DeepCopy(), Spec: v1alpha1.PrefixAllocationSpec{PrefixRef: &v1alpha1.LocalObjectReference{Name: "root"}, PrefixLength: 24},
			Status: v1alpha1.PrefixAllocationStatus{Phase: phase, Prefix: "10.0.0.0/24", Conditions: conditions},
		}
	}
	for name, obj := range map[string]runtime.Object{
		"prefix": &v1alpha1.Prefix{
			ObjectMeta: *metadata.DeepCopy(), Spec: v1alpha1.PrefixSpec{Prefix: "10.0.0.0/8"},
			Status: v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated, Conditions: conditions, Used: []string{"10.0.0.0/24"}},
		},
		"pending":   allocation(v1alpha1.PrefixAllocationPhasePending),
		"failed":    allocation(v1alpha1.PrefixAllocationPhaseFailed),
		"allocated": allocation(v1alpha1.PrefixAllocationPhaseAllocated),
	} {
		want := obj.DeepCopyObject()
		want.(metav1.Object).SetManagedFields(nil)
		if name == "allocated" {
			a := want.(*v1alpha1.PrefixAllocation)
			a.Labels, a.Status.Conditions = nil, nil
		}
		for how, transform := range map[string]func(any) (any, error){"slim": slim, "slimCopy": slimCopy} {
			got, err := transform(obj.DeepCopyObject())
			if err != nil || !equality.Semantic.DeepEqual(got, want) {
				t.Errorf("%s of %s: got %v, %v, want %v", how, name, got, err, want)
			}
		}
	}
}

// TestSlimTwice has what was made slim made so again, as an informer does that begins with a watch, beside others with the same
// labels: it is a race if anything is written where these read it.
func TestSlimTwice(t *testing.T) {
	prefix := func() *v1alpha1.Prefix {
		return &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"of": "all"}}}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			p := prefix()
			for range 100 {
				if _, err := slim(p); err != nil || !reflect.DeepEqual(p, prefix()) {
					t.Errorf("got %v, %v", p, err)
				}
			}
		})
	}
	wg.Wait()
}
