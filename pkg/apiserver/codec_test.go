// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"testing"
	"unsafe"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// TestCodecShares decodes each object twice, as the store does.
func TestCodecShares(t *testing.T) {
	t.Parallel()
	etcd := NewOptions().Recommended.Etcd
	if err := setCodec(etcd); err != nil {
		t.Fatal(err)
	}
	meta := metav1.ObjectMeta{Name: "a", Namespace: "team", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}}}
	for _, obj := range []runtime.Object{
		&ipam.Prefix{ObjectMeta: meta, Spec: ipam.PrefixSpec{Prefix: "10.0.0.0/8"}},
		&ipam.PrefixAllocation{ObjectMeta: meta, Spec: ipam.PrefixAllocationSpec{Prefix: "10.0.0.0/8"}},
	} {
		data, err := runtime.Encode(etcd.StorageConfig.Codec, obj)
		if err != nil {
			t.Fatal(err)
		}
		var decoded []metav1.Object
		for range 2 {
			out, err := runtime.Decode(etcd.StorageConfig.Codec, data)
			if err != nil {
				t.Fatal(err)
			}
			decoded = append(decoded, out.(metav1.Object))
		}
		a, b := decoded[0], decoded[1]
		if a.GetName() != "a" || a.GetNamespace() != "team" || a.GetManagedFields()[0].FieldsV1.GetRawString() != `{"f:spec":{}}` {
			t.Errorf("got %+v", a)
		}
		if a == b || unsafe.StringData(a.GetNamespace()) != unsafe.StringData(b.GetNamespace()) || a.GetManagedFields()[0].FieldsV1 != b.GetManagedFields()[0].FieldsV1 {
			t.Errorf("two of %T share too little, or too much", obj)
		}
	}
}
