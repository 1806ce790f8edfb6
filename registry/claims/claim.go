// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// holder identifies the PrefixAllocation that holds a claim.
type holder struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	// Owner is the child that the space was claimed for, the only Prefix that may use it. It is nil if the space was
	// not claimed for a child. It is verified when the claim is made. No API request can change it later; Repair and
	// Adopt can set it if it is nil.
	Owner *owner `json:"owner,omitempty"`
}

// owner identifies a Prefix in the namespace of the holder.
type owner struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
}

// claim is the value of a claim's key. Normally it has one holder. It has several if a server without claims
// allocated the same prefix more than once, until an operator resolves that. It has none if Repair has replaced a
// claim that could not be decoded.
type claim struct {
	Holders []holder `json:"holders"`
}

// holderOf returns an allocation as the holder of a claim. The owner is the Prefix in its controller reference.
// Anybody who may write the allocation can set that reference, so the caller must verify the owner before it makes a
// claim.
func holderOf(allocation *ipam.PrefixAllocation) holder {
	return holder{Namespace: allocation.Namespace, Name: allocation.Name, UID: allocation.UID, Owner: requesterOf(allocation)}
}

// requesterOf returns the Prefix in the controller reference of an allocation. It is nil if there is no controller
// reference, or if that refers to another kind or API group.
func requesterOf(allocation *ipam.PrefixAllocation) *owner {
	ref := metav1.GetControllerOfNoCopy(allocation)
	if ref == nil || ref.Kind != ipam.PrefixKind {
		return nil
	}
	if gv, err := schema.ParseGroupVersion(ref.APIVersion); err != nil || gv.Group != ipam.GroupName {
		return nil
	}
	return &owner{Name: ref.Name, UID: ref.UID}
}

// is reports whether a Prefix in the namespace of the holder is the owner. A Prefix that was deleted and created
// again has another uid and is not.
func (o *owner) is(prefix *ipam.Prefix) bool {
	return o != nil && o.Name == prefix.Name && o.UID == prefix.UID
}

// same reports whether both owners are the same Prefix or both are nil.
func (o *owner) same(other *owner) bool {
	return o == other || o != nil && other != nil && *o == *other
}

func (c claim) encode() (string, error) {
	data, err := json.Marshal(c)
	return string(data), err
}

func decodeClaim(data []byte) (claim, error) {
	var c claim
	if err := json.Unmarshal(data, &c); err != nil {
		return claim{}, fmt.Errorf("value of a claim: %w", err)
	}
	return c, nil
}

// find returns the holder with a uid, or nil if there is none.
func (c claim) find(uid types.UID) *holder {
	for i := range c.Holders {
		if c.Holders[i].UID == uid {
			return &c.Holders[i]
		}
	}
	return nil
}

// isOf reports whether the claim was made for a child.
func (c claim) isOf(child *ipam.Prefix) bool {
	return slices.ContainsFunc(c.Holders, func(h holder) bool {
		return h.Namespace == child.Namespace && h.Owner.is(child)
	})
}

// without returns the claim without the holder that has this uid.
func (c claim) without(uid types.UID) claim {
	var rest claim
	for _, h := range c.Holders {
		if h.UID != uid {
			rest.Holders = append(rest.Holders, h)
		}
	}
	return rest
}

// allocated returns the prefix that an allocation holds, and the name of its parent. ok is false if the allocation
// is not Allocated or not valid.
func allocated(allocation *ipam.PrefixAllocation) (parent string, prefix netip.Prefix, ok bool) {
	if allocation.Status.Phase != ipam.PrefixAllocationPhaseAllocated || allocation.Spec.PrefixRef == nil {
		return "", netip.Prefix{}, false
	}
	prefix, err := cidr.ParseStored(allocation.Status.Prefix)
	return allocation.Spec.PrefixRef.Name, prefix, err == nil
}
