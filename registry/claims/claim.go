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

// holder is the PrefixAllocation that holds a claim.
type holder struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	// Owner is the child that the space was claimed for, the only one that may stand on it. It is nil if
	// the allocation stands for itself. It is verified when the claim is made, and never changes while the store is served.
	Owner *owner `json:"owner,omitempty"`
}

// owner is a Prefix, in the namespace of the holder.
type owner struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
}

// claim is the value of the key of a claim. It has one holder, unless the store was written by a
// server without claims: then several can hold the same prefix, until a human mends that.
type claim struct {
	Holders []holder `json:"holders"`
}

// holderOf returns an allocation as the holder of a claim, for the child that it refers to. Anybody who
// may write the allocation may write that reference, so it has to be verified before a claim is made.
func holderOf(allocation *ipam.PrefixAllocation) holder {
	return holder{Namespace: allocation.Namespace, Name: allocation.Name, UID: allocation.UID, Owner: requesterOf(allocation)}
}

// requesterOf returns the Prefix to which the controller reference of an allocation refers, or nil if
// the reference is missing or refers to a kind of another API group.
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

// is reports whether a Prefix, in the namespace of the holder, is the owner. It is not if the Prefix was
// deleted and created anew.
func (o *owner) is(prefix *ipam.Prefix) bool {
	return o != nil && o.Name == prefix.Name && o.UID == prefix.UID
}

// same reports whether two owners are the same Prefix, or both are nil.
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

// find returns the holder with a uid, or nil.
func (c claim) find(uid types.UID) *holder {
	for i := range c.Holders {
		if c.Holders[i].UID == uid {
			return &c.Holders[i]
		}
	}
	return nil
}

// isOf tells whether an allocation that was made for a Prefix holds it.
func (c claim) isOf(child *ipam.Prefix) bool {
	return slices.ContainsFunc(c.Holders, func(h holder) bool {
		return h.Namespace == child.Namespace && h.Owner.is(child)
	})
}

// without returns the claim with a holder less.
func (c claim) without(uid types.UID) claim {
	var rest claim
	for _, h := range c.Holders {
		if h.UID != uid {
			rest.Holders = append(rest.Holders, h)
		}
	}
	return rest
}

// allocated returns what an allocation holds, and of which parent.
func allocated(allocation *ipam.PrefixAllocation) (parent string, prefix netip.Prefix, ok bool) {
	if allocation.Status.Phase != ipam.PrefixAllocationPhaseAllocated || allocation.Spec.PrefixRef == nil {
		return "", netip.Prefix{}, false
	}
	prefix, err := cidr.ParseStored(allocation.Status.Prefix)
	return allocation.Spec.PrefixRef.Name, prefix, err == nil
}
