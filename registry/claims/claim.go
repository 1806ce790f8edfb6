// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Holder identifies the PrefixAllocation that holds a claim.
type Holder struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	// Child is the Prefix that the space was claimed for, the only one that may use it. It is nil if the space was
	// not claimed for a child. It is verified when the claim is made. No API request can change it later; Repair and
	// Adopt can set it if it is nil.
	Child *ChildRef `json:"owner,omitempty"`
	// KeptUntil is set if the child took the space back that an earlier Prefix of its name had. Nobody else may get it before
	// that time, also if the child gets other space instead.
	KeptUntil time.Time `json:"keptUntil,omitzero"`
}

// ChildRef identifies a child in the namespace of the holder. In etcd it is called the owner.
type ChildRef struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
}

// Claim is the value of a claim's key. Normally it has one holder. It has several if a server without claims
// allocated the same prefix more than once, until an operator resolves that. It has none if Repair has replaced a
// claim that could not be decoded.
type Claim struct {
	Holders []Holder `json:"holders"`
}

// HolderOf returns an allocation as the holder of a claim. The child is the Prefix in its controller reference.
// Anybody who may write the allocation can set that reference, so the caller must verify the child before it makes a
// claim.
func HolderOf(allocation *ipam.PrefixAllocation) Holder {
	return Holder{Namespace: allocation.Namespace, Name: allocation.Name, UID: allocation.UID, Child: childOf(allocation)}
}

// childOf returns the Prefix in the controller reference of an allocation. It is nil if there is no controller
// reference, or if that refers to another kind or API group.
func childOf(allocation *ipam.PrefixAllocation) *ChildRef {
	ref := metav1.GetControllerOfNoCopy(allocation)
	if ref == nil || ref.Kind != ipam.PrefixKind {
		return nil
	}
	if gv, err := schema.ParseGroupVersion(ref.APIVersion); err != nil || gv.Group != ipam.GroupName {
		return nil
	}
	return &ChildRef{Name: ref.Name, UID: ref.UID}
}

// is reports whether a Prefix in the namespace of the holder is the child. A Prefix that was deleted and created
// again has another uid and is not.
func (c *ChildRef) is(prefix *ipam.Prefix) bool {
	return c != nil && c.Name == prefix.Name && c.UID == prefix.UID
}

// same reports whether both references are to the same Prefix or both are nil.
func (c *ChildRef) same(other *ChildRef) bool {
	return c == other || c != nil && other != nil && *c == *other
}

// Encode returns the claim as it is stored in etcd.
func (c Claim) Encode() (string, error) {
	data, err := json.Marshal(c)
	return string(data), err
}

// DecodeClaim returns the claim that a value in etcd stands for. It fails if the value is no claim.
func DecodeClaim(data []byte) (Claim, error) {
	var c Claim
	if err := json.Unmarshal(data, &c); err != nil {
		return Claim{}, fmt.Errorf("value of a claim: %w", err)
	}
	return c, nil
}

// Find returns the holder with a uid, or nil if there is none.
func (c Claim) Find(uid types.UID) *Holder {
	for i := range c.Holders {
		if c.Holders[i].UID == uid {
			return &c.Holders[i]
		}
	}
	return nil
}

// isOf reports whether the claim was made for a child.
func (c Claim) isOf(child *ipam.Prefix) bool {
	return slices.ContainsFunc(c.Holders, func(h Holder) bool {
		return h.Namespace == child.Namespace && h.Child.is(child)
	})
}

// Without returns the claim without the holder that has this uid.
func (c Claim) Without(uid types.UID) Claim {
	var rest Claim
	for _, h := range c.Holders {
		if h.UID != uid {
			rest.Holders = append(rest.Holders, h)
		}
	}
	return rest
}

// Allocated returns the prefix that an allocation holds, and the name of its parent. ok is false if the allocation
// is not Allocated or not valid.
func Allocated(allocation *ipam.PrefixAllocation) (parent string, prefix netip.Prefix, ok bool) {
	if allocation.Status.Phase != ipam.PrefixAllocationPhaseAllocated || allocation.Spec.PrefixRef == nil {
		return "", netip.Prefix{}, false
	}
	prefix, err := cidr.ParseStored(allocation.Status.Prefix)
	return allocation.Spec.PrefixRef.Name, prefix, err == nil
}
