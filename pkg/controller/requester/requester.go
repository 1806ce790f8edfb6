// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package requester links a PrefixAllocation to its requester: the child Prefix that it was created for.
//
// Users who may write an allocation may also write its metadata. Until the allocation is Allocated, the results of this
// package are only hints. When the API server binds the allocation, it verifies the controller reference and records the
// child in the claim. From then on it keeps the reference.
package requester

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/cache"
)

// Of returns the controller reference of an allocation if it refers to a Prefix of this API group, in any version.
// Otherwise it returns nil. The caller must not modify the reference.
func Of(allocation *v1alpha1.PrefixAllocation) *metav1.OwnerReference {
	ref := metav1.GetControllerOfNoCopy(allocation)
	if ref == nil || ref.Kind != v1alpha1.PrefixKind {
		return nil
	}
	if gv, err := schema.ParseGroupVersion(ref.APIVersion); err != nil || gv.Group != v1alpha1.GroupVersion.Group {
		return nil
	}
	return ref
}

// IsOf reports whether the controller reference of an allocation refers to prefix, by namespace, name and UID.
func IsOf(allocation *v1alpha1.PrefixAllocation, prefix *v1alpha1.Prefix) bool {
	ref := Of(allocation)
	return ref != nil && ref.Name == prefix.Name && ref.UID == prefix.UID && allocation.Namespace == prefix.Namespace
}

// IsLost reports whether an allocation was created for a child, but no longer refers to it. This happens if somebody
// removes the reference, or restores the allocation from a backup without it. The child gets another allocation, so
// nobody needs this one.
func IsLost(allocation *v1alpha1.PrefixAllocation) bool {
	if Of(allocation) != nil {
		return false
	}
	return allocation.Labels[v1alpha1.RequesterUIDLabel] != "" || isDerived(allocation.Name)
}

// Describe names an allocation in a message: by the Prefix that it was created for, or else by the allocation itself.
func Describe(allocation *v1alpha1.PrefixAllocation) string {
	if ref := Of(allocation); ref != nil {
		return v1alpha1.PrefixKind + " " + ref.Name
	}
	return v1alpha1.PrefixAllocationKind + " " + allocation.Name
}

// The name of an allocation is the name of the child, a hyphen, a digest of the request, and a check digest of all the
// preceding characters. Both digests are hexadecimal. The check digest distinguishes derived names from names that users
// chose.
const (
	requestDigits = 10
	checkDigits   = 6
)

// Name returns the name of the allocation for a child. It is derived from the UID and the request of the child, so
// creating the allocation is idempotent. attempt starts at 0. Each attempt gives another name, for the case that
// the previous names are already taken by other allocations.
func Name(prefix *v1alpha1.Prefix, attempt int) string {
	ref := ""
	if prefix.Spec.ParentRef != nil {
		ref = prefix.Spec.ParentRef.Name
	}
	request := fmt.Sprintf("%s\x00%s\x00%d\x00%s", prefix.UID, prefix.Spec.Prefix, prefix.Spec.PrefixLength, ref)
	if attempt > 0 {
		request += "\x00" + strconv.Itoa(attempt)
	}
	stem := prefix.Name
	if most := validation.DNS1123SubdomainMaxLength - len("-") - requestDigits - checkDigits; len(stem) > most {
		stem = stem[:most]
	}
	name := strings.TrimRight(stem, "-.") + "-" + digest(request, requestDigits)
	return name + check(name)
}

// isDerived reports whether a name was returned by Name. Of the other names that end in a hyphen and 16 hexadecimal
// digits, one in 16 million gives a false positive.
func isDerived(name string) bool {
	at := len(name) - checkDigits
	return at > requestDigits && name[at-requestDigits-1] == '-' && check(name[:at]) == name[at:]
}

// check returns the check digest of a name.
func check(name string) string { return digest("ipam.ironcore.dev/requester\x00"+name, checkDigits) }

// digest returns the first hexadecimal digits of the SHA-256 of s.
func digest(s string, digits int) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:digits]
}

// byChild is the name of the index of the allocations. The key is the namespace/name of the Prefix in the controller
// reference. So it has those of earlier Prefixes of that name, too.
const byChild = "byChild"

// AddIndex adds the index that AllocationsFor needs to an informer of PrefixAllocations, unless it has it. It fails if the
// informer has stopped.
func AddIndex(indexer cache.Indexer) error {
	if indexer.GetIndexers()[byChild] != nil {
		return nil
	}
	return indexer.AddIndexers(cache.Indexers{byChild: func(obj any) ([]string, error) {
		allocation := obj.(*v1alpha1.PrefixAllocation)
		if ref := Of(allocation); ref != nil {
			// Owner references are valid only within a namespace.
			return []string{types.NamespacedName{Namespace: allocation.Namespace, Name: ref.Name}.String()}, nil
		}
		return nil, nil
	}})
}

// AllocationsFor returns the allocations that were created for any Prefix of a name, in any order.
func AllocationsFor(indexer cache.Indexer, child types.NamespacedName) []*v1alpha1.PrefixAllocation {
	return observe.ByIndex[*v1alpha1.PrefixAllocation](indexer, byChild, child.String())
}
