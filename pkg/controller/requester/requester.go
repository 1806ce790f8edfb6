// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package requester tells for which child Prefix a PrefixAllocation was made.
//
// Everybody who may write an object may write its metadata, so what this package reads is a hint until
// the allocation is Allocated. The API server verifies the controller reference when it binds the
// allocation, records the child in the claim, and keeps the reference from then on.
package requester

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Of returns the controller reference of an allocation if it refers to a Prefix of this API group, in
// any version, and nil otherwise.
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

// IsOf reports whether an allocation is controlled by a Prefix, by name and uid.
func IsOf(allocation *v1alpha1.PrefixAllocation, prefix *v1alpha1.Prefix) bool {
	ref := Of(allocation)
	return ref != nil && ref.Name == prefix.Name && ref.UID == prefix.UID && allocation.Namespace == prefix.Namespace
}

// IsLost reports whether a controller made an allocation for a child, but the allocation does not refer
// to that child any more: somebody removed the reference, or the allocation was restored from a backup
// without it. The child gets another allocation, so nobody needs this one.
func IsLost(allocation *v1alpha1.PrefixAllocation) bool {
	if Of(allocation) != nil {
		return false
	}
	return allocation.Labels[v1alpha1.RequesterUIDLabel] != "" || isDerived(allocation.Name)
}

// The name of an allocation ends in a hyphen, a digest of the request, and a digest of all that comes
// before, both in hexadecimal digits. The second one tells such a name from one that a user chose.
const (
	requestDigits = 10
	checkDigits   = 6
)

// Name returns the name of the allocation for a child. It is derived from the uid of the child and from
// what the child asks for, so that making the allocation twice does not make two. The attempt, from 0
// on, gives another name in case that somebody else has the first ones.
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

// isDerived reports whether Name returned a name. One in 16 million names that end in 16 hexadecimal
// digits looks derived by chance.
func isDerived(name string) bool {
	at := len(name) - checkDigits
	return at > requestDigits && name[at-requestDigits-1] == '-' && check(name[:at]) == name[at:]
}

func check(name string) string { return digest("ipam.ironcore.dev/requester\x00"+name, checkDigits) }

func digest(s string, digits int) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:digits]
}
