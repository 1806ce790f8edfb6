// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package holding

import (
	"context"
	"net/netip"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/requester"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// Kept is space that an allocation holds for a Prefix that is gone. A new Prefix of the same name may take it back.
type Kept struct {
	Allocation *v1alpha1.PrefixAllocation
	Parent     types.NamespacedName
	Prefix     netip.Prefix
}

// IsCooling reports whether the space cools down. If not, the first Prefix is gone, but its allocation was not deleted yet.
func (k *Kept) IsCooling() bool { return k.Allocation.Status.CoolingUntil != nil }

// GiveTo makes a Prefix the one for which the space is held, by its UID. Only a Prefix of the name that had the space may
// get it. A conflict means that the informer is behind.
func (k *Kept) GiveTo(ctx context.Context, client versioned.Interface, uid types.UID) error {
	taken := k.Allocation.DeepCopy()
	for i := range taken.OwnerReferences {
		if ref := &taken.OwnerReferences[i]; ref.Controller != nil && *ref.Controller {
			ref.UID = uid
		}
	}
	metav1.SetMetaDataLabel(&taken.ObjectMeta, v1alpha1.RequesterUIDLabel, string(uid))
	_, err := client.IpamV1alpha1().PrefixAllocations(taken.Namespace).Update(ctx, taken, metav1.UpdateOptions{})
	return err
}

// Last returns the space that was allocated last, or nil if there is none.
func Last(kept []Kept) *Kept {
	var last *Kept
	for i := range kept {
		if last == nil || last.Allocation.CreationTimestamp.Before(&kept[i].Allocation.CreationTimestamp) {
			last = &kept[i]
		}
	}
	return last
}

// KeptFor returns the space that was for an earlier Prefix with the name of a child, and that the child requests, if parents
// of a namespace have it. Whether the child asks for that parent, and whether its rules keep the space, the caller must
// check. The informer must have the index of package requester.
func KeptFor(indexer cache.Indexer, child types.NamespacedName, uid types.UID, request cidr.Request, parentNamespace string) []Kept {
	return slices.DeleteFunc(heldFor(indexer, child, request, parentNamespace), func(k Kept) bool { return requester.Of(k.Allocation).UID == uid })
}

// Has reports whether space is held for a child, and does not cool down, that the child requests. The arguments are those of
// KeptFor. parent is the name of the parent that the child asks for, or empty.
func Has(indexer cache.Indexer, child types.NamespacedName, uid types.UID, request cidr.Request, parentNamespace, parent string) bool {
	return slices.ContainsFunc(heldFor(indexer, child, request, parentNamespace), func(k Kept) bool {
		return requester.Of(k.Allocation).UID == uid && !k.IsCooling() && (parent == "" || parent == k.Parent.Name)
	})
}

// heldFor returns the space from parents of a namespace that is or was for a Prefix with the name of a child, and that the
// child requests.
func heldFor(indexer cache.Indexer, child types.NamespacedName, request cidr.Request, parentNamespace string) []Kept {
	var held []Kept
	for _, allocation := range requester.AllocationsFor(indexer, child) {
		if parent, prefix, holds := Of(allocation); holds && allocation.DeletionTimestamp == nil && parent.Namespace == parentNamespace && request.IsFor(prefix) {
			held = append(held, Kept{allocation, parent, prefix})
		}
	}
	return held
}
