// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package admissiontest provides helpers for the tests of the admission plugins.
package admissiontest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/configuration"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/request"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/warning"
)

// Reader is a fake initializer.Reader. It simulates a store and a cache of it that may be stale.
type Reader struct {
	// Live holds the Prefixes in the store, and Cached those in the cache. If Cached is nil, the cache equals the
	// store.
	Live, Cached []*ipam.Prefix
	// SharedWith maps the name of a parent to the other namespace that it is shared with.
	SharedWith map[string]string
	// Err is the error that all methods return.
	Err error
	// Held maps the name of a parent to its allocated prefixes, and each of these to the name of its holder.
	Held map[string]map[string]string
}

// AnyMatches implements initializer.Reader.
func (r *Reader) AnyMatches(_ context.Context, namespace string, selector labels.Selector) (bool, error) {
	return slices.ContainsFunc(r.of(false), func(p *ipam.Prefix) bool {
		return p.Namespace == namespace && selector.Matches(labels.Set(p.Labels))
	}), r.Err
}

// Children implements initializer.Reader.
func (r *Reader) Children(_ context.Context, prefix *ipam.Prefix) (int64, error) {
	return int64(len(r.Held[prefix.Name])), r.Err
}

// Holder implements initializer.Reader.
func (r *Reader) Holder(_ context.Context, parent *ipam.Prefix, wanted netip.Prefix, _ string) (netip.Prefix, string, error) {
	for held, by := range r.Held[parent.Name] {
		if prefix := netip.MustParsePrefix(held); prefix.Overlaps(wanted) {
			return prefix, by, r.Err
		}
	}
	return netip.Prefix{}, "", r.Err
}

// Shared implements initializer.Reader.
func (r *Reader) Shared(_ context.Context, prefix *ipam.Prefix, namespace string) (bool, error) {
	return prefix.Namespace == namespace || r.SharedWith[prefix.Name] == namespace, r.Err
}

// Prefix implements initializer.Reader.
func (r *Reader) Prefix(_ context.Context, namespace, name string, live bool) (*ipam.Prefix, error) {
	for _, p := range r.of(live) {
		if p.Namespace == namespace && p.Name == name {
			return p, r.Err
		}
	}
	return nil, r.Err
}

// RootsOverlapping implements initializer.Reader.
func (r *Reader) RootsOverlapping(_ context.Context, namespace string, prefix netip.Prefix) (roots []ipam.Prefix, err error) {
	for _, p := range r.of(false) {
		if p.Namespace == namespace && p.Spec.IsRoot() && request.PrefixOf(p).Overlaps(prefix) {
			roots = append(roots, *p)
		}
	}
	return roots, r.Err
}

func (r *Reader) of(live bool) []*ipam.Prefix {
	if live || r.Cached == nil {
		return r.Live
	}
	return r.Cached
}

// Root returns an allocated root in the namespace "ns". Its UID equals its name. used is its status.used.
func Root(name, prefix string, used ...string) *ipam.Prefix {
	return &ipam.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)},
		Spec:       ipam.PrefixSpec{IPFamily: family(prefix), Prefix: prefix},
		Status:     ipam.PrefixStatus{Phase: ipam.PrefixPhaseAllocated, Used: used},
	}
}

// Child returns a pending child with the name "child" in the namespace "ns". wanted is a prefix, or a length such as
// "/24".
func Child(parent, wanted string) *ipam.Prefix {
	prefix, length := split(wanted)
	return &ipam.Prefix{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "child", UID: "child"},
		Spec:       ipam.PrefixSpec{IPFamily: family(prefix), Prefix: prefix, PrefixLength: length, ParentRef: &ipam.LocalObjectReference{Name: parent}},
		Status:     ipam.PrefixStatus{Phase: ipam.PrefixPhasePending},
	}
}

