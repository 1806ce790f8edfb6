// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// codecRounds is the number of turns of each serializer.
const codecRounds = 5

func measureCodecs(b *bench) {
	one := allocatedPrefix()
	list := &v1alpha1.PrefixList{ListMeta: metav1.ListMeta{ResourceVersion: "123456"}}
	for n := range b.count(1000) {
		item := one.DeepCopy()
		item.Name = fmt.Sprintf("%s-%d", one.Name, n)
		list.Items = append(list.Items, *item)
	}
	version := schema.GroupVersion(v1alpha1.GroupVersion)
	one.SetGroupVersionKind(version.WithKind(v1alpha1.PrefixKind))
	list.SetGroupVersionKind(version.WithKind(v1alpha1.PrefixKind + "List"))
	for _, of := range []struct {
		id  string
		obj runtime.Object
		// empty returns an empty object to decode into.
		empty func() runtime.Object
	}{
		{"codec one", one, func() runtime.Object { return &v1alpha1.Prefix{} }},
		{"codec list", list, func() runtime.Object { return &v1alpha1.PrefixList{} }},
	} {
		side := func(mediaType string) func(int) float64 {
			info, ok := runtime.SerializerInfoForMediaType(apiserver.Codecs.SupportedMediaTypes(), mediaType)
			if !ok {
				b.Fatalf("no serializer of %s", mediaType)
			}
			return func(int) float64 {
				return nanoseconds(b.timed(of.id+", "+mediaType, func() error {
					var data bytes.Buffer
					if err := info.Serializer.Encode(of.obj, &data); err != nil {
						return err
					}
					_, _, err := info.Serializer.Decode(data.Bytes(), nil, of.empty())
					return err
				}))
			}
		}
		times := turns(codecRounds, side(runtime.ContentTypeProtobuf), side(runtime.ContentTypeJSON))
		b.median(of.id, ratios(times[1], times[0]))
	}
}

// allocatedPrefix returns an Allocated child.
func allocatedPrefix() *v1alpha1.Prefix {
	now := metav1.Now().Rfc3339Copy()
	return &v1alpha1.Prefix{
		ObjectMeta: metav1.ObjectMeta{
			Name: "customer-subnet", Namespace: "default", UID: "7c9d1f01-659f-41b4-bf7b-3cdfe2f13364", ResourceVersion: "34", Generation: 2,
			CreationTimestamp: now, Labels: map[string]string{"subnet-type": "public", "region": "north"}, Finalizers: []string{v1alpha1.PrefixFinalizer},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "kubectl-client-side-apply", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: v1alpha1.GroupVersion.String(), Time: &now, FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{".":{},"f:region":{},"f:subnet-type":{}}},"f:spec":{"f:ipFamily":{},"f:parentSelector":{},"f:prefixLength":{}}}`),
			}, {
				Manager: "ipam-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: v1alpha1.GroupVersion.String(), Time: &now, FieldsType: "FieldsV1",
				FieldsV1:    metav1.NewFieldsV1(`{"f:status":{"f:usage":{"f:allocations":{},"f:free":{},"f:largestFree":{},"f:percent":{},"f:used":{}},"f:used":{}}}`),
				Subresource: "status",
			}},
		},
		Spec: v1alpha1.PrefixSpec{
			IPFamily: v1alpha1.IPv4, Prefix: "10.128.0.0/24", PrefixLength: 24, ParentRef: &v1alpha1.LocalObjectReference{Name: "root"},
			ParentSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"subnet-type": "public"}},
		},
		Status: v1alpha1.PrefixStatus{
			Phase: v1alpha1.PrefixPhaseAllocated, LastPhaseTransitionTime: &now, ObservedGeneration: 2,
			Used: []string{"10.128.0.0/28", "10.128.0.16/28"},
			Usage: &v1alpha1.PrefixUsage{
				Total: "256", Used: "32", Free: "224", Percent: 12, Allocations: 2, LargestFree: "/25",
			},
			Conditions: []metav1.Condition{{
				Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionTrue, ObservedGeneration: 2, LastTransitionTime: now,
				Reason: v1alpha1.ReasonAllocated, Message: "Allocated 10.128.0.0/24 from root",
			}},
		},
	}
}