// Allocation returns a pending PrefixAllocation with the name "allocation" and without an owner in the namespace "ns".
// wanted is a prefix, or a length such as "/24".
func Allocation(parent, wanted string) *ipam.PrefixAllocation {
	prefix, length := split(wanted)
	return &ipam.PrefixAllocation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "allocation", UID: "allocation"},
		Spec:       ipam.PrefixAllocationSpec{IPFamily: family(prefix), Prefix: prefix, PrefixLength: length, PrefixRef: &ipam.LocalObjectReference{Name: parent}},
		Status:     ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhasePending},
	}
}

// Of makes a Prefix the controller of an allocation, and returns the allocation.
func Of(owner *ipam.Prefix, allocation *ipam.PrefixAllocation) *ipam.PrefixAllocation {
	allocation.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, schema.GroupVersionKind{Group: ipam.GroupName, Version: "v1alpha1", Kind: ipam.PrefixKind})}
	return allocation
}

func family(prefix string) ipam.IPFamily {
	switch {
	case prefix == "":
		return ""
	case strings.Contains(prefix, ":"):
		return ipam.IPv6
	}
	return ipam.IPv4
}

func split(wanted string) (prefix string, length int32) {
	if _, err := fmt.Sscanf(wanted, "/%d", &length); err == nil {
		return "", length
	}
	return wanted, 0
}

// Attributes returns the admission attributes of a request for an object.
func Attributes(operation admission.Operation, obj runtime.Object, subresource string) admission.Attributes {
	kind, resource := ipam.PrefixKind, "prefixes"
	if _, ok := obj.(*ipam.PrefixAllocation); ok {
		kind, resource = ipam.PrefixAllocationKind, "prefixallocations"
	}
	version := ipam.SchemeGroupVersion
	meta := obj.(metav1.Object)
	var newObj, oldObj runtime.Object
	switch operation {
	case admission.Create:
		newObj = obj
	case admission.Delete:
		oldObj = obj
	default:
		newObj, oldObj = obj, obj
	}
	return admission.NewAttributesRecord(newObj, oldObj, version.WithKind(kind), meta.GetNamespace(), meta.GetName(),
		version.WithResource(resource), subresource, operation, nil, false, nil)
}

// Document returns a plugin configuration of the given kind. fields are its other fields as YAML. If fields is empty,
// Document returns nil.
func Document(t *testing.T, kind, fields string) *configuration.Document {
	t.Helper()
	if fields == "" {
		return nil
	}
	document, err := configuration.Read(strings.NewReader(fmt.Sprintf("apiVersion: %s\nkind: %s\n%s\n", configuration.GroupVersion, kind, fields)))
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// Warnings collects the warnings that a client would receive.
type Warnings []string

// AddWarning implements warning.Recorder.
func (w *Warnings) AddWarning(_, text string) { *w = append(*w, text) }

// Validate returns the warnings and the error of a plugin for a request. Both are nil if the plugin does not handle the
// operation.
func Validate(ctx context.Context, plugin admission.ValidationInterface, a admission.Attributes) (Warnings, error) {
	var warnings Warnings
	ctx = warning.WithWarningRecorder(ctx, &warnings)
	if !plugin.Handles(a.GetOperation()) {
		return nil, nil
	}
	err := plugin.Validate(ctx, a, nil)
	return warnings, err
}

// ChecksOnlyCreate fails the test if the plugin warns about or denies any other request than the creation of obj: its
// update, its deletion, or a request for a subresource.
func ChecksOnlyCreate(t *testing.T, plugin admission.ValidationInterface, obj runtime.Object) {
	t.Helper()
	for _, a := range []admission.Attributes{
		Attributes(admission.Update, obj, ""),
		Attributes(admission.Update, obj, "status"),
		Attributes(admission.Create, obj, "binding"),
		Attributes(admission.Delete, obj, ""),
	} {
		if warnings, err := Validate(t.Context(), plugin, a); len(warnings) > 0 || err != nil {
			t.Errorf("%s of %q: %q, %v", a.GetOperation(), a.GetSubresource(), warnings, err)
		}
	}
}
